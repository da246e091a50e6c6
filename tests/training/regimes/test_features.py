"""Collapse is measured, features of every layout become maps, and pictures keep the range of the originals."""

import numpy as np
import pytest
import torch
from torch import nn

from bias_lab.errors import UserError
from bias_lab.training.regimes import features


def test_the_standard_deviation_of_known_features() -> None:
    assert features.feature_std(torch.ones(5, 3)) == pytest.approx(0, abs=1e-3)  # one direction
    assert features.feature_std(torch.tensor([[1.0, 0], [5.0, 0]])) == pytest.approx(
        0, abs=1e-3
    )  # length does not matter
    assert features.feature_std(torch.tensor([[1.0, 0], [-1.0, 0]])) == pytest.approx(1)  # directions cancel
    assert features.feature_std(torch.eye(4)) == pytest.approx(
        (1 - 1 / 4) ** 0.5
    )  # of orthogonal vectors |mean|² is 1/4


def test_collapse_is_named() -> None:
    assert features.collapse_diagnostics(torch.tensor(0.002)) == {
        "feature_std": pytest.approx(0.002),
        "collapsed": True,
    }
    assert features.collapse_diagnostics(torch.tensor(0.3))["collapsed"] is False
    assert features.collapse_diagnostics(torch.tensor(float("nan"))) == {}  # before the first step


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_shows_every_row_in_the_range_of_the_originals(channels: int) -> None:
    images = torch.linspace(-1, 1, 2 * channels * 28 * 28).reshape(2, channels, 28, 28)
    picture = features.picture_grid([images, images * 100], like=images)
    assert picture.dtype == np.uint8
    assert picture.shape == (2 * (28 * 3 + 2), 2 * (28 * 3 + 2), 3)
    assert picture[1, 1].tolist() == [0, 0, 0]
    assert picture[0, 0].tolist() == [255, 255, 255]  # the line between tiles


class Model:
    """The part of a backbone that `feature_map` reads."""

    num_features = 7

    class patch_embed:  # noqa: N801  timm's name
        grid_size = (2, 3)


def test_a_map_is_made_of_tokens_without_the_class_token_and_of_either_layout() -> None:
    tokens = torch.arange(2 * 7 * 7.0).reshape(2, 7, 7)  # a class token and 2x3 patches of width 7
    result = features.feature_map(Model, tokens)
    assert result.shape == (2, 7, 2, 3)
    assert torch.equal(result[1, :, 1, 0], tokens[1, 1 + 3])
    first, last = torch.randn(2, 7, 4, 5), torch.randn(2, 4, 5, 7)
    assert torch.equal(features.feature_map(Model, first), first)
    assert torch.equal(features.feature_map(Model, last), last.permute(0, 3, 1, 2))


def test_a_missing_part_of_a_backbone_is_named() -> None:
    backbone = nn.Linear(1, 1)
    features.check_parts(backbone, "dino", ("weight",))
    with pytest.raises(
        UserError, match="Linear can't take the regime 'dino': it has no head_hidden_size; it needs timm's interface"
    ):
        features.check_parts(backbone, "dino", ("weight", "head_hidden_size"))

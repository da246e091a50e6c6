"""What the regimes share: exact masking ratios, positions, the measure of collapse, pictures."""

import numpy as np
import pytest
import torch
from torch import nn

from bias_lab.errors import UserError
from bias_lab.training.regimes import shared


@pytest.mark.parametrize(
    ("tokens", "ratio", "masked"),
    [
        (196, 0.75, 147),
        (49, 0.75, 37),
        (49, 0.6, 30),
        (10, 0.9, 9),
        (5, 0.6, 3),
        (64, 0.5, 32),
        (49, 0.0, 0),
        (4, 0.99, 3),
    ],
)
def test_a_ratio_masks_exactly_so_many(tokens: int, ratio: float, masked: int) -> None:
    assert shared.masked_count(tokens, ratio) == masked
    assert shared.random_mask(32, tokens, ratio).sum(1).tolist() == [masked] * 32


def test_each_image_has_a_mask_of_its_own_and_every_place_its_share() -> None:
    mask = shared.random_mask(4000, 16, 0.75, generator=torch.Generator().manual_seed(3))
    assert len({tuple(row) for row in mask.tolist()}) > 1000
    # 4000 draws of probability 0.75: a place's share lies within 5 standard deviations of it
    assert mask.mean(0).sub(0.75).abs().max() < 5 * (0.75 * 0.25 / 4000) ** 0.5


def test_a_mask_follows_the_generator_and_nothing_else() -> None:
    draws = [shared.random_mask(8, 49, 0.75, generator=torch.Generator().manual_seed(5)) for _ in range(2)]
    assert torch.equal(*draws)
    torch.manual_seed(9)
    state = torch.get_rng_state()
    shared.random_mask(8, 49, 0.75, generator=torch.Generator().manual_seed(5))
    assert torch.equal(state, torch.get_rng_state())


def test_sines_and_cosines_are_those_of_the_formula() -> None:
    rows, columns, width = 3, 5, 8
    found = shared.sine_cosine(rows, columns, width).numpy()
    for row in range(rows):
        for column in range(columns):
            expected = []
            for place in (row, column):
                angles = [place / 10_000 ** (k / 2) for k in range(2)]
                expected += [np.sin(a) for a in angles] + [np.cos(a) for a in angles]
            np.testing.assert_allclose(found[row * columns + column], expected, atol=1e-6)


def test_a_width_that_holds_no_two_directions_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        shared.sine_cosine(2, 2, 6)


def test_spread_of_known_features() -> None:
    assert shared.spread(torch.ones(5, 3)) == pytest.approx(0, abs=1e-3)  # one direction
    assert shared.spread(torch.tensor([[1.0, 0], [5.0, 0]])) == pytest.approx(0, abs=1e-3)  # length does not count
    assert shared.spread(torch.tensor([[1.0, 0], [-1.0, 0]])) == pytest.approx(1)  # directions cancel
    assert shared.spread(torch.eye(4)) == pytest.approx((1 - 1 / 4) ** 0.5)  # orthogonal: |mean|² is 1/4


def test_collapse_is_named() -> None:
    assert shared.feature_diagnostics(torch.tensor(0.002)) == {"feature_std": pytest.approx(0.002), "collapsed": True}
    assert shared.feature_diagnostics(torch.tensor(0.3))["collapsed"] is False
    assert shared.feature_diagnostics(torch.tensor(float("nan"))) == {}  # before the first step: nothing is known


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_shows_every_row_in_the_range_of_the_originals(channels: int) -> None:
    images = torch.linspace(-1, 1, 2 * channels * 28 * 28).reshape(2, channels, 28, 28)
    picture = shared.picture_grid([images, images * 100], like=images)
    assert picture.dtype == np.uint8
    assert picture.shape == (2 * (28 * 3 + 2), 2 * (28 * 3 + 2), 3)
    assert picture[1, 1].tolist() == [0, 0, 0]
    assert picture[0, 0].tolist() == [255, 255, 255]  # the line between tiles


class Model:
    """What `feature_map` asks a backbone for."""

    num_features = 7

    class patch_embed:  # noqa: N801  timm's name
        grid_size = (2, 3)


def test_a_map_is_made_of_tokens_without_the_class_token_and_of_either_layout() -> None:
    tokens = torch.arange(2 * 7 * 7.0).reshape(2, 7, 7)  # a class token and 2x3 patches of width 7
    found = shared.feature_map(Model, tokens)
    assert found.shape == (2, 7, 2, 3)
    assert torch.equal(found[1, :, 1, 0], tokens[1, 1 + 3])
    first, last = torch.randn(2, 7, 4, 5), torch.randn(2, 4, 5, 7)
    assert torch.equal(shared.feature_map(Model, first), first)
    assert torch.equal(shared.feature_map(Model, last), last.permute(0, 3, 1, 2))


def test_what_a_regime_needs_is_asked_for_by_name() -> None:
    backbone = nn.Linear(1, 1)
    shared.require(backbone, "dino", ("weight",))
    with pytest.raises(
        UserError, match="Linear can't take the regime 'dino': it has no head_hidden_size; timm's interface"
    ):
        shared.require(backbone, "dino", ("weight", "head_hidden_size"))

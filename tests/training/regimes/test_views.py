"""DINO's crops and its features of crops of any size: area, place, draws for each image, and attention."""

import math

import pytest
import torch
from torch import nn

from bias_lab.backbones import create
from bias_lab.training.regimes import views
from bias_lab.training.regimes.views import attention, features, local_size, view

SIDE = 16


def small(name: str = "vit_micro", side: int = SIDE) -> nn.Module:
    torch.manual_seed(0)
    return create(name, image_size=side, channels=1, classes=None)


def test_a_crop_of_the_whole_image_is_the_image_or_its_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randn(1, 3, 8, 8)
    for flip in (0.9, 0.1):
        draws = torch.full((8, 1), 0.5)
        draws[2], draws[5] = 1 - flip, 0.9  # no change of light
        monkeypatch.setattr(views.torch, "rand", lambda *size, draws=draws: draws if size == (8, 1) else torch.ones(1))
        result = view(images, 8, (1.0, 1.0))
        torch.testing.assert_close(result, images if flip > 0.5 else images.flip(3), atol=1e-5, rtol=1e-4)


def test_crops_have_their_share_of_the_area_and_stay_inside() -> None:
    torch.manual_seed(0)
    rows = torch.linspace(0, 1, 64)[:, None].expand(64, 64)
    places = torch.stack([rows, rows.T])[None].expand(500, -1, -1, -1)  # each pixel holds its place, (500, 2, 64, 64)
    torch.manual_seed(1)
    u = torch.rand(8, 500)
    torch.manual_seed(1)
    module = view(places, 32, (0.05, 0.4))
    still = module[u[5] >= 0.8]  # those without a change of light
    spans = still.amax((2, 3)) - still.amin((2, 3))  # (n, 2): height and width
    share = spans.prod(1)
    assert 0.03 < share.min() < share.max() < 0.42
    assert abs(share.mean() - 0.225) < 0.03
    assert still.min() >= 0
    assert still.max() <= 1


def test_each_image_of_a_batch_is_cropped_for_itself() -> None:
    torch.manual_seed(0)
    same = torch.randn(1, 3, SIDE, SIDE).expand(8, -1, -1, -1)
    seen = view(same, 8, (0.05, 0.4)).flatten(1)
    assert (torch.cdist(seen, seen) + torch.eye(8)).min() > 0.1


@pytest.mark.parametrize(
    ("name", "side", "local"),
    [("vit_micro", 28, 12), ("swin_micro", 28, 28), ("resnet_micro", 28, 14), ("vit_micro", 16, 8)],
)
def test_local_crops_are_half_the_image_where_the_backbone_can(name: str, side: int, local: int) -> None:
    backbone = small(name, side)
    assert local_size(backbone, side) == local
    module = features(backbone.eval(), torch.randn(2, 1, local, local))
    assert module.shape == (2, backbone.head_hidden_size)


def test_at_its_own_size_a_vit_is_itself() -> None:
    backbone = small().eval()
    images = torch.randn(2, 1, SIDE, SIDE)
    torch.testing.assert_close(features(backbone, images), backbone(images))


def test_attention_is_the_class_token_s() -> None:
    backbone = small().eval()
    images = torch.randn(2, 1, SIDE, SIDE)
    result = attention(backbone, images)
    assert result.shape == (2, 4, 4)
    taken = []
    block = backbone.blocks[-1]
    handle = block.norm1.register_forward_hook(lambda *called: taken.append(called[2]))
    backbone.forward_features(images)
    handle.remove()
    q, k, _ = block.attn.query_key_value(taken[0])
    rows = torch.einsum("bhqd,bhkd->bhqk", q, k) / math.sqrt(q.shape[-1])
    torch.testing.assert_close(result.flatten(1), rows.softmax(-1)[:, :, 0, 1:].mean(1))

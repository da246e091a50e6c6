"""SimMIM: the loss against a loop written from the paper, exact masks, and hiding in every backbone."""

import numpy as np
import pytest
import torch
from timm import create_model
from torch import nn

from bias_lab.backbones import create
from bias_lab.definition import Run
from bias_lab.errors import UserError
from bias_lab.training.regimes.simmim import SimMIM, mask_unit, simmim_loss

SIDE = 28


def small(name: str) -> nn.Module:
    torch.manual_seed(0)
    return create(name, image_size=SIDE, channels=1, classes=None)


def example() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    mask = np.zeros((2, 1, 4, 6))
    mask[0, 0, :2, 2:4] = mask[1, 0, 2:, :4] = 1
    return rng.normal(size=(2, 3, 4, 6)), rng.normal(size=(2, 3, 4, 6)), mask


def loss_by_hand(predicted: np.ndarray, images: np.ndarray, mask: np.ndarray) -> float:
    """Return the paper's loss, |prediction - pixel| over masked values divided by their number, by a loop."""
    errors = [
        abs(predicted[b, c, i, j] - images[b, c, i, j])
        for b, c, i, j in np.ndindex(*images.shape)
        if mask[b, 0, i, j] == 1
    ]
    return sum(errors) / len(errors)


def test_the_loss_is_the_paper_s() -> None:
    arrays = example()
    assert simmim_loss(*map(torch.from_numpy, arrays)).item() == pytest.approx(loss_by_hand(*arrays), abs=1e-6)


@pytest.mark.parametrize("error", ["squared", "all pixels", "channels forgotten"])
def test_the_oracle_catches_a_planted_error(error: str) -> None:
    predicted, images, mask = example()
    difference = np.abs(predicted - images)
    wrong = {
        "squared": (difference**2 * mask).sum() / (mask.sum() * 3),
        "all pixels": difference.mean(),
        "channels forgotten": (difference * mask).sum() / mask.sum(),
    }[error]
    assert abs(wrong - loss_by_hand(predicted, images, mask)) > 1e-3


def test_the_loss_is_zero_if_nothing_is_masked() -> None:
    assert simmim_loss(torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)) == 0


@pytest.mark.parametrize(
    ("size", "patch", "unit"), [(224, 16, 32), (224, 4, 32), (28, 4, 4), (28, 2, 4), (28, 1, 4), (32, 4, 8), (32, 1, 8)]
)
def test_the_square_is_the_paper_s_at_224_and_the_same_for_all_patches(size: int, patch: int, unit: int) -> None:
    assert mask_unit(size, patch) == unit


@pytest.mark.parametrize("name", ["vit_micro", "swin_micro", "resnet_micro"])
def test_masks_are_whole_squares_of_exactly_the_ratio(name: str) -> None:
    method = SimMIM(small(name), mask_ratio=0.6, unit=4)
    mask = method.mask(16, SIDE, SIDE)
    assert mask.shape == (16, 1, SIDE, SIDE)
    squares = mask.reshape(16, 7, 4, 7, 4)
    assert torch.equal(squares, squares[:, :, :1, :, :1].expand_as(squares))
    assert mask.sum((1, 2, 3)).tolist() == [30 * 16] * 16  # ceil(0.6 * 49) squares of 16 pixels
    assert len({tuple(m.flatten().tolist()) for m in mask}) > 8


def conv_stem_vit() -> nn.Module:
    """Return the README's backbone, whose patch embeddings overlap neighbouring patches."""
    model = small("vit_micro")
    model.patch_embed.proj = nn.Sequential(
        nn.Conv2d(1, 48, 3, stride=2, padding=1), nn.GELU(), nn.Conv2d(48, 96, 3, stride=2, padding=1)
    )
    return model


@pytest.mark.parametrize(
    "name", ["vit_micro", "conv_stem_vit", "swin_micro", "mobilevit_micro", "resnet_micro", "mobilenetv3_micro"]
)
def test_the_backbone_does_not_see_what_is_hidden_and_leaves_as_it_came(name: str) -> None:
    backbone = conv_stem_vit() if name == "conv_stem_vit" else small(name)
    method = SimMIM(backbone, unit=4).eval()
    images = torch.randn(2, 1, SIDE, SIDE)
    mask = method.mask(2, SIDE, SIDE)
    features = method.encode(images, mask)
    torch.testing.assert_close(features, method.encode(images + 50 * mask, mask))
    assert (features - method.encode(images + 1 - mask, mask)).abs().max() > 1e-3
    assert (features - method.encode(images, torch.zeros_like(mask))).abs().max() > 1e-4
    assert all(not module._forward_hooks for module in backbone.modules())
    assert method.decode(features, SIDE, SIDE).shape == (2, 1, SIDE, SIDE)


def test_the_map_of_swin_is_turned_and_a_vit_s_class_token_left_out() -> None:
    for name in ("vit_micro", "swin_micro"):
        method = SimMIM(small(name), unit=4).eval()
        images = torch.randn(1, 1, SIDE, SIDE)
        expected = method.encoder.forward_intermediates(images, indices=1, norm=True, intermediates_only=True)[-1]
        torch.testing.assert_close(method.encode(images, torch.zeros(1, 1, SIDE, SIDE)), expected)


def test_a_map_that_was_rounded_up_is_cut_not_stretched() -> None:
    backbone = small("resnet_micro")  # 28 px at stride 8 give a 4x4 map, so 32 px are reconstructed
    method = SimMIM(backbone).eval()
    features = torch.randn(1, method.reconstruct.in_channels, 4, 4)
    whole = nn.functional.pixel_shuffle(method.reconstruct(features), 8)
    assert torch.equal(method.decode(features, 28, 28), whole[:, :, :28, :28])


def test_the_mask_token_learns() -> None:
    for name in ("vit_micro", "resnet_micro"):
        method = SimMIM(small(name))
        method.training_step(torch.randn(4, 1, SIDE, SIDE), 0).backward()
        assert method.mask_token.grad.abs().sum() > 0


def test_from_run_and_pictures() -> None:
    run = Run(dataset="d", backbone="vit_micro", task="pretrain", regime="simmim", mask_ratio=0.5, learning_rate=4e-3)
    method = SimMIM.from_run(run, small("vit_micro")).eval()
    assert method.mask_ratio == 0.5
    assert method.configure_optimizers()["optimizer"].defaults["lr"] == 4e-3
    images = torch.randn(9, 1, SIDE, SIDE)
    state = torch.get_rng_state()
    pictures = method.pictures(images)
    assert torch.equal(state, torch.get_rng_state())
    assert pictures["reconstruction"].shape == (3 * 86, 8 * 86, 3)
    small("vit_micro").load_state_dict(method.encoder.state_dict(), strict=True)


@pytest.mark.parametrize("ratio", [-0.1, 1.0])
def test_a_ratio_outside_is_refused(ratio: float) -> None:
    with pytest.raises(UserError, match=r"outside \[0, 1\)"):
        SimMIM(small("vit_micro"), mask_ratio=ratio)


def test_squares_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match="squares of 6 px don't fill images of 28x28 px in patches of 4 px"):
        SimMIM(small("vit_micro"), unit=6).mask(1, SIDE, SIDE)


def test_timm_s_own_models_too() -> None:
    for backbone in (
        create_model(
            "swin_tiny_patch4_window7_224",
            img_size=32,
            window_size=4,
            embed_dim=16,
            depths=(1, 1),
            num_heads=(1, 2),
            num_classes=0,
        ),
        create_model("resnet10t", num_classes=0),
    ):
        method = SimMIM(backbone)
        method.training_step(torch.randn(2, 3, 32, 32), 0).backward()
        assert method.diagnostics()["collapsed"] is False

"""Test every operation against torchvision's, image by image."""

import numpy as np
import pytest
import torch
from torchvision.transforms import functional as F
from torchvision.transforms.functional import InterpolationMode

from bias_lab.data import operations as op


def photographs(channels: int, side: int = 24) -> torch.Tensor:
    """Return smooth pictures with noise, one flat and one with few levels: uint8 (8, side, side + 4, channels)."""
    generator = torch.Generator().manual_seed(0)
    rough = torch.rand(8, channels, 5, 5, generator=generator) * 255
    smooth = torch.nn.functional.interpolate(rough, size=(side, side + 4), mode="bicubic").clamp(0, 255)
    smooth += torch.randn(smooth.shape, generator=generator) * 6
    smooth[1] = 77
    smooth[2] = (smooth[2] / 64).round() * 60
    return smooth.clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def reference(image: torch.Tensor, kind: int, value: float) -> torch.Tensor:
    """Return torchvision's result for one (C, H, W) image, called as in its TrivialAugmentWide."""
    nearest = InterpolationMode.NEAREST
    still = dict(angle=0.0, translate=[0, 0], scale=1.0, shear=[0.0, 0.0], interpolation=nearest)
    degrees = float(np.degrees(np.arctan(value)))
    match kind:
        case op.SHEAR_X:
            return F.affine(image, **{**still, "shear": [degrees, 0.0]}, center=[0, 0])
        case op.SHEAR_Y:
            return F.affine(image, **{**still, "shear": [0.0, degrees]}, center=[0, 0])
        case op.TRANSLATE_X:
            return F.affine(image, **{**still, "translate": [int(value), 0]})
        case op.TRANSLATE_Y:
            return F.affine(image, **{**still, "translate": [0, int(value)]})
        case op.ROTATE:
            return F.rotate(image, value, interpolation=nearest)
        case op.BRIGHTNESS:
            return F.adjust_brightness(image, 1 + value)
        case op.COLOUR:
            return F.adjust_saturation(image, 1 + value)
        case op.CONTRAST:
            return F.adjust_contrast(image, 1 + value)
        case op.SHARPNESS:
            return F.adjust_sharpness(image, 1 + value)
        case op.POSTERIZE:
            return F.posterize(image, int(value))
        case op.SOLARIZE:
            return F.solarize(image, value)
        case op.AUTOCONTRAST:
            return F.autocontrast(image)
        case op.EQUALIZE:
            return F.equalize(image)
    return image


VALUES = {
    op.IDENTITY: [0.0],
    op.SHEAR_X: [0.33, -0.726],
    op.SHEAR_Y: [0.33, -0.726],
    op.TRANSLATE_X: [3.2, -7.0, 32.0],
    op.TRANSLATE_Y: [3.2, -7.0, 32.0],
    op.ROTATE: [31.5, -99.0, 135.0],
    op.BRIGHTNESS: [0.5, -0.5, 0.99],
    op.COLOUR: [0.5, -0.5, -0.99],
    op.CONTRAST: [0.5, -0.5, 0.99],
    op.SHARPNESS: [0.5, -0.5, 0.99],
    op.POSTERIZE: [8, 5, 2],
    op.SOLARIZE: [255.0, 127.5, 0.0],
    op.AUTOCONTRAST: [0.0],
    op.EQUALIZE: [0.0],
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, values in VALUES.items() for value in values])
def test_equals_torchvision(kind: int, value: float, channels: int) -> None:
    x = photographs(channels)
    ours = op.operate(x, np.full(len(x), kind), np.full(len(x), float(value)))
    theirs = torch.stack([reference(image.permute(2, 0, 1), kind, value) for image in x]).permute(0, 2, 3, 1)
    far = (ours.int() - theirs.int()).abs()
    if kind in (op.SHEAR_X, op.SHEAR_Y, op.ROTATE):
        assert (far > 0).float().mean() < 0.01  # a coordinate halfway between two pixels may be rounded either way
    elif kind in (op.BRIGHTNESS, op.COLOUR, op.CONTRAST, op.SHARPNESS, op.AUTOCONTRAST):
        assert far.max() <= 1  # a level may be truncated differently
        assert (far > 0).float().mean() < 0.005
    else:
        assert far.max() == 0


def test_every_image_has_its_own_operation() -> None:
    x = photographs(3)
    kinds = np.array(
        [op.EQUALIZE, op.ROTATE, op.IDENTITY, op.COLOUR, op.ROTATE, op.SHARPNESS, op.POSTERIZE, op.SHEAR_X]
    )
    values = np.array([0, 45.0, 0, 0.7, -20.0, 0.9, 3, 0.4])
    together = op.operate(x, kinds, values)
    alone = torch.cat([op.operate(x[i : i + 1], kinds[i : i + 1], values[i : i + 1]) for i in range(len(x))])
    assert torch.equal(together, alone)
    assert torch.equal(together[2], x[2])


def test_a_flat_image_survives_every_stretch() -> None:
    x = torch.full((2, 6, 6, 1), 77, dtype=torch.uint8)
    assert torch.equal(op.operate(x, np.array([op.AUTOCONTRAST, op.EQUALIZE]), np.zeros(2)), x)

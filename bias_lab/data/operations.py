"""Apply TrivialAugment's and RandAugment's fourteen operations to a batch: uint8 in, uint8 out.

Each image has its own operation. Images are (B, H, W, C) with one or three channels. A geometric operation is one
affine lookup (nearest pixel, black outside). An operation on a pixel's value alone is one lookup table an image.
Saturation and sharpness depend on channels or neighbours and are computed on their own. The results equal torchvision's
per image (`tests/data/test_operations.py` compares).
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

IDENTITY, SHEAR_X, SHEAR_Y, TRANSLATE_X, TRANSLATE_Y, ROTATE, BRIGHTNESS, COLOUR, CONTRAST, SHARPNESS, POSTERIZE = (
    range(11)
)
SOLARIZE, AUTOCONTRAST, EQUALIZE = range(11, 14)
COUNT = 14

Kinds = NDArray[np.int64]  # (B,) operation numbers
Values = NDArray[np.float64]  # (B,)

_GEOMETRY = (SHEAR_X, SHEAR_Y, TRANSLATE_X, TRANSLATE_Y, ROTATE)
_TABLES = (BRIGHTNESS, CONTRAST, POSTERIZE, SOLARIZE, AUTOCONTRAST, EQUALIZE)
_IS_GEOMETRY, _IS_TABLE = np.isin(range(COUNT), _GEOMETRY), np.isin(range(COUNT), _TABLES)  # by operation


def operate(x: Tensor, operation: Kinds, value: Values) -> Tensor:
    """Apply to each image (B, H, W, C) its operation (B,) with its value (B,).

    value: the tangent of a shear, the pixels of a translation, the degrees of a rotation, the factor less one of
    brightness, colour, contrast and sharpness, the bits that posterize keeps, the threshold of solarize. Other
    operations do not use it.
    """
    x = _only(x, _IS_GEOMETRY[operation], operation, value, _geometry)
    x = _only(x, _IS_TABLE[operation], operation, value, _tables)
    if x.shape[-1] == 3:
        x = _only(x, operation == COLOUR, operation, value, _colour)
    if min(x.shape[1:3]) > 2:
        x = _only(x, operation == SHARPNESS, operation, value, _sharpness)
    return x


def to_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """Return an array as a tensor on the device. For a GPU it is copied from pinned memory, without waiting."""
    tensor = torch.from_numpy(array)
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def _only(
    x: Tensor, here: NDArray[np.bool_], operation: Kinds, value: Values, do: Callable[[Tensor, Kinds, Values], Tensor]
) -> Tensor:
    """Apply a function to the images that `here` (B,) marks, and leave the others unchanged."""
    if not here.any():
        return x
    at = to_device(np.flatnonzero(here), x.device)
    return x.index_copy(0, at, do(x[at], operation[here], value[here]))


def _matrices(operation: Kinds, value: Values, H: int, W: int) -> Values:
    """Return the maps (B, 2, 3) from an output pixel (x, y, 1) to its source, counted from the image's centre."""
    m = np.tile(np.array([[1.0, 0, 0], [0, 1, 0]]), (len(value), 1, 1))
    at = {kind: operation == kind for kind in _GEOMETRY}
    m[at[SHEAR_X], 0, 1] = value[at[SHEAR_X]]
    m[at[SHEAR_X], 0, 2] = value[at[SHEAR_X]] * H / 2  # sheared about the upper left corner, as PIL does
    m[at[SHEAR_Y], 1, 0] = value[at[SHEAR_Y]]
    m[at[SHEAR_Y], 1, 2] = value[at[SHEAR_Y]] * W / 2
    m[at[TRANSLATE_X], 0, 2] = -np.trunc(value[at[TRANSLATE_X]])
    m[at[TRANSLATE_Y], 1, 2] = -np.trunc(value[at[TRANSLATE_Y]])
    angle = np.radians(value[at[ROTATE]])
    m[at[ROTATE], 0, 0] = m[at[ROTATE], 1, 1] = np.cos(angle)
    m[at[ROTATE], 0, 1], m[at[ROTATE], 1, 0] = -np.sin(angle), np.sin(angle)
    return m


@cache
def _centres(H: int, W: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the pixels (3, H*W) as (x, y, 1) from the image's centre, and the last pixel of each direction (2, 1)."""
    y, x = torch.meshgrid(torch.arange(H) - (H - 1) / 2, torch.arange(W) - (W - 1) / 2, indexing="ij")
    centres = torch.stack([x, y, torch.ones(H, W)]).reshape(3, H * W)
    return centres.to(device), torch.tensor([[W - 1.0], [H - 1.0]]).to(device)


def _geometry(x: Tensor, operation: Kinds, value: Values) -> Tensor:
    B, H, W, C = x.shape
    centres, last = _centres(H, W, x.device)
    m = to_device(_matrices(operation, value, H, W).astype(np.float32), x.device)  # (B, 2, 3)
    source = torch.baddbmm(last / 2, m, centres.expand(B, 3, H * W)).round_()  # (B, 2, H*W): x, y counted from 0
    kept = torch.minimum(source.clamp(min=0), last)
    inside = (kept == source).all(1)  # (B, H*W)
    place = (kept[:, 1] * W + kept[:, 0]).long()[:, :, None]
    moved = x.reshape(B, H * W, C).gather(1, place.expand(B, H * W, C)) * inside[:, :, None]
    return moved.reshape(B, H, W, C)


def _tables(x: Tensor, operation: Kinds, value: Values) -> Tensor:
    """Look each pixel up in its image's own table (B, C, 256)."""
    B, H, W, C = x.shape
    levels = torch.arange(256, device=x.device, dtype=torch.float32)
    table = levels.expand(B, C, 256).clone()
    at = {kind: np.flatnonzero(operation == kind) for kind in _TABLES}
    amount = to_device(value.astype(np.float32), x.device)[:, None, None]  # (B, 1, 1)
    if len(i := np.concatenate([at[BRIGHTNESS], at[CONTRAST]])):
        ground = torch.zeros(len(i), 1, 1, device=x.device)
        ground[len(at[BRIGHTNESS]) :, 0, 0] = grey(x[at[CONTRAST]]).float().mean((1, 2))
        table[i] = ((1 + amount[i]) * levels - amount[i] * ground).expand(-1, C, -1)
    if len(i := at[POSTERIZE]):
        step = to_device((2.0 ** (8 - value[i])).astype(np.float32), x.device)[:, None, None]
        table[i] = ((levels / step).floor() * step).expand(-1, C, -1)
    if len(i := at[SOLARIZE]):
        table[i] = torch.where(levels >= amount[i], 255 - levels, levels).expand(-1, C, -1)
    if len(i := at[AUTOCONTRAST]):
        table[i] = _stretch(x[i], levels)
    if len(i := at[EQUALIZE]):
        table[i] = _equalize(x[i], levels)
    table = table.clamp(0, 255).to(torch.uint8)  # towards zero, as torchvision does
    flat = x.reshape(B, H * W, C).transpose(1, 2).long()  # (B, C, H*W)
    return table.gather(2, flat).transpose(1, 2).reshape(B, H, W, C)


def _stretch(x: Tensor, levels: Tensor) -> Tensor:
    """Return tables (B, C, 256) that stretch each channel from its least and greatest value to 0 … 255."""
    flat = x.reshape(len(x), -1, x.shape[-1])
    low, high = flat.amin(1).float()[..., None], flat.amax(1).float()[..., None]  # (B, C, 1)
    return torch.where(high > low, (levels - low) * (255 / (high - low).clamp(min=1)), levels)


def _equalize(x: Tensor, levels: Tensor) -> Tensor:
    """Return tables (B, C, 256) that flatten each channel's histogram (PIL's rule, in integers)."""
    B, _, _, C = x.shape
    flat = x.permute(0, 3, 1, 2).reshape(B * C, -1).long()
    first = torch.arange(B * C, device=x.device)[:, None] * 256
    counts = torch.bincount((flat + first).reshape(-1), minlength=B * C * 256).reshape(B * C, 256)
    last = flat.amax(1, keepdim=True)  # the highest level that occurs, whose count is left out of the step
    step = (counts.sum(1, keepdim=True) - counts.gather(1, last)) // 255  # (B*C, 1)
    before = counts.cumsum(1) - counts
    flat_levels = ((before + step // 2) // step.clamp(min=1)).clamp(max=255).float()
    return torch.where(step > 0, flat_levels, levels).reshape(B, C, 256)


def grey(x: Tensor) -> Tensor:
    """Return the luma (B, H, W) of ITU-R 601-2, in whole levels. A single channel is returned as it is."""
    if x.shape[-1] == 1:
        return x[..., 0]
    weights = torch.tensor([0.2989, 0.587, 0.114], device=x.device)
    return (x.float() * weights).sum(-1).to(torch.uint8)


def _blend(x: Tensor, ground: Tensor, value: Values) -> Tensor:
    factor = 1 + to_device(value.astype(np.float32), x.device)[:, None, None, None]
    return (factor * x.float() + (1 - factor) * ground).clamp(0, 255).to(torch.uint8)


def _colour(x: Tensor, _: Kinds, value: Values) -> Tensor:
    return _blend(x, grey(x)[..., None].float(), value)


def _sharpness(x: Tensor, _: Kinds, value: Values) -> Tensor:
    """Blend with the mean of the 3 x 3 neighbourhood, in which the centre has weight five. The border stays."""
    whole = x.float()
    rows = whole[:, :-2] + whole[:, 1:-1] + whole[:, 2:]
    around = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]  # (B, H-2, W-2, C)
    ground = whole.clone()
    ground[:, 1:-1, 1:-1] = ((around + 4 * whole[:, 1:-1, 1:-1]) / 13).round()
    return _blend(x, ground, value)

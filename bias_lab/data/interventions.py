"""Images with something taken away: where pixels stand, which frequencies, which part is seen.

Applied last, to the normalised batch, when training and when testing alike: an intervention is a property of the data,
as if the dataset had been published so. After augmentation, because a fixed permutation then is one linear map of the
very images that an unpermuted run sees: a backbone that is indifferent to the map must score the same.

docs/interventions.png shows all; `python -m bias_lab.data.interventions docs/interventions.png` draws it.
"""

import sys
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from bias_lab import catalogue
from bias_lab.data import draws
from bias_lab.data.augment import At
from bias_lab.data.operations import to_device
from bias_lab.data.readers import named, procedural
from bias_lab.errors import UserError

EVALUATION = 2**62  # the step that draws for tests and hold-outs are keyed by: no training reaches it


def intervene(x: Tensor, intervention: str, at: At) -> Tensor:
    """Apply a run's intervention to normalised images (B, C, H, W); in and out channels_last. Empty: x itself.

    at: where the draws of each image stand; for evaluation (0, EVALUATION, its index), the same in every run.
    Raises UserError if patches do not divide the image.
    """
    if not intervention:
        return x
    name, value = catalogue.intervention(intervention)
    H, W = x.shape[2:]
    match name:
        case "permute_pixels":
            return _rearrange(x, permuted_pixels(H, W, int(value))[None])
        case "permute_patches":
            rows, columns = _grid(H, W, int(value), intervention)
            order = draws.permutation(rows * columns, 0, "permuted patches")
            return _rearrange(x, _patches_to_pixels(order[None], columns, int(value)))
        case "shuffle_patches":
            rows, columns = _grid(H, W, int(value), intervention)
            order = np.argsort(at.tries("shuffled patches", rows * columns), axis=1, kind="stable")
            return _rearrange(x, _patches_to_pixels(order, columns, int(value)))
        case "low_pass" | "high_pass":
            return _filter(x, value, high=name == "high_pass")
        case "occlude":
            return _occlude(x, value, at)
        case "shift":
            return _shift(x, int(value), at)
    raise AssertionError(f"the catalogue knows {name}, and this module does not")


@cache
def permuted_pixels(H: int, W: int, which: int) -> NDArray[np.int64]:
    """Where each pixel of a permuted image comes from: (H*W,), a function of the shape and of `which` alone."""
    return draws.permutation(H * W, which, "permuted pixels")


def _grid(H: int, W: int, patch: int, intervention: str) -> tuple[int, int]:
    if H % patch or W % patch:
        sides = [side for side in range(2, min(H, W)) if H % side == 0 and W % side == 0]
        raise UserError(
            f"{intervention}: patches of {patch} px do not divide a {H}x{W} image",
            f"sides that do: {', '.join(map(str, sides)) or 'none'}",
        )
    return H // patch, W // patch


def _patches_to_pixels(order: NDArray[np.int64], columns: int, patch: int) -> NDArray[np.int64]:
    """Patch orders (n, P) → pixel sources (n, H*W): patch p of the new image is patch order[p] of the old."""
    n, count = order.shape
    W = columns * patch
    inner = np.arange(patch)[:, None] * W + np.arange(patch)  # (p, p) from a patch's corner
    corner = order // columns * patch * W + order % columns * patch  # (n, P)
    source = corner.reshape(n, count // columns, columns, 1, 1) + inner  # (n, rows, columns, p, p)
    return source.transpose(0, 1, 3, 2, 4).reshape(n, -1)  # (n, H*W)


def _rearrange(x: Tensor, source: NDArray[np.int64]) -> Tensor:
    """Take each pixel from its source: x (B, C, H, W), source (1 or B, H*W)."""
    B, C, H, W = x.shape
    flat = x.permute(0, 2, 3, 1).reshape(B, H * W, C)
    at = to_device(source, x.device)
    moved = flat[:, at[0]] if len(at) == 1 else flat.gather(1, at[:, :, None].expand(B, H * W, C))
    return moved.reshape(B, H, W, C).permute(0, 3, 1, 2)


def _filter(x: Tensor, cutoff: float, *, high: bool) -> Tensor:
    """Keep the frequencies up to `cutoff` (or above it) of the Nyquist frequency, by distance from zero."""
    H, W = x.shape[2:]
    down = torch.fft.fftfreq(H, device=x.device)[:, None] * 2  # in units of the Nyquist frequency
    across = torch.fft.rfftfreq(W, device=x.device) * 2
    kept = (down**2 + across**2).sqrt() <= cutoff
    spectrum = torch.fft.rfft2(x) * (~kept if high else kept)
    left: Tensor = torch.fft.irfft2(spectrum, s=(H, W))
    return left.contiguous(memory_format=torch.channels_last)


def _occlude(x: Tensor, share: float, at: At) -> Tensor:
    """Hide one square of each image behind the mean colour."""
    H, W = x.shape[2:]
    side = round(float(np.sqrt(share * H * W)))
    h, w = min(side, H), min(side, W)
    top, left = at.integers(H - h + 1, "occluded row"), at.integers(W - w + 1, "occluded column")
    rows, columns = np.arange(H), np.arange(W)
    hidden_rows = (rows >= top[:, None]) & (rows < top[:, None] + h)
    hidden_columns = (columns >= left[:, None]) & (columns < left[:, None] + w)
    hidden = to_device(hidden_rows[:, None, :, None] & hidden_columns[:, None, None, :], x.device)
    return x.masked_fill(hidden, 0.0)


def _shift(x: Tensor, most: int, at: At) -> Tensor:
    """Move each image by up to `most` pixels down and across; the mean colour follows."""
    B, _, H, W = x.shape
    down, across = at.integers(2 * most + 1, "shift down") - most, at.integers(2 * most + 1, "shift across") - most
    row, column = np.arange(H) - down[:, None], np.arange(W) - across[:, None]  # (B, H), (B, W)
    source = np.clip(row, 0, H - 1)[:, :, None] * W + np.clip(column, 0, W - 1)[:, None, :]
    moved = _rearrange(x, source.reshape(B, H * W))
    inside = ((row >= 0) & (row < H))[:, None, :, None] & ((column >= 0) & (column < W))[:, None, None, :]
    return moved * to_device(inside, x.device)


def sheet(count: int = 10) -> Image.Image:
    """A picture of all interventions at their usual strength, on a test image of each class."""
    images = named.embedded("fashion_mnist_12k")
    chosen = [int(np.flatnonzero(images.test_labels == k)[0]) for k in range(count)]
    mean, std = images.mean[0], images.std[0]
    x = torch.from_numpy(images.test[chosen].copy()).permute(0, 3, 1, 2) / 255  # (n, 1, 28, 28)
    rows = {"as it is": "", **{f"{name}:{value:g}": name for name, value in catalogue.INTERVENTIONS.items()}}
    drawn = []
    for name in rows.values():
        made = intervene((x - mean) / std, name, At(0, EVALUATION, np.arange(count))) * std + mean
        levels = (made * 255).round().clamp(0, 255).to(torch.uint8)
        drawn.append(levels.permute(0, 2, 3, 1).numpy())
    return procedural.table(list(rows), [images.classes[k] for k in range(count)], drawn, scale=3)


if __name__ == "__main__":
    sheet().save(Path(sys.argv[1]), optimize=True)

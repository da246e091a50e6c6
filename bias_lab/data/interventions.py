"""Remove information from images: the places of pixels, some frequencies, or a part of the area.

An intervention is applied last, to the normalised batch, both in training and in evaluation. It is a property of the
data, as if the dataset had been published so. It comes after augmentation because a fixed permutation is then one
linear map of the images that a run without it sees. A backbone to which that map makes no difference must score the
same.

docs/interventions.png shows all of them. `python -m bias_lab.data.interventions docs/interventions.png` draws it.
"""

import pkgutil
import sys
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from bias_lab import catalogue
from bias_lab.data import draws
from bias_lab.data.augment import At, inside
from bias_lab.data.operations import to_device
from bias_lab.data.readers import named, procedural

EVALUATION = 2**62  # keys the draws for test and hold-out images by a step that no training reaches


class Intervention(Protocol):
    """Change normalised images: x (B, C, H, W) in, the same shape out, both channels_last.

    value: what the run gives after the colon, or the default of the catalogue's row. at: keys the draws of each image.
    """

    def __call__(self, x: Tensor, value: float, at: At, /) -> Tensor: ...


def intervene(x: Tensor, intervention: str, at: At) -> Tensor:
    """Return normalised images (B, C, H, W) with a run's intervention applied. An empty one returns x itself.

    at: keys the draws of each image. In evaluation it is (0, EVALUATION, the image's index), the same in every run.
    Raises UserError for an unknown name or value, or if patches do not divide the image.
    """
    if not intervention:
        return x
    name, value = catalogue.intervention(intervention)
    for side in {*x.shape[2:]}:
        catalogue.check_intervention(intervention, side)
    return _function(name)(x, value, at)


@cache
def _function(name: str) -> Intervention:
    function: Intervention = pkgutil.resolve_name(catalogue.INTERVENTIONS[name].module)
    return function


# --- permutations ----------------------------------------------------------------------------------------------------


def permute_pixels(x: Tensor, value: float, _at: At) -> Tensor:
    """Permute the pixels of all images alike. value: the number of the permutation."""
    H, W = x.shape[2:]
    return _rearrange(x, draws.permuted_pixels(H, W, int(value))[None])


def permute_patches(x: Tensor, value: float, _at: At) -> Tensor:
    """Permute the patches of all images alike. value: the side of a patch in pixels."""
    H, W = x.shape[2:]
    return _rearrange(x, draws.permuted_patches(H, W, int(value))[None])


def shuffle_patches(x: Tensor, value: float, at: At) -> Tensor:
    """Permute the patches of each image in its own way. value: the side of a patch in pixels."""
    patch, (H, W) = int(value), x.shape[2:]
    order = np.argsort(at.tries("shuffled patches", (H // patch) * (W // patch)), axis=1, kind="stable")
    return _rearrange(x, draws.patches_to_pixels(order, W // patch, patch))


def _rearrange(x: Tensor, source: NDArray[np.int64]) -> Tensor:
    """Take each pixel from its source: x (B, C, H, W), source (1 or B, H*W)."""
    B, C, H, W = x.shape
    flat = x.permute(0, 2, 3, 1).reshape(B, H * W, C)
    index = to_device(source, x.device)
    moved = flat[:, index[0]] if len(index) == 1 else flat.gather(1, index[:, :, None].expand(B, H * W, C))
    return moved.reshape(B, H, W, C).permute(0, 3, 1, 2)


# --- frequencies -----------------------------------------------------------------------------------------------------


def low_pass(x: Tensor, value: float, _at: At) -> Tensor:
    """Keep the frequencies up to `value` of the Nyquist frequency."""
    return _filter(x, value, high=False)


def high_pass(x: Tensor, value: float, _at: At) -> Tensor:
    """Keep the frequencies above `value` of the Nyquist frequency."""
    return _filter(x, value, high=True)


def _filter(x: Tensor, cutoff: float, *, high: bool) -> Tensor:
    """Keep the frequencies up to the cutoff, or those above it, by their distance from zero."""
    H, W = x.shape[2:]
    down = torch.fft.fftfreq(H, device=x.device)[:, None] * 2  # in units of the Nyquist frequency
    across = torch.fft.rfftfreq(W, device=x.device) * 2
    low = (down**2 + across**2).sqrt() <= cutoff
    spectrum = torch.fft.rfft2(x) * (~low if high else low)
    filtered: Tensor = torch.fft.irfft2(spectrum, s=(H, W))
    return filtered.contiguous(memory_format=torch.channels_last)


# --- parts -----------------------------------------------------------------------------------------------------------


def occlude(x: Tensor, value: float, at: At) -> Tensor:
    """Hide one square of each image behind the mean colour. value: its share of the area."""
    H, W = x.shape[2:]
    side = round(float(np.sqrt(value * H * W)))
    h, w = min(side, H), min(side, W)
    top, left = at.integers(H - h + 1, "occluded row"), at.integers(W - w + 1, "occluded column")
    return x.masked_fill(inside(top, left, np.full_like(top, h), np.full_like(left, w), x), 0.0)


def shift(x: Tensor, value: float, at: At) -> Tensor:
    """Move each image by up to `value` pixels down and across, and fill the rest with the mean colour."""
    B, _, H, W = x.shape
    most = int(value)
    down, across = at.integers(2 * most + 1, "shift down") - most, at.integers(2 * most + 1, "shift across") - most
    row, column = np.arange(H) - down[:, None], np.arange(W) - across[:, None]  # (B, H), (B, W)
    source = np.clip(row, 0, H - 1)[:, :, None] * W + np.clip(column, 0, W - 1)[:, None, :]
    full = np.full_like(down, H), np.full_like(across, W)
    return _rearrange(x, source.reshape(B, H * W)) * inside(down, across, *full, x)


# --- the picture in the docs -----------------------------------------------------------------------------------------


def sheet(count: int = 10) -> Image.Image:
    """Return a picture of all interventions at their default value, on one test image of each class."""
    images = named.embedded("fashion_mnist_12k")
    chosen = [int(np.flatnonzero(images.test_labels == k)[0]) for k in range(count)]
    mean, std = images.mean[0], images.std[0]
    x = torch.from_numpy(images.test[chosen].copy()).permute(0, 3, 1, 2) / 255  # (n, 1, 28, 28)
    rows = {"as it is": "", **{f"{row.name}:{row.value:g}": row.name for row in catalogue.INTERVENTIONS.values()}}
    drawn = []
    for name in rows.values():
        changed = intervene((x - mean) / std, name, At(0, EVALUATION, np.arange(count))) * std + mean
        levels = (changed * 255).round().clamp(0, 255).to(torch.uint8)
        drawn.append(levels.permute(0, 2, 3, 1).numpy())
    return procedural.table(list(rows), [images.classes[k] for k in range(count)], drawn, scale=3)


if __name__ == "__main__":
    sheet().save(Path(sys.argv[1]), optimize=True)

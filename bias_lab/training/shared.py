"""What the pretraining regimes share, each a plain function: positions, masks, the measure of collapse, pictures."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Picture = NDArray[np.uint8]  # (H, W, 3)

COLLAPSED = 0.01  # a feature spread below this is one and the same answer to every image


def masked_count(tokens: int, ratio: float) -> int:
    """How many of `tokens` a ratio masks: rounded up, as MAE's and SimMIM's own code do; one stays visible.

    (MAE keeps floor(N(1-r)), SimMIM masks ceil(Nr): the same number. The 1e-9 takes off what 0.6 * 5 has too much.)
    """
    return min(math.ceil(tokens * ratio - 1e-9), tokens - 1)


def random_mask(batch: int, tokens: int, ratio: float, *, generator: torch.Generator | None = None) -> Tensor:
    """(B, N) on the CPU, 1 is masked: `masked_count` in every row, each row drawn for itself.

    generator: None draws from the global one, which a run reseeds from (seed, step) at each step.
    """
    order = torch.rand(batch, tokens, generator=generator).argsort(1)  # (B, N)
    return torch.zeros(batch, tokens).scatter_(1, order[:, : masked_count(tokens, ratio)], 1.0)


def sine_cosine(rows: int, columns: int, width: int) -> Tensor:
    """Fixed position embeddings, (rows*columns, width): half the channels tell the row, half the column.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5, in two dimensions as in MAE, arXiv:2111.06377.
    Raises ValueError if the width is not a multiple of 4.
    """
    if width % 4:
        raise ValueError(f"a width of {width} can't hold sines and cosines of two directions: take a multiple of 4")
    frequencies = 10_000 ** -(torch.arange(width // 4) / (width // 4))  # (W/4,)
    at = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).float()  # (N, 2)
    angles = at[:, :, None] * frequencies  # (N, 2, W/4)
    return torch.cat([angles.sin(), angles.cos()], dim=2).flatten(1)  # (N, W)


def spread(features: Tensor) -> Tensor:
    """How differently a batch's images are encoded: sqrt(1 - |mean unit feature|²), a scalar in [0, 1].

    features: (B, D). 0: every image has the same direction (collapse); 1: directions cancel out. It is the root of the
    total variance of the unit features, so it does not depend on D. After Chen and He 2021, arXiv:2011.10566, figure 2.
    """
    unit = torch.nn.functional.normalize(features.detach().float(), dim=1)  # (B, D)
    return (unit - unit.mean(0)).square().sum(1).mean().sqrt()


def feature_diagnostics(feature_std: Tensor) -> dict[str, float | bool]:
    """`feature_std` (see `spread`) and whether it says collapse; NaN before the first step, and then not collapsed."""
    value = float(feature_std)
    return {"feature_std": value, "collapsed": value < COLLAPSED} if math.isfinite(value) else {}


def pooled(features: Tensor) -> Tensor:
    """(B, D) from what a backbone's `forward_features` gives: (B, N, D) tokens, (B, C, H, W) maps, or (B, D)."""
    if features.ndim == 4:
        return features.mean((2, 3))
    return features.mean(1) if features.ndim == 3 else features


def picture_grid(rows: list[Tensor], like: Tensor, *, least: int = 64) -> Picture:
    """Rows of images as one picture: each row (B, C, H, W), their values scaled by the range of `like`, per channel.

    least: a tile smaller than this is enlarged by a whole factor, so that 28 px can be seen.
    """
    low, high = like.amin((0, 2, 3), keepdim=True), like.amax((0, 2, 3), keepdim=True)  # (1, C, 1, 1)
    lines = []
    for row in rows:
        tiles = ((row - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)  # (B, C, H, W)
        tiles = tiles.expand(-1, 3, -1, -1) if tiles.shape[1] == 1 else tiles[:, :3]
        factor = math.ceil(least / tiles.shape[-1])
        tiles = tiles.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
        tiles = torch.nn.functional.pad(tiles, (1, 1, 1, 1), value=1.0)  # a white line between tiles
        lines.append(torch.cat(list(tiles), dim=2))  # (3, H, B*W)
    pixels = (torch.cat(lines, dim=1) * 255).round().to(torch.uint8)  # (3, rows*H, B*W)
    return np.ascontiguousarray(pixels.permute(1, 2, 0).cpu().numpy())

"""What the pretraining regimes share, each a plain function: positions, masks, the measure of collapse, pictures."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bias_lab.errors import UserError

Picture = NDArray[np.uint8]  # (H, W, 3)

COLLAPSED = 0.01  # a feature spread below this is one and the same answer to every image


def require(backbone: object, regime: str, parts: tuple[str, ...], why: str = "") -> None:
    """Raises UserError if the backbone lacks what a regime needs of timm's interface, with the way out."""
    missing = [part for part in parts if getattr(backbone, part, None) is None]
    if missing:
        raise UserError(
            f"{type(backbone).__name__} can't take the regime '{regime}': it has no {', '.join(missing)}",
            why or "timm's interface, which the lab's and timm's own models have",
            "take vit_micro, or the regime simmim or dino" if why else "add it, or take a backbone that has it",
        )


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


def feature_map(backbone: Any, features: Tensor) -> Tensor:
    """(B, D, h, w) from what `forward_features` gives: tokens (B, N, D), maps (B, D, h, w), or Swin's (B, h, w, D)."""
    if features.ndim == 3:
        rows, columns = backbone.patch_embed.grid_size
        return features[:, -rows * columns :].transpose(1, 2).reshape(len(features), -1, rows, columns)
    channels_last = features.shape[1] != backbone.num_features or getattr(backbone, "output_fmt", "NCHW") == "NHWC"
    return features.permute(0, 3, 1, 2) if channels_last else features


def vit_tokens(vit: Any, x: Tensor, positions: Tensor) -> Tensor:
    """A plain ViT from its patches on: (B, V, D), positions added, to (B, prefix + V, D) after the last norm.

    positions: (1, prefix, D) or (1, 0, D), those of class and register tokens. A ViT that pools has its last norm in
    fc_norm, which is the caller's to apply.
    """
    tokens = [token for token in (getattr(vit, n, None) for n in ("cls_token", "reg_token")) if token is not None]
    if tokens:
        prefix = torch.cat(tokens, dim=1)  # (1, prefix, D)
        prefix = prefix + positions if positions.shape[1] else prefix
        x = torch.cat([prefix.expand(len(x), -1, -1), x], dim=1)  # (B, prefix + V, D)
    for name in ("norm_pre", "blocks", "norm"):
        x = getattr(vit, name)(x) if hasattr(vit, name) else x
    return x


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

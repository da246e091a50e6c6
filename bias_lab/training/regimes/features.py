"""Read the features of any backbone for a pretraining, and show its images."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bias_lab.errors import UserError
from bias_lab.training.job import Picture

COLLAPSED = 0.01  # a `feature_std` below this means that every image has the same features


def check_parts(backbone: object, regime: str, parts: tuple[str, ...], why: str = "") -> None:
    """Raise UserError if the backbone lacks a part of timm's interface that a regime needs."""
    missing = [part for part in parts if getattr(backbone, part, None) is None]
    if missing:
        raise UserError(
            f"{type(backbone).__name__} can't take the regime '{regime}': it has no {', '.join(missing)}",
            why or "it needs timm's interface, which the lab's and timm's own models have",
            "take vit_micro, or the regime simmim or dino" if why else "add it, or take a backbone that has it",
        )


def feature_std(features: Tensor) -> Tensor:
    """Return the standard deviation of a batch's unit features: sqrt(1 - |mean unit feature|²), a scalar in [0, 1].

    features: (B, D). It is 0 if all have the same direction (collapse) and 1 if directions cancel out. It is the root
    of the total variance, so it does not depend on D. After Chen and He 2021, arXiv:2011.10566, figure 2.
    """
    unit = torch.nn.functional.normalize(features.detach().float(), dim=1)  # (B, D)
    return (unit - unit.mean(0)).square().sum(1).mean().sqrt()


def collapse_diagnostics(std: Tensor) -> dict[str, float | bool]:
    """Return `feature_std` and whether features have collapsed. Return nothing for NaN, before the first step."""
    value = float(std)
    return {"feature_std": value, "collapsed": value < COLLAPSED} if math.isfinite(value) else {}


def feature_map(backbone: Any, features: Tensor) -> Tensor:
    """Return the map (B, D, h, w) of `forward_features`: tokens (B, N, D), maps, or Swin's maps (B, h, w, D)."""
    if features.ndim == 3:
        rows, columns = backbone.patch_embed.grid_size
        return features[:, -rows * columns :].transpose(1, 2).reshape(len(features), -1, rows, columns)
    channels_last = features.shape[1] != backbone.num_features or getattr(backbone, "output_fmt", "NCHW") == "NHWC"
    return features.permute(0, 3, 1, 2) if channels_last else features


def vit_tokens(vit: Any, x: Tensor, positions: Tensor) -> Tensor:
    """Apply a plain ViT to patch embeddings (B, V, D) with positions, and return (B, prefix + V, D) after the norm.

    positions: (1, prefix, D) of class and register tokens, or (1, 0, D). A ViT that pools has its last norm in fc_norm,
    which the caller applies.
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
    """Return rows of images (B, C, H, W) as one picture, with values scaled by the range of `like` per channel.

    least: tiles of fewer pixels are enlarged by a whole factor.
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

"""Resample tensors whose shape is not the model's, where that makes sense.

Three kinds are resampled: position embeddings (to another grid), patch embeddings and first convolutions (to another
patch size or number of channels), and Swin's relative positions (to another window).
"""

import math
import warnings
from typing import Any

from timm.layers.patch_embed import resample_patch_embed
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.layers.pos_embed_rel import resize_rel_pos_bias_table
from torch import Tensor, cat, nn


def resample(name: str, given: Tensor, wanted: Tensor, model: nn.Module) -> Tensor | None:
    """Return `given` itself if its shape is right, resampled if that makes sense, None otherwise."""
    if given.shape == wanted.shape:
        return given
    if given.ndim != wanted.ndim or not given.numel():
        return None
    last = name.rsplit(".", 1)[-1]
    if last == "pos_embed" and given.ndim == 3:
        return resample_positions(given.float(), wanted, model)
    if last == "relative_position_bias_table" and given.shape[1] == wanted.shape[1]:
        return resample_relative_positions(given.float(), wanted)
    if given.ndim == 4 and given.shape[0] == wanted.shape[0]:
        return resample_convolution(name, given.float(), wanted)
    return None


def resample_positions(given: Tensor, wanted: Tensor, model: Any) -> Tensor | None:
    """Return position embeddings (1, prefix + N, D) on the model's grid.

    Those of class and register tokens are kept. Return None if the source's grid is not square, or if it has no
    positions for these tokens.
    """
    embed = getattr(model, "patch_embed", None)
    if embed is None or given.shape[2] != wanted.shape[2]:
        return None
    rows, columns = embed.grid_size
    prefix = wanted.shape[1] - rows * columns
    old = [
        (n, side)
        for n in (prefix, 1, 0)
        if given.shape[1] > n
        for side in [math.isqrt(given.shape[1] - n)]
        if side**2 == given.shape[1] - n
    ]
    if not old or old[0][0] < prefix:
        return None
    n, side = old[0]
    patches = resample_abs_pos_embed(given[:, n:], [rows, columns], [side, side], num_prefix_tokens=0)  # (1, N, D)
    return cat([given[:, :prefix], patches], dim=1)


def resample_relative_positions(given: Tensor, wanted: Tensor) -> Tensor | None:
    """Return Swin's table ((2w-1)², heads) for another window, by timm. None if a window is not square."""
    old, new = math.isqrt(len(given)), math.isqrt(len(wanted))
    if old**2 != len(given) or new**2 != len(wanted):
        return None
    window = ((new + 1) // 2, (new + 1) // 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # on timm's use of a tensor that is not contiguous
        table: Tensor = resize_rel_pos_bias_table(given, window, tuple(wanted.shape))
    return table


def resample_convolution(name: str, given: Tensor, wanted: Tensor) -> Tensor | None:
    """Return a kernel (D, C, h, w) for other input channels or, in a patch embedding, another patch size.

    Three channels are summed into one, so that a grey image gives what its three equal channels gave. The patch is
    resampled by the pseudo-inverse of resizing (Beyer et al. 2023, arXiv:2212.08013).
    """
    channels = wanted.shape[1]
    if given.shape[1] != channels:
        if channels == 1 and given.shape[1] == 3:
            given = given.sum(1, keepdim=True)
        elif given.shape[1] == 1 and channels == 3:
            given = given.expand(-1, 3, -1, -1) / 3
        else:
            return None
    if given.shape[2:] != wanted.shape[2:]:
        if "patch_embed" not in name:
            return None
        given = resample_patch_embed(given, list(wanted.shape[2:]))
    return given

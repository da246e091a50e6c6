"""Swin's geometry: how a map is cut into windows, as functions, indices and masks (arXiv:2103.14030, section 3.2).

Indices and masks are computed on the CPU, once for a map size, and the model keeps them as buffers.
"""

import math
import warnings

import torch
from timm.layers.pos_embed_rel import resize_rel_pos_bias_table
from torch import Tensor, nn

from bias_lab.backbones.shared import Size, pair

Pair = tuple[int, int]


def window_and_shift(map_size: Pair, window: Pair, shifted: bool) -> tuple[Pair, Pair]:
    """Return the window and the shift that fit a map.

    A window never exceeds its map. A side that one window covers is not shifted.
    """
    sides = [min(side, w) for side, w in zip(map_size, window, strict=True)]
    shifts = [w // 2 if shifted and side > w else 0 for side, w in zip(map_size, window, strict=True)]
    return (sides[0], sides[1]), (shifts[0], shifts[1])


def window_partition(x: Tensor, window: Size) -> Tensor:
    """Cut a map into windows: (B, H, W, D) -> (B*G, rows, columns, D)."""
    B, H, W, D = x.shape
    rows, columns = pair(window)
    x = x.reshape(B, H // rows, rows, W // columns, columns, D)  # (B, H/rows, rows, W/columns, columns, D)
    x = x.permute(0, 1, 3, 2, 4, 5)  # (B, H/rows, W/columns, rows, columns, D)
    return x.reshape(-1, rows, columns, D)  # (B*G, rows, columns, D)


def window_reverse(windows: Tensor, window: Size, H: int, W: int) -> Tensor:
    """Put windows together to a map again: (B*G, rows, columns, D) -> (B, H, W, D)."""
    rows, columns = pair(window)
    x = windows.reshape(-1, H // rows, W // columns, rows, columns, windows.shape[-1])  # (B, H/r, W/c, r, c, D)
    x = x.permute(0, 1, 3, 2, 4, 5)  # (B, H/r, r, W/c, c, D)
    return x.reshape(-1, H, W, windows.shape[-1])  # (B, H, W, D)


def shift_mask(map_size: Pair, window: Pair, shift: Pair) -> Tensor | None:
    """Return the mask of shifted windows, (G, A, A): -100 between tokens that must not attend to each other, else 0.

    The cyclic shift brings the map's far edges together. Three slices in each direction, (0, -w), (-w, -s) and
    (-s, end), make nine regions. Tokens of one window attend to each other only within their region.
    """
    if not any(shift):
        return None
    H, W = (math.ceil(side / w) * w for side, w in zip(map_size, window, strict=True))
    region = torch.zeros(1, H, W, 1, device="cpu")  # (1, H, W, 1)
    count = 0
    for rows in (slice(0, -window[0]), slice(-window[0], -shift[0]), slice(-shift[0], None)):
        for columns in (slice(0, -window[1]), slice(-window[1], -shift[1]), slice(-shift[1], None)):
            region[:, rows, columns] = count
            count += 1
    region = window_partition(region, window).flatten(1)  # (G, A)
    apart = region.unsqueeze(1) != region.unsqueeze(2)  # (G, A, A)
    return torch.zeros(apart.shape, device="cpu").masked_fill(apart, -100.0)


def relative_position_index(window: Pair) -> Tensor:
    """Return the bias table's row for each pair of a window's tokens: (A, A), by row offset, then column offset."""
    rows, columns = window
    at = torch.cartesian_prod(torch.arange(rows, device="cpu"), torch.arange(columns, device="cpu"))  # (A, 2)
    apart = at[:, None] - at[None, :]  # (A, A, 2)
    return (apart[..., 0] + rows - 1) * (2 * columns - 1) + apart[..., 1] + columns - 1  # (A, A)


def resample_table(table: Tensor, old: Pair, new: Pair) -> Tensor:
    """Return a bias table for another window by timm's interpolation: (offsets, h) -> (new offsets, h)."""
    shape = ((2 * new[0] - 1) * (2 * new[1] - 1), table.shape[1])
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch's, about the way in which timm indexes
        resized: Tensor = resize_rel_pos_bias_table(table, new, shape, old)  # (new offsets, h)
    return resized


def keep(module: nn.Module, name: str, value: Tensor | None) -> None:
    """Keep what follows from the map's size as a buffer, on the device and in the precision of the parameters."""
    like = next(module.parameters())
    if value is not None and not like.is_meta:
        value = value.to(like.device, like.dtype if value.is_floating_point() else value.dtype)
    module.register_buffer(name, value, persistent=False)

"""Where tokens lie when a map is cut into windows: Swin's geometry, as indices and masks (arXiv:2103.14030, 3.2).

Everything is computed once a map size, on the CPU, and kept by the model as buffers.
"""

import math
import warnings

import torch
import torch.nn.functional as F
from timm.layers.pos_embed_rel import resize_rel_pos_bias_table
from torch import Tensor

from bias_lab.backbones.shared import Size, pair

Pair = tuple[int, int]


def window_and_shift(map_size: Pair, window: Pair, shifted: bool) -> tuple[Pair, Pair]:
    """A window never exceeds its map, and where one window is the whole side there is nothing to shift."""
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
    """Put windows together again: (B*G, rows, columns, D) -> (B, H, W, D)."""
    rows, columns = pair(window)
    x = windows.reshape(-1, H // rows, W // columns, rows, columns, windows.shape[-1])  # (B, H/r, W/c, r, c, D)
    x = x.permute(0, 1, 3, 2, 4, 5)  # (B, H/r, r, W/c, c, D)
    return x.reshape(-1, H, W, windows.shape[-1])  # (B, H, W, D)


def shift_mask(map_size: Pair, window: Pair, shift: Pair) -> Tensor | None:
    """What a shifted window may not mix: (G, A, A), -100 between tokens that were not neighbours, else 0.

    The roll brings the map's far edges together. Three slices a direction, (0, -w), (-w, -s), (-s, end), make nine
    regions; tokens of different regions share a window, but must not attend to one another.
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


def window_order(map_size: Pair, window: Pair, shift: Pair) -> tuple[Tensor, Tensor]:
    """How the tokens of a shifted and padded map lie, window after window.

    Returns order (G*A,): for each slot the token's place in the map, row by row, or -1 for padding; and its inverse,
    slots (H*W,): for each place of the map the slot that holds its token.
    """
    H, W = map_size
    right, below = -W % window[1], -H % window[0]
    at = torch.arange(H * W, device="cpu").reshape(1, H, W, 1)  # (1, H, W, 1)
    at = F.pad(at.roll((-shift[0], -shift[1]), (1, 2)), (0, 0, 0, right, 0, below), value=-1)  # (1, H', W', 1)
    order = window_partition(at, window).flatten()  # (G*A,)
    slots = torch.arange(len(order), device="cpu").reshape(-1, *window, 1)  # (G, rows, columns, 1)
    slots = window_reverse(slots, window, H + below, W + right)[:, :H, :W].roll(shift, (1, 2))  # (1, H, W, 1)
    return order, slots.flatten()


def relative_position_index(window: Pair) -> Tensor:
    """For each pair of a window's tokens, the row of the bias table: (A, A), by rows apart, then columns apart."""
    rows, columns = window
    at = torch.cartesian_prod(torch.arange(rows, device="cpu"), torch.arange(columns, device="cpu"))  # (A, 2)
    apart = at[:, None] - at[None, :]  # (A, A, 2)
    return (apart[..., 0] + rows - 1) * (2 * columns - 1) + apart[..., 1] + columns - 1  # (A, A)


def resample_table(table: Tensor, old: Pair, new: Pair) -> Tensor:
    """A bias table for another window: (offsets, h) -> (new offsets, h), interpolated as timm does."""
    shape = ((2 * new[0] - 1) * (2 * new[1] - 1), table.shape[1])
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # timm's indexing is old-fashioned, its result pinned by a test
        resampled: Tensor = resize_rel_pos_bias_table(
            table, new_window_size=new, new_bias_shape=shape, old_window_size=old
        )  # (new offsets, h)
    return resampled

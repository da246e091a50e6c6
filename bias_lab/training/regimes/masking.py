"""Draw masks for masked image modelling, and make the position embeddings of masked patches."""

import math

import torch
from torch import Tensor


def masked_count(tokens: int, ratio: float) -> int:
    """Return how many of `tokens` a ratio masks, rounded up. At least one stays visible.

    MAE's code keeps floor(N(1-r)) and SimMIM's masks ceil(Nr), the same number. The 1e-9 corrects products like
    25 * 0.28, which is above 7 in floating point.
    """
    return min(math.ceil(tokens * ratio - 1e-9), tokens - 1)


def random_mask(batch: int, tokens: int, ratio: float, *, generator: torch.Generator | None = None) -> Tensor:
    """Draw a mask (B, N) on the CPU, where 1 is masked, with `masked_count` in every row and rows independent.

    generator: None is the global one, which a run reseeds from (seed, step) at each step.
    """
    order = torch.rand(batch, tokens, generator=generator).argsort(1)  # (B, N)
    return torch.zeros(batch, tokens).scatter_(1, order[:, : masked_count(tokens, ratio)], 1.0)


def sine_cosine(rows: int, columns: int, width: int) -> Tensor:
    """Return fixed position embeddings (rows*columns, width), half the channels for the row and half for the column.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5, in two dimensions as in MAE, arXiv:2111.06377.
    Raise ValueError if the width is not a multiple of 4.
    """
    if width % 4:
        raise ValueError(f"a width of {width} can't hold sines and cosines of two directions: take a multiple of 4")
    frequencies = 10_000 ** -(torch.arange(width // 4) / (width // 4))  # (W/4,)
    at = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).float()  # (N, 2)
    angles = at[:, :, None] * frequencies  # (N, 2, W/4)
    return torch.cat([angles.sin(), angles.cos()], dim=2).flatten(1)  # (N, W)

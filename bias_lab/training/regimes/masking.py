"""Draw masks for masked image modelling."""

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

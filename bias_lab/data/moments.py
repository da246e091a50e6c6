"""Compute the mean and the standard deviation of a dataset's channels, from exact sums."""

import numpy as np
from numpy.typing import NDArray

MOST = 256  # images at a time: so many squares of 255 are below 2^24, up to which single precision is exact
BYTES = 2**20  # at a time, so that they stay in the processor's cache


def sums(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return (2, C): the sum of each channel's levels over (M, H, W, C), and the sum of their squares."""
    M, C = len(images), images.shape[-1]
    total = np.zeros((2, C))
    together = max(1, min(MOST, BYTES // max(1, int(np.prod(images.shape[1:])))))
    for start in range(0, M, together):
        part = images[start : start + together]
        levels = part.reshape(len(part), -1).astype(np.float32)  # (m, H*W*C), long vectors
        total[0] += levels.sum(0).reshape(-1, C).sum(0, dtype=np.float64)
        total[1] += np.einsum("mi,mi->i", levels, levels).reshape(-1, C).sum(0, dtype=np.float64)
    return total


def of_sums(total: NDArray[np.float64], pixels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and the standard deviation of each channel, in [0, 1], from the `sums` over that many pixels."""
    mean = total[0] / pixels
    std = np.sqrt(np.maximum(total[1] / pixels - mean**2, 0))
    return tuple((mean / 255).round(6).tolist()), tuple((std / 255).round(6).tolist())


def moments(images: NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and the standard deviation of each channel over (M, H, W, C), in [0, 1]."""
    return of_sums(sums(images), int(np.prod(images.shape[:3])))

"""Draw random values without a generator. A value is a hash of (seed, purpose, counters) and of no earlier draw.

The hash is SplitMix64's finaliser (Steele, Lea, Flood 2014, doi:10.1145/2660193.2660195), chained over the counters in
numpy's wrapping 64-bit integers. It gives the same bits on every platform and with every library version.
"""

import hashlib
from functools import cache

import numpy as np
from numpy.typing import NDArray

_GAMMA, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_WRAP = 2**64 - 1


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(_FIRST)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(_SECOND)
    return z ^ (z >> np.uint64(31))


def _mix_one(z: int) -> int:
    """Return `_mix` of a single number in Python's integers, which is ten times as fast as an array of one."""
    z = ((z ^ (z >> 30)) * _FIRST) & _WRAP
    z = ((z ^ (z >> 27)) * _SECOND) & _WRAP
    return z ^ (z >> 31)


@cache
def _start(seed: int, purpose: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed} {purpose}".encode(), digest_size=8).digest(), "little")


def bits(seed: int, purpose: str, *counters: int | NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return 64 random bits for each combination of the counters (step, sample, …), which broadcast like arrays."""
    one = _start(seed, purpose)
    state: NDArray[np.uint64] | None = None
    for counter in counters:
        if state is None and isinstance(counter, int):
            one = _mix_one(one ^ ((counter + 1) * _GAMMA & _WRAP))
            continue
        at = (np.atleast_1d(counter).astype(np.uint64) + np.uint64(1)) * np.uint64(_GAMMA)
        state = _mix(at ^ np.uint64(one) if state is None else state ^ at)
    return np.array([one], np.uint64) if state is None else state


def uniform(seed: int, purpose: str, *counters: int | NDArray[np.int64]) -> NDArray[np.float64]:
    """Return draws from [0, 1), each a multiple of 2^-53."""
    return (bits(seed, purpose, *counters) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def integers(high: int, seed: int, purpose: str, *counters: int | NDArray[np.int64]) -> NDArray[np.int64]:
    """Return draws from 0 … high - 1. The bias of the modulus is below high / 2^64."""
    if high < 1:
        raise ValueError(f"no integers below {high}")
    return (bits(seed, purpose, *counters) % np.uint64(high)).astype(np.int64)


def permutation(n: int, seed: int, purpose: str, *counters: int) -> NDArray[np.int64]:
    """Return a permutation of 0 … n - 1, the order of n hashes. Ties (2^-64 a pair) go to the lower index."""
    return np.argsort(bits(seed, purpose, *counters, np.arange(n)), kind="stable")


@cache
def permuted_pixels(H: int, W: int, number: int) -> NDArray[np.int64]:
    """Return the source of each pixel of a permuted image, (H*W,). It depends on the shape and the number alone."""
    return permutation(H * W, number, "permuted pixels")


@cache
def permuted_patches(H: int, W: int, patch: int) -> NDArray[np.int64]:
    """Return the source of each pixel, (H*W,), of an image whose patches are permuted. patch: their side in pixels."""
    order = permutation((H // patch) * (W // patch), 0, "permuted patches")
    source: NDArray[np.int64] = patches_to_pixels(order[None], W // patch, patch)[0]
    return source


def patches_to_pixels(order: NDArray[np.int64], columns: int, patch: int) -> NDArray[np.int64]:
    """Turn orders of patches (n, P) into sources of pixels (n, H*W).

    Patch p of the new image is patch order[p] of the old one.
    """
    n, count = order.shape
    W = columns * patch
    inner = np.arange(patch)[:, None] * W + np.arange(patch)  # (p, p) from a patch's corner
    corner = order // columns * patch * W + order % columns * patch  # (n, P)
    source = corner.reshape(n, count // columns, columns, 1, 1) + inner  # (n, rows, columns, p, p)
    return source.transpose(0, 1, 3, 2, 4).reshape(n, -1)  # (n, H*W)

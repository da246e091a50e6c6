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

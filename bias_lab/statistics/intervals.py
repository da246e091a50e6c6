"""Intervals and corrections on plain arrays: Student's t, two noises at once, ratios, Holm, sign flips.

scipy.special holds every distribution that is needed, and imports in a tenth of scipy.stats' time.
"""

import functools
import itertools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri, stdtr, stdtrit

Vector = NDArray[np.float64]
LEVEL = 0.95
ALPHA = 0.05  # the largest adjusted p that is claimed


class Mean(NamedTuple):
    """A mean of k independent values: `low, high` by Student's t with k − 1 degrees of freedom; NaN for k = 1."""

    value: float
    low: float
    high: float
    sd: float
    k: int


def mean(values: Vector, level: float = LEVEL) -> Mean:
    """Mean and interval: m ± t(k−1) · s / √k, s with ddof 1."""
    k = len(values)
    if k == 0:
        return Mean(math.nan, math.nan, math.nan, math.nan, 0)
    m = float(np.mean(values))
    if k == 1:
        return Mean(m, math.nan, math.nan, math.nan, 1)
    s = float(np.std(values, ddof=1))
    half = float(stdtrit(k - 1, (1 + level) / 2)) * s / math.sqrt(k)
    return Mean(m, m - half, m + half, s, k)


def both_noises(of: Mean, test_se: float, level: float = LEVEL) -> float:
    """Half-width that holds the noise of replicates and that of test images: √((t·s/√k)² + (z·se)²).

    The two are independent and known to unequal precision, so their half-widths, not their variances, are added in
    quadrature (the method of variance estimates recovery, Zou & Donner 2008, Statistics in Medicine 27:1693): unlike a
    pooled t it can't be narrower than either part.
    """
    if of.k < 2 or math.isnan(test_se):
        return math.nan
    replicate = float(stdtrit(of.k - 1, (1 + level) / 2)) * of.sd / math.sqrt(of.k)
    return math.hypot(replicate, float(ndtri((1 + level) / 2)) * test_se)


def image_noise(difference: Vector) -> float:
    """Standard error of a mean difference that comes from which images are in the test set.

    difference: (k, T), replicate × test image, mean over the models compared of right (1) or wrong (0).
    Two-way random effects: the images' main effect, (MS_image − MS_rest) / (k·T), at least 0; the interaction with
    replicates is already in the spread of the replicates' means. Returns NaN for k < 2 or T < 2.
    """
    k, T = difference.shape
    if k < 2 or T < 2:
        return math.nan
    rows = difference.mean(axis=1, keepdims=True)
    columns = difference.mean(axis=0, keepdims=True)
    rest = difference - rows - columns + difference.mean()
    ms_image = k * float(np.var(columns, ddof=1))
    ms_rest = float(np.sum(rest**2)) / ((k - 1) * (T - 1))
    return math.sqrt(max(0.0, ms_image - ms_rest) / (k * T))


def p_value(of: Mean, test_se: float = math.nan, resolution: float = 0.0) -> float:
    """Two-sided p of 'the mean is 0': the level at which the interval would just touch 0.

    Without test_se it is the t-test's; with it, `both_noises` is inverted. resolution: the step in which values can
    differ (1 / test images): replicates that agree exactly are taken to spread by its rounding, not by nothing.
    """
    if of.k < 2:
        return math.nan
    se = max(of.sd, resolution / math.sqrt(6)) / math.sqrt(of.k)
    size = abs(of.value)
    extra = 0.0 if math.isnan(test_se) else test_se
    if size == 0:
        return 1.0
    if extra == 0:
        return 0.0 if se == 0 else float(2 * stdtr(of.k - 1, -size / se))
    if se == 0:
        return float(2 * ndtr(-size / extra))

    def excess(log_p: float) -> float:
        p = math.exp(log_p)
        return math.hypot(float(stdtrit(of.k - 1, p / 2)) * se, float(ndtri(p / 2)) * extra) - size

    smallest = math.log(1e-15)
    return 1e-15 if excess(smallest) < 0 else math.exp(float(brentq(excess, smallest, -1e-12, xtol=1e-9)))


def holm(p: Vector) -> Vector:
    """Holm's step-down adjustment (1979): claims of adjusted p ≤ α hold an error with probability ≤ α. NaN stay."""
    adjusted = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    running = 0.0
    for place, index in enumerate(order):
        running = max(running, (len(order) - place) * float(p[index]))
        adjusted[index] = min(1.0, running)
    return adjusted


def sign_flips(values: Vector, *, draws: int = 20_000) -> tuple[float, float]:
    """Paired permutation test of 'the mean is 0', flipping signs of pairs. Returns (p, smallest reachable p).

    Exact for up to 14 pairs (p is a count over 2^k); beyond, `draws` random flips from a fixed seed, the observed one
    counted (Phipson & Smyth 2010). The smallest p that k pairs can reach is 2 / 2^k: 0.25 for 3, 0.0625 for 5.
    """
    k = len(values)
    if k < 2:
        return math.nan, math.nan
    observed = abs(float(np.sum(values)))
    slack = 1e-12 * float(np.sum(np.abs(values)))  # sums in another order differ in the last bit
    if k <= 14:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=k - 1)))  # (2^(k-1), k-1): the rest are mirrors
        sums = np.abs(values[0] + signs @ values[1:])
        return float(np.mean(sums >= observed - slack)), 2.0 ** (1 - k)
    hits = int(np.sum(np.abs(2 * (_flips(draws, k) @ values) - np.sum(values)) >= observed - slack))
    return (hits + 1) / (draws + 1), max(2.0 ** (1 - k), 1 / (draws + 1))


@functools.lru_cache(maxsize=2)
def _flips(draws: int, k: int) -> Vector:
    """(draws, k), 1 where a pair keeps its sign and 0 where it is flipped; the same for every size of a table."""
    return np.random.default_rng(0).integers(0, 2, size=(draws, k), dtype=np.int8).astype(np.float64)


class Ratio(NamedTuple):
    """A ratio of means with Fieller's interval; `low, high` infinite where the denominator's sign is not settled."""

    value: float
    low: float
    high: float
    k: int


def ratio(numerator: Vector, denominator: Vector, level: float = LEVEL) -> Ratio:
    """mean(numerator) / mean(denominator), pairs in the same order; Fieller's interval (1954).

    It holds every r for which mean(numerator − r·denominator) is not significantly off 0, which has exact coverage for
    normal pairs. Where that set is not an interval (the denominator's own interval holds 0) both ends are infinite.
    """
    k = len(numerator)
    top, bottom = float(np.mean(numerator)) if k else math.nan, float(np.mean(denominator)) if k else math.nan
    value = top / bottom if bottom != 0 else math.nan
    if k < 2:
        return Ratio(value, math.nan, math.nan, k)
    q = float(stdtrit(k - 1, (1 + level) / 2)) ** 2 / k
    covariance = np.cov(np.stack([numerator, denominator]), ddof=1)
    a = bottom**2 - q * float(covariance[1, 1])
    b = top * bottom - q * float(covariance[0, 1])
    c = top**2 - q * float(covariance[0, 0])
    if a <= 0:
        return Ratio(value, -math.inf, math.inf, k)
    root = math.sqrt(max(0.0, b * b - a * c))
    return Ratio(value, (b - root) / a, (b + root) / a, k)


def zero_set(left: Vector, right: Vector, level: float = LEVEL) -> list[tuple[float, float]]:
    """Where, on the straight line from left (w = 0) to right (w = 1), the mean over replicates can't be told from 0.

    left, right: (k,), paired. Returns the intervals of w in [0, 1] with |mean| ≤ t·s/√k (the inverted t-test: it misses
    the true zero with probability 1 − level), found exactly as the roots of a quadratic.
    """
    k, step = len(left), right - left
    q = float(stdtrit(k - 1, (1 + level) / 2)) ** 2 / k
    covariance = np.cov(np.stack([left, step]), ddof=1)
    m0, m1 = float(np.mean(left)), float(np.mean(step))
    a = m1 * m1 - q * float(covariance[1, 1])
    b = 2 * (m0 * m1 - q * float(covariance[0, 1]))
    c = m0 * m0 - q * float(covariance[0, 0])
    roots = np.roots([a, b, c]) if a != 0 or b != 0 else np.array([])
    inside = sorted(float(r.real) for r in roots if abs(r.imag) < 1e-12 and 0 < r.real < 1)
    edges = [0.0, *inside, 1.0]
    pieces: list[tuple[float, float]] = []
    for low, high in itertools.pairwise(edges):
        middle = (low + high) / 2
        if a * middle * middle + b * middle + c <= 0:
            joined = pieces and pieces[-1][1] == low
            pieces[-1:] = [(pieces[-1][0], high)] if joined else [*pieces[-1:], (low, high)]
    touching = [(w, w) for w in (0.0, 1.0) if not pieces and a * w * w + b * w + c <= 0]
    return pieces or touching

"""Turn arrays into intervals and p values: Student's t, two noises at once, ratios, Holm, sign flips.

The distributions come from scipy.special, which imports in a tenth of the time of scipy.stats.
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
TIE = 1e-12  # a mean difference below this is rounding: accuracies are counts over test images


class Mean(NamedTuple):
    """A mean of k independent values: `low, high` by Student's t with k − 1 degrees of freedom, NaN for k = 1."""

    value: float
    low: float
    high: float
    sd: float
    k: int


def mean(values: Vector, level: float = LEVEL) -> Mean:
    """Return the mean and its interval: m ± t(k−1) · s / √k, s with ddof 1. values: (k,).

    >>> of = mean(np.array([0.1, 0.2, 0.3]))
    >>> round(of.value, 3), round(of.low, 3), round(of.high, 3)
    (0.2, -0.048, 0.448)
    """
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
    """Return the half-width of the interval with both noises, replicates' and test images': √((t·s/√k)² + (z·se)²).

    The two are independent and known to unequal precision, so their half-widths are added in quadrature instead of
    their variances (MOVER, Zou & Donner 2008, Statistics in Medicine 27:1693). Unlike a pooled t, the result can't be
    narrower than either part. It is cautious where both parts are of one size: it then covers 97.5 % with 3 values and
    96.8 % with 4, and 95 % where one part dominates. NaN for one value, or without a test_se.
    """
    if of.k < 2 or math.isnan(test_se):
        return math.nan
    replicate = float(stdtrit(of.k - 1, (1 + level) / 2)) * of.sd / math.sqrt(of.k)
    return math.hypot(replicate, float(ndtri((1 + level) / 2)) * test_se)


def image_noise(difference: Vector) -> float:
    """Return the standard error of a mean difference that comes from which images are in the test set.

    difference: (k, T), replicate × test image, mean over the models compared of right (1) or wrong (0). Two-way random
    effects: the square root of the images' main effect, (MS_image − MS_rest) / (k·T), at least 0. The interaction with
    replicates is already in the variance of the replicates' means. NaN for k < 2 or T < 2.
    """
    return math.sqrt(float(image_covariance(difference)[0, 0]))


def image_covariance(*differences: Vector) -> Vector:
    """Return the covariance of several mean differences, (m, m), that comes from which images are in the test set.

    differences: m arrays as in `image_noise`, whose variances are on the diagonal. What sampling makes negative is 0.
    """
    k, T = differences[0].shape
    if k < 2 or T < 2:
        return np.full((len(differences), len(differences)), math.nan)
    every = np.stack(differences)  # (m, k, T)
    columns = every.mean(axis=1, keepdims=True) - every.mean(axis=(1, 2), keepdims=True)
    rest = (every - every.mean(axis=2, keepdims=True) - columns).reshape(len(every), -1)
    main = columns[:, 0]
    images, noise = k * main @ main.T / (T - 1), rest @ rest.T / ((k - 1) * (T - 1))
    values, vectors = np.linalg.eigh((images - noise) / (k * T))
    covariance: Vector = vectors @ np.diag(np.maximum(values, 0.0)) @ vectors.T
    return covariance


def p_value(of: Mean, test_se: float = math.nan, resolution: float = 0.0) -> float:
    """Return the two-sided p of 'the mean is 0': the level at which the interval would just touch 0.

    Without test_se this is the t-test. With it, `both_noises` is inverted. resolution: the step in which values can
    differ (1 / test images), because replicates that agree exactly still differ by its rounding. NaN for one value.
    """
    if of.k < 2:
        return math.nan
    se = max(of.sd, resolution / math.sqrt(6)) / math.sqrt(of.k)
    size = abs(of.value)
    extra = 0.0 if math.isnan(test_se) else test_se
    if size <= TIE:
        return 1.0
    if extra == 0:
        return 0.0 if se == 0 else float(2 * stdtr(of.k - 1, -size / se))
    if se == 0:
        return float(2 * ndtr(-size / extra))

    def excess(log_p: float) -> float:
        p = math.exp(log_p)
        return math.hypot(float(stdtrit(of.k - 1, p / 2)) * se, float(ndtri(p / 2)) * extra) - size

    smallest, largest = math.log(1e-15), -1e-12
    if excess(largest) >= 0:
        return 1.0
    return 1e-15 if excess(smallest) < 0 else math.exp(float(brentq(excess, smallest, largest, xtol=1e-9)))


def holm(p: Vector) -> Vector:
    """Return Holm's step-down adjustment (1979): claims of adjusted p ≤ α err with probability ≤ α. NaN are kept.

    >>> holm(np.array([0.01, 0.04, 0.03])).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    adjusted = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    running = 0.0
    for place, index in enumerate(order):
        running = max(running, (len(order) - place) * float(p[index]))
        adjusted[index] = min(1.0, running)
    return adjusted


def sign_flips(values: Vector, *, draws: int = 20_000) -> tuple[float, float]:
    """Return p of the paired permutation test of 'the mean is 0', which flips signs, and the smallest p it can reach.

    The test is exact for up to 14 pairs, where p is a count over 2^k. Beyond, it takes `draws` random flips from a
    fixed seed and counts the observed one (Phipson & Smyth 2010). k pairs reach no p below 2 / 2^k. NaN for one pair.

    >>> sign_flips(np.array([0.11, 0.07, 0.13]))
    (0.25, 0.25)
    """
    k = len(values)
    if k < 2:
        return math.nan, math.nan
    observed = abs(float(np.sum(values)))
    slack = 1e-12 * float(np.sum(np.abs(values)))  # sums in another order differ by rounding
    if k <= 14:
        signs = np.array(list(itertools.product((1.0, -1.0), repeat=k - 1)))  # (2^(k-1), k-1): the others mirror these
        sums = np.abs(values[0] + signs @ values[1:])
        return float(np.mean(sums >= observed - slack)), 2.0 ** (1 - k)
    hits = int(np.sum(np.abs(2 * (_flips(draws, k) @ values) - np.sum(values)) >= observed - slack))
    return (hits + 1) / (draws + 1), max(2.0 ** (1 - k), 1 / (draws + 1))


@functools.lru_cache(maxsize=2)
def _flips(draws: int, k: int) -> Vector:
    """Return (draws, k), 1 where a pair keeps its sign and 0 where it is flipped, the same for every size."""
    return np.random.default_rng(0).integers(0, 2, size=(draws, k), dtype=np.int8).astype(np.float64)


class Ratio(NamedTuple):
    """A ratio of means with Fieller's interval. `low, high` are infinite where the denominator may be 0."""

    value: float
    low: float
    high: float
    k: int


def ratio(numerator: Vector, denominator: Vector, level: float = LEVEL, *, shared: Vector | None = None) -> Ratio:
    """Return mean(numerator) / mean(denominator) with Fieller's interval (1954).

    numerator, denominator: (k,), pairs in the same order. The interval holds every r for which mean(numerator −
    r·denominator) does not differ significantly from 0, which has exact coverage for normal pairs. Where that set is no
    interval, because the denominator's own interval holds 0, both ends are infinite. They are NaN for one pair.
    shared: (2, 2), the covariance of the two means from noise that all pairs share (`image_covariance`). It enters the
    interval of numerator − r·denominator as in `both_noises`, so that the set of r stays the solution of a quadratic.
    """
    k = len(numerator)
    top, bottom = float(np.mean(numerator)) if k else math.nan, float(np.mean(denominator)) if k else math.nan
    value = top / bottom if bottom != 0 else math.nan
    if k < 2:
        return Ratio(value, math.nan, math.nan, k)
    squares = float(stdtrit(k - 1, (1 + level) / 2)) ** 2 / k * np.cov(np.stack([numerator, denominator]), ddof=1)
    if shared is not None:
        squares = squares + float(ndtri((1 + level) / 2)) ** 2 * shared
    a = bottom**2 - float(squares[1, 1])
    b = top * bottom - float(squares[0, 1])
    c = top**2 - float(squares[0, 0])
    if a <= 0:
        return Ratio(value, -math.inf, math.inf, k)
    root = math.sqrt(max(0.0, b * b - a * c))
    return Ratio(value, (b - root) / a, (b + root) / a, k)


def zero_set(left: Vector, right: Vector, level: float = LEVEL) -> list[tuple[float, float]]:
    """Return where, on the line from left (w = 0) to right (w = 1), the mean over replicates can't be told from 0.

    left, right: (k,), paired. Returns the intervals of w in [0, 1] with |mean| ≤ t·s/√k, found as the roots of a
    quadratic. This inverts the t-test, so the true zero is missed with probability 1 − level.
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

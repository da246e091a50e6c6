"""Read off learning curves: how many times the labels one group needs, where two curves meet, and how they bend.

Between sizes a curve is straight in log N. Beyond the sizes that were run nothing is read off: what lies there is
reported as a bound, never as a number.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from bias_lab import schema
from bias_lab.statistics import intervals
from bias_lab.statistics import replicates as rep
from bias_lab.statistics.conditions import METRIC, Where
from bias_lab.statistics.intervals import Vector

EFFICIENCY = ["size", "accuracy", "labels", "ratio", "low", "high", "bound", "n"]
CROSSOVER = ["size", "low", "high", "bound", "n"]
_Curve = dict[int, Vector]  # size → value of each replicate
_Gap = tuple[NDArray[Any], Vector]  # units, and the difference in each
_CURVE = ["backbone", *schema.START]
LEAST_SIZES = 4  # of a learning curve: one is held out, and the law has three numbers
FIT = [*_CURVE, "sizes", "limit", "scale", "exponent", "rmse", "held_out", "predicted", "observed", "error"]


def sample_efficiency(
    table: pd.DataFrame,
    *,
    of: str = "vit",
    against: str = "cnn",
    metric: str = METRIC,
    where: Where = None,
    comparison: str = "",
) -> pd.DataFrame:
    """Return how many times the labels `of` needs to reach what `against` has at each size, from scratch.

    Arguments and errors are those of `shortfall`. Returns size (images), accuracy (the metric of `against` there),
    labels (that `of` needs), ratio = labels / size, low, high, bound, n (replicates). `low, high`: 95 % interval of the
    ratio, which is every ratio at which the two can't be told apart (the inverted paired t-test). It is 0 or inf
    where that reaches the end of the sizes run, and NaN for one replicate. bound: '>' or '<' where the accuracy lies
    outside `of`'s curve, so that labels and ratio are bounds, otherwise ''.
    """
    rows = rep.comparable(table, where=where, comparison=comparison, metric=metric)
    ours, theirs, replicates = _aligned(*(rep.wide(rep.select(rows, name), metric) for name in (of, against)))
    records = []
    for size, target in theirs.items():
        gaps = {m: gap for m, own in ours.items() if len((gap := _units(target - own, replicates))[0])}
        if gaps:
            labels, low, high, bound, n = _zero(gaps, first=True)
            accuracy = float(np.nanmean(target))
            records.append((size, accuracy, labels, labels / size, low / size, high / size, bound, n))
    return pd.DataFrame(records, columns=EFFICIENCY)


def crossover(
    table: pd.DataFrame,
    *,
    of: str = "vit",
    against: str = "cnn",
    metric: str = METRIC,
    where: Where = None,
    comparison: str = "",
) -> pd.DataFrame:
    """Return N*, the size at which the two mean curves meet (the last one, if they meet more than once), in one row.

    Arguments and errors are those of `shortfall`. Returns size (images), low, high, bound, n (replicates). `low, high`:
    95 % interval, which is every size at which the two can't be told apart. It is 0 or inf where that reaches the end
    of the sizes run, and NaN with one replicate at some size. bound: '>' where `of` stays behind at all sizes run, so
    that N* would be larger than size, '<' where it is ahead at all, '?' (and n = 0) without a pair of runs, else ''.
    """
    rows = rep.comparable(table, where=where, comparison=comparison, metric=metric)
    ours, theirs, replicates = _aligned(*(rep.wide(rep.select(rows, name), metric) for name in (of, against)))
    gaps = {size: _units(theirs[size] - ours[size], replicates) for size in sorted(set(ours) & set(theirs))}
    gaps = {size: gap for size, gap in gaps.items() if len(gap[0])}
    row = _zero(gaps, first=False) if gaps else (math.nan, math.nan, math.nan, "?", 0)
    return pd.DataFrame([row], columns=CROSSOVER)


def _aligned(ours: pd.DataFrame, theirs: pd.DataFrame) -> tuple[_Curve, _Curve, dict[str, NDArray[Any]]]:
    """Return both curves as size → value of each replicate, NaN where it has none, and the draws and seeds."""
    index = ours.index.union(theirs.index)
    replicates = {name: index.get_level_values(name).to_numpy() for name in schema.REPLICATE}
    one, other = (
        {int(str(size)): column.to_numpy() for size, column in curve.reindex(index).items()} for curve in (ours, theirs)
    )
    return one, other, replicates


def _units(difference: Vector, replicates: Mapping[str, NDArray[Any]]) -> _Gap:
    """Return the independent units that have a difference, sorted, and their differences: seeds of a draw averaged."""
    known = ~np.isnan(difference)
    here = {name: values[known] for name, values in replicates.items()}
    names, codes = np.unique(here[rep.unit_of(here)], return_inverse=True)
    return names, np.bincount(codes, weights=difference[known]) / np.bincount(codes)


def _zero(gaps: Mapping[int, _Gap], *, first: bool) -> tuple[float, float, float, str, int]:
    """Return where the mean gap passes from above 0 to 0 or below: size, low, high, bound, replicates.

    first: whether the first such place counts, else the last change of sign of any kind does.
    """
    sizes = sorted(gaps)
    means = [float(gaps[size][1].mean()) for size in sizes]
    low, high = _undecided(gaps, sizes)
    n = min(len(gaps[size][1]) for size in sizes)
    crossings = []
    for (a, da), (b, db) in itertools.pairwise(zip(sizes, means, strict=True)):
        if (da > 0 >= db) or (not first and da < 0 <= db):
            crossings.append(math.exp(math.log(a) + (math.log(b) - math.log(a)) * da / (da - db)))
    if first and means[0] <= 0:
        bound = "" if means[0] == 0 else "<"
        return float(sizes[0]), (low if bound == "" else 0.0), high, bound, n
    if crossings:
        return crossings[0 if first else -1], low, high, "", n
    if means[-1] > 0:
        return float(sizes[-1]), low, math.inf if len(gaps[sizes[-1]][1]) > 1 else math.nan, ">", n
    return float(sizes[0]), 0.0, high, "<", n


def _undecided(gaps: Mapping[int, _Gap], sizes: Sequence[int]) -> tuple[float, float]:
    """Return the ends of the sizes at which the gap can't be told from 0 (0 and inf beyond the first and last size)."""
    if min(len(values) for _, values in gaps.values()) < 2:
        return math.nan, math.nan
    zeros: list[tuple[float, float]] = []
    for a, b in itertools.pairwise(sizes):
        both, left, right = np.intersect1d(gaps[a][0], gaps[b][0], assume_unique=True, return_indices=True)
        if len(both) < 2:
            return math.nan, math.nan
        span = math.log(b) - math.log(a)
        pieces = intervals.zero_set(gaps[a][1][left], gaps[b][1][right])
        zeros += [(math.log(a) + span * u, math.log(a) + span * v) for u, v in pieces]
    if not zeros:  # the gap is not 0 at any size, so it is 0 beyond them, on the side that its sign gives
        return (float(sizes[-1]), math.inf) if gaps[sizes[-1]][1].mean() > 0 else (0.0, float(sizes[0]))
    low, high = min(u for u, _ in zeros), max(v for _, v in zeros)
    first, last = math.log(sizes[0]), math.log(sizes[-1])
    return (0.0 if low <= first + 1e-9 else math.exp(low)), (math.inf if high >= last - 1e-9 else math.exp(high))


def learning_curve(
    table: pd.DataFrame, *, metric: str = METRIC, where: Where = None, comparison: str = ""
) -> pd.DataFrame:
    """Return the power law accuracy(N) = limit − scale · N^(−exponent) of each backbone and start.

    table: a results table. metric: a fraction. where, comparison: as in `select_condition`. Errors: see `shortfall`.
    Returns backbone, regime, protocol, source, sizes (their number, at least 4), limit, scale, exponent, rmse (as
    fraction), held_out, predicted, observed, error. The law is fitted by least squares to the mean at each size (limit
    between the highest mean and 1, scale ≥ 0, exponent in [0.01, 2]). held_out is the largest size, predicted what a
    fit to the other sizes gives there, observed the mean, and error their difference, which shows how far the fit can
    be trusted. A curve of fewer sizes is left out, because the law's three numbers need three sizes beside that one.
    Source of the form: Cortes et al. 1994, Hestness et al. 2017 (arXiv:1712.00409).
    """
    rows = rep.comparable(table, scratch=False, where=where, comparison=comparison, metric=metric)
    records = []
    for curve, part in rows.groupby(_CURVE):
        means = part.groupby("size")[metric].mean()
        if len(means) < LEAST_SIZES:
            continue
        sizes, values = means.index.to_numpy(float), means.to_numpy(float)
        limit, scale, exponent = fit(sizes, values)
        rmse = float(np.sqrt(np.mean((limit - scale * sizes**-exponent - values) ** 2)))
        level, slope, bend = fit(sizes[:-1], values[:-1])
        predicted = level - slope * float(sizes[-1]) ** -bend
        law = (len(means), limit, scale, exponent, rmse)
        records.append((*curve, *law, int(sizes[-1]), predicted, values[-1], predicted - values[-1]))
    return pd.DataFrame(records, columns=FIT)


def fit(sizes: Vector, values: Vector) -> tuple[float, float, float]:
    """Return limit, scale and exponent of the least-squares power law of values in [0, 1] at these sizes.

    The limit lies between the highest value, which was reached, and 1. The scale is at least 0.

    >>> sizes = np.array([100.0, 1000.0, 10_000.0])
    >>> [round(number, 3) for number in fit(sizes, 0.9 - 1.2 * sizes**-0.35)]
    [0.9, 1.2, 0.35]
    """

    reached = float(np.max(values))

    def linear(exponent: float) -> tuple[float, float, float]:
        x = sizes**-exponent
        slope, level = np.polyfit(x, values, 1) if len(set(values)) > 1 else (0.0, values[0])
        best = [(float(level), float(-slope))]
        if not (reached <= level <= 1 and slope <= 0):  # then the best law has its limit at one end, or is flat
            best = [(end, max(0.0, float(np.sum((end - values) * x) / np.sum(x * x)))) for end in (reached, 1.0)]
        return min((float(np.sum((limit - scale * x - values) ** 2)), limit, scale) for limit, scale in best)

    exponents = np.geomspace(0.01, 2, 120)
    best = int(np.argmin([linear(e)[0] for e in exponents]))
    ends = float(exponents[max(0, best - 1)]), float(exponents[min(len(exponents) - 1, best + 1)])
    minimum = minimize_scalar(lambda e: linear(e)[0], bounds=ends, method="bounded", options={"xatol": 1e-12})
    _, limit, scale = linear(minimum.x)
    return limit, scale, float(minimum.x)

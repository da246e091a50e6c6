"""Along the sizes: how many times the labels one group needs for another's accuracy; where curves meet; how they bend.

Between sizes a curve is straight in log N; beyond the sizes that were run nothing is read off: what lies there is
reported as a bound ('> 8.2×'), never as a number.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from bias_lab.statistics import intervals
from bias_lab.statistics import replicates as rep
from bias_lab.statistics.intervals import Vector

EFFICIENCY = ["size", "accuracy", "labels", "ratio", "low", "high", "bound", "n", "text"]
CROSSOVER = ["size", "low", "high", "bound", "n", "text"]
FIT = [
    "backbone",
    "regime",
    "protocol",
    "sizes",
    "limit",
    "scale",
    "exponent",
    "rmse",
    "held_out",
    "predicted",
    "observed",
    "error",
]


def sample_efficiency(table: pd.DataFrame, *, of: str = "vit", against: str = "cnn") -> pd.DataFrame:
    """ρ(a): how many times the labels `of` needs to reach the accuracy a that `against` has at each size.

    Columns size and accuracy (of `against`), labels (that `of` needs), ratio = labels / size, `low, high` (95 %: every
    number of labels at which the two can't be told apart, the inverted paired t-test; 0 and inf where that reaches the
    end of the sizes run), bound ('>' or '<' where a lies outside `of`'s curve; labels, ratio are then the bound), n,
    text.
    """
    rows = rep.comparable(table)
    ours, theirs = rep.wide(rep.select(rows, of)), rep.wide(rep.select(rows, against))
    made = []
    for column in theirs.columns:
        target, size = theirs[column], int(str(column))
        nodes = {m: pd.concat({"target": target, "own": ours[m]}, axis=1) for m in ours.columns}
        gaps = {m: rep.units(part)["target"] - rep.units(part)["own"] for m, part in nodes.items()}
        gaps = {m: part for m, part in gaps.items() if len(part)}
        if not gaps:
            continue
        at, low, high, bound, n = _zero(gaps, first=True)
        text = _times(at / size, bound, low / size, high / size)
        made.append((size, float(target.mean()), at, at / size, low / size, high / size, bound, n, text))
    return pd.DataFrame(made, columns=EFFICIENCY)


def crossover(table: pd.DataFrame, *, of: str = "vit", against: str = "cnn") -> pd.DataFrame:
    """N*: the size at which the two mean curves meet (the last meeting, if they meet more than once). One row.

    Columns size, `low, high` (95 %: every size at which the two can't be told apart; 0 and inf where that reaches the
    end of the sizes run), bound ('>': `of` stays behind at all sizes run, N* would be above; '<': ahead at all), n,
    text.
    """
    rows = rep.comparable(table)
    ours, theirs = rep.wide(rep.select(rows, of)), rep.wide(rep.select(rows, against))
    gaps = {}
    for size in sorted(set(ours.columns) & set(theirs.columns)):
        part = rep.units(pd.concat({"target": theirs[size], "own": ours[size]}, axis=1))
        if len(part):
            gaps[size] = part["target"] - part["own"]
    if not gaps:
        return pd.DataFrame([(math.nan, math.nan, math.nan, "?", 0, "no pair of runs yet")], columns=CROSSOVER)
    at, low, high, bound, n = _zero(gaps, first=False)
    if bound:
        text = f"N* {bound} {at:,.0f}, beyond the sizes run"
    elif math.isnan(low):
        text = f"about N = {_round(at):,} (one replicate at some size: no interval)"
    elif low == 0 and math.isinf(high):
        text = f"about N = {_round(at):,}, but no size settles it"
    else:
        text = f"about N = {_round(at):,} (95 % interval {_size(low, '0')} to {_size(high, 'beyond the sizes run')})"
    return pd.DataFrame([(at, low, high, bound, n, text)], columns=CROSSOVER)


def _zero(gaps: "dict[Any, pd.Series[float]]", *, first: bool) -> tuple[float, float, float, str, int]:
    """Where the mean gap passes from above 0 to 0 or below: (size, low, high, bound, replicates).

    gaps: size → paired differences, in units. first: the first such place, else the last change of sign of any kind.
    """
    sizes = sorted(gaps)
    means = [float(gaps[size].mean()) for size in sizes]
    low, high = _settled(gaps, sizes)
    n = min(len(gaps[size]) for size in sizes)
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
        return float(sizes[-1]), low, math.inf if len(gaps[sizes[-1]]) > 1 else math.nan, ">", n
    return float(sizes[0]), 0.0, high, "<", n


def _settled(gaps: "dict[Any, pd.Series[float]]", sizes: Sequence[Any]) -> tuple[float, float]:
    """The hull of the sizes at which the gap can't be told from 0; ends at 0 and inf where it reaches the last size."""
    if min(len(part) for part in gaps.values()) < 2:
        return math.nan, math.nan
    found: list[tuple[float, float]] = []
    for a, b in itertools.pairwise(sizes):
        both = gaps[a].index.intersection(gaps[b].index)
        if len(both) < 2:
            return math.nan, math.nan
        left, right = np.asarray(gaps[a][both], np.float64), np.asarray(gaps[b][both], np.float64)
        span = math.log(b) - math.log(a)
        found += [(math.log(a) + span * u, math.log(a) + span * v) for u, v in intervals.zero_set(left, right)]
    means = {size: float(gaps[size].mean()) for size in sizes}
    if not found:  # every size is told apart: the zero lies beyond, on the side that the sign points to
        return (float(sizes[-1]), math.inf) if means[sizes[-1]] > 0 else (0.0, float(sizes[0]))
    low, high = min(u for u, _ in found), max(v for _, v in found)
    first, last = math.log(sizes[0]), math.log(sizes[-1])
    return (0.0 if low <= first + 1e-9 else math.exp(low)), (math.inf if high >= last - 1e-9 else math.exp(high))


def _times(value: float, bound: str, low: float, high: float) -> str:
    if bound:
        return f"{bound} {value:.2g}×" if value < 10 else f"{bound} {value:.0f}×"
    ends = f"{low:.2g} to {high:.2g}" if math.isfinite(high) else f"above {low:.2g}"
    return f"{value:.2g}×" + ("" if math.isnan(low) else f" ({ends})")


def _round(size: float) -> int:
    """Two significant digits: a crossing is not known to the image."""
    digits = max(0, len(str(int(size))) - 2)
    return int(round(size, -digits))


def _size(size: float, edge: str) -> str:
    return edge if size == 0 or math.isinf(size) else f"{_round(size):,}"


# --- the bend -------------------------------------------------------------------------------------------------------


def learning_curve(table: pd.DataFrame) -> pd.DataFrame:
    """accuracy(N) = limit − scale · N^(−exponent) of each backbone and regime, and how well it foretells the largest N.

    Fitted by least squares to the mean at each size (limit in [0, 1], scale ≥ 0, exponent in [0.01, 2]); needs 4 sizes.
    held_out, predicted, observed, error: the largest size, what a fit to the others says there, what was measured, and
    the difference: the honest measure of how far the fit can be trusted; NaN below 4 sizes.
    Source of the form: Cortes et al. 1994, Hestness et al. 2017 (arXiv:1712.00409).
    """
    rows = rep.comparable(table, scratch=False)
    made = []
    for (backbone, regime, protocol, _), part in rows.groupby(["backbone", "regime", "protocol", "source"]):
        means = part.groupby("size")["top1"].mean()
        if len(means) < 3:
            continue
        sizes, values = means.index.to_numpy(float), means.to_numpy(float)
        limit, scale, exponent = fit(sizes, values)
        rmse = float(np.sqrt(np.mean((limit - scale * sizes**-exponent - values) ** 2)))
        predicted = math.nan
        if len(means) >= 4:
            level, slope, bend = fit(sizes[:-1], values[:-1])
            predicted = level - slope * float(sizes[-1]) ** -bend
        made.append(
            (backbone, regime, protocol, len(means), limit, scale, exponent, rmse, int(sizes[-1]),
            predicted, values[-1],
             predicted - values[-1])
        )  # fmt: skip
    return pd.DataFrame(made, columns=FIT)


def fit(sizes: Vector, values: Vector) -> tuple[float, float, float]:
    """(limit, scale, exponent) of the least-squares power law: a linear fit within, the exponent searched outside."""

    def linear(exponent: float) -> tuple[float, float, float]:
        x = sizes**-exponent
        slope, level = np.polyfit(x, values, 1) if len(set(values)) > 1 else (0.0, values[0])
        limit, scale = float(level), float(-slope)
        if limit > 1:  # no accuracy exceeds 1: the best line through (x = 0, accuracy = 1)
            limit, scale = 1.0, float(np.sum((1 - values) * x) / np.sum(x * x))
        if scale < 0:
            limit, scale = float(np.mean(values)), 0.0
        return float(np.sum((limit - scale * x - values) ** 2)), limit, scale

    exponents = np.geomspace(0.01, 2, 120)
    best = int(np.argmin([linear(e)[0] for e in exponents]))
    low, high = float(exponents[max(0, best - 1)]), float(exponents[min(len(exponents) - 1, best + 1)])
    for _ in range(60):  # golden section between the neighbours of the best grid point
        a, b = high - (high - low) * 0.6180339887498949, low + (high - low) * 0.6180339887498949
        low, high = (low, b) if linear(a)[0] < linear(b)[0] else (a, high)
    exponent = (low + high) / 2
    _, limit, scale = linear(exponent)
    return limit, scale, exponent

"""How much draws and seeds scatter, and so how many of them it takes to show a difference."""

import bisect
import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import chdtri, fdtri, nctdtr, ndtr, ndtri, stdtrit

from bias_lab import schema
from bias_lab.statistics import conditions
from bias_lab.statistics import replicates as rep
from bias_lab.statistics.conditions import METRIC, Where
from bias_lab.statistics.gaps import between
from bias_lab.statistics.intervals import ALPHA, Vector

SHARES = ["component", "sd", "share", "low", "high", "cells", "df"]
POWER = ["size", "seeds", "draws", "draws_high", "sd", "df", "test_se"]


class Components(NamedTuple):
    """Variances of one value between draws and within them (seeds and all else), and their degrees of freedom."""

    draw: float
    within: float
    draws_df: float  # NaN where every draw has one seed: the two can't be told apart, and `within` holds both
    within_df: float
    mean_square: float  # of draw means: estimates draw + within / seeds
    seeds: float  # a draw, harmonic mean


def components(draw: NDArray[Any], value: Vector) -> Components:
    """Return the one-way random effects of draw. draw, value: (replicates,). Draws may differ in their seeds."""
    draws, place = np.unique(draw, return_inverse=True)
    counts = np.bincount(place).astype(float)
    means = np.bincount(place, weights=value) / counts
    inner = float(((value - means[place]) ** 2).sum())
    within_df, draws_df = float(counts.sum() - len(draws)), float(len(draws) - 1)
    between = float(np.var(means, ddof=1)) if len(draws) > 1 else math.nan
    seeds = len(draws) / float((1 / counts).sum()) if len(draws) else math.nan
    if within_df == 0:
        return Components(math.nan, between, math.nan, draws_df, between, seeds)
    within = inner / within_df
    return Components(max(0.0, between - within / seeds), within, draws_df, within_df, between, seeds)


def variance_shares(
    table: pd.DataFrame, *, metric: str = METRIC, where: Where = None, comparison: str = ""
) -> pd.DataFrame:
    """Return how much of a cell's variance is the draw of images, and how much the seed (with all else that differs).

    table: a results table. metric, where, comparison: as in `shortfall`, and so are the errors.
    Returns component (`draw`, `seed and rest`), sd (in the metric's unit), share, low, high, cells, df. Mean squares
    are pooled over cells, because one cell has too few replicates for an estimate. `low, high`: 95 % interval from the
    F ratio of the two mean squares. Cells share their draws, so many cells tell no more about draws than one: the mean
    square of draws has draws − 1 degrees of freedom, and that of seeds as many as its residuals show (see `_freedom`).
    Where no draw has two seeds, the two can't be told apart: one row `draw and seed`, of share 1, without an interval.
    """
    rows = rep.comparable(table, scratch=False, where=where, comparison=comparison, metric=metric)
    rows = rows[~conditions.is_control(rows)]
    draws, value = rows["draw"].to_numpy(), rows[metric].to_numpy(dtype=float)
    places = rows.groupby(["backbone", *schema.START, "size"]).indices.values()
    several = [here for here in places if len(set(draws[here])) > 1]
    cells = [components(draws[here], value[here]) for here in several]
    apart = [c for c in cells if not math.isnan(c.draws_df)]
    if not apart:
        known = [c for c in cells if c.within_df > 0]
        df = sum(c.within_df for c in known)
        sd = math.sqrt(sum(c.within * c.within_df for c in known) / df) if df else math.nan
        one = [("draw and seed", sd, 1.0, math.nan, math.nan, len(known), df)] if known else []
        return pd.DataFrame(one, columns=SHARES)
    between_df, within_df = sum(c.draws_df for c in apart), sum(c.within_df for c in apart)
    seeds = len(apart) / sum(1 / c.seeds for c in apart)
    within = sum(c.within * c.within_df for c in apart) / within_df
    between_ms = seeds * sum(c.mean_square * c.draws_df for c in apart) / between_df
    of_apart = [here for here, c in zip(several, cells, strict=True) if not math.isnan(c.draws_df)]
    between_df = max(c.draws_df for c in apart)
    within_df = _freedom([rows.iloc[here] for here in of_apart], metric, max(c.within_df for c in apart), within_df)
    low, high = _draw_share(between_ms / within if within else math.inf, between_df, within_df, seeds)
    draw = max(0.0, (between_ms - within) / seeds)
    share = draw / (draw + within) if draw + within else math.nan
    both = [
        ("draw", math.sqrt(draw), share, low, high, len(apart), between_df),
        ("seed and rest", math.sqrt(within), 1 - share, 1 - high, 1 - low, len(apart), within_df),
    ]
    return pd.DataFrame(both, columns=SHARES)


def _freedom(cells: list[pd.DataFrame], metric: str, least: float, most: float) -> float:
    """Return the degrees of freedom of the mean square within draws, pooled over cells: from one cell's to the sum.

    They are ν · tr(Σ)² / tr(Σ²) (Satterthwaite), where Σ is the covariance of cells over replicates and ν that of one
    cell: fewer than the sum where cells scatter unequally, or together because seeds are shared. Both traces are
    estimated without bias from the residuals, as of a Wishart matrix.
    """
    if least < 2:
        return least
    residuals = [(c[metric] - c.groupby("draw")[metric].transform("mean")).to_numpy(dtype=float) for c in cells]
    keys = [list(c[list(schema.REPLICATE)].itertuples(index=False, name=None)) for c in cells]
    place = {key: at for at, key in enumerate(dict.fromkeys(key for one in keys for key in one))}
    table = np.zeros((len(place), len(cells)))
    for column, (key, residual) in enumerate(zip(keys, residuals, strict=True)):
        table[[place[one] for one in key], column] = residual
    trace, squares = float((table**2).sum()) / least, float(((table @ table.T) ** 2).sum()) / least**2
    of_square = least**2 / ((least - 1) * (least + 2)) * (squares - trace**2 / least)
    squared = trace**2 - 2 * of_square / least
    return float(np.clip(least * squared / of_square, least, most)) if of_square > 0 else most


def _draw_share(ratio: float, between_df: float, within_df: float, seeds: float) -> tuple[float, float]:
    """Return the interval of the intraclass correlation.

    ratio / (1 + seeds · σd²/σw²) has an F distribution, where σd², σw² are the variances between and within draws.
    """
    ends = []
    for tail in (0.975, 0.025):
        scaled = ratio / float(fdtri(between_df, within_df, tail))
        theta = max(0.0, (scaled - 1) / seeds)
        ends.append(theta / (1 + theta) if math.isfinite(theta) else 1.0)
    return ends[0], ends[1]


def power(
    table: pd.DataFrame,
    *,
    of: str = "vit",
    against: str = "cnn",
    metric: str = METRIC,
    where: Where = None,
    comparison: str = "",
    resolve: float = 0.01,
    chance: float = 0.8,
) -> pd.DataFrame:
    """Return how many draws, with 1, 2, 3 or 5 seeds each, it takes to show a true shortfall of `resolve`.

    resolve: in the metric's unit. chance: the probability with which `p` of `gaps` is then at most 5 % at one size,
    before Holm's correction. Other arguments and errors are those of `shortfall`.
    Returns size (images), seeds, draws, draws_high, sd, df, test_se. sd: standard deviation of a draw's mean paired
    difference with so many seeds; df: its degrees of freedom. test_se: as in `gaps`, the noise of this test set that no
    number of draws removes (NaN where it is unknown, and then it is left out). draws_high: draws if the standard
    deviation is at its 80 % upper limit, which with few replicates is far above its estimate. draws is 10,000 where no
    smaller number will do. Where no draw has two seeds, seeds and draws can't be told apart, and there is a row for one
    seed a draw alone.
    """
    rows = rep.comparable(table, where=where, comparison=comparison, metric=metric)
    sides = rep.select(rows, of), rep.select(rows, against)
    paired, gaps = rep.pairs(*sides, metric), between(*sides, metric)
    records = []
    for size, part in paired.groupby("size"):
        se = float(gaps["test_se"].to_numpy()[gaps["size"] == size][0])
        if part["draw"].nunique() < 2:
            continue
        c = components(part["draw"].to_numpy(), part["difference"].to_numpy(dtype=float))
        together = math.isnan(c.draws_df)
        for seeds in (1,) if together else (1, 2, 3, 5):
            sd = math.sqrt(c.within if together else c.draw + c.within / seeds)
            df = c.within_df if together else c.draws_df
            worse = sd * math.sqrt(df / float(chdtri(df, 0.8)))  # chi-square's 20 % quantile
            draws = [needed(one, resolve, chance, test_se=se) for one in (sd, worse)]
            records.append((int(str(size)), seeds, *draws, sd, df, se))
    return pd.DataFrame(records, columns=POWER)


def needed(sd: float, resolve: float, chance: float = 0.8, *, test_se: float = 0.0) -> int:
    """Return the least number of pairs (2 to 10,000) that shows a mean of `resolve` with probability `chance`.

    sd: standard deviation of a pair. test_se: of what all pairs share. Both are in the unit of resolve.

    >>> needed(sd=0.01, resolve=0.01), needed(sd=0.01, resolve=0.01, test_se=0.003), needed(sd=0.0, resolve=0.01)
    (10, 29, 2)
    """

    def enough(k: int) -> bool:
        return chance_to_show(k, sd, resolve, test_se) >= chance

    high = 2  # doubled first, because scipy's noncentral t is NaN far beyond what is needed
    while not enough(high) and high < 10_000:
        high *= 2
    return 10_000 if high > 10_000 else bisect.bisect_left(range(high), True, lo=max(2, high // 2), key=enough)


def chance_to_show(k: int, sd: float, resolve: float, test_se: float = 0.0) -> float:
    """Return the probability that k pairs show a mean of `resolve` at 5 %, two-sided, as `intervals.p_value` tests it.

    Without a test_se (0 or NaN) that is the noncentral t distribution. With it, the mean's probability of lying outside
    ± √((t·s/√k)² + (z·test_se)²) is averaged over the distribution of s (400 quantiles of chi-square).
    """
    critical = float(stdtrit(k - 1, 1 - ALPHA / 2))
    if not test_se > 0:
        if sd == 0:
            return 1.0
        shift = resolve * math.sqrt(k) / sd
        return 1 - float(nctdtr(k - 1, shift, critical)) + float(nctdtr(k - 1, shift, -critical))
    tails = (np.arange(400) + 0.5) / 400
    se = sd * np.sqrt(chdtri(k - 1, tails) / (k - 1) / k)
    half, scatter = np.hypot(critical * se, ndtri(1 - ALPHA / 2) * test_se), math.hypot(sd / math.sqrt(k), test_se)
    return float(np.mean(ndtr((resolve - half) / scatter) + ndtr((-resolve - half) / scatter)))

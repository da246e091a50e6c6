"""How much draws and seeds scatter, and so how many of them a difference needs to be seen."""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import chdtri, fdtri, nctdtr, stdtrit

from bias_lab.statistics import replicates as rep

ALPHA = 0.05
SHARES = ["component", "sd", "share", "low", "high", "cells", "df"]
POWER = ["size", "seeds", "draws", "draws_high", "sd", "df"]


class Components(NamedTuple):
    """Variances of one value between draws and within them (seeds and all else), and what they rest on."""

    draw: float
    within: float
    draws_df: float  # NaN where every draw has one seed: the two can't be told apart, `within` holds both
    within_df: float
    mean_square: float  # between draws, of draw means: estimates draw + within / seeds
    seeds: float  # a draw, harmonic mean


def components(values: pd.DataFrame) -> Components:
    """One-way random effects of draw. values: columns draw, value (seeds a draw may differ in number)."""
    place, draws = pd.factorize(values["draw"])
    value = values["value"].to_numpy(dtype=float)
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


def variance_shares(table: pd.DataFrame) -> pd.DataFrame:
    """How much of a cell's variance is the draw of images, and how much the seed (with all else that differs).

    A cell is a backbone × regime × protocol × size; mean squares are pooled over cells, so the few replicates of one
    cell don't have to carry the estimate alone. Columns component (`draw`, `seed and rest`), sd (of accuracy), share,
    `low, high` (95 %, from the F ratio of the two mean squares: exact for normal, balanced cells), cells, df.
    Where no draw has two seeds the two can't be told apart: one row, `draw and seed`, share 1, no interval.
    """
    rows = rep.comparable(table, scratch=False)
    found = []
    for _, part in rows.groupby(["backbone", "regime", "protocol", "source", "size"]):
        if part["draw"].nunique() > 1:
            found.append(components(part[["draw"]].assign(value=part["top1"].to_numpy(dtype=float))))
    apart = [c for c in found if not math.isnan(c.draws_df)]
    if not apart:
        known = [c for c in found if c.within_df > 0]
        df = sum(c.within_df for c in known)
        sd = math.sqrt(sum(c.within * c.within_df for c in known) / df) if df else math.nan
        one = [("draw and seed", sd, 1.0, math.nan, math.nan, len(known), df)] if known else []
        return pd.DataFrame(one, columns=SHARES)
    between_df, within_df = sum(c.draws_df for c in apart), sum(c.within_df for c in apart)
    seeds = len(apart) / sum(1 / c.seeds for c in apart)
    within = sum(c.within * c.within_df for c in apart) / within_df
    between = seeds * sum(c.mean_square * c.draws_df for c in apart) / between_df
    low, high = _draw_share(between / within if within else math.inf, between_df, within_df, seeds)
    draw = max(0.0, (between - within) / seeds)
    share = draw / (draw + within) if draw + within else math.nan
    made = [
        ("draw", math.sqrt(draw), share, low, high, len(apart), between_df),
        ("seed and rest", math.sqrt(within), 1 - share, 1 - high, 1 - low, len(apart), within_df),
    ]
    return pd.DataFrame(made, columns=SHARES)


def _draw_share(ratio: float, between_df: float, within_df: float, seeds: float) -> tuple[float, float]:
    """Interval of the intraclass correlation: F = ratio · (1 / (1 + seeds · σd²/σw²)) has an F distribution."""
    ends = []
    for tail in (0.975, 0.025):
        scaled = ratio / float(fdtri(between_df, within_df, tail))
        theta = max(0.0, (scaled - 1) / seeds)
        ends.append(theta / (1 + theta) if math.isfinite(theta) else 1.0)
    return ends[0], ends[1]


def power(
    table: pd.DataFrame, *, of: str = "vit", against: str = "cnn", resolve: float = 0.01, chance: float = 0.8
) -> pd.DataFrame:
    """How many draws, with 1, 2, 3 or 5 seeds each, it takes to show a true shortfall of `resolve`.

    That is: the paired two-sided t-test at 5 % succeeds with probability `chance` (noncentral t). From the spread of
    the paired differences at each size; draws_high is the number if the spread is at its 80 % upper limit, which with
    few replicates is far above its estimate. Where no draw has two seeds, seeds and draws can't be told apart, and
    only one seed a draw is answered. sd: of a draw's mean with so many seeds; df: what it rests on.
    """
    rows = rep.comparable(table)
    paired = rep.pairs(rep.select(rows, of), rep.select(rows, against))
    made = []
    for size, part in paired.groupby("size"):
        if part["draw"].nunique() < 2:
            continue
        c = components(part[["draw"]].assign(value=part["difference"].to_numpy(dtype=float)))
        together = math.isnan(c.draws_df)
        for seeds in (1,) if together else (1, 2, 3, 5):
            sd = math.sqrt(c.within if together else c.draw + c.within / seeds)
            df = c.within_df if together else c.draws_df
            worse = sd * math.sqrt(df / float(chdtri(df, 0.8)))  # chi-square's 20 % quantile
            made.append((int(str(size)), seeds, needed(sd, resolve, chance), needed(worse, resolve, chance), sd, df))
    return pd.DataFrame(made, columns=POWER)


def needed(sd: float, resolve: float, chance: float = 0.8) -> int:
    """The least number of pairs (2 to 10,000) whose t-test finds a mean of `resolve` with probability `chance`."""

    def enough(k: int) -> bool:
        if sd == 0:
            return True
        critical, shift = float(stdtrit(k - 1, 1 - ALPHA / 2)), resolve * math.sqrt(k) / sd
        found = 1 - float(nctdtr(k - 1, shift, critical)) + float(nctdtr(k - 1, shift, -critical))
        return found >= chance

    low, high = 1, 2
    while not enough(high):
        low, high = high, high * 2
        if high > 10_000:
            return 10_000
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return max(high, 2)

"""Which backbone is ahead at each size, and how sure that is."""

import math
from typing import Any

import numpy as np
import pandas as pd

from bias_lab.statistics import intervals
from bias_lab.statistics import replicates as rep

ALPHA = 0.05
RANKING = ["size", "rank", "rank_low", "rank_high", "backbone", "family", "top1", "low", "high", "n"]


def ranking(table: pd.DataFrame) -> pd.DataFrame:
    """Backbones from best to worst at each size, each rank with the range that the data leave open.

    rank_low, rank_high: 1 + how many backbones are shown to be better, and the count less those shown to be worse, by
    paired t-tests on the same replicates, Holm-corrected over all pairs at the size: all true ranks lie in their ranges
    with probability 95 % at least. low, high: 95 % interval of the accuracy itself. Equal means share the better rank.
    """
    rows = rep.comparable(table)
    family = rows.groupby("backbone")["family"].first()
    made: list[tuple[Any, ...]] = []
    for size, part in rows.groupby("size"):
        wide = part.pivot(index=["draw", "seed"], columns="backbone", values="top1").astype(float)
        names = list(wide.columns)
        pairs = [(i, j) for i in range(len(names)) for j in range(i + 1, len(names))]
        whole = not wide.isna().any(axis=None)  # then all pairs share their replicates, averaged once
        values = rep.units(wide) if whole else wide
        tests = [_paired(values.iloc[:, [i, j]], replicates=not whole) for i, j in pairs]
        adjusted = intervals.holm(np.array([p for _, p in tests], dtype=float))
        better, worse = np.zeros(len(names), int), np.zeros(len(names), int)  # shown to be better, worse than each
        for (i, j), (difference, _), p in zip(pairs, tests, adjusted, strict=True):
            if p <= ALPHA:
                ahead, behind = (i, j) if difference > 0 else (j, i)
                better[behind] += 1
                worse[ahead] += 1
        cells = []
        for place, name in enumerate(names):
            frame = wide[[name]].dropna()
            of = intervals.mean(rep.units(frame)[name].to_numpy(dtype=float))
            ends = (1 + int(better[place]), len(names) - int(worse[place]))
            cells.append((*ends, name, family[name], of.value, of.low, of.high, len(frame)))
        cells.sort(key=lambda cell: (-cell[4], cell[2]))
        made += [(int(str(size)), 1 + sum(other[4] > cell[4] for other in cells), *cell) for cell in cells]
    return pd.DataFrame(made, columns=RANKING)


def _paired(two: pd.DataFrame, *, replicates: bool) -> tuple[float, float]:
    """(mean difference, two-sided p) of two columns, of units already, or of replicates: those that both have."""
    unit = rep.units(two) if replicates else two
    if not len(unit):
        return math.nan, math.nan
    of = intervals.mean((unit.iloc[:, 0] - unit.iloc[:, 1]).to_numpy(dtype=float))
    return of.value, intervals.p_value(of)

"""Which backbone is ahead at each size, and how sure that is."""

import math
from typing import Any

import numpy as np
import pandas as pd

from bias_lab import schema
from bias_lab.statistics import intervals
from bias_lab.statistics import replicates as rep
from bias_lab.statistics.conditions import METRIC, Where
from bias_lab.statistics.intervals import ALPHA


def ranking(table: pd.DataFrame, *, metric: str = METRIC, where: Where = None) -> pd.DataFrame:
    """Return the backbones from the highest to the lowest at each size, from scratch, each rank with its open range.

    table: a results table. metric, where: as in `shortfall`, and so are the errors.
    Returns size (images), rank, rank_low, rank_high, backbone, family, the metric (mean), low, high (its 95 %
    interval), n (replicates). rank_low is 1 + how many backbones are shown to be better; rank_high is their count less
    those shown to be worse. Shown means by paired t-tests on the same replicates, Holm-corrected over all pairs at the
    size, so all true ranks lie in their ranges with a probability of at least 95 %. Equal means share the better rank.
    """
    rows = rep.comparable(table, where=where, metric=metric)
    family = rows.groupby("backbone")["family"].first()
    ranked: list[tuple[Any, ...]] = []
    for size, part in rows.groupby("size"):
        wide = part.pivot(index=list(schema.REPLICATE), columns="backbone", values=metric).astype(float)
        names = list(wide.columns)
        pairs = [(i, j) for i in range(len(names)) for j in range(i + 1, len(names))]
        whole = not wide.isna().any(axis=None)  # then all pairs have the same replicates, averaged once
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
        ranked += [(int(str(size)), 1 + sum(other[4] > cell[4] for other in cells), *cell) for cell in cells]
    columns = ["size", "rank", "rank_low", "rank_high", "backbone", "family", metric, "low", "high", "n"]
    return pd.DataFrame(ranked, columns=columns)


def _paired(two: pd.DataFrame, *, replicates: bool) -> tuple[float, float]:
    """Return the mean difference of two columns and its two-sided p.

    replicates: whether the rows are replicates, of which those that both columns have count; else they are units.
    """
    unit = rep.units(two) if replicates else two
    if not len(unit):
        return math.nan, math.nan
    of = intervals.mean((unit.iloc[:, 0] - unit.iloc[:, 1]).to_numpy(dtype=float))
    return of.value, intervals.p_value(of)

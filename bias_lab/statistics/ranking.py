"""Which backbone is ahead at each size, and how sure that is."""

import math
from typing import Any

import numpy as np
import pandas as pd

from bias_lab import schema
from bias_lab.statistics import intervals
from bias_lab.statistics import replicates as rep
from bias_lab.statistics.conditions import METRIC, Where
from bias_lab.statistics.intervals import ALPHA, Vector


def ranking(table: pd.DataFrame, *, metric: str = METRIC, where: Where = None, comparison: str = "") -> pd.DataFrame:
    """Return the backbones from the highest to the lowest at each size, from scratch, each rank with its open range.

    table: a results table. metric, where, comparison: as in `shortfall`, and so are the errors.
    Returns size (images), rank, rank_low, rank_high, backbone, family, the metric (mean), low, high (its 95 %
    interval), n (replicates). rank_low is 1 + how many backbones are shown to be better. rank_high is the number of
    backbones less those shown to be worse. This is by paired t-tests on the same replicates, Holm-corrected over all
    pairs at the size, so all true ranks lie in their ranges with at least 95 % probability. Equal means share a rank.
    """
    rows = rep.comparable(table, where=where, comparison=comparison, metric=metric)
    family = rows.groupby("backbone")["family"].first()
    ranked: list[tuple[Any, ...]] = []
    for size, part in rows.groupby("size"):
        wide = part.pivot(index=list(schema.REPLICATE), columns="backbone", values=metric).astype(float)
        names = list(wide.columns)
        pairs = [(i, j) for i in range(len(names)) for j in range(i + 1, len(names))]
        whole = not wide.isna().any(axis=None)  # then all pairs have the same replicates, averaged once
        units = rep.units(wide).to_numpy()
        tests = [_paired(units[:, [i, j]] if whole else rep.units(wide.iloc[:, [i, j]]).to_numpy()) for i, j in pairs]
        adjusted = intervals.holm(np.array([p for _, p in tests], dtype=float))
        better, worse = np.zeros(len(names), int), np.zeros(len(names), int)  # shown to be better, worse than each
        for (i, j), (difference, _), p in zip(pairs, tests, adjusted, strict=True):
            if p <= ALPHA:
                ahead, behind = (i, j) if difference > 0 else (j, i)
                better[behind] += 1
                worse[ahead] += 1
        cells = []
        for place, name in enumerate(names):
            of = intervals.mean(units[:, place] if whole else rep.units(wide[[name]])[name].to_numpy())
            ends = (1 + int(better[place]), len(names) - int(worse[place]))
            cells.append((*ends, name, family[name], of.value, of.low, of.high, int(wide[name].count())))
        cells.sort(key=lambda cell: (-cell[4], cell[2]))
        ranked += [(int(str(size)), 1 + sum(other[4] > cell[4] for other in cells), *cell) for cell in cells]
    columns = ["size", "rank", "rank_low", "rank_high", "backbone", "family", metric, "low", "high", "n"]
    return pd.DataFrame(ranked, columns=columns)


def _paired(units: Vector) -> tuple[float, float]:
    """Return the mean difference of two backbones and its two-sided p. units: (units, 2), the metric of each."""
    if not len(units):
        return math.nan, math.nan
    of = intervals.mean(units[:, 0] - units[:, 1])
    return of.value, intervals.p_value(of)

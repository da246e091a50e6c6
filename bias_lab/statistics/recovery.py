"""How much of the shortfall a start recovers, or a backbone of the user's own removes."""

import math
from typing import Any

import pandas as pd

from bias_lab import schema
from bias_lab.statistics import intervals
from bias_lab.statistics import replicates as rep
from bias_lab.statistics.conditions import METRIC, Where, is_from_scratch

RECOVERY = [*schema.START, "size", "recovery", "low", "high", "gain", "shortfall", "n"]
REMOVED = ["backbone", "size", "share", "low", "high", "gain", "shortfall", "n"]


def recovery(
    table: pd.DataFrame, *, of: str = "vit", against: str = "cnn", metric: str = METRIC, where: Where = None
) -> pd.DataFrame:
    """Return the share of the shortfall that each start recovers: (of after the start − of) / (against − of).

    Arguments and errors are those of `shortfall`. Returns regime, protocol, source, size, recovery, low, high, gain,
    shortfall (means, in the metric's unit), n (replicates). Numerator and denominator are means over the same
    replicates. `low, high` is Fieller's 95 % interval of their ratio, infinite where the shortfall can't be told from
    0. A recovery of 1 means that the start closes the gap, and NaN that there is no shortfall to recover.
    """
    rows = rep.comparable(table, scratch=False, where=where, metric=metric)
    scratch = is_from_scratch(rows)
    base, reference = (rep.wide(rep.select(rows[scratch], name), metric) for name in (of, against))
    ours = rep.select(rows, of)
    records = []
    for start, part in ours[~scratch[ours.index]].groupby(list(schema.START)):
        records += [(*start, *share) for share in shares(rep.wide(part, metric), base, reference)]
    return pd.DataFrame(records, columns=RECOVERY)


def removed(
    table: pd.DataFrame, *, of: str = "vit", against: str = "cnn", metric: str = METRIC, where: Where = None
) -> pd.DataFrame:
    """Return the share of the shortfall that each own backbone removes: (own − of) / (against − of), from scratch.

    Arguments and errors are those of `shortfall`. Returns a row for each backbone of the user's (see `replicates.own`)
    and size: backbone, size, share, low, high, gain, shortfall, n, as in `recovery`.
    """
    rows = rep.comparable(table, where=where, metric=metric)
    sides = rep.select(rows, of), rep.select(rows, against)
    base, reference = (rep.wide(side, metric) for side in sides)
    records = []
    for name in sorted(rep.own(rows) - {*sides[0]["backbone"], *sides[1]["backbone"]}):
        after = rep.wide(rows[rows["backbone"] == name], metric)
        records += [(name, *share) for share in shares(after, base, reference)]
    return pd.DataFrame(records, columns=REMOVED)


def shares(after: pd.DataFrame, base: pd.DataFrame, reference: pd.DataFrame) -> list[tuple[Any, ...]]:
    """Return (size, share, low, high, gain, shortfall, n) for the sizes that all three have.

    after, base, reference: as `replicates.wide` gives them.
    """
    records: list[tuple[Any, ...]] = []
    for size in sorted(set(after.columns) & set(base.columns) & set(reference.columns)):
        part = pd.concat({"after": after[size], "base": base[size], "reference": reference[size]}, axis=1).dropna()
        if not len(part):
            continue
        unit = rep.units(part)
        gain = (unit["after"] - unit["base"]).to_numpy(dtype=float)
        gap = (unit["reference"] - unit["base"]).to_numpy(dtype=float)
        ratio = intervals.ratio(gain, gap)
        share = (ratio.value, ratio.low, ratio.high) if gap.mean() > 0 else (math.nan, math.nan, math.nan)
        records.append((int(size), *share, float(gain.mean()), float(gap.mean()), len(part)))
    return records

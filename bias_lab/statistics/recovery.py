"""How much of the shortfall is won back: by a regime, or by a backbone of the user's own."""

import math
from typing import Any

import pandas as pd

from bias_lab.statistics import intervals
from bias_lab.statistics import replicates as rep

RECOVERY = ["regime", "protocol", "source", "size", "recovery", "low", "high", "gain", "shortfall", "n"]
REMOVED = ["backbone", "size", "share", "low", "high", "gain", "shortfall", "n"]


def recovery(table: pd.DataFrame, *, of: str = "vit", against: str = "cnn") -> pd.DataFrame:
    """The share of the shortfall that each regime wins back: (of after regime − of) / (against − of), at each size.

    Numerator and denominator are means over the same replicates; `low, high` is Fieller's 95 % interval of their ratio,
    infinite where the shortfall itself can't be told from 0. gain, shortfall: the two means. n counts replicates.
    1 means that the regime closes the gap; recovery is NaN where there is no shortfall to recover.
    """
    rows = rep.comparable(table, scratch=False)
    plain = rows[(rows["regime"] == "scratch") & (rows["protocol"] == "finetune")]
    base, reference = rep.wide(rep.select(plain, of)), rep.wide(rep.select(plain, against))
    ours = rep.select(rows, of)
    source = ours["source"].fillna("") if "source" in ours else pd.Series("", index=ours.index)
    others = ours.assign(source=source)[~ours.index.isin(plain.index)]
    made = []
    for (regime, protocol, origin), part in others.groupby(["regime", "protocol", "source"]):
        after = rep.wide(part)
        made += [(regime, protocol, origin, *found) for found in shares(after, base, reference)]
    return pd.DataFrame(made, columns=RECOVERY)


def removed(table: pd.DataFrame, *, of: str = "vit", against: str = "cnn") -> pd.DataFrame:
    """The share of the shortfall that each own backbone removes: (own − of) / (against − of), from scratch.

    Fieller's interval, as in `recovery`. A row for each backbone of the user's (see `replicates.own`) and size.
    """
    rows = rep.comparable(table)
    sides = rep.select(rows, of), rep.select(rows, against)
    base, reference = rep.wide(sides[0]), rep.wide(sides[1])
    made = []
    for name in sorted(rep.own(rows) - {*sides[0]["backbone"], *sides[1]["backbone"]}):
        made += [(name, *found) for found in shares(rep.wide(rows[rows["backbone"] == name]), base, reference)]
    return pd.DataFrame(made, columns=REMOVED)


def shares(after: pd.DataFrame, base: pd.DataFrame, reference: pd.DataFrame) -> list[tuple[Any, ...]]:
    """size, share, low, high, gain, shortfall, n: for the sizes that all three have."""
    made: list[tuple[Any, ...]] = []
    for size in sorted(set(after.columns) & set(base.columns) & set(reference.columns)):
        part = pd.concat({"after": after[size], "base": base[size], "reference": reference[size]}, axis=1).dropna()
        if not len(part):
            continue
        unit = rep.units(part)
        gain = (unit["after"] - unit["base"]).to_numpy(dtype=float)
        gap = (unit["reference"] - unit["base"]).to_numpy(dtype=float)
        found = intervals.ratio(gain, gap)
        share = (found.value, found.low, found.high) if gap.mean() > 0 else (math.nan, math.nan, math.nan)
        made.append((int(size), *share, float(gain.mean()), float(gap.mean()), len(part)))
    return made

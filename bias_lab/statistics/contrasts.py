"""Compare runs beyond CNN against ViT from scratch: along any axis, from one start for both, after every start.

Each result is a table with both intervals of `gaps` (over replicates, and with test images too) and a p that is
Holm-corrected over all its rows.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from bias_lab import schema
from bias_lab.catalogue import REGIMES
from bias_lab.statistics import conditions, intervals
from bias_lab.statistics import replicates as rep
from bias_lab.statistics.conditions import METRIC, Where
from bias_lab.statistics.gaps import between
from bias_lab.statistics.recovery import shares, untrained_sizes

_START = list(schema.START)
_PRETRAINED = ("backbone", "regime", "source")  # what a pretraining has in common with the runs that start from it
_HOW = _START[:-1]  # regime and protocol, whatever the source
_ENDS = ["low", "high", "low_any", "high_any", "n", "units", "unit", "p_smallest", "test_se", "p", "p_holm", "shared"]
ARMS = ["value", *_START, "size", "shortfall", *_ENDS, "gone", "gone_low", "gone_high"]
MOVED = ["value", "backbone", *_START, "size", "change", *_ENDS]
LIKEWISE = [*_START, "size", "shortfall", *_ENDS, "left", "left_low", "left_high", "untrained"]
GAINS = ["gain", *_ENDS, "behind", "behind_low", "behind_high", "seen_before", "untrained"]


def arms(
    table: pd.DataFrame,
    *,
    axis: str = "intervention",
    of: str = "vit",
    against: str = "cnn",
    metric: str = METRIC,
    where: Where = None,
    comparison: str = "",
) -> pd.DataFrame:
    """Return the shortfall under each value of an axis, and how much of the reference value's shortfall is gone.

    axis: one of `axes`. The runs are those from scratch. Where the axis does not vary among them (a field of the
    pretraining), they are those of each start in which it does, and a side without that start is taken from scratch.
    Other arguments and errors are those of `shortfall`. Raises UserError too for a name that can't be an axis.
    Returns a row a value (the reference first) and size: value, regime, protocol, source, size, the columns of `gaps`,
    gone, gone_low, gone_high. gone: the reference's shortfall minus this one's, paired over replicates that have both,
    with its t interval, in the metric's unit (NaN for the reference). Empty where the axis has one value.
    """
    parts = []
    by_value = _by_value(table, axis, metric, where, comparison)
    for start in _starts(axis, by_value):
        base = None
        for value, rows in by_value.items():
            ours, theirs = (_side(rep.select(rows, name), start) for name in (of, against))
            paired = rep.pairs(ours, theirs, metric)
            part = between(ours, theirs, metric).assign(value=value, **start)
            base = paired if base is None else base
            both = base.merge(paired, on=rep.KEY, suffixes=("_base", ""))
            both["gone"] = both["difference_base"] - both["difference"]
            gone = both.iloc[:0] if base is paired else both
            part[["gone", "gone_low", "gone_high"]] = _intervals(gone, "gone", part["size"])
            parts.append(part)
    return _joined(parts, ARMS)


def moved(
    table: pd.DataFrame, *, axis: str = "intervention", metric: str = METRIC, where: Where = None, comparison: str = ""
) -> pd.DataFrame:
    """Return how far each backbone's own metric moves under each value of an axis, against its reference, paired.

    A backbone that is indifferent to the axis has a change whose interval is narrow and holds 0. Arguments and errors
    are those of `arms`. Runs of every start are compared with runs of the same start.
    Returns a row a value, backbone, start and size: value, backbone, regime, protocol, source, size, change (in the
    metric's unit) and the columns of `gaps`. Empty where the axis has one value. A backbone that moves in no replicate,
    such as a linear classifier whose pixels are permuted, is not tested: its p is NaN and does not count for Holm.
    """
    key = ["backbone", *_START]
    by_value = _by_value(table, axis, metric, where, comparison)
    having = {value: rows[conditions.has(rows, axis, value)].groupby(key) for value, rows in by_value.items()}
    parts: list[pd.DataFrame] = []
    base: dict[Any, pd.DataFrame] = {}
    for place, (value, cells) in enumerate(having.items()):
        if place == 0:  # the reference
            base = dict(tuple(cells))
        for cell, part in cells if place else ():
            if cell in base:
                own = between(base[cell], part, metric).rename(columns={"shortfall": "change"})
                own["p"] = own["p"].mask((own[["change", "low", "high"]] == 0).all(axis=1))
                parts.append(own.assign(value=value, **dict(zip(key, map(str, cell), strict=True))))
    return _joined(parts, MOVED)


def _by_value(table: pd.DataFrame, axis: str, metric: str, where: Where, comparison: str) -> dict[Any, pd.DataFrame]:
    """Return value → its comparable rows of every start, the reference first. Empty for an axis of one value."""
    conditions.check_axis(axis)
    rep.check(table, metric)
    values = conditions.values(table, axis, comparison)
    if len(values) < 2:
        return {}
    wanted = {value: {**(where or {}), axis: value} for value in values}
    return {
        value: rep.comparable(table, scratch=False, where=w, metric=metric, comparison=comparison)
        for value, w in wanted.items()
    }


def _starts(axis: str, by_value: Mapping[Any, pd.DataFrame]) -> list[dict[str, str]]:
    """Return the starts in which an axis varies, which is scratch alone if it varies there."""
    having = [rows[conditions.has(rows, axis, value)] for value, rows in by_value.items()]
    if not having:
        return []
    default = {name: str(schema.DEFAULTS[name]) for name in _START}
    counts = pd.concat([rows[_START].drop_duplicates() for rows in having]).value_counts()
    several = [dict(zip(_START, map(str, start), strict=True)) for start in sorted(counts[counts > 1].index)]
    return [default] if default in several else several


def _side(rows: pd.DataFrame, start: Mapping[str, str]) -> pd.DataFrame:
    """Return the rows of one start, or those from scratch if it has none."""
    same = (rows[_START] == pd.Series(start)).all(axis=1)
    return rows[same if same.any() else conditions.is_from_scratch(rows)]


def likewise(
    table: pd.DataFrame,
    *,
    of: str = "vit",
    against: str = "cnn",
    metric: str = METRIC,
    where: Where = None,
    comparison: str = "",
) -> pd.DataFrame:
    """Return the shortfall where both sides start alike: from weights, or after one and the same pretraining.

    Arguments and errors are those of `shortfall`. Sources are matched by name (see `matched`).
    Returns regime, protocol, source, size, the columns of `gaps`, left, left_low, left_high. left: this shortfall as a
    share of that from scratch, over replicates that have all four runs, with Fieller's interval, whose ends are
    infinite where the shortfall from scratch can't be told from 0. untrained: as in `recovery`.
    """
    rows = rep.comparable(table, scratch=False, where=where, comparison=comparison, metric=metric)
    scratch = conditions.is_from_scratch(rows)
    base = rep.select(rows[scratch], of), rep.select(rows[scratch], against)
    parts = []
    for (regime, protocol), part in rows[~scratch & ~conditions.is_control(rows)].groupby(_HOW):
        for source, ours, theirs in matched(rep.select(part, of), rep.select(part, against), str(regime)):
            same = between(ours, theirs, metric).assign(regime=str(regime), protocol=str(protocol), source=source)
            untrained = untrained_sizes(ours) | untrained_sizes(theirs)
            same["untrained"] = same["size"].isin(list(untrained))
            left = {size: ends for size, *ends, _, _, _ in shares((ours, theirs), base, metric)}
            ends = [left.get(int(size), (math.nan,) * 3) for size in same["size"]]
            same[["left", "left_low", "left_high"]] = pd.DataFrame(
                ends, index=same.index, columns=range(3), dtype=float
            )
            parts.append(same)
    return _joined(parts, LIKEWISE)


def matched(ours: pd.DataFrame, theirs: pd.DataFrame, regime: str) -> Iterable[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """Yield (source, ours, theirs) where both sides start from one source.

    Weights from elsewhere belong to one model. Where each backbone has only one source of them, those are compared, and
    source is ''. Two sources of any other regime are two treatments, whose difference is not due to backbones.
    """
    sources = [set(side["source"].fillna("")) for side in (ours, theirs)]
    for source in sorted(sources[0] & sources[1]):
        yield source, ours[ours["source"].fillna("") == source], theirs[theirs["source"].fillna("") == source]
    apart = _is_ready_made(regime) and not sources[0] & sources[1] and len(ours) and len(theirs)
    if apart and all((side.groupby("backbone")["source"].nunique() <= 1).all() for side in (ours, theirs)):
        yield "", ours, theirs


def _is_ready_made(regime: str) -> bool:
    """Return whether a regime starts from weights that the lab did not compute."""
    row = REGIMES.get(regime)
    return row is not None and not row.module and regime != schema.DEFAULTS["regime"]


def gains(
    table: pd.DataFrame, *, against: str = "cnn", metric: str = METRIC, where: Where = None, comparison: str = ""
) -> pd.DataFrame:
    """Return what every backbone gains by each start over its own runs from scratch, and how far behind it then is.

    Arguments and errors are those of `shortfall`. table: with the rows of the pretraining runs too.
    Returns backbone, family, regime, protocol, source, size, the metric (mean), gain (after minus scratch, paired), the
    columns of `gaps`, behind, behind_low, behind_high, seen_before. behind: `against` from scratch minus this,
    paired, with its t interval. seen_before: images seen in the lab's own pretraining at this image size, before the
    first label (of the same subset where the pretraining was on one), or NaN for weights from elsewhere. untrained: as
    in `recovery`.
    """
    rows = rep.comparable(table, scratch=False, where=where, comparison=comparison, metric=metric)
    scratch = conditions.is_from_scratch(rows)
    reference = rep.select(rows[scratch], against)
    spent = table[table["task"].isin(conditions.PRETRAINS) & (table["status"] == "finished")]
    spent = spent[spent["image_size"].isin(rows["image_size"])]
    key = ["backbone", *_START]
    parts = []
    for cell, part in rows[~scratch & ~conditions.is_control(rows)].groupby(key):
        named = dict(zip(key, map(str, cell), strict=True))
        own = rows[scratch & (rows["backbone"] == named["backbone"])]
        gain = between(own, part, metric).rename(columns={"shortfall": "gain"})
        behind = rep.pairs(part, reference, metric)
        gain[["behind", "behind_low", "behind_high"]] = _intervals(behind, "difference", gain["size"])
        before = spent[(spent[list(_PRETRAINED)] == [named[name] for name in _PRETRAINED]).all(axis=1)]
        gain["seen_before"] = _seen(before, gain["size"])
        gain["untrained"] = gain["size"].isin(list(untrained_sizes(part)))
        means = {metric: gain["size"].map(part.groupby("size")[metric].mean())}
        parts.append(gain.assign(**named, family=str(part["family"].iloc[0]), **means))
    return _joined(parts, ["backbone", "family", *_START, "size", metric, *GAINS])


def _seen(before: pd.DataFrame, sizes: "pd.Series[Any]") -> "pd.Series[Any] | float":
    """Return the most images that a pretraining saw, by size where it was on a subset of that size."""
    seen = before["samples_seen"].astype(float)
    return sizes.map(seen.groupby(before["size"]).max()) if (before["size"] > 0).any() else float(seen.max())


def _intervals(paired: pd.DataFrame, column: str, sizes: "pd.Series[Any]") -> pd.DataFrame:
    """Return mean and interval of a column over replicates: a row a size, NaN where it has none."""
    means = {size: intervals.mean(values)[:3] for size, values in rep.independent(paired, column).items()}
    return pd.DataFrame([means.get(size, (math.nan,) * 3) for size in sizes], index=sizes.index, columns=range(3))


def _joined(parts: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    """Return one table, its p corrected over all rows."""
    whole = [part for part in parts if len(part)]
    table = pd.concat(whole, ignore_index=True) if whole else pd.DataFrame({name: [] for name in columns})
    return table.assign(p_holm=intervals.holm(table["p"].to_numpy(dtype=float)))[columns]

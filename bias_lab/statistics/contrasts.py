"""Contrasts beyond CNN against ViT from scratch: images with something taken away, one start for both, every gain.

Each is a table with both intervals of `gaps` (over replicates; with test images too) and a p that is Holm-corrected
over all its rows.
"""

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd

from bias_lab.statistics import intervals
from bias_lab.statistics import replicates as rep
from bias_lab.statistics.gaps import between
from bias_lab.statistics.recovery import shares

_ENDS = ["low", "high", "low_any", "high_any", "n", "units", "unit", "p_smallest", "test_se", "p", "p_holm"]
ARMS = ["intervention", "size", "shortfall", *_ENDS, "gone", "gone_low", "gone_high"]
MOVED = ["intervention", "backbone", "size", "change", *_ENDS]
LIKEWISE = ["regime", "protocol", "source", "size", "shortfall", *_ENDS, "left", "left_low", "left_high"]
GAINS = ["backbone", "family", "regime", "protocol", "source", "size", "top1", "gain", *_ENDS]
GAINS += ["behind", "behind_low", "behind_high", "seen_before"]


def arms(table: pd.DataFrame, *, of: str = "vit", against: str = "cnn") -> pd.DataFrame:
    """The shortfall under each intervention, from scratch, and how much of the plain images' is gone.

    A row an intervention ('' is none, first) and size. gone: the plain images' shortfall minus this one's, paired over
    replicates that have both, with its t interval; NaN for the plain row. Empty where no run has an intervention.
    """
    found: list[pd.DataFrame] = []
    plain: pd.DataFrame | None = None
    for name in ("", *interventions(table)):
        rows = rep.comparable(table, intervention=name)
        ours, theirs = rep.select(rows, of), rep.select(rows, against)
        paired = rep.pairs(ours, theirs)
        plain = paired if plain is None else plain
        both = plain.merge(paired, on=rep.KEY, suffixes=("_plain", ""))
        both["gone"] = both["difference_plain"] - both["difference"]
        gone = {size: _mean(part.set_index(["draw", "seed"])[["gone"]]) for size, part in both.groupby("size")}
        part = between(ours, theirs).assign(intervention=name)
        ends = [gone[size] if name and size in gone else (math.nan,) * 3 for size in part["size"]]
        part[["gone", "gone_low", "gone_high"]] = pd.DataFrame(ends, index=part.index, columns=range(3), dtype=float)
        found.append(part)
    return _joined(found, ARMS) if len(found) > 1 else _joined([], ARMS)


def moved(table: pd.DataFrame) -> pd.DataFrame:
    """How far each backbone's own accuracy moves under each intervention, from scratch: with it minus without, paired.

    A backbone that is indifferent to the intervention has a change whose interval holds 0, and is narrow.
    """
    plain = rep.comparable(table)
    found = []
    for name in interventions(table):
        rows = rep.comparable(table, intervention=name)
        for backbone, part in rows.groupby("backbone"):
            own = between(plain[plain["backbone"] == backbone], part)
            found.append(own.rename(columns={"shortfall": "change"}).assign(intervention=name, backbone=str(backbone)))
    return _joined(found, MOVED)


def interventions(table: pd.DataFrame) -> list[str]:
    """The interventions that finished runs have, in the order of the table; none: an empty list."""
    rep.check(table)
    done = table[(table["status"] == "finished") & (table["task"] == "classify")]
    return [str(name) for name in done["intervention"].dropna().unique() if name]


def likewise(table: pd.DataFrame, *, of: str = "vit", against: str = "cnn") -> pd.DataFrame:
    """The shortfall where both sides start alike: from weights, or after one and the same pretraining.

    left: this shortfall as a share of that from scratch, over replicates that have all four runs, with Fieller's
    interval; infinite ends where the shortfall from scratch can't be told from 0. Sources are matched by name; weights
    are of a model: where each backbone has one source of its own, those are compared, and source is ''.
    """
    rows = rep.comparable(table, scratch=False)
    scratch = _scratch(rows)
    base = [rep.wide(rep.select(rows[scratch], name)) for name in (of, against)]
    found = []
    for (regime, protocol), part in rows[~scratch].groupby(["regime", "protocol"]):
        for source, ours, theirs in matched(rep.select(part, of), rep.select(part, against), str(regime)):
            named = dict(regime=str(regime), protocol=str(protocol), source=source)
            made = between(ours, theirs).assign(**named)
            left = {size: (share, low, high) for size, share, low, high, *_ in _left(ours, theirs, base)}
            ends = [left.get(int(size), (math.nan,) * 3) for size in made["size"]]
            shares_left = pd.DataFrame(ends, index=made.index, columns=range(3), dtype=float)
            made[["left", "left_low", "left_high"]] = shares_left
            found.append(made)
    return _joined(found, LIKEWISE)


def matched(ours: pd.DataFrame, theirs: pd.DataFrame, regime: str) -> Iterable[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """(source, ours, theirs) where both sides start from one source; of weights, each backbone's only ones: source ''.

    Two sources of any other regime are two treatments: their difference would be no backbone's.
    """
    sources = [set(side["source"].fillna("")) for side in (ours, theirs)]
    for source in sorted(sources[0] & sources[1]):
        yield source, ours[ours["source"].fillna("") == source], theirs[theirs["source"].fillna("") == source]
    apart = regime == "weights" and not sources[0] & sources[1] and len(ours) and len(theirs)
    if apart and all((side.groupby("backbone")["source"].nunique() <= 1).all() for side in (ours, theirs)):
        yield "", ours, theirs


def _left(ours: pd.DataFrame, theirs: pd.DataFrame, base: list[pd.DataFrame]) -> list[tuple[Any, ...]]:
    """size, share left, low, high, …: (theirs − ours) / (theirs − ours from scratch)."""
    after, before = rep.wide(theirs) - rep.wide(ours), base[1] - base[0]
    nothing = before * 0.0
    return shares(after, nothing, before)


def gains(table: pd.DataFrame, *, against: str = "cnn") -> pd.DataFrame:
    """What every backbone gains by each start over its own runs from scratch, and how far behind `against` it then is.

    gain: after minus from scratch, paired. behind: `against` from scratch minus this, paired, with its t interval.
    seen_before: images seen in the lab's own pretraining at this image size, before the first
    label: of the subset that it looked at, where it did (NaN for weights from elsewhere).
    """
    rows = rep.comparable(table, scratch=False)
    scratch = _scratch(rows)
    reference = rep.select(rows[scratch], against)
    spent = table[(table["task"] == "pretrain") & (table["status"] == "finished")]
    spent = spent[spent["image_size"].isin(rows["image_size"])]
    found = []
    for key, part in rows[~scratch].groupby(["backbone", "regime", "protocol", "source"]):
        backbone, regime, protocol, source = map(str, key)
        made = between(rows[scratch & (rows["backbone"] == backbone)], part).rename(columns={"shortfall": "gain"})
        behind = between(part, reference).set_index("size").reindex(made["size"])
        made["behind"], made["behind_low"], made["behind_high"] = (
            behind[name].to_numpy(dtype=float) for name in ("shortfall", "low", "high")
        )
        own = spent[(spent["backbone"] == backbone) & (spent["regime"] == regime) & (spent["source"] == source)]
        named = dict(backbone=backbone, family=str(part["family"].iloc[0]), regime=regime, protocol=protocol)
        top1 = made["size"].map(part.groupby("size")["top1"].mean())
        seen = own["samples_seen"].astype(float)
        before = made["size"].map(seen.groupby(own["size"]).max()) if source == "subset" else float(seen.max())
        found.append(made.assign(**named, source=source, top1=top1, seen_before=before))
    return _joined(found, GAINS)


def _scratch(rows: pd.DataFrame) -> "pd.Series[bool]":
    return (rows["regime"] == "scratch") & (rows["protocol"] == "finetune")


def _mean(frame: pd.DataFrame) -> tuple[float, float, float]:
    of = intervals.mean(rep.units(frame).iloc[:, 0].to_numpy(dtype=float))
    return of.value, of.low, of.high


def _joined(found: list[pd.DataFrame], columns: list[str]) -> pd.DataFrame:
    """One table, its p corrected over all rows."""
    whole = [part for part in found if len(part)]
    made = pd.concat(whole, ignore_index=True) if whole else pd.DataFrame({name: [] for name in columns})
    return made.assign(p_holm=intervals.holm(made["p"].to_numpy(dtype=float)))[columns]

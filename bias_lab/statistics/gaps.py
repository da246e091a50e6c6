"""The shortfall: how far one group of backbones lies below another at each size, and what the numbers answer."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from bias_lab import schema
from bias_lab.statistics import curves, intervals
from bias_lab.statistics import replicates as rep
from bias_lab.statistics.conditions import METRIC, Where
from bias_lab.statistics.intervals import ALPHA

SHORTFALL = ["size", "shortfall", "low", "high", "low_any", "high_any", "n"]
_CHUNK = 2048  # rows of `correct` unpacked at a time: bounds the memory at any number of runs


def shortfall(
    table: pd.DataFrame, *, of: str = "vit", against: str = "cnn", metric: str = METRIC, where: Where = None
) -> pd.DataFrame:
    """Return Δ(N): the mean of `against` minus that of `of` at each size, paired over replicates, from scratch.

    table: a results table. of, against: a backbone, an architecture or a family; a group is averaged over its backbones
    within a replicate. metric: a real column of role metric. where: a condition, as in `select_condition`.
    Returns size (images), shortfall, low, high, low_any, high_any (in the metric's unit; 95 % intervals), n (pairs).
    `low, high`: Student's t over replicates, on this test set (over draws where a draw has several seeds). `low_any,
    high_any`: with the sampling of test images too, all models resampled on the same images (column `correct`, which
    holds for accuracy; NaN without it). One pair has no interval (NaN). Runs that collapsed are kept.
    Raises UserError for a table that mixes datasets or image sizes, lacks a column, or holds percents.

    >>> from bias_lab.results import typed
    >>> runs = dict(status="finished", task="classify", regime="scratch", protocol="finetune", size=100, seed=0,
    ...             architecture=["vit"] * 2 + ["resnet"] * 2, family=["transformer"] * 2 + ["cnn"] * 2,
    ...             backbone=["vit_micro"] * 2 + ["resnet_micro"] * 2, draw=[0, 1] * 2, top1=[0.50, 0.54, 0.70, 0.72])
    >>> shortfall(typed(pd.DataFrame(runs)))[["size", "shortfall", "low", "high", "n"]].round(2)
       size  shortfall   low  high  n
    0   100       0.19  0.06  0.32  2
    """
    return gaps(table, of=of, against=against, metric=metric, where=where).loc[:, SHORTFALL]


def gaps(
    table: pd.DataFrame, *, of: str = "vit", against: str = "cnn", metric: str = METRIC, where: Where = None
) -> pd.DataFrame:
    """Return `shortfall` and what stands behind it.

    Arguments and errors are those of `shortfall`. Further columns: units (independent values: draws, or seeds of one
    draw), unit (`draw` or `seed`), sd (of a unit), test_se (standard error from the sampling of test images), collapsed
    (runs among them), p (two-sided, with test images where they are known), p_permutation (sign flips of units),
    p_smallest (the least that so many units can reach), p_holm (p, Holm-corrected over sizes).
    """
    rows = rep.comparable(table, where=where, metric=metric)
    for name in (of, against):
        rep.select(table, name)  # a name that even failed rows lack is a misspelling
    return between(rep.select(rows, of), rep.select(rows, against), metric)


def between(ours: pd.DataFrame, theirs: pd.DataFrame, metric: str = METRIC) -> pd.DataFrame:
    """Return the columns of `gaps` for any two sets of comparable rows: theirs − ours at each size that both have."""
    paired = rep.pairs(ours, theirs, metric)
    at = [dict(tuple(rows.groupby("size"))) for rows in (ours, theirs)]
    found = [_gap(size, part, at[0][size], at[1][size], metric) for size, part in paired.groupby("size")]
    columns = [*SHORTFALL, "units", "unit", "sd", "test_se", "collapsed", "p", "p_permutation", "p_smallest"]
    result = pd.DataFrame(found, columns=columns)
    return result.assign(p_holm=intervals.holm(result["p"].to_numpy(dtype=float)))


def _gap(size: Any, paired: pd.DataFrame, ours: pd.DataFrame, theirs: pd.DataFrame, metric: str) -> dict[str, Any]:
    unit = rep.unit_of(paired)
    values = paired.groupby(unit)["difference"].mean().to_numpy(dtype=float)
    of = intervals.mean(values)
    used = [_used(part, paired) for part in (ours, theirs)]
    test_se, images = _test_noise(used[0], used[1], paired, unit) if metric == METRIC else (math.nan, 0)
    half = intervals.both_noises(of, test_se)
    permutation, smallest = intervals.sign_flips(values)
    return {
        "size": int(size), "shortfall": of.value, "low": of.low, "high": of.high,
        "low_any": of.value - half, "high_any": of.value + half, "n": len(paired), "units": of.k, "unit": unit,
        "sd": of.sd, "test_se": test_se, "collapsed": sum(_collapsed(part) for part in used),
        "p": intervals.p_value(of, test_se, 1 / images if images else 0.0),
        "p_permutation": permutation, "p_smallest": smallest,
    }  # fmt: skip


def _used(rows: pd.DataFrame, paired: pd.DataFrame) -> pd.DataFrame:
    """Return the runs behind the pairs of one size, each with its pair's weight in its group's mean."""
    here = rows
    if len(rows) != len(paired) * rows["backbone"].nunique():
        key = list(schema.REPLICATE)
        whole = pd.MultiIndex.from_frame(paired[key])
        here = rows[pd.MultiIndex.from_frame(rows[key]).isin(whole)]
    return here.assign(weight=1.0 / max(1, here["backbone"].nunique()))


def _collapsed(rows: pd.DataFrame) -> int:
    return int(rows["collapsed"].fillna(False).astype(bool).sum()) if "collapsed" in rows else 0


def _test_noise(ours: pd.DataFrame, theirs: pd.DataFrame, paired: pd.DataFrame, unit: str) -> tuple[float, int]:
    """Return the standard error from the sampling of test images, and their number; (NaN, 0) where it is unknown."""
    if not {"correct", "test_images"} <= set(ours.columns):
        return math.nan, 0
    images = {*theirs["test_images"], *ours["test_images"]}
    if len(images) != 1 or pd.isna(next(iter(images))):
        return math.nan, 0
    T = int(images.pop())
    if ours["correct"].isna().any() or theirs["correct"].isna().any() or paired[unit].nunique() < 2:
        return math.nan, T
    runs = pd.concat([theirs.assign(sign=1.0), ours.assign(sign=-1.0)], ignore_index=True)
    width = (T + 7) // 8
    if any(len(bits) != width for bits in runs["correct"]):
        return math.nan, T
    names = {name: place for place, name in enumerate(sorted(paired[unit].unique()))}
    of_unit = runs[unit].map(names).to_numpy(dtype=np.intp)
    a_unit = np.bincount(paired[unit].map(names).to_numpy(dtype=np.intp))  # pairs in each unit
    weight = (runs["sign"] * runs["weight"]).to_numpy(dtype=float) / a_unit[of_unit]
    bits = runs["correct"].to_numpy()
    difference = np.zeros((len(names), T))
    for start in range(0, len(runs), _CHUNK):
        part = slice(start, start + _CHUNK)
        right = np.unpackbits(np.frombuffer(b"".join(bits[part]), np.uint8).reshape(-1, width), axis=1, count=T)
        here = (of_unit[part], np.arange(len(right)))
        difference += csr_array((weight[part], here), shape=(len(names), len(right))) @ right.astype(np.float64)
    return intervals.image_noise(difference), T


# --- the answer -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What a table answers to the question how far `of` falls short of `against`, in numbers.

    verdict: `shortfall` (shown at `sizes`), `crossover` (a shortfall at `sizes`, a lead at larger ones), `lead` (`of`
    is ahead at `sizes`, behind at none), `none` (no difference is shown at any size), `unknown` (no pair of runs, or
    too few replicates for an interval). sizes: those at which the verdict's claim is made. gaps: the rows of `gaps`.
    meeting: the row of `crossover`, where the curves meet between sizes and the verdict leaves the place open.
    """

    verdict: Literal["shortfall", "crossover", "lead", "none", "unknown"]
    sizes: tuple[int, ...]
    gaps: pd.DataFrame
    meeting: Mapping[str, Any] | None = None


def answer(
    table: pd.DataFrame, *, of: str = "vit", against: str = "cnn", metric: str = METRIC, where: Where = None
) -> Answer:
    """Return what may be claimed, Holm-corrected over sizes, so that at most one null table in 20 gives a claim.

    Arguments and errors are those of `shortfall`. A size is claimed if its Holm-adjusted p is at most `ALPHA`; p
    includes the sampling of test images where it is known.
    """
    rows = gaps(table, of=of, against=against, metric=metric, where=where)
    if rows["p"].isna().all():
        return Answer("unknown", (), rows)
    claimed = rows["p_holm"] <= ALPHA
    below, above = rows[claimed & (rows["shortfall"] > 0)], rows[claimed & (rows["shortfall"] < 0)]
    verdict: Literal["shortfall", "crossover", "lead", "none"] = "lead" if len(above) else "none"
    meeting = None
    if len(below):
        verdict = "crossover" if len(above) and above["size"].min() > below["size"].max() else "shortfall"
        if verdict == "crossover" or not claimed.iloc[-1]:
            place = curves.crossover(table, of=of, against=against, metric=metric, where=where).to_dict("records")[0]
            meeting = None if place["bound"] else {str(name): value for name, value in place.items()}
    sizes = (below if len(below) else above)["size"]
    return Answer(verdict, tuple(int(size) for size in sizes), rows, meeting)

"""The shortfall: how far one group of backbones lies below another at each size, and what the numbers answer."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from bias_lab.statistics import curves, images, intervals
from bias_lab.statistics import replicates as rep
from bias_lab.statistics.conditions import METRIC, Where
from bias_lab.statistics.intervals import ALPHA, Vector

SHORTFALL = ["size", "shortfall", "low", "high", "low_any", "high_any", "n"]


def shortfall(
    table: pd.DataFrame,
    *,
    of: str = "vit",
    against: str = "cnn",
    metric: str = METRIC,
    where: Where = None,
    comparison: str = "",
) -> pd.DataFrame:
    """Return Δ(N): the mean of `against` minus that of `of` at each size, paired over replicates, from scratch.

    table: a results table. of, against: a backbone, an architecture or a family. A group is averaged over its backbones
    within a replicate. metric: a real column of role metric. where, comparison: as in `select_condition`.
    Returns size (images), shortfall, low, high, low_any, high_any (95 % intervals in the metric's unit), n (pairs).
    `low, high`: Student's t over replicates, on this test set (over draws where a draw has several seeds). `low_any,
    high_any`: with the sampling of test images too, all models resampled on the same images (column `correct`, which
    holds for accuracy, else NaN). One pair has no interval (NaN). Runs that collapsed are kept.
    Raises UserError for a table that mixes datasets or image sizes, lacks a column, or holds percents.

    >>> from bias_lab.results import typed
    >>> runs = dict(status="finished", task="classify", regime="scratch", protocol="finetune", size=100, seed=0,
    ...             architecture=["vit"] * 2 + ["resnet"] * 2, family=["transformer"] * 2 + ["cnn"] * 2,
    ...             backbone=["vit_micro"] * 2 + ["resnet_micro"] * 2, draw=[0, 1] * 2, top1=[0.50, 0.54, 0.70, 0.72])
    >>> shortfall(typed(pd.DataFrame(runs)))[["size", "shortfall", "low", "high", "n"]].round(2)
       size  shortfall   low  high  n
    0   100       0.19  0.06  0.32  2
    """
    return gaps(table, of=of, against=against, metric=metric, where=where, comparison=comparison).loc[:, SHORTFALL]


def gaps(
    table: pd.DataFrame,
    *,
    of: str = "vit",
    against: str = "cnn",
    metric: str = METRIC,
    where: Where = None,
    comparison: str = "",
) -> pd.DataFrame:
    """Return the columns of `shortfall` and what they rest on.

    Arguments and errors are those of `shortfall`. Further columns: units (independent values: draws, or seeds of one
    draw), unit (`draw` or `seed`), sd (of a unit), test_se (standard error from the sampling of test images), collapsed
    (runs among them), p (two-sided, with test images where they are known), p_permutation (sign flips of units),
    p_smallest (the least that so many units can reach), p_holm (p, Holm-corrected over sizes).
    """
    rows = rep.comparable(table, where=where, comparison=comparison, metric=metric)
    for name in (of, against):
        rep.select(table, name)  # a name that even failed rows lack is a misspelling
    return between(rep.select(rows, of), rep.select(rows, against), metric)


def between(ours: pd.DataFrame, theirs: pd.DataFrame, metric: str = METRIC) -> pd.DataFrame:
    """Return the columns of `gaps` for any two sets of comparable rows: theirs − ours at each size that both have.

    shared: whether replicates of a side start from one pretraining, so that the intervals are given that pretraining.
    """
    paired = rep.pairs(ours, theirs, metric)
    sides = [images.by_size(rows) for rows in (ours, theirs)]
    values = rep.independent(paired)
    shared = rep.shared_sizes(ours) | rep.shared_sizes(theirs)
    records = []
    for size, pairs in images.by_size(paired).items():
        used = [images.used(side[size], pairs) for side in sides]
        unit = rep.unit_of(pairs)
        right, T = images.difference(used[0], used[1], pairs, metric)
        noise = (math.nan if right is None else intervals.image_noise(right)), T
        collapsed = sum(int(side["collapsed"].sum()) for side in used if "collapsed" in side)
        counts = {
            "size": int(size),
            "n": len(pairs["draw"]),
            "unit": unit,
            "collapsed": collapsed,
            "shared": size in shared,
        }
        records.append(counts | numbers(values[size], *noise))
    columns = [*SHORTFALL, "units", "unit", "sd", "test_se", "collapsed", "shared", "p", "p_permutation", "p_smallest"]
    result = pd.DataFrame(records, columns=columns)
    return result.assign(p_holm=intervals.holm(result["p"].to_numpy(dtype=float)))


def numbers(values: Vector, test_se: float, T: int) -> dict[str, Any]:
    """Return the columns of `gaps` that one size's differences give.

    values: (units,) independent differences. T: number of test images, 0 if it is unknown.
    """
    of = intervals.mean(values)
    half = intervals.both_noises(of, test_se)
    permutation, smallest = intervals.sign_flips(values)
    return {
        "shortfall": of.value, "low": of.low, "high": of.high, "low_any": of.value - half, "high_any": of.value + half,
        "units": of.k, "sd": of.sd, "test_se": test_se,
        "p": intervals.p_value(of, test_se, 1 / T if T else 0.0),
        "p_permutation": permutation, "p_smallest": smallest,
    }  # fmt: skip


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
    table: pd.DataFrame,
    *,
    of: str = "vit",
    against: str = "cnn",
    metric: str = METRIC,
    where: Where = None,
    comparison: str = "",
    without: Collection[int] = (),
) -> Answer:
    """Return what may be claimed, Holm-corrected over sizes, so that at most one null table in 20 gives a claim.

    Arguments and errors are those of `shortfall`. A size is claimed if its Holm-adjusted p is at most `ALPHA`. p
    includes the sampling of test images where it is known. without: sizes at which nothing may be claimed. They count
    in the correction, since their flags come from the same runs, and are then left out.
    """
    rows = gaps(table, of=of, against=against, metric=metric, where=where, comparison=comparison)
    rows, table = (frame[~frame["size"].isin(list(without))] for frame in (rows, table))
    if rows["p"].isna().all():
        return Answer("unknown", (), rows)
    claimed = rows["p_holm"] <= ALPHA
    below, above = rows[claimed & (rows["shortfall"] > 0)], rows[claimed & (rows["shortfall"] < 0)]
    verdict: Literal["shortfall", "crossover", "lead", "none"] = "lead" if len(above) else "none"
    meeting = None
    if len(below):
        verdict = "crossover" if len(above) and above["size"].min() > below["size"].max() else "shortfall"
        if verdict == "crossover" or not claimed.iloc[-1]:
            place = curves.crossover(
                table, of=of, against=against, metric=metric, where=where, comparison=comparison
            ).to_dict("records")[0]
            meeting = None if place["bound"] else {str(name): value for name, value in place.items()}
    sizes = (below if len(below) else above)["size"]
    return Answer(verdict, tuple(int(size) for size in sizes), rows, meeting)

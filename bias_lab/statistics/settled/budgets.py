"""Accuracy against the number of images seen: in the runs of a table, and on the ladders of the tuning table."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from bias_lab import schema, tuning
from bias_lab.statistics import comparisons, conditions, intervals
from bias_lab.statistics import replicates as rep
from bias_lab.statistics.comparisons import RECIPE, TUNED
from bias_lab.statistics.conditions import METRIC, SEEN, Where
from bias_lab.statistics.gaps import SHORTFALL, between
from bias_lab.statistics.settled.decomposition import train_of

IMAGES = "images_seen"
BY_BUDGET = ["size", "backbone", "family", RECIPE, IMAGES, "mean", "low", "high", "train", "n", "settled"]
BUDGET_GAPS = ["size", RECIPE, IMAGES, *SHORTFALL[1:], "test_se", "p", "p_holm"]
RUNGS = [*tuning.KEY, "learning_rate", SEEN, "holdout_top1", "gain", "n", "is_chosen", "settled"]


def of_every_budget(table: pd.DataFrame, *, where: Where = None, metric: str = METRIC) -> pd.DataFrame:
    """Return the comparable rows from scratch of both comparisons, whatever their recipe and number of images seen.

    Other axes are at their reference. Of two runs of a cell, recipe, replicate and number of images, which differ in
    the learning rate, the one of the settled comparison is kept. Adds the column `images_seen` (whole number).
    """
    free = [name for name in (*TUNED, "budget") if name not in (where or {})]
    rep.check(table, metric)
    found = [one for one in comparisons.COMPARISONS if comparisons.serves(table, one).any()][::-1] or [""]
    parts = [conditions.select_condition(table, where, free=free, comparison=one) for one in found]
    rows = pd.concat([part[part[metric].notna() & part[SEEN].notna()] for part in parts])
    rows = rep.light(rows[conditions.is_from_scratch(rows)])
    rep.check_one_dataset(rows)
    rows = rows.assign(**{IMAGES: rows[SEEN].astype("int64"), RECIPE: rows[RECIPE].fillna("")})
    return rows.drop_duplicates([*schema.CELL, RECIPE, IMAGES, *schema.REPLICATE], ignore_index=True)


def by_budget(
    table: pd.DataFrame, *, metric: str = METRIC, train: str = "", where: Where = None, comparison: str = ""
) -> pd.DataFrame:
    """Return the metric of every backbone against the images that it saw in training, from scratch.

    table: a results table. Rows of both comparisons and of every budget count, unless `comparison` names one. train:
    the column of the metric on the training images (default: `train_of`). where: as in `select_condition`. Errors are
    those of `shortfall`.
    Returns size (labelled images), backbone, family, recipe, images_seen, mean (in the metric's unit), low, high
    (95 %, Student's t over replicates, NaN for one), train (mean), n (replicates), settled (whether these runs are at
    the settled budget of a settled cell), sorted by size, backbone, recipe and images seen.

    >>> from bias_lab.results import typed
    >>> runs = dict(status="finished", task="classify", regime="scratch", protocol="finetune", size=100, seed=0, draw=0,
    ...             backbone="vit_micro", samples_seen=[16_000, 32_000], top1=[0.5, 0.6], train_top1=[0.7, 0.9])
    >>> by_budget(typed(pd.DataFrame(runs)))[["size", "backbone", "images_seen", "mean", "train", "n"]]
       size   backbone  images_seen  mean  train  n
    0   100  vit_micro        16000   0.5    0.7  1
    1   100  vit_micro        32000   0.6    0.9  1
    """
    rows = of_every_budget(_named(table, comparison), where=where, metric=metric)
    train = train or train_of(metric)
    rep.check(table, train)
    records = []
    for (size, name, recipe, images), part in rows.groupby(["size", "backbone", RECIPE, IMAGES]):
        values = rep.independent(part, metric)[size]
        of = intervals.mean(values)
        is_settled = "settled" in part and bool(part["settled"].fillna(False).astype(bool).all())
        cell = (int(str(size)), name, part["family"].iloc[0], recipe, int(str(images)))
        records.append((*cell, of.value, of.low, of.high, float(part[train].mean()), len(part), is_settled))
    return pd.DataFrame(records, columns=BY_BUDGET)


def budget_gaps(
    table: pd.DataFrame,
    *,
    of: str = "vit",
    against: str = "cnn",
    metric: str = METRIC,
    where: Where = None,
    comparison: str = "",
) -> pd.DataFrame:
    """Return the shortfall at each number of images that both groups have seen under one recipe, from scratch.

    Arguments are those of `by_budget` and `shortfall`, and so are the errors.
    Returns size, recipe, images_seen, shortfall, low, high, low_any, high_any, n, test_se and p as in `gaps`, p_holm
    (Holm-corrected over all rows).
    """
    rows = of_every_budget(_named(table, comparison), where=where, metric=metric)
    ours, theirs = (rep.select(rows, name) for name in (of, against))
    parts = []
    for (recipe, images), part in theirs.groupby([RECIPE, IMAGES]):
        same = ours[(ours[RECIPE] == recipe) & (ours[IMAGES] == images)]
        parts.append(between(same, part, metric).assign(recipe=str(recipe), images_seen=int(str(images))))
    whole = [part for part in parts if len(part)]
    result = pd.concat(whole, ignore_index=True) if whole else pd.DataFrame({name: [] for name in BUDGET_GAPS})
    result["p_holm"] = intervals.holm(result["p"].to_numpy(dtype=float))
    return result.sort_values(["size", RECIPE, IMAGES], kind="stable", ignore_index=True)[BUDGET_GAPS]


def rungs(tuned: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the ladders of the tuning table: a row for each number of images tried at a cell's best learning rate.

    tuned: rows of the tuning table (`Results.tuned["rows"]`, see `bias_lab.tuning`). Rows whose budget was not searched
    have none. Returns the fields of `tuning.KEY` (the cell), learning_rate, samples_seen (images), holdout_top1 (mean
    accuracy on the hold-out, a fraction), gain (over the number of images before, NaN for the first), n (tuning
    replicates), is_chosen (whether it is the settled budget), settled (whether the cell is settled).

    >>> trials = [dict(learning_rate=0.001, samples_seen=images, top1=top1, n=3)
    ...           for images, top1 in ((16_000, 0.50), (32_000, 0.54), (64_000, 0.536))]
    >>> cell = dict(dataset="mnist", backbone="vit_micro", recipe="plain", regime="scratch", size=100)
    >>> row = dict(cell, learning_rate=0.001, samples_seen=32_000, settled=True, trials=trials)
    >>> rungs([row])[["samples_seen", "holdout_top1", "gain", "n", "is_chosen"]].round(3)
       samples_seen  holdout_top1   gain  n  is_chosen
    0         16000         0.500    NaN  3      False
    1         32000         0.540  0.040  3       True
    2         64000         0.536 -0.004  3      False
    """
    parts = []
    for row in tuned:
        if SEEN not in row:
            continue
        climbed = [one for one in row["trials"] if one["learning_rate"] == row["learning_rate"]]
        ladder = pd.DataFrame(climbed).sort_values(SEEN, ignore_index=True).rename(columns={"top1": "holdout_top1"})
        ladder = ladder.assign(gain=ladder["holdout_top1"].diff(), is_chosen=ladder[SEEN] == row[SEEN])
        cell = dict(zip(tuning.KEY, tuning.key(row), strict=True))
        parts.append(ladder.assign(**cell, settled=bool(row.get("settled")))[RUNGS])
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({name: [] for name in RUNGS})


def _named(table: pd.DataFrame, comparison: str) -> pd.DataFrame:
    """Return the rows of a comparison that was named, or the whole table."""
    return comparisons.compared(table, comparison)[0] if comparison else table

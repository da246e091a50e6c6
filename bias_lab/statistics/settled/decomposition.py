"""Split a shortfall into what the groups differ by on their training images, and what they differ by beyond these."""

import math

import numpy as np
import pandas as pd

from bias_lab import schema
from bias_lab.statistics import intervals
from bias_lab.statistics import replicates as rep
from bias_lab.statistics.conditions import METRIC, Where
from bias_lab.statistics.gaps import SHORTFALL, between
from bias_lab.statistics.intervals import Vector

TRAIN = "train_top1"  # accuracy on the training images, without augmentation
_PARTS = ["training", "training_low", "training_high", "generalisation", "generalisation_low", "generalisation_high"]
_PARTS += ["generalisation_low_any", "generalisation_high_any", "share", "share_low", "share_high"]
_MEANS = ["of_train", "against_train", "of_test", "against_test"]
DECOMPOSITION = [*SHORTFALL[:-1], *_PARTS, *_MEANS, "n", "units", "unit"]


def decomposition(
    table: pd.DataFrame,
    *,
    of: str = "vit",
    against: str = "cnn",
    metric: str = METRIC,
    train: str = "",
    where: Where = None,
    comparison: str = "",
) -> pd.DataFrame:
    """Return the shortfall at each size as the sum of a training part and a generalisation part, from scratch.

    training part: difference in `train`. generalisation part: difference in the train-test gap, which is `train` minus
    `metric`. Both are `against` minus `of` as the shortfall is, so that shortfall = training + generalisation.
    train: the column of the metric on the training images (default: `train_of`). Other arguments and errors are those
    of `shortfall`.
    Returns a row a size, all differences in the metric's unit: size, shortfall, low, high, low_any, high_any (as in
    `shortfall`), training, training_low, training_high (95 %, Student's t over replicates; it has no test-image noise),
    generalisation, generalisation_low, generalisation_high, generalisation_low_any, generalisation_high_any, share,
    share_low, share_high, of_train, against_train, of_test, against_test (means), n (pairs), units, unit. share:
    training part / shortfall with Fieller's interval, which includes the sampling of test images where it is known.
    All three are NaN where the shortfall can't be told from 0, because a share of nothing is not determined.
    Replicates without `train` are left out.

    >>> from bias_lab.results import typed
    >>> runs = dict(status="finished", task="classify", regime="scratch", protocol="finetune", size=100, seed=0,
    ...             architecture=["vit"] * 2 + ["resnet"] * 2, family=["transformer"] * 2 + ["cnn"] * 2,
    ...             backbone=["vit_micro"] * 2 + ["resnet_micro"] * 2, top1=[0.50, 0.54, 0.80, 0.82], draw=[0, 1] * 2,
    ...             train_top1=[0.60, 0.65, 0.98, 0.99])
    >>> result = decomposition(typed(pd.DataFrame(runs)))
    >>> result[["size", "shortfall", "training", "generalisation", "share"]].round(2)
       size  shortfall  training  generalisation  share
    0   100       0.29      0.36           -0.07   1.24
    """
    rows = rep.comparable(table, where=where, metric=metric, comparison=comparison)
    train = train or train_of(metric)
    rep.check(table, train)
    rows = rows[rows[train].notna()]
    ours, theirs = (rep.select(rows, name) for name in (of, against))
    whole = between(ours, theirs, metric)
    by_metric = rep.independent(rep.pairs(ours, theirs, metric))
    by_train = rep.independent(rep.pairs(ours, theirs, train))
    noise = zip(whole["size"], whole["test_se"], strict=True)
    parts = [_parts(by_metric[size], by_train[size], float(test_se)) for size, test_se in noise]
    means = _means(ours, theirs, metric, train)
    split = pd.DataFrame(parts, columns=_PARTS, index=whole.index, dtype=float)
    levels = pd.DataFrame([means[size] for size in whole["size"]], columns=_MEANS, index=whole.index, dtype=float)
    return pd.concat([whole, split, levels], axis=1)[DECOMPOSITION]


def train_of(metric: str) -> str:
    """Return the column of a metric on the training images, that of accuracy for a metric without one.

    >>> train_of("top1"), train_of("miou"), train_of("macro_f1")
    ('train_top1', 'train_miou', 'train_top1')
    """
    return f"train_{metric}" if f"train_{metric}" in schema.COLUMNS else TRAIN


def _parts(total: Vector, fit: Vector, test_se: float) -> dict[str, float]:
    """Return the parts of one size. total, fit: (units,) differences in the metric and on the training images."""
    training, rest = intervals.mean(fit), intervals.mean(total - fit)
    half = intervals.both_noises(rest, test_se)
    shared = None if math.isnan(test_se) else np.diag([0.0, test_se**2])
    share = intervals.ratio(fit, total, shared=shared)
    found = (share.value, share.low, share.high) if math.isfinite(share.low) else (math.nan,) * 3
    values = (training.value, training.low, training.high, rest.value, rest.low, rest.high)
    return dict(zip(_PARTS, (*values, rest.value - half, rest.value + half, *found), strict=True))


def _means(ours: pd.DataFrame, theirs: pd.DataFrame, metric: str, train: str) -> dict[int, tuple[float, ...]]:
    """Return size → the means of both groups on training and test images, over replicates that both have."""
    sides = [rep.averaged(rows, name) for name in (train, metric) for rows in (ours, theirs)]
    joined = sides[0][rep.KEY]
    for place, side in enumerate(sides):
        values = side.rename(columns={train: str(place), metric: str(place)})
        joined = joined.merge(values, on=rep.KEY)
    names = [str(place) for place in range(len(sides))]
    return {int(str(size)): tuple(part[names].mean()) for size, part in joined.groupby("size")}

"""Compare backbones where they fit their training images equally well, along budgets that were run."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bias_lab import schema
from bias_lab.statistics import images, intervals
from bias_lab.statistics import replicates as rep
from bias_lab.statistics.comparisons import RECIPE, compared
from bias_lab.statistics.conditions import METRIC, Where
from bias_lab.statistics.gaps import SHORTFALL, numbers
from bias_lab.statistics.intervals import Vector
from bias_lab.statistics.settled.budgets import IMAGES, of_every_budget
from bias_lab.statistics.settled.decomposition import train_of

MATCHED = ["size", RECIPE, "fit", *SHORTFALL[1:-1], "of", "against", "images_of", "images_against"]
MATCHED += ["n", "units", "unit", "test_se", "p", "p_holm"]
_BITS = (*images.NEEDED, *schema.REPLICATE)


class _Path(NamedTuple):
    """One backbone's runs of one replicate along its budgets, the smallest first."""

    images: Vector
    train: Vector
    test: Vector
    runs: pd.DataFrame


class _Point(NamedTuple):
    """What lies between two neighbouring runs of a path: their places, and the weight of the second one."""

    first: int
    second: int
    weight: float


def matched_fit(
    table: pd.DataFrame,
    *,
    of: str = "vit",
    against: str = "cnn",
    metric: str = METRIC,
    train: str = "",
    where: Where = None,
    comparison: str = "",
    levels: int = 3,
) -> pd.DataFrame:
    """Return the shortfall at equal training accuracy, at each size and recipe with several budgets, from scratch.

    Along the budgets of one backbone and replicate, the test accuracy at a training accuracy is read off where the
    training accuracy first reaches it, on the straight line between the two runs around that place. `levels` training
    accuracies are compared, evenly spaced over the range that every path reaches within its own runs. Nothing is
    extrapolated: a backbone with one budget, or two whose ranges do not meet, have no row. The paths of a group are
    averaged within a replicate. Rows of both comparisons count unless `comparison` names one. train: the column of the
    metric on the training images. Other arguments and errors are those of `shortfall`.
    Returns size, recipe, fit (the common training accuracy), shortfall, low, high, low_any, high_any (as in
    `shortfall`, at this fit), of, against (mean test accuracies there), images_of, images_against (geometric mean of
    the images seen until then), n (pairs), units, unit, test_se, p as in `gaps`, p_holm (Holm-corrected over all rows).
    The levels are ends of ranges that were measured, so they differ a little between repetitions of a study.

    >>> from bias_lab.results import typed
    >>> runs = dict(status="finished", task="classify", regime="scratch", protocol="finetune", size=100, seed=0, draw=0,
    ...             architecture=["vit"] * 2 + ["resnet"] * 2, family=["transformer"] * 2 + ["cnn"] * 2,
    ...             backbone=["vit_micro"] * 2 + ["resnet_micro"] * 2, samples_seen=[16_000, 64_000] * 2,
    ...             train_top1=[0.6, 0.9, 0.8, 1.0], top1=[0.50, 0.56, 0.62, 0.70])
    >>> matched_fit(typed(pd.DataFrame(runs)), levels=2)[["fit", "shortfall", "of", "against"]].round(2)
       fit  shortfall    of  against
    0  0.8       0.08  0.54     0.62
    1  0.9       0.10  0.56     0.66
    """
    rows = compared(table, comparison)[0] if comparison else table
    train = train or train_of(metric)
    rep.check(rows, train)
    rows = of_every_budget(rows, where=where, metric=metric)
    rows = rows[rows[train].notna()]
    records: list[dict[str, Any]] = []
    for (size, recipe), part in rows.groupby(["size", RECIPE]):
        sides = [_paths(rep.select(part, name), metric, train) for name in (of, against)]
        if all(sides) and (both := sorted(set(sides[0]) & set(sides[1]))):
            paths = [{key: side[key] for key in both} for side in sides]
            cell = {"size": int(str(size)), RECIPE: recipe}
            records += [cell | _at(paths, fit, metric) for fit in _fits(paths, levels)]
    result = pd.DataFrame(records, columns=MATCHED)
    return result.assign(p_holm=intervals.holm(result["p"].to_numpy(dtype=float)))


_Paths = dict[tuple[int, int], list[_Path]]  # (draw, seed) → a path for each backbone of the group


def _paths(rows: pd.DataFrame, metric: str, train: str) -> _Paths:
    """Return the paths of a group, for the replicates in which each of its backbones has several budgets."""
    paths: _Paths = {}
    curve, members = [*schema.REPLICATE, "backbone"], rows["backbone"].nunique()
    several = rows[rows.duplicated(curve, keep=False)]  # first, as most curves of a large table have one budget
    for (draw, seed, _), part in several.groupby(curve):
        runs = part.sort_values(IMAGES)
        seen, fit, test = (runs[name].to_numpy(dtype=float) for name in (IMAGES, train, metric))
        paths.setdefault((int(str(draw)), int(str(seed))), []).append(_Path(seen, fit, test, runs))
    return {key: found for key, found in paths.items() if len(found) == members}


def _fits(sides: list[_Paths], levels: int) -> list[float]:
    """Return the training accuracies to compare at: those that every path passes, from its first budget on."""
    every = [path for side in sides for group in side.values() for path in group]
    low, high = max(path.train[0] for path in every), min(path.train.max() for path in every)
    if low > high:
        return []
    return [float(low)] if low == high or levels == 1 else [float(fit) for fit in np.linspace(low, high, levels)]


def _place(path: _Path, fit: float) -> _Point:
    """Return where a path's training accuracy first reaches a value that lies within its range."""
    second = int(np.argmax(path.train >= fit - 1e-12))
    if second == 0:
        return _Point(0, 0, 1.0)
    step = path.train[second] - path.train[second - 1]
    return _Point(second - 1, second, float(min(1.0, max(0.0, (fit - path.train[second - 1]) / step))))


def _at(sides: list[_Paths], fit: float, metric: str) -> dict[str, Any]:
    """Return the numbers of one training accuracy. sides: the paths of `of` and `against`, of the same replicates."""
    keys = list(sides[0])
    replicates = {name: np.array([key[k] for key in keys]) for k, name in enumerate(schema.REPLICATE)}
    tests, seen, runs = [], [], []
    for side in sides:
        places = {key: [(path, _place(path, fit)) for path in side[key]] for key in keys}
        tests.append(np.array([np.mean([_between(path.test, at) for path, at in places[key]]) for key in keys]))
        logs = [_between(np.log(path.images), at) for key in keys for path, at in places[key]]
        seen.append(float(np.exp(np.mean(logs))))
        runs.append(_weighted([one for key in keys for one in places[key]], len(side[keys[0]])))
    paired = pd.DataFrame({"size": 0, **replicates, "difference": tests[1] - tests[0]})
    right, T = images.difference(runs[0], runs[1], replicates, metric)
    gap = numbers(rep.independent(paired)[0], float("nan") if right is None else intervals.image_noise(right), T)
    levels = dict(of=float(tests[0].mean()), against=float(tests[1].mean()))
    counts = dict(n=len(keys), unit=rep.unit_of(replicates), images_of=seen[0], images_against=seen[1])
    return {"fit": fit, **gap, **levels, **counts}


def _between(values: Vector, at: _Point) -> float:
    return float((1 - at.weight) * values[at.first] + at.weight * values[at.second])


def _weighted(places: list[tuple[_Path, _Point]], members: int) -> dict[str, Any]:
    """Return the runs behind interpolated accuracies as `images.used` does, each with its weight in its group's mean.

    Columns that the table lacks are left out.
    """
    parts = []
    for path, at in places:
        ends = [(at.second, at.weight)] + ([(at.first, 1 - at.weight)] if at.first != at.second else [])
        run = path.runs.iloc[[place for place, _ in ends]]
        parts.append(run[[n for n in _BITS if n in run]].assign(weight=[weight / members for _, weight in ends]))
    joined = pd.concat(parts, ignore_index=True)
    return {str(name): column.to_numpy() for name, column in joined.items()}

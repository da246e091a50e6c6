"""Tell which sizes allow a claim: both groups are settled where that is asked, did not collapse, are above chance."""

import math
from collections.abc import Mapping

import pandas as pd
from scipy.special import ndtri

from bias_lab import catalogue
from bias_lab.statistics import conditions, intervals
from bias_lab.statistics import replicates as rep
from bias_lab.statistics.comparisons import SETTLED, compared
from bias_lab.statistics.conditions import METRIC, Where
from bias_lab.statistics.intervals import LEVEL
from bias_lab.statistics.settled.chance import chance

Flags = dict[str, tuple[str, ...]]  # what forbids a claim → the backbones concerned
CEILING = 0.97  # accuracy of both groups above which little is left to differ by
_NAN = math.nan


def unsound(
    table: pd.DataFrame,
    *,
    of: str = "vit",
    against: str = "cnn",
    metric: str = METRIC,
    where: Where = None,
    comparison: str = "",
) -> dict[int, Flags]:
    """Return size → what forbids a claim about two groups there. Sizes that allow one are left out.

    Arguments and errors are those of `shortfall`. Flags: `unsettled` (where settled cells are compared) and those of
    `broken`. A size without runs of both groups is left out too.
    """
    found = conditions.finished(table)
    name = compared(found, comparison)[1]
    rows = rep.comparable(table, where=where, metric=metric, comparison=comparison)
    level, largest = chance(found), majority_of(found)
    flagged: dict[int, Flags] = {}
    for size in sorted({int(n) for n in rows["size"]}):
        here = rows[rows["size"] == size]
        sides = {group: rep.select(here, group) for group in (of, against)}
        if any(not len(side) for side in sides.values()):
            continue
        both = pd.concat(list(sides.values()))
        flags = {"unsettled": unsettled(both) if name == SETTLED else (), **broken(sides, metric, level, largest)}
        if any(flags.values()):
            flagged[size] = {flag: names for flag, names in flags.items() if names}
    return flagged


def broken(sides: Mapping[str, pd.DataFrame], metric: str, level: float, largest: float) -> Flags:
    """Return what forbids a claim about runs of one size, however they were trained, each with its backbones or ().

    sides: group → its rows. level: `chance`. largest: `majority_of`.
    Flags: `collapsed` (a run predicts one class or has dead features), `at_chance` (the mean is not shown to be above
    chance), `at_majority` (above chance, but not above the share of the largest class), and `ceiling` (both groups, by
    their names, have a mean of `CEILING` or more).
    """
    both = pd.concat(list(sides.values()))
    low = at_level(both, metric, level)
    means = [side.groupby("backbone")[metric].mean().mean() for side in sides.values()]
    is_high = all(mean >= CEILING for mean in means)  # NaN, of a side without rows, is not
    return {
        "collapsed": collapsed(both),
        "at_chance": low,
        "at_majority": tuple(name for name in at_level(both, metric, largest) if name not in low),
        "ceiling": tuple(sides) if is_high else (),
    }


def unsettled(rows: pd.DataFrame) -> tuple[str, ...]:
    """Return the backbones with a row that is not known to be settled, sorted."""
    known = rows["settled"].fillna(False).astype(bool) if "settled" in rows else pd.Series(False, index=rows.index)
    return tuple(sorted(map(str, rows.loc[~known, "backbone"].unique())))


def collapsed(rows: pd.DataFrame) -> tuple[str, ...]:
    """Return the backbones with a run that predicts one class or has dead features, sorted."""
    if "collapsed" not in rows:
        return ()
    return tuple(sorted(map(str, rows.loc[rows["collapsed"].fillna(False).astype(bool), "backbone"].unique())))


def at_level(rows: pd.DataFrame, metric: str, level: float) -> tuple[str, ...]:
    """Return the backbones whose mean is not shown to be above a level that needs no learning, sorted.

    rows: of one size. level: NaN where it is unknown, and then no backbone is at it.
    """
    cells = {str(name): part for name, part in rows.groupby("backbone")}
    return tuple(sorted(name for name, part in cells.items() if _is_at_level(part, metric, level)))


def _is_at_level(rows: pd.DataFrame, metric: str, level: float) -> bool:
    """Return whether a backbone's mean accuracy is not shown to be above a level.

    The one-sided interval holds the scatter of replicates, if there are several, and of binomial test images, if their
    number is known.
    """
    of = intervals.mean(rep.independent(rows, metric)[int(rows["size"].iloc[0])])
    count = float(rows["test_images"].iloc[0]) if "test_images" in rows else _NAN
    binomial = math.sqrt(of.value * (1 - of.value) / count) if count > 0 else 0.0
    scatter = of.value - of.low if of.k > 1 else 0.0
    return bool(of.value - math.hypot(scatter, float(ndtri((1 + LEVEL) / 2)) * binomial) <= level)


def majority_of(rows: pd.DataFrame) -> float:
    """Return the share of the largest class among the test images, NaN where it is unknown.

    It is what the runs recorded, the largest value if test images differ between runs. A table without that column has
    the share in the catalogue's counts of its dataset.
    """
    recorded = rows["majority"].max() if "majority" in rows else _NAN
    if not pd.isna(recorded):
        return float(recorded)
    known = catalogue.DATASETS.get(str(rows["dataset"].iloc[0])) if len(rows) else None
    return max(known.class_counts) / sum(known.class_counts) if known is not None and known.class_counts else _NAN

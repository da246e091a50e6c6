"""The level of a metric that needs no learning: one over the number of classes, or what the runs recorded."""

import math

import pandas as pd

from bias_lab import catalogue


def chance(rows: pd.DataFrame) -> float:
    """Return the level that needs no learning, a fraction, or NaN where it is unknown.

    rows: of one dataset. For accuracy it is 1 / classes. A mean IoU has no such number, because it depends on the sizes
    of the classes. There it is the value of the constant prediction of the class that most training pixels have
    (`catalogue.Task.chance` names the column), the largest one if training images differ between runs. A table without
    that column has no level.

    >>> chance(pd.DataFrame({"task": ["classify"], "classes": [10]}))
    0.1
    >>> chance(pd.DataFrame({"task": ["segment"] * 2, "classes": [4] * 2, "constant_miou": [0.15, 0.17]}))
    0.17
    """
    columns = {catalogue.TASKS[str(name)].chance for name in rows["task"].unique()} if "task" in rows else {""}
    if columns != {""}:
        known = pd.concat([rows[name].dropna() for name in columns if name in rows] or [pd.Series(dtype=float)])
        return float(known.max()) if len(known) else math.nan
    counts = rows["classes"].dropna() if "classes" in rows else pd.Series(dtype=float)
    return 1 / float(counts.iloc[0]) if len(counts) else math.nan

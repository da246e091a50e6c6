"""Say how the cells of a headline were trained: as their hold-outs prefer, or under a recipe that somebody gave.

Recipes may differ between sizes, and between settled cells and runs at equal images. Sentences say so.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from bias_lab import schema, statistics, tuning
from bias_lab.report.evidence.headline import HOW, PREFERRED, UNTIL, in_quotes
from bias_lab.statistics import AtSize
from bias_lab.statistics.comparisons import EQUAL, SETTLED


def how(view: pd.DataFrame, of: str, at: AtSize, tuned: Iterable[Mapping[str, Any]]) -> str:
    """Return in words how the settled cells of one size were trained.

    view: one of `findings.split`. tuned: rows of the tuning table that the plan used. A hold-out prefers a recipe only
    where another one was searched too. A cell without a row is taken at its word, since its table has no more to say.
    """
    cells = _cells(view, (of, *at.members), at.size, SETTLED)
    searched: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for row in tuned:
        if row["dataset"] == view["dataset"].iloc[0] and row["size"] == at.size and _is_plain_start(row):
            key = (row["backbone"], tuning.value(row, "optimizer"))
            searched[key][tuning.value(row, "recipe")] = float(row.get("holdout_top1", 0.0))
    given = [
        recipe
        for backbone, optimizer, recipe in cells
        if (known := searched[backbone, optimizer]) and (len(known) < 2 or known.get(recipe) != max(known.values()))
    ]
    recipes = {recipe for _, _, recipe in cells}
    if not given:
        is_chosen = len(recipes) == 1 and all(searched[backbone, optimizer] for backbone, optimizer, _ in cells)
        return f'{PREFERRED} (recipe "{cells[0][2]}"){UNTIL}' if is_chosen else HOW
    under = f' under the "{given[0]}" recipe alone' if len(recipes) == 1 else ""
    return f"each trained{under}{UNTIL}"


def of_equal(view: pd.DataFrame, of: str, at: AtSize) -> str:
    """Return ', under the "plain" recipe,' where runs at equal images have other recipes than settled cells, or ''."""
    settled, equal = (
        {recipe for *_, recipe in _cells(view, (of, *at.members), at.size, comparison)}
        for comparison in (SETTLED, EQUAL)
    )
    if not equal or equal == settled:
        return ""
    return f", under the {in_quotes(sorted(equal))} recipe{'s' if len(equal) > 1 else ''},"


def _cells(view: pd.DataFrame, names: Iterable[str], size: int, comparison: str) -> list[tuple[str, str, str]]:
    """Return (backbone, optimizer, recipe) of the cells that a headline compares, settled or at equal images."""
    rows = statistics.comparable(view, comparison=comparison)
    rows = rows[rows["size"] == size]
    part = pd.concat([statistics.select(rows, name) for name in names])
    return list(part[["backbone", "optimizer", "recipe"]].drop_duplicates().itertuples(index=False, name=None))


def _is_plain_start(row: Mapping[str, Any]) -> bool:
    """Return whether a row of the tuning table is of a backbone as it is, from scratch, on images as they are."""
    names = ("regime", "priors", "intervention", "protocol")
    return all(tuning.value(row, name) == schema.DEFAULTS[name] for name in names)

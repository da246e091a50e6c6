"""The recipes behind a figure: which cells no line joins, and the sentences of a caption that say so."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import pandas as pd

from bias_lab.report.figures.chart import Point, Series
from bias_lab.report.sentences import listed, sizes_in_words


def by_size(rows: pd.DataFrame) -> dict[int, frozenset[str]]:
    """Return size → recipes of the rows with a training budget of their own, without sizes that have no such rows."""
    return {int(str(size)): frozenset(part) for size, part in _trained(rows).groupby("size")["recipe"]}


def _trained(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["comparison"].fillna("") != ""]


def mark_apart(points: Iterable[Point], recipes: Mapping[int, frozenset[str]]) -> tuple[Point, ...]:
    """Return points by size, those marked whose recipes are others than those of the point before."""
    found: list[Point] = []
    for point in points:
        before = recipes.get(int(found[-1].x)) if found else None
        found.append(replace(point, apart=bool(before) and before != recipes.get(int(point.x))))
    return tuple(found)


def break_note(series: Iterable[Series]) -> str:
    """Return the sentence of a caption on lines that are broken, '' without any."""
    is_apart = any(point.apart for line in series for point in line.points)
    return " No line joins cells that were trained under different recipes." if is_apart else ""


def side_by_side(rows: pd.DataFrame, names: Mapping[str, str]) -> str:
    """Return the sentences of a caption on sizes whose backbones were trained under different recipes, '' without any.

    rows: of the figure. names: backbone → in a label.
    """
    said: dict[str, list[int]] = {}
    for size, part in _trained(rows).groupby("size"):
        under = {str(recipe): sorted(set(cells)) for recipe, cells in part.groupby("recipe")["backbone"]}
        if len(under) > 1:
            each = [f'{listed([names[one] for one in under[recipe]])} under "{recipe}"' for recipe in sorted(under)]
            said.setdefault(", and ".join(each), []).append(int(str(size)))
    return "".join(f" At {sizes_in_words(sizes)} the recipes differ: {words}." for words, sizes in said.items())

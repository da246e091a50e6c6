"""Report the ladders of tuning: what each doubling of the images seen brought on the hold-out, and where it ended."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from bias_lab import statistics, tuning
from bias_lab.report.figures import rungs as figure
from bias_lab.report.pages import Cell, Section, Table, word
from bias_lab.report.sentences import value_words
from bias_lab.report.tables import SIZE, Column, as_number, in_points, in_whole, in_words, table_of


def section(tuned: Iterable[Mapping[str, Any]], dataset: str, slug: str = "") -> Section:
    """Return the folded section on the ladders of one dataset.

    tuned: rows of the tuning table. slug: the prefix of the figure's name.
    """
    rungs = statistics.rungs([row for row in tuned if row.get("dataset") == dataset])
    if not len(rungs):
        return Section(name="ladders", title="")
    chosen = rungs[rungs["is_chosen"].astype(bool)]
    is_open = ~chosen["settled"].astype(bool)
    text = ["The number of images seen is doubled until the hold-out gains less than 1 point, for each cell by itself."]
    if is_open.any():
        text.append(f"{int(is_open.sum())} of {len(chosen)} ladders have not ended, so their cells are not settled.")
    title = "The ladders: how long each cell was trained"
    chart = figure.accuracy(rungs, varying(rungs), prefix=slug)
    return Section(name="ladders", title=title, text=tuple(text), charts=(chart,), tables=(table(rungs),), folded=True)


def varying(rungs: pd.DataFrame) -> list[str]:
    """Return the fields of a tuned cell, other than its backbone and size, that differ between these."""
    return [name for name in tuning.KEY if name not in ("dataset", "backbone", "size") and rungs[name].nunique() > 1]


def table(rungs: pd.DataFrame) -> Table:
    """Return the rows of `statistics.rungs`: images seen, hold-out accuracy, and the gain over the rung before."""
    may_end = " Above 99 % no doubling can gain as much, so a ladder may end there too."
    note = (
        "A ladder ends where the mean gain of its last doubling is below 1 point over at least 3 tuning replicates."
        f"{may_end * bool((rungs['holdout_top1'] > tuning.FULL).any())} The settled budget is its best rung. Test "
        "images play no part in it."
    )
    others = [name for name in varying(rungs) if name not in ("recipe", "optimizer")]
    return table_of(
        "Accuracy on the hold-out, rung by rung", rungs, in_words("backbone"), in_words("recipe"),
        in_words("optimizer"), *map(_in_value_words, others), SIZE,
        as_number("learning_rate", "{:g}", "rate", "learning rate, the best one at a small budget"),
        in_whole("samples_seen", "images seen", "in training, on this rung"),
        in_points("holdout_top1", "hold-out, %", "mean accuracy on the hold-out over tuning replicates"),
        in_points("gain", "gain", "points over the rung before, which has half the images"),
        in_whole("n", "n", "tuning replicates"), ("chosen", "the rung whose budget the cell takes", _chosen), note=note,
    )  # fmt: skip


def _in_value_words(name: str) -> Column:
    return name.replace("_", " "), "", lambda row: word(value_words(name, row[name]))


def _chosen(row: Mapping[str, Any]) -> Cell:
    if not row["is_chosen"]:
        return word("")
    return word("settled" if row["settled"] else "best so far, not settled")

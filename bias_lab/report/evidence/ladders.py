"""Report the ladders of tuning: what each doubling of the images seen brought on the hold-out, and where it ended."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from bias_lab.report.pages import Section, Table, word
from bias_lab.report.tables import SIZE, as_number, in_points, in_whole, in_words, table_of

GAIN = 0.01  # a last doubling that brings less than this on average ends a ladder


def table(rungs: pd.DataFrame) -> Table:
    """Return the rungs of every ladder: images seen, hold-out accuracy, and the gain over the rung before."""
    def chosen(row: Mapping[str, Any]) -> Any:
        return word("settled budget" if row["chosen"] and row["settled"] else "best so far" if row["chosen"] else "")

    note = (
        "A ladder ends where the mean gain of its last doubling is below 1 point over at least 3 tuning replicates. "
        "The settled budget is its best rung. The test images play no part in it."
    )
    return table_of(
        "Accuracy on the hold-out, rung by rung", rungs, in_words("backbone"), in_words("recipe"),
        in_words("optimizer"), SIZE, as_number("learning_rate", "{:g}", "rate", "learning rate, the best at a small budget"),
        in_whole("samples_seen", "images seen", "in training, on this rung"),
        in_points("top1", "hold-out, %", "mean accuracy on the hold-out of the tuning replicates"),
        in_points("gain", "gain", "points over the rung below, with half the images"),
        in_whole("n", "n", "tuning replicates"), ("", "the rung that was chosen", chosen), note=note if len(rungs) else "",
    )  # fmt: skip


def section(rungs: pd.DataFrame) -> Section:
    """Return the folded section on the ladders. rungs: rows of `statistics.rungs`."""
    text = ()
    if len(rungs):
        open_ones = rungs[rungs["chosen"].astype(bool) & ~rungs["settled"].astype(bool)]
        text = (
            "Each backbone has its budget found by itself: the number of images seen is doubled until the hold-out gains "
            "less than 1 point.",
            *((f"{len(open_ones)} of {int(rungs['chosen'].sum())} ladders did not end: these cells are not settled.",)
              if len(open_ones) else ()),
        )  # fmt: skip
    return Section(name="ladders", title="The ladders: how far each was trained", text=text, tables=(table(rungs),), folded=True)

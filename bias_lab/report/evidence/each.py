"""Report the shortfall of settled cells under each recipe alone and under each optimizer alone."""

import pandas as pd

from bias_lab import statistics
from bias_lab.report.pages import Section
from bias_lab.report.tables import ANY, CI, PAIRS, SIZE, in_points, in_words, table_of

CHOICES = ("recipe", "optimizer")


def section(view: pd.DataFrame) -> Section:
    """Return the section for a view with settled cells, empty where all of them have one recipe and one optimizer."""
    frames: list[pd.DataFrame] = []
    for what in CHOICES:
        found = [
            statistics.gaps(view, where={what: value}, comparison="settled").assign(choice=what, value=str(value))
            for value in statistics.values(view, what, "settled")
        ]
        known = [frame for frame in found if len(frame)]
        frames += known if len(known) > 1 else []  # one alone says nothing of the choice
    if not frames:
        return Section(name="each", title="")
    text = (
        "A settled cell takes the recipe that its own hold-out prefers. Here all cells share one recipe or optimizer."
    )
    shown = table_of(
        "The settled shortfall under one recipe or optimizer for all", pd.concat(frames),
        in_words("choice", "for all", "what all cells share"), in_words("value", "which"), SIZE,
        in_points("shortfall", "points", "mean accuracy of the CNNs minus plain ViT's"), CI, ANY, PAIRS,
    )  # fmt: skip
    return Section(name="each", title="Does it hold under each recipe and optimizer?", text=(text,), tables=(shown,))

"""Report the shortfall of settled cells under each recipe alone and under each optimizer alone."""

from typing import Any

import pandas as pd

from bias_lab import statistics
from bias_lab.report.evidence import claims, headline
from bias_lab.report.pages import Section
from bias_lab.report.sentences import sizes_in_words
from bias_lab.report.tables import ANY, CI, PAIRS, SIZE, in_points, in_words, table_of

CHOICES = ("recipe", "optimizer")


def section(view: pd.DataFrame, against: str = "cnn") -> Section:
    """Return the section for a view with settled cells, empty where all of them have one recipe and one optimizer.

    against: the group that is compared. Cells that allow no claim are named and left out of the table.
    """
    frames: list[pd.DataFrame] = []
    unsaid: list[str] = []
    by_optimizer, recipes = statistics.of_optimizers(view)
    for what in CHOICES:
        known = []
        rows = by_optimizer if what == "optimizer" else view
        for value in statistics.values(rows, what, "settled"):
            asked: dict[str, Any] = dict(against=against, where={what: value}, comparison="settled")
            within = f" (recipe {headline.in_quotes(recipes)})" if what == "optimizer" and recipes else ""
            frame = statistics.gaps(rows, **asked).assign(choice=what, value=headline.called(str(value)) + within)
            flagged = statistics.unsound(rows, **asked)
            known += [frame[~frame["size"].isin(list(flagged))]] if len(frame) else []
            if len(frame) and flagged:
                sizes = [int(size) for size in frame["size"]]
                at = sizes_in_words(list(flagged))
                unsaid.append(
                    f"Under {headline.called(str(value))} nothing is claimed at {at}: {claims.reasons(flagged, sizes)}."
                )
        frames += known if len(known) > 1 else []  # one alone says nothing of the choice
    if not frames:
        return Section(name="each", title="")
    text = (
        "A settled cell takes the recipe that its own hold-out prefers. Here all cells share one recipe or optimizer."
    )
    if recipes and any((frame["choice"] == "optimizer").any() for frame in frames):
        text += f" Optimizers are compared with the recipe that each of them has: {headline.in_quotes(recipes)}."
    text = " ".join([text, *unsaid])
    shown = table_of(
        "The settled shortfall under one recipe or optimizer for all", pd.concat(frames),
        in_words("choice", "for all", "what all cells share"), in_words("value", "which"), SIZE,
        in_points("shortfall", "points", "mean accuracy of the CNNs minus plain ViT's"), CI, ANY, PAIRS,
    )  # fmt: skip
    return Section(name="each", title="Does it hold under each recipe and optimizer?", text=(text,), tables=(shown,))

"""Report what the shortfall is made of: its training part and generalisation part, and the pair at matched fit."""

import math
from typing import Any

import pandas as pd

from bias_lab.report.figures.chart import percent, span
from bias_lab.report.pages import Section, Table
from bias_lab.report.sentences import ends, listed, sizes_in_words
from bias_lab.report.tables import PAIRS, SIZE, in_ci, in_points, in_words, table_of

SETTLED, EQUAL = "settled", "at equal images"
COMPARISONS = {"settled": SETTLED, "equal": EQUAL}  # a comparison of the table → its words
MOST = 0.5  # share of the shortfall from which a part is most of it
_HELD = in_words("comparison", "comparison", "settled: each cell trained until more no longer helps; or equal images")
_T = "Student's t over replicates"


def section(parts: pd.DataFrame, fits: pd.DataFrame) -> Section:
    """Return the section on what the shortfall is made of.

    parts: rows of `statistics.decomposition`, with a column `comparison` in words. fits: rows of
    `statistics.matched_fit`, likewise.
    """
    text = []
    if len(parts):
        text.append(
            "The shortfall is the sum of two parts. The training part is how much less accurate plain ViT is on its own "
            "training images. The generalisation part is how much more accuracy it loses from training to test images."
        )
        text += [" ".join(sentences(part, str(name))) for name, part in parts.groupby("comparison", sort=False)]
    text += [" ".join(at_matched_fit(part, str(name))) for name, part in fits.groupby("comparison", sort=False)]
    shown = (decomposition(parts), matched_fit(fits))
    return Section(name="parts", title="What the shortfall is made of", text=tuple(filter(None, text)), tables=shown)


def decomposition(frame: pd.DataFrame) -> Table:
    """Return the rows of `statistics.decomposition`, in points."""
    note = "The two parts add up to the shortfall. A negative part is one in which plain ViT does better."
    return table_of(
        "Shortfall = training part + generalisation part", frame, _HELD, SIZE,
        in_points("shortfall", "shortfall", "points of test accuracy, the CNNs minus plain ViT"),
        in_ci(_T),
        in_points("training", "training part", "points of accuracy on the training images, the CNNs minus plain ViT"),
        in_ci(_T, "training_low", "training_high", "95 % CI of it"),
        in_points("generalisation", "generalisation part", "points by which the train–test gap of plain ViT is larger"),
        in_ci(_T, "generalisation_low", "generalisation_high", "95 % CI of it"), PAIRS, note=note if len(frame) else "",
    )  # fmt: skip


def sentences(parts: pd.DataFrame, comparison: str) -> list[str]:
    """Return which part most of the shortfall is, at the smallest and the largest size. parts: one comparison."""
    told = []
    for place, row in enumerate(ends(parts)):
        lead = f"{'Settled' if comparison == SETTLED else 'At equal images'}, at" if not place else "At"
        training, rest = row["training"], row["generalisation"]
        told.append(
            f"{lead} {row['size']:,} labels the shortfall of {percent(row['shortfall'])} points is {percent(training)} "
            f"of training and {percent(rest)} of generalisation{_mostly(row)}."
        )
    return told


def _mostly(row: Any) -> str:
    """Return which part is shown to be larger: the interval of the training part lies above or below the half."""
    gap, low, high = row["shortfall"], row["training_low"], row["training_high"]
    if gap <= 0 or math.isnan(low):
        return ""
    if low > MOST * gap:
        return ", so it is mostly a matter of fitting the training images"
    return ", so it is mostly a matter of generalising" if high < MOST * gap else ""


def matched_fit(frame: pd.DataFrame) -> Table:
    """Return the rows of `statistics.matched_fit`: the shortfall where both sides fit their training images alike."""
    return table_of(
        "The shortfall at matched fit", frame, _HELD, SIZE,
        in_points("fit", "training accuracy, %", "accuracy on the training images that both sides reach"),
        in_points("shortfall", "shortfall", "points of test accuracy, the CNNs minus plain ViT, at that training accuracy"),
        in_ci(_T), PAIRS,
    )  # fmt: skip


def at_matched_fit(fits: pd.DataFrame, comparison: str) -> list[str]:
    """Return the shortfall where both sides have the same training accuracy, at the ends of the sizes."""
    known = fits[fits["shortfall"].notna()]
    if not len(known):
        return []
    amounts = [
        f"{percent(row['shortfall'])} points (95 % CI {span(row['low'], row['high'])}) at {row['size']:,} labels"
        for row in ends(known)
    ]
    where = "" if comparison == SETTLED else f" ({comparison})"
    return [f"Where both fit their training images alike{where}, the shortfall is {listed(amounts)}."]


def unmatched(sizes: list[int]) -> str:
    """Return that no pair of cells fits alike at some sizes, '' without any."""
    return f"No budgets give both sides the same training accuracy at {sizes_in_words(sizes)}." if sizes else ""

"""Report what the shortfall is made of: its training part and generalisation part, and the pair at matched fit."""

import math
from dataclasses import replace
from typing import Any

import pandas as pd

from bias_lab import statistics
from bias_lab.report.figures import charts
from bias_lab.report.figures.chart import percent
from bias_lab.report.pages import Section, Table
from bias_lab.report.sentences import capital, ends, interval, listed
from bias_lab.report.tables import ANY, CI, PAIRS, SIZE, given, in_ci, in_points, in_whole, in_words, table_of
from bias_lab.statistics import ALPHA
from bias_lab.statistics.comparisons import RECIPE

SETTLED, EQUAL = "with each cell settled", "at equal images"
COMPARISONS = {"settled": SETTLED, "equal": EQUAL}  # a comparison of the table → its words
MOST = 0.5  # share of the shortfall from which a part is most of it
_HELD = in_words("comparison", "comparison", "settled: each cell trained until more no longer helps; or equal images")
_T = "Student's t over replicates"


def present(view: pd.DataFrame) -> tuple[str, ...]:
    """Return the comparisons that a view has runs for, `settled` first."""
    words = {word for text in view["comparison"].unique() for word in str(text).split("+")}
    return tuple(name for name in COMPARISONS if name in words)


def default(view: pd.DataFrame) -> str:
    """Return the comparison that statistics are about unless another is given, '' where the view has none."""
    return next(iter(present(view)[::-1]), "")


def held(view: pd.DataFrame) -> str:
    """Return in words how statistics compare unless another comparison is given, '' where the view has none."""
    return COMPARISONS.get(default(view), "")


def titled(table: Table, view: pd.DataFrame) -> Table:
    """Return a table whose title also says how the statistics of a view compare, where the view has comparisons."""
    return replace(table, title=", ".join(filter(None, (table.title, held(view)))))


def with_settled(gaps: pd.DataFrame, rows: pd.DataFrame, against: str = "cnn") -> pd.DataFrame:
    """Return rows of `statistics.gaps` with a flag: whether every cell of both sides is settled at the size."""
    is_open: set[int] = set()
    for group in ("vit", against):
        is_open |= charts.unsettled(statistics.select(rows, group))
    return gaps.assign(settled=~gaps["size"].isin(list(is_open)))


def with_recipes(frame: pd.DataFrame, rows: pd.DataFrame, against: str) -> pd.DataFrame:
    """Return rows of a statistic by size with the recipes of plain ViT and of the group that it is compared with.

    rows: the comparable ones that the statistic is of.
    """
    sides = pd.concat([statistics.select(rows, group) for group in ("vit", against)])
    of_size = {size: listed(sorted(part[RECIPE].unique())) for size, part in sides.groupby("size")}
    return frame.assign(**{RECIPE: frame["size"].map(of_size)})


def if_several(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame without the column of the recipe if all its rows have the same one."""
    return frame if frame[RECIPE].nunique() > 1 else frame.drop(columns=RECIPE)


def section(parts: pd.DataFrame, fits: pd.DataFrame) -> Section:
    """Return the section on what the shortfall is made of.

    parts: rows of `statistics.decomposition`, with a column `comparison` in words. fits: rows of
    `statistics.matched_fit`.
    """
    text = []
    if len(parts):
        text.append(
            "The shortfall is the sum of two parts. The training part is how much less accurate plain ViT is on its "
            "own training images. The generalisation part is how much more it loses from training to test images."
        )
        text += [" ".join(sentences(part, str(name))) for name, part in parts.groupby("comparison", sort=False)]
    text.append(at_matched_fit(fits, parts))
    shown = (decomposition(parts), matched_fit(fits))
    return Section(name="parts", title="What the shortfall is made of", text=tuple(filter(None, text)), tables=shown)


def decomposition(frame: pd.DataFrame) -> Table:
    """Return the rows of `statistics.decomposition`, in points."""
    note = "The two parts add up to the shortfall. A negative part is one in which plain ViT loses less."
    return table_of(
        "Shortfall = training part + generalisation part", frame, _HELD, SIZE, *given(frame, RECIPE),
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
        lead = f"{capital(comparison)}, at" if comparison and not place else "At"
        training, rest = row["training"], row["generalisation"]
        told.append(
            f"{lead} {row['size']:,} labels the shortfall of {percent(row['shortfall'])} points{_under(row, parts)} is "
            f"{percent(training)} of training and {percent(rest)} of generalisation{_mostly(row)}."
        )
    return told


def _under(row: Any, parts: pd.DataFrame) -> str:
    """Return ' under "plain"' where the rows of `statistics.decomposition` have several recipes, or ''."""
    return f' under "{row[RECIPE]}"' if RECIPE in parts else ""


def _mostly(row: Any) -> str:
    """Return which part is shown to be larger: the interval of the training part's share lies above or below half."""
    if row["shortfall"] <= 0 or math.isnan(row["share_low"]) or row.get("p_holm", 0.0) > ALPHA:
        return ""
    if row["share_low"] > MOST:
        return ", so it is mostly a matter of fitting the training images"
    return ", so it is mostly a matter of generalising" if row["share_high"] < MOST else ""


def matched_fit(frame: pd.DataFrame) -> Table:
    """Return the rows of `statistics.matched_fit`: the shortfall where both sides fit their training images alike."""
    note = (
        "Both accuracies are read off along the budgets that were run, where the training accuracy first reaches the "
        "common value. Nothing is extrapolated."
    )
    return table_of(
        "The shortfall at matched fit", frame, SIZE, in_words("recipe"),
        in_points("fit", "training accuracy, %", "common accuracy on the training images"),
        in_points("of", "plain ViT, %", "mean test accuracy at that training accuracy"),
        in_points("against", "CNNs, %", "mean test accuracy at that training accuracy"),
        in_points("shortfall", "points", "the CNNs minus plain ViT"), CI, ANY,
        in_whole("images_of", "ViT's images", "images that plain ViT has seen by then, geometric mean"),
        in_whole("images_against", "CNNs' images", "images that the CNNs have seen by then, geometric mean"),
        PAIRS, note=note if len(frame) else "",
    )  # fmt: skip


def at_matched_fit(fits: pd.DataFrame, parts: pd.DataFrame) -> str:
    """Return the shortfall at the highest common training accuracy, for the smallest and the largest size.

    parts: rows of `statistics.decomposition`.
    """
    highest = fits.sort_values("fit", kind="stable").drop_duplicates("size", keep="last").sort_values("size")
    amounts = [
        f"{percent(row['shortfall'])} points{interval(row)} at {row['size']:,} labels and {percent(row['fit'], 0)} %"
        f"{_under(row, parts)}"
        for row in ends(highest)
    ]
    if not amounts:
        return ""
    return f"Where both sides have the same accuracy on their training images, the shortfall is {listed(amounts)}."

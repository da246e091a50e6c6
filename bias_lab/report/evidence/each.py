"""Report the shortfall of settled cells under each recipe alone and under each optimizer alone."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from bias_lab import statistics
from bias_lab.report.evidence.headline import under_each
from bias_lab.report.pages import Section
from bias_lab.report.tables import ANY, CI, PAIRS, SIZE, in_points, in_words, table_of
from bias_lab.statistics import ALPHA

CHOICES = ("recipe", "optimizer")


def section(view: pd.DataFrame) -> Section:
    """Return the section for a view that has settled cells, empty where all have one recipe and one optimizer."""
    several = {what: gaps for what in CHOICES if len(gaps := alone(view, what)["value"].unique()) > 1}
    frames = [alone(view, what).assign(choice=what) for what in several]
    if not frames:
        return Section(name="each", title="")
    text = "A settled cell takes the recipe that its own hold-out prefers. Here all cells share one."
    shown = table_of(
        "The settled shortfall under one recipe or optimizer for all", pd.concat(frames),
        in_words("choice", "for all"), in_words("value", "which"), SIZE,
        in_points("shortfall", "points", "mean accuracy of the CNNs minus plain ViT's"), CI, ANY, PAIRS,
    )  # fmt: skip
    sentences = tuple(at_size(frame, str(frame["choice"].iloc[0]), int(frame["size"].min())) for frame in frames)
    title = "Does it hold under each recipe and optimizer?"
    return Section(name="each", title=title, text=(text, *sentences), tables=(shown,))


def alone(view: pd.DataFrame, what: str) -> pd.DataFrame:
    """Return the rows of `statistics.gaps` of settled cells with one value of a choice each, in a column `value`."""
    return pd.concat([part.assign(value=value) for value, part in _alone(view, what)])


def _alone(view: pd.DataFrame, what: str) -> Iterator[tuple[str, pd.DataFrame]]:
    yield "", pd.DataFrame({"size": [], "shortfall": []})
    for value in statistics.values(view, what, "settled"):
        yield str(value), statistics.gaps(view, where={what: value}, comparison="settled")


def at_size(gaps: pd.DataFrame, what: str, size: int) -> str:
    """Return the sentence on one size. gaps: rows of `alone`."""
    rows: list[dict[str, Any]] = []
    for row in gaps[gaps["size"] == size].to_dict("records"):
        ends = ("low", "high") if row["low_any"] != row["low_any"] else ("low_any", "high_any")
        rows.append(
            row | dict(zip(("low", "high"), (row[end] for end in ends), strict=True)) | {"claimed": row["p"] <= ALPHA}
        )
    return under_each(what, rows)

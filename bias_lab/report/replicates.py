"""Say what replicates share, so that their intervals leave it out: a pretraining, or training images."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pandas as pd

from bias_lab import catalogue, statistics
from bias_lab.report.figures.chart import Chart, percent
from bias_lab.report.pages import Cell, whole
from bias_lab.report.sentences import GIVEN, ends, listed, sizes_in_words
from bias_lab.statistics import replicates as rep
from bias_lab.statistics.conditions import UNTRAINED

MARK = "†"  # after an interval over replicates that share one pretraining
NOT_TRAINED = ", not all trained"  # after a start of which a pretraining did not train: the caution says how many

# --- a pretraining ---------------------------------------------------------------------------------------------------


def flags(rows: pd.DataFrame) -> dict[str, bool]:
    """Return whether replicates in rows of one start share a pretraining, and whether one of theirs did not train."""
    return {"shared": bool(rep.shared_sizes(rows)), "untrained": UNTRAINED in rows and bool(rows[UNTRAINED].any())}


def mark(cell: Cell, row: Any) -> Cell:
    """Return a cell with an interval, marked if the row is `shared`. A cell in words has no ends to mark."""
    is_marked = row.get("shared") and any(character.isdigit() for character in cell.text)
    return replace(cell, text=f"{cell.text} {MARK}") if is_marked else cell


def footnote(texts: Iterable[str]) -> str:
    """Return what the mark means if a text has it, else ''."""
    return f"{MARK}: {GIVEN}, the same for all replicates." if any(MARK in text for text in texts) else ""


def captioned(chart: Chart, rows: pd.DataFrame) -> Chart:
    """Return a chart whose caption says what replicates of these comparable rows share: a pretraining, or one draw."""
    said = [chart.caption]
    if rep.shared_sizes(rows):
        said.append(f"After a pretraining that replicates share, intervals are {GIVEN}.")
    if lone := rep.lone_sizes(rows):
        said.append(f"At {sizes_in_words(lone)} they are over seeds on one draw of images.")
    return chart if len(said) == 1 else replace(chart, caption=" ".join(said))


# --- training images -------------------------------------------------------------------------------------------------


def draws(view: pd.DataFrame) -> str:
    """Return how many training images two replicates have in common, '' where all have one draw.

    view: one of `findings.split`. No column holds the size of a user's own training set, so there the rule is given.
    """
    rows = statistics.comparable(view, scratch=False)
    known = catalogue.DATASETS.get(str(rows["dataset"].iloc[0])) if len(rows) else None
    common = rep.common_images(rows, known.pool if known else None)
    apart, whole = common[common["share"] == 0], common[common["share"] >= 1]
    partly, unknown = common[(common["share"] > 0) & (common["share"] < 1)], common[common["share"].isna()]
    sentences = []
    if len(apart):
        at = "" if len(apart) == rows["size"].nunique() else f" at {sizes_in_words(apart['size'])}"
        sentences.append(f"Draws are disjoint blocks of the training set{at}, so replicates share no training image.")
    if len(partly):
        shares = [f"{_share(row['share'])} of their images at N = {row['size']:,}" for row in ends(partly)]
        sentences.append(f"Draws overlap: on average two of them have in common {listed(shares)}.")
    if len(unknown):
        at = sizes_in_words(unknown["size"])
        sentences.append(
            f"Draws overlap at {at}: on average two of them have the share N / size of the training set in common."
        )
    if len(whole):
        at = sizes_in_words(whole["size"])
        sentences.append(f"At {at} replicates have the whole training set, so they differ by seed alone.")
    if lone := rep.lone_sizes(rows):
        sentences.append(f"At {sizes_in_words(lone)} replicates have one draw, so they differ by seed alone.")
    return " ".join(sentences)


def counted(row: Any) -> Cell:
    """Return the cell of `n`, which says so if the replicates are seeds of one draw."""
    cell = whole(row["n"])
    return replace(cell, text=f"{cell.text} seeds") if row.get("unit") == "seed" and row["n"] > 1 else cell


def _share(share: float) -> str:
    return f"{percent(share, 0)} %" if share >= 0.01 else "less than 1 %"

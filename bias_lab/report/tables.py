"""Turn statistics into the report's tables: words and numbers for people, each column with its meaning."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from bias_lab import schema
from bias_lab.report.figures.chart import span
from bias_lab.report.figures.charts import mean_of
from bias_lab.report.figures.labels import several_sources
from bias_lab.report.pages import Cell, Table, number, points, whole, word
from bias_lab.report.replicates import NOT_TRAINED, counted, flags, footnote, mark
from bias_lab.report.sentences import (
    IDENTICAL,
    TOO_WIDE,
    capital,
    is_determined,
    is_identical,
    rounded,
    share_span,
    sign_flips,
    start_words,
    value_words,
)
from bias_lab.statistics.comparisons import RECIPE, with_recipe

REASONS = {
    IDENTICAL: "all replicates are the same there, so their scatter is unknown.",
    TOO_WIDE: "the interval of the share is wider than 200 % or has no ends, since the shortfall is too uncertain.",
}
MOST_DRAWS = 10_000  # that `statistics.power` looks for
Row = Any  # a row of a statistic: column → value
Column = tuple[str, str, Callable[[Row], Cell]]  # heading, meaning, the cell of a row


def table_of(title: str, frame: pd.DataFrame, *columns: Column, note: str = "") -> Table:
    rows = tuple(tuple(cell(row) for _, _, cell in columns) for row in frame.to_dict("records"))
    return Table(title=title, columns=tuple(column[:2] for column in columns), rows=rows, note=noted(note, rows))


def noted(note: str, rows: Sequence[Sequence[Cell]]) -> str:
    """Return a table's note with the reason why some of its intervals are not determined."""
    texts = {cell.text for row in rows for cell in row}
    reasons = [f"{capital(name)}: {why}" for name, why in REASONS.items() if name in texts]
    return " ".join(filter(None, [note, *reasons, footnote(texts)]))


def between(low: Any, high: Any) -> Cell:
    """Return an interval of fractions, sorted by its lower end."""
    text = IDENTICAL if is_identical(float(low), float(high)) else span(float(low), float(high))
    return Cell(text, float(low)) if text != "–" else Cell(text)


def percents(low: float, high: float) -> Cell:
    """Return an interval of shares in whole percent."""
    text = share_span(low, high)
    return Cell(text) if text in ("–", "unbounded", TOO_WIDE) else Cell(text, low)


# --- columns ---------------------------------------------------------------------------------------------------------


def in_words(name: str, heading: str = "", meaning: str = "") -> Column:
    return heading or name, meaning, lambda row: word(row[name])


def given(frame: pd.DataFrame, *names: str) -> tuple[Column, ...]:
    """Return the columns of words that a frame has, with a dash for an empty word."""
    return tuple((name, "", lambda row, name=name: word(row[name] or "–")) for name in names if name in frame)


def in_points(name: str, heading: str, meaning: str) -> Column:
    return heading, meaning, lambda row: points(row[name])


def in_whole(name: str, heading: str, meaning: str = "") -> Column:
    return heading, meaning, lambda row: whole(row[name])


def as_number(name: str, shape: str, heading: str, meaning: str) -> Column:
    return heading, meaning, lambda row: number(row[name], shape)


def _share(name: str, heading: str, meaning: str, low: str = "low", high: str = "high") -> Column:
    def cell(row: Row) -> Cell:
        known = math.isnan(row[low]) or is_determined(row[low], row[high])
        return number(row[name], "{:.0f} %", scale=100) if known else Cell(TOO_WIDE)

    return heading, meaning, cell


def in_ci(meaning: str, low: str = "low", high: str = "high", heading: str = "95 % CI") -> Column:
    return heading, meaning, lambda row: mark(between(row[low], row[high]), row)


def _share_interval(meaning: str, low: str = "low", high: str = "high", heading: str = "95 % CI") -> Column:
    return heading, meaning, lambda row: mark(percents(row[low], row[high]), row)


OF_IT = "95 % CI of it"
T = "Student's t over replicates"
SIZE = in_whole("size", "N", "labelled training images")
PAIRS: Column = ("n", "pairs of replicates (draw, seed) on both sides; seeds: all of one draw of images", counted)
CI = in_ci(f"{T}, on this test set")
ANY = in_ci("95 % CI that includes the sampling of test images", "low_any", "high_any", "with test images")
_P = as_number(
    "p_holm", "{:.3g}", "p, Holm", "two-sided, with test images where known, corrected over all rows of this table"
)
BACKBONE, _FAMILY = in_words("backbone"), in_words("family")


def _start(heading: str, meaning: str) -> Column:
    def cell(row: Row) -> Cell:
        words = start_words(row["regime"], row["protocol"], row.get("source", ""))
        return word(words + NOT_TRAINED * bool(row.get("untrained")))

    return heading, meaning, cell


def _unbounded(frame: pd.DataFrame, low: str, high: str) -> str:
    there = any(share_span(a, b) == "unbounded" for a, b in zip(frame[low], frame[high], strict=True))
    return "Unbounded: the shortfall from scratch cannot be told from 0 there." if there else ""


# --- the shortfall ---------------------------------------------------------------------------------------------------


def shortfall(frame: pd.DataFrame, title: str) -> Table:
    """Return the rows of `statistics.gaps`, in points."""
    known = frame[frame["p_smallest"].notna()]
    note = f"{capital(sign_flips(known))}, however large the difference is." if len(known) else ""
    collapsed = "runs among them that predict one class or have dead features, which stay in all means"
    return table_of(
        title, frame, SIZE, *given(frame, RECIPE),
        in_points("shortfall", "points", "mean accuracy of the reference minus the other's"), CI, ANY, PAIRS, _P,
        as_number("p_permutation", "{:.3g}", "p, sign flips", "paired permutation test, not corrected"),
        in_whole("collapsed", "collapsed", collapsed), note=note,
    )  # fmt: skip


def shares(frame: pd.DataFrame, title: str, who: str) -> Table:
    """Return the rows of `statistics.recovery` or `removed`: shares of the shortfall, in percent."""
    is_own = "backbone" in frame
    note = ["At 100 % the gap is closed. Above it, the CNNs are passed.", _unbounded(frame, "low", "high")]
    return table_of(
        title, frame, in_words("backbone", who) if is_own else _start(who, ""), SIZE,
        in_points("shortfall", "shortfall", "points, CNN family minus plain ViT from scratch"),
        in_points("gain", "gain", "points over plain ViT"),
        _share("share" if is_own else "recovery", "share", "of the shortfall"),
        _share_interval("Fieller's, with test images where they are known"), PAIRS, note=" ".join(filter(None, note)),
    )  # fmt: skip


def gains(frame: pd.DataFrame) -> Table:
    """Return the rows of `statistics.gains`: every backbone after every start."""
    ahead = frame.assign(ahead=-frame["behind"], ahead_low=-frame["behind_high"], ahead_high=-frame["behind_low"])
    beside = "points above (+) or below (−) the CNN family, paired"
    cost = in_whole("seen_before", "images seen before", "in the lab's own pretraining (– for weights from elsewhere)")
    costs = [cost] if frame["seen_before"].notna().any() else []
    return table_of(
        "What each start gains" + ", and what it costs" * len(costs), ahead, BACKBONE,
        _start("start", "where its weights come from"), SIZE, in_points("top1", "test, %", "mean test accuracy"),
        in_points("gain", "gain", "points over its own runs from scratch, paired"), CI,
        ("beside CNNs from scratch", beside, lambda row: number(row["ahead"], "{:+.1f}", scale=100)),
        in_ci(T, "ahead_low", "ahead_high", OF_IT), *costs, PAIRS,
    )  # fmt: skip


def likewise(frame: pd.DataFrame, *, lost: str = "") -> Table:
    """Return the rows of `statistics.likewise`: both sides after the same start. lost: a note on losses of the CNNs."""
    return table_of(
        "The shortfall where both have the same kind of start", frame, _start("start of both", ""), SIZE,
        in_points("shortfall", "points", "CNN family minus plain ViT, both after this start"), CI, ANY, _P, PAIRS,
        _share("left", "left", "of the shortfall from scratch", "left_low", "left_high"),
        _share_interval("Fieller's, of the ratio of two means", "left_low", "left_high", OF_IT),
        note=" ".join(filter(None, [lost, _unbounded(frame, "left_low", "left_high")])),
    )  # fmt: skip


# --- axes ------------------------------------------------------------------------------------------------------------


def _value(axis: str) -> Column:
    return schema.axis_words(axis), "", lambda row: word(value_words(axis, row["value"]))


def _named_start(frame: pd.DataFrame) -> tuple[Column, ...]:
    from_scratch = set(frame["regime"]) <= {schema.DEFAULTS["regime"]}
    return () if from_scratch else (_start("start", "of its weights; a side without this start is from scratch"),)


def arms(axis: str, frame: pd.DataFrame) -> Table:
    """Return the rows of `statistics.arms`: the shortfall at each value of an axis."""
    gone = "points by which the difference at the first value is larger, paired over replicates"
    return table_of(
        f"The CNN family minus plain ViT by {schema.axis_words(axis)}", frame, *_named_start(frame), _value(axis), SIZE,
        in_points("shortfall", "points", "CNNs with such runs minus plain ViT's"), CI, ANY, _P, PAIRS,
        in_points("gone", "decrease", gone), in_ci(T, "gone_low", "gone_high", OF_IT),
    )  # fmt: skip


def moved(axis: str, frame: pd.DataFrame) -> Table:
    """Return the rows of `statistics.moved`: how far each value of an axis moves each backbone."""
    return table_of(
        "How far the accuracy of each backbone moves", frame, BACKBONE, *_named_start(frame), _value(axis), SIZE,
        in_points("change", "points", "accuracy at this value minus that at the reference"), CI, ANY, _P, PAIRS,
    )  # fmt: skip


# --- labels ----------------------------------------------------------------------------------------------------------


def efficiency(frame: pd.DataFrame) -> Table:
    """Return the rows of `statistics.sample_efficiency`: how many times the labels plain ViT needs."""

    def needed(row: Row) -> Cell:
        return Cell(f"{row['bound']} {rounded(row['labels'])}".strip(), float(row["labels"]))

    note = "Curves are straight in log N between sizes. Beyond the largest size bounds are given, no extrapolation."
    return table_of(
        "How many times the labels plain ViT needs", frame,
        in_whole("size", "CNN's N", "labelled images that the CNN family has"),
        in_points("accuracy", "its accuracy, %", "mean test accuracy of the CNN family"),
        ("plain ViT needs", "labelled images for the same accuracy, read off its curve", needed),
        ("times the labels", "with its 95 % CI, or a bound where the curve ends",
         lambda row: Cell(_times(row), float(row["ratio"]))), PAIRS, note=note,
    )  # fmt: skip


def _times(row: Row) -> str:
    """Return '> 8.2×', or '3.1× (2.4 to 4.8)'."""
    value, low, high = row["ratio"], row["low"], row["high"]
    if row["bound"]:
        return f"{row['bound']} {value:.2g}×" if value < 10 else f"{row['bound']} {value:.0f}×"
    if low != low:
        return f"{value:.2g}×"
    return f"{value:.2g}× ({f'above {low:.2g}' if high == float('inf') else f'{low:.2g} to {high:.2g}'})"


def curves(frame: pd.DataFrame) -> Table:
    """Return the rows of `statistics.learning_curve`."""
    fit = "The fit is accuracy(N) = limit − scale · N^(−exponent)."
    note = f"{fit} Its error at the held-out size shows how far it can be trusted."
    return table_of(
        "Learning curves", frame, BACKBONE, _start("regime", "where the weights come from"),
        in_points("limit", "limit, %", "accuracy that the fit tends to"),
        as_number("exponent", "{:.2f}", "exponent", "how fast it gets there"),
        in_points("rmse", "misfit", "root mean square, points"),
        in_whole("held_out", "held-out N", "the largest size, left out of a second fit"),
        in_points("predicted", "predicted, %", "what the second fit predicts there"),
        in_points("observed", "measured, %", "mean test accuracy there"),
        in_points("error", "error", "points"), note=note,
    )  # fmt: skip


# --- factors, replicates, cells --------------------------------------------------------------------------------------


def factors(frame: pd.DataFrame) -> Table:
    """Return the rows of `statistics.effects`."""
    n = int(frame["n"].iloc[0]) if len(frame) else 0
    note = (
        f"A linear model of the accuracy of {n:,} runs, within sizes and without interactions. Each factor is tested "
        "beside all others, a family against the backbones within families. Shares do not add up to 100 %, since each "
        "is of what the others leave, and that of a family is of the variance between backbones."
    )
    nested = {"backbone": "backbone (within its family)"} if "family" in set(frame["factor"]) else {}
    names = frame.assign(factor=frame["factor"].replace(nested))
    return table_of(
        "What accuracy varies with", names, in_words("factor"), in_whole("levels", "levels"),
        in_points("range", "range, points", "largest difference between two levels, the others held equal"),
        ("between", "which two", lambda row: word(f"{row['best']} over {row['worst']}")),
        _share("share", "share", "of the variance that the other factors don't explain"),
        _share_interval("noncentral F"), as_number("p", "{:.2g}", "p", "F test, beside all other factors"),
        in_whole("df", "df", "degrees of freedom"), note=note,
    )  # fmt: skip


def variance(frame: pd.DataFrame) -> Table:
    """Return the rows of `statistics.variance_shares`."""
    lone = "Every draw has one seed here, so the scatter of draws and of seeds cannot be told apart."
    several = "Cells share their draws, so many cells tell no more about draws than one." if len(frame) else ""
    return table_of(
        "Scatter between replicates", frame, in_words("component"),
        in_points("sd", "sd, points", "of accuracy, pooled over cells"),
        _share("share", "share", "of the variance in a cell"), _share_interval("F ratio"),
        in_whole("cells", "cells", "that have several draws"), note=lone if len(frame) == 1 else several,
    )  # fmt: skip


def power(frame: pd.DataFrame) -> Table:
    """Return the rows of `statistics.power`."""
    far = "Where no number of draws is enough, the test images are too few to show 1 point."
    return table_of(
        "How many replicates resolve 1 point", frame, SIZE, in_whole("seeds", "seeds a draw"),
        ("draws needed", "to show a true shortfall of 1 point, 4 times in 5", lambda row: _most(row["draws"])),
        ("at worst", "if the scatter is at its 80 % upper limit", lambda row: _most(row["draws_high"])),
        in_points("sd", "sd, points", "of a draw's paired difference"),
        in_points("test_se", "test images, points", "standard error from their sampling, which no draw removes"),
        in_whole("df", "df", "degrees of freedom that the scatter rests on"),
        note=far if (frame["draws"] >= MOST_DRAWS).any() and frame["test_se"].notna().any() else "",
    )  # fmt: skip


def _most(draws: int) -> Cell:
    return Cell("over 10,000", draws) if draws >= MOST_DRAWS else whole(draws)


def ranking(frame: pd.DataFrame) -> Table:
    """Return the rows of `statistics.ranking`."""

    def ranks(row: Row) -> Cell:
        low, high = row["rank_low"], row["rank_high"]
        return Cell(f"{low} to {high}" if low < high else f"{low}", low)

    cut = frame.assign(low=frame["low"].clip(lower=0.0), high=frame["high"].clip(upper=1.0))
    return table_of(
        "Backbones from best to worst, from scratch", cut, SIZE, in_whole("rank", "rank"),
        ("ranks left open", "by paired t-tests, Holm-corrected over all pairs at the size", ranks),
        BACKBONE, _FAMILY, in_points("top1", "test, %", "mean test accuracy"), CI, in_whole("n", "n", "replicates"),
    )  # fmt: skip


def accuracies(rows: pd.DataFrame) -> Table:
    """Return every cell of comparable rows: test accuracy with its interval, and accuracy on its training images."""
    rows = with_recipe(rows)
    key = ["family", "backbone", *schema.START, "size", *([RECIPE] if RECIPE in rows else [])]
    cells = []
    for names, part in rows.groupby(key):
        cell: dict[str, Any] = dict(zip(key, names, strict=True))
        of = mean_of(part)
        if not several_sources(rows, cell["backbone"], cell["regime"]):
            cell["source"] = ""
        cell |= {name: part[name].mean() if name in part else None for name in ("loss_slope", "train_top1")}
        cell |= flags(part)
        cell["collapsed"] = int(part["collapsed"].fillna(False).astype(bool).sum()) if "collapsed" in part else 0
        cells.append({**cell, "top1": of.value, "low": of.low, "high": of.high, "n": len(part)})
    frame = pd.DataFrame(cells)
    slope = "change of the training loss in the last quarter of training, negative where it still fell"
    return table_of(
        "Accuracy of every cell", frame, BACKBONE, _FAMILY,
        _start("regime", "where the weights come from"), SIZE, *given(frame, RECIPE),
        in_points("top1", "test, %", "mean accuracy on the test images"), CI, in_whole("n", "n", "replicates"),
        in_points("train_top1", "train, %", "accuracy on its own training images, un-augmented"),
        as_number("loss_slope", "{:.3f}", "loss slope", slope),
        in_whole("collapsed", "collapsed", "runs that predict one class or have dead features"),
    )  # fmt: skip

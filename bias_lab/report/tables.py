"""Turn statistics into the report's tables: words and numbers for people, each column with its meaning."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bias_lab import schema
from bias_lab.report.figures.charts import mean_of, several_sources, span
from bias_lab.report.pages import Cell, Table, number, points, whole, word
from bias_lab.report.sentences import rounded, share_span, start_words, value_words

_N = ("N", "labelled training images")
_n = ("n", "pairs of replicates (draw, seed) that both sides have")
_INTERVAL = ("95 % CI", "Student's t over replicates, on this test set")
_ANY = ("with test images", "95 % CI that includes the sampling of test images")
_P = ("p, Holm", "two-sided, with test images where known, corrected over all rows of this table")
_OF_IT = "95 % CI of it"

Row = Mapping[Any, Any]


def between(low: Any, high: Any) -> Cell:
    """Return an interval of fractions, sorted by its lower end."""
    text = span(float(low), float(high))
    return Cell(text, float(low)) if text != "–" else Cell(text)


def percents(low: float, high: float) -> Cell:
    """Return an interval of shares in whole percent."""
    text = share_span(low, high)
    return Cell(text) if text in ("–", "unbounded") else Cell(text, low)


def _share(value: Any) -> Cell:
    return number(value, "{:.0f} %", scale=100)


def _start(row: Row) -> Cell:
    return word(start_words(row["regime"], row["protocol"], row["source"]))


def _gap_cells(row: Row, column: str) -> tuple[Cell, ...]:
    ends = between(row["low"], row["high"]), between(row["low_any"], row["high_any"])
    return (points(row[column]), *ends, number(row["p_holm"], "{:.3g}"), whole(row["n"]))


def _unbounded(rows: Sequence[Sequence[Cell]]) -> str:
    there = any(cell.text == "unbounded" for row in rows for cell in row)
    return "Unbounded: the shortfall from scratch cannot be told from 0 there." if there else ""


# --- the shortfall ---------------------------------------------------------------------------------------------------


def shortfall(found: pd.DataFrame, title: str) -> Table:
    """Return the rows of `statistics.gaps`, in points."""
    rows = tuple(
        (
            whole(row["size"]), points(row["shortfall"]), between(row["low"], row["high"]),
            between(row["low_any"], row["high_any"]), whole(row["n"]), number(row["p_holm"], "{:.3g}"),
            number(row["p_permutation"], "{:.3g}"), whole(row["collapsed"]),
        )
        for row in found.to_dict("records")
    )  # fmt: skip
    columns = (
        _N, ("points", "mean accuracy of the reference minus the other's"), _INTERVAL, _ANY, _n,
        ("p, Holm", "two-sided, with test images where known, corrected over sizes"),
        ("p, sign flips", "paired permutation test, not corrected"),
        ("collapsed", "runs among them that predict one class or have dead features; they stay in all means"),
    )  # fmt: skip
    known = found[found["p_smallest"].notna()]
    note = ""
    if len(known):
        note = (
            f"Sign flips of {int(known['units'].min())} {known['unit'].iloc[0]}s cannot reach a p below "
            f"{known['p_smallest'].max():.3g}, however large the difference is."
        )
    return Table(title=title, columns=columns, rows=rows, note=note)


def pairs(found: Sequence[tuple[str, str, pd.DataFrame]], title: str, note: str = "") -> Table:
    """Return the rows of `statistics.gaps` for several pairs: (first, second, first minus second)."""
    rows = tuple(
        (
            word(f"{first} minus {second}"), whole(r["size"]), points(r["shortfall"]), between(r["low"], r["high"]),
            between(r["low_any"], r["high_any"]), whole(r["n"]),
        )
        for first, second, part in found
        for r in part.to_dict("records")
    )  # fmt: skip
    columns = (("difference", ""), _N, ("points", "mean difference in accuracy"), _INTERVAL, _ANY, _n)
    return Table(title=title, columns=columns, rows=rows, note=note)


def shares(found: pd.DataFrame, title: str, who: str) -> Table:
    """Return the rows of `statistics.recovery` or `removed`: shares of the shortfall, in percent."""
    rows = tuple(
        (
            word(row["backbone"]) if "backbone" in row else _start(row), whole(row["size"]), points(row["shortfall"]),
            points(row["gain"]), _share(row.get("recovery", row.get("share"))), percents(row["low"], row["high"]),
            whole(row["n"]),
        )
        for row in found.to_dict("records")
    )  # fmt: skip
    columns = (
        (who, ""), _N, ("shortfall", "points, CNN family minus plain ViT from scratch"),
        ("gain", "points over plain ViT"),
        ("share", "of the shortfall"), ("95 % CI", "Fieller's, over replicates, on this test set"), _n,
    )  # fmt: skip
    note = " ".join(filter(None, ["At 100 % the gap is closed; above, the CNNs are passed.", _unbounded(rows)]))
    return Table(title=title, columns=columns, rows=rows, note=note)


def gains(found: pd.DataFrame) -> Table:
    """Return the rows of `statistics.gains`: every backbone after every start."""
    rows = tuple(
        (
            word(row["backbone"]), _start(row), whole(row["size"]),
            points(row["top1"]), points(row["gain"]), between(row["low"], row["high"]),
            number(-row["behind"], "{:+.1f}", scale=100), between(-row["behind_high"], -row["behind_low"]),
            whole(row["seen_before"]), whole(row["n"]),
        )
        for row in found.to_dict("records")
    )  # fmt: skip
    columns = (
        ("backbone", ""), ("start", "where its weights come from"), _N, ("test, %", "mean test accuracy"),
        ("gain", "points over its own runs from scratch, paired"), _INTERVAL,
        ("beside CNNs", "points above (+) or below (−) the CNN family from scratch, paired"),
        (_OF_IT, "Student's t over replicates"),
        ("images seen before", "in the lab's own pretraining, before the first label; –: weights from elsewhere"), _n,
    )  # fmt: skip
    return Table(title="What each start gains, and what it costs", columns=columns, rows=rows)


def likewise(found: pd.DataFrame) -> Table:
    """Return the rows of `statistics.likewise`: both sides after the same start."""
    rows = tuple(
        (
            _start(row), whole(row["size"]), *_gap_cells(row, "shortfall"), _share(row["left"]),
            percents(row["left_low"], row["left_high"]),
        )
        for row in found.to_dict("records")
    )  # fmt: skip
    columns = (
        ("start of both", ""), _N, ("points", "CNN family minus plain ViT, both after this start"), _INTERVAL, _ANY, _P,
        _n, ("left", "of the shortfall from scratch"), (_OF_IT, "Fieller's, of the ratio of two means"),
    )  # fmt: skip
    title = "What is left of the shortfall where both start alike"
    return Table(title=title, columns=columns, rows=rows, note=_unbounded(rows))


# --- axes ------------------------------------------------------------------------------------------------------------


def arms(axis: str, found: pd.DataFrame) -> Table:
    """Return the rows of `statistics.arms`: the shortfall at each value of an axis."""
    rows = tuple(
        (
            word(value_words(axis, row["value"])), whole(row["size"]), *_gap_cells(row, "shortfall"),
            points(row["gone"]), between(row["gone_low"], row["gone_high"]),
        )
        for row in found.to_dict("records")
    )  # fmt: skip
    words = schema.axis_words(axis)
    columns = (
        (words, ""), _N, ("points", "mean accuracy of the CNN family minus plain ViT's"), _INTERVAL, _ANY, _P, _n,
        ("gone", "points by which the lead at the first value is larger, paired over replicates"),
        (_OF_IT, "Student's t over replicates"),
    )  # fmt: skip
    return Table(title=f"The CNN family minus plain ViT, from scratch, by {words}", columns=columns, rows=rows)


def moved(axis: str, found: pd.DataFrame) -> Table:
    """Return the rows of `statistics.moved`: how far each value of an axis moves each backbone."""
    rows = tuple(
        (word(row["backbone"]), word(value_words(axis, row["value"])), whole(row["size"]), *_gap_cells(row, "change"))
        for row in found.to_dict("records")
    )
    columns = (
        ("backbone", ""), (schema.axis_words(axis), ""), _N,
        ("points", "accuracy at this value minus that at the reference, paired"), _INTERVAL, _ANY, _P, _n,
    )  # fmt: skip
    return Table(title="How far the accuracy of each backbone moves", columns=columns, rows=rows)


# --- labels ----------------------------------------------------------------------------------------------------------


def efficiency(found: pd.DataFrame) -> Table:
    """Return the rows of `statistics.sample_efficiency`: how many times the labels plain ViT needs."""
    rows = tuple(
        (
            whole(row["size"]), points(row["accuracy"]),
            Cell(f"{row['bound']} {rounded(row['labels'])}".strip(), float(row["labels"])),
            Cell(_times(row), float(row["ratio"])), whole(row["n"]),
        )
        for row in found.to_dict("records")
    )  # fmt: skip
    columns = (
        ("CNN's N", "labelled images that the CNN family has"), ("its accuracy, %", ""),
        ("plain ViT needs", "labelled images for the same accuracy, read off its curve"),
        ("times the labels", "with its 95 % CI; a bound where the curve ends"), _n,
    )  # fmt: skip
    note = (
        "Curves are straight in log N between sizes. Beyond the largest size nothing is extrapolated: bounds are given."
    )
    return Table(title="How many times the labels plain ViT needs", columns=columns, rows=rows, note=note)


def _times(row: Row) -> str:
    """Return '> 8.2×', or '3.1× (2.4 to 4.8)'."""
    value, low, high = row["ratio"], row["low"], row["high"]
    if row["bound"]:
        return f"{row['bound']} {value:.2g}×" if value < 10 else f"{row['bound']} {value:.0f}×"
    if low != low:
        return f"{value:.2g}×"
    return f"{value:.2g}× ({f'above {low:.2g}' if high == float('inf') else f'{low:.2g} to {high:.2g}'})"


def curves(found: pd.DataFrame) -> Table:
    """Return the rows of `statistics.learning_curve`."""
    rows = tuple(
        (
            word(row["backbone"]), word(start_words(row["regime"], row["protocol"])), points(row["limit"]),
            number(row["exponent"], "{:.2f}"), points(row["rmse"]), whole(row["held_out"]), points(row["predicted"]),
            points(row["observed"]), points(row["error"]),
        )
        for row in found.to_dict("records")
    )  # fmt: skip
    columns = (
        ("backbone", ""), ("regime", "where the weights come from"), ("limit, %", "accuracy that the fit tends to"),
        ("exponent", "how fast it gets there"), ("misfit", "root mean square, points"),
        ("held-out N", "the largest size, left out of a second fit"),
        ("predicted, %", "what the second fit predicts there"), ("measured, %", ""), ("error", "points"),
    )  # fmt: skip
    note = (
        "The fit is accuracy(N) = limit − scale · N^(−exponent). Its error at the held-out size shows how far it can be "
        "trusted."
    )
    return Table(title="Learning curves", columns=columns, rows=rows, note=note)


# --- factors, replicates, cells --------------------------------------------------------------------------------------


def factors(found: pd.DataFrame) -> Table:
    """Return the rows of `statistics.effects`."""
    names = {"backbone": "backbone (within its family)"}
    rows = tuple(
        (
            word(names.get(row["factor"], row["factor"])), whole(row["levels"]), points(row["range"]),
            word(f"{row['best']} over {row['worst']}"), _share(row["share"]),
            percents(row["low"], row["high"]), number(row["p"], "{:.2g}"), whole(row["df"]),
        )
        for row in found.to_dict("records")
    )  # fmt: skip
    columns = (
        ("factor", ""), ("levels", ""),
        ("range, points", "largest difference between two levels, the others held equal"),
        ("between", "which two"), ("share", "of the variance that the other factors don't explain"),
        ("95 % CI", "noncentral F"), ("p", "F test, beside all other factors"), ("df", "degrees of freedom"),
    )  # fmt: skip
    n = int(found["n"].iloc[0]) if len(found) else 0
    note = (
        f"A linear model of the accuracy of {n:,} runs, within sizes and without interactions. Each factor is tested "
        "beside all others. Shares do not add up to 100 %, since each is of what the others leave."
    )
    return Table(title="What accuracy varies with", columns=columns, rows=rows, note=note)


def variance(found: pd.DataFrame) -> Table:
    """Return the rows of `statistics.variance_shares`."""
    rows = tuple(
        (
            word(row["component"]), points(row["sd"]), _share(row["share"]), percents(row["low"], row["high"]),
            whole(row["cells"]),
        )
        for row in found.to_dict("records")
    )  # fmt: skip
    columns = (
        ("component", ""), ("sd, points", "of accuracy, pooled over cells"), ("share", "of the variance in a cell"),
        ("95 % CI", "F ratio"), ("cells", "that have several draws"),
    )  # fmt: skip
    is_split = len(found) > 1 or not len(found)
    note = (
        "" if is_split else "Every draw has one seed here, so the scatter of draws and of seeds cannot be told apart."
    )
    return Table(title="Scatter between replicates", columns=columns, rows=rows, note=note)


def power(found: pd.DataFrame) -> Table:
    """Return the rows of `statistics.power`."""
    rows = tuple(
        (
            whole(r["size"]),
            whole(r["seeds"]),
            _most(r["draws"]),
            _most(r["draws_high"]),
            points(r["sd"]),
            whole(r["df"]),
        )
        for r in found.to_dict("records")
    )
    columns = (
        _N, ("seeds a draw", ""), ("draws needed", "to show a true shortfall of 1 point, 4 times in 5"),
        ("at worst", "if the scatter is at its 80 % upper limit"), ("sd, points", "of a draw's paired difference"),
        ("df", "degrees of freedom that the scatter rests on"),
    )  # fmt: skip
    return Table(title="How many replicates resolve 1 point", columns=columns, rows=rows)


def _most(draws: int) -> Cell:
    return Cell("over 10,000", draws) if draws >= 10_000 else whole(draws)


def ranking(found: pd.DataFrame) -> Table:
    """Return the rows of `statistics.ranking`."""
    rows = tuple(
        (
            whole(r["size"]), whole(r["rank"]), _range(r["rank_low"], r["rank_high"]),
            word(r["backbone"]), word(r["family"]), points(r["top1"]), _accuracy(r["low"], r["high"]), whole(r["n"]),
        )
        for r in found.to_dict("records")
    )  # fmt: skip
    columns = (
        _N, ("rank", ""), ("ranks left open", "by paired t-tests, Holm-corrected over all pairs at the size"),
        ("backbone", ""), ("family", ""), ("test, %", "mean test accuracy"), _INTERVAL, ("n", "replicates"),
    )  # fmt: skip
    return Table(title="Backbones from best to worst, from scratch", columns=columns, rows=rows)


def _range(low: int, high: int) -> Cell:
    return Cell(f"{low} to {high}" if low < high else f"{low}", low)


def _accuracy(low: float, high: float) -> Cell:
    return between(low if low != low else max(low, 0.0), high if high != high else min(high, 1.0))


def accuracies(rows: pd.DataFrame) -> Table:
    """Return every cell of comparable rows: test accuracy with its interval, and accuracy on its training images."""
    cells = []
    for key, part in rows.groupby(["family", "backbone", *schema.START, "size"]):
        family, backbone, regime, protocol, source, size = key
        of = mean_of(part)
        shown = source if several_sources(rows, backbone, regime) else ""
        collapsed = int(part["collapsed"].fillna(False).astype(bool).sum()) if "collapsed" in part else 0
        slope, train = (part[name].mean() if name in part else None for name in ("loss_slope", "train_top1"))
        cells.append(
            (
                word(backbone), word(family), word(start_words(regime, protocol, shown)), whole(size), points(of.value),
                between(of.low, of.high), whole(len(part)), points(train), number(slope, "{:.3f}"), whole(collapsed),
            )
        )  # fmt: skip
    columns = (
        ("backbone", ""), ("family", ""), ("regime", "where the weights come from"), _N,
        ("test, %", "mean accuracy on the test images"), _INTERVAL, ("n", "replicates"),
        ("train, %", "accuracy on its own training images, un-augmented"),
        ("loss slope", "change of the training loss in the last quarter of training; negative: it still fell"),
        ("collapsed", "runs that predict one class or have dead features"),
    )  # fmt: skip
    return Table(title="Accuracy of every cell", columns=columns, rows=tuple(cells))

"""Statistics → the report's tables: words and numbers for people, each column with its meaning."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from bias_lab.report.figures import several, span
from bias_lab.report.pages import Cell, Table, number, points, whole, word
from bias_lab.statistics import intervals
from bias_lab.statistics import replicates as rep

_N = ("N", "labelled training images")
_n = ("n", "pairs of replicates (draw, seed) that both sides have")
_INTERVAL = ("95 % interval", "Student's t over replicates, on this test set")
_ANY = ("with test images", "95 % interval that holds the sampling of test images too")


def between(low: Any, high: Any) -> Cell:
    """An interval of fractions, sorted by its lower end."""
    text = span(float(low), float(high))
    return Cell(text, float(low)) if text != "–" else Cell(text)


def possible(low: float, high: float) -> Cell:
    """An interval of accuracies, cut to those that there are."""
    return between(low if low != low else max(low, 0.0), high if high != high else min(high, 1.0))


def shortfall(found: pd.DataFrame, title: str) -> Table:
    """The rows of `statistics.gaps`, in points."""
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
        ("collapsed", "runs among them that predict one class, or whose features died; they stay in"),
    )  # fmt: skip
    least = found["p_smallest"].dropna()
    note = ""
    if len(least):
        units = found.loc[found["p_smallest"].notna(), ["units", "unit"]]
        note = (
            f"Sign flips of {int(units['units'].min())} {units['unit'].iloc[0]}s can't give a p below "
            f"{least.max():.3g}, however large the difference."
        )
    return Table(title=title, columns=columns, rows=rows, note=note)


def accuracies(rows: pd.DataFrame) -> Table:
    """Every cell: test accuracy with its interval, and accuracy on its own training images."""
    made = []
    keys = ["family", "backbone", "regime", "protocol", "source", "size"]
    for (family, backbone, regime, protocol, source, size), part in rows.groupby(keys):
        of = intervals.mean(rep.units(part.set_index(["draw", "seed"])[["top1"]])["top1"].to_numpy(dtype=float))
        collapsed = int(part["collapsed"].fillna(False).astype(bool).sum()) if "collapsed" in part else 0
        slope = part["loss_slope"].mean() if "loss_slope" in part else None
        train = part["train_top1"].mean() if "train_top1" in part else None
        shown = str(source) if several(rows, backbone, regime) else ""
        how = regime_told(str(regime), str(protocol), shown)
        made.append(
            (
                word(backbone), word(family), word(how), whole(size), points(of.value), possible(of.low, of.high),
                whole(len(part)), points(train), number(slope, "{:.3f}"), whole(collapsed),
            )
        )  # fmt: skip
    columns = (
        ("backbone", ""), ("family", ""), ("regime", "where the weights come from"), _N,
        ("test, %", "mean accuracy on the test images"), _INTERVAL, ("n", "replicates"),
        ("train, %", "accuracy on its own training images, un-augmented"),
        ("loss slope", "change of the training loss over the last part of training; negative: still falling"),
        ("collapsed", "runs that predict one class, or whose features died"),
    )  # fmt: skip
    return Table(title="Accuracy of every cell", columns=columns, rows=tuple(made))


def efficiency(found: pd.DataFrame) -> Table:
    """`statistics.sample_efficiency`: how many times the labels."""
    rows = tuple(
        (
            whole(row["size"]),
            points(row["accuracy"]),
            Cell(f"{row['bound']} {_rounded(row['labels'])}".strip(), float(row["labels"])),
            Cell(row["text"], float(row["ratio"])),
            whole(row["n"]),
        )
        for row in found.to_dict("records")
    )
    columns = (
        ("CNN's N", "labelled images that the CNN family has"), ("its accuracy, %", ""),
        ("plain ViT needs", "labelled images for the same accuracy, read off its curve"),
        ("times the labels", "with its 95 % interval; a bound where the curve ends"), _n,
    )  # fmt: skip
    note = (
        "Between sizes curves are straight in log N; beyond the largest size nothing is extrapolated, bounds are given."
    )
    return Table(title="How many times the labels plain ViT needs", columns=columns, rows=rows, note=note)


def _rounded(size: float) -> str:
    return f"{int(round(size, -max(0, len(str(int(size))) - 2))):,}"


def curves(found: pd.DataFrame) -> Table:
    """`statistics.learning_curve`."""
    rows = tuple(
        (
            word(row["backbone"]), word(row["regime"]), points(row["limit"]), number(row["exponent"], "{:.2f}"),
            points(row["rmse"]), whole(row["held_out"]), points(row["predicted"]), points(row["observed"]),
            points(row["error"]),
        )
        for row in found.to_dict("records")
    )  # fmt: skip
    columns = (
        ("backbone", ""), ("regime", ""), ("limit, %", "accuracy that the fit tends to"),
        ("exponent", "how fast it gets there"),
        ("misfit", "root mean square, points"), ("held-out N", "the largest size, left out of a second fit"),
        ("foretold, %", "what the second fit says there"), ("measured, %", ""), ("error", "points"),
    )  # fmt: skip
    note = "accuracy(N) = limit − scale · N^(−exponent). Its error at the held-out size: how far to trust it."
    return Table(title="Learning curves", columns=columns, rows=rows, note=note)


def shares(found: pd.DataFrame, title: str, who: str) -> Table:
    """`statistics.recovery` or `removed`: shares of the shortfall, in percent."""
    rows = tuple(
        (
            word(row["backbone"] if "backbone" in row else regime_told(row["regime"], row["protocol"], row["source"])),
            whole(row["size"]), points(row["shortfall"]), points(row["gain"]),
            number(row.get("recovery", row.get("share")), "{:.0f} %", scale=100), percents(row["low"], row["high"]),
            whole(row["n"]),
        )
        for row in found.to_dict("records")
    )  # fmt: skip
    columns = (
        (who, ""), _N, ("shortfall", "points, CNN family minus plain ViT from scratch"),
        ("gain", "points over plain ViT"),
        ("share", "of the shortfall"), ("95 % interval", "Fieller's, over replicates, on this test set"), _n,
    )  # fmt: skip
    note = " ".join(filter(None, ["100 % closes the gap; above, the CNNs are passed.", _unbounded(rows)]))
    return Table(title=title, columns=columns, rows=rows, note=note)


def _unbounded(rows: Sequence[Sequence[Cell]]) -> str:
    """What the word means, where a table has it."""
    there = any(cell.text == "unbounded" for row in rows for cell in row)
    return "Unbounded: the shortfall from scratch can't be told from 0 there." if there else ""


def _gap_cells(row: Any, column: str) -> tuple[Cell, ...]:
    ends = between(row["low"], row["high"]), between(row["low_any"], row["high_any"])
    return (points(row[column]), *ends, number(row["p_holm"], "{:.3g}"), whole(row["n"]))


_P = ("p, Holm", "two-sided, with test images where known, corrected over all rows of this table")


def arms(found: pd.DataFrame) -> Table:
    """`statistics.arms`, with its interventions in words (column arm)."""
    rows = tuple(
        (
            word(row["arm"]), whole(row["size"]), *_gap_cells(row, "shortfall"), points(row["gone"]),
            between(row["gone_low"], row["gone_high"]),
        )
        for row in found.to_dict("records")
    )  # fmt: skip
    columns = (
        ("images", ""), _N, ("points", "mean accuracy of the CNN family minus plain ViT's"), _INTERVAL, _ANY, _P, _n,
        ("gone", "points of the lead on the images as they are, paired over replicates"),
        ("95 % interval of it", "Student's t over replicates"),
    )  # fmt: skip
    return Table(title="The CNN family minus plain ViT, from scratch, by what was done to the images", columns=columns,
                 rows=rows)  # fmt: skip


def moved(found: pd.DataFrame) -> Table:
    """`statistics.moved`, with its interventions in words (column arm)."""
    rows = tuple(
        (word(row["backbone"]), word(row["arm"]), whole(row["size"]), *_gap_cells(row, "change"))
        for row in found.to_dict("records")
    )
    columns = (
        ("backbone", ""), ("images", ""), _N, ("points", "accuracy with it minus on the images as they are, paired"),
        _INTERVAL, _ANY, _P, _n,
    )  # fmt: skip
    return Table(title="How far each backbone's accuracy moves", columns=columns, rows=rows)


def gains(found: pd.DataFrame) -> Table:
    """`statistics.gains`: every backbone after every start."""
    rows = tuple(
        (
            word(row["backbone"]), word(regime_told(row["regime"], row["protocol"], row["source"])), whole(row["size"]),
            points(row["top1"]), points(row["gain"]), between(row["low"], row["high"]),
            number(-row["behind"], "{:+.1f}", scale=100), between(-row["behind_high"], -row["behind_low"]),
            whole(row["seen_before"]), whole(row["n"]),
        )
        for row in found.to_dict("records")
    )  # fmt: skip
    columns = (
        ("backbone", ""), ("start", "where its weights come from"), _N, ("test, %", ""),
        ("gain", "points over its own runs from scratch, paired"), _INTERVAL,
        ("beside CNNs", "points above (+) or below (−) the CNN family from scratch, paired"),
        ("95 % interval of it", "Student's t over replicates"),
        ("images seen before", "in the lab's own pretraining, before the first label; –: weights from elsewhere"), _n,
    )  # fmt: skip
    return Table(title="What each start gives, and what it cost", columns=columns, rows=rows)


def likewise(found: pd.DataFrame) -> Table:
    """`statistics.likewise`: both sides after the same start."""
    rows = tuple(
        (
            word(regime_told(row["regime"], row["protocol"], row["source"])), whole(row["size"]),
            *_gap_cells(row, "shortfall"), number(row["left"], "{:.0f} %", scale=100),
            percents(row["left_low"], row["left_high"]),
        )
        for row in found.to_dict("records")
    )  # fmt: skip
    columns = (
        ("start of both", ""), _N, ("points", "CNN family minus plain ViT, both after this start"), _INTERVAL, _ANY, _P,
        _n, ("left", "of the shortfall from scratch"), ("95 % interval of it", "Fieller's, of the ratio of two means"),
    )  # fmt: skip
    title = "What is left of the shortfall where both start alike"
    return Table(title=title, columns=columns, rows=rows, note=_unbounded(rows))


def regime_told(regime: str, protocol: str, source: str = "") -> str:
    """A regime in words: 'mae (on pool)', 'mae, linear probe (on subset)'."""
    told = regime if protocol == "finetune" else f"{regime}, {str(protocol).replace('_', ' ')}"
    if not source:
        return told
    return f"{told} ({source})" if "weights" in regime else f"{told} (on {source})"


def percents(low: float, high: float) -> Cell:
    """An interval of shares in whole percent."""
    text = span(low, high)
    if text in ("–", "unbounded"):
        return Cell(text)
    return Cell(f"{100 * low:.0f} to {100 * high:.0f} %".replace("-", "−"), low)


def factors(found: pd.DataFrame) -> Table:
    """`statistics.effects`."""
    names = {"backbone": "backbone (within its family)"}
    rows = tuple(
        (
            word(names.get(row["factor"], row["factor"])), whole(row["levels"]), points(row["range"]),
            word(f"{row['best']} over {row['worst']}"), number(row["share"], "{:.0f} %", scale=100),
            percents(row["low"], row["high"]), number(row["p"], "{:.2g}"), whole(row["df"]),
        )
        for row in found.to_dict("records")
    )  # fmt: skip
    columns = (
        ("factor", ""), ("levels", ""),
        ("range, points", "largest difference between two levels, the others held equal"),
        ("between", "which two"), ("share", "of the variance that the other factors don't explain"),
        ("95 % interval", "noncentral F"), ("p", "F test, beside all other factors"), ("df", ""),
    )  # fmt: skip
    n = int(found["n"].iloc[0]) if len(found) else 0
    note = (
        f"A linear model of accuracy on {n:,} runs, within sizes, without interactions; each factor beside all others. "
        "Shares don't add up to 100 %: each is of what the others leave."
    )
    return Table(title="What accuracy varies with", columns=columns, rows=rows, note=note)


def variance(found: pd.DataFrame) -> Table:
    """`statistics.variance_shares`."""
    rows = tuple(
        (
            word(row["component"]), points(row["sd"]), number(row["share"], "{:.0f} %", scale=100),
            percents(row["low"], row["high"]), whole(row["cells"]),
        )
        for row in found.to_dict("records")
    )  # fmt: skip
    columns = (
        ("component", ""), ("sd, points", "of accuracy, pooled over cells"), ("share", ""),
        ("95 % interval", "F ratio"),
        ("cells", ""),
    )  # fmt: skip
    apart = len(found) > 1 or not len(found)
    note = "" if apart else "Every draw has one seed here, so which of the two scatters can't be told."
    return Table(title="Scatter between replicates", columns=columns, rows=rows, note=note)


def power(found: pd.DataFrame) -> Table:
    """`statistics.power`."""
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
        ("df", "what the scatter rests on"),
    )  # fmt: skip
    return Table(title="How many replicates resolve 1 point", columns=columns, rows=rows)


def _most(draws: int) -> Cell:
    return Cell("over 10,000", draws) if draws >= 10_000 else whole(draws)


def ranking(found: pd.DataFrame) -> Table:
    """`statistics.ranking`."""
    rows = tuple(
        (
            whole(r["size"]), whole(r["rank"]), _range(r["rank_low"], r["rank_high"]),
            word(r["backbone"]), word(r["family"]), points(r["top1"]), possible(r["low"], r["high"]), whole(r["n"]),
        )
        for r in found.to_dict("records")
    )  # fmt: skip
    columns = (
        _N, ("rank", ""), ("range left open", "by paired t-tests, Holm-corrected over all pairs at the size"),
        ("backbone", ""), ("family", ""), ("test, %", ""), _INTERVAL, ("n", "replicates"),
    )  # fmt: skip
    return Table(title="Backbones from best to worst, from scratch", columns=columns, rows=rows)


def _range(low: int, high: int) -> Cell:
    return Cell(f"{low} to {high}" if low < high else f"{low}", low)


def pairs(found: Sequence[tuple[str, str, pd.DataFrame]], title: str, note: str = "") -> Table:
    """Rows of `gaps` for several pairs: (first, second, first minus second)."""
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

"""Turn statistics into charts: which lines, hues, markers, patterns and words. `draw.py` renders them.

A hue is a family, a marker an architecture, a line pattern a regime or a value of an axis.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from bias_lab import catalogue, schema
from bias_lab.report.figures import recipes
from bias_lab.report.figures.chart import Chart, Dash, Level, Point, Series, one_size, percent, span
from bias_lab.report.figures.labels import label_of, looks, patterned, shortened, start_label
from bias_lab.report.figures.palette import HUES
from bias_lab.statistics import intervals
from bias_lab.statistics import replicates as rep
from bias_lab.statistics.conditions import is_from_scratch
from bias_lab.statistics.settled.chance import chance as chance_of

MARKERS = {
    "vit": "circle", "resnet": "square", "efficientnet": "triangle", "mobilenetv3": "diamond", "swin": "pentagon",
    "mobilevit": "down", "efficientvit": "cross",
}  # fmt: skip
DASHES = {  # regime → the line's pattern, in pixels
    "scratch": (), "mae": (7, 3), "simmim": (2, 3), "dino": (7, 3, 2, 3), "weights": (12, 4),
    "supervised": (12, 3, 2, 3), "formula": (4, 4),
}  # fmt: skip
CONTROL: Dash = (1, 3)  # of the thin lines of controls
VALUE_DASHES = ((), (7, 3), (2, 3), (7, 3, 2, 3), (12, 4), (4, 4))  # of an axis, the reference first
START = list(schema.START)
SETTLED = "settled"
HOW = {  # how cells are compared → what that means, for captions
    SETTLED: " Each cell is trained until its hold-out stops gaining. Hollow points are not settled.",
    "equal": " All backbones see equally many images in training at one size.",
}
NEAR = 0.1  # an accuracy this close to the chance level is near it
BARS = (
    "Thick bars are 95 % intervals over replicates on this test set. Thin bars include the sampling of test images. "
    "Above 0 the CNNs lead."
)


def mean_of(rows: pd.DataFrame) -> intervals.Mean:
    """Return the mean accuracy of a cell with its interval over replicates, cut to [0, 1]."""
    of = intervals.mean(rep.units(rows.set_index([*schema.REPLICATE])[["top1"]])["top1"].to_numpy(dtype=float))
    return of._replace(low=max(of.low, 0.0), high=min(of.high, 1.0)) if of.k > 1 else of


def replicate_count(rows: pd.DataFrame, *further: str) -> str:
    """Return how many replicates the cells have: '5', or '3 to 5'. further: columns that tell cells apart too."""
    sizes = rows.drop_duplicates(["run_id", *further]).groupby(["backbone", *START, "size", *further]).size()
    return _ends(sizes) if len(sizes) else "0"


def _ends(counts: Iterable[int]) -> str:
    least, most = min(counts), max(counts)
    return str(most) if least == most else f"{least} to {most}"


def _replicates(count: str) -> str:
    return f"n = {count} replicate{'' if count == '1' else 's'}"


# --- accuracy --------------------------------------------------------------------------------------------------------


def curve(rows: pd.DataFrame, label: str, *, settled: bool = False) -> tuple[Point, ...]:
    """Return the mean accuracy of a group at each size, with Student's interval over replicates.

    settled: whether the rows are compared as settled, so that a point with a row that is not is hollow.
    """
    points: list[Point] = []
    is_open = unsettled(rows) if settled else set()
    wide = rep.wide(rows)
    for size in wide.columns:
        frame = wide[[size]].set_axis(["top1"], axis=1).dropna()
        if len(frame):
            point = _mean_point(float(str(size)), f"{label} · N = {int(str(size)):,}", frame.reset_index())
            points.append(
                replace(point, hollow=True, tip=f"{point.tip}, not settled") if int(str(size)) in is_open else point
            )
    return recipes.mark_apart(points, recipes.by_size(rows))


def unsettled(rows: pd.DataFrame) -> set[int]:
    """Return the sizes at which a row with a training budget of its own is not settled."""
    is_open = (rows["comparison"] != "") & ~rows["settled"].fillna(False).astype(bool)
    return {int(size) for size in rows.loc[is_open, "size"]}


def _mean_point(x: float, words: str, rows: pd.DataFrame) -> Point:
    of = mean_of(rows)
    inside = f"95 %: {span(of.low, of.high)}, " if of.k > 1 else ""
    tip = f"{words} · {percent(of.value)} % ({inside}n = {len(rows)})"
    return Point(x=x, y=of.value, low=of.low, high=of.high, tip=tip)


def _series(label: str, points: tuple[Point, ...], rows: pd.DataFrame, dash: Dash, *, bold: bool) -> Series:
    """Return the line of one backbone, in the hue of its family and with the marker of its architecture."""
    first = rows.iloc[0]
    if catalogue.traits(str(first["backbone"])).control:
        return Series(label=label, points=points, hue="other", marker=_alone(points), dash=CONTROL)
    marker = MARKERS.get(str(first["architecture"]), "star")
    hue = str(first["family"]) if first["family"] in HUES else "other"
    return Series(label=label, points=points, hue=hue, marker=marker, dash=dash, bold=bold)


def _alone(points: tuple[Point, ...]) -> str:
    """Return the marker of a line that needs none, unless it is a single point."""
    return "star" if len(points) == 1 else ""


def _dash(regime: object) -> Dash:
    return DASHES.get(str(regime), (3, 2))


def accuracy(
    rows: pd.DataFrame, *, prefix: str = "", of: str = "vit", against: str = "cnn", comparison: str = ""
) -> Chart:
    """Return the main figure: accuracy against labelled images, for each backbone and start.

    rows: comparable rows of every start (`statistics.comparable(scratch=False)`). prefix: of the file's name.
    comparison: of the rows, `settled` or `equal`.
    """
    is_scratch = is_from_scratch(rows)
    scratch, others = rows[is_scratch], rows[~is_scratch]
    names, shorter = shortened(rows["backbone"])
    reference = set(rep.select(scratch, of)["backbone"])
    members = sorted(rep.select(scratch, against)["backbone"].unique())
    series = []
    if len(members) > 1:
        label = f"{against.upper() if len(against) <= 3 else against} mean of {len(members)}"
        those = rep.select(scratch, against)
        is_whole = those.groupby("size")["backbone"].transform("nunique") == len(members)
        points = curve(those[is_whole], label, settled=comparison == SETTLED)
        series.append(Series(label=label, points=points, hue=against, marker=_alone(points), bold=True))
    for backbone, part in scratch.groupby("backbone"):
        bold = not reference or backbone in reference or members == [backbone]
        points = curve(part, f"{backbone}, from scratch", settled=comparison == SETTLED)
        series.append(_series(names[str(backbone)], points, part, (), bold=bold))
    starts = rep.select(others, of)[START].drop_duplicates() if len(others) else others
    few = len(starts) <= 2  # more bands hide one another
    for (name, regime, protocol, _), part in others.groupby(["backbone", *START]):
        points = curve(part, f"{name}, {regime}, {protocol}", settled=comparison == SETTLED)
        bold = not reference or (few and name in reference)
        series.append(_series(label_of(part, others, names), points, part, _dash(regime), bold=bold))
    series = [line for line in series if line.points]
    under = recipes.break_note(series) + recipes.side_by_side(rows, names)
    caption = (
        f"Mean test accuracy over {_replicates(replicate_count(rows))}, each a draw of the labelled images and a "
        f"seed. {looks(series, 'where the weights come from')}{HOW.get(comparison, '')}{under}{shorter}"
    )
    at = f"at {int(series[0].points[0].x):,}" if one_size(series) else "against"
    return Chart(
        name=f"{prefix}accuracy{_tail(comparison)}",
        title=f"Accuracy {at} labelled training images, CNN against ViT, by regime",
        caption=caption,
        series=tuple(series),
        ylabel="test accuracy, %",
        levels=chance(rows),
        recipes=under.strip(),
    )


def _tail(comparison: str) -> str:
    """Return the end of a figure's name, which tells settled cells from the main figure."""
    return "-settled" if comparison == SETTLED else ""


def chance(rows: pd.DataFrame) -> tuple[Level, ...]:
    """Return the level that needs no learning (`statistics.chance`), if the accuracy of some run is near it."""
    level = chance_of(rows)
    lowest = min((float(top1) for top1 in rows["top1"]), default=1.0)
    if math.isnan(level) or lowest >= level + NEAR:
        return ()
    return (Level(y=level, words=f"chance, {percent(level, 0)} %"),)


def shortfall(
    by_start: Iterable[tuple[str, pd.DataFrame, str]],
    *,
    prefix: str = "",
    comparison: str = "",
    who: str = "the CNN family",
) -> Chart:
    """Return the shortfall at each size with both intervals.

    by_start: (regime, table of `statistics.gaps`, label) for each line. A table may have a flag `settled`, False at
    sizes whose points are hollow, and a column `recipe`: no line joins different ones. comparison: of the rows,
    `settled` or `equal`. who: the group of the tables.
    """
    lines = list(by_start)
    series = _gap_lines((label, table, _dash(regime)) for regime, table, label in lines)
    where = patterned(series, "where the ViT's weights come from")
    caption = (
        f"Mean accuracy of {who} minus that of plain ViT, paired over "
        f"{_replicates(_paired(t for _, t, _ in lines))}. {BARS}{where} The CNNs are always trained from scratch."
        f"{HOW.get(comparison, '')}{recipes.break_note(series)}"
    )
    return Chart(
        name=f"{prefix}shortfall{_tail(comparison)}",
        title=f"The shortfall: how far plain ViT lies below {who}",
        caption=caption,
        series=series,
        ylabel="shortfall, points",
        zero=True,
    )


def _paired(tables: Iterable[pd.DataFrame]) -> str:
    counts = [int(k) for table in tables for k in table["n"]]
    return _ends(counts) if counts else "0"


def _gap_lines(lines: Iterable[tuple[str, pd.DataFrame, Dash]]) -> tuple[Series, ...]:
    """Return a line for each (label, table of `gaps`, pattern) that has rows. A solid line is bold."""
    series = []
    for label, table, dash in lines:
        points = []
        for row in table.to_dict("records"):
            tip = f"{label} · N = {row['size']:,} · {percent(row['shortfall'])} points ({span(row['low'], row['high'])}"
            wide = span(row["low_any"], row["high_any"])
            tip += f"; with test images {wide}; n = {row['n']})" if wide != "–" else f"; n = {row['n']})"
            ends = {name: row[name] for name in ("low", "high", "low_any", "high_any")}
            is_open = not row.get("settled", True)
            tip += ", not settled" if is_open else ""
            points.append(Point(x=float(row["size"]), y=row["shortfall"], tip=tip, hollow=is_open, **ends))
        if points:
            under = {row["size"]: frozenset([row["recipe"]]) for row in table.to_dict("records") if "recipe" in row}
            joined = recipes.mark_apart(points, under)
            series.append(Series(label=label, points=joined, hue="transformer", dash=dash, bold=not dash))
    return tuple(series)


# --- axes and epochs -------------------------------------------------------------------------------------------------


def accuracy_by_value(axis: str, by_value: Mapping[str, pd.DataFrame], *, prefix: str = "", tail: str = "") -> Chart:
    """Return the accuracy of every backbone and start at each value of an axis.

    by_value: a value in words → comparable rows, the reference first. prefix, tail: of the file's name. A control that
    a value does not change is drawn once.
    """
    names, shorter = shortened(name for rows in by_value.values() for name in rows["backbone"])
    series, once = [], dict[str, list[float]]()
    for place, (words, rows) in enumerate(by_value.items()):
        for (backbone, *_), part in rows.groupby(["backbone", *START]):
            points = curve(part, f"{backbone}, {words}")
            label = label_of(part, rows, names)
            heights = [point.y for point in points]
            if place and catalogue.traits(str(backbone)).control and once.get(label) == heights:
                continue
            once.setdefault(label, heights)
            label = f"{label}, {words}" if place else label
            series.append(_series(label, points, part, value_dash(place), bold=place == 0))
    series = [line for line in series if line.points]
    every = [rows.assign(value=words) for words, rows in by_value.items()]
    axis_words = schema.axis_words(axis)
    return Chart(
        name=f"{prefix}{axis}{tail}",
        title=f"Accuracy by {axis_words}",
        caption=(
            f"Mean test accuracy over {_replicates(replicate_count(pd.concat(every), 'value'))}. "
            f"{looks(series, f'the {axis_words}')}{recipes.break_note(series)}{shorter}"
        ),
        series=tuple(series),
        ylabel="test accuracy, %",
        legend=_patterns(list(by_value)),
    )


def shortfall_by_value(axis: str, by_value: Mapping[str, pd.DataFrame], *, prefix: str = "", tail: str = "") -> Chart:
    """Return the shortfall at each value of an axis. by_value: a value in words → rows of `statistics.arms`."""
    axis_words = schema.axis_words(axis)
    lines = []
    for place, (words, rows) in enumerate(by_value.items()):
        for (regime, protocol, source), part in rows.groupby(START):
            many = rows[START].drop_duplicates().shape[0] > 1
            lines.append((start_label(words, regime, protocol, source) if many else words, part, value_dash(place)))
    series = _gap_lines(lines)
    return Chart(
        name=f"{prefix}{axis}-shortfall{tail}",
        title=f"The CNNs minus plain ViT by {axis_words}",
        caption=(
            f"Mean accuracy of the CNNs with such runs minus that of plain ViT, paired over n = "
            f"{_paired(by_value.values())} replicates. {BARS}{patterned(series, f'the {axis_words}')}"
        ),
        series=series,
        ylabel="CNNs minus plain ViT, points",
        legend=_patterns(list(by_value)),
        zero=True,
    )


def value_dash(place: int) -> Dash:
    """Return the line pattern of an axis's value by its place, 0 for the reference."""
    return VALUE_DASHES[place % len(VALUE_DASHES)]


def _patterns(words: Sequence[str]) -> tuple[tuple[str, Dash], ...]:
    return tuple((text, value_dash(place)) for place, text in enumerate(words))


def epochs(accuracies: pd.DataFrame, *, size: int, prefix: str = "", tail: str = "") -> Chart:
    """Return accuracy on the hold-out over the epochs.

    accuracies: a row for each backbone, start, draw, seed and epoch, with its accuracy `top1`.
    """
    names, shorter = shortened(accuracies["backbone"])
    series = []
    for (_, regime, *_), part in accuracies.groupby(["backbone", *START]):
        label = label_of(part, accuracies, names)
        points = [
            _mean_point(float(str(epoch)), f"{label} · epoch {float(str(epoch)):.0f}", at)
            for epoch, at in part.groupby("epoch")
        ]
        series.append(_series(label, tuple(points), part, _dash(regime), bold=True))
    n = accuracies.drop_duplicates(["backbone", *START, *schema.REPLICATE]).groupby(["backbone", *START]).size()
    caption = (
        f"Mean accuracy on the hold-out over {_replicates(_ends(n))} at N = {size:,}. "
        f"{looks(series, 'where the weights come from')} Nothing is chosen by these curves.{shorter}"
    )
    return Chart(
        name=f"{prefix}epochs{tail}",
        title=f"Accuracy on the hold-out over the epochs, N = {size:,}",
        caption=caption,
        series=tuple(series),
        ylabel="accuracy on the hold-out, %",
        xlabel="epochs",
        log=False,
    )

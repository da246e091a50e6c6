"""Draw a chart of one size as a forest plot: a row a line, with its name, its point and interval, and its value."""

import itertools
import math
from typing import Any, NamedTuple

from bias_lab.report.figures.chart import Chart, Dash, Level, Series, percent
from bias_lab.report.figures.palette import HUES
from bias_lab.report.figures.panel import (
    INK,
    LARGER,
    LETTER,
    PAPER,
    RULE,
    SHAPES,
    SOFT,
    Frame,
    fitted,
    is_known,
    outline,
    pattern,
    percent_ticks,
    put_text,
    shown,
)

_ROW = 1.9  # height of a row over the font size
_NAME = 1.45  # height of a name above its points
_WIDEST = 0.55  # share of the width that names may take beside their points; longer ones stand above these
_EDGE = 12.0  # left of names above their points, in pixels


class _Row(NamedTuple):
    """One row: a panel's title, a level's words, or a line. panel: its number. name: of a line."""

    panel: int
    what: str | Level | Series
    name: str = ""


def figure(chart: Chart, frame: Frame, whole: Any) -> list[tuple[float, float, str]]:
    """Draw the chart into an empty matplotlib figure, whose height it sets.

    Returns (x, y, words) of each point, in pixels from the bottom left. Rows go from the largest value to the smallest.
    """
    rows, f = _rows(chart), frame
    widest = max(len(row.name) for row in rows) * f.font * LETTER + 16
    is_above = widest > _WIDEST * f.width
    left, right = (_EDGE if is_above else widest), 5 * f.font * LETTER + 14
    step = _ROW * f.font
    above = _NAME * f.font if is_above else 0.0
    heights = [step + (above if isinstance(row.what, Series) else 0.0) for row in rows]
    total = sum(heights)
    height = f.top + total + f.bottom
    whole.set_figheight(height / 72)
    box = (left / f.width, f.bottom / height, (f.width - left - right) / f.width, total / height)
    axes = _axes(chart, f, whole.add_axes(box, facecolor="none"), total)
    ends = list(itertools.accumulate(heights))
    last = {row.panel: end for row, end in zip(rows, ends, strict=True)}
    drawn: list[tuple[float, float, str]] = []
    for row, end in zip(rows, ends, strict=True):
        middle = end - step / 2  # of its points, from the top
        v = height - f.top - middle
        if isinstance(row.what, Level):
            _level(axes, row.what, f, (middle, last[row.panel]))
        elif isinstance(row.what, Series):
            drawn.append(_line(axes, row.what, (middle, f.scale), len(drawn)))
            room = int((f.width - 2 * _EDGE if is_above else left - 14) / (f.font * LETTER))
            looks: dict[str, Any] = dict(color=HUES[row.what.hue], fontweight="bold" if row.what.bold else "normal")
            looks |= dict(va="center", ha="left" if is_above else "right")
            looks |= dict(bbox=dict(facecolor=PAPER, linewidth=0, pad=0.5)) if is_above else {}  # no rule strikes it
            put_text(whole, *((_EDGE, v + above) if is_above else (left - 10, v)), fitted(row.name, room), looks)
            value = percent(row.what.points[0].y)
            put_text(whole, f.width - 4, v, value, dict(va="center", ha="right", color=SOFT))
        else:
            at = _EDGE if is_above else left
            put_text(whole, at, v, row.what, dict(va="center", color=INK, fontweight="bold"))
    words = f"{chart.ylabel}; {one_size_words(chart)}"
    put_text(whole, (left + f.width - right) / 2, 8, words, dict(ha="center", va="bottom", color=SOFT))
    return drawn


def one_size_words(chart: Chart) -> str:
    """Return the one size of a chart in words: '1,000 labelled training images'."""
    return f"{int(chart.series[0].points[0].x):,} {chart.xlabel.removesuffix(' (log scale)')}"


def _rows(chart: Chart) -> list[_Row]:
    """Return a chart's rows from the top: of each panel its title, its levels, then its lines by value."""
    kinds: dict[Dash, str] = {}
    for words, dash in chart.legend:
        kinds.setdefault(dash, words)  # patterns repeat after the sixth
    rows = []
    for place, title in enumerate(chart.panels):
        rows += [_Row(place, title)] if title else []
        rows += [_Row(place, level) for level in chart.levels if level.panel in ("", title)]
        lines = [line for line in chart.series if line.panel == title]
        for line in sorted(lines, key=lambda line: -line.points[0].y):
            is_told = any(words in line.label for words, _ in chart.legend)
            kind = "" if is_told else kinds.get(line.dash, "")
            rows.append(_Row(place, line, f"{line.label}, {kind}" if kind else line.label))
    return rows


def _axes(chart: Chart, frame: Frame, axes: Any, height: float) -> Any:
    """Return axes whose y runs down in pixels, with the values along x."""
    axes.set(xlim=_reach(chart), ylim=(height, 0.0))
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.spines["bottom"].set_color(SOFT)
    axes.tick_params(colors=SOFT, labelsize=frame.font)
    axes.set_yticks([])
    percent_ticks(axes.xaxis, 7 if frame.width > 400 else 5)
    axes.grid(axis="x", color=RULE, linewidth=frame.scale, clip_on=False)
    axes.set_axisbelow(True)
    if chart.zero:
        axes.axvline(0, color=SOFT, linewidth=1.2, clip_on=False, zorder=1)
    return axes


def _reach(chart: Chart) -> tuple[float, float]:
    """Return the ends of the axis of values, which holds every interval as far as an accuracy or a gap can reach."""
    points, least = shown(chart), -1.0 if chart.zero else 0.0
    ends = [v for p in points for v in (p.y, p.low, p.high, p.low_any, p.high_any) if math.isfinite(v)]
    ends += [*(level.y for level in chart.levels), *([0.0] if chart.zero else [])]
    low, high = max(min(ends), least), min(max(ends), 1.0)
    pad = max(0.04 * (high - low), 0.005)
    return max(low - pad, least), min(high + pad, 1.0)


def _level(axes: Any, level: Level, frame: Frame, ends: tuple[float, float]) -> None:
    """Draw a thin line down the rows of a panel, its words beside its upper end. ends: its y, from the words down."""
    looks: dict[str, Any] = dict(color=SOFT, linewidth=frame.scale, linestyle=pattern((1, 3), frame.scale), zorder=1)
    axes.plot([level.y] * 2, ends, **looks)
    low, high = axes.get_xlim()
    is_late = level.y > (low + high) / 2
    axes.annotate(
        level.words, (level.y, ends[0]), (-4 if is_late else 4, 0), textcoords="offset points", color=SOFT,
        fontsize=0.85 * frame.font, va="center", ha="right" if is_late else "left", annotation_clip=False,
    )  # fmt: skip


def _line(axes: Any, line: Series, at: tuple[float, float], number: int) -> tuple[float, float, str]:
    """Draw the interval and the marker of a row. at: its y, and the scale of strokes. Returns where, and its words."""
    y, scale = at
    (point,) = line.points
    low, high = axes.get_xlim()
    style: dict[str, Any] = dict(color=HUES[line.hue], clip_on=False)
    for start, end, width in ((point.low_any, point.high_any, 1.1), (point.low, point.high, 6)):
        if is_known(start, end):
            ends = [max(start, low), min(end, high)]
            looks = dict(linewidth=scale * width, alpha=0.35 if width > 2 else 1, solid_capstyle="butt", zorder=2.5)
            axes.plot(ends, [y, y], **looks, **style)
    axes.plot(
        [point.y], [y], linestyle="none", marker=SHAPES[line.marker or "star"], zorder=4,
        markersize=scale * (8.6 if line.bold else 7) * LARGER.get(line.marker, 1),
        gid=f"point{number}", **outline(line, point, scale), **style,
    )  # fmt: skip
    return (*axes.transData.transform((point.y, y)), point.tip)

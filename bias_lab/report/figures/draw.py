"""Render a chart with matplotlib: as SVG within the page, as SVG and PNG files for a paper, as PNG for a notebook.

The page needs each chart wide and narrow, in light and dark. Its SVG therefore names CSS variables in place of colours,
keeps text as text in the page's font, and marks each point with the words that appear on hovering.
"""

import io
import math
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from bias_lab.report.figures.charts import Chart, Point, Series
from bias_lab.report.figures.palette import HUES, LIGHT

INK, SOFT, RULE, PAPER = (LIGHT[name] for name in ("ink", "soft", "rule", "paper"))
_VARIABLES = {colour.lower(): name for name, colour in LIGHT.items()}
_SHAPES = dict(circle="o", square="s", triangle="^", diamond="D", pentagon="p", down="v", cross="X", star="*", none="")
_EMPTY = "no finished runs yet: the figure appears with the first rows"
_LINE = 1.25  # height of a line of text over its font size
_LETTER = 0.6  # width of a letter over its font size, on average


class Frame(NamedTuple):
    """Sizes of a chart in pixels of 1/72 inch: width, height, margins, font. scale: of line widths and markers."""

    name: str
    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    font: float
    scale: float = 1.0


WIDE = Frame("wide", 860, 470, 54, 190, 16, 50, 13)
NARROW = Frame("narrow", 358, 400, 36, 112, 12, 46, 11)
FILE = Frame("file", 489.6, 290, 40, 120, 10, 34, 8.5, 0.6)  # 6.8 inches wide, its y axis labelled


def svg(chart: Chart, frame: Frame = WIDE) -> str:
    """Return the chart as an inline `<svg>`. Colours are CSS variables, `data-tip` holds the words of a point."""
    figure, points = _figure(chart, frame)
    text = saved(figure, "svg", salt=f"{chart.name}-{frame.name}").decode()
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text[text.index("<svg") :], flags=re.S)
    text = re.sub(r'(<g id="\w+")/>', r"\1></g>", text)  # a point without a marker
    text = re.sub(r"<g id=\"point(\d+)\">", lambda match: _point(*points[int(match[1])]), text)
    text = re.sub(r'<g id="[\w.]+_\d+">', "<g>", text)
    text = re.sub(r"\b(fill|stroke): (#[0-9a-f]{6})\b", _variable, text)
    text = re.sub(r"font: (bold |[67]00 )?([\d.]+px) [^;\"]*", _font, text).replace("xlink:href", "href")
    head = f'<svg class="chart {frame.name}" viewBox="0 0 {frame.width} {frame.height}" role="img"'
    return f'{head} aria-label="{escape(chart.title)}"{text[text.index(">") :]}'.replace("\n", " ").rstrip()


def save(chart: Chart, folder: Path) -> list[Path]:
    """Write the chart as `NAME.svg`, its text kept as text, and `NAME.png` (300 dpi). Return both paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{chart.name}.svg", folder / f"{chart.name}.png"]
    figure, _ = _figure(chart, FILE)
    paths[0].write_bytes(saved(figure, "svg", salt=chart.name))
    paths[1].write_bytes(saved(figure, "png", dpi=300))
    return paths


def png(chart: Chart, *, dpi: int = 120) -> bytes:
    """Return the chart as the bytes of a PNG, for a notebook's `Image` or for W&B."""
    return saved(_figure(chart, FILE)[0], "png", dpi=dpi)


def saved(figure: Any, kind: str, *, salt: str = "", dpi: float = 72) -> bytes:
    """Return a matplotlib figure as the bytes of an SVG or PNG. The same figure and salt give the same bytes."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(buffer, format=kind, dpi=dpi, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()


def _point(u: float, v: float, tip: str) -> str:
    """Return the opening tag of a point's group, and a circle that is easier to hit than the marker."""
    words = escape(tip)
    tag = f'<g class="point" data-tip="{words}" tabindex="0" role="img" aria-label="{words}">'
    return f'{tag}<circle class="hit" cx="{u:.1f}" cy="{v:.1f}" r="11"></circle>'


def _variable(match: re.Match[str]) -> str:
    name = _VARIABLES.get(match[2])
    return f"{match[1]}: var(--{name})" if name else match[0]


def _font(match: re.Match[str]) -> str:
    return f"font-size: {match[2]}" + ("; font-weight: 650" if match[1] else "")


# --- layout ----------------------------------------------------------------------------------------------------------


def _figure(chart: Chart, frame: Frame) -> tuple[Any, list[tuple[float, float, str]]]:
    """Return a matplotlib figure, and (x, y, words) of each point in pixels from the top left."""
    import matplotlib
    from matplotlib.figure import Figure  # brings its own canvas: no window, no global state

    style: Any = {"font.size": frame.font, "lines.scale_dashes": False, "text.parse_math": False}
    with matplotlib.rc_context(style):
        figure = Figure(
            figsize=(frame.width / 72, frame.height / 72), dpi=72, facecolor="none" if frame.name != "file" else PAPER
        )
        points = shown(chart)
        if not points:
            figure.text(0.5, 0.5, _EMPTY, ha="center", color=SOFT)
            return figure, []
        longest = max(len(line.label) for line in chart.series) * frame.font * _LETTER + 28
        frame = frame._replace(right=min(max(0.75 * frame.right, longest), 0.43 * frame.width))
        frame = frame._replace(top=frame.top + _legend(figure, chart, frame))
        axes = _axes(figure, chart, frame, points)
        drawn = _lines(figure, axes, chart, frame.scale)
        _labels(figure, axes, chart.series, frame)
    return figure, [(u, frame.height - v, tip) for u, v, tip in drawn]


def _axes(figure: Any, chart: Chart, frame: Frame, points: Sequence[Point]) -> Any:
    """Return the plot's axes with ticks, rules and their words."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

    f = frame
    across, up = f.width - f.left - f.right, f.height - f.top - f.bottom
    axes = figure.add_axes((f.left / f.width, f.bottom / f.height, across / f.width, up / f.height), facecolor="none")
    x_low, x_high = x_range(points, log=chart.log)
    axes.set(xscale="log" if chart.log else "linear", xlim=(x_low, x_high), ylim=y_range(points, zero=chart.zero))
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.spines["bottom"].set_color(SOFT)
    axes.minorticks_off()
    axes.tick_params(colors=SOFT, labelsize=f.font)
    axes.tick_params(axis="y", length=0)
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{round(100 * y, 6):g}".replace("-", "−")))
    sizes = sorted({p.x for p in points})
    axes.xaxis.set_major_locator(
        FixedLocator(_apart(axes, sizes, f.font)) if chart.log else MaxNLocator(8, steps=[1, 2, 5, 10], integer=True)
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{int(x):,}"))
    axes.grid(axis="y", color=RULE, linewidth=f.scale, clip_on=False)
    axes.set_axisbelow(True)
    if chart.zero:
        axes.axhline(0, color=SOFT, linewidth=1.2, clip_on=False, zorder=1)
    _text(figure, f.left + across / 2, 8, chart.xlabel, ha="center", va="bottom", color=SOFT)
    if f.name == "file":
        _text(figure, 6, f.bottom + up / 2, chart.ylabel, rotation=90, va="center", color=SOFT)
    return axes


def _apart(axes: Any, sizes: Sequence[float], font: float) -> list[float]:
    """Return the sizes whose labels do not run into the one before."""
    kept: list[float] = []
    before = -math.inf
    for size in sizes:
        u, half = axes.transData.transform((size, 0))[0], len(f"{int(size):,}") * font * _LETTER / 2
        if u - half > before + 4:
            kept, before = [*kept, size], u + half
    return kept


def _text(figure: Any, x: float, y: float, words: str, **style: Any) -> None:
    figure.text(x / 72, y / 72, words, transform=figure.dpi_scale_trans, **style)


def _stroke(figure: Any, xs: Sequence[float], ys: Sequence[float], **style: Any) -> None:
    from matplotlib.lines import Line2D

    scaled = [[value / 72 for value in part] for part in (xs, ys)]
    figure.add_artist(Line2D(*scaled, transform=figure.dpi_scale_trans, **style))


def _legend(figure: Any, chart: Chart, frame: Frame) -> float:
    """Draw a sample of each line pattern with its words above the plot, and return the height that this takes."""
    x, row, height = frame.left, 0, frame.font * 1.6
    for words, dash in chart.legend:
        width = 36 + len(words) * frame.font * _LETTER
        if x > frame.left and x + width > frame.width:
            x, row = frame.left, row + 1
        y = frame.height - frame.top - (row + 0.5) * height
        _stroke(figure, (x, x + 26), (y, y), color=INK, linewidth=1.6, linestyle=_pattern(dash, frame.scale))
        _text(figure, x + 32, y, words, va="center", color=INK)
        x += width + 14
    return (row + 1) * height + 4 if chart.legend else 0.0


def _pattern(dash: tuple[int, ...], scale: float = 1.0) -> Any:
    return (0, tuple(scale * part for part in dash)) if dash else "solid"


# --- lines and labels ------------------------------------------------------------------------------------------------


def _lines(figure: Any, axes: Any, chart: Chart, scale: float) -> list[tuple[float, float, str]]:
    """Draw bands, lines, whiskers and markers. Return (x, y, words) of each point, in pixels from the bottom left."""
    from matplotlib.transforms import ScaledTranslation

    drawn: list[tuple[float, float, str]] = []
    order = sorted(chart.series, key=lambda line: line.bold)
    bars = chart.zero or lone(chart)
    low, high = axes.get_ylim()
    for place, line in enumerate(order):
        # Intervals of several lines stand beside one another.
        aside = min(7.0, 60 / len(order)) * (place - (len(order) - 1) / 2) if bars else 0.0
        moved = axes.transData + ScaledTranslation(aside / 72, 0, figure.dpi_scale_trans)
        style: dict[str, Any] = dict(color=HUES[line.hue], transform=moved, clip_on=False, solid_capstyle="butt")
        band = [p for p in line.points if math.isfinite(p.low) and math.isfinite(p.high)]
        if line.bold and not bars and len(band) > 1:
            edges = [[min(max(getattr(p, end), low), high) for p in band] for end in ("low", "high")]
            axes.fill_between([p.x for p in band], *edges, color=HUES[line.hue], alpha=0.14, linewidth=0, clip_on=False)
        if len(line.points) > 1:
            weight, alpha = (2.6, 1) if line.bold else (1.2, 0.8)
            x, y = zip(*((p.x, p.y) for p in line.points), strict=True)
            axes.plot(
                x,
                y,
                linewidth=scale * weight,
                alpha=alpha,
                linestyle=_pattern(line.dash, scale),
                zorder=2 + line.bold,
                **style,
            )
        for point in line.points:
            for bottom, top, width in ((point.low_any, point.high_any, 1.1), (point.low, point.high, 6)):
                if bars and math.isfinite(bottom) and math.isfinite(top):
                    ends = [max(bottom, low), min(top, high)]
                    axes.plot(
                        [point.x] * 2,
                        ends,
                        linewidth=scale * width,
                        alpha=0.35 if width > 2 else 1,
                        zorder=2.5,
                        **style,
                    )
            axes.plot(
                [point.x], [point.y], linestyle="none", marker=_SHAPES[line.marker or "none"], zorder=4,
                markersize=scale * (8.6 if line.bold else 7), markeredgecolor=PAPER, markeredgewidth=scale,
                gid=f"point{len(drawn)}", **style,
            )  # fmt: skip
            drawn.append((*moved.transform((point.x, point.y)), point.tip))
    return drawn


def _labels(figure: Any, axes: Any, series: Sequence[Series], frame: Frame) -> None:
    """Write each line's label at its right end with a hair line, or beside a curve that ends before the others."""
    f = frame
    ends = [axes.transData.transform((line.points[-1].x, line.points[-1].y)) for line in series]
    edge = round(max(u for u, _ in ends))
    for where in sorted({round(u) for u, _ in ends}):
        here = [k for k, (u, _) in enumerate(ends) if round(u) == where]
        places = push_apart([ends[k][1] for k in here], f.font * _LINE, f.bottom, f.height - f.top)
        x = f.width - f.right + 20 if where >= edge else where + 10
        for k, y in zip(here, places, strict=True):
            line, (u, v), hue = series[k], ends[k], HUES[series[k].hue]
            if where >= edge:
                _stroke(figure, (u + 7, x - 4), (v, y), color=hue, linewidth=0.7, alpha=0.45)
            words = fitted(line.label, int((f.right - 22) / (f.font * _LETTER)))
            _text(figure, x, y, words, color=hue, va="center", fontweight="bold" if line.bold else "normal")


def push_apart(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return places as near to `wanted` as can be, at least `gap` apart, in the same order.

    They lie within [low, high] if they fit there.
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    blocks: list[tuple[float, int]] = []  # sum of the places that members want for the block's first, and their number

    def bottom(block: tuple[float, int]) -> float:
        return max(low, min(block[0] / block[1] - gap / 2, high - block[1] * gap))

    for i in order:
        blocks.append((wanted[i], 1))
        while len(blocks) > 1 and bottom(blocks[-2]) + blocks[-2][1] * gap > bottom(blocks[-1]) + 1e-9:
            total, members = blocks.pop()
            before, count = blocks.pop()
            blocks.append((before + total - members * count * gap, count + members))
    starts = [bottom(block) + k * gap + gap / 2 for block in blocks for k in range(block[1])]
    return [start for _, start in sorted(zip(order, starts, strict=True))]


def fitted(label: str, room: int) -> str:
    """Return a label cut to `room` letters. What follows its '+' is kept: 'deit_tiny_p… + weights'."""
    name, plus, start = label.partition(" + ")
    left = room - 1 - len(plus + start)
    if len(label) <= room:
        return label
    return f"{name[:left]}…{plus}{start}" if plus and left >= 4 else label[: room - 1] + "…"


# --- ranges ----------------------------------------------------------------------------------------------------------


def lone(chart: Chart) -> bool:
    """Return whether there is one size only. Every line is then a point, and its interval a bar."""
    return chart.log and len({point.x for line in chart.series for point in line.points}) == 1


def shown(chart: Chart) -> list[Point]:
    """Return the points that set the axis, without the intervals that are not drawn."""
    points = [(point, line.bold or chart.zero or lone(chart)) for line in chart.series for point in line.points]
    return [point if with_interval else Point(x=point.x, y=point.y) for point, with_interval in points]


def x_range(points: Sequence[Point], *, log: bool) -> tuple[float, float]:
    """Return the ends of the x axis: all sizes and a little more, or from 0 on a linear axis."""
    low, high = min(p.x for p in points), max(p.x for p in points)
    if not log:
        return 0.0, 1.02 * high
    pad = (high / low) ** 0.04 if high > low else 1.6
    return low / pad, high * pad


def y_range(points: Sequence[Point], *, zero: bool) -> tuple[float, float]:
    """Return the ends of the y axis, which holds every value and its interval.

    An interval that would flatten the rest is cut at 1.5 times the range of the values.
    """
    values = [p.y for p in points]
    reach = max(max(values) - min(values), 0.02)
    floor, roof = min(values) - 1.5 * reach, max(values) + 1.5 * reach
    ends = [e for p in points for e in (p.low, p.high, p.low_any, p.high_any) if math.isfinite(e)]
    ends = [min(max(e, floor), roof) for e in ends] + values + ([0.0] if zero else [])
    low, high = min(ends), max(ends)
    pad = max(0.04 * (high - low), 0.005)
    low, high = low - pad, high + pad
    return (low, high) if zero else (max(0.0, low), min(1.0, high))

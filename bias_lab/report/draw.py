"""A chart → SVG for the page (by hand: light, dark, narrow), or → SVG and PNG files for a paper (matplotlib)."""

import io
import math
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from bias_lab.report.figures import HUES, Chart, Point, Series, fitted


class Frame(NamedTuple):
    """Where a chart's parts lie, in pixels: width, height, and the four margins around the plot."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    font: int


WIDE = Frame(860, 470, 54, 190, 16, 50, 13)
NARROW = Frame(358, 400, 36, 112, 12, 46, 11)
_LINE = 1.22  # height of a line of text over its font size


class Axes(NamedTuple):
    """Data → pixels: x logarithmic (or linear), y linear."""

    x: tuple[float, float]
    y: tuple[float, float]
    frame: Frame
    log: bool = True

    def at(self, x: float, y: float) -> tuple[float, float]:
        f = self.frame
        low, here, high = (math.log(k) if self.log else k for k in (self.x[0], x, self.x[1]))
        across = (here - low) / (high - low)
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return f.left + across * (f.width - f.left - f.right), f.height - f.bottom - up * (f.height - f.top - f.bottom)


def svg(chart: Chart, frame: Frame = WIDE) -> str:
    """The chart as an inline `<svg>`; colours are CSS variables of the page, values are in `data-tip` for hovering."""
    points, f = shown(chart), frame
    head = f'<svg class="chart {"wide" if f is WIDE else "narrow"}" viewBox="0 0 {f.width} {f.height}" role="img"'
    head += f' aria-label="{escape(chart.title)}" font-size="{f.font}">'
    if not points:
        words = "no finished runs yet: the figure appears with the first rows"
        return (
            f'{head}<text class="soft" x="{f.width / 2}" y="{f.height / 2}" text-anchor="middle">{words}</text></svg>'
        )
    longest = max(len(line.label) for line in chart.series) * f.font * 0.6 + 24
    f = f._replace(right=int(min(max(0.75 * f.right, longest), 0.43 * f.width)))  # room for the labels, no more
    axes = Axes(_x_range(points, chart.log), y_range(points, zero=chart.zero), f, chart.log)
    parts = [head, *_grid(chart, axes, points)]
    order = sorted(chart.series, key=lambda line: line.bold)
    bars = chart.zero or lone(chart)
    parts += [_band(line, axes) for line in order if line.bold and not bars]
    middle = (len(order) - 1) / 2
    for place, line in enumerate(order):
        aside = (
            min(7.0, 60 / len(order)) * (place - middle) if bars else 0.0
        )  # intervals of several lines stand beside one another
        parts += _line(line, axes, whiskers=bars, aside=aside)
    parts += _labels(chart.series, axes)
    return "".join([*parts, "</svg>"])


def lone(chart: Chart) -> bool:
    """Whether there is but one size: then every line is a point, and its interval a bar."""
    return chart.log and len({point.x for line in chart.series for point in line.points}) == 1


def _x_range(points: Sequence[Point], log: bool) -> tuple[float, float]:
    low, high = min(p.x for p in points), max(p.x for p in points)
    if not log:
        return 0.0, 1.02 * high
    pad = (high / low) ** 0.04 if high > low else 1.6
    return low / pad, high * pad


def y_range(points: Sequence[Point], *, zero: bool) -> tuple[float, float]:
    """The axis holds every value and interval, unless one replicate's blown-up interval would flatten the rest."""
    values = [p.y for p in points]
    reach = max(max(values) - min(values), 0.02)
    floor, roof = min(values) - 1.5 * reach, max(values) + 1.5 * reach
    ends = [e for p in points for e in (p.low, p.high, p.low_any, p.high_any) if math.isfinite(e)]
    ends = [min(max(e, floor), roof) for e in ends] + values + ([0.0] if zero else [])
    low, high = min(ends), max(ends)
    pad = max(0.04 * (high - low), 0.005)
    low, high = low - pad, high + pad
    return (low, high) if zero else (max(0.0, low), min(1.0, high))


def y_ticks(low: float, high: float, *, most: int = 7) -> list[float]:
    """Round values within the axis, at most `most`: steps of 1, 2, 5, 10, 20 points."""
    for step in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0):
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 <= most:
            return [k * step for k in range(first, last + 1)]
    return [low, high]


def x_ticks(points: Sequence[Point], log: bool) -> list[float]:
    """Every size that was run, or round steps from 0."""
    sizes = sorted({p.x for p in points})
    if log:
        return sizes
    step = next(s for k in range(9) for s in (10**k, 2 * 10**k, 5 * 10**k) if sizes[-1] / s <= 8)
    return [float(x) for x in range(0, int(sizes[-1]) + 1, step)]


def _grid(chart: Chart, axes: Axes, points: Sequence[Point]) -> list[str]:
    f = axes.frame
    parts = []
    for y in y_ticks(*axes.y):
        _, v = axes.at(axes.x[0], y)
        rule = "zero" if chart.zero and abs(y) < 1e-12 else "rule"
        parts.append(f'<line class="{rule}" x1="{f.left}" x2="{f.width - f.right}" y1="{v:.1f}" y2="{v:.1f}"/>')
        told = f"{round(100 * y, 6):g}".replace("-", "−")
        parts.append(f'<text class="soft" x="{f.left - 7}" y="{v + f.font * 0.35:.1f}" text-anchor="end">{told}</text>')
    base = f.height - f.bottom
    before = -1e9
    for x in x_ticks(points, axes.log):
        u, _ = axes.at(x, axes.y[0])
        parts.append(f'<line class="axis" x1="{u:.1f}" x2="{u:.1f}" y1="{base}" y2="{base + 4}"/>')
        told = f"{int(x):,}"
        if u - before > len(told) * f.font * 0.62 + 4:
            parts.append(f'<text class="soft" x="{u:.1f}" y="{base + 6 + f.font}" text-anchor="middle">{told}</text>')
            before = u
    parts.append(f'<line class="axis" x1="{f.left}" x2="{f.width - f.right}" y1="{base}" y2="{base}"/>')
    middle = (f.left + f.width - f.right) / 2
    parts.append(
        f'<text class="soft" x="{middle}" y="{f.height - 6}" text-anchor="middle">{escape(chart.xlabel)}</text>'
    )
    return parts


def _band(line: Series, axes: Axes) -> str:
    known = [p for p in line.points if math.isfinite(p.low) and math.isfinite(p.high)]
    low, high = axes.y
    corners = [axes.at(p.x, min(p.high, high)) for p in known] + [
        axes.at(p.x, max(p.low, low)) for p in reversed(known)
    ]
    path = " ".join(f"{u:.1f},{v:.1f}" for u, v in corners)
    return f'<polygon class="band {line.hue}" points="{path}"/>' if len(known) > 1 else ""


def _line(line: Series, axes: Axes, *, whiskers: bool, aside: float = 0.0) -> list[str]:
    places = [(u + aside, v) for u, v in (axes.at(p.x, p.y) for p in line.points)]
    kind = f"{line.hue}{' bold' if line.bold else ''}"
    dash = f' stroke-dasharray="{" ".join(map(str, line.dash))}"' if line.dash else ""
    path = " ".join(f"{u:.1f},{v:.1f}" for u, v in places)
    parts = [f'<polyline class="line {kind}" points="{path}"{dash}/>'] if len(places) > 1 else []
    for point, (u, v) in zip(line.points, places, strict=True):
        if whiskers:
            parts += _whiskers(point, u, axes, kind)
        tip = escape(point.tip)
        mark = marker(line.marker, u, v, 4.4 if line.bold else 3.6) if line.marker else ""
        parts.append(
            f'<g class="point {kind}" data-tip="{tip}" tabindex="0" role="img" aria-label="{tip}">'
            f'<circle class="hit" cx="{u:.1f}" cy="{v:.1f}" r="11"/>{mark}</g>'
        )
    return parts


def _whiskers(point: Point, u: float, axes: Axes, kind: str) -> list[str]:
    parts = []
    for low, high, width in ((point.low_any, point.high_any, "thin"), (point.low, point.high, "thick")):
        if math.isfinite(low) and math.isfinite(high):
            _, top = axes.at(point.x, min(high, axes.y[1]))
            _, bottom = axes.at(point.x, max(low, axes.y[0]))
            parts.append(
                f'<line class="whisker {width} {kind}" x1="{u:.1f}" x2="{u:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>'
            )
    return parts


def marker(shape: str, u: float, v: float, r: float) -> str:
    """A marker's outline around (u, v): every shape about as large to the eye."""
    if shape == "circle":
        return f'<circle class="mark" cx="{u:.1f}" cy="{v:.1f}" r="{r:.1f}"/>'
    corners = {
        "square": [(k * 90 + 45, 1.25) for k in range(4)],
        "diamond": [(k * 90, 1.3) for k in range(4)],
        "triangle": [(k * 120 - 90, 1.35) for k in range(3)],
        "down": [(k * 120 + 90, 1.35) for k in range(3)],
        "pentagon": [(k * 72 - 90, 1.2) for k in range(5)],
        "star": [(k * 36 - 90, 1.6 if k % 2 == 0 else 0.7) for k in range(10)],
        "cross": [(k * 30 + 15, 1.45 if k % 3 != 1 else 0.5) for k in range(12)],
    }[shape]
    path = " ".join(
        f"{u + s * r * math.cos(math.radians(a)):.1f},{v + s * r * math.sin(math.radians(a)):.1f}" for a, s in corners
    )
    return f'<polygon class="mark" points="{path}"/>'


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places as near to `wanted` as can be, at least `gap` apart, in the same order, within [low, high] if they fit."""
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    blocks: list[tuple[float, int]] = []  # (sum of where the members want the block's first to be, members)

    def top(block: tuple[float, int]) -> float:
        return max(low, min(block[0] / block[1] - gap / 2, high - block[1] * gap))

    for i in order:
        blocks.append((wanted[i], 1))
        while len(blocks) > 1 and top(blocks[-2]) + blocks[-2][1] * gap > top(blocks[-1]) + 1e-9:
            total, members = blocks.pop()
            before, count = blocks.pop()
            blocks.append((before + total - members * count * gap, count + members))
    starts = [top(block) + k * gap + gap / 2 for block in blocks for k in range(block[1])]
    return [start for _, start in sorted(zip(order, starts, strict=True))]


def _labels(series: Sequence[Series], axes: Axes) -> list[str]:
    """Direct labels, pushed apart: at the right end with a hair line, or beside a curve that ends before it."""
    f = axes.frame
    ends = [axes.at(line.points[-1].x, line.points[-1].y) for line in series]
    edge = max(u for u, _ in ends)
    parts: list[str] = []
    for where in sorted({round(u) for u, _ in ends}):
        here = [k for k, (u, _) in enumerate(ends) if round(u) == where]
        places = spread([ends[k][1] for k in here], f.font * _LINE, f.top, f.height - f.bottom)
        last = where >= round(edge)
        x = f.width - f.right + 20 if last else where + 10
        room = int((f.right - 22) / (f.font * 0.56))
        for k, y in zip(here, places, strict=True):
            line, (u, v) = series[k], ends[k]
            kind = f"{line.hue}{' bold' if line.bold else ''}"
            told = fitted(line.label, room)
            if last:
                parts.append(f'<line class="lead {kind}" x1="{u + 7:.1f}" y1="{v:.1f}" x2="{x - 4}" y2="{y:.1f}"/>')
            parts.append(f'<text class="label {kind}" x="{x}" y="{y + f.font * 0.35:.1f}">{escape(told)}</text>')
    return parts


def shown(chart: Chart) -> list[Point]:
    """The points that set the axis: with their intervals where those are drawn, else without."""
    drawn = [(point, line.bold or chart.zero or lone(chart)) for line in chart.series for point in line.points]
    return [point if with_interval else Point(x=point.x, y=point.y) for point, with_interval in drawn]


# --- files for a paper ----------------------------------------------------------------------------------------------

_SHAPES = dict(circle="o", square="s", triangle="^", diamond="D", pentagon="p", down="v", cross="X", star="*")

STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "bias_lab", "font.size": 8.5, "axes.linewidth": 0.6}


def save(chart: Chart, folder: Path, *, width: float = 6.8) -> list[Path]:
    """The chart as `NAME.svg` and `NAME.png` (300 dpi), width in inches; labels direct, text as text in the SVG."""
    import matplotlib

    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{chart.name}.svg", folder / f"{chart.name}.png"]
    with matplotlib.rc_context(STYLE):
        figure = _figure(chart, width)
        figure.savefig(paths[0], metadata={"Date": None})
        figure.savefig(paths[1], dpi=300)
    return paths


def png(chart: Chart, *, width: float = 6.8, dpi: int = 120) -> bytes:
    """The chart as the bytes of a PNG, for a notebook's `Image`."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        return as_png(_figure(chart, width), dpi)


def as_png(figure: Any, dpi: int = 120) -> bytes:
    """A matplotlib figure as the bytes of a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def _figure(chart: Chart, width: float) -> Any:
    from matplotlib.figure import Figure  # the canvas that a figure brings along: no window, no global state

    points = shown(chart)
    figure = Figure(figsize=(width, width * 0.58), layout="constrained")
    axes = figure.add_subplot()
    if points:
        _plot(axes, chart, points, figure)
    else:
        axes.text(0.5, 0.5, "no finished runs yet", ha="center", transform=axes.transAxes)
    return figure


def _plot(axes: Any, chart: Chart, points: Sequence[Point], figure: Any) -> None:
    low, high = y_range(points, zero=chart.zero)
    left, right = _x_range(points, chart.log)
    axes.set(
        xscale="log" if chart.log else "linear",
        xlim=(left, right),
        ylim=(100 * low, 100 * high),
        xlabel=chart.xlabel,
        ylabel=chart.ylabel,
    )
    sizes = x_ticks(points, chart.log)
    axes.set_xticks(sizes, [f"{int(x):,}" for x in sizes])
    axes.tick_params(axis="x", which="minor", bottom=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e3e3e3", linewidth=0.5)
    axes.set_axisbelow(True)
    if chart.zero:
        axes.axhline(0, color="#444444", linewidth=0.8)
    bars = chart.zero or lone(chart)
    for place, line in enumerate(chart.series):
        step = (right / left) ** 0.012 if bars else 1.0  # intervals of several lines stand beside one another
        line = replace(
            line, points=tuple(replace(p, x=p.x * step ** (place - len(chart.series) / 2 + 0.5)) for p in line.points)
        )
        x, y = [p.x for p in line.points], [100 * p.y for p in line.points]
        dash: Any = (0, tuple(d / 2 for d in line.dash)) if line.dash else "solid"
        weight = 1.8 if line.bold else 0.9
        axes.plot(
            x, y, color=HUES[line.hue], linestyle=dash, linewidth=weight, marker=_SHAPES.get(line.marker, ""),
            markersize=4.2 if line.bold else 3.4, zorder=3 if line.bold else 2,
        )  # fmt: skip
        band = [p for p in line.points if math.isfinite(p.low)]
        if line.bold and not bars and len(band) > 1:
            axes.fill_between(
                [p.x for p in band], [100 * p.low for p in band], [100 * p.high for p in band],
                color=HUES[line.hue], alpha=0.15, linewidth=0,
            )  # fmt: skip
        if bars:
            for p in line.points:
                axes.vlines(p.x, 100 * p.low_any, 100 * p.high_any, color=HUES[line.hue], linewidth=0.8)
                axes.vlines(p.x, 100 * p.low, 100 * p.high, color=HUES[line.hue], linewidth=2.6)
    height = figure.get_figheight() * 72 * 0.8
    scale = (100 * high - 100 * low) / height
    places = spread(
        [100 * line.points[-1].y / scale for line in chart.series], 10.5, 100 * low / scale, 100 * high / scale
    )
    for line, level in zip(chart.series, places, strict=True):
        axes.annotate(
            line.label, (line.points[-1].x, 100 * line.points[-1].y),
            xytext=(right * (right / left) ** 0.03 if chart.log else 1.03 * right, level * scale),
            color=HUES[line.hue], va="center", fontweight="bold" if line.bold else "normal", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": HUES[line.hue], "linewidth": 0.4, "alpha": 0.6, "relpos": (0, 0.5)},
        )  # fmt: skip

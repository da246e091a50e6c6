"""Lay out one panel of a chart with matplotlib: axes, lines with intervals, labels, and the ranges of the axes."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bias_lab.report.figures.chart import Chart, Level, Point, Series
from bias_lab.report.figures.palette import HUES, LIGHT

INK, SOFT, RULE, PAPER = (LIGHT[name] for name in ("ink", "soft", "rule", "paper"))
SHAPES = dict(circle="o", square="s", triangle="^", diamond="D", pentagon="p", down="v", cross="X", star="*", none="")
LARGER = {"star": 1.6}  # a star fills less of its square than the other shapes
_LINE = 1.25  # height of a line of text over its font size
TITLE = 1.9  # height of a panel's title over its font size
LETTER = 0.6  # width of a letter over its font size, on average


class Frame(NamedTuple):
    """Sizes of a chart in pixels of 1/72 inch: width, height, margins, font. scale: of line widths and markers.

    columns, row: how many panels stand side by side, and the height of one, in a chart of several.
    """

    name: str
    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    font: float
    scale: float = 1.0
    columns: int = 2
    row: float = 240


def panel_frames(frame: Frame, count: int, label: float) -> list[Frame]:
    """Return a frame for each of several panels, in rows from the top left. All have the height of the whole chart.

    label: room for labels at the right of a panel, in pixels.
    """
    rows = math.ceil(count / frame.columns)
    width, height = frame.width / frame.columns, frame.top + rows * frame.row + frame.bottom / 2
    frames = []
    for place in range(count):
        row, column = divmod(place, frame.columns)
        top = frame.top + row * frame.row
        frames.append(
            frame._replace(
                height=height, left=column * width + frame.left, top=top + TITLE * frame.font,
                right=frame.width - (column + 1) * width + min(label, 0.43 * width),
                bottom=height - top - frame.row + 2.2 * frame.font,
            )
        )  # fmt: skip
    return frames


def axes_of(figure: Any, chart: Chart, frame: Frame, points: Sequence[Point]) -> Any:
    """Return a panel's axes with ticks and rules. points: of all panels, which share their axes."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

    f = frame
    across, up = f.width - f.left - f.right, f.height - f.top - f.bottom
    axes = figure.add_axes((f.left / f.width, f.bottom / f.height, across / f.width, up / f.height), facecolor="none")
    x_low, x_high = x_range(points, log=chart.log)
    axes.set(
        xscale="log" if chart.log else "linear",
        xlim=(x_low, x_high),
        ylim=y_range(points, zero=chart.zero, levels=[level.y for level in chart.levels]),
    )
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.spines["bottom"].set_color(SOFT)
    axes.minorticks_off()
    axes.tick_params(colors=SOFT, labelsize=f.font)
    axes.tick_params(axis="y", length=0)
    percent_ticks(axes.yaxis)
    sizes = sorted({p.x for p in points})
    axes.xaxis.set_major_locator(
        FixedLocator(_apart(axes, sizes, f.font)) if chart.log else MaxNLocator(8, steps=[1, 2, 5, 10], integer=True)
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{int(x):,}"))
    axes.grid(axis="y", color=RULE, linewidth=f.scale, clip_on=False)
    axes.set_axisbelow(True)
    if chart.zero:
        axes.axhline(0, color=SOFT, linewidth=1.2, clip_on=False, zorder=1)
    return axes


def percent_ticks(axis: Any, most: int = 7) -> None:
    """Set round ticks on an axis of fractions, shown in percent. most: how many."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(100 * value, 6):g}".replace("-", "−")))


def _apart(axes: Any, sizes: Sequence[float], font: float) -> list[float]:
    """Return the sizes whose labels do not run into the one before."""
    kept: list[float] = []
    before = -math.inf
    for size in sizes:
        u, half = axes.transData.transform((size, 0))[0], len(f"{int(size):,}") * font * LETTER / 2
        if u - half > before + 4:
            kept, before = [*kept, size], u + half
    return kept


def put_text(figure: Any, x: float, y: float, words: str, style: Mapping[str, Any]) -> None:
    figure.text(x / 72, y / 72, words, transform=figure.dpi_scale_trans, **style)


def stroke(figure: Any, xs: Sequence[float], ys: Sequence[float], style: Mapping[str, Any]) -> None:
    from matplotlib.lines import Line2D

    scaled = [[value / 72 for value in part] for part in (xs, ys)]
    figure.add_artist(Line2D(*scaled, transform=figure.dpi_scale_trans, **style))


def pattern(dash: tuple[int, ...], scale: float = 1.0) -> Any:
    return (0, tuple(scale * part for part in dash)) if dash else "solid"


# --- lines and labels ------------------------------------------------------------------------------------------------


def draw_levels(figure: Any, axes: Any, levels: Sequence[Level], series: Sequence[Series], frame: Frame) -> None:
    """Draw thin lines across a panel, each with its words above its left end, which no other line strikes through.

    The words of all stand at the right end where they would meet fewer points of the panel's lines. Points lie above.
    """
    f = frame
    heights = [float(axes.transData.transform((1, level.y))[1]) for level in levels]
    for level in levels:
        axes.axhline(
            level.y, color=SOFT, linewidth=f.scale, linestyle=pattern((1, 3), f.scale), clip_on=False, zorder=1
        )
    size = 0.85 * f.font
    middles = push_apart([v + 0.7 * size for v in heights], 1.2 * size, f.bottom, f.height)
    points = [axes.transData.transform((point.x, point.y)) for line in series for point in line.points]
    left, right = f.left + 4, f.width - f.right - 4

    def met(at_right: bool) -> int:
        boxes = [(len(level.words) * size * LETTER, v) for level, v in zip(levels, middles, strict=True)]
        return sum(
            abs(y - v) < size and (right - x if at_right else x - left) < wide for x, y in points for wide, v in boxes
        )

    at_right = met(True) < met(False)
    for level, v in zip(levels, middles, strict=True):
        paper = dict(facecolor=PAPER, linewidth=0, pad=0.5 * f.scale)
        style: dict[str, Any] = dict(
            va="center", ha="right" if at_right else "left", color=SOFT, fontsize=size, bbox=paper
        )
        at = (right if at_right else left) / 72, v / 72
        axes.text(*at, level.words, transform=figure.dpi_scale_trans, zorder=3.5, clip_on=False, **style)


def draw_lines(
    figure: Any, axes: Any, chart: Chart, series: Sequence[Series], scale: float, first: int = 0
) -> list[tuple[float, float, str]]:
    """Draw bands, lines, whiskers and markers of one panel.

    first: the number of its first point, counted over panels. Returns (x, y, words) of each point, in pixels from the
    bottom left.
    """
    from matplotlib.transforms import ScaledTranslation

    drawn: list[tuple[float, float, str]] = []
    order = sorted(series, key=lambda line: line.bold)
    low, high = axes.get_ylim()
    for place, line in enumerate(order):
        # Intervals of several lines stand beside one another.
        aside = min(7.0, 60 / len(order)) * (place - (len(order) - 1) / 2) if chart.zero else 0.0
        moved = axes.transData + ScaledTranslation(aside / 72, 0, figure.dpi_scale_trans)
        style: dict[str, Any] = dict(color=HUES[line.hue], transform=moved, clip_on=False, solid_capstyle="butt")
        if line.bold and not chart.zero:
            _draw_band(axes, line, low, high)
        weight, alpha = (2.6, 1) if line.bold else (1.2, 0.8)
        looks = dict(linewidth=scale * weight, alpha=alpha, linestyle=pattern(line.dash, scale))
        for piece in line.pieces:
            if len(piece) > 1:
                axes.plot([p.x for p in piece], [p.y for p in piece], zorder=2 + line.bold, **looks, **style)
        alone = {piece[0] for piece in line.pieces if len(piece) == 1} if line.bold else set()  # no band shows these
        for point in line.points:
            for bottom, top, width in ((point.low_any, point.high_any, 1.1), (point.low, point.high, 6)):
                if (chart.zero or point in alone) and is_known(bottom, top):
                    axes.plot(
                        [point.x] * 2,
                        [max(bottom, low), min(top, high)],
                        linewidth=scale * width,
                        alpha=0.35 if width > 2 else 1,
                        zorder=2.5,
                        **style,
                    )
            axes.plot(
                [point.x], [point.y], linestyle="none", marker=SHAPES[line.marker or "none"], zorder=4,
                markersize=scale * (8.6 if line.bold else 7) * LARGER.get(line.marker, 1),
                gid=f"point{first + len(drawn)}", **outline(line, point, scale), **style,
            )  # fmt: skip
            drawn.append((*moved.transform((point.x, point.y)), point.tip))
    return drawn


def _draw_band(axes: Any, line: Series, low: float, high: float) -> None:
    """Fill between the ends of a line's intervals, cut at the ends of the y axis."""
    for piece in line.pieces:
        band = [p for p in piece if is_known(p.low, p.high)]
        edges = [[min(max(getattr(p, end), low), high) for p in band] for end in ("low", "high")]
        if len(band) > 1:
            axes.fill_between([p.x for p in band], *edges, color=HUES[line.hue], alpha=0.14, linewidth=0, clip_on=False)


def is_known(low: float, high: float) -> bool:
    """Return whether an interval is drawn, which one open at both ends is not. One open at one goes on to the edge."""
    is_open = math.isinf(low) and math.isinf(high)
    return not (is_open or math.isnan(low) or math.isnan(high))


def outline(line: Series, point: Point, scale: float) -> dict[str, Any]:
    """Return how a marker is filled and outlined: a hollow one in the colour of its line."""
    if point.hollow:
        return dict(markerfacecolor=PAPER, markeredgecolor=HUES[line.hue], markeredgewidth=1.6 * scale)
    return dict(markeredgecolor=PAPER, markeredgewidth=scale)


def draw_labels(figure: Any, axes: Any, series: Sequence[Series], frame: Frame) -> None:
    """Write each line's label at its right end with a hair line, or beside a curve that ends before the others.

    A lone point before the end, with no other there, has it where the fewest lines pass.
    """
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
                stroke(figure, (u + 7, x - 4), (v, y), dict(color=hue, linewidth=0.7, alpha=0.45))
            words = fitted(line.label, int((f.right - 22) / (f.font * LETTER)))
            looks: dict[str, Any] = dict(color=hue, va="center", fontweight="bold" if line.bold else "normal")
            if where < edge and len(here) == len(line.points) == 1:
                x, y, side = _free(axes, series, (u, y), (len(words) * f.font * LETTER, f.font), f.left)
                looks["ha"] = side
            put_text(figure, x, y, words, looks)


def _free(
    axes: Any, series: Sequence[Series], at: tuple[float, float], size: tuple[float, float], start: float
) -> tuple[float, float, str]:
    """Return where the label of a lone point has the fewest lines in its way: beside it, above or below.

    at: of the point. size: width and height of the label. start: of the axes, which no label passes. All in pixels.
    """
    (u, v), (wide, high) = at, size
    left = {"left": 0.0, "right": wide, "center": wide / 2}  # of the place that a label is put at
    places = [(u + 10, v, "left"), (u - 10, v, "right"), (u, v + 1.2 * high, "center"), (u, v - 1.2 * high, "center")]
    boxes = [((x - left[side], x - left[side] + wide), (y - high / 2, y + high / 2)) for x, y, side in places]
    passing = [_passing(axes, series, *box) if box[0][0] > start else math.inf for box in boxes]
    return places[passing.index(min(passing))]


STEPS = 50  # places of a stretch between two points at which it is looked whether it passes through a label


def _passing(axes: Any, series: Sequence[Series], across: tuple[float, float], up: tuple[float, float]) -> int:
    """Return how many lines have a point in a box or pass through it. across, up: its ends in pixels."""
    found = 0
    for line in series:
        ends = [[axes.transData.transform((point.x, point.y)) for point in piece] for piece in line.pieces]
        joined = [pair for piece in ends for pair in itertools.pairwise(piece)]
        steps = [a + (b - a) * k / STEPS for a, b in joined for k in range(STEPS + 1)]
        steps += [place for piece in ends for place in piece]
        found += any(across[0] <= u <= across[1] and up[0] <= v <= up[1] for u, v in steps)
    return found


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
    """Return a label cut to `room` letters. What tells a line from others is kept: 'deit_tiny_p… + weights'.

    That is the part after its '+', and of a long one with two parts the start of each: 'vit + supe…tiny_ima…'.
    """
    name, plus, start = label.partition(" + ")
    left = room - 1 - len(plus + start)
    if len(label) <= room:
        return label
    if plus and left >= 4:
        return f"{name[:left]}…{plus}{start}"
    first, comma, last = start.partition(", ")
    if comma and len(first) > 5:
        label = f"{name}{plus}{first[:4]}…{last}"
    return label if len(label) <= room else label[: room - 1] + "…"


# --- ranges ----------------------------------------------------------------------------------------------------------


def shown(chart: Chart) -> list[Point]:
    """Return the points that set the axis, without the intervals that are not drawn."""
    points = [(point, line.bold or chart.zero or chart.is_lone) for line in chart.series for point in line.points]
    return [point if with_interval else Point(x=point.x, y=point.y) for point, with_interval in points]


def x_range(points: Sequence[Point], *, log: bool) -> tuple[float, float]:
    """Return the ends of the x axis: all sizes and a little more, or from 0 on a linear axis."""
    low, high = min(p.x for p in points), max(p.x for p in points)
    if not log:
        return 0.0, 1.02 * high
    pad = (high / low) ** 0.04 if high > low else 1.6
    return low / pad, high * pad


def y_range(points: Sequence[Point], *, zero: bool, levels: Sequence[float] = ()) -> tuple[float, float]:
    """Return the ends of the y axis, which holds every value with its interval, and every level.

    An interval that would flatten the rest is cut at 1.5 times the range of the values.
    """
    values = [p.y for p in points]
    reach = max(max(values) - min(values), 0.02)
    floor, roof = min(values) - 1.5 * reach, max(values) + 1.5 * reach
    ends = [e for p in points for e in (p.low, p.high, p.low_any, p.high_any) if math.isfinite(e)]
    ends = [min(max(e, floor), roof) for e in ends] + values + [*levels, *([0.0] if zero else [])]
    low, high = min(ends), max(ends)
    pad = max(0.04 * (high - low), 0.005)
    low, high = low - pad, high + pad
    return (low, high) if zero else (max(0.0, low), min(1.0, high))

"""Render a chart with matplotlib: as SVG within the page, as SVG and PNG files for a paper, as PNG for a notebook.

The page needs each chart wide and narrow, in light and dark. Its SVG therefore names CSS variables in place of colours,
keeps text as text in the page's font, and marks each point with the words that appear on hovering.
"""

import io
import re
from html import escape
from pathlib import Path
from typing import Any

from bias_lab.report.figures import forest
from bias_lab.report.figures.chart import Chart
from bias_lab.report.figures.palette import LIGHT
from bias_lab.report.figures.panel import (
    INK,
    LETTER,
    PAPER,
    SOFT,
    TITLE,
    Frame,
    axes_of,
    draw_labels,
    draw_levels,
    draw_lines,
    panel_frames,
    pattern,
    put_text,
    shown,
    stroke,
)

_VARIABLES = {colour.lower(): name for name, colour in LIGHT.items()}
_EMPTY = "no finished runs yet: the figure appears with the first rows"

WIDE = Frame("wide", 860, 470, 54, 190, 16, 50, 13)
NARROW = Frame("narrow", 358, 400, 36, 112, 12, 46, 11, columns=1, row=220)
FILE = Frame("file", 489.6, 290, 40, 120, 10, 34, 8.5, 0.6, row=150)  # 6.8 inches wide, its y axis labelled


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
    height = round(72 * figure.get_figheight(), 2)
    head = f'<svg class="chart {frame.name}" viewBox="0 0 {frame.width} {height:g}" role="img"'
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
        paper = "none" if frame.name != "file" else PAPER
        figure = Figure(figsize=(frame.width / 72, frame.height / 72), dpi=72, facecolor=paper)
        points = shown(chart)
        if not points:
            figure.text(0.5, 0.5, _EMPTY, ha="center", color=SOFT)
            return figure, []
        if chart.is_lone:
            drawn = forest.figure(chart, frame, figure)
            return figure, [(u, 72 * figure.get_figheight() - v, tip) for u, v, tip in drawn]
        frames = _frames(chart, frame)
        whole = frames[0]
        figure.set_figheight(whole.height / 72)
        _legend(figure, chart, whole._replace(top=frame.top))
        drawn = []
        for title, of in zip(chart.panels, frames, strict=True):
            series = [line for line in chart.series if line.panel == title]
            axes = axes_of(figure, chart, of, points)
            draw_levels(figure, axes, [level for level in chart.levels if level.panel in ("", title)], series, of)
            drawn += draw_lines(figure, axes, chart, series, of.scale, len(drawn))
            draw_labels(figure, axes, series, of)
            if title:
                put_text(
                    figure,
                    of.left,
                    of.height - of.top + of.font,
                    title,
                    dict(va="center", color=INK, fontweight="bold"),
                )
        _axis_words(figure, chart, frames)
    return figure, [(u, whole.height - v, tip) for u, v, tip in drawn]


def _frames(chart: Chart, frame: Frame) -> list[Frame]:
    """Return the frame of each panel, with room for the longest label and for the legend."""
    label = max(len(line.label) for line in chart.series) * frame.font * LETTER + 28
    below_legend = frame._replace(top=frame.top + _legend(None, chart, frame))
    if len(chart.panels) > 1:
        return panel_frames(below_legend, len(chart.panels), label)
    top = below_legend.top + (TITLE * frame.font if chart.panels[0] else 0)
    return [below_legend._replace(top=top, right=min(max(0.75 * frame.right, label), 0.43 * frame.width))]


def _axis_words(figure: Any, chart: Chart, frames: list[Frame]) -> None:
    """Write what the x axis shows below the panels, and in a file what the y axis shows beside them."""
    first, right = frames[0], min(of.right for of in frames)
    put_text(
        figure, (first.left + first.width - right) / 2, 8, chart.xlabel, dict(ha="center", va="bottom", color=SOFT)
    )
    if first.name == "file":
        low = min(of.bottom for of in frames)
        height = (low + first.height - first.top) / 2
        put_text(figure, 6, height, chart.ylabel, dict(rotation=90, va="center", color=SOFT))


def _legend(figure: Any, chart: Chart, frame: Frame) -> float:
    """Draw a sample of each line pattern with its words above the plot, and return the height that this takes.

    figure: None to measure alone.
    """
    x, row, height = frame.left, 0, frame.font * 1.6
    for words, dash in chart.legend:
        width = 36 + len(words) * frame.font * LETTER
        if x > frame.left and x + width > frame.width:
            x, row = frame.left, row + 1
        y = frame.height - frame.top - (row + 0.5) * height
        if figure is None:
            x += width + 14
            continue
        stroke(figure, (x, x + 26), (y, y), dict(color=INK, linewidth=1.6, linestyle=pattern(dash, frame.scale)))
        put_text(figure, x + 32, y, words, dict(va="center", color=INK))
        x += width + 14
    return (row + 1) * height + 4 if chart.legend else 0.0

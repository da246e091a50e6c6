"""Hold a figure before it is drawn: lines of points with intervals, their looks, and numbers in words."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

Dash = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One value with its interval.

    low_any, high_any: the wider interval, if there is one. tip: shown on hovering. hollow: whether the marker is drawn
    as an outline, which marks a cell that is not settled. apart: whether no line joins it to the point before.
    """

    x: float
    y: float
    low: float = math.nan
    high: float = math.nan
    low_any: float = math.nan
    high_any: float = math.nan
    tip: str = ""
    hollow: bool = False
    apart: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A line: the hue is a family, the marker a shape's name, bold what the figure is about.

    panel: the title of the panel that holds it, empty in a figure of one panel.
    """

    label: str
    points: tuple[Point, ...]
    hue: str
    marker: str = "circle"
    dash: Dash = ()
    bold: bool = False
    panel: str = ""

    @property
    def pieces(self) -> tuple[tuple[Point, ...], ...]:
        """Return the points that lines join, in order."""
        pieces: list[list[Point]] = []
        for point in self.points:
            if point.apart or not pieces:
                pieces.append([])
            pieces[-1].append(point)
        return tuple(map(tuple, pieces))


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A thin line across a panel that shows what a value is worth, such as the chance level."""

    y: float
    words: str
    panel: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A figure over the number of labelled images, or of images seen.

    y is a fraction and is shown in percent or points. legend: words → the pattern of their lines. zero: whether 0 is on
    the axis, with a line there. log: whether x is on a log scale. name: of its file. levels: lines across the panels,
    which share both axes. recipes: the sentences of the caption on recipes.
    """

    name: str
    title: str
    caption: str
    series: tuple[Series, ...]
    ylabel: str
    xlabel: str = "labelled training images (log scale)"
    legend: tuple[tuple[str, Dash], ...] = ()
    zero: bool = False
    log: bool = True
    levels: tuple[Level, ...] = ()
    recipes: str = ""

    @property
    def panels(self) -> tuple[str, ...]:
        """Return the titles of the panels in order, one empty title for a figure of one panel."""
        return tuple(dict.fromkeys(line.panel for line in self.series)) or ("",)

    @property
    def is_lone(self) -> bool:
        """Return whether there is one size only, so that no lines can be drawn, and each of them is a row."""
        return self.log and one_size(self.series)


def one_size(series: Iterable[Series]) -> bool:
    """Return whether each of these lines is one point, and all are at one size."""
    lines = list(series)
    return all(len(line.points) == 1 for line in lines) and len({line.points[0].x for line in lines}) == 1


# --- numbers in words -------------------------------------------------------------------------------------------------

MORE_DIGITS = 3  # of an interval whose ends would read alike


def percent(fraction: float, digits: int = 1) -> str:
    """Return a fraction in percent, 0.1234 → '12.3', or a dash where there is none. Zero has no sign.

    >>> percent(-0.1234), percent(-0.0004), percent(math.nan)
    ('−12.3', '0.0', '–')
    """
    return "–" if math.isnan(fraction) else f"{round(100 * fraction, digits) + 0.0:.{digits}f}".replace("-", "−")


def span(low: float, high: float, digits: int = 1) -> str:
    """Return an interval in percent or points: '70.1 to 73.5', 'above 70.1', 'unbounded'.

    Ends that would read alike have as many more digits as tell them apart, at most `MORE_DIGITS`.

    >>> span(0.2, 0.2041), span(0.19998, 0.20003)
    ('20.0 to 20.4', '19.998 to 20.003')
    """
    if math.isnan(low) or math.isnan(high):
        return "–"
    if math.isinf(high):
        return "unbounded" if math.isinf(low) else f"above {percent(low, digits)}"
    if math.isinf(low):
        return f"below {percent(high, digits)}"
    enough = (n for n in range(digits, digits + MORE_DIGITS) if percent(low, n) != percent(high, n))
    digits = next(enough, digits + MORE_DIGITS)
    return f"{percent(low, digits)} to {percent(high, digits)}"

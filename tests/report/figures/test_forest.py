"""Charts of one size: a row for each line, with its name, its value and its interval, whatever the frame."""

import itertools
import math
import re
import xml.etree.ElementTree as ET

import pytest

from bias_lab.report.figures import charts, draw
from bias_lab.report.figures.chart import Chart, Level, Point, Series
from bias_lab.report.figures.labels import looks, patterned
from tests.planted import curve, rows, table

FRAMES = (draw.WIDE, draw.NARROW, draw.FILE)
LOW = Series(label="vit", hue="transformer", points=(Point(x=300, y=0.4, low=0.35, high=0.45, tip="low"),), bold=True)
HIGH = Series(
    label="resnet", hue="cnn", marker="square", points=(Point(x=300, y=0.612, low=0.6, high=0.62, tip="high"),)
)


def chart(*series: Series, **further: object) -> Chart:
    return Chart(name="x", title="t", caption="", series=series, ylabel="test accuracy, %", **further)  # type: ignore[arg-type]


def texts(drawn: str) -> dict[str, tuple[float, float]]:
    """Return each text of an SVG → (x, y), from the top left."""
    return {
        n.text or "": (float(n.get("x", "nan")), float(n.get("y", "nan"))) for n in ET.fromstring(drawn).iter("text")
    }


@pytest.mark.parametrize("frame", FRAMES)
def test_each_line_is_a_row_with_its_value_and_the_largest_comes_first(frame: draw.Frame) -> None:
    at = texts(draw.svg(chart(LOW, HIGH), frame))
    assert at["resnet"][1] < at["vit"][1]
    assert at["61.2"][0] == pytest.approx(at["40.0"][0], abs=1)
    assert at["61.2"][1] < at["40.0"][1]
    assert "test accuracy, %; 300 labelled training images" in at


@pytest.mark.parametrize("frame", FRAMES)
def test_rows_of_many_lines_stand_within_the_frame_and_apart(frame: draw.Frame) -> None:
    names = [f"vit_micro + supervised, source number {k}, not all trained" for k in range(12)]
    lines = [Series(label=name, hue="cnn", points=(Point(x=10, y=k / 20),)) for k, name in enumerate(names)]
    drawn = draw.svg(chart(*lines), frame)
    height = float(re.search(r'viewBox="0 0 \S+ (\S+)"', drawn)[1])  # type: ignore[index]
    at = texts(drawn)
    assert all(0 <= x <= frame.width and 0 <= y <= height for x, y in at.values())
    places = sorted(y for text, (_, y) in at.items() if text.startswith("vit"))
    assert len(places) == len(names)
    assert min(b - a for a, b in itertools.pairwise(places)) > frame.font


def test_a_name_with_no_room_beside_its_point_stands_above_it() -> None:
    long = Series(label="deit_tiny_patch16_224 + weights", hue="transformer", points=(Point(x=10, y=0.5, tip="it"),))
    for frame, is_above in ((draw.WIDE, False), (draw.NARROW, True)):
        at = texts(draw.svg(chart(long), frame))
        assert (at[long.label][1] < at["50.0"][1] - 5) == is_above


def test_points_lie_at_their_values_and_keep_their_words() -> None:
    drawn = draw.svg(chart(LOW, HIGH))
    at = {words: float(x) for words, x in re.findall(r'data-tip="(\w+)".*?cx="([\d.]+)"', drawn)}
    ticks = {int(text): x for text, (x, _) in texts(drawn).items() if text.isdigit()}
    first, last = min(ticks), max(ticks)
    scale = (ticks[last] - ticks[first]) / (last - first)
    assert at["high"] - at["low"] == pytest.approx(21.2 * scale, abs=1)


def test_a_pattern_is_named_in_its_row_where_a_chart_of_several_sizes_has_a_legend() -> None:
    legend = (("plain", ()), ("strong", (7, 3)))
    dashed = Series(label="vit", hue="transformer", dash=(7, 3), points=(Point(x=300, y=0.5),))
    at = texts(draw.svg(chart(LOW, dashed, legend=legend)))
    assert {"vit, plain", "vit, strong"} <= set(at)
    assert "strong" not in at


def test_a_name_that_tells_its_value_is_given_none_and_patterns_may_repeat() -> None:
    legend = (("v0", ()), ("v1", (7, 3)), ("v6", ()))
    told = Series(label="v1 + mae", hue="transformer", dash=(7, 3), points=(Point(x=300, y=0.5),))
    last = Series(label="vit, v6", hue="transformer", points=(Point(x=300, y=0.3),))
    names = set(texts(draw.svg(chart(LOW, told, last, legend=legend))))
    assert {"vit, v0", "v1 + mae", "vit, v6"} <= names


def test_an_interval_is_never_cut_where_a_row_shows_it() -> None:
    wide = Series(label="vit", hue="transformer", points=(Point(x=300, y=0.4, low=0.2, high=0.6),))
    ticks = [int(text) for text in texts(draw.svg(chart(wide))) if text.isdigit()]
    assert min(ticks) <= 20
    assert max(ticks) >= 60


def test_a_level_is_a_line_down_its_own_panel_with_its_words_above_the_rows() -> None:
    panels = [Series(label="vit", hue="cnn", panel=name, points=(Point(x=1, y=0.5),)) for name in ("a", "b")]
    at = texts(draw.svg(chart(*panels, levels=(Level(y=0.25, words="chance, 25 %", panel="b"),))))
    assert at["a"][1] < at["b"][1] < at["chance, 25 %"][1]
    plain = draw.svg(chart(*panels))
    assert draw.svg(chart(*panels, levels=(Level(y=0.25, words="c", panel="b"),))).count("<path") > plain.count("<path")


def test_intervals_that_are_not_known_have_no_bar() -> None:
    bare = Series(label="vit", hue="transformer", points=(Point(x=300, y=0.4),), bold=True)
    assert "opacity: 0.35" not in draw.svg(chart(bare))
    assert draw.svg(chart(LOW, HIGH)).count("opacity: 0.35") == 2
    nothing = Series(label="vit", hue="transformer", points=(Point(x=300, y=0.4, low=-math.inf, high=math.inf),))
    assert "opacity: 0.35" not in draw.svg(chart(nothing))


def test_the_bar_of_an_interval_that_is_open_at_one_end_goes_on_to_the_edge() -> None:
    """Of a share of a shortfall it is known at times that it is above some value, and no more."""
    above = Series(label="vit", hue="transformer", points=(Point(x=300, y=0.4, low=0.3, high=math.inf),))
    known = Series(label="resnet", hue="cnn", points=(Point(x=300, y=0.6, low=0.55, high=0.65),))
    drawn = draw.svg(chart(above, known))
    bars = [node.get("d", "") for node in ET.fromstring(drawn).iter("path") if "opacity: 0.35" in node.get("style", "")]
    ends = sorted([float(x) for x in re.findall(r"[ML] ([\d.]+)", bar)] for bar in bars)
    assert len(ends) == 2
    assert ends[0][1] > ends[1][1] + 10, "past the end of every known interval"


def test_words_speak_of_lines_only_where_there_are_some() -> None:
    several = table(rows(lambda run: curve(run.size)))
    one = several[several["size"] == several["size"].max()]
    assert charts.accuracy(several).title.startswith("Accuracy against labelled training images")
    assert charts.accuracy(one).title.startswith(f"Accuracy at {int(one['size'].iloc[0]):,} labelled training images")
    assert "line" not in charts.accuracy(one).caption
    assert "line pattern" in charts.accuracy(several).caption
    assert patterned([LOW], "x") == ""
    assert looks([LOW, HIGH], "x").startswith("Bars are")

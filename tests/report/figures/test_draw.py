"""Charts as SVG: well-formed, every word escaped, labels apart, ticks round; and as files for a paper."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from bias_lab.report.figures import chart as shapes
from bias_lab.report.figures import charts, draw
from tests.planted import curve, rows, table

CHART = charts.accuracy(table(rows(lambda run: curve(run.size))))


@pytest.mark.parametrize("frame", [draw.WIDE, draw.NARROW])
def test_the_svg_is_well_formed_and_holds_every_point(frame: draw.Frame) -> None:
    root = ET.fromstring(draw.svg(CHART, frame))
    points = [node for node in root.iter("g") if node.get("data-tip")]
    assert len(points) == sum(len(line.points) for line in CHART.series)
    for node in root.iter("text"):
        assert 0 <= float(node.get("x", "nan")) <= frame.width
        assert 0 <= float(node.get("y", "nan")) <= frame.height


def test_words_of_the_user_are_escaped() -> None:
    line = shapes.Series(
        label="<script>alert(1)</script>", hue="other", points=(shapes.Point(x=10, y=0.5, tip='"><img src=x>'),)
    )
    chart = shapes.Chart(name="x", title="<b>", caption="", series=(line,), ylabel="")
    text = draw.svg(chart)
    assert "<script" not in text
    assert "<img" not in text
    ET.fromstring(text)


def test_an_empty_chart_says_so() -> None:
    empty = shapes.Chart(name="x", title="t", caption="", series=(), ylabel="")
    assert "no finished runs yet" in draw.svg(empty)


def test_ticks_are_round_and_few() -> None:
    root = ET.fromstring(draw.svg(CHART))
    texts = [node.text or "" for node in root.iter("text")]
    assert [text for text in texts if text.replace(",", "").isdigit() and int(text.replace(",", "")) >= 100][:5] == [
        "100", "300", "1,000", "3,000", "10,000",
    ]  # fmt: skip
    percents = [text for text in texts if text.isdigit() and int(text) < 100]
    assert 2 <= len(percents) <= 8
    assert all(int(text) % 5 == 0 for text in percents)


@pytest.mark.parametrize("shape", [*charts.MARKERS.values(), "star"])
def test_every_marker_has_a_shape(shape: str) -> None:
    line = shapes.Series(label="a", hue="other", marker=shape, points=(shapes.Point(x=10, y=0.5),))
    drawn = draw.svg(shapes.Chart(name="x", title="t", caption="", series=(line,), ylabel=""))
    assert "<use" in drawn[drawn.index("data-tip") :]


def test_colours_are_variables_of_the_page_and_ids_are_those_of_one_chart() -> None:
    wide, narrow = draw.svg(CHART), draw.svg(CHART, draw.NARROW)
    assert not re.search(r"(fill|stroke): #(?!000)", wide)
    assert {"var(--cnn)", "var(--transformer)", "var(--soft)", "var(--paper)"} <= set(re.findall(r"var\(--\w+\)", wide))
    ids = [set(re.findall(r' id="([^"]+)"', text)) for text in (wide, narrow)]
    assert not ids[0] & ids[1]
    assert draw.svg(CHART) == wide


def test_a_legend_names_each_line_pattern() -> None:
    chart = replace(CHART, legend=(("no label noise", ()), ("label noise 0.2", (7, 3))))
    root = ET.fromstring(draw.svg(chart, draw.NARROW))
    assert {"no label noise", "label noise 0.2"} <= {node.text for node in root.iter("text")}


def test_files_for_a_paper(tmp_path: Path) -> None:
    svg, png = draw.save(CHART, tmp_path)
    assert (svg.name, png.name) == ("accuracy.svg", "accuracy.png")
    text = svg.read_text()
    assert "CNN mean of 3" in text  # text stays text
    ET.fromstring(text)
    assert png.read_bytes().startswith(b"\x89PNG")
    width = int.from_bytes(png.read_bytes()[16:20], "big")
    assert width == 2040  # 6.8 inches at 300 dpi
    draw.save(shapes.Chart(name="empty", title="", caption="", series=(), ylabel=""), tmp_path)
    assert (tmp_path / "empty.png").is_file()


@pytest.mark.parametrize("bold", [True, False])
def test_a_bold_point_that_no_line_joins_shows_its_interval_by_a_bar(bold: bool) -> None:
    def lines(*, apart: bool, has_interval: bool) -> int:
        low, high = (0.4, 0.6) if has_interval else (float("nan"), float("nan"))
        points = (shapes.Point(x=10, y=0.5, low=low, high=high), shapes.Point(x=20, y=0.5, low=low, high=high))
        line = shapes.Series(label="", hue="cnn", points=(points[0], replace(points[1], apart=apart)), bold=bold)
        other = shapes.Series(label="", hue="other", points=(shapes.Point(x=10, y=0.1), shapes.Point(x=20, y=0.9)))
        chart = shapes.Chart(name="x", title="", caption="", series=(line, other), ylabel="")
        return draw.svg(chart).count("<path")

    assert lines(apart=True, has_interval=True) - lines(apart=True, has_interval=False) == (2 if bold else 0), "bars"
    assert lines(apart=False, has_interval=True) - lines(apart=False, has_interval=False) == (1 if bold else 0), (
        "a band"
    )
    assert lines(apart=False, has_interval=False) - lines(apart=True, has_interval=False) == 1, "the line"

"""Charts as SVG: well-formed, every word escaped, labels apart, ticks round; and as files for a paper."""

import itertools
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bias_lab.report import draw, figures
from tests.planted import curve, rows, table

CHART = figures.accuracy(table(rows(lambda run: curve(run.size))))


@pytest.mark.parametrize("frame", [draw.WIDE, draw.NARROW])
def test_the_svg_is_well_formed_and_holds_every_point(frame: draw.Frame) -> None:
    root = ET.fromstring(draw.svg(CHART, frame))
    points = [node for node in root.iter("g") if node.get("data-tip")]
    assert len(points) == sum(len(line.points) for line in CHART.series)
    for node in root.iter("text"):
        assert 0 <= float(node.get("x", "nan")) <= frame.width
        assert 0 <= float(node.get("y", "nan")) <= frame.height


def test_words_of_the_user_are_escaped() -> None:
    line = figures.Series(
        label="<script>alert(1)</script>", hue="other", points=(figures.Point(x=10, y=0.5, tip='"><img src=x>'),)
    )
    chart = figures.Chart(name="x", title="<b>", caption="", series=(line,), ylabel="")
    text = draw.svg(chart)
    assert "<script" not in text
    assert "<img" not in text
    ET.fromstring(text)


def test_an_empty_chart_says_so() -> None:
    empty = figures.Chart(name="x", title="t", caption="", series=(), ylabel="")
    assert "no finished runs yet" in draw.svg(empty)


@given(st.lists(st.floats(0, 400), min_size=1, max_size=20))
def test_labels_never_overlap_and_stay_inside_if_they_fit(wanted: list[float]) -> None:
    placed = draw.spread(wanted, 15, 0, 400)
    order = sorted(placed)
    assert all(b - a >= 15 - 1e-6 for a, b in itertools.pairwise(order))
    assert order[0] >= 7.5 - 1e-6
    assert order[-1] <= 400 - 7.5 + 1e-6
    assert sorted(range(len(wanted)), key=lambda i: wanted[i]) == sorted(range(len(wanted)), key=lambda i: placed[i])


def test_labels_that_have_room_stay_where_they_want() -> None:
    assert draw.spread([100, 50, 200], 15, 0, 400) == [100, 50, 200]
    assert draw.spread([100, 104], 15, 0, 400) == pytest.approx([94.5, 109.5])


def test_ticks_are_round_and_few() -> None:
    assert draw.y_ticks(0.48, 0.91) == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9])
    assert draw.y_ticks(-0.012, 0.03) == pytest.approx([-0.01, 0.0, 0.01, 0.02, 0.03])
    for span in (0.003, 0.02, 0.3, 0.9):
        assert 2 <= len(draw.y_ticks(0.05, 0.05 + span)) <= 7


def test_one_wild_interval_does_not_flatten_the_rest() -> None:
    points = [figures.Point(x=1, y=0.5, low=-3, high=4), figures.Point(x=2, y=0.6, low=0.58, high=0.62)]
    low, high = draw.y_range(points, zero=False)
    assert high - low < 0.6


@pytest.mark.parametrize("shape", [*figures.MARKERS.values(), "star"])
def test_every_marker_has_a_shape(shape: str) -> None:
    ET.fromstring(draw.marker(shape, 10, 10, 4))


def test_files_for_a_paper(tmp_path: Path) -> None:
    svg, png = draw.save(CHART, tmp_path)
    assert (svg.name, png.name) == ("accuracy.svg", "accuracy.png")
    text = svg.read_text()
    assert "CNN mean of 3" in text  # text stays text
    ET.fromstring(text)
    assert png.read_bytes().startswith(b"\x89PNG")
    width = int.from_bytes(png.read_bytes()[16:20], "big")
    assert width == 2040  # 6.8 inches at 300 dpi
    draw.save(figures.Chart(name="empty", title="", caption="", series=(), ylabel=""), tmp_path)
    assert (tmp_path / "empty.png").is_file()

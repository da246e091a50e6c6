"""Accuracy against images seen: a panel for each size, hollow points, a thin line for a control."""

import xml.etree.ElementTree as ET

import pytest

from bias_lab.report.figures import budget, draw
from bias_lab.report.figures.chart import Level
from bias_lab.statistics import by_budget
from tests.report.evidence.studies import Cell, pair, study

MADE = study(pair(Cell(0.9, 0.6), Cell(0.9, 0.7)), equal=pair(Cell(0.6, 0.5), Cell(0.8, 0.65)), sizes=(100, 1000))
CHART = budget.accuracy(by_budget(MADE), levels=(Level(y=0.55, words="pixels, linear probe", panel="N = 100"),))


def test_a_panel_for_each_size_and_hollow_points_for_other_budgets() -> None:
    assert CHART.panels == ("N = 100", "N = 1,000")
    line = next(line for line in CHART.series if line.label == "vit")
    assert line.bold
    assert [(point.x, point.hollow) for point in line.points] == [(16_000, True), (64_000, False)]
    assert line.points[0].tip.endswith(", not settled")


@pytest.mark.parametrize("frame", [draw.WIDE, draw.NARROW])
def test_the_title_of_a_single_panel_has_room_above_it(frame: draw.Frame) -> None:
    one = budget.accuracy(by_budget(MADE[MADE["size"] == 1000]))
    assert one.panels == ("N = 1,000",)
    root = ET.fromstring(draw.svg(one, frame))
    title = next(node for node in root.iter("text") if node.text == "N = 1,000")
    assert float(title.get("y", "nan")) >= frame.font  # its letters are not cut off


@pytest.mark.parametrize("frame", [draw.WIDE, draw.NARROW])
def test_panels_stand_within_the_page(frame: draw.Frame) -> None:
    root = ET.fromstring(draw.svg(CHART, frame))
    width, height = (float(value) for value in root.get("viewBox", "").split()[2:])
    words = {node.text: node for node in root.iter("text")}
    assert {"N = 100", "N = 1,000", "pixels, linear probe"} <= set(words)
    for node in words.values():
        assert 0 <= float(node.get("x", "nan")) <= width
        assert 0 <= float(node.get("y", "nan")) <= height
    points = [node for node in root.iter("g") if node.get("data-tip")]
    assert len(points) == sum(len(line.points) for line in CHART.series)
    below = float(words["N = 1,000"].get("y", "nan")) > float(words["N = 100"].get("y", "nan"))
    assert below == (frame is draw.NARROW)


def test_words_of_a_level_lie_on_paper_so_that_no_other_line_strikes_through_them() -> None:
    levels = tuple(Level(y=y, words=f"at {y}", panel="N = 100") for y in (0.55, 0.56))
    near = ET.fromstring(draw.svg(budget.accuracy(by_budget(MADE), levels=levels), draw.WIDE))
    nodes = list(near.iter())
    lines = [k for k, node in enumerate(nodes) if "stroke-dasharray" in node.get("style", "")]
    for words in ("at 0.55", "at 0.56"):
        (at,) = (k for k, node in enumerate(nodes) if node.text == words)
        papers = [
            k for k, node in enumerate(nodes[:at]) if "fill:var(--paper)" in node.get("style", "").replace(" ", "")
        ]
        assert papers
        assert papers[-1] > max(k for k in lines if k < at), "above the lines and below its words"


def test_words_of_a_level_hide_no_point_where_the_other_end_is_free() -> None:
    early = by_budget(MADE[(MADE["size"] == 100) & (MADE["comparison"] == "equal")])
    points = early.assign(images_seen=[2_000 * 2**k for k in range(len(early) - 1)] + [1_024_000])
    at = float(points["mean"].iloc[0])
    anchors = []
    for near in (at, at + 0.4):
        chart = budget.accuracy(points, levels=(Level(y=near, words="pixels, linear probe", panel="N = 100"),))
        root = ET.fromstring(draw.svg(chart, draw.WIDE))
        node = next(node for node in root.iter("text") if node.text == "pixels, linear probe")
        anchors.append("end" in node.get("style", ""))
    assert anchors == [True, False], "at the right end only where points lie at the left"

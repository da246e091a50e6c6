"""A panel of a chart: labels apart, a range that one wild interval does not stretch, panels beside one another."""

import itertools
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bias_lab.report.figures import draw, panel
from bias_lab.report.figures.chart import Chart, Point, Series


@given(st.lists(st.floats(0, 400), min_size=1, max_size=20))
def test_labels_never_overlap_and_stay_inside_if_they_fit(wanted: list[float]) -> None:
    placed = panel.push_apart(wanted, 15, 0, 400)
    order = sorted(placed)
    assert all(b - a >= 15 - 1e-6 for a, b in itertools.pairwise(order))
    assert order[0] >= 7.5 - 1e-6
    assert order[-1] <= 400 - 7.5 + 1e-6
    assert sorted(range(len(wanted)), key=lambda i: wanted[i]) == sorted(range(len(wanted)), key=lambda i: placed[i])


def test_labels_that_have_room_stay_where_they_want() -> None:
    assert panel.push_apart([100, 50, 200], 15, 0, 400) == [100, 50, 200]
    assert panel.push_apart([100, 104], 15, 0, 400) == pytest.approx([94.5, 109.5])


def test_one_wild_interval_does_not_flatten_the_rest() -> None:
    points = [Point(x=1, y=0.5, low=-3, high=4), Point(x=2, y=0.6, low=0.58, high=0.62)]
    low, high = panel.y_range(points, zero=False)
    assert high - low < 0.6


def side(*lines: tuple[tuple[float, float], ...], at: float = 1000) -> str:
    """Return the anchor of the label of a lone point of 60 % at a size, in a narrow figure with these lines."""
    lone = Series(label="efficientnet", hue="cnn", points=(Point(x=at, y=0.6),))
    level = ((100.0, 0.3), (10_000.0, 0.3))
    drawn = [
        Series(label=f"line {k}", hue="transformer", points=tuple(Point(x=x, y=y) for x, y in line))
        for k, line in enumerate((level, *lines))
    ]
    chart = Chart(name="x", title="t", caption="", series=(lone, *drawn), ylabel="test accuracy, %")
    texts = ET.fromstring(draw.svg(chart, draw.NARROW)).iter("text")
    (label,) = (one for one in texts if one.text == "efficientnet")
    (anchor,) = re.findall(r"text-anchor: (\w+)", label.get("style", "")) or ["start"]
    return {"start": "right", "end": "left", "middle": "above or below"}[anchor]


def test_a_lone_point_has_its_label_where_the_fewest_lines_pass() -> None:
    """As EfficientNet at 1,000 labels of CIFAR-10, on the right of which the line of the ViT rises."""
    rising = ((1500.0, 0.5), (10_000.0, 0.7))
    falling = ((100.0, 0.7), (900.0, 0.5), (10_000.0, 0.5))
    assert side() == "right"
    assert side(rising) == "left"
    assert side(rising, falling) == "above or below"
    assert side(rising, at=400) == "right"
    assert side(((400.0, 0.5), (10_000.0, 0.7)), at=300) == "above or below", "no room on the left"


def test_a_long_label_keeps_what_it_starts_from() -> None:
    assert panel.fitted("vit + mae", 12) == "vit + mae"
    assert panel.fitted("deit_tiny_patch16_224 + weights", 22) == "deit_tiny_p… + weights"
    assert panel.fitted("deit_tiny_patch16_224", 12) == "deit_tiny_p…"
    assert panel.fitted("vit + supervised, tiny_imagenet20", 26) == "vit + supe…tiny_imagenet20"
    assert panel.fitted("vit + supervised, shapes:position=free", 20) == "vit + supe…shapes:p…"
    assert panel.fitted("vit_micro + mae, a pretraining of zero steps", 20) == "vit_micro + mae, a …"

"""What is drawn: the lines of a figure, their hues, markers and dashes, n in the caption, colours that stay apart."""

import itertools

import pytest

from bias_lab.report.figures import charts
from bias_lab.statistics import gaps
from tests.planted import CNNS, curve, rows, table


def made(**kind: object) -> object:
    scratch = rows(lambda run: curve(run.size), **kind)
    mae = rows(lambda run: curve(run.size), backbones=["vit_micro"], regime="mae", source="pool")
    return table([*scratch, *mae])


def test_families_by_hue_backbones_by_marker_regimes_by_line() -> None:
    chart = charts.accuracy(made())
    by_label = {line.label: line for line in chart.series}
    assert set(by_label) == {"vit", "vit + mae", "resnet", "efficientnet", "mobilenetv3", "CNN mean of 3"}
    assert {by_label[name].hue for name in ("resnet", "efficientnet", "mobilenetv3", "CNN mean of 3")} == {"cnn"}
    assert by_label["vit"].hue == by_label["vit + mae"].hue == "transformer"
    assert len({by_label[name].marker for name in ("vit", "resnet", "efficientnet", "mobilenetv3")}) == 4
    assert by_label["vit"].dash == () != by_label["vit + mae"].dash
    assert [name for name, line in by_label.items() if line.bold] == ["CNN mean of 3", "vit", "vit + mae"]
    assert "n = 3 replicates" in chart.caption
    assert chart.caption.endswith("Names are shown without their ending _micro.")


def test_a_lone_cnn_stands_for_the_family() -> None:
    chart = charts.accuracy(table(rows(lambda run: 0.5, backbones=["vit_micro", "resnet_micro"])))
    assert {line.label: line.bold for line in chart.series} == {"resnet": True, "vit": True}


def test_an_own_backbone_goes_by_its_function_and_another_hue() -> None:
    chart = charts.accuracy(table(rows(lambda run: 0.5, backbones=["vit_micro", *CNNS, "pkg.mod:my_net"])))
    own = next(line for line in chart.series if line.label == "my_net")
    assert (own.hue, own.marker) == ("other", "star")


def test_points_carry_interval_and_words() -> None:
    point = charts.accuracy(made(noise=0.0)).series[0].points[0]
    assert point.low == pytest.approx(point.y) == pytest.approx(point.high)
    assert point.tip.startswith("CNN mean of 3 · N = 100 · ")
    assert point.tip.endswith("n = 3)")


def test_the_shortfall_has_a_line_at_zero() -> None:
    chart = charts.shortfall([("scratch", gaps(table(rows(lambda run: 0.5))), "ViT")])
    assert chart.zero
    assert "paired over n = 3 replicates" in chart.caption
    assert [point.x for point in chart.series[0].points] == [100, 300, 1000, 3000, 10_000]


def _linear(code: str) -> list[float]:
    parts = [int(code[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    return [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]


def _contrast(one: str, other: str) -> float:
    light = sorted(0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in (_linear(one), _linear(other)))
    return (light[1] + 0.05) / (light[0] + 0.05)


def test_hues_can_be_read_as_text_on_their_page() -> None:
    """WCAG: large text and graphics 3 to 1; all of ours reach 3.5 on white and on the dark page."""
    assert min(_contrast(hue, "#ffffff") for hue in charts.HUES.values()) >= 3.5
    assert min(_contrast(hue, "#14181c") for hue in charts.HUES_DARK.values()) >= 3.5


# Viénot, Brettel and Mollon 1999: linear RGB as a dichromat sees it
PROTAN = [[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]]
DEUTAN = [[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]]


@pytest.mark.parametrize("eye", [PROTAN, DEUTAN])
@pytest.mark.parametrize("palette", [charts.HUES, charts.HUES_DARK])
def test_hues_stay_apart_for_the_colour_blind(eye: list[list[float]], palette: dict[str, str]) -> None:
    seen = [[sum(a * b for a, b in zip(row, _linear(hue), strict=True)) for row in eye] for hue in palette.values()]
    for one, other in itertools.combinations(seen, 2):
        assert max(abs(a - b) for a, b in zip(one, other, strict=True)) > 0.05


def test_intervals_in_words() -> None:
    inf, nan = float("inf"), float("nan")
    told = [charts.span(a, b) for a, b in ((0.1, 0.2), (-inf, inf), (0.1, inf), (-inf, 0.2), (nan, 0.1))]
    assert told == ["10.0 to 20.0", "unbounded", "above 10.0", "below 20.0", "–"]

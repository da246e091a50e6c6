"""What is drawn: the lines of a figure, their hues, markers and dashes, n in the caption, colours that stay apart."""

import pytest

from bias_lab.report.figures import charts
from bias_lab.report.figures.chart import Point, Series, span
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


def test_intervals_in_words() -> None:
    inf, nan = float("inf"), float("nan")
    told = [span(a, b) for a, b in ((0.1, 0.2), (-inf, inf), (0.1, inf), (-inf, 0.2), (nan, 0.1))]
    assert told == ["10.0 to 20.0", "unbounded", "above 10.0", "below 20.0", "–"]
    alike = [span(0.2, 0.2004), span(0.19998, 0.20003), span(0.001, 0.003, digits=0), span(-0.0004, 0.0003)]
    assert alike == ["20.00 to 20.04", "19.998 to 20.003", "0.1 to 0.3", "−0.04 to 0.03"]


def test_a_mean_of_a_family_is_drawn_where_all_of_it_ran_and_names_no_other_size() -> None:
    full = table(rows(lambda run: curve(run.size), sizes=(100, 300, 1000)))
    part = full[~(full["backbone"].eq("efficientnet_micro") & full["size"].ne(300))]
    mean = {line.label: line for line in charts.accuracy(part).series}["CNN mean of 3"]
    assert [point.x for point in mean.points] == [300]
    never = full[~(full["backbone"].eq("efficientnet_micro") & full["size"].lt(1000))]
    never = never[~(never["backbone"].eq("resnet_micro") & never["size"].eq(1000))]
    assert "mean" not in "".join(line.label for line in charts.accuracy(never).series)
    against = {line.label: line for line in charts.accuracy(never, against="resnet").series}
    assert [name for name, line in against.items() if line.bold] == ["resnet", "vit"]


def test_a_line_without_points_has_no_pieces() -> None:
    assert Series(label="", points=(), hue="cnn").pieces == ()
    assert len(Series(label="", points=(Point(x=1, y=1, apart=True),), hue="cnn").pieces) == 1

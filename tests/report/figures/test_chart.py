"""A chart's panels follow from its lines, and numbers become words."""

from bias_lab.report.figures.chart import Chart, Point, Series, percent


def test_panels_are_those_of_the_lines_in_order() -> None:
    lines = [
        Series(label="a", hue="cnn", panel=name, points=(Point(x=1, y=0.5),)) for name in ("N = 10", "N = 20", "N = 10")
    ]
    assert Chart(name="x", title="", caption="", series=tuple(lines), ylabel="").panels == ("N = 10", "N = 20")
    assert Chart(name="x", title="", caption="", series=(), ylabel="").panels == ("",)


def test_percents_have_a_true_minus() -> None:
    assert (percent(-0.1234), percent(float("nan"))) == ("−12.3", "–")

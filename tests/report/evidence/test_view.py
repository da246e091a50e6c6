"""The sections of a study with settled cells beside those at equal images, in order and never mixed."""

import pandas as pd

from bias_lab.report.evidence import view
from bias_lab.report.findings import findings
from bias_lab.results import Results
from tests.report.evidence.studies import EQUAL, SETTLED, Cell, pair, study

ONE = ("resnet_micro",)


def made(*sizes: int) -> pd.DataFrame:
    return study(
        pair(Cell(0.9, 0.6), Cell(0.9, 0.7), ONE),
        equal=pair(Cell(0.6, 0.5), Cell(0.8, 0.65), ONE),
        pixels=0.55,
        sizes=sizes,
        changes={"vit_micro": {"settled": False}},
    )


MADE = made(100)


def test_settled_cells_come_first_and_each_figure_says_how_it_compares() -> None:
    report = findings(Results(table=made(100, 1000)))
    assert [part.name for part in report.sections][:6] == [
        "settled", "settled-shortfall", "figure", "shortfall", "parts", "budget-axis",
    ]  # fmt: skip
    named = {part.name: part for part in report.sections}
    assert "Each cell is trained until its hold-out stops gaining." in named["settled"].charts[0].caption
    assert "All backbones see equally many images" in named["figure"].charts[0].caption
    assert [part.charts[0].name for part in report.sections[:4]] == [
        "accuracy-settled", "shortfall-settled", "accuracy", "shortfall",
    ]  # fmt: skip
    hollow = {line.label: [p.hollow for p in line.points] for line in named["settled"].charts[0].series}
    assert (hollow["vit"], hollow["resnet"]) == ([True] * 2, [False] * 2)
    assert named["settled-shortfall"].charts[0].series[0].points[0].hollow


def test_one_size_gives_no_curve_over_labels_so_images_seen_come_first_and_every_point_is_visible() -> None:
    report = findings(Results(table=MADE))
    assert [part.name for part in report.sections][:3] == ["budget-axis", "settled", "settled-shortfall"]
    named = {part.name: part for part in report.sections}
    assert all(line.marker for line in named["settled"].charts[0].series)
    assert [part.name for part in report.sections].count("budget-axis") == 1


def test_the_budget_axis_has_both_budgets_and_the_classifier_on_pixels() -> None:
    from bias_lab.report.evidence import controls

    section = view.seen(MADE, controls.found(MADE, ("settled", "equal")), "")
    (chart,) = section.charts
    assert {point.x for line in chart.series for point in line.points} == {EQUAL, SETTLED}
    assert [(level.words, level.panel) for level in chart.levels] == [("pixels, linear probe", "N = 100")]
    alone = MADE[MADE["comparison"] != "equal"]
    assert not view.seen(alone, [], "")


def test_settled_sections_compare_with_the_headlines_cnn_where_the_family_is_not_whole() -> None:
    """As in the desk profile: the pair is settled, one CNN in fewer draws, another at equal images alone."""
    pair_of = study(
        pair(Cell(0.9, 0.5), Cell(0.9, 0.65), ONE), equal=pair(Cell(0.6, 0.4), Cell(0.8, 0.6)), sizes=(100,)
    )
    fewer = study({"efficientnet_micro": Cell(0.9, 0.75)}, sizes=(100,), draws=3)
    report = findings(Results(table=pd.concat([pair_of, fewer], ignore_index=True)))
    named = {part.name: part for part in report.sections}
    assert report.heads[0].headline.split("plain ViT is ")[1].startswith(("14.", "15."))
    table = named["settled-shortfall"].tables[0]
    assert table.title == "ResNet minus plain ViT, from scratch, settled"
    assert abs(float(table.rows[0][1].text) - 15) < 1
    parts = named["parts"]
    assert [abs(float(row[2].text) - gap) < 1 for row, gap in zip(parts.tables[0].rows, (15, 20), strict=True)] == [
        True
    ] * 2
    assert parts.tables[1].rows  # matched fit
    assert [name for name, _ in parts.tables[1].columns if "CNN" in name] == [], "of one CNN"
    assert {"ResNet, %", "ResNet's images"} <= {name for name, _ in parts.tables[1].columns}
    assert "CNN" not in "".join(about for _, about in parts.tables[0].columns)
    both = pd.concat([pair_of, fewer], ignore_index=True)
    for figure, _ in (view.settled(both, ""), view.settled(both, "", "resnet")):
        assert [line.label for line in figure.charts[0].series if line.bold] == ["resnet", "vit"], "no mean of two"


def test_tables_name_the_recipe_where_sizes_or_comparisons_differ_in_it() -> None:
    truth = pair(Cell(0.9, 0.6), Cell(0.9, 0.7), ONE)
    few = study(truth, equal=pair(Cell(0.6, 0.5), Cell(0.8, 0.65), ONE), sizes=(100,))
    few.loc[few["comparison"] == "settled", "recipe"] = "strong"
    untrained = study({"vit_micro": Cell(0.3, 0.3)}, sizes=(100,), protocol="linear_probe").assign(comparison="")
    table = pd.concat([few, study(truth, sizes=(1000,)), untrained], ignore_index=True)
    named = {part.name: part for part in findings(Results(table=table)).sections}
    for name, recipes in {"settled-shortfall": ["strong", "plain"], "parts": ["strong", "plain", "plain"]}.items():
        made = named[name].tables[0]
        place = [heading for heading, _ in made.columns].index("recipe")
        assert [row[place].text for row in made.rows] == recipes
    for part in findings(Results(table=MADE)).sections:
        if part.name in ("settled-shortfall", "settled-cells"):
            assert "recipe" not in [heading for heading, _ in part.tables[0].columns]

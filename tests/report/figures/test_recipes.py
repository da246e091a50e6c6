"""Which cells of a figure no line joins, and the sentences on recipes in its caption."""

from bias_lab.report.evidence import parts
from bias_lab.report.figures import charts, recipes
from bias_lab.statistics import gaps
from bias_lab.statistics.comparisons import SETTLED
from tests.planted import curve, rows, table

NAMES = {"vit_micro": "vit", "resnet_micro": "resnet", "efficientnet_micro": "efficientnet"}


def test_no_line_joins_cells_under_different_recipes() -> None:
    view = table(rows(lambda run: curve(run.size), sizes=(100, 300, 1000))).assign(comparison=SETTLED, settled=True)
    view.loc[view["size"] == 100, "recipe"] = "strong"
    chart = charts.accuracy(view, comparison=SETTLED)
    told = " No line joins cells that were trained under different recipes."
    assert told in chart.caption
    assert {tuple(len(piece) for piece in line.pieces) for line in chart.series} == {(1, 2)}
    found = parts.with_recipes(gaps(view), view, "cnn")
    lead = charts.shortfall([("scratch", found, "ViT")], comparison=SETTLED)
    assert told in lead.caption
    assert [[point.x for point in piece] for piece in lead.series[0].pieces] == [[100.0], [300.0, 1000.0]]

    alike = view.assign(recipe="strong")
    joined = (charts.accuracy(alike), charts.shortfall([("scratch", gaps(alike), "ViT")]))
    assert all(told not in one.caption for one in joined)
    assert all(len(line.pieces) == 1 for one in joined for line in one.series)


def test_controls_without_a_budget_are_joined_whatever_their_recipe() -> None:
    view = table(rows(lambda run: curve(run.size), sizes=(100, 1000), protocol="linear_probe")).assign(comparison="")
    view.loc[view["size"] == 100, "recipe"] = "strong"
    assert all(len(line.pieces) == 1 for line in charts.accuracy(view).series)


def test_sizes_whose_backbones_have_different_recipes_are_named_with_them() -> None:
    """As on CIFAR-10 at 1,000 labels: two have the recipe that the hold-out prefers, a third was given one."""
    view = table(rows(lambda run: curve(run.size), backbones=NAMES, sizes=(100, 1000))).assign(comparison=SETTLED)
    assert recipes.side_by_side(view, NAMES) == ""
    view.loc[(view["size"] == 1000) & (view["backbone"] != "efficientnet_micro"), "recipe"] = "strong"
    told = 'At N = 1,000 the recipes differ: efficientnet under "plain", and resnet and vit under "strong".'
    assert recipes.side_by_side(view, NAMES).strip() == told
    chart = charts.accuracy(view, comparison=SETTLED)
    assert chart.recipes == f"No line joins cells that were trained under different recipes. {told}"
    assert chart.recipes in chart.caption
    view.loc[(view["size"] == 100) & (view["backbone"] != "efficientnet_micro"), "recipe"] = "strong"
    assert recipes.side_by_side(view, NAMES).startswith(" At N = 100 and 1,000 the recipes differ: efficientnet")
    untrained = view.assign(comparison="")
    assert recipes.side_by_side(untrained, NAMES) == "", "a classifier on frozen features has no recipe to speak of"

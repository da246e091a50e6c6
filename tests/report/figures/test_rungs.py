"""The ladders of tuning as a figure: a panel a size, a line a cell, the settled budget filled."""

from typing import Any

from bias_lab.report.figures import rungs
from bias_lab.statistics import rungs as table_of


def cell(backbone: str, size: int, *, settled: bool = True, **fields: str) -> dict[str, Any]:
    trials = [dict(learning_rate=0.001, samples_seen=16_000 * 2**k, top1=0.5 + 0.04 * k, n=3) for k in range(3)]
    row = dict(dataset="mnist", backbone=backbone, recipe="plain", regime="scratch", size=size, learning_rate=0.001)
    return {**row, **fields, "samples_seen": 32_000, "settled": settled, "trials": trials}


def test_a_panel_for_each_size_and_one_filled_point_for_each_settled_cell() -> None:
    cells = [cell("vit_micro", 1000, settled=False), cell("resnet_micro", 1000), cell("vit_micro", 100)]
    chart = rungs.accuracy(table_of(cells), [])
    assert chart.panels == ("N = 100", "N = 1,000")
    filled = {(line.panel, line.label): [p.x for p in line.points if not p.hollow] for line in chart.series}
    assert filled == {
        ("N = 100", "vit"): [32_000], ("N = 1,000", "vit"): [], ("N = 1,000", "resnet"): [32_000],
    }  # fmt: skip
    assert [p.y for p in chart.series[0].points] == [0.5, 0.54, 0.58]
    assert not chart.legend


def test_cells_that_differ_in_a_field_have_lines_of_their_own_and_a_legend() -> None:
    cells = [cell("vit_micro", 100), cell("vit_micro", 100, intervention="permute_pixels")]
    chart = rungs.accuracy(table_of(cells), ["intervention"], prefix="a-")
    assert [words for words, _ in chart.legend] == ["images as they are", "pixels permuted"]
    assert [line.dash for line in chart.series] == [dash for _, dash in chart.legend]
    assert chart.name == "a-ladders"
    assert "pixels permuted" in chart.series[1].points[0].tip

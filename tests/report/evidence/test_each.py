"""The settled shortfall under each recipe alone, in a table."""

import pandas as pd

from bias_lab.report.evidence import each
from tests.report.evidence.studies import Cell, pair, study


def test_a_row_for_each_recipe() -> None:
    plain = study(pair(Cell(0.9, 0.6), Cell(0.9, 0.7)), sizes=(100,), recipe="plain")
    strong = study(pair(Cell(0.9, 0.6), Cell(0.9, 0.8)), sizes=(100,), recipe="strong", holdout_top1=0.9)
    both = pd.concat([plain, strong.assign(run_id=strong["run_id"] + "s")], ignore_index=True)
    (table,) = each.section(both).tables
    lines = {line[1].text: float(line[3].text) for line in table.rows}
    assert abs(lines["plain"] - 10) < 0.7
    assert abs(lines["strong"] - 20) < 0.7
    assert not each.section(plain)


def test_a_recipe_whose_cells_allow_no_claim_is_named_and_left_out() -> None:
    plain = study(pair(Cell(0.9, 0.6), Cell(0.9, 0.7)), sizes=(100,), recipe="plain")
    cells = pair(Cell(0.9, 0.1), Cell(0.9, 0.8))
    strong = study(cells, sizes=(100,), recipe="strong", changes={"vit_micro": {"settled": False}})
    both = pd.concat([plain, strong.assign(run_id=strong["run_id"] + "s")], ignore_index=True)
    section = each.section(both)
    assert [line[1].text for line in section.tables[0].rows] == ["plain"]
    assert "Under strong nothing is claimed at N = 100: vit_micro at N = 100 is not settled" in section.text[0]


def test_one_recipe_or_one_optimizer_alone_is_no_choice() -> None:
    """Controls without a training budget have a field `optimizer` too, and are no settled cells."""
    muon = study(pair(Cell(0.9, 0.6), Cell(0.9, 0.7)), sizes=(100,), pixels=0.3)
    one_optimizer = muon.assign(optimizer=muon["protocol"].map({"finetune": "muon", "linear_probe": "adamw"}))
    assert not each.section(one_optimizer)


def test_two_optimizers_are_compared_with_the_recipe_that_both_have() -> None:
    plain = study(pair(Cell(0.9, 0.6), Cell(0.9, 0.7)), sizes=(100,), recipe="plain")
    strong = study(pair(Cell(0.9, 0.6), Cell(0.9, 0.8)), sizes=(100,), recipe="strong", holdout_top1=0.9)
    adamw = study(pair(Cell(0.9, 0.5), Cell(0.9, 0.65)), sizes=(100,), recipe="plain")
    every = [plain.assign(optimizer="muon"), strong.assign(optimizer="muon", run_id=strong["run_id"] + "s")]
    every += [adamw.assign(optimizer="adamw", run_id=adamw["run_id"] + "a")]
    section = each.section(pd.concat(every, ignore_index=True))
    assert 'Optimizers are compared with the recipe that each of them has: "plain".' in section.text[0]
    lines = {line[1].text: float(line[3].text) for line in section.tables[0].rows}
    assert abs(lines['Muon (recipe "plain")'] - 10) < 0.7
    assert abs(lines['AdamW (recipe "plain")'] - 15) < 0.7
    assert abs(lines["strong"] - 20) < 0.7

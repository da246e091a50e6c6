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


def test_one_recipe_or_one_optimizer_alone_is_no_choice() -> None:
    """Controls without a training budget have a field `optimizer` too, and are no settled cells."""
    muon = study(pair(Cell(0.9, 0.6), Cell(0.9, 0.7)), sizes=(100,), pixels=0.3)
    one_optimizer = muon.assign(optimizer=muon["protocol"].map({"finetune": "muon", "linear_probe": "adamw"}))
    assert not each.section(one_optimizer)

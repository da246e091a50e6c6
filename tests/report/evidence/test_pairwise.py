"""Pairs of backbones in studies without a plain ViT, settled and at equal images."""

import pytest

from bias_lab.report.evidence import pairwise
from bias_lab.report.findings import findings
from bias_lab.results import Results
from tests.report.evidence.studies import Cell, study

CELLS = {"mobilenetv3_micro": Cell(0.95, 0.8), "efficientvit_micro": Cell(0.95, 0.8)}
EQUAL = {"mobilenetv3_micro": Cell(0.9, 0.75), "efficientvit_micro": Cell(0.6, 0.55)}


def test_settled_pairs_come_first_and_each_comparison_is_named() -> None:
    view = study(CELLS, equal=EQUAL, sizes=(300,))
    finding, method, made = pairwise.of_view(view)
    assert finding.startswith(
        "With each cell settled, no difference between efficientvit_micro and mobilenetv3_micro is shown at N = 300."
    )
    assert "At equal images, efficientvit_micro falls short of mobilenetv3_micro at N = 300 by " in finding
    assert method.startswith("Intervals are Student's t over 5 replicates")
    assert [table.title for table in made] == [
        "Pair by pair, start by start, with each cell settled",
        "Pair by pair, start by start, at equal images",
    ]
    assert [abs(float(table.rows[0][2].text)) < 1 for table in made] == [True, False]


@pytest.mark.parametrize("change", [{"settled": False}, {"collapsed": True}])
def test_no_settled_pair_is_told_whose_cells_allow_no_claim(change: dict[str, bool]) -> None:
    view = study(CELLS, equal=EQUAL, sizes=(300,), changes={"efficientvit_micro": change})
    finding, _, made = pairwise.of_view(view)
    assert finding.startswith("At equal images, efficientvit_micro falls short of ")
    assert len(made) == 1


def test_how_each_comparison_was_reached_is_said_where_they_differ() -> None:
    view = study(CELLS, equal=EQUAL, sizes=(300,))
    assert pairwise.of_view(view)[1].count("Student's t") == 1, "both alike"
    fewer = view[(view["comparison"] != "equal") | (view["draw"] < 3)]
    method = pairwise.of_view(fewer)[1]
    assert method.startswith("With each cell settled, intervals are Student's t over 5 replicates")
    assert "At equal images, intervals are Student's t over 3 replicates" in method


def test_the_report_tells_both() -> None:
    report = findings(Results(table=study(CELLS, equal=EQUAL, sizes=(300,))))
    assert report.answers[0][1].startswith("With each cell settled, no difference between efficientvit_micro and ")
    (section,) = [part for part in report.sections if part.name == "shortfall"]
    assert section.title == "Pair by pair"
    assert len([table for table in section.tables if table.rows]) == 2


def test_a_study_without_cnns_has_no_pairs() -> None:
    assert pairwise.of_view(study({"swin_micro": Cell(0.9, 0.6)}, sizes=(300,))) == ("", "", ())

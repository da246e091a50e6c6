"""The parts of a shortfall in words and tables, always with the comparison that they are of."""

import pandas as pd

from bias_lab import statistics
from bias_lab.report.evidence import parts
from tests.report.evidence.studies import Cell, pair, study

VIEW = study(pair(Cell(0.9, 0.6), Cell(0.9, 0.7)), equal=pair(Cell(0.6, 0.5), Cell(0.99, 0.7)), sizes=(100,))


def made(comparison: str) -> pd.DataFrame:
    found = statistics.decomposition(VIEW, comparison=comparison)
    return found.assign(comparison=parts.COMPARISONS[comparison])


def test_each_comparison_is_named_in_sentence_and_table() -> None:
    both = pd.concat([made("settled"), made("equal")])
    section = parts.section(both, statistics.matched_fit(VIEW))
    assert section.text[0].startswith("The shortfall is the sum of two parts.")
    assert section.text[1].startswith("With each cell settled, at 100 labels the shortfall of ")
    assert section.text[1].endswith(", so it is mostly a matter of generalising.")
    assert section.text[2].startswith("At equal images, at 100 labels the shortfall of ")
    assert section.text[2].endswith(", so it is mostly a matter of fitting the training images.")
    assert [row[0].text for row in section.tables[0].rows] == ["with each cell settled", "at equal images"]


def fitted() -> pd.DataFrame:
    return statistics.matched_fit(study(
        pair(Cell(0.95, 0.62), Cell(0.99, 0.75), ("resnet_micro",)),
        equal=pair(Cell(0.6, 0.5), Cell(0.7, 0.6), ("resnet_micro",)), sizes=(100,),
    ))  # fmt: skip


def test_the_shortfall_at_matched_fit_names_the_training_accuracy() -> None:
    fits = fitted()
    told = parts.at_matched_fit(fits, made("settled"))
    assert told.startswith("Where both sides have the same accuracy on their training images, the shortfall is ")
    assert told.endswith(" %.")
    assert parts.at_matched_fit(fits.iloc[:0], made("settled")) == ""


def test_sentences_name_the_recipe_where_there_are_several() -> None:
    both = pd.concat([made("settled").assign(recipe="strong"), made("equal").assign(recipe="plain")])
    section = parts.section(both, fitted())
    assert ' points under "strong" is ' in section.text[1]
    assert ' points under "plain" is ' in section.text[2]
    assert section.text[3].endswith(' under "plain".'), "the recipe of the budgets that were run"


def test_the_comparison_of_a_view() -> None:
    assert parts.present(VIEW) == ("settled", "equal")
    assert parts.default(VIEW) == "equal"
    settled = VIEW[VIEW["comparison"] == "settled"]
    assert parts.held(settled) == "with each cell settled"
    assert parts.held(VIEW.assign(comparison="")) == ""


def test_a_size_with_an_open_cell_is_flagged() -> None:
    rows = VIEW[VIEW["comparison"] == "settled"]
    gaps = statistics.gaps(rows)
    assert parts.with_settled(gaps, rows)["settled"].tolist() == [True]
    is_open = rows.assign(settled=rows["settled"].where(rows["backbone"] != "vit_micro", False))
    assert parts.with_settled(gaps, is_open)["settled"].tolist() == [False]

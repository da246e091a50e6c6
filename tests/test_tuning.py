"""Test the description of a row of the tuning table."""

from dataclasses import replace
from pathlib import Path

import pytest

from bias_lab import tuning
from bias_lab.definition import Run
from bias_lab.planning.learning_rates import Rates

ONE = Run(dataset="mnist", backbone="vit_micro", size=100)
ROW = {"dataset": "mnist", "backbone": "vit_micro", "recipe": "plain", "regime": "scratch", "size": 100}


def test_a_run_and_the_row_that_was_tuned_for_it_have_one_key() -> None:
    assert tuning.key(ROW) == tuning.key(ONE)
    assert tuning.key({**ROW, "intervention": "permute_pixels"}) == tuning.key(
        replace(ONE, intervention="permute_pixels")
    )
    assert len(tuning.key(ONE)) == len(tuning.KEY)


@pytest.mark.parametrize("field", tuning.KEY)
def test_every_field_of_the_key_tells_cells_apart(field: str) -> None:
    values = {"size": 7, "patch": 2, "optimizer": "muon", "priors": "mean_pooling", "task": "segment"}
    value = values.get(field, "other")
    other = replace(ONE, **{field: value})  # type: ignore[arg-type]
    assert tuning.key(other) != tuning.key(ONE)


def test_a_trial_is_of_the_task_that_it_tunes_and_no_task_has_the_rows_of_another() -> None:
    assert tuning.key(replace(ONE, task="tune")) == tuning.key(ONE) == tuning.key(ROW)
    masks = replace(ONE, task="segment")
    assert tuning.key(replace(masks, task="tune_segment")) == tuning.key(masks)
    assert tuning.key({**ROW, "task": "segment"}) == tuning.key(masks) != tuning.key(ONE)
    assert tuning.words(masks) == tuning.words(ONE)


def test_a_row_that_names_a_patch_serves_this_patch_alone() -> None:
    row = {**ROW, "learning_rate": 1e-3}
    assert not tuning.malformed({"rows": [{**row, "patch": 8}]})
    assert "patch 'a', which is no positive number" in tuning.malformed({"rows": [{**row, "patch": "a"}]})
    rates = Rates()
    rates.add({"rows": [{**row, "patch": 8}]}, Path("tuned.json"))
    assert rates.row(replace(ONE, patch=8)) is not None
    assert rates.row(replace(ONE, patch=16)) is rates.row(ONE) is None
    assert tuning.words(replace(ONE, patch=8)).endswith("patch 8 px")
    assert tuning.parts(replace(ONE, patch=8, optimizer="muon")) == ("vit_micro", "scratch", "muon", "patch 8 px")


def test_a_source_is_named_where_it_has_another_name_than_its_backbone() -> None:
    weights = replace(ONE, regime="weights", source="vit_micro")
    assert tuning.words(weights) == "vit_micro weights"
    assert tuning.words(replace(weights, source="other")) == "vit_micro weights other"


def test_a_row_without_an_optimizer_stands_for_adamw() -> None:
    assert tuning.key(ROW) == tuning.key({**ROW, "optimizer": "adamw"})
    assert tuning.words(replace(ONE, optimizer="muon")) == "vit_micro scratch muon"


def test_a_row_must_have_what_has_no_default() -> None:
    assert tuning.missing({**ROW, "learning_rate": 1e-3}) == []
    assert tuning.missing({"backbone": "vit_micro"}) == ["dataset", "learning_rate", "recipe", "regime", "size"]


def test_words_are_those_of_the_arm() -> None:
    assert tuning.words(ROW) == tuning.words(ONE) == "vit_micro scratch"
    more = replace(ONE, regime="mae", recipe="strong", intervention="permute_pixels", backbone_source="beef", draw=3)
    assert tuning.words(more) == "vit_micro mae strong permute_pixels"


@pytest.mark.parametrize(
    ("rate", "tried", "edge"),
    [
        (1e-3, (1e-3, 3e-3, 1e-2), "smallest"),
        (3e-3, (1e-3, 3e-3, 1e-2), ""),
        (1e-2, (1e-3, 3e-3, 1e-2), "largest"),
        (1e-2, (1e-2,), ""),
        (1e-2, (), ""),
        (5e-2, (1e-3, 1e-2), ""),
    ],
)
def test_the_edge_of_the_grid(rate: float, tried: tuple[float, ...], edge: str) -> None:
    trials = [{"learning_rate": value, "top1": 0.5} for value in tried]
    assert tuning.at_grid_edge({**ROW, "learning_rate": rate, "trials": trials}) == edge


def test_the_foot_of_a_ladder_is_its_smallest_budget_at_the_chosen_rate() -> None:
    trials = [{"learning_rate": 1e-2, "samples_seen": 32_000}, {"learning_rate": 3e-3, "samples_seen": 16_000}]
    row = {**ROW, "learning_rate": 1e-2, "samples_seen": 32_000, "trials": trials}
    assert tuning.at_first_rung(row)
    assert not tuning.at_first_rung(row | {"learning_rate": 3e-3})
    assert not tuning.at_first_rung({**ROW, "learning_rate": 1e-2, "trials": [{"learning_rate": 1e-2}]}), "older rows"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, ""),
        ({"size": None}, "row 1 has the size None, which is no positive number"),
        ({"size": 10**25}, "which is no positive number"),
        ({"learning_rate": "fast"}, "row 1 has the learning_rate 'fast', which is no positive number"),
        ({"learning_rate": float("nan")}, "which is no positive number"),
        ({"trials": [3]}, "row 1 has no list of trials"),
        ({"trials": [{"learning_rate": True}]}, "row 1 has a trial whose learning_rate is no positive number"),
        ({"backbone": ["vit_micro"]}, "row 1 has the backbone ['vit_micro'], which is no text"),
    ],
)
def test_a_table_with_a_value_of_another_type_is_malformed(change: dict[str, object], message: str) -> None:
    row = {"dataset": "mnist", "backbone": "vit_micro", "recipe": "plain", "regime": "scratch", "size": 100}
    found = tuning.malformed({"rows": [row | {"learning_rate": 1e-3} | change]})
    assert (message in found) if message else found == ""
    assert tuning.malformed([row]) == "it is no table of rows"
    assert tuning.malformed({"rows": [row]}) == "row 1 lacks learning_rate"

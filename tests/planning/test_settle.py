"""Test how open learning rates, budgets and recipes of a plan are filled in, and which cells are searched."""

from dataclasses import replace
from pathlib import Path

import pytest

from bias_lab.definition import Run, recipe, run_id
from bias_lab.errors import UserError
from bias_lab.planning import ladder, settle
from bias_lab.planning.learning_rates import Rates

ONE = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100)
OPEN = replace(ONE, samples_seen=None, recipe="tuned")
LARGEST = {"fashion_mnist_12k": 9000, "cifar10": 9000}
TRIED = [{"learning_rate": value, "top1": 0.5} for value in (3e-4, 1e-3)]


def row(size: int, rate: float, **changes: object) -> dict[str, object]:
    usual = {"dataset": "fashion_mnist_12k", "backbone": "vit_micro", "recipe": "plain", "regime": "scratch"}
    return {**usual, "size": size, "learning_rate": rate, **changes}


def ladder_row(size: int, top1: float, **changes: object) -> dict[str, object]:
    found = dict(samples_seen=64_000, holdout_top1=top1, holdout_gain=0.004, settled=True)
    return {**row(size, 1e-3), **found, **changes}


def table(*rows: dict[str, object]) -> Rates:
    rates = Rates()
    rates.add({"rows": list(rows)}, Path("tuned.json"))
    return rates


def filled(*runs: Run, rates: Rates, tune: bool | None = None, joined: tuple[str, ...] = ()) -> settle.Settled:
    return settle.settle(runs, rates, LARGEST, joined, tune=tune)


def test_an_open_run_gets_the_recipe_the_rate_and_the_budget_that_the_hold_out_preferred() -> None:
    rates = table(ladder_row(100, 0.60), ladder_row(100, 0.65, recipe="strong", samples_seen=128_000))
    (run,) = filled(OPEN, rates=rates).runs
    assert run == replace(ONE, **recipe("strong"), learning_rate=1e-3, samples_seen=128_000)


def test_the_evidence_is_that_of_the_row_and_names_the_comparison() -> None:
    done = filled(OPEN, replace(ONE, learning_rate=0.5), rates=table(ladder_row(100, 0.6)))
    settled, equal = done.runs
    assert done.evidence[run_id(settled)] == dict(
        comparison="settled", settled=True, holdout_top1=0.6, holdout_gain=0.004
    )
    assert done.evidence[run_id(equal)] == dict(comparison="equal")
    assert [used["recipe"] for used in done.used] == ["plain"]


def test_one_run_can_serve_both_comparisons() -> None:
    rates = table(ladder_row(100, 0.6))
    done = filled(OPEN, replace(ONE, samples_seen=64_000), rates=rates)
    (run,) = done.runs
    assert done.evidence[run_id(run)]["comparison"] == "equal+settled"


def test_a_run_without_a_training_budget_serves_no_comparison() -> None:
    assert filled(replace(ONE, protocol="linear_probe"), rates=Rates()).evidence == {}


@pytest.mark.parametrize("protocol", ["linear_probe", "knn"])
def test_a_protocol_without_a_budget_leaves_none_open(protocol: str) -> None:
    """Such a run has the id of the same run with the usual budget, and can be carried out."""
    one = replace(ONE, protocol=protocol)
    assert filled(replace(one, samples_seen=None), rates=Rates()).runs == [one]


@pytest.mark.parametrize("changes", [{"size": 300}, {"dataset": "cifar10"}])
def test_a_budget_of_another_size_or_dataset_is_not_settled_and_that_is_printed(changes: dict[str, object]) -> None:
    rates = table({**ladder_row(100, 0.6), **changes})
    done = filled(OPEN, rates=rates)
    (run,) = done.runs
    assert run.samples_seen == 64_000
    assert done.evidence[run_id(run)]["settled"] is False
    assert any("so not settled" in line for line in done.notes)


def test_a_rate_alone_fits_no_run_whose_budget_is_open() -> None:
    with pytest.raises(UserError, match="no tuned settled budget for vit_micro"):
        filled(OPEN, rates=table(row(100, 1e-3)))


def test_a_recipe_that_is_named_is_kept() -> None:
    rates = table(ladder_row(100, 0.60), ladder_row(100, 0.65, recipe="strong"))
    (run,) = filled(replace(OPEN, recipe="plain"), rates=rates).runs
    assert run.recipe == "plain"


def test_without_tuning_the_budget_is_borrowed_and_not_settled() -> None:
    mine = replace(OPEN, backbone="mine:net", backbone_source="x")
    done = filled(mine, rates=table(ladder_row(100, 0.6)), tune=False, joined=("mine:net",))
    (run,) = done.runs
    assert (run.recipe, run.learning_rate, run.samples_seen) == ("plain", 1e-3, 64_000)
    assert done.evidence[run_id(run)]["settled"] is False
    assert any("not tuned (learning rate 0.001, vit_micro's at N = 100)" in line for line in done.notes)


# --- cells to search -------------------------------------------------------------------------------------------------


def test_a_joined_backbone_is_searched_under_every_recipe_at_its_own_size() -> None:
    mine = replace(OPEN, backbone="mine:net", backbone_source="x")
    done = filled(mine, replace(mine, draw=1, seed=1), rates=table(ladder_row(1000, 0.6)), joined=("mine:net",))
    ((plain, strong),) = done.cells
    assert (plain.recipe, strong.recipe, plain.size) == ("plain", "strong", 100)
    assert plain.samples_seen is None is plain.learning_rate
    assert len(done.pending) == 2


def test_one_search_serves_the_rate_and_the_budget_of_a_cell() -> None:
    both = [replace(OPEN, recipe="plain"), replace(ONE, samples_seen=16_000)]
    for runs in (both, both[::-1]):
        ((cell,),) = filled(*runs, rates=Rates(), tune=True).cells
        assert cell.samples_seen is None


def test_a_trial_without_a_rate_stands_for_the_search_of_its_cell() -> None:
    done = filled(replace(OPEN, task="tune"), rates=table(ladder_row(100, 0.6), ladder_row(100, 0.5, recipe="strong")))
    assert (done.runs, done.pending) == ([], [])
    assert [[run.recipe for run in cell] for cell in done.cells] == [["plain", "strong"]]


def test_a_size_that_reaches_into_the_hold_out_is_searched_at_the_largest_that_does_not() -> None:
    ((cell,),) = filled(replace(OPEN, size=10_000, recipe="plain"), rates=Rates(), tune=True).cells
    assert cell.size == 9000


# --- learning rates alone --------------------------------------------------------------------------------------------


def sizes(*runs: Run, rates: Rates) -> set[int]:
    return {cell.size for (cell,) in filled(*runs, rates=rates, tune=True).cells}


def test_rates_are_searched_at_the_others_sizes_with_the_run_s_own_budget() -> None:
    known = table(row(100, 1e-3, trials=TRIED), row(3000, 1e-3, trials=TRIED))
    mine = [replace(ONE, backbone="mine:net", size=size, samples_seen=size * 10) for size in (100, 300, 1000, 3000)]
    done = filled(*mine, replace(mine[0], budget=3.0), rates=known, joined=("mine:net",))
    assert [(cell.size, cell.samples_seen) for (cell,) in done.cells] == [(100, 1000), (3000, 30_000)]


def test_a_search_reads_the_whole_pool_where_the_runs_read_blocks() -> None:
    ((cell,),) = filled(replace(ONE, size=50, draw=2, blocks=3), rates=Rates(), tune=True).cells
    asked = ladder.trial(cell, 1e-3, 16_000, 0)
    assert (asked.draw, asked.blocks) == (1000, 0)


def test_without_a_table_the_plans_own_ends_are_searched_and_the_hold_out_left_alone() -> None:
    assert sizes(*(replace(ONE, size=size) for size in (50, 200, 10_000)), rates=Rates()) == {50, 9000}


def test_sizes_that_another_dataset_was_tuned_at_do_not_count() -> None:
    known = table(row(100, 1e-3, trials=TRIED), row(3000, 1e-3, trials=TRIED))
    cells = [replace(ONE, dataset="cifar10", size=size) for size in (500, 2000, 8000)]
    assert sizes(*cells, rates=known) == {500, 8000}
    assert known.grid() == (3e-4, 1e-3), "the grid is the same for all"


def test_a_row_is_used_once() -> None:
    known = table(row(100, 1e-3), row(3000, 3e-3), row(100, 1e-2, backbone="resnet_micro"))
    runs = [replace(ONE, size=size, draw=draw) for size in (100, 300) for draw in (0, 1)]
    assert filled(*runs, rates=known).used == [row(100, 1e-3)]
    assert filled(replace(ONE, learning_rate=0.5), rates=known).used == []  # typed by hand

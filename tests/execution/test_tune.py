"""Test that a sweep searches cells trial by trial, survives an interruption, and never looks at test images."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from bias_lab import ledger
from bias_lab.definition import Experiment, Ladder, Run, Settings, run_id
from bias_lab.execution import tune
from bias_lab.execution.run_sweep import Options, Outcome, run_sweep
from bias_lab.planning import plan
from bias_lab.planning.learning_rates import Rates

pytestmark = pytest.mark.usefixtures("fake")

CELL = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100, samples_seen=None, recipe="tuned", task="tune")
HOW = Ladder(first=64, cap=256, rates=(1e-3, 3e-3))


def sweep(folder: Path, *runs: Run, out: io.StringIO | None = None) -> tuple[plan.Plan, Outcome]:
    """Carry out an experiment with a stand-in for training, whose score depends on the learning rate alone."""
    experiment = Experiment(question="How long must each be trained?", runs=runs, ladder=HOW)

    def make() -> plan.Plan:
        return plan.arrange(experiment, "tuning", "smoke", folder, plan.Request(), Rates())

    settings = Settings(workers=2, device="cpu", command="the command")
    console = Console(file=out or io.StringIO(), width=120)
    outcome = run_sweep(make, folder, settings, Options(), publish=lambda: None, console=console)
    return make(), outcome


def test_a_search_runs_until_its_budgets_are_settled_and_writes_the_rows(tmp_path: Path) -> None:
    out = io.StringIO()
    done, outcome = sweep(tmp_path, CELL, out=out)
    assert (outcome.exit_code, outcome.finished) == (0, outcome.total)
    assert {run.samples_seen for run in done.trials} == {64, 128}, "a flat curve ends after one doubling"
    rows = ledger.read_json(tmp_path / ledger.TUNED)["rows"]
    assert [(row["recipe"], row["settled"], row["samples_seen"]) for row in rows] == [
        ("plain", True, 64),
        ("strong", True, 64),
    ]
    assert "vit_micro scratch N=100: 128 images seen, hold-out" in out.getvalue()
    assert "(3 replicates)" in out.getvalue()


def test_after_a_second_call_nothing_has_run_again(tmp_path: Path) -> None:
    sweep(tmp_path, CELL)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob(f"runs/*/{ledger.RESULT}")}
    rows = (tmp_path / ledger.TUNED).read_bytes()
    (tmp_path / ledger.TUNED).unlink()
    sweep(tmp_path, CELL)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob(f"runs/*/{ledger.RESULT}")} == before
    assert (tmp_path / ledger.TUNED).read_bytes() == rows, "the trials on disk are all that the table is made from"


def test_an_interrupted_search_ends_like_one_that_was_not(tmp_path: Path) -> None:
    whole, part = tmp_path / "whole", tmp_path / "part"
    sweep(whole, CELL)
    done, _ = sweep(part, CELL)
    for run in done.trials[3:]:
        (ledger.run_folder(part, run_id(run)) / ledger.RESULT).unlink()
    sweep(part, CELL)
    assert (part / ledger.TUNED).read_bytes() == (whole / ledger.TUNED).read_bytes()


def test_a_cell_has_no_row_until_all_its_learning_rates_are_tried(tmp_path: Path) -> None:
    done, _ = sweep(tmp_path, CELL)
    first = [run for run in done.trials if run.recipe == "plain"]
    for run in first:
        if run.samples_seen != HOW.first:
            (ledger.run_folder(tmp_path, run_id(run)) / ledger.RESULT).unlink()
    (row,) = tune.chosen(first, tmp_path)
    assert {trial["learning_rate"] for trial in row["trials"]} >= set(HOW.rates)
    assert not row.get("settled"), "one budget alone is known"
    last = next(run for run in first if (run.learning_rate, run.samples_seen, run.draw) == (3e-3, HOW.first, 1000))
    (ledger.run_folder(tmp_path, run_id(last)) / ledger.RESULT).unlink()
    assert tune.chosen(first, tmp_path) == []

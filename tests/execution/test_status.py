"""A folder's state as the terminal shows it, and one run's."""

from dataclasses import replace
from pathlib import Path

import pytest

from bias_lab import ledger
from bias_lab.definition import Experiment, Run, grid, run_id, to_json
from bias_lab.errors import UserError
from bias_lab.execution import status
from bias_lab.planning import learning_rates, plan

ONE = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100, learning_rate=1e-3)
RUNS = (*grid(ONE, draw=(0, 1), size=(100, 1000)), replace(ONE, budget=3.0))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five planned runs: one finished by today's code, one by other code, one failed, one diverged, one begun."""
    experiment = Experiment(question="Is it?", runs=RUNS)
    made = plan.arrange(experiment, "sound", "laptop", tmp_path, plan.Request(), learning_rates.Rates())
    plan.write(made, tmp_path, "bias-lab sweep sound.py")
    for number, run in enumerate(RUNS):
        here = ledger.run_folder(tmp_path, run_id(run))
        ledger.write_json(here / ledger.RUN, to_json(run))
        if number < 2:
            facts = {"code": ledger.code_hash() if number == 0 else "0123", "class_names": ["a", "b"]}
            metrics = {"top1": 0.51234, "per_class": [0.1], "top5": None}
            result = {"run": to_json(run), "metrics": metrics, "facts": facts, "steps": 500, "seconds": 12.3}
            ledger.write_json(here / ledger.RESULT, result)
        elif number < 4:
            reason = "error" if number == 2 else "diverged"
            ledger.write_json(here / ledger.FAILURE, {"reason": reason, "exception": "why", "log": "one\ntwo\n"})
    return tmp_path


def test_the_headline_counts_every_state(folder: Path) -> None:
    now = status.read(folder)
    assert status.headline(now) == "sound, laptop: 2 of 5 finished, 1 interrupted, 1 failed, 1 diverged"
    assert now.other_code == 1


def test_while_a_sweep_holds_the_folder_begun_runs_are_running(folder: Path) -> None:
    with ledger.claim(folder):
        now = status.read(folder)
    assert "1 running" in status.headline(now)
    assert status.advice(now)[0] == "a sweep is at work on this folder"
    assert not status.read(folder).at_work


def test_what_to_type_next(folder: Path) -> None:
    lines = status.advice(status.read(folder))
    assert lines == [
        "go on with: bias-lab sweep sound.py",
        "failed runs are tried again with --retry-failed",
        "1 finished run was made by other code of the lab than today's; --redo-changed runs it again",
    ]


def test_the_table_has_a_row_a_kind_of_cell_and_a_column_a_size(folder: Path) -> None:
    header, rows = status.table(status.read(folder))
    assert header == ["", "N=100", "N=1000"]
    assert rows == [["vit_micro scratch", "1/2 1✗", "1/2 1✗"], ["vit_micro scratch 3x", "0/1", ""]]


def test_a_folder_that_is_not_there_or_no_sweeps(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        status.read(tmp_path / "absent")
    with pytest.raises(UserError, match=r"holds no sweep: experiment\.json is missing"):
        status.read(tmp_path)


# --- one run ---------------------------------------------------------------------------------------------------------


def test_a_finished_runs_sections(folder: Path) -> None:
    name = run_id(RUNS[0])
    sections = dict(status.sections(status.describe(folder, name)))
    assert ("learning_rate", "0.001") in sections["definition (the rest is at its default)"]
    assert sections["result"] == [("top1", "0.5123")]
    assert ("seconds", "12.3") in sections["made by"]
    assert sections["repeat it"] == [("", f"bias-lab train --like {folder}/runs/{name} --out {folder}-repeat")]


def test_a_failed_runs_sections_end_with_its_log(folder: Path) -> None:
    sections = dict(status.sections(status.describe(folder, run_id(RUNS[2]))))
    assert sections["failure"] == [("reason", "error"), ("exception", "why")]
    assert sections["end of its log"] == [("", "one"), ("", "two")]


def test_a_planned_run_is_known_before_it_begins(folder: Path) -> None:
    name = run_id(RUNS[4])
    (ledger.run_folder(folder, name) / ledger.RUN).unlink()
    assert status.describe(folder, name)["state"] == "missing"
    with pytest.raises(UserError, match="has no definition"):
        status.describe(folder, "0123")

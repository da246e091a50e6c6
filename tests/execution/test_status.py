"""The state of a folder and of one run, as the terminal shows them."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from bias_lab import ledger
from bias_lab.definition import Experiment, Run, grid, run_id, to_json
from bias_lab.errors import UserError
from bias_lab.execution import status
from bias_lab.planning import learning_rates, plan
from tests.execution import synthetic

ONE = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100, learning_rate=1e-3)
RUNS = (*grid(ONE, draw=(0, 1), size=(100, 1000)), replace(ONE, budget=3.0))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a folder of five runs: finished, finished with different code, failed, diverged, started."""
    experiment = Experiment(question="Is it?", runs=RUNS)
    planned = plan.arrange(experiment, "sound", "laptop", tmp_path, plan.Request(), learning_rates.Rates())
    plan.write(planned, tmp_path, "bias-lab sweep sound.py")
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
    current = status.read(folder)
    assert status.headline(current) == "sound, laptop: 2 of 5 finished, 1 interrupted, 1 failed, 1 diverged"
    assert current.other_code == 1


def test_started_runs_are_running_while_a_sweep_holds_the_folder(folder: Path) -> None:
    with ledger.claim(folder):
        current = status.read(folder)
    assert "1 running" in status.headline(current)
    assert status.advice(current)[0] == "a sweep is running on this folder"
    assert not status.read(folder).at_work


def test_the_advice_says_what_to_do_next(folder: Path) -> None:
    lines = status.advice(status.read(folder))
    assert lines == [
        "to continue: bias-lab sweep sound.py",
        "to try failed runs again, add --retry-failed",
        "1 finished run came from different code of the lab; to repeat them, add --redo-changed",
    ]


def test_the_table_has_one_row_for_each_kind_of_cell_and_one_column_for_each_size(folder: Path) -> None:
    header, rows = status.table(status.read(folder))
    assert header == ["", "N=100", "N=1000"]
    assert rows == [["vit_micro scratch", "1/2 1✗", "1/2 1✗"], ["vit_micro scratch 3x budget", "0/1", ""]]


def test_a_folder_that_is_absent_or_holds_no_sweep_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        status.read(tmp_path / "absent")
    with pytest.raises(UserError, match=r"holds no sweep: experiment\.json is missing"):
        status.read(tmp_path)


# --- one run ---------------------------------------------------------------------------------------------------------


def test_the_sections_of_a_finished_run(folder: Path) -> None:
    name = run_id(RUNS[0])
    sections = dict(status.sections(status.describe(folder, name)))
    assert ("learning_rate", "0.001") in sections["definition (other fields have their defaults)"]
    assert sections["result"] == [("top1", "0.5123")]
    assert ("seconds", "12.3") in sections["made by"]
    assert sections["to repeat it (a repeated run has the same id)"] == [
        ("", f"bias-lab train --like {folder}/runs/{name} --out {folder}-repeat")
    ]


def test_the_sections_of_a_failed_run_end_with_its_log(folder: Path) -> None:
    sections = dict(status.sections(status.describe(folder, run_id(RUNS[2]))))
    assert sections["failure"] == [("reason", "error"), ("exception", "why")]
    assert sections["end of its log"] == [("", "one"), ("", "two")]


def test_a_planned_run_can_be_described_before_it_starts(folder: Path) -> None:
    name = run_id(RUNS[4])
    (ledger.run_folder(folder, name) / ledger.RUN).unlink()
    assert status.describe(folder, name)["state"] == "missing"
    with pytest.raises(UserError, match="has no definition"):
        status.describe(folder, "0123")


# --- many runs -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_status_of_many_runs_is_read_in_little_time(tmp_path: Path) -> None:
    """100,000 runs may take 10 s, so 10,000 may take 1 s of CPU time."""
    synthetic.write(tmp_path, 10_000)
    began = time.process_time()
    current = status.read(tmp_path)
    table = status.table(current)
    assert time.process_time() - began < 1
    assert status.headline(current) == "synthetic, full: 10000 of 10000 finished"
    assert current.other_code == 0
    assert table[1][0] == ["vit_micro scratch", *["500/500"] * 5]


def test_runs_are_listed_by_words_with_their_results(folder: Path) -> None:
    current = status.read(folder)
    assert status.matching(current, "N=1000 failed") == []
    names = status.matching(current, "finished vit_micro")
    assert names == [run_id(RUNS[0]), run_id(RUNS[1])]
    assert status.matching(current, "finished vit") == names  # the beginning of a name is enough
    assert status.matching(current, "it_micro") == []
    assert len(status.matching(current, "")) == 5
    header, rows = status.listing(current, [run_id(RUNS[0]), run_id(RUNS[4])])
    assert header == ["id", "state", "result", "run"]
    assert rows[0][:3] == [run_id(RUNS[0]), "finished", "top-1 0.512"]
    assert rows[1][1:3] == ["started", ""]
    assert status.weights_line(folder) == f"weights: {folder}/runs/ID/weights.safetensors"


def test_a_finished_run_shows_where_its_weights_lie(folder: Path) -> None:
    name = run_id(RUNS[0])
    sections = dict(status.sections(status.describe(folder, name)))
    assert sections["weights"] == [("", f"{folder}/runs/{name}/weights.safetensors")]

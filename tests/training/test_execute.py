"""A run from its definition to its result: the files it leaves, and that they are the same bytes each time."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from bias_lab import ledger
from bias_lab.backbones import create
from bias_lab.definition import run_id, steps
from bias_lab.training import execute as module
from bias_lab.training.execute import execute
from bias_lab.training.tasks.classification import Classification
from tests.tracking import offline
from tests.training.runs import QUIET, RUN, KilledError, finished, same_bytes


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("done")
    return folder, finished(RUN, folder)


def test_a_result_carries_its_own_making(done) -> None:
    folder, result = done
    assert result["run_id"] == run_id(RUN)
    assert result["run"] == ledger.read_json(ledger.run_folder(folder, run_id(RUN)) / ledger.RUN)
    assert (result["steps"], result["samples_seen"], result["attempts"]) == (20, 160, 1)
    assert result["command"] == "pytest"
    assert {"python", "torch", "lightning", "timm"} <= set(result["versions"])
    facts = result["facts"]
    assert facts["parameters"] == sum(p.numel() for n, p in tiny_model().named_parameters() if not n.startswith("head"))
    assert (facts["classes"], facts["test_images"], facts["image_size"]) == (10, 2000, 28)
    assert facts["code"] == ledger.code_hash()


def tiny_model() -> nn.Module:
    return create(RUN.backbone, image_size=28, channels=1, classes=10)


def test_only_results_stay_in_the_folder(done) -> None:
    folder, _ = done
    names = {path.name for path in ledger.run_folder(folder, run_id(RUN)).iterdir()}
    assert names == {
        "run.json",
        "result.json",
        "metrics.jsonl",
        "log.txt",
        "weights.safetensors",
        "predictions.parquet",
        "attempts",
    }


def test_metrics_hold_no_times(done) -> None:
    folder, _ = done
    rows = [
        json.loads(line) for line in (ledger.run_folder(folder, run_id(RUN)) / ledger.METRICS).read_text().splitlines()
    ]
    assert rows[-1]["step"] == steps(RUN)
    assert {name for row in rows for name in row} == {"step", "train/loss", "lr"}


def test_the_same_run_twice_is_the_same_bytes(done, tmp_path: Path) -> None:
    torch.rand(17)  # earlier draws do not matter
    finished(RUN, tmp_path)
    same_bytes(done[0], tmp_path, RUN)


def test_seed_and_draw_zero_are_values_and_others_differ(done, tmp_path: Path) -> None:
    for changed in (replace(RUN, seed=1), replace(RUN, draw=1)):
        result = finished(changed, tmp_path)
        assert result["metrics"]["loss"] != done[1]["metrics"]["loss"]
    other_draw = ledger.read_json(ledger.run_folder(tmp_path, run_id(replace(RUN, draw=1))) / ledger.RESULT)
    assert other_draw["facts"]["subset_hash"] != done[1]["facts"]["subset_hash"]
    other_seed = ledger.read_json(ledger.run_folder(tmp_path, run_id(replace(RUN, seed=1))) / ledger.RESULT)
    assert other_seed["facts"]["subset_hash"] == done[1]["facts"]["subset_hash"]


def test_an_offline_wandb_run_lies_in_the_sweeps_folder(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    finished(RUN, tmp_path, replace(QUIET, wandb=True))
    runs = [
        path.name for path in (tmp_path / "wandb").iterdir() if path.is_dir() and path.name.startswith("offline-run")
    ]
    assert len(runs) == 1
    assert runs[0].endswith(run_id(RUN))
    result = ledger.read_json(ledger.run_folder(tmp_path, run_id(RUN)) / ledger.RESULT)
    recorded = offline.runs(tmp_path)[run_id(RUN)][0]  # it ends after the test images were read
    assert recorded.summary["top1"] == pytest.approx(result["metrics"]["top1"])
    assert {"train/loss", "lr", "per_class"} <= recorded.keys


def test_a_read_only_folder_is_an_error(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        execute(RUN, tmp_path, QUIET)


def test_a_finished_run_is_left_alone(done, monkeypatch) -> None:
    folder, result = done
    monkeypatch.setattr(module, "prepare", lambda *given: pytest.fail("a finished run was computed again"))
    assert finished(RUN, folder) == result


def test_of_two_workers_on_one_run_the_first_counts_and_both_end_well(tmp_path: Path, monkeypatch) -> None:
    measure = Classification.measure

    def while_another_finishes(*given: Any) -> dict[str, Any]:
        monkeypatch.setattr(Classification, "measure", measure)
        execute(RUN, tmp_path, replace(QUIET, command="the other"))
        return measure(*given)

    monkeypatch.setattr(Classification, "measure", while_another_finishes)
    result = finished(RUN, tmp_path)
    assert (result["command"], result["attempts"]) == ("the other", 2)
    assert ledger.attempts(tmp_path, run_id(RUN)) == 2
    assert not [path for path in ledger.run_folder(tmp_path, run_id(RUN)).iterdir() if path.is_dir()]


def test_a_run_that_was_killed_while_it_was_published_is_finished_without_training(tmp_path: Path, monkeypatch) -> None:
    def killed(here: Path) -> None:
        if (here / ledger.COMMITTED).is_dir():
            raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "_finish_publishing", killed)
        with pytest.raises(KilledError):
            execute(RUN, tmp_path, QUIET)
    assert ledger.state(tmp_path, run_id(RUN)) == "started"
    monkeypatch.setattr(module, "prepare", lambda *given: pytest.fail("it was computed again"))
    assert finished(RUN, tmp_path)["attempts"] == 1


def test_weights_come_back(tmp_path: Path) -> None:
    layer = nn.Linear(2, 3)
    module.save_weights(layer, tmp_path / "w.safetensors")
    torch.testing.assert_close(load_file(tmp_path / "w.safetensors"), dict(layer.state_dict()))

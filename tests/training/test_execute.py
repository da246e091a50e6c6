"""A run from its definition to its result: what it leaves, that a kill changes nothing, when test images are read."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from bias_lab import ledger
from bias_lab.backbones import create
from bias_lab.definition import Run, Settings, run_id, steps
from bias_lab.errors import Diverged, UserError
from bias_lab.training import execute as room
from bias_lab.training import recording

RUN = Run(
    dataset="fashion_mnist_12k",
    backbone="tests.training.tiny:tiny",
    size=20,
    samples_seen=20 * 8,
    batch_size=8,
    learning_rate=3e-3,
)
QUIET = Settings(wandb=False, device="cpu", experiment="test", command="pytest")


def finished(run: Run, folder: Path, settings: Settings = QUIET) -> dict[str, Any]:
    room.execute(run, folder, settings)
    return ledger.read_json(ledger.run_folder(folder, run_id(run)) / ledger.RESULT)


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


def test_metrics_are_those_of_the_saved_weights_on_the_test_split(done) -> None:
    folder, result = done
    here = ledger.run_folder(folder, run_id(RUN))
    model = tiny_model()
    model.load_state_dict(load_file(here / ledger.WEIGHTS), strict=True)
    model.eval()
    images = room.store.open_images(RUN.dataset, image_size=None, data_root=None, place=None)
    x = torch.from_numpy(np.array(images.test)).permute(0, 3, 1, 2).float() / 255
    x = (x - torch.tensor(images.mean).view(1, -1, 1, 1)) / torch.tensor(images.std).view(1, -1, 1, 1)
    with torch.no_grad():
        predicted = model(x).argmax(1).numpy()
    saved = pd.read_parquet(here / ledger.PREDICTIONS)
    assert (saved["predicted"].to_numpy() == predicted).mean() > 0.999  # sums in another order may turn a tie
    assert (saved["label"].to_numpy() == images.test_labels).all()
    assert result["metrics"]["top1"] == pytest.approx((predicted == images.test_labels).mean(), abs=1e-3)
    assert result["metrics"]["top1"] == (saved["label"] == saved["predicted"]).mean()


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


def same_bytes(one: Path, other: Path, run: Run) -> None:
    a, b = ledger.run_folder(one, run_id(run)), ledger.run_folder(other, run_id(run))
    for name in (ledger.METRICS, ledger.WEIGHTS, ledger.PREDICTIONS):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    assert ledger.read_json(a / ledger.RESULT)["metrics"] == ledger.read_json(b / ledger.RESULT)["metrics"]


def test_the_same_run_twice_is_the_same_bytes(done, tmp_path: Path) -> None:
    torch.rand(17)  # what was drawn before does not matter
    finished(RUN, tmp_path)
    same_bytes(done[0], tmp_path, RUN)


class KilledError(Exception):
    pass


def interrupted(run: Run, folder: Path, monkeypatch, at: int, *, settings: Settings = QUIET) -> None:
    """Execute until step `at`, with a checkpoint three steps before, then die."""
    saved = at - 3

    class Dying(recording.Checkpoints):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
            if trainer.global_step == saved:
                trainer.save_checkpoint(self.path)
            if trainer.global_step == at:
                raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(recording, "Checkpoints", Dying)
        with pytest.raises(KilledError):
            room.execute(run, folder, settings)


@pytest.mark.parametrize("at", [4, 13])
def test_an_interrupted_run_ends_in_the_same_bytes(tmp_path: Path, monkeypatch, at: int) -> None:
    run = replace(RUN, drop_path=0.2, mixup=0.2, ema=0.9, monitor=4)  # everything that draws or carries a state
    finished(run, tmp_path / "whole")
    interrupted(run, tmp_path / "cut", monkeypatch, at)
    assert ledger.state(tmp_path / "cut", run_id(run)) == "started"
    result = finished(run, tmp_path / "cut")
    assert result["attempts"] == 2
    same_bytes(tmp_path / "whole", tmp_path / "cut", run)


def test_batches_after_a_resume_are_those_that_were_due(tmp_path: Path, monkeypatch) -> None:
    seen: dict[str, list[torch.Tensor]] = {"whole": [], "cut": []}
    where = "whole"
    step = room.Classifier.training_step

    def watched(self, batch, batch_idx):
        seen[where].append(batch[0].clone())
        return step(self, batch, batch_idx)

    monkeypatch.setattr(room.Classifier, "training_step", watched)
    finished(RUN, tmp_path / "whole")
    where = "cut"
    interrupted(RUN, tmp_path / "cut", monkeypatch, 9)
    del seen["cut"][6:]  # steps 7-9 were lost with the kill
    finished(RUN, tmp_path / "cut")
    assert len(seen["whole"]) == len(seen["cut"]) == 20
    assert all(torch.equal(a, b) for a, b in zip(seen["whole"], seen["cut"], strict=True))


def test_seed_and_draw_zero_are_values_and_others_differ(done, tmp_path: Path) -> None:
    for changed in (replace(RUN, seed=1), replace(RUN, draw=1)):
        result = finished(changed, tmp_path)
        assert result["metrics"]["loss"] != done[1]["metrics"]["loss"]
    other_draw = ledger.read_json(ledger.run_folder(tmp_path, run_id(replace(RUN, draw=1))) / ledger.RESULT)
    assert other_draw["facts"]["subset_hash"] != done[1]["facts"]["subset_hash"]
    other_seed = ledger.read_json(ledger.run_folder(tmp_path, run_id(replace(RUN, seed=1))) / ledger.RESULT)
    assert other_seed["facts"]["subset_hash"] == done[1]["facts"]["subset_hash"]


def test_a_diverged_run_names_its_step_and_leaves_no_result(tmp_path: Path) -> None:
    run = replace(RUN, backbone="tests.training.tiny:exploding")
    with pytest.raises(Diverged, match="at step 5"):
        room.execute(run, tmp_path, QUIET)
    assert ledger.state(tmp_path, run_id(run)) == "started"


def test_test_images_are_read_after_the_last_step_and_once(tmp_path: Path, monkeypatch) -> None:
    told: list[str] = []
    real = room.Job.judged
    step = room.Classifier.training_step
    monkeypatch.setattr(room.Job, "judged", lambda self: told.append("test") or real(self))
    monkeypatch.setattr(room.Classifier, "training_step", lambda *a: told.append("step") or step(*a))
    finished(RUN, tmp_path)
    assert told == ["step"] * 20 + ["test"]


def test_tuning_is_judged_on_the_holdout_and_never_sees_test(tmp_path: Path, monkeypatch) -> None:
    run = replace(RUN, task="tune", draw=1000, seed=1000)
    real = room.store.open_images

    def without_test(*arguments: Any, **options: Any) -> Any:
        images = real(*arguments, **options)
        return replace(images, test=Forbidden(), test_labels=images.test_labels)

    monkeypatch.setattr(room.store, "open_images", without_test)
    result = finished(run, tmp_path)
    assert 0 <= result["metrics"]["top1"] <= 1
    assert not (ledger.run_folder(tmp_path, run_id(run)) / ledger.PREDICTIONS).exists()
    with pytest.raises(AssertionError, match="a test image was read"):  # the planted leak: the same guard catches it
        finished(RUN, tmp_path)


class Forbidden:
    """Stands in for the test images: whoever reads one is found out."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError("a test image was read")

    def __len__(self) -> int:
        raise AssertionError("a test image was read")

    def __getitem__(self, index: Any) -> Any:
        raise AssertionError("a test image was read")


def test_a_size_that_reaches_into_the_holdout_cannot_be_tuned(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="reaches into the hold-out"):
        room.execute(replace(RUN, task="tune", size=9500, samples_seen=8), tmp_path, QUIET)


def test_pretraining_is_shared_and_its_encoder_is_the_start(tmp_path: Path) -> None:
    before = replace(
        RUN,
        backbone="vit_micro",
        task="pretrain",
        regime="mae",
        source="pool",
        size=0,
        samples_seen=4 * 16,
        batch_size=16,
    )
    result = finished(before, tmp_path)
    assert result["metrics"]["loss"] > 0
    assert not (ledger.run_folder(tmp_path, run_id(before)) / ledger.PREDICTIONS).exists()
    after = replace(RUN, backbone="vit_micro", regime="mae", source="pool", pretraining=run_id(before), samples_seen=8)
    started = finished(after, tmp_path)["weights"]
    assert started["name"] == run_id(before)
    assert "blocks.0.attn.qkv.weight" in started["loaded"]
    assert not [name for name in started["skipped"] if not name.startswith("head")]


def test_a_pretraining_that_is_not_finished_is_named(tmp_path: Path) -> None:
    run = replace(RUN, backbone="vit_micro", regime="mae", source="pool", pretraining="0123456789ab")
    with pytest.raises(UserError, match="0123456789ab is not finished"):
        room.execute(run, tmp_path, QUIET)


def test_an_offline_wandb_run_lies_in_the_sweeps_folder(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    finished(RUN, tmp_path, replace(QUIET, wandb=True))
    runs = [
        path.name for path in (tmp_path / "wandb").iterdir() if path.is_dir() and path.name.startswith("offline-run")
    ]
    assert len(runs) == 1
    assert runs[0].endswith(run_id(RUN))


def test_preflight_refuses_what_cannot_be_built(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        room.preflight([replace(RUN, backbone="resnet_mircoscopic")], tmp_path, QUIET)
    with pytest.raises(UserError):
        room.preflight([replace(RUN, backbone="vit_micro", patch=5)], tmp_path, QUIET)
    assert not (tmp_path / "runs").exists()
    assert isinstance(room.preflight([RUN], tmp_path, QUIET), list)


def test_device_that_is_not_there() -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU is there")
    with pytest.raises(UserError, match="cuda:3"):
        room.choose_device("cuda:3")
    assert room.choose_device("auto") == torch.device("cpu")


def test_a_read_only_folder_is_said(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        room.execute(RUN, tmp_path, QUIET)

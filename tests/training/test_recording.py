"""Rows that survive a kill, checkpoints that are whole or passed over, and W&B that neither hangs nor asks."""

import base64
import json
import logging
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from bias_lab.definition import Run, Settings, run_id
from bias_lab.errors import Diverged
from bias_lab.tracking import export as export
from bias_lab.training import recording
from tests.tracking import offline
from tests.tracking.offline import Offline


class FakeTrainer:
    """As much of a trainer as the callbacks read."""

    def __init__(self, max_steps: int) -> None:
        self.max_steps, self.global_step = max_steps, 0
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.loggers = [self]
        self.optimizers = [torch.optim.SGD([torch.zeros(1)], lr=0.5)]

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.rows.append((step, metrics))

    def run(self, callback: recording.Intervals, losses: list[float]) -> None:
        for loss in losses:
            self.global_step += 1
            callback.on_train_batch_end(self, None, {"loss": torch.tensor(loss)}, None, 0)


def test_rows_are_means_over_an_interval_and_the_last_step_has_one() -> None:
    trainer, callback = FakeTrainer(45), recording.Intervals(45)
    assert callback.every == 2
    trainer.run(callback, [float(k) for k in range(45)])
    assert [step for step, _ in trainer.rows] == [*range(2, 45, 2), 45]
    assert trainer.rows[0][1] == {"train/loss": 0.5, "lr": 0.5}
    assert trainer.rows[-1][1]["train/loss"] == 44.0


def test_an_interval_cut_by_a_checkpoint_goes_on_where_it_was() -> None:
    whole, callback = FakeTrainer(40), recording.Intervals(40)
    losses = [0.1 * k for k in range(40)]
    whole.run(callback, losses)
    first, before = FakeTrainer(40), recording.Intervals(40)
    first.run(before, losses[:17])
    checkpoint: dict[str, object] = {}
    before.on_save_checkpoint(first, None, checkpoint)
    second, after = FakeTrainer(40), recording.Intervals(40)
    second.global_step = 17
    after.on_load_checkpoint(second, None, checkpoint)
    second.run(after, losses[17:])
    assert first.rows + second.rows == whole.rows


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_names_its_step(value: float) -> None:
    trainer, callback = FakeTrainer(100), recording.Intervals(100)
    losses = [1.0] * 100
    losses[62] = value
    with pytest.raises(Diverged, match="at step 63"):
        trainer.run(callback, losses)


def test_rows_are_appended_once_and_a_torn_line_goes(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    rows = recording.JsonLines(path)
    rows.log_metrics({"a": 1.0}, step=1)
    rows.log_metrics({"a": 2.0}, step=2)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"a": 3.0, "st')
    again = recording.JsonLines(path)
    assert path.read_bytes() == whole
    again.log_metrics({"a": 9.0}, step=2)
    again.log_metrics({"b": 9.0}, step=2)  # another kind of row at the same step is new
    again.log_metrics({"a": 3.0}, step=3)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"a": 1.0, "step": 1},
        {"a": 2.0, "step": 2},
        {"b": 9.0, "step": 2},
        {"a": 3.0, "step": 3},
    ]
    assert again.rows() == [json.loads(line) for line in path.read_text().splitlines()]


def test_a_checkpoint_comes_back_and_goes(tmp_path: Path) -> None:
    io, path = recording.CheckedCheckpointIO(), tmp_path / "checkpoint.ckpt"
    io.save_checkpoint({"global_step": 3, "x": torch.arange(3)}, path)
    assert io.load_checkpoint(path)["global_step"] == 3
    io.remove_checkpoint(path)
    assert recording.read_checkpoint(path) is None
    with pytest.raises(FileNotFoundError):
        io.load_checkpoint(path)


@pytest.mark.parametrize("damage", [lambda d: d[:100], lambda d: b"", lambda d: d[:-1] + bytes([d[-1] ^ 1])])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path, damage) -> None:
    io, path = recording.CheckedCheckpointIO(), tmp_path / "checkpoint.ckpt"
    io.save_checkpoint({"global_step": 1}, path)
    io.save_checkpoint({"global_step": 2}, path)
    path.write_bytes(damage(path.read_bytes()))
    found = recording.read_checkpoint(path)
    assert found is not None
    assert found["global_step"] == 1


def test_log_takes_warnings_and_gives_them_back(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    with recording.log_to(path), warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.getLogger("x").info("said")
    assert "said" in path.read_text()
    before = path.read_text()
    logging.getLogger("x").info("after")
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("said", "key", "expected"), [("", "", "offline"), ("", "k", "online"), ("disabled", "k", "disabled")]
)
def test_wandb_is_offline_unless_logged_in(monkeypatch, tmp_path: Path, said: str, key: str, expected: str) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", said)
    monkeypatch.setenv("WANDB_API_KEY", key)
    assert recording.wandb_mode() == expected


def test_a_netrc_with_wandb_counts_as_logged_in(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine api.wandb.ai login user password secret\n")
    netrc.chmod(0o600)
    assert recording.wandb_mode() == "online"


def test_no_wandb_means_none(tmp_path: Path) -> None:
    run = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100)
    assert recording.wandb_logger(run, tmp_path, Settings(wandb=False)) is None
    assert not list(tmp_path.iterdir())


def concluded(folder: Path) -> Path:
    """What a finished run leaves, beside its W&B run."""
    from PIL import Image

    here = folder / "runs" / run_id(RUN)
    here.mkdir(parents=True)
    Image.new("L", (8, 8)).save(here / "reconstruction.png")
    rows = {"index": [1, 0, 2], "label": [1, 2, 3], "predicted": [1, 0, 3], "confidence": [0.5] * 3}
    pd.DataFrame(rows).to_parquet(here / "predictions.parquet")
    return here


RUN = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100)
METRICS = dict(
    top1=0.5, top5=0.9, macro_f1=0.4, ece=0.1, loss=1.0, train_top1=0.6, train_loss=0.9, loss_slope=-0.1,
    collapsed=False, per_class=[0.25, 0.75], holdout_top1=None,
)  # fmt: skip
FACTS = dict(
    parameters=400_000, flops=10, image_size=28, classes=2, class_names=["a", "b"], test_images=3,
    dataset_fingerprint="f",
)  # fmt: skip
RESULT = dict(
    metrics=METRICS, facts=FACTS, steps=500, samples_seen=16_000, seconds=3.0, attempts=1, device="cpu", commit="c",
)  # fmt: skip


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Offline]:
    """Three runs of one worker: one that ended well, one that diverged, one after it."""
    folder = tmp_path_factory.mktemp("sweep")
    settings = Settings(experiment="small_data")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("WANDB_MODE", "offline")
        with recording.tracked(RUN, folder, settings) as logger:
            logger.log_metrics({"train/loss": 2.0, "lr": 0.1}, step=1)
            recording.conclude(logger, RESULT, concluded(folder))
        with (
            pytest.raises(Diverged),
            recording.tracked(replace(RUN, draw=1), folder, settings) as logger,
        ):
            logger.log_metrics({"train/loss": 3.0}, step=1)
            raise Diverged("the loss became nan at step 7")
        with recording.tracked(replace(RUN, draw=2, protocol="knn"), folder, settings) as logger:
            recording.conclude(logger, {**RESULT, "metrics": {}}, folder)
    return {name: each[0] for name, each in offline.runs(folder).items()}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_live_run_ends_with_the_summary_that_an_export_would_write(told: dict[str, Offline]) -> None:
    run = told[run_id(RUN)]
    assert (run.group, run.job_type, run.exit_code) == ("small_data", "finetune", 0)
    assert set(export.SUMMARY) - set(run.summary) == set()
    assert (run.summary["top1"], run.summary["status"], run.summary["seconds"]) == (0.5, "finished", 3.0)
    assert base64.b64decode(run.summary["correct"]) == np.packbits([False, True, True]).tobytes()
    assert set(export.CONFIG) - set(run.config) == set()
    assert (run.config["regime"], run.config["family"], run.config["parameters"]) == ("scratch", "transformer", 400_000)
    assert {"train/loss", "lr", "per_class", "pictures/reconstruction"} <= run.keys


def test_a_run_that_diverged_ends_as_failed_and_the_next_has_its_own(told: dict[str, Offline]) -> None:
    failed = told[run_id(replace(RUN, draw=1))]
    assert (failed.exit_code, failed.summary["status"]) == (1, "failed")
    assert failed.summary["reason"] == "Diverged: the loss became nan at step 7"
    after = told[run_id(replace(RUN, draw=2, protocol="knn"))]
    assert (after.job_type, after.exit_code, after.summary["status"]) == ("probe", 0, "finished")
    assert "train/loss" not in after.keys


def test_what_goes_wrong_with_wandb_is_logged_and_the_run_stands(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recording.conclude(None, RESULT, tmp_path)
    recording.conclude(object(), RESULT, tmp_path)
    assert "bias-lab wandb-sync can" in caplog.text


class Unwilling:
    """A W&B run that can be neither told nor ended."""

    @property
    def summary(self) -> None:
        raise OSError("the disk is full")

    def finish(self, exit_code: int = 0) -> None:
        raise OSError("no answer")


@pytest.mark.parametrize("begins", [False, True])
def test_wandb_that_fails_neither_stops_a_run_nor_renames_its_failure(
    begins: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def logger(*_: object) -> SimpleNamespace:
        if begins:
            return SimpleNamespace(experiment=Unwilling())
        raise OSError("the server does not answer")

    monkeypatch.setattr(recording, "wandb_logger", logger)
    with recording.tracked(RUN, tmp_path, Settings()) as given:
        assert (given is not None) == begins
    with pytest.raises(Diverged, match="step 7"), recording.tracked(RUN, tmp_path, Settings()):
        raise Diverged("the loss became nan at step 7")
    assert "bias-lab wandb-sync can" in caplog.text

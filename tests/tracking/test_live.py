"""Record a run in W&B: offline unless logged in, never a prompt, and a failure that keeps its name."""

import base64
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from bias_lab.definition import Run, Settings, run_id
from bias_lab.errors import Diverged
from bias_lab.tracking import export as export
from bias_lab.tracking import live
from tests.tracking import offline
from tests.tracking.offline import Offline


@pytest.mark.parametrize(
    ("said", "key", "expected"), [("", "", "offline"), ("", "k", "online"), ("disabled", "k", "disabled")]
)
def test_wandb_is_offline_unless_logged_in(monkeypatch, tmp_path: Path, said: str, key: str, expected: str) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", said)
    monkeypatch.setenv("WANDB_API_KEY", key)
    assert live.wandb_mode() == expected


def test_a_netrc_with_wandb_counts_as_logged_in(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine api.wandb.ai login user password secret\n")
    netrc.chmod(0o600)
    assert live.wandb_mode() == "online"


def test_no_wandb_means_none(tmp_path: Path) -> None:
    run = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100)
    assert live.wandb_logger(run, tmp_path, Settings(wandb=False)) is None
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
        with live.tracked(RUN, folder, settings) as logger:
            logger.log_metrics({"train/loss": 2.0, "lr": 0.1}, step=1)
            live.conclude(logger, RESULT, concluded(folder))
        with (
            pytest.raises(Diverged),
            live.tracked(replace(RUN, draw=1), folder, settings) as logger,
        ):
            logger.log_metrics({"train/loss": 3.0}, step=1)
            raise Diverged("the loss became nan at step 7")
        with live.tracked(replace(RUN, draw=2, protocol="knn"), folder, settings) as logger:
            live.conclude(logger, {**RESULT, "metrics": {}}, folder)
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
    live.conclude(None, RESULT, tmp_path)
    live.conclude(object(), RESULT, tmp_path)
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

    monkeypatch.setattr(live, "wandb_logger", logger)
    with live.tracked(RUN, tmp_path, Settings()) as given:
        assert (given is not None) == begins
    with pytest.raises(Diverged, match="step 7"), live.tracked(RUN, tmp_path, Settings()):
        raise Diverged("the loss became nan at step 7")
    assert "bias-lab wandb-sync can" in caplog.text

"""Record a run in W&B: offline unless logged in, never a prompt, and a failure that keeps its name."""

import base64
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bias_lab import ledger
from bias_lab.definition import Run, Settings, run_id
from bias_lab.errors import Diverged
from bias_lab.report.wandb_summary import study_of
from bias_lab.tracking import export, live
from tests.planted import write_plan, write_run
from tests.tracking import offline
from tests.tracking.offline import Offline


@pytest.mark.parametrize(
    ("wandb", "variable", "value"),
    [(False, "WANDB_MODE", "offline"), (True, "WANDB_MODE", "disabled"), (True, "WANDB_DISABLED", "true")],
)
def test_no_wandb_means_none(monkeypatch, tmp_path: Path, wandb: bool, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    run = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100)
    assert live.wandb_logger(run, tmp_path, Settings(wandb=wandb)) is None
    assert not list(tmp_path.iterdir())


RUN = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100, label_noise=0.2)


def finished(folder: Path, run: Run) -> tuple[dict[str, Any], Path]:
    """Write what a finished run leaves, and return its result and its folder."""
    from PIL import Image

    here = ledger.run_folder(folder, write_run(folder, run))
    Image.new("L", (8, 8)).save(here / "reconstruction.png")
    return ledger.read_json(here / ledger.RESULT), here


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Offline]:
    """Three runs of one worker: one that ended well, one that diverged, one after it."""
    folder = tmp_path_factory.mktemp("sweep")
    settings = Settings(experiment="small_data")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("WANDB_MODE", "offline")
        with live.tracked(RUN, folder, settings) as logger:
            logger.log_metrics({"train/loss": 2.0, "lr": 0.1}, step=1)
            live.conclude(logger, *finished(folder, RUN))
        with (
            pytest.raises(Diverged),
            live.tracked(replace(RUN, draw=1), folder, settings) as logger,
        ):
            logger.log_metrics({"train/loss": 3.0}, step=1)
            raise Diverged("the loss became nan at step 7")
        probe = replace(RUN, draw=2, protocol="knn")
        with live.tracked(probe, folder, settings) as logger:
            live.conclude(logger, *finished(folder, probe))
    return {name: each[0] for name, each in offline.runs(folder).items()}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_live_run_has_the_config_and_summary_of_its_export(told: dict[str, Offline], tmp_path: Path) -> None:
    run = told[run_id(RUN)]
    assert (run.group, run.job_type, run.exit_code) == ("small_data", "finetune", 0)
    assert (run.summary["top1"], run.summary["status"], run.summary["seconds"]) == (0.5, "finished", 20.0)
    right = np.unpackbits(np.frombuffer(base64.b64decode(run.summary["correct"]), np.uint8), count=20)
    assert right.mean() == 0.5
    assert (run.config["regime"], run.config["family"], run.config["parameters"]) == ("scratch", "transformer", 400_000)
    assert run.config["label_noise"] == 0.2
    assert {"train/loss", "lr", "per_class", "pictures/reconstruction"} <= run.keys
    result, _ = finished(tmp_path, RUN)
    write_plan(tmp_path, [RUN])
    assert export.sync(tmp_path, study_of)
    exported = offline.runs(tmp_path)[result["run_id"]][0]
    mine = [{key: value for key, value in one.config.items() if not key.startswith("_")} for one in (run, exported)]
    assert mine[0] == mine[1]
    own = {"_runtime", "_step", "_timestamp", "_wandb", "train/loss", "lr", "trainer/global_step"}
    ends = [
        {key: value for key, value in one.summary.items() if key not in own and not isinstance(value, dict)}
        for one in (run, exported)
    ]
    assert ends[0] == ends[1]


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
    result, here = finished(tmp_path, RUN)
    live.conclude(None, result, here)
    live.conclude(object(), result, here)
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

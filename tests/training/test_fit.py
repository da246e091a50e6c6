"""Training: a kill changes no byte, a resumed run goes on with the batches that were due, and NaN ends a run."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bias_lab import ledger
from bias_lab.definition import run_id
from bias_lab.errors import Diverged
from bias_lab.training.checkpoints import Stopwatch
from bias_lab.training.execute import execute
from bias_lab.training.fit import fit
from bias_lab.training.job import Examples
from bias_lab.training.protocols.finetune import Classifier
from tests.training.runs import QUIET, RUN, finished, interrupted, same_bytes


@pytest.mark.parametrize(("at", "optimizer"), [(4, "adamw"), (13, "adamw"), (13, "muon")])
def test_an_interrupted_run_ends_in_the_same_bytes(tmp_path: Path, monkeypatch, at: int, optimizer: str) -> None:
    run = replace(RUN, drop_path=0.2, mixup=0.2, ema=0.9, monitor=4, optimizer=optimizer)  # all that has a state
    finished(run, tmp_path / "whole")
    interrupted(run, tmp_path / "cut", monkeypatch, at)
    assert ledger.state(tmp_path / "cut", run_id(run)) == "started"
    result = finished(run, tmp_path / "cut")
    assert result["attempts"] == 2
    same_bytes(tmp_path / "whole", tmp_path / "cut", run)


def test_the_seconds_of_interrupted_attempts_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def begun_long_ago(watch: Stopwatch) -> None:
        begin(watch)
        watch.began -= ago

    begin, ago = Stopwatch.__init__, 1000.0
    with monkeypatch.context() as patch:
        patch.setattr(Stopwatch, "__init__", begun_long_ago)
        interrupted(RUN, tmp_path, monkeypatch, 4)
        ago = 500.0
        interrupted(RUN, tmp_path, monkeypatch, 9)
    result = finished(RUN, tmp_path)
    assert result["attempts"] == 3
    assert 1500 < result["seconds"] < 1900


def test_batches_after_a_resume_are_those_that_were_due(tmp_path: Path, monkeypatch) -> None:
    seen: dict[str, list[torch.Tensor]] = {"whole": [], "cut": []}
    where = "whole"
    step = Classifier.training_step

    def recorded(self, batch, batch_idx):
        seen[where].append(batch[0].clone())
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Classifier, "training_step", recorded)
    finished(RUN, tmp_path / "whole")
    where = "cut"
    interrupted(RUN, tmp_path / "cut", monkeypatch, 9)
    del seen["cut"][6:]  # steps 7-9 were lost with the kill
    finished(RUN, tmp_path / "cut")
    assert len(seen["whole"]) == len(seen["cut"]) == 20
    assert all(torch.equal(a, b) for a, b in zip(seen["whole"], seen["cut"], strict=True))


def test_a_diverged_run_names_its_step_and_leaves_no_result(tmp_path: Path) -> None:
    run = replace(RUN, backbone="tests.training.tiny:exploding")
    with pytest.raises(Diverged, match="at step 5"):
        execute(run, tmp_path, QUIET)
    assert ledger.state(tmp_path, run_id(run)) == "started"


def test_bf16_trains_clipped_and_resumes_like_fp32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half = replace(RUN, precision="bf16", clip=0.1)
    losses = {}
    for run in (half, replace(half, precision="fp32"), replace(half, clip=0.0)):
        finished(run, tmp_path / "whole")
        lines = (ledger.run_folder(tmp_path / "whole", run_id(run)) / ledger.METRICS).read_text(encoding="utf-8")
        losses[run] = [row["train/loss"] for row in map(json.loads, lines.splitlines()) if "train/loss" in row]
    clipped, full, unclipped = losses.values()
    assert clipped == pytest.approx(full, rel=0.02)
    assert clipped != full
    assert clipped != pytest.approx(unclipped, rel=1e-6)
    interrupted(half, tmp_path / "cut", monkeypatch, 9)
    finished(half, tmp_path / "cut")
    same_bytes(tmp_path / "whole", tmp_path / "cut", half)


def test_a_frozen_encoder_and_its_probe_are_taken_to_the_device(tmp_path: Path) -> None:
    moved: list[object] = []
    method = SimpleNamespace(to=moved.append, learn=lambda batches, classes: moved.append("learned"))
    second = torch.device("cuda", 1)
    run = replace(RUN, protocol="knn")
    job = SimpleNamespace(
        run=run,
        method=method,
        device=second,
        classes=2,
        examples=Examples(np.zeros(0), None, tuple("ab")),
        eval_loader=lambda *given: given,
    )
    assert fit(job, tmp_path, None, Stopwatch()) == []  # type: ignore[arg-type]
    assert moved == [second, "learned", second]


def test_a_run_that_an_older_version_began_ends_in_the_same_bytes(tmp_path: Path, monkeypatch) -> None:
    finished(RUN, tmp_path / "whole")
    interrupted(RUN, tmp_path / "cut", monkeypatch, 9)
    here = ledger.run_folder(tmp_path / "cut", run_id(RUN))
    (attempt,) = here.glob(f"{ledger.ATTEMPT}*")
    for name in (ledger.METRICS, ledger.CHECKPOINT):  # as older versions left them
        (attempt / name).rename(here / name)
    shutil.rmtree(attempt)
    seen: list[int] = []
    step = Classifier.training_step
    monkeypatch.setattr(Classifier, "training_step", lambda *given: seen.append(1) or step(*given))
    finished(RUN, tmp_path / "cut")
    assert len(seen) == 14  # from the checkpoint at step 6
    same_bytes(tmp_path / "whole", tmp_path / "cut", RUN)
    assert not (here / ledger.CHECKPOINT).exists()

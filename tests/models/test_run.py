"""One run from Python: its result, its model, its tuned learning rate, and own images."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import bias_lab as bl
from bias_lab.definition import run_id
from bias_lab.errors import UserError
from bias_lab.planning.plan import rates
from tests.training.runs import RUN


def test_a_run_gives_its_result_and_is_computed_once(tmp_path: Path) -> None:
    result = bl.run(RUN, tmp_path)
    assert result.path == tmp_path / "runs" / run_id(RUN)
    assert result.metrics["top1"] == bl.load(result.path).metrics["top1"]
    assert result.model()(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    before = (result.path / "result.json").stat().st_mtime_ns
    assert bl.run(RUN, tmp_path).metrics == result.metrics
    assert (result.path / "result.json").stat().st_mtime_ns == before


def test_an_open_learning_rate_is_the_tuned_one_or_refused(tmp_path: Path) -> None:
    run = replace(RUN, backbone="resnet_micro", learning_rate=None, samples_seen=16)
    result = bl.run(run, tmp_path)
    row = rates(tmp_path).row(run)
    assert row is not None
    assert result.run.learning_rate == row["learning_rate"]
    with pytest.raises(UserError, match="no tuned learning rate"):
        bl.run(replace(RUN, learning_rate=None), tmp_path)


def test_a_mistake_leaves_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown regime"):
        bl.run(replace(RUN, regime="may"), tmp_path)
    assert not (tmp_path / "runs").exists()

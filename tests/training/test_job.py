"""A run made concrete: where its weights come from, what tuning may look at, which device."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bias_lab import ledger
from bias_lab.definition import run_id
from bias_lab.errors import UserError
from bias_lab.training.execute import execute
from bias_lab.training.job import choose_device
from tests.training.runs import QUIET, RUN, finished


def test_a_size_that_reaches_into_the_holdout_cannot_be_tuned(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="reaches into the hold-out"):
        execute(replace(RUN, task="tune", size=9500, samples_seen=8), tmp_path, QUIET)


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
        execute(run, tmp_path, QUIET)


def test_device_that_is_not_there() -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU is there")
    with pytest.raises(UserError, match="cuda:3"):
        choose_device("cuda:3")
    assert choose_device("auto") == torch.device("cpu")

"""A user's own loss, module or pretraining takes the place of the lab's, and what can't be used is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bias_lab import ledger
from bias_lab.backbones import create
from bias_lab.catalogue import PROTOCOLS, REGIMES
from bias_lab.definition import Run, run_id
from bias_lab.errors import UserError
from bias_lab.training.modules.own import find, make
from bias_lab.training.preflight import preflight
from bias_lab.training.protocols.finetune import Classifier
from tests.training.modules import methods
from tests.training.runs import QUIET, RUN, finished, interrupted, same_bytes

FINETUNE = PROTOCOLS["finetune"].module
HERE = "tests.training.modules.methods"


def named(name: str, run: Run = RUN, **changes: Any) -> Run:
    return replace(run, method=f"{HERE}:{name}", method_source="cafe", **changes)


def losses(folder: Path, run: Run) -> list[float]:
    lines = (ledger.run_folder(folder, run_id(run)) / ledger.METRICS).read_text(encoding="utf-8").splitlines()
    return [row["train/loss"] for row in map(json.loads, lines) if "train/loss" in row]


def test_a_loss_takes_the_place_of_cross_entropy() -> None:
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    batch = torch.randn(5, 1, 2, 2), torch.arange(5) % 3
    ours, own = (make(run, backbone, FINETUNE) for run in (RUN, named("doubled")))
    assert isinstance(own, Classifier)
    torch.testing.assert_close(own.training_step(batch, 0), 2 * ours.training_step(batch, 0))


@pytest.mark.parametrize("name", ["Mine", "Confident", "doubled"])
def test_a_run_by_an_own_method_has_its_result_and_resumes(tmp_path: Path, monkeypatch, name: str) -> None:
    run = named(name)
    preflight([run], tmp_path, QUIET)
    result = finished(run, tmp_path / "whole")
    assert 0 <= result["metrics"]["top1"] <= 1
    assert result["run"]["method"] == run.method
    assert losses(tmp_path / "whole", run)[0] != losses(tmp_path / "whole", run)[-1]
    interrupted(run, tmp_path / "cut", monkeypatch, 9)
    finished(run, tmp_path / "cut")
    same_bytes(tmp_path / "whole", tmp_path / "cut", run)


def test_an_own_pretraining_takes_the_place_of_its_regime_s(tmp_path: Path) -> None:
    ours = replace(RUN, backbone="resnet_micro", task="pretrain", regime="simmim", source="subset", samples_seen=16)
    own = named("Halved", ours)
    preflight([own], tmp_path, QUIET)
    for run in (ours, own):
        finished(run, tmp_path)
    assert losses(tmp_path, own)[0] == pytest.approx(losses(tmp_path, ours)[0] / 2)
    after = replace(own, task="classify", pretraining=run_id(own))
    backbone = create("resnet_micro", image_size=28, channels=1, classes=10)
    assert type(make(after, backbone, FINETUNE)) is Classifier  # the method is that of its pretraining


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Bare", "has no from_run"),
        ("Partless", "lacks encoder, trained, training_step, configure_optimizers"),
        ("Broken", "can't train tests.training.tiny:tiny: ZeroDivisionError: a mistake of the user"),
        ("Mime", "unknown method of tests.training.modules.methods 'Mime'; did you mean 'Mine'?"),
    ],
)
def test_what_cannot_be_used_is_refused_before_the_first_run(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(UserError, match=said.replace("?", r"\?")):
        preflight([named(name)], tmp_path, QUIET)


def test_a_loss_is_no_pretraining_and_a_module_must_exist() -> None:
    run = named("doubled", task="pretrain", regime="simmim", source="pool")
    with pytest.raises(UserError, match="a pretraining needs a class"):
        make(run, nn.Linear(1, 1), REGIMES["simmim"].module)
    with pytest.raises(UserError, match="no module 'nowhere'"):
        find("nowhere:Mine")
    assert find(f"{HERE}:Mine") is methods.Mine

"""What one worker refuses before the first run; pretrainings' sources are refused in `test_pretraining.py`."""

from dataclasses import replace
from pathlib import Path

import pytest

from bias_lab.definition import Run
from bias_lab.errors import UserError
from bias_lab.training import preflight as module
from bias_lab.training.preflight import preflight
from tests.training.runs import QUIET, RUN


def test_preflight_refuses_what_cannot_be_built(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        preflight([replace(RUN, backbone="resnet_mircoscopic")], tmp_path, QUIET)
    with pytest.raises(UserError):
        preflight([replace(RUN, backbone="vit_micro", patch=5)], tmp_path, QUIET)
    assert not (tmp_path / "runs").exists()
    assert isinstance(preflight([RUN], tmp_path, QUIET), list)


def test_preflight_refuses_a_device_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="device 'cuda:7' is not there; cpu"):
        preflight([RUN], tmp_path, replace(QUIET, device="cuda:7"))


def test_preflight_starts_each_shape_of_a_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that fit one patch may not fit another: every patch, window and stem is started, and once."""
    started: list[Run] = []

    def try_starting(run: Run, *_: object) -> list[str]:
        started.append(run)
        return []

    monkeypatch.setattr(module, "try_building", lambda *_: None)
    monkeypatch.setattr(module, "try_starting", try_starting)
    one = replace(RUN, task="pretrain", regime="mae", source="pool")
    runs = [one, replace(one, patch=2), replace(one, window=7), replace(one, stem="imagenet"), replace(one, seed=1)]
    preflight(runs, tmp_path, QUIET)
    assert started == runs[:4]

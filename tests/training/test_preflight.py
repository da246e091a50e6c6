"""What one worker refuses before the first run; pretrainings' sources are refused in `test_pretraining.py`."""

from dataclasses import replace
from pathlib import Path

import pytest

from bias_lab.errors import UserError
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

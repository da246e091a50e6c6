"""Backbones by name get the shape that is asked for, and a run's module begins as a sweep's."""

from pathlib import Path

import pytest
import torch
from torch import nn

from bias_lab.definition import Settings
from bias_lab.errors import UserError
from bias_lab.training.modules.build import backbone_of, from_run
from bias_lab.training.modules.fields import run_of
from bias_lab.training.prepare import prepare
from bias_lab.training.protocols.finetune import Classifier
from bias_lab.training.regimes.mae import MAE
from tests.training.runs import RUN


def test_a_name_is_made_for_its_images_and_a_model_is_taken() -> None:
    model = backbone_of("vit_micro", run_of({}, backbone="vit_micro"), classes=4, channels=2, image_size=16)
    assert model(torch.zeros(2, 2, 16, 16)).shape == (2, 4)
    own = nn.Linear(1, 1)
    assert backbone_of(own, run_of({}), classes=None, channels=3, image_size=8) is own


def test_a_run_s_module_begins_with_the_weights_of_a_sweep(tmp_path: Path) -> None:
    torch.rand(3)  # earlier draws do not matter
    one = from_run(Classifier, RUN, tmp_path).state_dict()
    other = prepare(RUN, tmp_path, Settings(device="cpu")).method.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(UserError, match="the run's module is Classifier, not MAE"):
        from_run(MAE, RUN, tmp_path)

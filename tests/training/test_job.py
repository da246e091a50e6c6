"""The catalogue's rows name objects that have the interfaces of their kind."""

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn

from bias_lab.backbones import create
from bias_lab.catalogue import PROTOCOLS, REGIMES, TASKS
from bias_lab.definition import Run
from bias_lab.errors import UserError
from bias_lab.training import job

RUN = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=20, learning_rate=1e-3)


def backbone() -> nn.Module:
    return create("vit_micro", image_size=28, channels=1, classes=4)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_of_the_catalogue_has_the_interface(name: str) -> None:
    task = job.load(TASKS[name].module)(TASKS[name])
    assert task.row.name == name
    for part in ("examples", "method", "callbacks", "measure", "encoder"):
        assert callable(getattr(task, part)), part


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_s_method_trains_or_can_be_fitted(name: str) -> None:
    kind = job.load(PROTOCOLS[name].module)
    assert issubclass(kind, LightningModule) == PROTOCOLS[name].trains
    method = kind.from_run(RUN, backbone())
    if not PROTOCOLS[name].trains:
        method.learn([(torch.randn(8, 1, 28, 28), torch.arange(8) % 4)], classes=4)
    assert isinstance(method.encoder, nn.Module)
    with torch.no_grad():
        assert method.trained.eval()(torch.randn(2, 1, 28, 28)).shape == (2, 4)


@pytest.mark.parametrize("name", [name for name, row in REGIMES.items() if row.module])
def test_a_regime_s_method_shows_the_pictures_that_its_row_lists(name: str) -> None:
    row = REGIMES[name]
    method = job.load(row.module).from_run(RUN, backbone())
    images = torch.randn(4, 1, 28, 28)
    batch = (images, torch.arange(4)) if row.labels else images
    assert method.training_step(batch, 0).ndim == 0
    assert isinstance(method.encoder, nn.Module)
    assert isinstance(method.diagnostics(), dict)
    if row.pictures:
        assert set(method.eval().pictures(images)) <= set(row.pictures)


def test_a_frozen_backbone_needs_timm_s_interface() -> None:
    for name in ("linear_probe", "knn"):
        with pytest.raises(UserError, match=f"Linear can't be evaluated by protocol '{name}': it has no forward_feat"):
            job.load(PROTOCOLS[name].module).from_run(Run(**_fields(name)), nn.Linear(1, 1))


def _fields(protocol: str) -> dict[str, object]:
    return dict(dataset="fashion_mnist_12k", backbone="vit_micro", size=20, protocol=protocol)

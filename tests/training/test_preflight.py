"""Checks before the first run. Those of a pretraining's source are in `tasks/test_pretraining.py`."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bias_lab.definition import Run
from bias_lab.errors import UserError
from bias_lab.training import preflight as module
from bias_lab.training.preflight import preflight
from tests.training.runs import QUIET, RUN, finished


def test_preflight_refuses_what_cannot_be_built(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        preflight([replace(RUN, backbone="resnet_mircoscopic")], tmp_path, QUIET)
    with pytest.raises(UserError):
        preflight([replace(RUN, backbone="vit_micro", patch=5)], tmp_path, QUIET)
    assert not (tmp_path / "runs").exists()
    assert isinstance(preflight([RUN], tmp_path, QUIET), list)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("narrow", r"tiny\.py, line \d+: RuntimeError: mat1 and mat2 .*; .*can't be used on 28x28 images; correct"),
        ("maps", r"returns \(2, 10, 28, 28\) for 2 images of 10 classes"),
    ],
)
def test_preflight_refuses_what_can_be_built_and_not_used(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        preflight([replace(RUN, backbone=f"tests.training.tiny:{name}")], tmp_path, QUIET)
    assert "\n" not in str(raised.value)


def test_a_guest_without_stochastic_depth_joins_a_recipe_that_has_some(tmp_path: Path) -> None:
    """The warning comes although the same backbone was built without it before."""
    guest = replace(RUN, backbone="tests.training.tiny:shallow")
    strong = dict(drop_path=0.1, recipe="strong")
    runs = [guest, replace(guest, **strong), replace(guest, **strong, seed=1), replace(RUN, **strong)]
    assert preflight(runs, tmp_path, QUIET) == [
        f"{guest.backbone} does not support stochastic depth and runs without it in recipe strong"
    ]
    assert [finished(run, tmp_path)["facts"]["drop_path"] for run in runs] == [0.0, 0.0, 0.0, 0.1]


@pytest.mark.parametrize("units", [True, False])
def test_a_warning_says_where_bf16_is_slower(tmp_path: Path, units: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "multiplies_bf16", lambda _: units)
    half = replace(RUN, precision="bf16")
    assert preflight([RUN], tmp_path, QUIET) == []
    assert [line.split(",")[0] for line in preflight([half], tmp_path, QUIET)] == (
        [] if units else ["this cpu has no unit that multiplies bf16"]
    )


def test_preflight_refuses_a_device_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="device 'cuda:7' does not exist here; devices: cpu"):
        preflight([RUN], tmp_path, replace(QUIET, device="cuda:7"))


def test_preflight_starts_each_shape_of_a_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that fit one patch may not fit another, so every patch, window, stem and prior is started once."""
    started: list[Run] = []

    def try_starting(run: Run, *_: object) -> list[str]:
        started.append(run)
        return []

    monkeypatch.setattr(module, "try_building", lambda *_: [])
    monkeypatch.setattr(module, "try_starting", try_starting)
    one = replace(RUN, task="pretrain", regime="mae", source="pool")
    runs = [one, replace(one, patch=2), replace(one, window=7), replace(one, stem="imagenet")]
    runs += [replace(one, priors="mean_pooling"), replace(one, seed=1)]
    preflight(runs, tmp_path, QUIET)
    assert started == runs[:5]


@pytest.mark.parametrize(
    ("run", "is_refused"),
    [
        (replace(RUN, backbone="resnet18", stem="stock", batch_size=1), True),  # a map of 1x1 pixels in the last stage
        (replace(RUN, backbone="resnet18", stem="stock", batch_size=2), False),
        (replace(RUN, backbone="resnet18", stem="stock", batch_size=1, protocol="knn"), False),  # nothing is trained
        (replace(RUN, backbone="vit_micro", batch_size=1), False),  # it has no batch norm
        (replace(RUN, backbone="resnet_micro", batch_size=1), False),  # its last map is larger
    ],
)
def test_a_batch_of_one_image_is_refused_where_batch_norm_gets_one_value(
    tmp_path: Path, run: Run, is_refused: bool
) -> None:
    if not is_refused:
        preflight([run], tmp_path, QUIET)
        return
    with pytest.raises(UserError, match="batch_size 1: one of its batch norms gets one value a channel"):
        preflight([run], tmp_path, QUIET)


OWN = """
import torch
from torch import nn


def wrong(num_classes, in_chans):
    return nn.Sequential(nn.Flatten(), nn.Linear(7, num_classes))


def raising(num_classes, in_chans):
    raise ValueError("planted")


def five(num_classes, in_chans):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 5))


def keyword(classes=10):
    return nn.Identity()


class Pair(nn.Linear):
    def __init__(self, num_classes, in_chans):
        super().__init__(784, num_classes)

    def forward(self, x):
        return super().forward(x.flatten(1)), None


class Detached(Pair):
    def forward(self, x):
        return super().forward(x)[0].detach()


class Weightless(nn.Module):
    def __init__(self, num_classes, in_chans):
        super().__init__()
        self.classes = num_classes

    def forward(self, x):
        return x.flatten(1)[:, : self.classes]


def number(num_classes, in_chans):
    return 3


def missing(num_classes, in_chans):
    import a_library_that_is_not_there
"""


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (
            "raising",
            r"own_lines\.py, line 11: ValueError: planted; .* can't be built for 28x28 images; correct that line",
        ),
        ("wrong", r"own_lines\.py, line 6: RuntimeError: mat1 .*; correct that line"),
        (
            "five",
            r"returns \(2, 5\) .* \(2, 10\) is needed; let its last layer have num_classes .*own_lines\.py, line 14",
        ),
        ("keyword", r"does not take .* \(.*own_lines\.py, line 18\); add the keyword: a factory takes num_classes"),
        (
            "Pair",
            r"returns an object of the type tuple \(.*own_lines\.py, line 22\); .*; let forward return the logits",
        ),
        ("Detached", r"gives logits without a gradient \(.*own_lines\.py, line 30\); leave out detach"),
        ("Weightless", r"has no weights to train \(.*own_lines\.py, line 35\); add layers to it"),
        ("number", r"returned an object of the type int \(.*own_lines\.py, line 44\); a torch.nn.Module is needed"),
        ("missing", r"own_lines\.py, line 49: ModuleNotFoundError: .*; install it, or correct that line"),
    ],
)
def test_a_mistake_in_an_own_backbone_names_file_line_and_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factory: str, message: str
) -> None:
    (tmp_path / "own_lines.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=message) as raised:
        preflight([replace(RUN, backbone=f"own_lines:{factory}")], tmp_path, QUIET)
    assert "image-size" not in str(raised.value)


def test_what_cannot_be_trained_may_be_read_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_lines.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    probe = replace(RUN, backbone="own_lines:Weightless", protocol="knn")
    preflight([probe], tmp_path, QUIET)
    with pytest.raises(UserError, match="has no weights to train"):
        preflight([probe, replace(probe, protocol="finetune")], tmp_path, QUIET)


def test_preflight_refuses_a_size_that_leaves_out_a_class_of_masks(tmp_path: Path) -> None:
    run = Run(dataset="shape_masks", backbone="vit_micro", task="segment", size=1, image_size=16)
    settings = replace(QUIET, data_root=str(tmp_path))
    with pytest.raises(UserError, match="size 1 leaves class '.*' without an image; the smallest size that works is"):
        preflight([run], tmp_path, settings)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("return 0", "int, no tensor"),
        ("return None", "NoneType, no tensor"),
        ("return logits.detach().sum()", "a tensor without a gradient"),
        ("return logits", r"a tensor of the shape \(2, 10\)"),
    ],
)
def test_a_loss_that_nothing_can_train_on_is_refused_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, found: str
) -> None:
    (tmp_path / "badn.py").write_text(f"\n\ndef loss(logits, target):\n    {body}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "badn", raising=False)
    with pytest.raises(
        UserError, match=rf"badn.py, line 3: method badn:loss gives the loss as {found}.*return a tensor"
    ):
        preflight([replace(RUN, method="badn:loss", method_source="x")], tmp_path, QUIET)

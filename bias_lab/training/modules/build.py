"""Make the backbone of a module from its name, and a module from a run, as a sweep makes them."""

from pathlib import Path
from typing import TypeVar

import torch
from lightning.pytorch import LightningModule
from torch import nn

from bias_lab.catalogue import Sides
from bias_lab.definition import Run, Settings
from bias_lab.errors import UserError
from bias_lab.training.prepare import build_backbone, prepare

Module = TypeVar("Module", bound=LightningModule)
FOLDER = "results/run"  # where a run's pretraining and the places of a user's own images are looked up


def backbone_of(
    backbone: str | nn.Module, run: Run, *, classes: int | None, channels: int, image_size: Sides
) -> nn.Module:
    """Return the backbone with that name, untrained, in channels_last memory. A model is returned as it is.

    run: holds the backbone's fields, such as `patch` and `drop_path`.
    """
    if isinstance(backbone, nn.Module):
        return backbone
    model, _ = build_backbone(run, image_size, channels, classes or 0)
    return model.to(memory_format=torch.channels_last)


def from_run(kind: type[Module], run: Run, folder: str | Path) -> Module:
    """Return the module that a sweep trains for a run, with the weights that it begins with.

    folder: the sweep's, which holds the run's pretraining and the places of own images, if it has any.
    Raises UserError if the run's module is another one.
    """
    method: object = prepare(run, Path(folder), Settings(device="cpu", wandb=False)).method
    if not isinstance(method, kind):
        what = f"the run's module is {type(method).__name__}, not {kind.__name__}"
        raise UserError(what, "task, regime, protocol and method decide which", f"use {type(method).__name__}.from_run")
    return method

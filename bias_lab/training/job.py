"""A run made concrete, and the interfaces of its parts: what a task and a method of training must offer."""

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from lightning.pytorch import Callback
from numpy.typing import NDArray
from torch import Tensor, nn

from bias_lab import catalogue
from bias_lab.data import batches, store, subsets
from bias_lab.definition import Run, Settings
from bias_lab.errors import UserError

Picture = NDArray[np.uint8]  # (H, W, 3)
Pixels = NDArray[np.uint8]  # (N, H, W, C)
Labels = NDArray[Any]  # (N,) class numbers in int64, or what else a task learns from: (N, K) in float32
Rows = list[dict[str, float]]  # of `metrics.jsonl`


class Method(Protocol):
    """A module that makes an encoder from a backbone. Its class has `from_run(run, backbone)`.

    A method that trains is a LightningModule, whose `training_step` returns the loss.
    """

    @property
    def encoder(self) -> nn.Module:
        """The model whose weights are saved."""

    def to(self, device: torch.device) -> Any:
        """Move the module to a device."""

    def eval(self) -> Any:
        """Turn off what only training does."""


class Predictor(Method, Protocol):
    """A method that predicts labels."""

    @property
    def trained(self) -> nn.Module:
        """The model that is evaluated: images (B, C, H, W) to logits or log-probabilities (B, K)."""


class Probe(Predictor, Protocol):
    """A predictor on a frozen backbone, which takes no optimizer steps."""

    def learn(self, batches: Iterable[tuple[Tensor, Tensor]], *, classes: int) -> None:
        """Fit it on labelled images, un-augmented."""


class Pretrainer(Method, Protocol):
    """A method that pretrains."""

    def diagnostics(self) -> dict[str, float | bool]:
        """Return numbers about the last step, and `collapsed` where the method can tell."""

    def is_untrained(self, loss: float, images: Tensor, labels: Labels | None = None) -> bool:
        """Return whether a training that ended at this loss taught the encoder nothing.

        images: (B, C, H, W), some of its training batches. labels: (N,) of all its training images, None without any.
        """

    def pictures(self, images: Tensor) -> dict[str, Picture]:
        """Return pictures of images (B, C, H, W) by name. Called only if the regime's row lists pictures."""


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """The images that a run learns from, at the size of the run's dataset.

    labels: None unless the run may learn from them, so that none can leak. classes: their names.
    shared_classes: class names of a pretraining's source that the run's dataset has too.
    overlap: indices of test images that are among the images.
    """

    images: Pixels
    labels: Labels | None = None
    classes: tuple[str, ...] = ()
    shared_classes: tuple[str, ...] = ()
    overlap: tuple[int, ...] = ()


class Task(Protocol):
    """What a run is for: which images it learns from, what trains on them, and how the outcome is measured."""

    def __init__(self, row: catalogue.Task) -> None: ...

    def examples(
        self,
        run: Run,
        target: store.Images,
        selection: subsets.Selection,
        open_dataset: Callable[[str], store.Images],
        settings: Settings,
    ) -> Examples:
        """Return the images that the run learns from. Raise UserError if it may not.

        target: the run's dataset. selection: its labelled images. open_dataset: opens another dataset by name.
        """

    def method(self, run: Run, backbone: nn.Module) -> Method:
        """Return the module that trains the backbone, which holds the loss."""

    def callbacks(self, job: "Job", *, steps: int) -> list[Callback]:
        """Return what measures the module while it trains. Nothing depends on these measurements."""

    def measure(self, job: "Job", folder: Path, rows: Rows) -> dict[str, Any]:
        """Return the metrics of a trained module, and save predictions and pictures in `folder`."""

    def encoder(self, method: Method) -> nn.Module:
        """Return the model whose weights are saved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A run made concrete: its images chosen, its backbone built, its method ready."""

    run: Run
    task: Task
    device: torch.device
    images: store.Images
    selection: subsets.Selection
    examples: Examples
    method: Method
    mean: tuple[float, ...]
    std: tuple[float, ...]
    started_from: dict[str, Any]
    facts: dict[str, Any]

    @property
    def classes(self) -> int:
        """How many classes the run learns, 0 without labels."""
        return len(self.examples.classes)

    def holdout(self) -> tuple[Pixels, Labels]:
        """Return the hold-out. Raise UserError if the run's labelled images reach into it."""
        if self.images.holdout is not None and self.images.holdout_labels is not None:
            return self.images.holdout, self.images.holdout_labels
        if self.selection.holdout is None:
            raise UserError(
                f"size {self.run.size} reaches into the hold-out of {self.run.dataset}",
                remedy="tune and monitor at a size that leaves the last min(1,000, 20 %) of the pool alone",
            )
        return self.images.train[self.selection.holdout], self.images.train_labels[self.selection.holdout]

    def eval_loader(self, images: Pixels, labels: Labels | None) -> Iterable[tuple[Tensor, Tensor]]:
        """Return batches of images in order, un-augmented, normalised as the run's are. Labels are 0 without labels."""
        labels = np.zeros(len(images), dtype=np.int64) if labels is None else labels
        size = dict(batch_size=32) if labels.ndim == 3 else {}  # logits of each pixel take much memory
        return batches.eval_loader(images, labels, self.run, mean=self.mean, std=self.std, device=self.device, **size)


def task_of(run: Run) -> Task:
    """Return the object that carries out a run's task."""
    row = catalogue.TASKS[run.task]
    task: Task = load(row.module)(row)
    return task


def load(name: str) -> Any:
    """Return the class that a row of the catalogue names as `module:class`."""
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)

"""Serve a run's batches to any Trainer: a LightningDataModule with the lab's subsets, augmentation and hold-out.

A sweep trains with the same class. Batches are keyed by the number of batches that the Trainer has taken, and the
generator of torch is reseeded from (seed, step) before every training step (docs/design.md, Determinism). So a resumed
training continues with the batches and the draws that were due, and a stock Trainer ends in the weights of the sweep's
run.
"""

import hashlib
import logging
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self, Unpack

import numpy as np
import torch
from lightning.pytorch import LightningDataModule

from bias_lab import definition
from bias_lab.catalogue import DATASETS, REFUSED, REGIMES, Sides, check_settings
from bias_lab.data import batches, own_images, store, subsets
from bias_lab.data.masks import listing, own, presence
from bias_lab.definition import DEFAULTS, Run, Settings, pretrains
from bias_lab.errors import unknown
from bias_lab.training import prepare
from bias_lab.training.job import Examples, Job, Labels, Pixels
from bias_lab.training.modules import fields as keywords
from bias_lab.training.modules.build import FOLDER
from bias_lab.training.modules.fields import Labelled
from bias_lab.training.randomness import reseed

QUIET = Settings(device="cpu", wandb=False)
SIDE = 64  # pixels of own images, where no image size is given


class DataModule(LightningDataModule):
    """Serves images (B, C, H, W), normalised, and their classes (B,), or probabilities (B, K) under mixup or cutmix.

    A dataset with masks is served as images and masks (B, H, W), both augmented alike. A pixel of 255 is void.

    data: the name of a dataset, or the path of a folder of class folders, of a folder with images/ and masks/, or of a
        table with the columns path and label, or image and mask.
    folder: where the index of own images is kept, and where a run's pretraining is looked up. By default the index is
        in ~/.cache/bias_lab/own, a folder for each path, so that nothing is written into the working directory.
    fields: fields of `Run` by their names, such as `size`, `draw`, `batch_size`, `seed`, `image_size` and `mixup`.
        Without `size`, it is all images but the hold-out.

    An epoch is one pass over the images in full batches, or all `samples_seen` images if that is given. `val` is the
    hold-out of the pool, and there is none where the labelled images reach into it. `test` is the test split, and
    `predict` serves its images alone.

    >>> data = DataModule("fashion_mnist_12k", size=100, batch_size=16)
    >>> len(data.classes), data.channels, data.image_size, len(data.train_dataloader())
    (10, 1, 28, 7)
    >>> images, labels = next(iter(data.val_dataloader()))
    >>> images.shape, labels.shape
    (torch.Size([256, 1, 28, 28]), torch.Size([256]))
    """

    def __init__(
        self,
        data: str | Path,
        *,
        folder: str | Path | None = None,
        **fields: Unpack[Labelled],
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.folder = Path(FOLDER if folder is None else folder)
        self.has_folder = folder is not None
        run = keywords.run_of({"size": 1, **fields})
        self.run = replace(run, dataset=str(data), task=DEFAULTS["task"])
        self.hparams["batch_size"] = self.run.batch_size  # Lightning's batch size finder sets another one there
        self.open_size = "size" not in fields
        self.has_length = fields.get("samples_seen") is not None

    @classmethod
    def from_run(cls, run: Run, *, folder: str | Path = FOLDER) -> Self:
        """Return the batches of a run. folder: see the class."""
        data = cls(run.dataset, folder=folder)
        data.save_hyperparameters({"size": run.size, "draw": run.draw, "batch_size": run.batch_size})
        data.run, data.has_length, data.open_size = run, True, False
        return data

    @classmethod
    def of_job(cls, job: Job) -> Self:
        """Return the batches of a run that is prepared already."""
        data = cls.from_run(job.run)
        data.source = Source.of(job)
        return data

    @cached_property
    def source(self) -> "Source":
        """Return the images and their statistics. They are opened once, when they are first needed."""
        if REGIMES[self.run.regime].starts_from and not pretrains(self.run):  # weights bring their normalisation
            return Source.of(prepare.prepare(self.run, self.folder, QUIET))
        run, images = self._opened()
        if images.presence is not None and not pretrains(run):
            check_settings({name: getattr(run, name) for name in REFUSED})
        if self.open_size:
            run = replace(run, size=largest(run, images))
        self.run = run
        selection = prepare.select_images(run, images, self.folder)
        examples = prepare.open_examples(run, images, selection, self.folder, QUIET)
        return Source(images, selection, examples, images.mean, images.std)

    def _opened(self) -> tuple[Run, store.Images]:
        """Return the run with the identity of its images, and the images. A path is indexed first."""
        run, path = self.run, Path(self.run.dataset)
        if run.dataset not in DATASETS and ":" not in run.dataset and not path.exists():
            raise unknown("dataset", run.dataset, DATASETS, "or give the path of a folder of class folders or a table")
        if not path.exists() or run.dataset in DATASETS:
            return run, prepare.open_images(run.dataset, run, self.folder, QUIET)
        folder = self.folder if self.has_folder else index_folder(path)
        read = own.index if listing.holds_pairs(path) else own_images.index
        index = read(path, folder=folder, image_size=run.image_size or SIDE)
        for line in index.warnings:
            logging.getLogger(__name__).warning("%s", line)
        run = replace(run, dataset=index.identity, image_size=run.image_size or SIDE, drop_duplicates=True)
        side: Any = dict(image_size=run.image_size, image_width=run.image_width)
        return run, store.open_images(run.dataset, **side, place=dict(index.place))

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of their numbers. Empty for a pretraining without labels."""
        return self.source.examples.classes

    @property
    def channels(self) -> int:
        """How many the images have as they are served: three for grey images if a run's weights need them."""
        return len(self.mean)

    @property
    def image_size(self) -> Sides:
        """The side of square images in pixels, or (height, width) of others."""
        return prepare.size_of(self.source.images)

    @property
    def mean(self) -> tuple[float, ...]:
        """The mean of each channel in [0, 1], which is subtracted from the images."""
        return self.source.mean

    @property
    def std(self) -> tuple[float, ...]:
        """The deviation of each channel in [0, 1], by which the images are divided."""
        return self.source.std

    def setup(self, stage: str = "") -> None:
        """Open the images. It may be called more than once."""
        _ = self.source

    def train_dataloader(self) -> "Batches":
        source = self.source  # may choose the run's size
        run = replace(self.run, batch_size=self.hparams["batch_size"])
        length = definition.steps(run) if self.has_length else math.ceil(len(source.examples.images) / run.batch_size)
        made = batches.Batches(
            source.examples.images,
            source.examples.labels,
            run,
            classes=len(source.examples.classes),
            mean=source.mean,
            std=source.std,
            steps=length,
            device=self._device(),
        )
        return Batches(made, length, self._taken)

    def val_dataloader(self) -> "InOrder | list[Any]":
        """Return batches of the hold-out, or nothing if the labelled images reach into it.

        A pretraining on the whole pool has seen these images.
        """
        images, last = self.source.images, self.source.selection.holdout
        if images.holdout is not None:
            return self._in_order(images.holdout, images.holdout_labels)
        if last is None and pretrains(self.run):
            order = subsets.whole_order(self.run, images.train_labels, images.ordered_by)
            last = order[len(order) - subsets.holdout_size(len(order)) :]
        if last is None:
            return []
        return self._in_order(images.train[last], images.train_labels[last])

    def test_dataloader(self) -> "InOrder":
        return self._in_order(self.source.images.test, self.source.images.test_labels)

    def predict_dataloader(self) -> "InOrder":
        return self._in_order(self.source.images.test, None)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Reseed torch before a training step, so that dropout and masks depend on (seed, step) alone."""
        if self.trainer is not None and self.trainer.training:
            reseed(self.run.seed, "step", self.trainer.global_step)
        return batch

    def _in_order(self, images: Pixels, labels: Labels | None) -> "InOrder":
        """Return batches without augmentation. A pretraining without labels gets images alone."""
        if REGIMES[self.run.regime].module and pretrains(self.run) and not REGIMES[self.run.regime].labels:
            labels = None
        return InOrder(images, labels, self.run, mean=self.mean, std=self.std, device=self._device())

    def _device(self) -> torch.device:
        return torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device

    def _taken(self) -> int:
        """Return how many training batches the Trainer has taken, which a checkpoint brings back."""
        return 0 if self.trainer is None else self.trainer.fit_loop.total_batch_idx + 1


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """The images of a DataModule. mean, std: of each channel, in [0, 1]."""

    images: store.Images
    selection: subsets.Selection
    examples: Examples
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, job: Job) -> Self:
        """Return those of a prepared run."""
        return cls(job.images, job.selection, job.examples, job.mean, job.std)


def index_folder(path: Path) -> Path:
    """Return the folder in the user's cache that keeps the index of images at a path."""
    mark = hashlib.blake2b(os.fsencode(path.absolute()), digest_size=8).hexdigest()
    return Path.home() / ".cache" / "bias_lab" / "own" / mark


def largest(run: Run, images: store.Images) -> int:
    """Return the largest number of labelled images that leaves the hold-out alone."""
    if images.presence is not None:
        many = presence.block_size if images.holdout is not None else presence.largest_tuned
        return many(len(images.presence), run.blocks, run.draw)
    counts = np.bincount(images.train_labels).tolist()
    pool = sum(subsets.block_counts(counts, run.blocks, run.draw))
    return pool if images.holdout is not None else subsets.largest_tuned(replace(run, size=pool), counts)


class Batches:
    """Training batches of one epoch, from the batch that is due.

    Lightning replays a resumed iterable from its start, unless it has `state_dict` and `load_state_dict`. They carry no
    state, since the batches are keyed by their number.
    """

    def __init__(self, batches: batches.Batches, length: int, taken: Callable[[], int]) -> None:
        self.batches, self.length, self.taken = batches, length, taken

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Any]:
        first = self.taken()
        for step in range(first, (first // self.length + 1) * self.length):
            yield self.batches.batch(step)

    def state_dict(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take nothing."""


class InOrder:
    """Batches of images in index order, without augmentation: pairs with their labels (B,), or images alone."""

    def __init__(
        self,
        images: Pixels,
        labels: Labels | None,
        run: Run,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        device: torch.device,
        batch_size: int = 256,
    ) -> None:
        self.labelled = labels is not None
        self.batch_size, self.count = batch_size, len(images)
        known = np.zeros(len(images), np.int64) if labels is None else labels
        self.make = partial(
            batches.eval_loader, images, known, run, mean=mean, std=std, batch_size=batch_size, device=device
        )

    def __len__(self) -> int:
        return math.ceil(self.count / self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        for images, labels in self.make():
            yield (images, labels) if self.labelled else images

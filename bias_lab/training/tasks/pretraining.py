"""Pretraining: open its source, look for leaks, and measure the encoder by nearest neighbours on the hold-out."""

import math
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from bias_lab import catalogue
from bias_lab.catalogue import FRACTALS, POOL, REGIMES, SUBSET, TARGET_SOURCES
from bias_lab.data import batches, subsets
from bias_lab.data.identity import content_hash
from bias_lab.data.readers import image_file
from bias_lab.data.readers.fractals import fractals
from bias_lab.data.store import Images
from bias_lab.definition import Run, Settings
from bias_lab.errors import UserError
from bias_lab.training import recording
from bias_lab.training.fit import loader_of
from bias_lab.training.job import Examples, Job, Labels, Method, Pixels, Pretrainer, Rows
from bias_lab.training.modules import own
from bias_lab.training.protocols.frozen import features_of, knn

LEVEL_IMAGES = 512  # from which the loss of an output that ignores the image is computed
BANK = 1000  # labelled images among which the neighbours of a hold-out image are looked for
FRACTAL_CLASSES, FRACTALS_EACH = 100, 100


class Pretraining:
    """The task of a run whose result is an encoder. A `bias_lab.training.job.Task`."""

    def __init__(self, row: catalogue.Task) -> None:
        self.row = row

    def examples(
        self,
        run: Run,
        target: Images,
        selection: subsets.Selection,
        open_dataset: Callable[[str], Images],
        settings: Settings,
    ) -> Examples:
        examples = open_source(run, target, selection.indices, open_dataset)
        check_source(run, examples, target, allow_overlap=settings.allow_overlap)
        return examples

    def method(self, run: Run, backbone: nn.Module) -> Method:
        return own.make(run, backbone, REGIMES[run.regime].module)

    def callbacks(self, job: Job, *, steps: int) -> list[Callback]:
        every = max(1, steps // max(1, job.run.monitor))
        return [NeighboursMonitor(job.run, job.images, every=every, device=job.device)]

    def measure(self, job: Job, folder: Path, rows: Rows) -> dict[str, Any]:
        losses = [row["train/loss"] for row in rows if "train/loss" in row]
        accuracies = [row["holdout/knn"] for row in rows if "holdout/knn" in row]
        method = cast(Pretrainer, job.method)
        method.eval()  # pictures must not move batch norm's statistics
        if REGIMES[job.run.regime].pictures and hasattr(method, "pictures"):  # an own method may have none
            images = next(iter(job.eval_loader(job.images.train[:8], None)))[0]
            for name, picture in method.pictures(images).items():
                Image.fromarray(picture).save(folder / f"{name}.png")
        diagnostics = method.diagnostics()
        return {
            "loss": losses[-1] if losses else None,
            "loss_slope": recording.slope(losses),
            "holdout_knn": accuracies[-1] if accuracies else None,
            **diagnostics,
            "untrained": bool(diagnostics.get("collapsed")) or is_untrained(job, losses),
        }

    def encoder(self, method: Method) -> nn.Module:
        """Return the encoder without the classifier of its source's classes."""
        encoder: Any = method.encoder
        if hasattr(encoder, "reset_classifier"):
            encoder.reset_classifier(0)
        return cast(nn.Module, encoder)


def is_untrained(job: Job, losses: list[float]) -> bool:
    """Return whether a pretraining taught its encoder nothing (see `regimes/chance.py`). One of zero steps did not.

    losses: means over the intervals of `metrics.jsonl`. The last eighth of them counts, so that one batch does not.
    """
    if not losses:
        return True
    last = losses[-max(1, len(losses) // 8) :]
    count = math.ceil(LEVEL_IMAGES / job.run.batch_size)
    with torch.no_grad():
        parts = [part if isinstance(part, Tensor) else part[0] for part in islice(loader_of(job), count)]
        images = torch.cat(parts)  # (B, C, H, W)
        return cast(Pretrainer, job.method).is_untrained(sum(last) / len(last), images, job.examples.labels)


# --- sources ---------------------------------------------------------------------------------------------------------


def open_source(
    run: Run, target: Images, indices: NDArray[np.int64], open_dataset: Callable[[str], Images]
) -> Examples:
    """Return the images that the run's `source` names.

    `pool` is every training image of the target and its images without labels. `subset` is the N labelled images alone.
    `fractals` are drawn here. Any other name is a dataset, whose training images get the target's size and channels.
    indices: of the run's labelled images. open_dataset: name → a dataset's images.
    Raise UserError if a regime that learns from labels would see the target's.
    """
    labelled, source = REGIMES[run.regime].labels, run.source or POOL
    if source in TARGET_SOURCES:
        if labelled:
            raise UserError(
                f"the regime '{run.regime}' can't have the target ('{source}') as its source",
                f"give {FRACTALS}, or a dataset that shares no image with {run.dataset}",
            )
        return _of_target(source, target, indices)
    H, W, channels = target.train.shape[1:]
    if source == FRACTALS:
        drawn, drawn_labels = fractals(FRACTAL_CLASSES, FRACTALS_EACH, max(H, W), channels, seed=0)
        drawn = middle(drawn, (H, W))
        names = tuple(f"fractal {k}" for k in range(FRACTAL_CLASSES))
        return Examples(drawn, drawn_labels, names) if labelled else Examples(drawn)
    other = open_dataset(source)
    shared = tuple(sorted({*map(str.lower, other.classes)} & {*map(str.lower, target.classes)}))
    images = convert(other.train, (H, W), channels)
    overlap = find_overlap(images, target.test)
    if not labelled:
        return Examples(images, shared_classes=shared, overlap=overlap)
    if len(other.classes) < 2:
        able = ", ".join(row.name for row in REGIMES.values() if row.module and not row.labels)
        raise UserError(f"source {source} has no classes for the regime '{run.regime}'", f"without classes: {able}")
    return Examples(images, other.train_labels, other.classes, shared, overlap)


def _of_target(source: str, target: Images, indices: NDArray[np.int64]) -> Examples:
    if source == SUBSET:
        return Examples(target.train[indices])
    if target.unlabelled is None or not len(target.unlabelled):
        return Examples(target.train)
    images = np.concatenate([target.train, target.unlabelled])
    return Examples(images, overlap=find_overlap(target.unlabelled, target.test))


def middle(images: Pixels, side: tuple[int, int]) -> Pixels:
    """Return the central part (H, W) of square images (M, S, S, C)."""
    top, left = (images.shape[1] - side[0]) // 2, (images.shape[2] - side[1]) // 2
    return images[:, top : top + side[0], left : left + side[1]]


def convert(images: Pixels, side: tuple[int, int], channels: int) -> Pixels:
    """Return images with another size (H, W) and number of channels, (M, H, W, C), resized as the target's were."""
    if images.shape[1:] == (*side, channels):
        return images
    if images.shape[1:3] != side:
        flat = images[..., 0] if images.shape[-1] == 1 else images
        images = np.stack([image_file.resize(Image.fromarray(image), side, images.shape[-1]) for image in flat])
    if images.shape[-1] == channels:
        return images
    if channels == 3:
        return np.repeat(images, 3, axis=3)
    grey: Pixels = np.round(images @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)  # Pillow's "L"
    return grey[..., None]


def find_overlap(source: Pixels, test: Pixels) -> tuple[int, ...]:
    """Return the indices of test images (M, H, W, C) whose pixels are in the source (N, H, W, C) too."""
    hashes = {content_hash(image) for image in source}
    return tuple(index for index, image in enumerate(test) if content_hash(image) in hashes)


def check_source(run: Run, source: Examples, target: Images, *, allow_overlap: bool = False) -> None:
    """Raise UserError for a source that holds test images, or is smaller than a batch."""
    if len(source.images) < run.batch_size:
        raise UserError(
            f"{len(source.images)} images to pretrain on are fewer than a batch of {run.batch_size}",
            remedy=f"choose another source, or a batch_size of at most {len(source.images)}",
        )
    overlap = source.overlap
    if overlap and not allow_overlap:
        shown = ", ".join(map(str, overlap[:5])) + (", …" if len(overlap) > 5 else "")
        raise UserError(
            f"source {run.source} holds {len(overlap)} of {run.dataset}'s {len(target.test)} test images ({shown})",
            remedy="choose another source, or add --allow-overlap, which the table then shows",
        )


# --- measurements while it trains ------------------------------------------------------------------------------------


def monitor_images(run: Run, target: Images) -> tuple[tuple[Pixels, Labels], tuple[Pixels, Labels]]:
    """Return the labelled images among which neighbours are looked for, and the hold-out, which is evaluated.

    The hold-out is the user's own, or the last images of the pool's order. The neighbours are its first images.
    """
    order = subsets.whole_order(run, target.train_labels, target.ordered_by)
    kept = subsets.holdout_size(len(order))
    if target.holdout is not None and target.holdout_labels is not None:
        holdout, pool = (target.holdout, target.holdout_labels), order
    else:
        last, pool = order[len(order) - kept :], order[: len(order) - kept]
        holdout = target.train[last], target.train_labels[last]
    bank = pool[:BANK]
    return (target.train[bank], target.train_labels[bank]), holdout


class NeighboursMonitor(Callback):
    """Logs the kNN accuracy on the hold-out as `holdout/knn`, and the method's diagnostics as `train/…`.

    It has loaders of its own, since the pretraining's has no labels. Images with masks have no class that neighbours
    could vote on, so there the diagnostics alone are logged.
    """

    def __init__(self, run: Run, target: Images, *, every: int, device: torch.device) -> None:
        self.run, self.every, self.device = run, every, device
        self.has_classes = target.presence is None
        if self.has_classes:
            self.bank, self.holdout = monitor_images(run, target)
        self.classes, self.mean, self.std = len(target.classes), target.mean, target.std

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        method = cast(Pretrainer, module)
        step, last = trainer.global_step, trainer.max_steps
        if step % max(1, last // recording.ROWS) == 0 or step == last:
            diagnostics = method.diagnostics()
            row = {f"train/{name}": float(value) for name, value in diagnostics.items() if name != "collapsed"}
            if diagnostics:
                recording.log_row(trainer, row)
        if self.has_classes and (step % self.every == 0 or step == last):
            recording.log_row(trainer, {"holdout/knn": self.accuracy(method.encoder)})

    def accuracy(self, encoder: nn.Module) -> float:
        """Return the share of hold-out images whose class their neighbours' vote names."""
        bank, labels = self.features(encoder, *self.bank)
        queries, truth = self.features(encoder, *self.holdout)
        predicted = knn(bank, labels, queries, classes=self.classes).argmax(1)
        return (predicted == truth).double().mean().item()

    def features(self, encoder: nn.Module, images: Pixels, labels: Labels) -> tuple[Tensor, Tensor]:
        """Return features (M, D) and labels (M,) of images."""
        loader = batches.eval_loader(images, labels, self.run, mean=self.mean, std=self.std, device=self.device)
        return features_of(encoder, loader)

"""Where a pretraining looks, what it must not see, how it is watched: sources, leaks, neighbours on the hold-out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from bias_lab.catalogue import FRACTALS, REGIMES
from bias_lab.data import batches, subsets
from bias_lab.data.identity import content_hash
from bias_lab.data.readers import image_file
from bias_lab.data.readers.fractals import fractals
from bias_lab.data.store import Images
from bias_lab.definition import Run
from bias_lab.errors import UserError
from bias_lab.training import recording
from bias_lab.training.protocols import features_of, knn

BANK = 1000  # labelled images among which a hold-out image's neighbours are looked for
FRACTAL_CLASSES, FRACTALS_EACH = 100, 100


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """The images that a pretraining sees. labels: None unless its regime learns from labels, so that none can leak."""

    images: NDArray[np.uint8]  # (M, H, W, C), at the target's size
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]  # of the labels; empty without
    shared_classes: tuple[str, ...]  # names that the target has too
    overlap: tuple[int, ...] = ()  # the target's test images that stand in it

    def facts(self) -> dict[str, Any]:
        """What the result says of it."""
        return {
            "source_images": len(self.images),
            "source_overlap": len(self.overlap),
            "shared_classes": list(self.shared_classes),
        }


def look(run: Run, target: Images, indices: NDArray[np.int64], opened: Callable[[str], Images]) -> Source:
    """What the run's `source` means. indices: of the run's subset; opened: name → a dataset's images.

    `pool` is every training image of the target and what it has without labels, `subset` the N labelled ones alone,
    `fractals` drawn here; else a dataset's training images, brought to the target's size and channels.
    Raises UserError where labels of the target itself would be the source: that is no pretraining.
    """
    labelled, source = REGIMES[run.regime].labels, run.source or "pool"
    if source in ("pool", "subset"):
        if labelled:
            raise UserError(
                f"the regime '{run.regime}' needs a source of its own, and '{source}' is the target",
                f"{FRACTALS}, or a dataset that shares no image with {run.dataset}",
            )
        if source == "subset":
            return Source(target.train[indices], None, (), ())
        if target.unlabelled is None or not len(target.unlabelled):
            return Source(target.train, None, (), ())
        images = np.concatenate([target.train, target.unlabelled])
        return Source(images, None, (), (), overlap(target.unlabelled, target.test))
    side, channels = target.train.shape[1], target.train.shape[3]
    if source == FRACTALS:
        drawn, drawn_labels = fractals(FRACTAL_CLASSES, FRACTALS_EACH, side, channels, seed=0)
        names = tuple(f"fractal {k}" for k in range(FRACTAL_CLASSES))
        return Source(drawn, drawn_labels if labelled else None, names if labelled else (), ())
    other = opened(source)
    shared = tuple(sorted({*map(str.lower, other.classes)} & {*map(str.lower, target.classes)}))
    images = fitted(other.train, side, channels)
    both = overlap(images, target.test)
    if not labelled:
        return Source(images, None, (), shared, both)
    if len(other.classes) < 2:
        raise UserError(f"source {source} has no classes for the regime '{run.regime}'", "mae, simmim, dino need none")
    return Source(images, other.train_labels, other.classes, shared, both)


def fitted(images: NDArray[np.uint8], side: int, channels: int) -> NDArray[np.uint8]:
    """Images (M, H, W, C) at another size and number of channels, resized as the target's were."""
    if images.shape[1:] == (side, side, channels):
        return images
    if images.shape[1:3] != (side, side):
        flat = images[..., 0] if images.shape[-1] == 1 else images
        images = np.stack([image_file.resize(Image.fromarray(image), side, images.shape[-1]) for image in flat])
    if images.shape[-1] == channels:
        return images
    if channels == 3:
        return np.repeat(images, 3, axis=3)
    grey: NDArray[np.uint8] = np.round(images @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)  # Pillow's "L"
    return grey[..., None]


def overlap(source: NDArray[np.uint8], test: NDArray[np.uint8]) -> tuple[int, ...]:
    """Which test images (M, H, W, C) stand in the source (N, H, W, C) too, by the content hash of their pixels."""
    seen = {content_hash(image) for image in source}
    return tuple(index for index, image in enumerate(test) if content_hash(image) in seen)


def refuse(run: Run, source: Source, target: Images, *, allow_overlap: bool = False) -> None:
    """Raises UserError for a source that can't be trained on: it shows test images, or is smaller than a batch."""
    if len(source.images) < run.batch_size:
        raise UserError(
            f"{len(source.images)} images to pretrain on are fewer than a batch of {run.batch_size}",
            remedy=f"another source, or a batch_size of at most {len(source.images)}",
        )
    found = source.overlap
    if found and not allow_overlap:
        shown = ", ".join(map(str, found[:5])) + (", …" if len(found) > 5 else "")
        raise UserError(
            f"source {run.source} holds {len(found)} of {run.dataset}'s {len(target.test)} test images ({shown})",
            remedy="another source; --allow-overlap goes on, and the table shows it",
        )


# --- watching --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Watched:
    """Labelled images by which a pretraining is watched: neighbours from `bank`, asked for the hold-out."""

    bank: NDArray[np.uint8]
    bank_labels: NDArray[np.int64]
    holdout: NDArray[np.uint8]
    holdout_labels: NDArray[np.int64]


def watched(run: Run, target: Images) -> Watched:
    """The hold-out of the run's draw (or the user's own) and the first images of that order as its neighbours."""
    order = subsets.order(target.fingerprint, target.train_labels, run.draw)
    kept = subsets.holdout_size(len(order))
    if target.holdout is not None and target.holdout_labels is not None:
        held, held_labels, pool = target.holdout, target.holdout_labels, order
    else:
        last = order[len(order) - kept :]
        held, held_labels, pool = target.train[last], target.train_labels[last], order[: len(order) - kept]
    bank = pool[:BANK]
    return Watched(target.train[bank], target.train_labels[bank], held, held_labels)


class Neighbours(Callback):
    """Logs the kNN accuracy on the hold-out, and what the method says of itself; nothing depends on either.

    Its labels come from a loader of its own; the pretraining's has none.
    """

    def __init__(self, run: Run, target: Images, *, every: int, device: torch.device) -> None:
        self.run, self.every, self.device = run, every, device
        self.images, self.classes = watched(run, target), len(target.classes)
        self.mean, self.std = target.mean, target.std

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        method: Any = module
        step, last = trainer.global_step, trainer.max_steps
        said = method.diagnostics() if step % max(1, last // recording.ROWS) == 0 or step == last else {}
        if said:
            row = {f"train/{name}": float(value) for name, value in said.items() if name != "collapsed"}
            recording.log_row(trainer, row)
        if step % self.every == 0 or step == last:
            recording.log_row(trainer, {"holdout/knn": self.accuracy(method.encoder)})

    def accuracy(self, encoder: Any) -> float:
        """The share of hold-out images whose class their neighbours' vote names."""
        bank, labels = self.features(encoder, self.images.bank, self.images.bank_labels)
        queries, truth = self.features(encoder, self.images.holdout, self.images.holdout_labels)
        said = knn(bank, labels, queries, classes=self.classes).argmax(1)
        return (said == truth).double().mean().item()

    def features(self, encoder: Any, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        loader = batches.eval_loader(images, labels, self.run, mean=self.mean, std=self.std, device=self.device)
        return features_of(encoder, loader)


def bare(encoder: Any, run: Run) -> Any:
    """A pretraining's encoder without the classifier of its source's classes; any other model as it is."""
    if run.task == "pretrain" and hasattr(encoder, "reset_classifier"):
        encoder.reset_classifier(0)
    return encoder

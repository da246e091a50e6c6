"""Segmentation: learn from masks, then predict the class of each pixel of test images (or of the hold-out)."""

import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import Callback
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from bias_lab import catalogue, ledger, rows
from bias_lab.backbones.heads.interface import DenseModel
from bias_lab.data import store, subsets
from bias_lab.definition import Run, Settings
from bias_lab.errors import UserError
from bias_lab.training import recording
from bias_lab.training.job import Examples, Job, Labels, Method, Pixels, Predictor, Rows
from bias_lab.training.protocols.segmenter import Segmenter
from bias_lab.training.tasks import mask_pictures, mask_scores
from bias_lab.training.tasks.mask_scores import VOID

TOGETHER = 16  # images that are scored at a time


class Segmentation:
    """The task of a run that predicts masks. A `bias_lab.training.job.Task`."""

    def __init__(self, row: catalogue.Task) -> None:
        self.row = row

    def examples(
        self,
        run: Run,
        target: store.Images,
        selection: subsets.Selection,
        open_dataset: Callable[[str], store.Images],
        settings: Settings,
    ) -> Examples:
        """Return the selected images and their masks (N, H, W). Raise UserError for a dataset without masks."""
        if selection.labels.ndim != 3:
            raise UserError(
                f"{run.dataset} has a class for each image and no masks, so it can't be segmented",
                remedy="give a dataset with masks, or leave out --task",
            )
        if len(target.classes) > VOID:
            raise UserError(f"{len(target.classes)} classes don't fit into 8-bit masks", f"{VOID} are possible")
        return Examples(store.part(target.train, selection.indices), selection.labels, target.classes)

    def method(self, run: Run, backbone: nn.Module) -> Method:
        return cast(Method, Segmenter.from_run(run, backbone, classes=cast(DenseModel, backbone).classes))

    def callbacks(self, job: Job, *, steps: int) -> list[Callback]:
        """Return a monitor of the hold-out, if the run asks for one and its labelled images leave a hold-out."""
        run = job.run
        if not run.monitor or (job.images.holdout is None and job.selection.holdout is None):
            return []
        images, masks = job.holdout()

        def measure(module: Any) -> float:
            loader = job.eval_loader(images, masks)
            return evaluate(module.trained, loader, len(job.images.classes), boundaries=False).miou or 0.0

        return [recording.Monitor(f"holdout/{self.row.metric}", measure, every=max(1, steps // run.monitor))]

    def evaluation_images(self, job: Job) -> tuple[Pixels, Labels]:
        """Return the images that evaluate the run. A run that is evaluated on the hold-out never reads test images."""
        return job.holdout() if self.row.evaluated_on == "holdout" else (job.images.test, job.images.test_labels)

    def measure(self, job: Job, folder: Path, rows: Rows) -> dict[str, Any]:
        """Return the metrics. This is the one place where test images are read, after the last step and once."""
        model, metric = cast(Predictor, job.method).trained, self.row.metric
        losses = [row["train/loss"] for row in rows if "train/loss" in row]
        monitored = [row[f"holdout/{metric}"] for row in rows if f"holdout/{metric}" in row]
        classes = len(job.images.classes)
        shown = job.eval_loader(job.examples.images, job.examples.labels)
        train = evaluate(model, shown, classes, boundaries=False)
        test = evaluate(model, job.eval_loader(*self.evaluation_images(job)), classes)
        if self.row.evaluated_on == "test":
            save_predictions(test, folder / ledger.PREDICTIONS)
            images, truth = self.evaluation_images(job)
            mask_pictures.save(folder, images, truth, test.maps, test.table, tuple(map(str, job.images.classes)))
        return {
            **test.metrics(),
            f"train_{metric}": train.miou,
            self.row.chance: mask_scores.constant(train.pixels, test.pixels),
            "train_loss": train.loss,
            "loss_slope": recording.slope(losses),
            f"holdout_{metric}": monitored[-1] if monitored else None,
        }

    def encoder(self, method: Method) -> nn.Module:
        return method.encoder


@dataclass(slots=True)
class Evaluation:
    """What a model predicted. maps: (H, W) in uint8 for each image. counts: see `mask_scores.count`.

    pixels: the pixels of the truth that have each class, (K,). f1: the mean boundary F1 of each image, where
    `boundaries` asks for it. right, known, nats: pixels that are right, pixels with a class, and their summed
    cross-entropy.
    """

    maps: list[NDArray[np.uint8]] = field(default_factory=list)
    counts: list[mask_scores.Counts] = field(default_factory=list)
    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(VOID, np.int64))
    f1: list[float] = field(default_factory=list)
    right: int = 0
    known: int = 0
    nats: float = 0.0
    boundaries: bool = True

    def add(self, logits: Tensor, masks: Tensor) -> None:
        """Add a batch: logits (B, K, H, W) and masks (B, H, W). A few images at a time need less memory."""
        for few, theirs in zip(torch.split(logits, TOGETHER), torch.split(masks, TOGETHER), strict=True):
            self._add(few, theirs)

    def _add(self, logits: Tensor, masks: Tensor) -> None:
        predicted, classes = logits.argmax(1), logits.shape[1]
        self.maps += list(predicted.to(torch.uint8).cpu().numpy())
        self.counts.append(mask_scores.count(predicted, masks, classes))
        self.pixels += np.bincount(masks[masks != VOID].cpu().numpy(), minlength=VOID)
        if self.boundaries:
            f1 = mask_scores.mean_f1(mask_scores.boundary_f1(predicted, masks, classes))
            self.f1 += f1[~f1.isnan()].tolist()
        right, known = mask_scores.pixel_accuracy(predicted, masks)
        self.right, self.known = self.right + right, self.known + known
        self.nats += float(mask_scores.cross_entropy(logits.double(), masks)) * known

    @property
    def table(self) -> mask_scores.Counts:
        """The intersection and union of each image and class, (M, K, 2)."""
        return np.concatenate(self.counts)

    @property
    def miou(self) -> float | None:
        return mask_scores.miou(self.table)

    @property
    def loss(self) -> float | None:
        """The mean cross-entropy of a pixel with a class, in nats."""
        return self.nats / self.known if self.known else None

    def metrics(self) -> dict[str, Any]:
        """Return the metrics: fractions in [0, 1], the loss in nats, and the IoU of each class."""
        table = self.table
        return {
            "miou": mask_scores.miou(table),
            "pixel_accuracy": self.right / self.known if self.known else None,
            "boundary_f1": float(np.mean(self.f1)) if self.f1 else None,
            "loss": self.loss,
            "per_class": mask_scores.per_class(table),
            "collapsed": collapsed(self.maps, table),
        }


@torch.inference_mode()
def evaluate(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], classes: int, *, boundaries: bool = True
) -> Evaluation:
    """Return what a model in evaluation predicts. batches: images (B, C, H, W) and masks (B, H, W).

    boundaries: whether their F1 is computed, which takes long for large images.
    """
    was_training = model.training
    model.eval()
    found = Evaluation(boundaries=boundaries)
    for images, masks in batches:
        logits = model(images).float()
        if logits.shape[1] != classes:
            raise ValueError(f"the model gives {logits.shape[1]} classes, and the masks have {classes}")
        found.add(logits, masks.long())
    model.train(was_training)
    return found


def collapsed(maps: list[NDArray[np.uint8]], table: mask_scores.Counts) -> bool:
    """Return whether one class is predicted for every pixel, though the truth holds another one too.

    maps: (H, W) each, as predicted. table: (M, K, 2). A union without an intersection is a class that was missed.
    """
    said = {int(value) for one in maps for value in np.unique(one)}
    intersection, union = table.sum(0).T
    return len(said) == 1 and bool(((union > 0) & (intersection == 0)).any())


# --- label maps ------------------------------------------------------------------------------------------------------


def save_predictions(found: Evaluation, path: Path) -> None:
    """Write a table with a row a test image: index, predicted (a label map as an 8-bit PNG), scores.

    scores: intersection and union of each class, as `rows.unpack_scores` reads them.
    """
    table = pd.DataFrame(
        {
            "index": np.arange(len(found.maps), dtype=np.int32),
            "predicted": [as_png(one) for one in found.maps],
            rows.SCORES: [image.astype("<u4").tobytes() for image in found.table],
        }
    )
    with ledger.replacing(path) as temporary:
        table.to_parquet(temporary, index=False)


def as_png(label_map: NDArray[np.uint8]) -> bytes:
    """Return a label map (H, W) as an 8-bit grey PNG."""
    file = io.BytesIO()
    Image.fromarray(label_map).save(file, format="PNG")
    return file.getvalue()

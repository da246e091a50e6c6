"""Classification: learn from labelled images, then predict the classes of test images (or of the hold-out)."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError, MulticlassF1Score

from bias_lab import catalogue, ledger
from bias_lab.catalogue import PROTOCOLS
from bias_lab.data import store, subsets
from bias_lab.definition import Run, Settings
from bias_lab.training import recording
from bias_lab.training.job import Examples, Job, Labels, Method, Pixels, Predictor, Rows
from bias_lab.training.modules import own

CALIBRATION_BINS = 15


class Classification:
    """The task of a run that predicts classes. A `bias_lab.training.job.Task`."""

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
        return Examples(store.part(target.train, selection.indices), selection.labels, target.classes)

    def method(self, run: Run, backbone: nn.Module) -> Method:
        return own.make(run, backbone, PROTOCOLS[run.protocol].module)

    def callbacks(self, job: Job, *, steps: int) -> list[Callback]:
        """Return a monitor of the hold-out, if the run asks for one and its labelled images leave a hold-out."""
        run = job.run
        if not run.monitor or (job.images.holdout is None and job.selection.holdout is None):
            return []
        images, labels = job.holdout()

        def measure(module: Any) -> float:
            logits, truth = logits_of(module.trained, job.eval_loader(images, labels))
            return top1(logits, truth)

        return [recording.Monitor(f"holdout/{self.row.metric}", measure, every=max(1, steps // run.monitor))]

    def evaluation_images(self, job: Job) -> tuple[Pixels, Labels]:
        """Return the images that evaluate the run. A run that is evaluated on the hold-out never reads test images."""
        return job.holdout() if self.row.evaluated_on == "holdout" else (job.images.test, job.images.test_labels)

    def measure(self, job: Job, folder: Path, rows: Rows) -> dict[str, Any]:
        """Return the metrics. This is the one place where test images are read, after the last step and once."""
        model, metric = cast(Predictor, job.method).trained, self.row.metric
        losses = [row["train/loss"] for row in rows if "train/loss" in row]
        monitored = [row[f"holdout/{metric}"] for row in rows if f"holdout/{metric}" in row]
        train = evaluate(*logits_of(model, job.eval_loader(job.examples.images, job.examples.labels)))
        logits, labels = logits_of(model, job.eval_loader(*self.evaluation_images(job)))
        if self.row.evaluated_on == "test":
            save_predictions(logits, labels, folder / ledger.PREDICTIONS)
        return {
            **evaluate(logits, labels),
            f"train_{metric}": train[metric],
            "train_loss": train["loss"],
            "loss_slope": recording.slope(losses),
            f"holdout_{metric}": monitored[-1] if monitored else None,
        }

    def encoder(self, method: Method) -> nn.Module:
        return method.encoder


@torch.inference_mode()
def logits_of(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return logits (M, K) in float32 and labels (M,) on the CPU, in order, by the model in eval mode."""
    was_training = model.training
    model.eval()
    logits, labels = [], []
    for images, label in batches:
        logits.append(model(images).float().cpu())
        labels.append(label.cpu())
    model.train(was_training)
    return torch.cat(logits), torch.cat(labels)


def save_predictions(logits: Tensor, labels: Tensor, path: Path) -> None:
    """Write a table with a row a test image: index, label, predicted, confidence (the largest probability)."""
    confidence, predicted = logits.softmax(1).max(1)
    table = pd.DataFrame(
        {
            "index": np.arange(len(labels), dtype=np.int32),
            "label": labels.numpy().astype(np.int32),
            "predicted": predicted.numpy().astype(np.int32),
            "confidence": confidence.numpy(),
        }
    )
    with ledger.replacing(path) as temporary:
        table.to_parquet(temporary, index=False)


# --- metrics ---------------------------------------------------------------------------------------------------------


def evaluate(logits: Tensor, labels: Tensor) -> dict[str, Any]:
    """Return the metrics of logits (M, K) against labels (M,): fractions in [0, 1], and the loss in nats.

    per_class: K recalls, None for a class without images. top5: None up to 5 classes, where it would be 1 by
    construction. ece: expected calibration error over 15 equal bins (Guo et al. 2017, arXiv:1706.04599, section 2).
    majority: the share of the largest class, which a constant prediction may reach.
    """
    classes = logits.shape[1]
    probabilities = logits.softmax(1)
    accuracy = MulticlassAccuracy(classes, average="micro", top_k=1)
    top5 = MulticlassAccuracy(classes, average="micro", top_k=min(5, classes))
    f1 = MulticlassF1Score(classes, average="macro")
    recall = MulticlassAccuracy(classes, average="none")
    counts = torch.bincount(labels, minlength=classes)
    return {
        "top1": fraction(accuracy(logits, labels), len(labels)),
        "top5": fraction(top5(logits, labels), len(labels)) if classes > 5 else None,
        "macro_f1": f1(logits, labels).item(),
        "ece": calibration_error(probabilities, labels),
        "loss": F.cross_entropy(logits.double(), labels).item(),
        "per_class": [r if n else None for r, n in zip(recall(logits, labels).tolist(), counts.tolist(), strict=True)],
        "majority": counts.max().item() / len(labels),
        "collapsed": collapsed(logits),
    }


def top1(logits: Tensor, labels: Tensor) -> float:
    """Return the share of images whose largest logit is that of their class, without the other metrics."""
    return (logits.argmax(1) == labels).double().mean().item()


def fraction(share: Tensor, images: int) -> float:
    """Return a share of images as the nearest k / images in double precision (torchmetrics counts in float32)."""
    return round(share.item() * images) / images


def calibration_error(probabilities: Tensor, labels: Tensor) -> float:
    """Return the expected calibration error of (M, K) probabilities, in [0, 1].

    torchmetrics opens a bin of its own for a confidence of exactly 1. Confidences are held just below 1, so that such
    images share the last bin, as in the paper's definition.
    """
    below_one = torch.nextafter(torch.ones(()), torch.zeros(()))
    metric = MulticlassCalibrationError(probabilities.shape[1], n_bins=CALIBRATION_BINS, norm="l1")
    error: float = metric(probabilities.clamp(max=below_one.item()), labels).item()
    return error


def collapsed(logits: Tensor) -> bool:
    """Return whether one class is predicted for more than 95 % of images, or the logits do not depend on the image."""
    counts = torch.bincount(logits.argmax(1), minlength=logits.shape[1])
    one_class = bool(counts.max() > 0.95 * len(logits))
    dead = bool((logits.std(0) <= 1e-6 * logits.abs().amax().clamp(min=1e-12)).all())
    return one_class or dead

"""Learning from labelled images: one LightningModule for every backbone, and the metrics that judge it."""

from collections.abc import Iterable
from typing import Any, Self

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError, MulticlassF1Score

from bias_lab.definition import Run
from bias_lab.training import optimizer

CALIBRATION_BINS = 15


class Classifier(LightningModule):
    """Cross-entropy on logits, (B, C, H, W) -> (B, K); targets are classes (B,) or probabilities (B, K)."""

    def __init__(
        self,
        backbone: nn.Module,
        *,
        learning_rate: float,
        weight_decay: float = 0.05,
        steps: int,
        warmup: float = 0.1,
        label_smoothing: float = 0.0,
        layer_decay: float = 1.0,
        ema: float = 0.0,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.learning_rate, self.weight_decay, self.layer_decay = learning_rate, weight_decay, layer_decay
        self.steps, self.warmup = steps, warmup
        self.label_smoothing = label_smoothing
        self.average = optimizer.moving_average(backbone, ema) if ema else None

    @classmethod
    def from_run(cls, run: Run, backbone: nn.Module, *, steps: int) -> Self:
        if run.learning_rate is None:
            raise ValueError("a run reaches training with its learning rate filled in")
        return cls(
            backbone,
            learning_rate=run.learning_rate,
            weight_decay=run.weight_decay,
            steps=steps,
            warmup=run.warmup,
            label_smoothing=run.label_smoothing,
            layer_decay=run.layer_decay,
            ema=run.ema,
        )

    @property
    def trained(self) -> nn.Module:
        """The model whose weights count: the moving average where there is one, else the last weights."""
        return self.backbone if self.average is None else self.average.module

    @property
    def encoder(self) -> nn.Module:
        return self.trained

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.trained(images)
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, target = batch
        return F.cross_entropy(self.backbone(images), target, label_smoothing=self.label_smoothing)

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """A step, then the moving average: here and not in a later hook, so that a checkpoint holds both or neither."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.update_ema()

    def update_ema(self) -> None:
        if self.average is not None:
            self.average.update_parameters(self.backbone)

    def configure_optimizers(self) -> Any:
        return optimizer.configure(
            self.backbone,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            steps=self.steps,
            warmup=self.warmup,
            layer_decay=self.layer_decay,
        )

    def diagnostics(self) -> dict[str, float | bool]:
        return {}


@torch.inference_mode()
def logits_of(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Logits (M, K) in float32 and labels (M,) of all images, in order, on the CPU; the model in eval mode."""
    was_training = model.training
    model.eval()
    logits, labels = [], []
    for images, label in batches:
        logits.append(model(images).float().cpu())
        labels.append(label.cpu())
    model.train(was_training)
    return torch.cat(logits), torch.cat(labels)


def evaluate(logits: Tensor, labels: Tensor) -> dict[str, Any]:
    """Metrics of logits (M, K) against labels (M,): fractions in [0, 1]; loss in nats; `per_class`: K recalls.

    A class that the test split lacks has recall None. top5 is None up to 5 classes, where it
    would be 1 by construction. ece is the expected calibration error over 15 equal bins (Guo et al. 2017,
    arXiv:1706.04599, section 2).
    """
    classes = logits.shape[1]
    probabilities = logits.softmax(1)
    accuracy = MulticlassAccuracy(classes, average="micro", top_k=1)
    top5 = MulticlassAccuracy(classes, average="micro", top_k=min(5, classes))
    f1 = MulticlassF1Score(classes, average="macro")
    recall = MulticlassAccuracy(classes, average="none")
    present = torch.bincount(labels, minlength=classes) > 0
    metrics: dict[str, Any] = {
        "top1": fraction(accuracy(logits, labels), len(labels)),
        "top5": fraction(top5(logits, labels), len(labels)) if classes > 5 else None,
        "macro_f1": f1(logits, labels).item(),
        "ece": calibration_error(probabilities, labels),
        "loss": F.cross_entropy(logits.double(), labels).item(),
        "per_class": [r if p else None for r, p in zip(recall(logits, labels).tolist(), present.tolist(), strict=True)],
        "collapsed": collapsed(logits),
    }
    return metrics


def fraction(share: Tensor, images: int) -> float:
    """A share of images as the nearest fraction k / images in double precision (torchmetrics counts in float32)."""
    return round(share.item() * images) / images


def calibration_error(probabilities: Tensor, labels: Tensor) -> float:
    """Expected calibration error of (M, K) probabilities, in [0, 1].

    torchmetrics opens a bin of its own for a confidence of exactly 1; held just below 1, such images share the last bin
    with those of 0.97, as the paper's definition has it.
    """
    below_one = torch.nextafter(torch.ones(()), torch.zeros(()))
    metric = MulticlassCalibrationError(probabilities.shape[1], n_bins=CALIBRATION_BINS, norm="l1")
    error: float = metric(probabilities.clamp(max=below_one.item()), labels).item()
    return error


def collapsed(logits: Tensor) -> bool:
    """Whether one class is predicted for more than 95 % of the images, or the logits do not depend on the image."""
    counts = torch.bincount(logits.argmax(1), minlength=logits.shape[1])
    one_class = bool(counts.max() > 0.95 * len(logits))
    dead = bool((logits.std(0) <= 1e-6 * logits.abs().amax().clamp(min=1e-12)).all())
    return one_class or dead

"""Fine-tuning: every weight of the backbone learns from labelled images by cross-entropy."""

from typing import Any, Self

import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from bias_lab.definition import Run, steps
from bias_lab.training.job import Labels
from bias_lab.training.optimizer import configure, moving_average
from bias_lab.training.regimes import chance


class Classifier(LightningModule):
    """Trains a backbone by cross-entropy of its logits (B, K) on images (B, C, H, W).

    Targets are classes (B,) or probabilities (B, K). ema: decay of a moving average of the weights, 0 for none.
    """

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
        optimizer: str = "adamw",
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.learning_rate, self.weight_decay, self.layer_decay = learning_rate, weight_decay, layer_decay
        self.steps, self.warmup, self.optimizer = steps, warmup, optimizer
        self.label_smoothing = label_smoothing
        self.average = moving_average(backbone, ema) if ema else None

    @classmethod
    def from_run(cls, run: Run, backbone: nn.Module) -> Self:
        """Return the module that a run's fields describe. Raise ValueError if it has no learning rate yet."""
        if run.learning_rate is None:
            raise ValueError("a run reaches training with its learning rate filled in")
        return cls(
            backbone,
            learning_rate=run.learning_rate,
            weight_decay=run.weight_decay,
            steps=steps(run),
            warmup=run.warmup,
            label_smoothing=run.label_smoothing,
            layer_decay=run.layer_decay,
            ema=run.ema,
            optimizer=run.optimizer,
        )

    @property
    def trained(self) -> nn.Module:
        """The model that is evaluated: the moving average if there is one, else the backbone with its last weights."""
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
        """Take a step and update the moving average. A later hook could leave a checkpoint between the two."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.update_ema()

    def update_ema(self) -> None:
        if self.average is not None:
            self.average.update_parameters(self.backbone)

    def configure_optimizers(self) -> Any:
        return configure(
            self.backbone,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            steps=self.steps,
            warmup=self.warmup,
            layer_decay=self.layer_decay,
            optimizer=self.optimizer,
        )

    def diagnostics(self) -> dict[str, float | bool]:
        """Return nothing, since the evaluation measures everything."""
        return {}

    def is_untrained(self, loss: float, images: Tensor, labels: Labels | None = None) -> bool:
        """Return whether the loss is near that of predicting the classes' shares for every image."""
        if labels is None:
            raise ValueError("a classifier learns from labels, so its chance level needs them")
        classes = int(labels.max()) + 1
        level = chance.level_of_classes(labels, classes, label_smoothing=self.label_smoothing)
        return chance.is_near(loss, level)

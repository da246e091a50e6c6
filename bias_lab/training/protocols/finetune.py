"""Fine-tuning: every weight of the backbone learns from labelled images by cross-entropy, or by another loss."""

from pathlib import Path
from typing import Any, Self, Unpack

import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from bias_lab.definition import Run, steps
from bias_lab.errors import UserError
from bias_lab.training.job import Labels
from bias_lab.training.modules import fields as keywords
from bias_lab.training.modules.build import FOLDER, backbone_of, from_run
from bias_lab.training.modules.fields import Training
from bias_lab.training.modules.steps import IntervalMeans, Loss, clip, explained, horizon, images_of, log_loss
from bias_lab.training.optimizer import configure, moving_average
from bias_lab.training.regimes import chance

LEARNING_RATE = 1e-3  # where neither a keyword nor a run gives one


class Classifier(LightningModule):
    """Trains a backbone by cross-entropy of its logits (B, K) on images (B, C, H, W).

    backbone: a name of the lab's or of timm's, or `package.module:factory`, made for `classes`, `channels` and
        `image_size` in pixels. A model is taken as it is.
    steps: of the schedule, by default `samples_seen` in batches if that is given, else those of the Trainer.
    loss: takes the place of cross-entropy. It gets logits (B, K), and classes (B,) or probabilities (B, K).
    fields: training fields of `Run` by their names, with the defaults of `Run`.

    Targets are classes (B,) or probabilities (B, K). `forward` and `predict_step` return the logits of the moving
    average if there is one (`ema`). It logs `train/loss`, `val/loss`, `val/top1`, `test/loss` and `test/top1`.

    >>> import torch
    >>> model = Classifier("vit_micro", classes=10, channels=1, image_size=28, learning_rate=3e-3)
    >>> model(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    >>> model.hparams["learning_rate"]
    0.003
    """

    def __init__(
        self,
        backbone: str | nn.Module,
        *,
        classes: int | None = None,
        channels: int = 3,
        image_size: int = 224,
        steps: int | None = None,
        loss: Loss | None = None,
        **fields: Unpack[Training],
    ) -> None:
        super().__init__()
        keywords.asked({"backbone": backbone, "loss": loss})
        by_name = isinstance(backbone, str)
        self.save_hyperparameters(ignore=("loss",) if by_name else ("loss", "backbone"))
        if by_name and not classes:
            raise UserError(f"Classifier({backbone!r}) needs the number of classes", remedy="give classes=")
        run = keywords.run_of(fields, backbone=backbone if isinstance(backbone, str) else "")
        keywords.complete(self, run, LEARNING_RATE, {"backbone": backbone, "loss": loss})
        self.settings = run
        self.backbone = backbone_of(backbone, run, classes=classes, channels=channels, image_size=image_size)
        self.steps = keywords.steps_of(steps, fields, run)
        self.loss = loss
        self.average = moving_average(self.backbone, run.ema) if run.ema else None
        self.val_top1 = MulticlassAccuracy(num_classes=None, average="micro")
        self.test_top1 = MulticlassAccuracy(num_classes=None, average="micro")

    @classmethod
    def from_run(
        cls,
        run: Run,
        backbone: nn.Module | None = None,
        *,
        loss: Loss | None = None,
        folder: str | Path = FOLDER,
    ) -> Self:
        """Return the module that a run describes.

        backbone: with its starting weights. None makes the one that a sweep begins with. folder: see
        `modules.build.from_run`. Raises UserError if the run has no learning rate, which `bl.run` fills in.
        """
        if run.learning_rate is None:
            raise UserError("the run has no learning rate yet", remedy="give learning_rate, or use bl.run(run)")
        if backbone is None:
            return from_run(cls, run, folder)
        return cls(backbone, loss=loss, steps=steps(run), **keywords.training_fields(run))

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
        with explained(self, images, target):
            logits = self.backbone(images)
            if self.loss is not None:
                return self.loss(logits, target)
            return F.cross_entropy(logits, target, label_smoothing=self.settings.label_smoothing)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate(batch, "val", self.val_top1)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self._evaluate(batch, "test", self.test_top1)

    def _evaluate(self, batch: tuple[Tensor, Tensor], split: str, top1: MulticlassAccuracy) -> None:
        """Log loss and accuracy of the model that is evaluated. The loss is not smoothed."""
        images, labels = batch
        with explained(self, images, labels):
            logits = self(images)
            loss = (self.loss or F.cross_entropy)(logits, labels)
        log_loss(self, split, loss, len(images))
        top1.update(logits, labels)
        self.log(f"{split}/top1", top1, prog_bar=split == "val", on_step=False, on_epoch=True)

    def predict_step(self, batch: Any, batch_idx: int = 0) -> Tensor:
        """Return the logits (B, K) of images, or of a pair of images and labels."""
        images = images_of(batch)
        with explained(self, images):
            logits: Tensor = self(images)
        return logits

    def configure_callbacks(self) -> list[Callback]:
        return [IntervalMeans()]

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """Take a step and update the moving average. A later hook could leave a checkpoint between the two."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.update_ema()

    def update_ema(self) -> None:
        if self.average is not None:
            self.average.update_parameters(self.backbone)

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        clip(self, optimizer, self.settings.clip, gradient_clip_val, gradient_clip_algorithm)

    def configure_optimizers(self) -> Any:
        run = self.settings
        return configure(
            self.backbone,
            learning_rate=self.hparams["learning_rate"],
            weight_decay=run.weight_decay,
            steps=horizon(self, self.steps),
            warmup=run.warmup,
            layer_decay=run.layer_decay,
            optimizer=run.optimizer,
        )

    def diagnostics(self) -> dict[str, float | bool]:
        """Return nothing, since the evaluation measures everything."""
        return {}

    def is_untrained(self, loss: float, images: Tensor, labels: Labels | None = None) -> bool:
        """Return whether the loss is near that of predicting the classes' shares for every image."""
        if labels is None:
            raise ValueError("a classifier learns from labels, so its chance level needs them")
        classes = int(labels.max()) + 1
        level = chance.level_of_classes(labels, classes, label_smoothing=self.settings.label_smoothing)
        return chance.is_near(loss, level)

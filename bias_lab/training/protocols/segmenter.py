"""Fine-tuning on masks: every weight of a backbone and its head learns the class of each pixel by cross-entropy."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Self, Unpack

from lightning.pytorch import Callback, LightningModule
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from bias_lab.backbones.heads import interface as heads
from bias_lab.catalogue import Sides
from bias_lab.definition import Run, steps
from bias_lab.errors import UserError
from bias_lab.training.modules import fields as keywords
from bias_lab.training.modules.build import FOLDER, backbone_of, from_run
from bias_lab.training.modules.fields import Training
from bias_lab.training.modules.steps import IntervalMeans, clip, explained, horizon, images_of, log_loss
from bias_lab.training.optimizer import configure, moving_average
from bias_lab.training.tasks.mask_scores import VOID, BoundaryF1, cross_entropy, dice_loss

LEARNING_RATE = 1e-3  # where neither a keyword nor a run gives one


class Segmenter(LightningModule):
    """Trains a backbone and a head by cross-entropy of their logits (B, K, H, W) on images (B, C, H, W).

    backbone: a name of the lab's or of timm's, or `package.module:factory`, made for `channels` and `image_size`, a
        side or (height, width) in pixels. A model that gives logits (B, K, H, W) is taken as it is. To another one,
        with `forward_intermediates`, give a head.
    head: a name of `catalogue.HEADS`, or empty for the backbone's own. classes: K, 2 to 255, without void.
    steps: of the schedule, by default `samples_seen` in batches if that is given, else those of the Trainer.
    dice: weight of the Dice loss, which is added to the cross-entropy. fields: training fields of `Run`.

    Masks are (B, H, W), and a pixel of 255 is void, which counts nowhere. `forward` and `predict_step` return the
    logits of the moving average if there is one (`ema`). It logs `train/loss`, `val/loss`, `val/miou`, `test/loss`,
    `test/miou`, `test/pixel_accuracy` and `test/boundary_f1`.

    >>> import torch
    >>> model = Segmenter("vit_micro", head="linear", classes=5, channels=3, image_size=(24, 32), patch=4)
    >>> model(torch.zeros(2, 3, 24, 32)).shape
    torch.Size([2, 5, 24, 32])
    """

    def __init__(
        self,
        backbone: str | nn.Module,
        *,
        head: str = "",
        classes: int,
        channels: int = 3,
        image_size: Sides = 224,
        steps: int | None = None,
        dice: float = 0.0,
        **fields: Unpack[Training],
    ) -> None:
        super().__init__()
        if not 2 <= classes <= VOID:
            raise UserError(f"{classes} classes can't be told apart in masks", remedy=f"give 2 to {VOID}, without void")
        keywords.asked({"backbone": backbone})
        by_name = isinstance(backbone, str)
        self.save_hyperparameters(ignore=() if by_name else ("backbone",))
        run = replace(keywords.run_of(fields, backbone=backbone if isinstance(backbone, str) else ""), head=head)
        keywords.complete(self, run, LEARNING_RATE, {"backbone": backbone})
        self.settings, self.classes, self.dice = run, classes, dice
        model = backbone_of(backbone, run, classes=None, channels=channels, image_size=image_size)
        if by_name or (head and not isinstance(model, heads.DenseModel)):
            shape: dict[str, Any] = dict(classes=classes, channels=channels, image_size=image_size)
            name = run.backbone if by_name else f"{type(model).__module__}:{type(model).__name__}"
            model = heads.dense(model, name, head=head, **shape)
        self.backbone = model
        self.steps = keywords.steps_of(steps, fields, run)
        self.average = moving_average(self.backbone, run.ema) if run.ema else None
        self.val_miou = MulticlassJaccardIndex(classes, ignore_index=VOID)
        self.test_miou = MulticlassJaccardIndex(classes, ignore_index=VOID)
        self.test_pixels = MulticlassAccuracy(classes, average="micro", ignore_index=VOID)
        self.test_boundaries = BoundaryF1(classes)

    @classmethod
    def from_run(
        cls, run: Run, backbone: nn.Module | None = None, *, classes: int | None = None, folder: str | Path = FOLDER
    ) -> Self:
        """Return the module that a run describes.

        backbone: with its head and starting weights. None makes the one that a sweep begins with. classes: of the
        backbone. folder: see `modules.build.from_run`. Raises UserError if the run has no learning rate.
        """
        if run.learning_rate is None:
            raise UserError("the run has no learning rate yet", remedy="give learning_rate, or use bl.run(run)")
        if backbone is None or classes is None:
            return from_run(cls, run, folder)
        return cls(backbone, head=run.head, classes=classes, steps=steps(run), **keywords.training_fields(run))

    @property
    def trained(self) -> nn.Module:
        """The model that is evaluated: the moving average if there is one, else the model with its last weights."""
        return self.backbone if self.average is None else self.average.module

    @property
    def encoder(self) -> nn.Module:
        return self.trained

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.trained(images)
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, masks = batch
        with explained(self, images):
            logits = self.backbone(images)
        check(logits, masks, self.classes)
        loss = cross_entropy(logits, masks.long(), smoothing=self.settings.label_smoothing)
        return loss + self.dice * dice_loss(logits, masks) if self.dice else loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        predicted, masks = self._evaluate(batch, "val")
        self.val_miou.update(predicted, masks)
        self.log("val/miou", self.val_miou, prog_bar=True, on_step=False, on_epoch=True)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        predicted, masks = self._evaluate(batch, "test")
        for name, metric in (
            ("miou", self.test_miou),
            ("pixel_accuracy", self.test_pixels),
            ("boundary_f1", self.test_boundaries),
        ):
            metric.update(predicted, masks)
            self.log(f"test/{name}", metric, on_step=False, on_epoch=True)

    def _evaluate(self, batch: tuple[Tensor, Tensor], split: str) -> tuple[Tensor, Tensor]:
        """Log the loss of the model that is evaluated, and return predicted and true label maps, each (B, H, W).

        The loss is not smoothed, and has no Dice part.
        """
        images, masks = batch
        with explained(self, images):
            logits = self(images)
        check(logits, masks, self.classes)
        log_loss(self, split, cross_entropy(logits, masks.long()), len(images))
        return logits.argmax(1), masks.long()

    def predict_step(self, batch: Any, batch_idx: int = 0) -> Tensor:
        """Return the logits (B, K, H, W) of images, or of a pair of images and masks."""
        images = images_of(batch)
        with explained(self, images):
            logits: Tensor = self(images)
        return logits

    def configure_callbacks(self) -> list[Callback]:
        return [IntervalMeans()]

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """Take a step and update the moving average. A later hook could leave a checkpoint between the two."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
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


def check(logits: Any, masks: Tensor, classes: int) -> None:
    """Raise UserError unless logits are (B, K, H, W), and masks (B, H, W) hold class numbers below K, or void."""
    shape = tuple(masks.shape)
    if masks.ndim != 3:
        remedy = "masks.squeeze(1) has it" if masks.ndim == 4 and shape[1] == 1 else ""
        raise UserError(
            f"the masks of a batch have the shape {shape}", "(B, H, W) is needed, a class number each", remedy
        )
    if masks.is_floating_point():
        remedy = "read them without ToTensor, which divides by 255"
        raise UserError(f"the masks of a batch are {masks.dtype}", "whole numbers are needed, a class each", remedy)
    if not isinstance(logits, Tensor):
        remedy = "wrap it in a module whose forward returns the logits alone"
        raise UserError(f"the model gives an object of the type {type(logits).__name__}", "logits are needed", remedy)
    what = f"the model gives {tuple(logits.shape)} for masks of the shape {shape}"
    if logits.ndim != 4:
        remedy = "name a head, which turns an encoder's maps into (B, K, H, W): head='linear'"
        raise UserError(what, "logits (B, K, H, W) are needed", remedy)
    if logits.shape[2:] != masks.shape[1:]:
        remedy = "give images and masks one size, or name a head, which resizes its logits: head='linear'"
        raise UserError(what, "height and width must be the same", remedy)
    if logits.shape[1] != classes:
        raise UserError(f"{what}, and classes is {classes}", remedy=f"give classes={logits.shape[1]}")
    if (
        masks.is_cpu and (wrong := (masks != VOID) & ((masks < 0) | (masks >= classes))).any()
    ):  # elsewhere it would wait
        remedy = f"classes are 0 to {classes - 1}, and {VOID} is void; give classes="
        raise UserError(f"a mask holds {masks[wrong][0].item()}, and the model has {classes} classes", remedy)

"""The parts of a training, validation and prediction step that all modules share, as functions and one callback."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins import Precision
from lightning.pytorch.utilities import GradClipAlgorithmType
from torch import Tensor, nn
from torch.optim import Optimizer

from bias_lab.errors import UserError
from bias_lab.training.modules.fields import OBJECT

STEPS = 1_500  # of a schedule, where neither the module nor a Trainer sets it


def horizon(module: LightningModule, steps: int | None) -> int:
    """Return the number of steps of a module's schedule: its own, else those of the Trainer, else STEPS.

    Raises UserError for a Trainer without an end.
    """
    if steps is not None:
        return steps
    if getattr(module, "_trainer", None) is None:  # `module.trainer` raises without one
        return STEPS
    planned = module.trainer.estimated_stepping_batches
    if not math.isfinite(planned):
        raise UserError("the Trainer has no end, so the schedule has none", remedy="give Trainer(max_steps=…)")
    return int(planned)


def images_of(batch: Any) -> Tensor:
    """Return the images (B, C, H, W) of a batch, which may be a pair of images and labels."""
    images: Tensor = batch[0] if isinstance(batch, tuple | list) else batch
    return images


@contextlib.contextmanager
def drawn_alike(batch_idx: int) -> Iterator[None]:
    """Draw the masks and crops of a batch alike in every evaluation, and leave the global generator as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(batch_idx)
        yield


def log_loss(module: LightningModule, split: str, loss: Tensor, images: int) -> None:
    """Log the mean loss of an evaluation, over its images, as `val/loss` or `test/loss`."""
    module.log(f"{split}/loss", loss, on_step=False, on_epoch=True, prog_bar=split == "val", batch_size=images)


def clip(
    module: LightningModule, optimizer: Optimizer, norm: float, given: float | None, algorithm: str | None
) -> None:
    """Clip gradients as the Trainer says or, if it says nothing, to the module's own norm, where 0 means not at all.

    Lightning refuses to clip for a fused optimizer under bf16, whose gradients are not scaled. They are clipped here as
    in fp32.
    """
    plugin = module.trainer.precision_plugin
    if getattr(plugin, "scaler", None) is not None:  # fp16: Lightning knows whether its gradients can be clipped
        module.clip_gradients(optimizer, gradient_clip_val=given, gradient_clip_algorithm=algorithm)
        return
    how = GradClipAlgorithmType(algorithm or "norm")
    Precision.clip_gradients(plugin, optimizer, norm if given is None else float(given), how)


class IntervalMeans(Callback):
    """Logs `train/loss` by the module's `log`: its mean over each interval of the Trainer, and over each epoch.

    `log` at each step would cost 1-2 ms, more than the optimizer of a small model. A list of tensors costs nothing.
    `Trainer(log_every_n_steps=0)` logs nothing, which a sweep uses, since it writes rows of its own.
    """

    def __init__(self) -> None:
        self.interval: list[Tensor] = []
        self.epoch: list[Tensor] = []

    def on_train_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        self.interval, self.epoch = [], []

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        every: int = getattr(trainer, "log_every_n_steps", 0)  # Lightning sets it, undeclared
        if not every:
            return
        self.interval.append(outputs["loss"].detach())
        if trainer.global_step % every == 0:
            module.log("train/loss", self._interval_mean(), prog_bar=True, on_step=True, on_epoch=False, batch_size=1)

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        if self.interval:
            self._interval_mean()
        if self.epoch:
            module.log("train/loss", torch.cat(self.epoch).mean(), batch_size=1)

    def _interval_mean(self) -> Tensor:
        losses = torch.stack(self.interval)
        self.epoch.append(losses)
        self.interval = []
        return losses.mean()


@torch.no_grad()
def features(backbone: Any, images: Tensor) -> Tensor:
    """Return the classifier's input (B, D) of a backbone with timm's interface, else its output."""
    if not hasattr(backbone, "forward_head"):
        return backbone(images)  # type: ignore[no-any-return]
    return backbone.forward_head(backbone.forward_features(images), pre_logits=True)  # type: ignore[no-any-return]


@contextlib.contextmanager
def explained(module: LightningModule, images: Tensor, target: Tensor | None = None) -> Iterator[None]:
    """Turn torch's error on images or classes that do not fit the model into a UserError that says what to change.

    images: (B, C, H, W). target: (B,) classes, or None. Masks (B, H, W) are named as such. An error of another cause
    stays as it is.
    """
    try:
        yield
    except (RuntimeError, IndexError) as error:
        channels, classes = module.hparams.get("channels"), module.hparams.get("classes")
        named = module.hparams.get("backbone")
        by_name = isinstance(named, str) and not named.startswith(OBJECT)
        if by_name and channels and images.ndim == 4 and images.shape[1] != channels:
            what = f"images of {images.shape[1]} channels don't fit a model for {channels}"
            raise UserError(what, remedy=f"give channels={images.shape[1]}") from error
        if target is not None and target.ndim == 3:
            what = f"the labels of a batch have the shape {tuple(target.shape)}, a class for each pixel"
            raise UserError(what, remedy="train them with bl.Segmenter") from error
        if by_name and classes and target is not None and target.ndim == 1 and int(target.max()) >= classes:
            what = f"the label {int(target.max())} doesn't fit a model for {classes} classes"
            raise UserError(what, f"labels are 0 to {classes - 1}", "give classes=, the number of classes") from error
        raise


Loss = Callable[[Tensor, Tensor], Tensor]
Backbone = str | nn.Module

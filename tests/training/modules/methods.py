"""Methods of a user: a loss, a module for labelled images, a pretraining, and some that can't be used."""

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from bias_lab.definition import Run
from bias_lab.training.protocols.finetune import Classifier
from bias_lab.training.regimes.simmim import SimMIM


def doubled(logits: Tensor, target: Tensor) -> Tensor:
    return 2 * F.cross_entropy(logits, target)


class Mine(LightningModule):
    """A module from scratch, which trains the backbone by plain SGD."""

    def __init__(self, backbone: nn.Module, rate: float) -> None:
        super().__init__()
        self.encoder, self.rate = backbone, rate

    @classmethod
    def from_run(cls, run: Run, backbone: nn.Module) -> "Mine":
        return cls(backbone, run.learning_rate or 0.1)

    @property
    def trained(self) -> nn.Module:
        return self.encoder

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        loss = F.cross_entropy(self.encoder(images), labels)
        self.log("mine/loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), self.rate)


class Confident(Classifier):
    """The lab's classifier with another training step."""

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx) / 2


class Halved(SimMIM):
    """A pretraining of one's own."""

    def training_step(self, batch: Tensor, batch_idx: int = 0) -> Tensor:
        return super().training_step(batch, batch_idx) / 2


class Bare(LightningModule):
    """A module that the lab can't make."""


class Partless:
    @classmethod
    def from_run(cls, run: Run, backbone: nn.Module) -> "Partless":
        return cls()


class Broken(Classifier):
    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        raise ZeroDivisionError("a mistake of the user")

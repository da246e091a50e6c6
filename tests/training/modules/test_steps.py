"""What the modules share: the schedule's steps, the batch's images, clipping, and the means of the training loss."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn

from bias_lab.errors import UserError
from bias_lab.training.modules.steps import STEPS, IntervalMeans, clip, features, horizon, images_of


class Line(LightningModule):
    """A module whose loss at step k is k, and whose gradient has the norm 10."""

    def __init__(self, norm: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.norm, self.taken = norm, 0
        self.moved: list[float] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.taken += 1
        return 10 * (self.weight - self.weight.detach()) + self.taken

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        clip(self, optimizer, self.norm, gradient_clip_val, gradient_clip_algorithm)

    def on_before_zero_grad(self, optimizer: Any) -> None:
        self.moved.append(self.weight.item())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 1.0)

    def configure_callbacks(self) -> list[Any]:
        return [IntervalMeans()]


class Six:
    """Six batches."""

    def __len__(self) -> int:
        return 6

    def __iter__(self) -> Iterator[Tensor]:
        return iter([torch.zeros(1)] * 6)


def fitted(folder: Path, module: Line, **options: Any) -> Trainer:
    quiet = dict(enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, accelerator="cpu")
    trainer = Trainer(**(quiet | dict(logger=False, max_epochs=1, default_root_dir=folder) | options))
    trainer.fit(module, Six())
    return trainer


def test_the_loss_is_logged_by_interval_and_by_epoch(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="", version="")
    trainer = fitted(tmp_path, Line(), logger=logger, log_every_n_steps=4)
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    values = [dict(zip(lines[0].split(","), line.split(","), strict=True)) for line in lines[1:]]
    assert [float(row["train/loss"]) for row in values] == [2.5, 3.5]  # of steps 1-4, and of all six
    assert float(trainer.callback_metrics["train/loss"]) == 3.5


def test_an_interval_of_zero_logs_nothing(tmp_path: Path) -> None:
    assert fitted(tmp_path, Line(), log_every_n_steps=0).callback_metrics == {}


@pytest.mark.parametrize(("own", "given", "step"), [(0.0, None, 10), (2.0, None, 2), (2.0, 3.0, 3)])
def test_the_trainer_s_clip_comes_before_the_module_s(tmp_path: Path, own: float, given: Any, step: float) -> None:
    module = Line(own)
    fitted(tmp_path, module, gradient_clip_val=given, max_steps=1)
    assert module.weight.item() == pytest.approx(-step, rel=1e-4)


def test_the_horizon_is_given_or_the_trainer_s(tmp_path: Path) -> None:
    module = Line()
    assert (horizon(module, 7), horizon(module, None)) == (7, STEPS)
    fitted(tmp_path, module, max_epochs=2)
    assert horizon(module, None) == 12


def test_a_trainer_without_an_end_is_refused(tmp_path: Path) -> None:
    class Endless(Line):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            horizon(self, None)
            return super().configure_optimizers()

    with pytest.raises(UserError, match="give Trainer"):
        fitted(tmp_path, Endless(), max_epochs=-1)


def test_images_are_taken_from_pairs() -> None:
    images = torch.zeros(2, 1, 3, 3)
    assert images_of((images, torch.zeros(2))) is images
    assert images_of([images, 1]) is images_of(images)


def test_features_are_the_output_of_a_model_without_timm_s_interface() -> None:
    assert features(nn.Flatten(), torch.zeros(2, 1, 3, 3)).shape == (2, 9)

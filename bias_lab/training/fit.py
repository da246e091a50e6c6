"""Training to the last step, from a checkpoint if an interrupted attempt left one, watched on the hold-out."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.plugins import MixedPrecision, Precision
from lightning.pytorch.utilities import GradClipAlgorithmType
from numpy.typing import NDArray
from torch.optim import Optimizer

from bias_lab import ledger
from bias_lab.data import batches
from bias_lab.definition import steps
from bias_lab.training import recording
from bias_lab.training.classification import logits_of
from bias_lab.training.job import Job, trains
from bias_lab.training.randomness import StepSeeds
from bias_lab.training.regimes import pretraining


def fit(job: Job, here: Path, wandb: Logger | None) -> list[dict[str, float]]:
    """Train to the last step, from a checkpoint if an attempt left one; returns the rows of metrics."""
    run, path = job.run, here / ledger.CHECKPOINT
    if not trains(run):
        job.module.to(job.device)
        job.module.learn(job.eval_loader(*job.labelled()))
        job.module.to(job.device)  # the probe was fitted on the CPU
        return []
    checkpoint = recording.read_checkpoint(path)
    first = 0 if checkpoint is None else int(checkpoint["global_step"])
    if checkpoint is None:
        (here / ledger.METRICS).unlink(missing_ok=True)  # rows of an attempt that is begun anew
    rows = recording.JsonLines(here / ledger.METRICS)
    loggers: list[Logger] = [rows] if wandb is None else [rows, wandb]
    trainer = Trainer(
        accelerator="gpu" if job.device.type == "cuda" else "cpu",
        devices=[job.device.index or 0] if job.device.type == "cuda" else 1,
        max_steps=steps(run),
        max_epochs=1,  # one endless epoch: batches are keyed by the global step
        gradient_clip_val=run.clip or None,
        logger=loggers,
        callbacks=[StepSeeds(run.seed), recording.Intervals(steps(run)), *monitors(job), recording.Checkpoints(path)],
        plugins=[recording.CheckedCheckpointIO(), Bf16(job.device.type) if run.precision == "bf16" else Precision()],
        log_every_n_steps=1,  # nothing goes through `self.log`; a larger value only makes Lightning warn of short runs
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    resume = None if checkpoint is None else path
    trainer.fit(job.module, train_dataloaders=FromStep(loader_of(job, first)), ckpt_path=resume, weights_only=False)
    job.module.to(job.device)
    if trainer.global_step != steps(run):
        raise RuntimeError(f"stopped at step {trainer.global_step} of {steps(run)}")
    return rows.rows()


class Bf16(MixedPrecision):
    """Autocast to bf16. Its gradients are not scaled, so that even a fused optimizer's may be clipped as they are."""

    def __init__(self, device: str) -> None:
        super().__init__("bf16-mixed", device)

    def clip_gradients(
        self,
        optimizer: Optimizer,
        clip_val: float = 0.0,
        gradient_clip_algorithm: GradClipAlgorithmType = GradClipAlgorithmType.NORM,
    ) -> None:
        Precision.clip_gradients(self, optimizer, clip_val, gradient_clip_algorithm)


class FromStep:
    """Batches that begin where a checkpoint ended.

    Lightning replays a resumed iterable from its start; these are keyed by the global step and were told their first
    one, so there is no state to carry. The two empty methods are how Lightning asks.
    """

    def __init__(self, made: Iterable[Any]) -> None:
        self.made = made

    def __iter__(self) -> Iterator[Any]:
        return iter(self.made)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        return None


def loader_of(job: Job, first_step: int) -> Iterable[Any]:
    """Batches from a step on: labelled ones of the subset, or, for a pretraining, images alone."""
    run = job.run
    chosen, labels = job.labelled() if job.source is None else (job.source.images, job.source.labels)
    return batches.Batches(
        chosen,
        labels,
        run,
        classes=job.classes,
        mean=job.mean,
        std=job.std,
        steps=steps(run),
        first_step=first_step,
        device=job.device,
    )


def monitors(job: Job) -> list[Callback]:
    """The hold-out's accuracy over the run, where the run asks for it and its subset leaves a hold-out.

    A pretraining has its neighbours' vote there at its end, and as often before as it asks for.
    """
    run = job.run
    if run.task == "pretrain":
        every = max(1, steps(run) // max(1, run.monitor))
        return [pretraining.Neighbours(run, job.images, every=every, device=job.device)]
    if not run.monitor or (job.images.holdout is None and job.selection.holdout is None):
        return []
    images, labels = job.holdout()
    return [
        recording.Monitor(lambda module: top1(job, module, images, labels), every=max(1, steps(run) // run.monitor))
    ]


def top1(job: Job, module: Any, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> float:
    logits, labels_ = logits_of(module.trained, job.eval_loader(images, labels))
    return (logits.argmax(1) == labels_).double().mean().item()

"""Train a run to its last step, from a checkpoint if an interrupted attempt left one."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.plugins import MixedPrecision, Precision
from lightning.pytorch.utilities import GradClipAlgorithmType
from torch.optim import Optimizer

from bias_lab import ledger
from bias_lab.data import batches
from bias_lab.definition import steps, trains
from bias_lab.training import checkpoints, recording
from bias_lab.training.job import Job, Probe, Rows
from bias_lab.training.modules.datamodule import DataModule


def fit(job: Job, folder: Path, wandb: Logger | None, watch: checkpoints.Stopwatch) -> Rows:
    """Train to the last step and return the rows of metrics.

    folder: the attempt's. watch: goes on where that of an interrupted attempt was at its last checkpoint.
    """
    if not trains(job.run):
        fit_probe(job)
        return []
    module = cast(LightningModule, job.method)
    run, total, path = job.run, steps(job.run), folder / ledger.CHECKPOINT
    if not total:  # a zero-step pretraining, whose weights are those that it began with
        job.method.to(job.device)
        return []
    checkpoint = checkpoints.read(path)
    if checkpoint is None:
        (folder / ledger.METRICS).unlink(missing_ok=True)  # rows of an attempt that is begun anew
    rows = recording.JsonLines(folder / ledger.METRICS)
    loggers: list[Logger] = [rows] if wandb is None else [rows, wandb]
    measuring = [recording.Intervals(total), *job.task.callbacks(job, steps=total)]
    trainer = Trainer(
        accelerator="gpu" if job.device.type == "cuda" else "cpu",
        devices=[job.device.index or 0] if job.device.type == "cuda" else 1,
        max_steps=total,
        max_epochs=1,  # one endless epoch, since batches are keyed by the global step
        gradient_clip_val=(run.clip or None) if module.automatic_optimization else None,
        logger=loggers,
        callbacks=[*measuring, watch, checkpoints.Checkpoints(path)],
        plugins=[checkpoints.CheckedCheckpointIO(), Bf16(job.device.type) if run.precision == "bf16" else Precision()],
        log_every_n_steps=0,  # nothing goes through `self.log`, since `Intervals` writes the rows
        limit_val_batches=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    resume = None if checkpoint is None else path
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "You passed in a `val_dataloader`")  # an own method may have no use for it
        trainer.fit(module, datamodule=DataModule.of_job(job), ckpt_path=resume, weights_only=False)
    job.method.to(job.device)
    if trainer.global_step != total:
        raise RuntimeError(f"stopped at step {trainer.global_step} of {total}")
    return rows.rows()


def fit_probe(job: Job) -> None:
    """Fit a probe on the labelled images, un-augmented."""
    probe = cast(Probe, job.method)
    probe.to(job.device)
    probe.learn(job.eval_loader(job.examples.images, job.examples.labels), classes=job.classes)
    probe.to(job.device)  # what it learnt lies on the CPU


class Bf16(MixedPrecision):
    """Autocasts to bf16. Its gradients are not scaled, so even a fused optimizer's may be clipped as they are."""

    def __init__(self, device: str) -> None:
        super().__init__("bf16-mixed", device)

    def clip_gradients(
        self,
        optimizer: Optimizer,
        clip_val: float = 0.0,
        gradient_clip_algorithm: GradClipAlgorithmType = GradClipAlgorithmType.NORM,
    ) -> None:
        """Clip as in fp32."""
        Precision.clip_gradients(self, optimizer, clip_val, gradient_clip_algorithm)


def loader_of(job: Job) -> Iterable[Any]:
    """Return the training batches of a run, of images and labels or of images alone."""
    return batches.Batches(
        job.examples.images,
        job.examples.labels,
        job.run,
        classes=job.classes,
        mean=job.mean,
        std=job.std,
        steps=steps(job.run),
        device=job.device,
    )

"""Train a run to its last step, from a checkpoint if an interrupted attempt left one."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.plugins import MixedPrecision, Precision
from lightning.pytorch.utilities import GradClipAlgorithmType
from torch.optim import Optimizer

from bias_lab import ledger
from bias_lab.data import batches
from bias_lab.definition import steps
from bias_lab.training import checkpoints, recording
from bias_lab.training.job import Job, Probe, Rows, trains
from bias_lab.training.randomness import StepSeeds


def fit(job: Job, folder: Path, wandb: Logger | None) -> Rows:
    """Train to the last step and return the rows of metrics. folder: the attempt's."""
    if not trains(job.run):
        fit_probe(job)
        return []
    run, total, path = job.run, steps(job.run), folder / ledger.CHECKPOINT
    if not total:  # a zero-step pretraining, whose weights are those that it began with
        job.method.to(job.device)
        return []
    checkpoint = checkpoints.read(path)
    first = 0 if checkpoint is None else int(checkpoint["global_step"])
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
        gradient_clip_val=run.clip or None,
        logger=loggers,
        callbacks=[StepSeeds(run.seed), *measuring, checkpoints.Checkpoints(path)],
        plugins=[checkpoints.CheckedCheckpointIO(), Bf16(job.device.type) if run.precision == "bf16" else Precision()],
        log_every_n_steps=1,  # nothing goes through `self.log`, and Lightning warns of short runs for a larger value
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    resume = None if checkpoint is None else path
    module = cast(LightningModule, job.method)
    trainer.fit(module, train_dataloaders=FromStep(loader_of(job, first)), ckpt_path=resume, weights_only=False)
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


class FromStep:
    """Batches that begin where a checkpoint ended.

    Lightning replays a resumed iterable from its start, unless it has these two methods. They carry no state, since the
    batches are keyed by the global step and know their first one.
    """

    def __init__(self, loader: Iterable[Any]) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[Any]:
        return iter(self.loader)

    def state_dict(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take nothing."""


def loader_of(job: Job, first_step: int) -> Iterable[Any]:
    """Return training batches from a step on, of images and labels or of images alone."""
    return batches.Batches(
        job.examples.images,
        job.examples.labels,
        job.run,
        classes=job.classes,
        mean=job.mean,
        std=job.std,
        steps=steps(job.run),
        first_step=first_step,
        device=job.device,
    )

"""What a run leaves while it trains: `metrics.jsonl`, its log, W&B, and checkpoints that a kill can't spoil."""

import base64
import contextlib
import hashlib
import io
import json
import logging
import math
import netrc
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import Logger

from bias_lab import catalogue, ledger
from bias_lab.definition import Run, Settings, run_id
from bias_lab.errors import Diverged

ROWS = 20  # rows of metrics a run
CHECKPOINT_SECONDS = 30.0


class JsonLines(Logger):
    """Append-only rows, one JSON object a line with its step and no clock time.

    On opening, a torn last line (a kill while it was written) goes, and rows of steps that are there already are not
    written again, so that an interrupted run leaves the file of an uninterrupted one.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.written: set[tuple[int, str]] = set()
        if path.is_file():
            data = path.read_bytes()
            whole = data[: data.rfind(b"\n") + 1]
            if whole != data:
                ledger.write_bytes(path, whole)
            self.written = {_row_key(json.loads(line)) for line in whole.splitlines()}

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""

    @property
    def experiment(self) -> None:
        return None

    def log_hyperparams(
        self, params: Any, *args: Any, **kwargs: Any
    ) -> None:  # Lightning's signature; run.json has them
        return None

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        row = {"step": step, **metrics}
        if step is None or _row_key(row) in self.written:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, sort_keys=True) + "\n")
        self.written.add(_row_key(row))

    def rows(self) -> list[dict[str, float]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.is_file() else []


def _row_key(row: Mapping[str, Any]) -> tuple[int, str]:
    """Which row it is: its step and what it tells (the training loss and the hold-out are rows of their own)."""
    return int(row["step"]), ",".join(sorted(row))


class Intervals(Callback):
    """Means of what `training_step` returns, logged about 20 times a run, and the check that the loss is a number.

    `self.log` at each step would cost 1-2 ms, more than the optimizer; a list of tensors costs nothing.
    """

    def __init__(self, steps: int) -> None:
        self.every = max(1, steps // ROWS)
        self.seen: dict[str, list[float]] = {}
        self.pending: list[dict[str, torch.Tensor]] = []

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.pending.append(
            {name: value.detach() for name, value in outputs.items() if isinstance(value, torch.Tensor)}
        )
        step = trainer.global_step
        if step % self.every == 0 or step == trainer.max_steps:
            self._drain(step)
            row = {f"train/{name}": math.fsum(values) / len(values) for name, values in self.seen.items()}
            row["lr"] = trainer.optimizers[0].param_groups[0]["lr"]
            self.seen = {}
            log_row(trainer, row)

    def _drain(self, step: int) -> None:
        """Read the pending tensors (on a GPU: the one wait of the interval)."""
        first = step - len(self.pending) + 1
        for offset, values in enumerate(self.pending):
            for name, tensor in values.items():
                value = float(tensor)
                if name == "loss" and not math.isfinite(value):
                    raise Diverged(f"the loss became {value} at step {first + offset}")
                self.seen.setdefault(name, []).append(value)
        self.pending = []

    def on_save_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._drain(trainer.global_step)
        checkpoint["bias_lab_intervals"] = self.seen

    def on_load_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.seen = checkpoint["bias_lab_intervals"]


def log_row(trainer: Trainer, row: Mapping[str, float]) -> None:
    """One row, at the trainer's step, to every logger of the run."""
    for logger in trainer.loggers:
        logger.log_metrics(dict(row), step=trainer.global_step)


class Monitor(Callback):
    """The hold-out's top-1 at intervals, logged as `holdout/top1`. It chooses nothing: the last weights count."""

    def __init__(self, measure: Callable[[LightningModule], float], *, every: int) -> None:
        self.measure, self.every = measure, every

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % self.every == 0 or trainer.global_step == trainer.max_steps:
            log_row(trainer, {"holdout/top1": self.measure(module)})


class Checkpoints(Callback):
    """Saves to one path every half minute, so that a kill costs no more; when it saves changes no result."""

    def __init__(self, path: Path, *, seconds: float = CHECKPOINT_SECONDS) -> None:
        self.path, self.seconds = path, seconds
        self.saved = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step < trainer.max_steps and time.monotonic() - self.saved >= self.seconds:
            trainer.save_checkpoint(self.path)
            self.saved = time.monotonic()


class CheckedCheckpointIO(CheckpointIO):
    """Checkpoints that are whole or not there: a BLAKE2b digest before the content, atomic replace, the last one kept.

    Lightning's own writes through the system's temporary folder; across file systems a kill leaves a 0-byte target.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        data = buffer.getvalue()
        path = Path(path)
        with ledger.replacing(path) as temporary:
            temporary.write_bytes(hashlib.blake2b(data, digest_size=32).digest() + data)
            if path.is_file():
                path.replace(previous(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        checkpoint = read_checkpoint(Path(path))
        if checkpoint is None:
            raise FileNotFoundError(f"no whole checkpoint at {path}")
        return checkpoint

    def remove_checkpoint(self, path: Any) -> None:
        for file in (Path(path), previous(Path(path))):
            file.unlink(missing_ok=True)


def previous(path: Path) -> Path:
    return path.with_name(f"previous.{path.name}")


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """The checkpoint at the path, else the one before it, else None; a damaged one is never trusted."""
    for file in (path, previous(path)):
        if not file.is_file():
            continue
        data = file.read_bytes()
        if hashlib.blake2b(data[32:], digest_size=32).digest() == data[:32]:
            checkpoint: dict[str, Any] = torch.load(io.BytesIO(data[32:]), map_location="cpu", weights_only=False)
            return checkpoint
        logging.getLogger(__name__).warning("%s is damaged and was passed over", file.name)
    return None


@contextlib.contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Python's logging and warnings go to the run's log while it is at work."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
        root.setLevel(level)
        handler.close()


def wandb_mode() -> str:
    """online only when the user is logged in (a key in the environment or in netrc) and has not said otherwise."""
    said = os.environ.get("WANDB_MODE", "")
    if said:
        return said
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    try:
        hosts = netrc.netrc().hosts
    except (FileNotFoundError, netrc.NetrcParseError):
        return "offline"
    return "online" if any("wandb" in host for host in hosts) else "offline"


@contextlib.contextmanager
def tracked(run: Run, folder: Path, settings: Settings) -> Iterator[WandbLogger | None]:
    """The run's W&B logger, None where W&B is off; ended with the run, as failed where something was raised.

    A warm worker's next run must find none open: Lightning would go on writing into it. W&B is a copy: where it can't
    be begun or ended, that is logged, the run goes on, and what the run itself raises keeps its name.
    """
    logger = opened = None
    with copied("is off for this run"):
        logger = wandb_logger(run, folder, settings)
        opened = None if logger is None else logger.experiment  # also for a run that takes no steps and logs nothing
    try:
        yield logger if opened is not None else None
    except BaseException as error:
        if opened is not None:
            with copied("was not told how the run failed"):
                opened.summary.update({"status": "failed", "reason": f"{type(error).__name__}: {error}"})
            with copied("could not end the run"):
                opened.finish(exit_code=1)
        raise
    if opened is not None:
        with copied("could not end the run"):
            opened.finish()


@contextlib.contextmanager
def copied(what: str) -> Iterator[None]:
    """W&B is a copy that `bias-lab wandb-sync` can make again: what goes wrong within is logged, and no run fails."""
    try:
        yield
    except Exception:
        logging.getLogger(__name__).exception("W&B %s; bias-lab wandb-sync can tell it later", what)


def conclude(logger: WandbLogger | None, result: Mapping[str, Any], here: Path) -> None:
    """Write what a finished run came to into its W&B summary: metrics, with what their intervals are made of; pictures.

    result: as it stands in `result.json`. The keys are those of `bias_lab.tracking.export`, which exports the same run
    from the ledger. W&B is a copy: what goes wrong here is logged, and the run stands.
    """
    if logger is None:
        return
    with copied("was not told how the run ended"):
        _conclude(logger.experiment, result, here)


def _conclude(run: Any, result: Mapping[str, Any], here: Path) -> None:
    import wandb

    metrics, facts = result["metrics"], result["facts"]
    known = {name: facts[name] for name in _FACTS if facts.get(name) is not None}
    run.config.update({**known, "device": result["device"], "commit": result["commit"]}, allow_val_change=True)
    shown: dict[str, Any] = {f"pictures/{path.stem}": wandb.Image(str(path)) for path in sorted(here.glob("*.png"))}
    if metrics.get("per_class"):
        pairs: list[Any] = [list(pair) for pair in zip(facts["class_names"], metrics["per_class"], strict=True)]
        shown["per_class"] = wandb.Table(columns=["class", "accuracy"], data=pairs)
    if shown:
        run.log(shown)
    told: dict[str, Any] = {name: value for name, value in metrics.items() if isinstance(value, (int, float))}
    told |= {name: result[name] for name in ("steps", "samples_seen", "seconds", "attempts")}
    if (here / ledger.PREDICTIONS).is_file():
        told["correct"] = _correct(here / ledger.PREDICTIONS)
    run.summary.update({**told, "status": "finished"})


_FACTS = ("parameters", "flops", "image_size", "classes", "test_images", "dataset_fingerprint")


def _correct(path: Path) -> str:
    """Which test images were right, one bit each in index order, as base64: what two runs are compared by."""
    import numpy as np
    import pyarrow.parquet as pq

    read = pq.read_table(path, columns=["index", "label", "predicted"], use_threads=False)
    index, label, predicted = (read.column(name).to_numpy() for name in ("index", "label", "predicted"))
    return base64.b64encode(np.packbits((label == predicted)[np.argsort(index)]).tobytes()).decode()


def wandb_logger(run: Run, folder: Path, settings: Settings) -> WandbLogger | None:
    """The run's W&B logger: group = experiment, id = run_id, config = the run; never a prompt and never a long wait."""
    mode = wandb_mode()
    if not settings.wandb or mode == "disabled":
        return None
    import wandb  # an import of seconds, spared where W&B is off

    named = {"architecture": catalogue.architecture(run.backbone), "family": catalogue.family(run.backbone)}
    return WandbLogger(
        id=run_id(run),
        name=f"{run.backbone} {run.regime} N={run.size} draw {run.draw}",
        project=os.environ.get("WANDB_PROJECT", "bias_lab"),
        group=settings.experiment or None,
        job_type=job_type(run),
        save_dir=folder,
        offline=mode != "online",
        config={**asdict(run), **named, "experiment": settings.experiment},
        settings=wandb.Settings(
            silent=True,
            console="off",
            init_timeout=20,
            login_timeout=10,
            x_disable_stats=True,
            disable_git=True,
            disable_code=True,
            save_code=False,
        ),
    )


def job_type(run: Run) -> str:
    """`pretrain`, `tune`, `finetune`, or `probe` for what leaves the backbone as it is."""
    if run.task != "classify":
        return run.task
    return "finetune" if run.protocol == "finetune" else "probe"

"""What a run leaves while it trains: `metrics.jsonl`, its log, and checkpoints that a kill can't spoil."""

import contextlib
import hashlib
import io
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers.logger import Logger

from bias_lab import ledger
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

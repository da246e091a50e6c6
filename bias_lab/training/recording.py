"""Record a run while it trains: the rows of `metrics.jsonl`, and its log."""

import contextlib
import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers.logger import Logger

from bias_lab import ledger
from bias_lab.errors import Diverged

ROWS = 20  # rows of metrics a run


class JsonLines(Logger):
    """Appends rows of metrics to a file, one JSON object a line with its step and no clock time.

    On opening it removes a torn last line, and it never writes a row twice. So an interrupted run leaves the file of an
    uninterrupted one.
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

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:  # Lightning's signature
        """Do nothing, since `run.json` holds them."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one row, unless its step has one with the same names."""
        row = {"step": step, **metrics}
        if step is None or _row_key(row) in self.written:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, sort_keys=True) + "\n")
        self.written.add(_row_key(row))

    def rows(self) -> list[dict[str, float]]:
        """Return all rows of the file."""
        return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.is_file() else []


def _row_key(row: Mapping[str, Any]) -> tuple[int, str]:
    """Return the step and the names of a row. The training loss and the hold-out are rows of their own."""
    return int(row["step"]), ",".join(sorted(row))


class Intervals(Callback):
    """Logs the means of what `training_step` returns about 20 times a run, and checks that the loss is finite.

    `self.log` at each step would cost 1-2 ms, more than the optimizer. A list of tensors costs nothing.
    """

    def __init__(self, steps: int) -> None:
        self.every = max(1, steps // ROWS)
        self.values: dict[str, list[float]] = {}
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
            row = {f"train/{name}": math.fsum(values) / len(values) for name, values in self.values.items()}
            row["lr"] = trainer.optimizers[0].param_groups[0]["lr"]
            self.values = {}
            log_row(trainer, row)

    def _drain(self, step: int) -> None:
        """Read the pending tensors, which is the one time an interval waits for a GPU."""
        first = step - len(self.pending) + 1
        for offset, values in enumerate(self.pending):
            for name, tensor in values.items():
                value = float(tensor)
                if name == "loss" and not math.isfinite(value):
                    raise Diverged(f"the loss became {value} at step {first + offset}")
                self.values.setdefault(name, []).append(value)
        self.pending = []

    def on_save_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._drain(trainer.global_step)
        checkpoint["bias_lab_intervals"] = self.values

    def on_load_checkpoint(self, trainer: Trainer, module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.values = checkpoint["bias_lab_intervals"]


class Monitor(Callback):
    """Logs a measurement at intervals under a name. It chooses nothing, since the last weights count."""

    def __init__(self, name: str, measure: Callable[[LightningModule], float], *, every: int) -> None:
        self.name, self.measure, self.every = name, measure, every

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % self.every == 0 or trainer.global_step == trainer.max_steps:
            log_row(trainer, {self.name: self.measure(module)})


def log_row(trainer: Trainer, row: Mapping[str, float]) -> None:
    """Log one row at the trainer's step to every logger of the run."""
    for logger in trainer.loggers:
        logger.log_metrics(dict(row), step=trainer.global_step)


def slope(losses: list[float]) -> float | None:
    """Return the relative change of the training loss over the last quarter of its rows, or None with fewer than 8.

    It is the mean of the last eighth against that of the eighth before. A loss that still falls by a tenth gives -0.1.
    """
    eighth = len(losses) // 8
    if eighth < 1:
        return None
    last = sum(losses[-eighth:]) / eighth
    before = sum(losses[-2 * eighth : -eighth]) / eighth
    return (last - before) / max(abs(before), 1e-12)


@contextlib.contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Send Python's logging and warnings to a run's log."""
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

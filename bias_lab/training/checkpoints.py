"""Save checkpoints that a kill can't spoil, and read the newest whole one."""

import hashlib
import io
import logging
import time
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer

from bias_lab import ledger

SECONDS = 30.0  # between two checkpoints
DIGEST = 32  # bytes of BLAKE2b before the content


class Checkpoints(Callback):
    """Saves to one path every half minute. When it saves changes no result."""

    def __init__(self, path: Path, *, seconds: float = SECONDS) -> None:
        self.path, self.seconds = path, seconds
        self.saved = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step < trainer.max_steps and time.monotonic() - self.saved >= self.seconds:
            trainer.save_checkpoint(self.path)
            self.saved = time.monotonic()


class Stopwatch(Callback):
    """Counts the seconds that a run has taken, with those of interrupted attempts up to their last checkpoint."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.before = 0.0  # seconds of interrupted attempts

    def seconds(self) -> float:
        return self.before + time.perf_counter() - self.began

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.before = float(state_dict["seconds"])


class CheckedCheckpointIO(CheckpointIO):
    """Writes a digest before the content, replaces the file atomically, and keeps the previous checkpoint.

    Lightning's own writes through the system's temporary folder. On another file system a kill leaves a 0-byte target.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        data = buffer.getvalue()
        path = Path(path)
        with ledger.replacing(path) as temporary:
            temporary.write_bytes(hashlib.blake2b(data, digest_size=DIGEST).digest() + data)
            if path.is_file():
                path.replace(previous(path))

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        checkpoint = read(Path(path))
        if checkpoint is None:
            raise FileNotFoundError(f"no whole checkpoint at {path}")
        return checkpoint

    def remove_checkpoint(self, path: Any) -> None:
        for file in (Path(path), previous(Path(path))):
            file.unlink(missing_ok=True)


def previous(path: Path) -> Path:
    """Return the path of the checkpoint before the one at `path`."""
    return path.with_name(ledger.PREVIOUS)


def read(path: Path) -> dict[str, Any] | None:
    """Return the checkpoint at the path, else the previous one, else None. A damaged one is skipped."""
    for file in (path, previous(path)):
        if not file.is_file():
            continue
        data = file.read_bytes()
        if hashlib.blake2b(data[DIGEST:], digest_size=DIGEST).digest() == data[:DIGEST]:
            content = io.BytesIO(data[DIGEST:])
            checkpoint: dict[str, Any] = torch.load(content, map_location="cpu", weights_only=False)
            return checkpoint
        logging.getLogger(__name__).warning("the checkpoint %s is damaged and is skipped", file.name)
    return None

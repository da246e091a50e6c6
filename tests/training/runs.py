"""Define a small run for the tests of this room, compute it, and interrupt it."""

from pathlib import Path
from typing import Any

import pytest

from bias_lab import ledger
from bias_lab.definition import Run, Settings, run_id
from bias_lab.training import checkpoints
from bias_lab.training.execute import execute

RUN = Run(
    dataset="fashion_mnist_12k",
    backbone="tests.training.tiny:tiny",
    size=20,
    samples_seen=20 * 8,
    batch_size=8,
    learning_rate=3e-3,
)
QUIET = Settings(wandb=False, device="cpu", experiment="test", command="pytest")


def finished(run: Run, folder: Path, settings: Settings = QUIET) -> dict[str, Any]:
    """Compute a run and return its result."""
    execute(run, folder, settings)
    return ledger.read_json(ledger.run_folder(folder, run_id(run)) / ledger.RESULT)


def same_bytes(one: Path, other: Path, run: Run) -> None:
    """Assert that two folders hold the same bytes of a run."""
    a, b = ledger.run_folder(one, run_id(run)), ledger.run_folder(other, run_id(run))
    for name in (ledger.METRICS, ledger.WEIGHTS, ledger.PREDICTIONS):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    assert ledger.read_json(a / ledger.RESULT)["metrics"] == ledger.read_json(b / ledger.RESULT)["metrics"]


class KilledError(Exception):
    pass


def interrupted(run: Run, folder: Path, monkeypatch, at: int, *, settings: Settings = QUIET) -> None:
    """Compute a run until step `at`, with a checkpoint three steps before, and raise there."""
    saved = at - 3

    class Dying(checkpoints.Checkpoints):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
            if trainer.global_step == saved:
                trainer.save_checkpoint(self.path)
            if trainer.global_step == at:
                raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "Checkpoints", Dying)
        with pytest.raises(KilledError):
            execute(run, folder, settings)

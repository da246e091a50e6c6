"""Compute one run, from its definition to its result. A worker calls `execute`, and `preflight` before the first run.

The steps are files beside this one: `prepare`, `fit`, and the task's `measure`.
"""

import logging
import platform
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import timm
import torch
from safetensors.torch import save as to_safetensors
from torch import nn

from bias_lab import __version__, ledger
from bias_lab.definition import Run, Settings, run_id, steps, to_json, trains
from bias_lab.tracking import live
from bias_lab.training import recording
from bias_lab.training.checkpoints import Stopwatch
from bias_lab.training.fit import fit
from bias_lab.training.hardware import device_name
from bias_lab.training.preflight import preflight
from bias_lab.training.prepare import prepare

__all__ = ["execute", "preflight"]

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)  # every Trainer prints a banner


def execute(run: Run, folder: Path, settings: Settings) -> dict[str, Any]:
    """Compute a run, publish its files, `result.json` last, and return what that holds. A finished run is only read.

    folder: the sweep's. An interrupted run goes on from its checkpoint and ends in the same bytes. Raise Diverged for a
    loss that is not finite, UserError for a user's mistake. The caller records what is raised.
    """
    here = ledger.run_folder(folder, run_id(run))
    if ledger.finish_publishing(folder, run_id(run)):
        return finished_result(here)
    with (
        ledger.attempt(folder, run) as attempt,
        recording.log_to(here / ledger.LOG),
        live.tracked(run, folder, settings) as wandb,
    ):
        watch = Stopwatch()
        torch.set_num_threads(1)  # the number of threads changes the order of sums
        job = prepare(run, folder, settings)
        rows = fit(job, attempt.folder, wandb, watch)
        metrics = job.task.measure(job, attempt.folder, rows)
        save_weights(job.task.encoder(job.method), attempt.folder / ledger.WEIGHTS)
        result = {
            "run": to_json(run),
            "run_id": run_id(run),
            "metrics": metrics,
            "weights": job.started_from,
            "facts": job.facts,
            "steps": steps(run) if trains(run) else 0,
            "samples_seen": steps(run) * run.batch_size if trains(run) else run.size,
            "seconds": round(watch.seconds(), 3),
            "attempts": attempt.number,
            "device": device_name(job.device),
            "versions": versions(),
            "commit": ledger.commit(),
            "command": settings.command,
        }
        attempt.publish(result)
        published = finished_result(here)  # another attempt's, if that came first
        live.conclude(wandb, published, here)
    return published


def finished_result(here: Path) -> dict[str, Any]:
    """Return what the `result.json` of a run's folder holds."""
    result: dict[str, Any] = ledger.read_json(here / ledger.RESULT)
    return result


def save_weights(encoder: nn.Module, path: Path) -> None:
    """Write a model's tensors by name, as safetensors."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in encoder.state_dict().items()}
    ledger.write_bytes(path, to_safetensors(tensors))


def versions() -> dict[str, str]:
    """Return the versions of the lab and of the libraries that can change a result."""
    return {
        "bias_lab": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "timm": timm.__version__,
        "numpy": np.__version__,
    }

"""One run, from its definition to its result: all that a worker calls.

`execute` tells the story; its parts are files beside this one: `job` (prepare), `fit`, `measure`. `preflight` is what a
worker asks before the first run.
"""

import logging
import time
from pathlib import Path

import torch

from bias_lab import ledger
from bias_lab.definition import Run, Settings, run_id, steps, to_json
from bias_lab.tracking import live
from bias_lab.training import recording, results
from bias_lab.training.fit import fit
from bias_lab.training.job import prepare, trains
from bias_lab.training.measure import measure
from bias_lab.training.preflight import preflight
from bias_lab.training.regimes import pretraining

__all__ = ["execute", "preflight"]

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)  # banners of every Trainer, a hundred times a sweep


def execute(run: Run, folder: Path, settings: Settings) -> None:
    """Train a run and leave `result.json` in its folder, as the last thing that happens.

    folder: the sweep's. A run that was interrupted goes on from its checkpoint and ends in the same bytes. Raises
    Diverged for a loss that is no number, UserError for a user's mistake; what it raises, the caller records.
    """
    here = ledger.run_folder(folder, run_id(run))
    here.mkdir(parents=True, exist_ok=True)
    ledger.write_json(here / ledger.RUN, to_json(run))
    attempts = ledger.begin_attempt(folder, run_id(run))
    with recording.log_to(here / ledger.LOG), live.tracked(run, folder, settings) as wandb:
        began = time.perf_counter()
        torch.set_num_threads(1)  # one thread a worker: the number of threads changes the order of sums
        job = prepare(run, folder, settings)
        rows = fit(job, here, wandb)
        metrics = measure(job, here, rows)
        results.save_weights(pretraining.bare(job.module.encoder, run), here / ledger.WEIGHTS)
        result = {
            "run": to_json(run),
            "run_id": run_id(run),
            "metrics": metrics,
            "weights": job.started_from,
            "facts": job.facts,
            "steps": steps(run) if trains(run) else 0,
            "samples_seen": steps(run) * run.batch_size if trains(run) else run.size,
            "seconds": round(time.perf_counter() - began, 3),
            "attempts": attempts,
            "device": results.device_name(job.device),
            "versions": results.versions(),
            "commit": ledger.commit(),
            "command": settings.command,
        }
        ledger.write_json(here / ledger.RESULT, result)
        live.conclude(wandb, result, here)
        tidy(here)


def tidy(here: Path) -> None:
    """Remove what only an unfinished run needs, and the mark of an earlier failure."""
    path = here / ledger.CHECKPOINT
    for file in (path, recording.previous(path), here / ledger.FAILURE):
        file.unlink(missing_ok=True)

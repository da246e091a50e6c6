"""A stand-in for `bias_lab.training.execute` without torch. Its results are a function of the run.

The weight decay, which has no meaning here, says what a run does: see `execute`.
"""

import os
import signal
import time
from pathlib import Path

from bias_lab import ledger
from bias_lab.definition import Run, Settings, run_id, to_json
from bias_lab.errors import NOTE, Diverged, UserError
from bias_lab.machine import KEEP_HEAP

FAIL, DIVERGE, DIE, FULL, HELD, PRINT = 0.91, 0.92, 0.93, 0.94, 0.95, 0.96  # weight decays
GO = "go"  # held runs of seed 3 or more wait for this file in the sweep's folder

METRICS = {"train_top1": 0.9, "loss": 1.0, "collapsed": False}
FACTS = {
    "parameters": 400_000,
    "flops": 4_000_000,
    "image_size": 28,
    "classes": 10,
    "test_images": 2000,
    "dataset_fingerprint": "f" * 16,
}


def execute(run: Run, folder: Path, settings: Settings) -> None:
    here = ledger.run_folder(folder, run_id(run))
    ledger.write_json(here / ledger.RUN, to_json(run))
    attempts = ledger.begin_attempt(folder, run_id(run))
    if run.pretraining:
        assert ledger.state(folder, run.pretraining) == "finished", "started before its pretraining had finished"
    if run.weight_decay == FAIL:
        raise ValueError("planted:\ntwo lines")
    if run.weight_decay == DIVERGE:
        raise Diverged("train/loss is nan at step 7")
    if run.weight_decay == DIE:
        print("last words", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if run.weight_decay == FULL:
        raise OSError(28, os.strerror(28))
    while run.weight_decay == HELD and run.seed >= 3 and not (folder / GO).exists():
        time.sleep(0.02)
    if run.weight_decay == PRINT:
        os.system("echo from a child")
    digest = int(run_id(run), 16)
    best = run.task == "tune" and run.learning_rate == 1e-3
    top1 = 0.99 if best else digest % 90 / 100
    ledger.write_bytes(here / ledger.WEIGHTS, run_id(run).encode())
    ledger.write_json(
        here / ledger.RESULT,
        {
            "run": to_json(run),
            "run_id": run_id(run),
            "metrics": METRICS | {"top1": None if run.task == "pretrain" else top1},
            "weights": {},
            "facts": FACTS
            | {"code": ledger.code_hash(), "threads": os.environ["OMP_NUM_THREADS"]}
            | {"gpu": os.environ.get("CUDA_VISIBLE_DEVICES", "")}
            | {name: os.environ[name] for name in KEEP_HEAP},
            "steps": 1,
            "samples_seen": run.samples_seen,
            "seconds": 0.01,
            "attempts": attempts,
            "device": "none",
            "versions": {},
            "commit": "",
            "command": settings.command,
        },
    )


def preflight(runs: list[Run], folder: Path, settings: Settings) -> list[str]:
    for run in runs:
        if run.backbone == "refused_net":
            raise UserError("unknown backbone 'refused_net'", "did you mean 'resnet_micro'?")
        if run.backbone == "broken_net":
            raise RuntimeError("planted")
        if run.backbone == "deadly_net":
            os.kill(os.getpid(), signal.SIGKILL)
    notes = [f"{NOTE}a note"] if any(run.label_noise for run in runs) else []
    return [f"{len(runs)} kinds of runs", *notes]

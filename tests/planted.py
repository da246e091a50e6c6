"""Ledger folders and tables with a known truth, for tests. No torch: only files are written."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bias_lab import catalogue, ledger, results
from bias_lab.catalogue import TASKS
from bias_lab.definition import Run, run_id, to_json
from bias_lab.rows import finished_row
from bias_lab.statistics.masks import groups

SIZES = (100, 300, 1000, 3000, 10_000)
CNNS = ("resnet_micro", "efficientnet_micro", "mobilenetv3_micro")


def curve(size: float) -> float:
    """Return a learning curve like the real ones: an error of 0.1 + 1.2 N^-0.35."""
    return float(1 - (0.1 + 1.2 * size**-0.35))


def rows(
    accuracy: Callable[[Run], float],
    *,
    backbones: Iterable[str] = ("vit_micro", *CNNS),
    sizes: Iterable[int] = SIZES,
    replicates: Iterable[tuple[int, int]] = ((0, 0), (1, 1), (2, 2)),
    seed: int = 0,
    noise: float = 0.01,
    **fields: Any,
) -> list[dict[str, Any]]:
    """Return rows of finished runs: top1 = accuracy(run) + normal noise, kept within [0, 1]."""
    random = np.random.default_rng(seed)
    planted = []
    for name in backbones:
        for size in sizes:
            for draw, which in replicates:
                run = Run(dataset="fashion_mnist_12k", backbone=name, size=size, draw=draw, seed=which, **fields)
                top1 = float(np.clip(accuracy(run) + noise * random.standard_normal(), 0, 1))
                planted.append(row(run, top1=top1))
    return planted


def row(run: Run, **changes: Any) -> dict[str, Any]:
    """Return one finished row, as `results.read` would."""
    planted = finished_row(record(run), experiment="small_data")
    return planted | ({"learning_rate": 0.001} if run.learning_rate is None else {}) | changes


def table(planted: Iterable[dict[str, Any]]) -> pd.DataFrame:
    return results.typed(pd.DataFrame.from_records(list(planted)))


def bits(right: np.ndarray[Any, Any]) -> bytes:
    return np.packbits(right.astype(bool)).tobytes()


def record(run: Run, top1: float | None = None, images: int = 2000) -> dict[str, Any]:
    """Return the content of a finished run's `result.json`."""
    metrics: dict[str, Any] = dict(
        top1=top1, top5=0.99, macro_f1=0.7, ece=0.05, loss=1.0, train_top1=0.99, train_loss=0.1, loss_slope=0.0,
        collapsed=False, per_class=[top1] * 10, holdout_top1=None,
    )  # fmt: skip
    facts = dict(
        parameters=400_000, flops=10_000_000, image_size=run.image_size or 28, patch=4, window=None, stem=None,
        classes=10, class_names=[f"class {k}" for k in range(10)], test_images=images, dataset_fingerprint="f" * 16,
        mean=[0.3], std=[0.3], subset_hash="s" * 16, code="0" * 16,
    )  # fmt: skip
    return dict(
        run=to_json(run), run_id=run_id(run), facts=facts,
        metrics=metrics if TASKS[run.task].evaluated_on else dict(loss=0.2, feature_std=0.9, collapsed=False),
        weights=dict(loaded=0, skipped=0, resampled=0, name=""), steps=500, samples_seen=run.samples_seen, seconds=20.0,
        attempts=1, device="cpu", versions={"torch": "2.14.1"}, commit="c" * 40, command="bias-lab sweep",
    )  # fmt: skip


def write_run(folder: Path, run: Run, top1: float = 0.5, *, images: int = 20, family: str = "") -> str:
    """Write a finished run's folder, as the contracts have it, and return its run_id."""
    name = run_id(run)
    here = ledger.run_folder(folder, name)
    ledger.write_json(here / ledger.RUN, to_json(run))
    right = np.arange(images) < round(top1 * images)
    label = np.arange(images) % 10
    predicted = np.where(right, label, (label + 1) % 10)
    predictions = dict(index=np.arange(images), label=label, predicted=predicted, confidence=0.5)
    if TASKS[run.task].evaluated_on == "test":
        pd.DataFrame(predictions).to_parquet(here / ledger.PREDICTIONS, index=False)
    ledger.write_json(here / ledger.RESULT, record(run, top1, images))
    return name


def write_failure(
    folder: Path, run: Run, reason: str = "diverged", exception: str = "the loss is nan at step 12"
) -> str:
    name = run_id(run)
    here = ledger.run_folder(folder, name)
    ledger.write_json(here / ledger.RUN, to_json(run))
    (here / "attempts").write_bytes(b".")
    ledger.write_json(here / ledger.FAILURE, {"reason": reason, "exception": exception, "log": "…"})
    return name


def write_plan(folder: Path, runs: Iterable[Run], **changes: Any) -> None:
    plan = {
        "experiment": "small_data",
        "question": "How far does a plain ViT fall short of CNNs when labels are few?",
        "note": "given one pretraining",
        "profile": "laptop",
        "command": "bias-lab sweep experiments/small_data.py",
        "version": "0.1.0",
        "runs": [
            {"run_id": run_id(run), "family": catalogue.family(run.backbone), "run": to_json(run)} for run in runs
        ],
    }
    ledger.write_json(folder / ledger.EXPERIMENT, plan | changes)


def dumps(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def covariance(runs: list[groups.Scores], of: groups.Groups) -> np.ndarray:
    """Return the covariance of the mean IoU of runs on the same test images, (R, R), over groups of images.

    The formula is that of bias_lab/statistics/masks/groups.py.
    """
    values = groups.pseudo_values(runs, of)  # (R, G)
    return np.atleast_2d(np.cov(values)) / values.shape[1]

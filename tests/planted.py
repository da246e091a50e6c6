"""Ledger folders and tables with a known truth, for the tests of this room. No torch: only files are written."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bias_lab import catalogue, ledger, results
from bias_lab.definition import Run, run_id, to_json

SIZES = (100, 300, 1000, 3000, 10_000)
CNNS = ("resnet_micro", "efficientnet_micro", "mobilenetv3_micro")


def curve(size: float) -> float:
    """A learning curve like the real ones: error 0.1 + 1.2 N^-0.35."""
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
    """Rows of finished runs: accuracy = accuracy(run) + normal noise, kept within [0, 1]."""
    random = np.random.default_rng(seed)
    made = []
    for name in backbones:
        for size in sizes:
            for draw, which in replicates:
                run = Run(dataset="fashion_mnist_12k", backbone=name, size=size, draw=draw, seed=which, **fields)
                top1 = float(np.clip(accuracy(run) + noise * random.standard_normal(), 0, 1))
                made.append(row(run, top1=top1))
    return made


def row(run: Run, **changes: Any) -> dict[str, Any]:
    """One finished row, as `collect` would give it."""
    made: dict[str, Any] = dict.fromkeys(ledger.COLUMNS)
    made |= {name: getattr(run, name) for name in ledger.COLUMNS if hasattr(run, name)}
    made |= dict(
        run_id=run_id(run), experiment="small_data", image_size=run.image_size or 28, parameters=400_000, flops=10**7,
        architecture=catalogue.architecture(run.backbone), family=catalogue.family(run.backbone), status="finished",
        collapsed=False, top5=0.99, macro_f1=0.7, ece=0.05, loss=1.0, train_top1=0.99, train_loss=0.1, loss_slope=0.0,
        steps=500, samples_seen=16_000, seconds=20.0, attempts=1, classes=10, test_images=2000,
        dataset_fingerprint="f" * 16, commit="c" * 40, device="cpu", versions="{}", learning_rate=0.001,
    )  # fmt: skip
    return made | changes


def table(made: Iterable[dict[str, Any]]) -> pd.DataFrame:
    return results._typed(pd.DataFrame.from_records(list(made), columns=list(ledger.COLUMNS)))


def bits(right: np.ndarray[Any, Any]) -> bytes:
    return np.packbits(right.astype(bool)).tobytes()


def write_run(folder: Path, run: Run, top1: float = 0.5, *, images: int = 20, family: str = "") -> str:
    """A finished run's folder, as the contracts have it."""
    name = run_id(run)
    here = ledger.run_folder(folder, name)
    ledger.write_json(here / ledger.RUN, to_json(run))
    right = np.arange(images) < round(top1 * images)
    label = np.arange(images) % 10
    predictions = pd.DataFrame(
        {
            "index": np.arange(images),
            "label": label,
            "predicted": np.where(right, label, (label + 1) % 10),
            "confidence": 0.5,
        }
    )
    if run.task == "classify":
        predictions.to_parquet(here / ledger.PREDICTIONS, index=False)
    metrics: dict[str, Any] = dict(
        top1=top1, top5=0.99, macro_f1=top1, ece=0.1, loss=1.0, train_top1=0.9, train_loss=0.3, loss_slope=-0.1,
        collapsed=False, per_class=[top1] * 10, holdout_top1=None,
    )  # fmt: skip
    if run.task == "pretrain":
        metrics = dict(loss=0.2, feature_std=0.9, collapsed=False)
    facts = dict(
        parameters=400_000, flops=10_000_000, image_size=28, patch=4, window=None, stem=None, classes=10,
        class_names=[f"class {k}" for k in range(10)], test_images=images, dataset_fingerprint="f" * 16,
        mean=[0.3], std=[0.3], subset_hash="s" * 16, code="0" * 16,
    )  # fmt: skip
    result = dict(
        run=to_json(run), run_id=name, metrics=metrics, facts=facts,
        weights=dict(loaded=0, skipped=0, resampled=0, name=""), steps=500, samples_seen=16_000, seconds=3.2,
        attempts=1, device="cpu", versions={"torch": "2.14.1"}, commit="c" * 40, command="bias-lab sweep",
    )  # fmt: skip
    ledger.write_json(here / ledger.RESULT, result)
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

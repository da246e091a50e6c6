"""What a trained module is worth: the one place where test images are read, after the last step, and once."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bias_lab import ledger
from bias_lab.training import results
from bias_lab.training.classification import evaluate, logits_of
from bias_lab.training.job import Job


def measure(job: Job, here: Path, rows: list[dict[str, float]]) -> dict[str, Any]:
    """The metrics of a trained module. Test images are read here, after the last step, and once."""
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    if job.run.task == "pretrain":
        neighbours = [row["holdout/knn"] for row in rows if "holdout/knn" in row]
        return {
            "loss": losses[-1],
            "loss_slope": results.slope(losses),
            "holdout_knn": neighbours[-1] if neighbours else None,
            **pretraining_metrics(job, here),
        }
    module = job.module
    train_logits, train_labels = logits_of(module.trained, job.eval_loader(*job.labelled()))
    train = evaluate(train_logits, train_labels)
    logits, labels = logits_of(module.trained, job.eval_loader(*job.judged()))
    if job.run.task == "classify":
        results.save_predictions(logits, labels, here / ledger.PREDICTIONS)
    holdout = [row["holdout/top1"] for row in rows if "holdout/top1" in row]
    return {
        **evaluate(logits, labels),
        "train_top1": train["top1"],
        "train_loss": train["loss"],
        "loss_slope": results.slope(losses),
        "holdout_top1": holdout[-1] if holdout else None,
    }


def pretraining_metrics(job: Job, here: Path) -> dict[str, Any]:
    """What the method says of its encoder, and its pictures, saved beside the result."""
    module = job.module
    module.eval()  # looking must not move batch norm's statistics
    pictures = getattr(module, "pictures", None)
    if pictures is not None:
        few = job.images.train[:8]
        images = next(iter(job.eval_loader(few, np.zeros(len(few), dtype=np.int64))))[0]
        for name, picture in pictures(images).items():
            Image.fromarray(np.asarray(picture)).save(here / f"{name}.png")
    said: dict[str, Any] = module.diagnostics()
    return said

"""Make one row of the results table from a run's definition and its record (`result.json`). No torch."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from bias_lab import catalogue, schema
from bias_lab.definition import Run, from_json

Curve = Sequence[Sequence[float]]  # [steps, values of the task's metric on the hold-out]
SCORES = "scores"


def row_of(run_id: str, run: Run, *, experiment: str = "", family: str = "") -> dict[str, Any]:
    """Return what a run's definition says of its row: every field of `Run`, its architecture, family and image size."""
    known = catalogue.DATASETS.get(run.dataset)
    row: dict[str, Any] = {name: getattr(run, name, None) for name in schema.COLUMNS}
    row |= {"run_id": run_id, "experiment": experiment, "image_size": run.image_size}
    if run.image_size is None and known is not None:
        row["image_size"] = known.image_size
    row |= {"architecture": catalogue.architecture(run.backbone), "family": family or catalogue.family(run.backbone)}
    return row | {"samples_seen": None}  # what was planned is not what was seen


def finished_row(result: Mapping[str, Any], *, experiment: str = "", family: str = "") -> dict[str, Any]:
    """Return the row of a finished run, from its `result.json`. Text is never null, and `correct` is left empty."""
    run = from_json(result["run"])
    row = row_of(result["run_id"], run, experiment=experiment, family=family) | {"status": "finished"}
    for origin, part in {**{name: result.get(name, {}) for name in ("metrics", "facts")}, "result": result}.items():
        row |= {name: part.get(name) for name in schema.named(origin=origin)}  # type: ignore[arg-type]
    row |= {"versions": json.dumps(result.get("versions", {}), sort_keys=True)}
    return row | {name: "" for name in schema.named(kind="text") if row[name] is None}


def correct_bits(path: Path) -> bytes | None:
    """Return one bit a test image, in index order, set where the prediction was right, or None without predictions.

    path: a run's `predictions.parquet`, with the columns index, label and predicted.
    """
    if not path.is_file() or "label" not in pq.read_schema(path).names:
        return None
    table = pq.read_table(path, columns=["index", "label", "predicted"], use_threads=False)
    index, label, predicted = (table.column(name).to_numpy() for name in ("index", "label", "predicted"))
    right: np.ndarray[Any, Any] = label == predicted
    if len(index) > 1 and not bool(np.all(index[1:] > index[:-1])):
        right = right[np.argsort(index, kind="stable")]
    return np.packbits(right).tobytes()


def scores_of(path: Path) -> bytes | None:
    """Return the intersections and unions of all test images, in index order, as `unpack_scores` reads them.

    path: a run's `predictions.parquet`. None without predictions, and for predictions that are no label maps.
    """
    if not path.is_file() or SCORES not in pq.read_schema(path).names:
        return None
    table = pq.read_table(path, columns=["index", SCORES], use_threads=False).sort_by("index")
    return b"".join(table.column(SCORES).to_pylist())


def unpack_scores(scores: bytes, classes: int) -> np.ndarray[Any, Any]:
    """Return the intersection and the union, in pixels, of each image and class: (M, K, 2) in int64.

    scores: a value of the column `scores`. Void pixels are in neither. The IoU of a class over any images is the sum of
    its intersections over the sum of its unions, and a class without a union is left out of the mean.
    """
    return np.frombuffer(scores, "<u4").reshape(-1, classes, 2).astype(np.int64)


def image_ious(scores: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the mean IoU of each image alone over the classes that it or its prediction holds, NaN where all is void.

    scores: (M, K, 2), as `unpack_scores` gives them. Returns (M,). Its mean is not the mIoU of the test set.

    >>> image_ious(np.array([[[1, 2], [0, 0]], [[0, 0], [0, 0]]]))
    array([0.5, nan])
    """
    held = scores[..., 1] > 0
    iou = np.where(held, scores[..., 0] / np.maximum(scores[..., 1], 1), 0.0).sum(1)
    return np.where(held.any(1), iou / np.maximum(held.sum(1), 1), np.nan)


def worst_median_best(values: np.ndarray[Any, Any]) -> dict[str, int]:
    """Return which image has the smallest, the middle and the largest value, the first of equal ones.

    values: (M,). Images with NaN are left out. Empty where no image has a value.

    >>> worst_median_best(np.array([0.5, 0.1, np.nan, 0.9]))
    {'worst': 1, 'median': 0, 'best': 3}
    """
    order = [int(k) for k in np.argsort(values, kind="stable") if not np.isnan(values[k])]
    if not order:
        return {}
    best = next(k for k in order if values[k] == values[order[-1]])
    return {"worst": order[0], "median": order[(len(order) - 1) // 2], "best": best}


def of_predictions(path: Path) -> dict[str, bytes | None]:
    """Return what the columns of origin `files` hold of a run. path: its `predictions.parquet`."""
    return {"correct": correct_bits(path), SCORES: scores_of(path)}


def curve_of(path: Path, metric: str = "top1") -> Curve:
    """Return [steps, values on the hold-out] of a monitored run's metric, or [] for another."""
    if not path.is_file():
        return []
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    name = f"holdout/{metric}"
    points = sorted((int(row["step"]), round(float(row[name]), 5)) for row in rows if name in row)
    return [list(part) for part in zip(*points, strict=True)]


def comparison_of(task: str, protocol: str) -> str:
    """Return the comparison of a run whose training budget its experiment gives: `equal`, or '' for one without any.

    Frozen backbones have no budget, and neither pretrainings nor trials are compared.
    """
    how = catalogue.PROTOCOLS.get(protocol)
    is_compared = catalogue.TASKS[task].evaluated_on == "test" and how is not None and how.trains
    return "equal" if is_compared else ""

"""How the runs of a group did on each test image: the noise that all runs share, since they share the test images.

Test images that depend on one another, such as neighbouring frames, are one unit of sampling (column `test_groups`).
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array

from bias_lab import catalogue, schema
from bias_lab.rows import SCORES, unpack_scores
from bias_lab.statistics import replicates as rep
from bias_lab.statistics.conditions import METRIC
from bias_lab.statistics.intervals import Vector

Columns = Mapping[str, NDArray[Any]]
NEEDED = ("correct", "scores", "classes", "test_images", "test_groups")  # columns that tell it
_CHUNK = 2048  # rows of `correct` unpacked at a time: bounds the memory at any number of runs


def by_size(rows: pd.DataFrame) -> dict[int, dict[str, NDArray[Any]]]:
    """Return size → column → array, of the columns that differences between groups are made from."""
    names = [name for name in ("backbone", *schema.REPLICATE, "collapsed", *NEEDED) if name in rows]
    columns = {str(name): column.to_numpy() for name, column in rep.light(rows[names]).items()}
    places = {int(str(size)): place for size, place in rows.groupby("size").indices.items()}
    return {size: {name: column[places[size]] for name, column in columns.items()} for size in sorted(places)}


def used(rows: Columns, pairs: Columns) -> dict[str, NDArray[Any]]:
    """Return the runs behind the pairs (draw, seed) of one size, each with its pair's weight in its group's mean."""
    if len(rows["draw"]) != len(pairs["draw"]) * len(set(rows["backbone"])):
        whole = set(zip(pairs["draw"], pairs["seed"], strict=True))
        kept = np.array([one in whole for one in zip(rows["draw"], rows["seed"], strict=True)], dtype=bool)
        rows = {name: column[kept] for name, column in rows.items()}
    return {**rows, "weight": np.full(len(rows["draw"]), 1.0 / max(1, len(set(rows["backbone"]))))}


def difference(ours: Columns, theirs: Columns, pairs: Columns, metric: str = METRIC) -> tuple[Vector | None, int]:
    """Return theirs − ours of what each test image adds to a metric, (units, T), and T, or None where it is unknown.

    ours, theirs: as `used` gives them. pairs: draw and seed of each pair. T: the number of test images, 0 if unknown.
    The mean over images is the difference in the metric. For accuracy an image adds 1 or 0, for mIoU see `shares`.
    Where test images form groups, a column stands for a group and has the mean of its images, weighted by their number.
    """
    counted = _counted(metric, ours, theirs)
    if not counted or "test_images" not in ours:
        return None, 0
    unit = rep.unit_of(dict(pairs))
    names = [name for name in (*NEEDED, "weight", unit) if name in ours and name in theirs]
    runs = {name: np.concatenate([theirs[name], ours[name]]) for name in names}
    images = set(runs["test_images"].tolist())
    if len(images) != 1 or pd.isna(next(iter(images))):
        return None, 0
    T = int(images.pop())
    units, a_unit = np.unique(pairs[unit], return_counts=True)  # pairs in each unit
    unpack, width = _reader(counted, runs, T)
    packed = runs[counted]
    if len(units) < 2 or not all(isinstance(one, bytes) and len(one) == width for one in packed):
        return None, T
    of_unit = np.searchsorted(units, runs[unit])
    weight = np.where(np.arange(len(packed)) < len(theirs["weight"]), 1.0, -1.0) * runs["weight"] / a_unit[of_unit]
    total = np.zeros((len(units), T))
    for start in range(0, len(packed), _CHUNK):
        part = slice(start, start + _CHUNK)
        values = unpack(np.frombuffer(b"".join(packed[part]), np.uint8).reshape(-1, width))  # (runs, T)
        here = (of_unit[part], np.arange(len(values)))
        total += csr_array((weight[part], here), shape=(len(units), len(values))) @ values
    return by_group(total, runs.get("test_groups")), T


def _counted(metric: str, ours: Columns, theirs: Columns) -> str:
    """Return the column that tells how all runs did on each image, else the first that both sides have, or ''."""
    both = [name for name in catalogue.counted_by(metric) if name in ours and name in theirs]
    filled = [name for name in both if all(isinstance(one, bytes) for side in (ours, theirs) for one in side[name])]
    return next(iter([*filled, *both]), "")


def _reader(counted: str, runs: Columns, T: int) -> tuple[Callable[[NDArray[np.uint8]], Vector], int]:
    """Return the function from packed rows (runs, width) to what each image adds, (runs, T), and the width in bytes."""
    if counted != SCORES:
        return lambda rows: np.asarray(np.unpackbits(rows, axis=1, count=T), np.float64), (T + 7) // 8
    classes = set(runs["classes"].tolist()) if "classes" in runs else set()
    K = int(classes.pop()) if len(classes) == 1 else 0
    return lambda rows: np.stack([shares(unpack_scores(row.tobytes(), K)) for row in rows]), T * K * 8


def shares(scores: NDArray[Any]) -> Vector:
    """Return what each image adds to the mIoU of one run, (T,), whose mean is the mIoU.

    scores: intersection and union of each image and class, (T, K, 2). The mIoU is a mean of ratios of sums, so an
    image's share is that of the linear approximation: the mIoU, plus the mean over classes of (intersection − IoU ·
    union) / mean union of an image. Its variance over images is the variance of the mIoU for large T (the delta method,
    Cochran 1977, Sampling Techniques, section 6.3).
    """
    both, either = scores[..., 0].astype(np.float64), scores[..., 1].astype(np.float64)
    held = either.sum(0) > 0
    both, either = both[:, held], either[:, held]
    iou = both.sum(0) / either.sum(0)
    share: Vector = iou.mean() + ((both - iou * either) / either.mean(0)).mean(1)
    return share


def by_group(values: Vector, groups: NDArray[Any] | None) -> Vector:
    """Return the values of groups of images, (units, G), with the same mean over columns as (units, T).

    groups: for each run the groups of its test images as text, `0,0,1,1`. Without any, an image stands for itself.
    A group's value is the mean over all images, plus G / T times the sum of what its images are above that mean. So a
    large group does not count as better than a small one: the metric is a ratio, in which sizes cancel.
    """
    texts = set() if groups is None else set(groups.tolist())
    text = texts.pop() if len(texts) == 1 else ""
    if not isinstance(text, str) or not text:
        return values
    _, group = np.unique(np.array(text.split(","), dtype=np.int64), return_inverse=True)
    T, G = values.shape[1], int(group.max()) + 1
    level = values.mean(axis=1, keepdims=True)
    summed: Vector = np.zeros((len(values), G))
    np.add.at(summed.T, group, (values - level).T)
    of_groups: Vector = level + summed * (G / T)
    return of_groups

"""What the runs of a group give on each test image: the noise that all runs share, since they share the test images.

For accuracy it is right or wrong an image. For mean IoU it is a pseudo-value for each group of dependent images
(`bias_lab.statistics.masks.groups`).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array

from bias_lab import schema
from bias_lab.catalogue import TASKS
from bias_lab.rows import unpack_scores
from bias_lab.statistics import replicates as rep
from bias_lab.statistics.conditions import METRIC
from bias_lab.statistics.intervals import Vector
from bias_lab.statistics.masks import groups

COLUMNS = ("backbone", *schema.REPLICATE, "collapsed", "correct", "test_images", "scores", "classes", "test_groups")
Columns = Mapping[str, NDArray[Any]]
_CHUNK = 2048  # rows of `correct` unpacked at a time: bounds the memory at any number of runs


def by_size(rows: pd.DataFrame) -> dict[int, dict[str, NDArray[Any]]]:
    """Return size → column → array, of the columns that differences between groups are made from."""
    names = [name for name in COLUMNS if name in rows]
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


def difference(
    ours: Columns, theirs: Columns, pairs: Columns, metric: str = METRIC
) -> tuple[Vector | None, int]:
    """Return theirs − ours on each test image, (units, T), and T, or None without what all runs gave on all images.

    ours, theirs: as `used` gives them. pairs: draw and seed of each pair. metric: one of `READERS`, for others there is
    nothing known. For mean IoU the T columns are groups of images. T: the number of test images, 0 if it is unknown.
    """
    reader = READERS.get(metric)
    if reader is None or not {"test_images", *reader.needs} <= set(ours):
        return None, 0
    unit = rep.unit_of(dict(pairs))
    wanted = ("test_images", "weight", unit, *reader.needs)
    runs = {name: np.concatenate([theirs[name], ours[name]]) for name in wanted}
    images = set(runs["test_images"].tolist())
    if len(images) != 1 or pd.isna(next(iter(images))):
        return None, 0
    T = int(images.pop())
    names, a_unit = np.unique(pairs[unit], return_counts=True)  # pairs in each unit
    if len(names) < 2 or (parts := reader.read(runs, T)) is None:
        return None, T
    of_unit = np.searchsorted(names, runs[unit])
    weight = np.where(np.arange(len(of_unit)) < len(theirs["weight"]), 1.0, -1.0) * runs["weight"] / a_unit[of_unit]
    total: Vector | None = None
    start = 0
    for part in parts:
        here = slice(start, start := start + len(part))
        at = (of_unit[here], np.arange(len(part)))
        added = csr_array((weight[here], at), shape=(len(names), len(part))) @ part
        total = added if total is None else total + added
    return total, T


class Reader(NamedTuple):
    """Read what runs gave on test images. needs: columns. read: (columns, T) to arrays of rows, None if some lack."""

    needs: tuple[str, ...]
    read: Callable[[Columns, int], Iterable[Vector] | None]


def _right(runs: Columns, T: int) -> Iterable[Vector] | None:
    """Return right (1) and wrong (0) of each run and image, some runs at a time."""
    width, bits = (T + 7) // 8, runs["correct"]
    if not all(isinstance(one, bytes) and len(one) == width for one in bits):
        return None
    return (
        np.unpackbits(np.frombuffer(b"".join(part), np.uint8).reshape(-1, width), axis=1, count=T).astype(np.float64)
        for start in range(0, len(bits), _CHUNK)
        for part in [bits[start : start + _CHUNK]]
    )


def _overlaps(runs: Columns, T: int) -> Iterable[Vector] | None:
    """Return the pseudo-values of each run and group of images."""
    classes, grouped = set(runs["classes"].tolist()), set(runs["test_groups"].tolist())
    if len(classes) != 1 or len(grouped) != 1 or pd.isna(next(iter(classes))):
        return None
    K, text = int(classes.pop()), grouped.pop()
    if not all(isinstance(one, bytes) and len(one) == 8 * T * K for one in runs["scores"]):
        return None
    of_image = groups.unpack_groups("" if pd.isna(text) else text, T)
    return (groups.pseudo_values(unpack_scores(one, K), of_image)[None] for one in runs["scores"])


READERS = {  # metric → what is known of it on each test image
    METRIC: Reader(("correct",), _right),
    **{task.metric: Reader(("scores", "classes", "test_groups"), _overlaps) for task in TASKS.values() if task.dense},
}

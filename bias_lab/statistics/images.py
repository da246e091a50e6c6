"""Which test images the runs of a group get right: the noise that all runs share, since they share the test images."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_array

from bias_lab import schema
from bias_lab.statistics import replicates as rep
from bias_lab.statistics.intervals import Vector

Columns = Mapping[str, NDArray[Any]]
_CHUNK = 2048  # rows of `correct` unpacked at a time: bounds the memory at any number of runs


def by_size(rows: pd.DataFrame) -> dict[int, dict[str, NDArray[Any]]]:
    """Return size → column → array, of the columns that differences between groups are made from."""
    names = [name for name in ("backbone", *schema.REPLICATE, "collapsed", "correct", "test_images") if name in rows]
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


def difference(ours: Columns, theirs: Columns, pairs: Columns) -> tuple[Vector | None, int]:
    """Return theirs − ours of right (1) and wrong (0), (units, T), and T, or None without all predictions.

    ours, theirs: as `used` gives them. pairs: draw and seed of each pair. T: the number of test images, 0 if unknown.
    """
    if not {"correct", "test_images"} <= set(ours):
        return None, 0
    unit = rep.unit_of(dict(pairs))
    runs = {name: np.concatenate([theirs[name], ours[name]]) for name in ("correct", "test_images", "weight", unit)}
    images = set(runs["test_images"].tolist())
    if len(images) != 1 or pd.isna(next(iter(images))):
        return None, 0
    T = int(images.pop())
    names, a_unit = np.unique(pairs[unit], return_counts=True)  # pairs in each unit
    width, bits = (T + 7) // 8, runs["correct"]
    if len(names) < 2 or not all(isinstance(one, bytes) and len(one) == width for one in bits):
        return None, T
    of_unit = np.searchsorted(names, runs[unit])
    weight = np.where(np.arange(len(bits)) < len(theirs["weight"]), 1.0, -1.0) * runs["weight"] / a_unit[of_unit]
    total = np.zeros((len(names), T))
    for start in range(0, len(bits), _CHUNK):
        part = slice(start, start + _CHUNK)
        right = np.unpackbits(np.frombuffer(b"".join(bits[part]), np.uint8).reshape(-1, width), axis=1, count=T)
        here = (of_unit[part], np.arange(len(right)))
        total += csr_array((weight[part], here), shape=(len(names), len(right))) @ right.astype(np.float64)
    return total, T

"""Take one part of the test images, such as one driving sequence, in the place of all of them."""

import math
from typing import Any

import numpy as np
import pandas as pd

from bias_lab.rows import SCORES, unpack_scores
from bias_lab.statistics.conditions import METRIC
from bias_lab.statistics.masks.groups import unpack_parts


def names(table: pd.DataFrame) -> list[str]:
    """Return the names of the parts of test images that runs of a table were evaluated on, in their order."""
    texts = [str(text) for text in table["test_parts"].dropna().unique()] if "test_parts" in table else []
    return list(dict.fromkeys(line.rpartition(": ")[0] for text in texts for line in text.splitlines()))


def in_part(table: pd.DataFrame, part: str, *, metric: str = METRIC) -> pd.DataFrame:
    """Return a table as if one part of the test images were all of them: the column of the metric is its mean IoU.

    table: a results table. Rows without that part, or without `scores`, are left out. part: one of `names`. metric: the
    column that takes the mean IoU of the part. `scores`, `test_images` and `test_groups` are those of the part, so that
    every statistic and its interval hold for the part. Other metrics of test images can't be told from the table, so
    they are those of all test images.
    """
    if not {SCORES, "test_parts"} <= set(table):
        return table.iloc[:0]
    made = [
        _cut(row, part)
        for row in table[[SCORES, "test_parts", "test_images", "classes", "test_groups"]].to_dict("records")
    ]
    kept = np.array([one is not None for one in made], dtype=bool)
    cut = pd.DataFrame([one for one in made if one is not None], index=table.index[kept])
    result = table[kept]
    if not len(result):
        return result
    columns = {name: cut[name].astype(table[name].dtype) for name in (SCORES, "test_images", "test_groups")}
    return result.assign(**{metric: cut["miou"], **columns})


def _cut(row: dict[Any, Any], part: str) -> dict[str, Any] | None:
    """Return the values of one run on a part, or None where the run tells nothing of it."""
    text, packed = row["test_parts"], row[SCORES]
    if not isinstance(text, str) or not isinstance(packed, bytes) or pd.isna(row["classes"]):
        return None
    there = unpack_parts(text, int(row["test_images"])).get(part)
    if there is None or not there.any():
        return None
    scores = unpack_scores(packed, int(row["classes"]))[there]
    both, either = scores.sum(0).T
    held = either > 0
    groups = str(row["test_groups"] or "")
    return {
        "miou": float(np.mean(both[held] / either[held])) if held.any() else math.nan,
        SCORES: scores.astype("<u4").tobytes(),
        "test_images": int(there.sum()),
        "test_groups": ",".join(np.array(groups.split(","))[there]) if groups else "",
    }

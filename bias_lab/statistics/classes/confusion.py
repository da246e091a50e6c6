"""Say which classes the runs of a cell confuse, and which test images most runs get wrong."""

import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri

from bias_lab.statistics.intervals import LEVEL

Numbers = NDArray[np.int64]


def confusion(labels: Numbers, predicted: Numbers, classes: int) -> Numbers:
    """Return how many test images of each class were predicted as each class, added up over runs: (K, K).

    labels: (T,) from 0 to K − 1. predicted: (runs, T). Rows are the true classes, columns the predicted ones.

    >>> confusion(np.array([0, 0, 1]), np.array([[0, 1, 1]]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    pairs = labels[None, :] * classes + predicted
    return np.bincount(pairs.ravel(), minlength=classes**2).reshape(classes, classes)


def per_class(labels: Numbers, predicted: Numbers, classes: int) -> pd.DataFrame:
    """Return recall and precision of each class, a row a class with the columns below.

    images: test images of the class. recall: the share of them that was predicted so, mean over runs. precision: the
    share that is right of the predictions of the class, over all runs. said: predictions of the class in one run, mean.
    Each has `_low` and `_high`, Wilson's interval for the sampling of test images: an image counts once, however many
    runs saw it, so other trainings are not in it. next: the class that it is most often taken for, −1 if for none.
    taken: the share of its images to which that happens, mean over runs. NaN where there is nothing to divide by.
    """
    table = confusion(labels, predicted, classes).astype(float)
    runs, right = len(predicted), np.diag(table)
    images, said = table.sum(1) / runs, table.sum(0) / runs
    wrong = table - np.diag(right)
    columns: dict[str, Any] = {"images": images.astype(int), "said": said}
    for name, of in (("recall", images), ("precision", said)):
        share = np.divide(right / runs, of, out=np.full(classes, math.nan), where=of > 0)
        columns[name] = share
        columns[f"{name}_low"], columns[f"{name}_high"] = wilson(share, of)
    columns["next"] = np.where(wrong.sum(1) > 0, wrong.argmax(1), -1)
    columns["taken"] = np.divide(wrong.max(1) / runs, images, out=np.full(classes, math.nan), where=images > 0)
    return pd.DataFrame(columns)


def wilson(share: NDArray[Any], count: NDArray[Any], level: float = LEVEL) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return both ends of Wilson's interval of a share among `count` trials, NaN where there are none.

    Wilson 1927, doi:10.1080/01621459.1927.10502953, without continuity correction. Unlike p ± 1.96 · sd, it has a
    width at 0 and at 1, and it never leaves [0, 1].
    """
    n = np.where(count > 0, count, math.nan)
    z = float(ndtri((1 + level) / 2))
    middle, half = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return np.clip((middle - half) / (1 + z**2 / n), 0, 1), np.clip((middle + half) / (1 + z**2 / n), 0, 1)


def most_wrong(labels: Numbers, predicted: Numbers, most: int) -> pd.DataFrame:
    """Return the test images that most runs get wrong, the worst first, at most `most` and none that all get right.

    Columns: index (of the test image), label, wrong (number of runs), guess (the class that they most often predict
    instead), agree (number of runs that predict it). Of equally bad images, the one whose wrong runs agree most comes
    first, since it is the one whose label may be wrong.
    """
    rows = []
    for index in np.flatnonzero((predicted != labels).any(0)):
        guesses = predicted[:, index][predicted[:, index] != labels[index]]
        counts = np.bincount(guesses)
        rows.append((index, labels[index], len(guesses), int(counts.argmax()), int(counts.max())))
    table = pd.DataFrame(rows, columns=["index", "label", "wrong", "guess", "agree"])
    return table.sort_values(["wrong", "agree"], ascending=False, kind="stable").head(most).reset_index(drop=True)

"""The noise of test images in a mean IoU: dependent images form groups, and the mean is linearised over the groups.

A mean IoU is no mean over images. It comes from one table over all of them: with I_ik and U_ik the intersection and the
union of image i and class k, IoU_k = sum_i I_ik / sum_i U_ik, and mIoU is the mean of IoU_k over the K classes that have
a union. The delta method (the linearised ratio estimator of survey statistics, Cochran 1977, Sampling Techniques,
section 6.3) gives the influence of one image on it,

    e_i = 1/K sum_k (I_ik - IoU_k U_ik) / sum_j U_jk,

which sums to 0. Images that depend on one another (neighbouring frames) are drawn together, so their influences are
added up to e_g for each of G groups, and the covariance of the mIoU of runs r and s that comes from which groups are in
the test set is

    Cov(r, s) = G / (G - 1) sum_g e_rg e_sg.

All runs are evaluated on the same images, so differences of runs need these covariances. It is right for many groups of
about equal sizes. With few groups (below 20) or one that has most pixels of a rare class it is too small.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from bias_lab.statistics.intervals import Vector

Groups = NDArray[np.int64]  # (T,) the group of each test image
Scores = NDArray[np.int64]  # (T, K, 2) intersection and union of each test image and class, in pixels


def pack_groups(groups: Groups | None) -> str:
    """Return groups as the column `test_groups` has them: how many images in a row are of which group.

    >>> pack_groups(np.array([0, 0, 0, 1, 1])), pack_groups(None)
    ('0x3 1x2', '')
    """
    if groups is None or not len(groups):
        return ""
    starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])
    lengths = np.diff(np.r_[starts, len(groups)])
    return " ".join(f"{group}x{length}" for group, length in zip(groups[starts], lengths, strict=True))


def unpack_groups(text: str, images: int) -> Groups:
    """Return the group of each of so many test images. Without a text each stands for itself.

    Raises ValueError if the text describes another number of images.

    >>> unpack_groups("0x3 1x2", 5).tolist(), unpack_groups("", 3).tolist()
    ([0, 0, 0, 1, 1], [0, 1, 2])
    """
    if not text:
        return np.arange(images)
    pairs = [part.split("x") for part in text.split()]
    groups = np.repeat([int(group) for group, _ in pairs], [int(length) for _, length in pairs])
    if len(groups) != images:
        raise ValueError(f"the groups are of {len(groups)} images, and there are {images}")
    return groups.astype(np.int64)


def pack_parts(parts: Mapping[str, NDArray[np.bool_]]) -> str:
    """Return parts of the test images as the column `test_parts` has them: a line each.

    >>> pack_parts({"night": np.array([False, False, True])})
    'night: 0x2 1x1'
    """
    return "\n".join(f"{name}: {pack_groups(rows.astype(np.int64))}" for name, rows in parts.items())


def unpack_parts(text: str, images: int) -> dict[str, NDArray[np.bool_]]:
    """Return which of so many test images belong to each part, by name. Raises ValueError as `unpack_groups`.

    >>> {name: rows.tolist() for name, rows in unpack_parts("night: 0x2 1x1", 3).items()}
    {'night': [False, False, True]}
    """
    lines = [line.rpartition(": ") for line in text.splitlines()]
    return {name: unpack_groups(packed, images).astype(bool) for name, _, packed in lines}


def mean_iou(scores: Scores) -> float:
    """Return the mean IoU over all images, in [0, 1], of the classes that truth or prediction hold. NaN without any."""
    both, either = scores.sum(0).T.astype(np.float64)
    held = either > 0
    return float(np.mean(both[held] / either[held])) if held.any() else float("nan")


def influence(scores: Scores, groups: Groups) -> Vector:
    """Return the influence e_g of each group on the mean IoU, (G,). They sum to 0.

    scores: (T, K, 2). groups: (T,), whose numbers need not be consecutive. NaN if no class has a union.
    """
    names, place = np.unique(groups, return_inverse=True)
    totals = scores.sum(0).astype(np.float64)  # (K, 2)
    held = totals[:, 1] > 0
    if not held.any():
        return np.full(len(names), np.nan)
    both, either = scores[:, held, 0], scores[:, held, 1]  # (T, K) each
    iou = totals[held, 0] / totals[held, 1]
    of_image = ((both - iou * either) / totals[held, 1]).mean(1)  # (T,)
    return np.bincount(place, weights=of_image, minlength=len(names))


def pseudo_values(scores: Scores, groups: Groups) -> Vector:
    """Return a value for each group, (G,), whose mean is the mean IoU and whose variance is that of its linear form.

    They take the place of right and wrong in `intervals.image_noise`: the mean of G such values has the variance of the
    docstring above.
    """
    effect = influence(scores, groups)
    return mean_iou(scores) + len(effect) * effect


def covariance(runs: list[Scores], groups: Groups) -> Vector:
    """Return the covariance of the mean IoU of runs on the same test images, (R, R), from the sampling of groups.

    runs: (T, K, 2) each. groups: (T,). NaN for a single group.
    """
    effects = np.stack([influence(scores, groups) for scores in runs])  # (R, G)
    G = effects.shape[1]
    if G < 2:
        return np.full((len(runs), len(runs)), np.nan)
    result: Vector = G / (G - 1) * effects @ effects.T
    return result

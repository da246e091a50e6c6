"""The noise of test images in a mean IoU: dependent images form groups, and the mean is linearised over the groups.

A mean IoU is no mean over images. It comes from one table over all of them. With I_ik and U_ik the intersection and
the union of image i and class k, IoU_k is sum_i I_ik / sum_i U_ik, and mIoU is the mean of IoU_k over the K classes
that have a union. The delta method (the linearised ratio estimator of survey statistics, Cochran 1977, Sampling
Techniques, section 6.3) gives the influence of one image on it,

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

from bias_lab.statistics import images
from bias_lab.statistics.intervals import Vector

Groups = NDArray[np.int64]  # (T,) the group of each test image
Scores = NDArray[np.int64]  # (T, K, 2) intersection and union of each test image and class, in pixels


def pseudo_values(runs: list[Scores], groups: Groups) -> Vector:
    """Return mIoU_r + G e_rg of each run and group, (R, G), whose mean over groups is the mean IoU of the run.

    They take the place of right and wrong in `intervals.image_noise`: the mean of G such values has the variance of the
    docstring above.
    """
    text = np.array([",".join(map(str, groups.tolist()))] * len(runs), object)
    return images.by_group(np.stack([images.shares(scores) for scores in runs]), text)


def pack_bits(rows: NDArray[np.bool_]) -> str:
    """Return which images a part has: how many in a row it lacks, has, lacks, and so on.

    >>> pack_bits(np.array([False, False, True]))
    '2 1'
    """
    starts = np.flatnonzero(np.r_[True, rows[1:] != rows[:-1]])
    lengths = np.diff(np.r_[starts, len(rows)]).tolist()
    return " ".join(map(str, [0, *lengths] if len(rows) and rows[0] else lengths))


def pack_parts(parts: Mapping[str, NDArray[np.bool_]]) -> str:
    """Return parts of the test images as the column `test_parts` has them: a line each.

    >>> pack_parts({"night": np.array([False, False, True])})
    'night: 2 1'
    """
    return "\n".join(f"{name}: {pack_bits(rows)}" for name, rows in parts.items())


def unpack_parts(text: str, images: int) -> dict[str, NDArray[np.bool_]]:
    """Return which of so many test images belong to each part, by name. Raises ValueError for another number of images.

    >>> {name: rows.tolist() for name, rows in unpack_parts("night: 2 1", 3).items()}
    {'night': [False, False, True]}
    """
    parts = {}
    for line in text.splitlines():
        name, _, packed = line.rpartition(": ")
        lengths = [int(length) for length in packed.split()]
        parts[name] = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
        if len(parts[name]) != images:
            raise ValueError(f"the part {name} is of {len(parts[name])} images, and there are {images}")
    return parts

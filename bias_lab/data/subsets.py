"""Which images a run is trained on: the order of a pool, and a run's selection from it (DESIGN 3.2). No torch.

The order is a pure function of (fingerprint, draw): hashes and integers alone, no random-number library, so it is the
same on every platform and version. Every prefix is a subset, hence subsets are nested.
"""

import hashlib
import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bias_lab.definition import Run
from bias_lab.errors import UserError

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """What a run trains on. indices: (N,) of the pool, in order; labels: (N,) after noise; holdout: indices or None."""

    indices: Indices
    labels: NDArray[np.int64]
    holdout: Indices | None


def keys(fingerprint: str, draw: int, count: int) -> list[bytes]:
    """Each pool image's sort key: the BLAKE2b hash of fingerprint, draw and index."""
    start = hashlib.blake2b(f"{fingerprint} {draw} ".encode(), digest_size=16)
    made = []
    for index in range(count):
        hasher = start.copy()
        hasher.update(b"%d" % index)
        made.append(hasher.digest())
    return made


def by_class(fingerprint: str, labels: NDArray[np.int64], draw: int) -> list[Indices]:
    """For each class from 0 to the largest label, its images' indices sorted by key."""
    key = np.array(keys(fingerprint, draw, len(labels)), dtype="S16").view(">u8").reshape(-1, 2)
    order = np.lexsort((key[:, 1], key[:, 0], labels))
    ends = np.cumsum(np.bincount(labels))[:-1]
    return np.split(order.astype(np.int64), ends)


def interleave(shares: list[int], length: int) -> NDArray[np.int64]:
    """The class of each of the first `length` images, every prefix within one image of each class's share.

    shares: (K,) integers, a class's part of the whole. The quota method of Balinski and Young (1975,
    doi:10.1080/00029890.1975.11993911): of the classes whose next image would not exceed their rounded-up share, the
    one with the largest share / (taken + 1) comes next, ties to the lower class.
    """
    total = sum(shares)
    taken = [0] * len(shares)
    waiting = [(1, c) for c, share in enumerate(shares) if share]  # (the first step at which the class may come, class)
    heapq.heapify(waiting)
    ready: list[tuple[float, int]] = []
    order = np.empty(length, np.int64)
    for step in range(1, length + 1):
        while waiting and waiting[0][0] <= step:
            c = heapq.heappop(waiting)[1]
            heapq.heappush(ready, (-shares[c] / (taken[c] + 1), c))
        c = heapq.heappop(ready)[1]
        order[step - 1] = c
        taken[c] += 1
        heapq.heappush(waiting, (taken[c] * total // shares[c] + 1, c))  # the first step whose share exceeds `taken`
    return order


def order(fingerprint: str, labels: NDArray[np.int64], draw: int, *, balanced: bool = False) -> Indices:
    """The pool's indices (M,) in the order of one draw; every prefix is a subset.

    labels: (M,) class numbers. balanced: the classes take turns, so that prefixes have equal counts until the smallest
    class is used up; otherwise every prefix is within one image of proportional for every class.
    """
    groups = by_class(fingerprint, np.asarray(labels, np.int64), draw)
    if balanced:
        turn = np.concatenate([np.arange(len(group)) for group in groups])
        kind = np.concatenate([np.full(len(group), c) for c, group in enumerate(groups)])
        return np.concatenate(groups)[np.lexsort((kind, turn))]
    return _take(groups, interleave([len(group) for group in groups], len(labels)))


def _take(groups: list[Indices], classes: NDArray[np.int64]) -> Indices:
    """Deal the groups' images out in the order of `classes`."""
    dealt = np.empty(len(classes), np.int64)
    for c, group in enumerate(groups):
        places = np.flatnonzero(classes == c)
        dealt[places] = group[: len(places)]
    return dealt


def long_tail(counts: list[int], factor: float, size: int) -> list[int]:
    """Integer shares that fall geometrically from class 0 to the last, the first `factor` times the last.

    The profile of Cui et al. 2019 (arXiv:1901.05555); classes with no image in the pool have no share.
    """
    ladder = max(len(counts) - 1, 1)
    shares = [round(2**20 * factor ** (-c / ladder)) if count else 0 for c, count in enumerate(counts)]
    taken = np.bincount(interleave(shares, size), minlength=len(counts))
    for c, (wanted, there) in enumerate(zip(taken.tolist(), counts, strict=True)):
        if wanted > there:
            raise UserError(
                f"imbalance {factor:g} at size {size} needs {wanted} images of class {c}, and the pool has {there}",
                remedy="a smaller size or a smaller imbalance",
            )
    return shares


def noisy(labels: NDArray[np.int64], share: float, fingerprint: str, draw: int, classes: int) -> NDArray[np.int64]:
    """The pool's labels with each replaced, with probability `share`, by one of the other classes, all equally likely.

    A pure function of (fingerprint, draw, index), so that nested subsets keep their wrong labels.
    """
    if not share:
        return labels
    digest = b"".join(keys(f"label noise {fingerprint}", draw, len(labels)))
    word = np.frombuffer(digest, ">u8").reshape(-1, 2)
    flip = (word[:, 0] >> np.uint64(11)).astype(np.float64) * 2.0**-53 < share
    other = (word[:, 1] % np.uint64(classes - 1)).astype(np.int64)
    return np.where(flip, (labels + 1 + other) % classes, labels)


def holdout_size(pool: int) -> int:
    """Return how many images the hold-out takes of a pool: the last min(1,000, 20 %) of a draw's order."""
    return min(1000, pool // 5)


def smallest_size(counts: list[int]) -> int:
    """The smallest prefix of the proportional order that holds every class that the pool holds."""
    classes = interleave(counts, sum(counts))
    first = np.unique(classes, return_index=True)[1]
    return int(first.max()) + 1


def check_balanced(counts: list[int], size: int) -> None:
    """Raises UserError for a size at which the classes can't have equal counts; those without an image have no part."""
    smallest = min(count for count in counts if count)
    largest = smallest * sum(count > 0 for count in counts)
    if size > largest:
        name = counts.index(smallest)
        raise UserError(f"size {size} can't be balanced: class {name} has {smallest} images", f"at most {largest}")


def select(run: Run, labels: NDArray[np.int64], fingerprint: str, *, ranking: Indices | None = None) -> Selection:
    """The images that a run trains on, and those of the hold-out that it may be judged on before its last step.

    labels: (M,) of the pool. ranking: a manifest's order, in place of a draw's. A run of size 0 (a pretraining on the
    pool) takes them all. The hold-out is the last min(1,000, 20 %) of the draw's order; None if the subset reaches into
    it. Raises UserError if the size exceeds the pool or leaves a class without an image.
    """
    labels = np.asarray(labels, np.int64)
    counts = np.bincount(labels).tolist()
    plain = order(fingerprint, labels, run.draw) if ranking is None else ranking
    size = run.size or len(plain)
    if size > len(plain):
        raise UserError(f"size {size} exceeds the {len(plain)} images of the {'manifest' if run.manifest else 'pool'}")
    chosen = _chosen(run, labels, counts, fingerprint, plain, size)
    missing = np.flatnonzero((np.bincount(labels[chosen], minlength=len(counts)) == 0) & (np.array(counts) > 0))
    if run.size and missing.size:
        known = ranking is None and run.imbalance == 1
        remedy = f"the smallest size that works is {smallest_size(counts)}" if known else "a larger size"
        raise UserError(f"size {size} leaves class {missing[0]} without an image", remedy=remedy)
    holdout = _holdout(labels, fingerprint, plain, is_draw=ranking is None)
    if not len(holdout) or np.intersect1d(chosen, holdout).size:
        return Selection(chosen, _labels(run, labels, fingerprint)[chosen], None)
    return Selection(chosen, _labels(run, labels, fingerprint)[chosen], holdout)


def _holdout(labels: NDArray[np.int64], fingerprint: str, plain: Indices, *, is_draw: bool) -> Indices:
    """The last min(1,000, 20 %) of the order; with a manifest, of draw 0's order, the manifest's images left out."""
    kept = holdout_size(len(labels))
    if not is_draw:
        whole = order(fingerprint, labels, 0)
        plain = whole[~np.isin(whole, plain)]
    return plain[len(plain) - min(kept, len(plain)) :]


def _labels(run: Run, labels: NDArray[np.int64], fingerprint: str) -> NDArray[np.int64]:
    return noisy(labels, run.label_noise, fingerprint, run.draw, int(labels.max()) + 1)


def _chosen(
    run: Run, labels: NDArray[np.int64], counts: list[int], fingerprint: str, plain: Indices, size: int
) -> Indices:
    if run.manifest or (run.imbalance == 1 and not run.balanced):
        return plain[:size]
    if run.balanced and run.imbalance != 1:
        raise UserError("balanced and imbalance exclude each other", remedy="leave one of them out")
    if run.balanced:
        check_balanced(counts, size)
        return order(fingerprint, labels, run.draw, balanced=True)[:size]
    shares = long_tail(counts, run.imbalance, size)
    return _take(by_class(fingerprint, labels, run.draw), interleave(shares, size))

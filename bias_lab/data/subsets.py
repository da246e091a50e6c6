"""Select the images that a run is trained on: the order of a pool, and a prefix of it. No torch.

The contract is in docs/design.md, Subsets. The order is a pure function of (fingerprint, blocks, draw). It uses hashes
and integers and no random-number library, so it is the same on every platform and version. Every prefix is a subset,
hence subsets are nested.
"""

import hashlib
import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bias_lab.definition import Run
from bias_lab.errors import UserError

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """Hold the images to train on. indices: (N,) of the pool, in order. holdout: indices.

    labels: class numbers (N,) after noise, or masks (N, H, W).
    """

    indices: Indices
    labels: NDArray[Any]
    holdout: Indices | None


def keys(fingerprint: str, draw: int, count: int) -> list[bytes]:
    """Return the sort key of each image of the pool: the BLAKE2b hash of fingerprint, draw and index."""
    start = hashlib.blake2b(f"{fingerprint} {draw} ".encode(), digest_size=16)
    digests = []
    for index in range(count):
        hasher = start.copy()
        hasher.update(b"%d" % index)
        digests.append(hasher.digest())
    return digests


def by_class(fingerprint: str, labels: NDArray[np.int64], draw: int, blocks: int = 0) -> list[Indices]:
    """Return for each class, from 0 to the largest label, its images' indices sorted by key.

    With blocks = k it is every k-th of draw 0's, from the image whose place is `draw`.
    """
    key = np.array(keys(fingerprint, 0 if blocks else draw, len(labels)), dtype="S16").view(">u8").reshape(-1, 2)
    order = np.lexsort((key[:, 1], key[:, 0], labels))
    ends = np.cumsum(np.bincount(labels))[:-1]
    groups = np.split(order.astype(np.int64), ends)
    return [group[draw::blocks] for group in groups] if blocks else groups


def name_of(number: int, classes: Sequence[str]) -> str:
    """Return a class as messages name it. classes: the names in order, empty if they are not known.

    >>> name_of(1, ("ant", "bee")), name_of(1, ())
    ("class 'bee'", 'class 1')
    """
    return f"class '{classes[number]}'" if number < len(classes) else f"class {number}"


def block_counts(counts: list[int], blocks: int, draw: int, classes: Sequence[str] = ()) -> list[int]:
    """Return the images of each class in one of the blocks of a pool. Without blocks it is the pool's.

    classes: their names, for messages. Raises UserError if a class of the pool has fewer images than there are blocks.
    """
    if not blocks:
        return counts
    for c, count in enumerate(counts):
        if 0 < count < blocks:
            raise UserError(
                f"{blocks} blocks leave a block without {name_of(c, classes)}, of which the pool has {count} images",
                f"at most {min(count for count in counts if count)} blocks",
            )
    return [len(range(draw, count, blocks)) for count in counts]


def interleave(shares: list[int], length: int) -> NDArray[np.int64]:
    """Return the class of each of the first `length` images. Every prefix is within one image of each class's share.

    shares: (K,) integers, a class's part of the whole. The rule is the quota method of Balinski and Young (1975,
    doi:10.1080/00029890.1975.11993911). Of the classes whose next image would not exceed their rounded-up share, the
    one with the largest share / (taken + 1) comes next. Ties go to the lower class.
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


def order(
    fingerprint: str, labels: NDArray[np.int64], draw: int, *, balanced: bool = False, blocks: int = 0
) -> Indices:
    """Return the pool's indices (M,) in the order of one draw, or those of one block. Every prefix is a subset.

    labels: (M,) class numbers. balanced: the classes take turns, so that prefixes have equal counts until the smallest
    class is used up. Otherwise every prefix is within one image of proportional for every class. blocks: how many
    disjoint blocks draw 0's order is cut into. Then the order is that of block `draw`, about M / blocks images.
    """
    groups = by_class(fingerprint, np.asarray(labels, np.int64), draw, blocks)
    counts = [len(group) for group in groups]
    return _take(groups, in_turn(counts) if balanced else interleave(counts, sum(counts)))


def whole_order(run: Run, labels: NDArray[np.int64], fingerprint: str) -> Indices:
    """Return the order of the whole pool whose end is a run's hold-out: its draw's, or draw 0's if it reads a block."""
    return order(fingerprint, labels, 0 if run.blocks else run.draw)


def in_turn(counts: list[int]) -> NDArray[np.int64]:
    """Return the class of each image of a balanced order: one image of each class in turn, until a class is used up."""
    turn = np.concatenate([np.arange(count) for count in counts])
    kind = np.repeat(np.arange(len(counts)), counts)
    return kind[np.lexsort((kind, turn))]


def _take(groups: list[Indices], classes: NDArray[np.int64]) -> Indices:
    """Return the groups' images in the order of `classes`."""
    dealt = np.empty(len(classes), np.int64)
    for c, group in enumerate(groups):
        places = np.flatnonzero(classes == c)
        dealt[places] = group[: len(places)]
    return dealt


def long_tail(counts: list[int], factor: float, size: int) -> list[int]:
    """Return integer shares that fall geometrically from class 0 to the last. The first is `factor` times the last.

    This is the profile of Cui et al. 2019 (arXiv:1901.05555). A class without an image in the pool has no share. Raises
    UserError if the pool has too few images of a class.
    """
    shares = tail_shares(counts, factor)
    taken = np.bincount(interleave(shares, size), minlength=len(counts))
    for c, (wanted, held) in enumerate(zip(taken.tolist(), counts, strict=True)):
        if wanted > held:
            raise UserError(
                f"imbalance {factor:g} at size {size} needs {wanted} images of class {c}, but the pool has {held}",
                remedy="choose a smaller size or a smaller imbalance",
            )
    return shares


def tail_shares(counts: list[int], factor: float) -> list[int]:
    """Return the shares of `long_tail`, whether or not the pool has enough images."""
    ladder = max(len(counts) - 1, 1)
    return [round(2**20 * factor ** (-c / ladder)) if count else 0 for c, count in enumerate(counts)]


def noisy(labels: NDArray[np.int64], share: float, fingerprint: str, draw: int, classes: int) -> NDArray[np.int64]:
    """Return the pool's labels, each replaced with probability `share` by another class, all equally likely.

    The result is a pure function of (fingerprint, draw, index), so that nested subsets keep their wrong labels.
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


def largest_tuned(run: Run, counts: list[int]) -> int:
    """Return the largest size, up to the run's own, at which its labelled images leave the hold-out alone.

    counts: images of each class of the pool, from which the run takes its images by a draw. Return 0 if no size does.
    """
    left = sum(counts) - holdout_size(sum(counts))
    if left == sum(counts):
        return 0
    proportional = not run.balanced and run.imbalance == 1
    if proportional and not run.blocks:
        return min(run.size, left)
    free = np.bincount(interleave(counts, left), minlength=len(counts)).tolist()  # of each class, before the hold-out
    if run.blocks:
        free = [len(range(run.draw, count, run.blocks)) for count in free]
        counts = block_counts(counts, run.blocks, run.draw)
    shares = counts if proportional else tail_shares(counts, run.imbalance)
    classes = in_turn(counts) if run.balanced else interleave(shares, run.size)
    places = [np.flatnonzero(classes[: run.size] == c) for c in range(len(counts))]
    reaching = [place[spared] for place, spared in zip(places, free, strict=True) if len(place) > spared]
    return int(min(reaching, default=run.size))


def smallest_size(counts: list[int]) -> int:
    """Return the length of the shortest prefix of the proportional order that holds every class of the pool."""
    classes = interleave(counts, sum(counts))
    first = np.unique(classes, return_index=True)[1]
    return int(first.max()) + 1


def left_out(counts: list[int], size: int) -> int:
    """Return the first class of the pool that the proportional subset of that size has no image of, or -1."""
    taken = np.bincount(interleave(counts, size), minlength=len(counts))
    missing = np.flatnonzero((taken == 0) & (np.array(counts) > 0))
    return int(missing[0]) if missing.size else -1


def check_balanced(counts: list[int], size: int, classes: Sequence[str] = ()) -> None:
    """Raise UserError for a size at which the classes cannot have equal counts. Empty classes are ignored.

    classes: their names, for messages.
    """
    smallest = min(count for count in counts if count)
    largest = smallest * sum(count > 0 for count in counts)
    if size > largest:
        name = name_of(counts.index(smallest), classes)
        what = f"size {size} can't be balanced: {name} has {smallest} images"
        raise UserError(what, f"the largest balanced size is {largest}")


def select(
    run: Run,
    labels: NDArray[np.int64],
    fingerprint: str,
    *,
    ranking: Indices | None = None,
    classes: Sequence[str] = (),
) -> Selection:
    """Return the images that a run trains on, and the hold-out on which it may be evaluated before its last step.

    labels: (M,) of the pool. ranking: a manifest's order, instead of a draw's. classes: their names, for messages. A
    run of size 0 (a pretraining on the pool) takes all images. The hold-out is the last min(1,000, 20 %) of
    `whole_order`, or None if the subset reaches into it. Raises UserError if the size exceeds the pool or leaves a
    class without an image.
    """
    labels = np.asarray(labels, np.int64)
    counts = block_counts(np.bincount(labels).tolist(), run.blocks, run.draw, classes)
    ranked = order(fingerprint, labels, run.draw, blocks=run.blocks) if ranking is None else ranking
    size = run.size or len(ranked)
    if size > len(ranked):
        part = "manifest" if run.manifest else "block" if run.blocks else "pool"
        raise UserError(f"size {size} exceeds the {len(ranked)} images of the {part}")
    if run.balanced and run.imbalance == 1 and not run.manifest:
        check_balanced(counts, size, classes)
    chosen = _chosen(run, labels, counts, fingerprint, ranked, size)
    missing = np.flatnonzero((np.bincount(labels[chosen], minlength=len(counts)) == 0) & (np.array(counts) > 0))
    if run.size and missing.size:
        known = ranking is None and run.imbalance == 1
        remedy = f"the smallest size that works is {smallest_size(counts)}" if known else "choose a larger size"
        name = name_of(int(missing[0]), classes)
        raise UserError(f"size {size} leaves {name} without an image", remedy=remedy)
    whole = whole_order(run, labels, fingerprint) if run.blocks else ranked
    holdout = _holdout(labels, fingerprint, whole, is_draw=ranking is None)
    if not len(holdout) or np.intersect1d(chosen, holdout).size:
        return Selection(chosen, _labels(run, labels, fingerprint)[chosen], None)
    return Selection(chosen, _labels(run, labels, fingerprint)[chosen], holdout)


def _holdout(labels: NDArray[np.int64], fingerprint: str, ranked: Indices, *, is_draw: bool) -> Indices:
    """Return the end of the order. With a manifest it is the end of draw 0's order without the manifest's images."""
    kept = holdout_size(len(labels))
    if not is_draw:
        whole = order(fingerprint, labels, 0)
        ranked = whole[~np.isin(whole, ranked)]
    return ranked[len(ranked) - min(kept, len(ranked)) :]


def _labels(run: Run, labels: NDArray[np.int64], fingerprint: str) -> NDArray[np.int64]:
    return noisy(labels, run.label_noise, fingerprint, run.draw, int(labels.max()) + 1)


def _chosen(
    run: Run, labels: NDArray[np.int64], counts: list[int], fingerprint: str, ranked: Indices, size: int
) -> Indices:
    if run.manifest or (run.imbalance == 1 and not run.balanced):
        return ranked[:size]
    if run.balanced and run.imbalance != 1:
        raise UserError("balanced and imbalance exclude each other", remedy="remove one of them")
    if run.balanced:
        return order(fingerprint, labels, run.draw, balanced=True, blocks=run.blocks)[:size]
    shares = long_tail(counts, run.imbalance, size)
    return _take(by_class(fingerprint, labels, run.draw, run.blocks), interleave(shares, size))

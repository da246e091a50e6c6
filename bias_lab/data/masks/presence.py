"""Select the images with masks that a run is trained on: an order of the pool in which every class keeps its share.

An image with a mask holds several classes, so a pool is described by its presence: (M, K), whether image m holds class
k. The order is a pure function of (fingerprint, blocks, draw), as `bias_lab.data.subsets` has it for one class an
image: hashes and integers, no random-number library, and every prefix is a subset. No torch.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bias_lab.data import subsets
from bias_lab.data.readers.pixel_store import Presence
from bias_lab.data.subsets import Indices, Selection
from bias_lab.definition import Run
from bias_lab.errors import UserError

NEAR = (5, 6, 4, 7, 3, 8, 2)  # quarters of an image: how close every class must stay to its share, the first that works
SLACK = (0.9, 1.5, 2.0)  # images a class may be from its share where deadlines decide, tried after those
BOUND = 2  # images: how far a class may be from its share in any prefix
WINDOW = 256  # the next images in hash order among which one is chosen
OFTEN = 16  # a combination of classes is frequent if one in so many images shows it
FIRST = 8  # the next images in hash order that hold a class, which are candidates too


def presence_of(masks: NDArray[np.uint8], classes: int) -> Presence:
    """Return (M, K): whether a mask (H, W) of (M, H, W) holds each class. Void pixels hold none."""
    found = np.zeros((len(masks), classes), bool)
    for row, mask in zip(found, masks, strict=True):
        row[:] = np.bincount(mask.ravel(), minlength=256)[:classes] > 0
    return found


def order(fingerprint: str, presence: Presence, draw: int, *, blocks: int = 0) -> Indices:
    """Return the pool's indices in the order of one draw, or those of one block. Every prefix is a subset.

    With blocks = k, draw 0's order is dealt out to k disjoint blocks, and the order is that of block `draw`. The images
    of draw 0's hold-out stand last in every block, so that a block has a known number of images before them.
    """
    if not blocks:
        return spread(presence, ranks(fingerprint, len(presence), draw))
    whole = order(fingerprint, presence, 0)
    kept = len(whole) - subsets.holdout_size(len(whole))
    parts = []
    for first, part in ((0, whole[:kept]), (kept, whole[kept:])):
        mine = part[deal(presence[part], blocks, first) == draw]
        rank = np.argsort(np.argsort(ranks(f"block {fingerprint}", len(whole), draw)[mine]))
        parts.append(mine[spread(presence[mine], rank)])
    return np.concatenate(parts)


def ranks(fingerprint: str, count: int, draw: int) -> Indices:
    """Return the place of each image of the pool in the hash order of a draw, (M,)."""
    key = np.array(subsets.keys(fingerprint, draw, count), dtype="S16").view(">u8").reshape(-1, 2)
    return np.argsort(np.lexsort((key[:, 1], key[:, 0])))


def spread(presence: Presence, rank: Indices) -> Indices:
    """Return an order of images (M, K) in which the count of every class stays within two images of its share.

    That holds for every prefix. No rule can promise it for any classes, but the tests find it for 2,000 random pools of
    up to 12 classes, and for as many in which an image shows one of up to 23 classes before a background.
    rank: (M,) the place of each image in hash order.
    """
    orders = []
    near = itertools.product((presence[:, :0], _combinations(presence)), map(rarest_first, NEAR))
    for further, choose in (*near, *((presence[:, :0], first_due(slack)) for slack in SLACK)):
        orders.append(spread_by(presence, further, rank, choose))
        if _distance(presence[orders[-1]]) <= BOUND:
            return orders[-1]
    return min(orders, key=lambda order: _distance(presence[order]))


def _distance(presence: Presence) -> float:
    """Return the largest distance of a class's count from its share over all prefixes of ordered images (M, K)."""
    M = len(presence)
    share = np.arange(1, M + 1)[:, None] * presence.sum(0)
    return float(np.abs(M * presence.cumsum(0) - share).max(initial=0) / max(M, 1))


class Step(NamedTuple):
    """What the next image of an order is chosen by. there: (candidates, K + …), the classes that each holds.

    total, taken: (K + …) images of the pool and of the order so far with each class. rarest: the K classes, the rarest
    first. step: the length of the order with the next image. M: of the pool.
    """

    there: Indices
    total: Indices
    taken: Indices
    rarest: list[int]
    step: int
    M: int

    @property
    def after(self) -> Indices:
        """How far each class would be above its share, in M-ths of an image: (candidates, K + …)."""
        return self.M * (self.taken + self.there) - self.step * self.total


def spread_by(presence: Presence, further: Presence, rank: Indices, choose: Callable[[Step], int]) -> Indices:
    """Return an order of images (M, K). further: (M, …), what else is kept to its share. choose: the next candidate.

    Of images that serve equally well, the first in hash order is taken.
    """
    M, K = presence.shape
    in_rank = np.argsort(rank)
    there = np.concatenate([presence, further], axis=1)[in_rank].astype(np.int64)  # in hash order
    total = there.sum(0)
    rarest = [c for c in np.argsort(total[:K], kind="stable").tolist() if total[c]]
    waiting, holding = np.arange(M), {c: np.flatnonzero(there[:, c]) for c in rarest}
    taken, chosen = np.zeros(len(total), np.int64), np.empty(M, np.int64)
    for step in range(1, M + 1):
        near = [waiting[:WINDOW], *(holding[c][:FIRST] for c in rarest if len(waiting) > WINDOW)]
        candidates = np.unique(np.concatenate(near))
        image = candidates[choose(Step(there[candidates], total, taken, rarest, step, M))]
        chosen[step - 1] = image
        taken += there[image]
        waiting = waiting[waiting != image]
        for c in np.flatnonzero(there[image, :K]).tolist():
            holding[c] = holding[c][holding[c] != image]
    return in_rank[chosen]


def _combinations(presence: Presence) -> Presence:
    """Return which images (M, K) show each combination of classes that is frequent: (M, at most OFTEN).

    Where classes alone lead to no order, these are kept to their shares too. Two classes that most images show together
    could both run ahead, since an image with one of them alone helps the other and harms the first.
    """
    bits = np.packbits(presence, axis=1)
    _, kind, counts = np.unique(bits, axis=0, return_inverse=True, return_counts=True)
    often = [k for k in np.argsort(-counts, kind="stable").tolist() if counts[k] * OFTEN >= len(presence)]
    return np.asarray(kind.reshape(-1, 1) == np.array(often, int)[None], bool)


def rarest_first(quarters: int) -> Callable[[Step], int]:
    """Return the choice of the image that holds the rarest class below its share.

    It must leave every class within so many quarters of an image of its share. If no image with this class does, the
    next rarest class below its share is tried, and so on. If no image leaves all classes as close, the one with the
    smallest distance is taken. Rare classes first is the rule of Sechidis et al. 2011
    (doi:10.1007/978-3-642-23808-6_10).
    """

    def choose(at: Step) -> int:
        distance = 4 * np.abs(at.after).max(1, initial=0)
        close = distance <= quarters * at.M
        if not close.any():
            return int(distance.argmin())
        for c in (c for c in at.rarest if at.M * at.taken[c] < at.step * at.total[c]):
            if (good := close & (at.there[:, c] > 0)).any():
                return int(good.argmax())
        return int(close.argmax())

    return choose


def first_due(slack: float) -> Callable[[Step], int]:
    """Return the choice of the image with the class that would be the first to fall `slack` images below its share.

    It may leave no class more than `slack` images above its share, or as little as possible. Where an image has one
    class that not all others have, this is the rule of Tijdeman 1980 (doi:10.1016/0012-365X(80)90269-1), which keeps
    every class within one image of its share.
    """

    def choose(at: Step) -> int:
        over = at.after.max(1, initial=0)
        fits = over <= max(slack * at.M, over.min())
        due = np.ceil((at.taken + slack) * at.M / np.maximum(at.total, 1))  # the last length that needs no other
        first = np.where(fits[:, None] & (at.there > 0) & (at.total < at.M), due, np.inf).min(1, initial=np.inf)
        return int(first.argmin()) if np.isfinite(first).any() else int(fits.argmax())

    return choose


def deal(presence: Presence, blocks: int, first: int = 0) -> Indices:
    """Return the block of each image (M, K) of an order, so that every class is shared out evenly.

    Of every `blocks` consecutive images each block gets one. The image with the rarest class chooses first, and takes
    the block in which its classes lack most of their share. first: the place of the first image in a larger order,
    where the images that complete its turn went to the first blocks.
    """
    M, K = presence.shape
    there = presence.astype(np.int64)
    total = there.sum(0)
    weight = 1 / np.sqrt(np.maximum(total, 1))  # a rare class counts more
    held, block = np.zeros((blocks, K), np.int64), np.empty(M, np.int64)
    turns = (np.arange(M) + first) // blocks
    for turn in np.unique(turns):
        images = np.flatnonzero(turns == turn)
        rarity = np.where(there[images] > 0, total, M + 1).min(1, initial=M + 1)
        free = ((images + first) % blocks).tolist()
        for image in images[np.argsort(rarity, kind="stable")].tolist():
            lack = [float((there[image] * (held.mean(0) - held[b]) * weight).sum()) for b in free]
            best = free.pop(int(np.argmax(np.round(lack, 12))))
            block[image] = best
            held[best] += there[image]
    return block


def block_size(pool: int, blocks: int, draw: int) -> int:
    """Return how many images a block has, and so the largest size of a run that reads it. The pool's without blocks.

    >>> [block_size(367, 3, draw) for draw in range(3)], block_size(367, 0, 0)
    ([123, 122, 122], 367)
    """
    return len(range(draw, pool, blocks)) if blocks else pool


def largest_tuned(pool: int, blocks: int, draw: int) -> int:
    """Return the largest size that leaves the hold-out alone.

    >>> largest_tuned(367, 0, 0), largest_tuned(367, 3, 0)
    (294, 98)
    """
    return block_size(pool - subsets.holdout_size(pool), blocks, draw)


def select(
    run: Run,
    presence: Presence,
    fingerprint: str,
    *,
    ranking: Indices | None = None,
    classes: Sequence[str] = (),
) -> Selection:
    """Return the images that a run trains on, and the hold-out on which it may be evaluated before its last step.

    presence: (M, K) of the pool. ranking: a manifest's order, instead of a draw's. classes: their names, for messages.
    A run of size 0 (a pretraining on the pool) takes all images. The hold-out is the last min(1,000, 20 %) of the
    draw's order (draw 0's with blocks or a manifest), or None if the subset reaches into it. The labels of the
    selection are 0, since an image has no class of its own. Raises UserError if the size exceeds the pool or leaves a
    class without an image.
    """
    ranked = order(fingerprint, presence, run.draw, blocks=run.blocks) if ranking is None else ranking
    size = run.size or len(ranked)
    if size > len(ranked):
        part = "manifest" if run.manifest else "block" if run.blocks else "pool"
        raise UserError(f"size {size} exceeds the {len(ranked)} images of the {part}")
    chosen = ranked[:size]
    missing = np.flatnonzero(presence.any(0) & ~presence[chosen].any(0))
    if run.size and missing.size:
        name = subsets.name_of(int(missing[0]), classes)
        whole = presence[np.ix_(ranked, missing)].any(0).all()
        remedy = f"the smallest size that works is {smallest_size(presence[ranked])}" if whole else "use fewer blocks"
        raise UserError(f"size {size} leaves {name} without an image", remedy=remedy)
    whole_order = ranked if ranking is None and not run.blocks else order(fingerprint, presence, 0)
    if ranking is not None:
        whole_order = whole_order[~np.isin(whole_order, ranked)]
    kept = min(subsets.holdout_size(len(presence)), len(whole_order))
    holdout = whole_order[len(whole_order) - kept :]
    reached = not len(holdout) or bool(np.intersect1d(chosen, holdout).size)
    return Selection(chosen, np.zeros(len(chosen), np.int64), None if reached else holdout)


def smallest_size(presence: Presence) -> int:
    """Return the length of the shortest prefix of ordered images (M, K) that holds every class."""
    held = np.flatnonzero(presence.any(0))
    return int(np.asarray(presence[:, held]).argmax(0).max(initial=0)) + 1

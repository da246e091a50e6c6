"""Test that subsets of images with masks are nested, close to proportional for every class, and the same everywhere."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bias_lab.data import subsets
from bias_lab.data.masks import presence
from bias_lab.definition import Run
from bias_lab.errors import UserError


def pool(images: int, classes: int, seed: int, *, correlated: bool = False) -> np.ndarray:
    """Return the presence (M, K) of a pool whose classes are in shares from few to nearly all images."""
    rng = np.random.default_rng(seed)
    if not correlated:
        return rng.random((images, classes)) < rng.beta(0.6, 0.6, classes)
    scene = rng.normal(size=(images, 1)) * rng.normal(size=classes)
    return rng.normal(size=(images, classes)) + scene < 1.5 * rng.normal(size=classes)


def off(present: np.ndarray, order: np.ndarray) -> float:
    """Return the largest distance of a class's count from its share, over all prefixes, in images."""
    held = present[order].cumsum(0)
    return float(np.abs(held - np.arange(1, len(order) + 1)[:, None] * present[order].mean(0)).max())


def run(**changes: object) -> Run:
    return Run(**{"dataset": "x", "backbone": "vit_micro", "size": 10, **changes})  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(st.integers(5, 150), st.integers(1, 12), st.integers(0, 10**6), st.booleans(), st.integers(0, 3))
def test_every_prefix_is_within_two_images_of_proportional(
    images: int, classes: int, seed: int, correlated: bool, draw: int
) -> None:
    present = pool(images, classes, seed, correlated=correlated)
    order = presence.order("f", present, draw)
    assert sorted(order.tolist()) == list(range(images))
    assert off(present, order) <= 2


def background_and_one(images: int, classes: int, seed: int) -> np.ndarray:
    """Return the presence (M, K) of a pool in which every image shows the background and one other class."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.ones(classes - 1)) if seed % 2 else None
    present = np.zeros((images, classes), bool)
    present[:, 0] = present[np.arange(images), 1 + rng.choice(classes - 1, images, p=shares)] = True
    return present


@settings(max_examples=25, deadline=None)
@given(st.integers(20, 150), st.integers(3, 24), st.integers(0, 10**6))
def test_one_class_before_a_background_is_within_two_images_too(images: int, classes: int, seed: int) -> None:
    present = background_and_one(images, classes, seed)
    assert off(present, presence.order("f", present, 0)) <= 2


def test_a_pool_in_which_the_rarest_first_falls_behind() -> None:
    present = background_and_one(183, 21, 83)
    ranks = presence.ranks("f", 183, 0)
    for quarters in presence.NEAR:
        assert off(present, presence.spread_by(present, present[:, :0], ranks, presence.rarest_first(quarters))) > 3
    assert off(present, presence.order("f", present, 0)) <= 1


@pytest.mark.slow
def test_the_bound_holds_for_two_thousand_pools_with_a_background() -> None:
    pools = (background_and_one(20 + k % 280, 3 + k % 21, k) for k in range(2000))
    assert max(off(present, presence.order("f", present, 0)) for present in pools) <= 2


@pytest.mark.slow
def test_the_bound_holds_for_two_thousand_random_pools() -> None:
    worst = [
        off(present, presence.order("f", present, k % 5))
        for k in range(2000)
        for present in [pool(20 + k % 180, 2 + k % 11, k, correlated=bool(k % 2))]
    ]
    assert max(worst) <= 2


@pytest.mark.parametrize("draw", range(3))
def test_an_order_by_hash_alone_would_not_pass(draw: int) -> None:
    present = pool(300, 8, 1)
    assert off(present, np.argsort(presence.ranks("f", 300, draw))) > 2


def test_rare_classes_come_first() -> None:
    present = np.zeros((400, 4), bool)
    present[:, 0] = True
    present[::2, 1] = True
    present[[17, 300], 2] = present[[40, 41, 399], 3] = True
    order = presence.order("f", present, 0)
    assert present[order[0], 2]
    assert presence.smallest_size(present[order]) <= 3
    assert [presence.smallest_size(present[presence.order("f", present, d)]) <= 4 for d in range(5)] == [True] * 5


def test_the_order_is_the_same_on_every_platform() -> None:
    present = (np.arange(600).reshape(100, 6) * 7919 % 101) % (np.arange(6) + 2) == 0
    digests = [
        hashlib.blake2b(presence.order("ab12", present, draw, blocks=blocks).astype("<i8").tobytes(), digest_size=8)
        for draw, blocks in ((0, 0), (1, 0), (0, 3), (2, 3))
    ]
    assert [digest.hexdigest() for digest in digests] == GOLDEN


GOLDEN = ["27c8b31dec07529d", "fbbe34239400f254", "7c7a64fee4221db9", "97ee32dd60cc0092"]


def test_draws_differ() -> None:
    present = pool(200, 6, 3)
    first = [set(presence.order("f", present, draw)[:50].tolist()) for draw in range(4)]
    assert max(len(a & b) for k, a in enumerate(first) for b in first[:k]) < 35


@settings(max_examples=20, deadline=None)
@given(st.integers(20, 150), st.integers(1, 8), st.integers(0, 10**6), st.integers(1, 5))
def test_blocks_are_disjoint_and_keep_the_shares(images: int, classes: int, seed: int, blocks: int) -> None:
    present = pool(images, classes, seed)
    orders = [presence.order("f", present, draw, blocks=blocks) for draw in range(blocks)]
    assert sorted(np.concatenate(orders).tolist()) == list(range(images))
    holdout = set(presence.order("f", present, 0)[images - subsets.holdout_size(images) :].tolist())
    for draw, order in enumerate(orders):
        assert len(order) == presence.block_size(images, blocks, draw)
        kept = presence.largest_tuned(images, blocks, draw)
        assert not holdout & set(order[:kept].tolist())
        assert holdout >= set(order[kept:].tolist())
        assert off(present, order[:kept]) <= 2  # of what the block holds before the hold-out
        wanted = present.mean(0) * len(order)
        assert np.abs(present[order].sum(0) - wanted).max() <= max(6, 0.1 * images)


def test_selections_are_nested_and_leave_the_holdout_alone() -> None:
    present = pool(100, 5, 2)
    small, large = (presence.select(run(size=size), present, "f") for size in (20, 60))
    assert small.indices.tolist() == large.indices[:20].tolist()
    assert small.holdout is not None
    assert large.holdout is not None
    assert len(small.holdout) == 20
    assert not set(large.indices.tolist()) & set(large.holdout.tolist())
    assert presence.select(run(size=81), present, "f").holdout is None
    assert len(presence.select(run(size=0, task="pretrain", regime="mae", source="pool"), present, "f").indices) == 100


def test_the_holdout_of_a_block_is_that_of_the_pool() -> None:
    present = pool(100, 5, 2)
    whole = presence.select(run(size=10), present, "f")
    block = presence.select(run(size=10, blocks=3, draw=2), present, "f")
    assert whole.holdout is not None
    assert block.holdout is not None
    assert whole.holdout.tolist() == block.holdout.tolist()


def test_a_manifest_takes_the_place_of_a_draw() -> None:
    present = pool(100, 5, 2)
    ranking = np.arange(40)
    chosen = presence.select(run(size=30, manifest="m"), present, "f", ranking=ranking)
    assert chosen.indices.tolist() == list(range(30))
    assert chosen.holdout is not None
    assert chosen.holdout.min() >= 40


def test_a_size_that_cannot_work_is_refused() -> None:
    present = np.zeros((50, 3), bool)
    present[:, 0] = True
    present[7, 1] = present[9, 2] = True
    with pytest.raises(UserError, match="size 60 exceeds the 50 images of the pool"):
        presence.select(run(size=60), present, "f")
    with pytest.raises(UserError, match="exceeds the 17 images of the block"):
        presence.select(run(size=20, blocks=3), present, "f")
    with pytest.raises(UserError, match=r"size 1 leaves class '(b|c)' without an image.*the smallest size"):
        presence.select(run(size=1), present, "f", classes=("a", "b", "c"))
    with pytest.raises(UserError, match="use fewer blocks"):
        presence.select(run(size=3, blocks=3), present, "f", classes=("a", "b", "c"))


def test_presence_is_counted_without_void() -> None:
    masks = np.array([[[0, 255], [2, 2]], [[255, 255], [255, 255]]], np.uint8)
    assert presence.presence_of(masks, 3).tolist() == [[True, False, True], [False, False, False]]


def test_equal_images_are_spread_in_hash_order() -> None:
    """Without any class nothing is preferred."""
    rank = presence.ranks("f", 30, 0)
    assert presence.spread(np.zeros((30, 2), bool), rank).tolist() == np.argsort(rank).tolist()


def test_a_large_pool_is_ordered_within_seconds() -> None:
    present = pool(3000, 11, 5)
    assert off(present, presence.order("f", present, 0)) <= 2

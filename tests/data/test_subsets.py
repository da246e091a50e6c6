"""Test that subsets are nested, proportional within one image at every prefix, and the same on every platform."""

import hashlib
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bias_lab.data import subsets
from bias_lab.definition import Run
from bias_lab.errors import UserError

COUNTS = st.lists(st.integers(1, 60), min_size=2, max_size=12)


def pool(counts: list[int]) -> np.ndarray:
    """Return labels of a pool with these class counts, shuffled so that index and class are unrelated."""
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(0).permutation(labels)


def run(**changes: object) -> Run:
    return Run(**{"dataset": "x", "backbone": "vit_micro", "size": 10, **changes})  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(COUNTS, st.integers(0, 5))
def test_every_prefix_is_within_one_image_of_proportional(counts: list[int], draw: int) -> None:
    labels = pool(counts)
    order = subsets.order("f", labels, draw)
    assert sorted(order) == list(range(len(labels)))
    taken = np.cumsum(np.eye(len(counts))[labels[order]], axis=0)  # (M, K) images of each class after each step
    share = np.arange(1, len(labels) + 1)[:, None] * np.array(counts) / len(labels)
    assert np.abs(taken - share).max() < 1


@settings(max_examples=40, deadline=None)
@given(COUNTS, st.integers(0, 5))
def test_balanced_prefixes_have_equal_counts_until_the_smallest_class_is_used_up(counts: list[int], draw: int) -> None:
    labels = pool(counts)
    order = subsets.order("f", labels, draw, balanced=True)
    assert sorted(order) == list(range(len(labels)))
    taken = np.cumsum(np.eye(len(counts))[labels[order]], axis=0)[: min(counts) * len(counts)]
    assert (taken.max(1) - taken.min(1) <= 1).all()


@pytest.mark.parametrize("draw", range(4))
def test_a_random_order_would_not_pass(draw: int) -> None:
    """Plant an error: an order by hash alone, without the quota method, exceeds the bound on a large pool."""
    labels = np.repeat(np.arange(2), [200, 200])
    order = np.random.default_rng(draw).permutation(400)
    taken = np.cumsum(labels[order] == 0)
    assert np.abs(taken - np.arange(1, 401) / 2).max() >= 1


def test_selections_of_growing_size_are_nested_also_with_options() -> None:
    counts = [732, 1300, 900, 1100]
    labels = pool(counts)
    for options in ({}, {"balanced": True}, {"label_noise": 0.3}, {"imbalance": 5.0}):
        small = subsets.select(run(size=100, **options), labels, "f")
        large = subsets.select(run(size=1000, **options), labels, "f")
        assert np.array_equal(small.indices, large.indices[:100])
        assert np.array_equal(small.labels, large.labels[:100])


def test_golden_hash_of_the_order() -> None:
    """Every version must draw the same order, since manifests are published."""
    labels = np.arange(1000) % 7
    digest = hashlib.sha256(subsets.order("ab14759e263048dc", labels, 3).astype("<i8").tobytes()).hexdigest()
    assert digest[:16] == "1616fbc52138b281"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=2, max_size=12).filter(any), st.integers(1, 7), st.booleans())
def test_blocks_are_disjoint_and_together_the_pool(counts: list[int], blocks: int, balanced: bool) -> None:
    labels = pool(counts)
    orders = [subsets.order("f", labels, draw, balanced=balanced, blocks=blocks) for draw in range(blocks)]
    assert sorted(np.concatenate(orders)) == list(range(len(labels)))
    for draw, order in enumerate(orders):
        held = np.bincount(labels[order], minlength=len(counts))
        assert np.abs(held - np.array(counts) / blocks).max() < 1
        if all(count == 0 or count >= blocks for count in counts):
            assert held.tolist() == subsets.block_counts(counts, blocks, draw)


@settings(max_examples=60, deadline=None)
@given(COUNTS, st.integers(1, 5), st.integers(0, 4))
def test_every_prefix_of_a_block_is_within_one_image_of_proportional(counts: list[int], blocks: int, draw: int) -> None:
    labels, draw = pool(counts), min(draw, blocks - 1)
    order = subsets.order("f", labels, draw, blocks=blocks)
    held = np.bincount(labels[order], minlength=len(counts))
    taken = np.cumsum(np.eye(len(counts))[labels[order]], axis=0)
    share = np.arange(1, len(order) + 1)[:, None] * held / max(len(order), 1)
    assert np.abs(taken - share).max(initial=0) < 1


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(80, 120), min_size=2, max_size=6), st.integers(1, 4), st.sampled_from([{}, {"balanced": True}])
)
def test_selections_from_blocks_are_nested_and_share_no_image(
    counts: list[int], blocks: int, options: dict[str, object]
) -> None:
    labels = pool(counts)
    chosen = [
        [subsets.select(run(size=size, draw=d, blocks=blocks, **options), labels, "f").indices for size in (30, 36)]
        for d in range(blocks)
    ]
    assert all(np.array_equal(small, large[:30]) for small, large in chosen)
    taken = np.concatenate([large for _, large in chosen])
    assert len(set(taken.tolist())) == 36 * blocks


def test_the_hold_out_of_a_block_is_that_of_draw_0() -> None:
    labels = pool([300, 200])
    whole = subsets.order("f", labels, 0)
    for draw in range(3):
        holdout = subsets.select(run(size=100, draw=draw, blocks=3), labels, "f").holdout
        assert holdout is not None
        assert np.array_equal(holdout, whole[400:])
    assert subsets.select(run(size=140, blocks=3), labels, "f").holdout is None


def test_golden_hash_of_a_block() -> None:
    labels = np.arange(1000) % 7
    digests = [
        hashlib.sha256(subsets.order("ab14759e263048dc", labels, d, blocks=3).astype("<i8").tobytes()).hexdigest()[:16]
        for d in range(3)
    ]
    assert digests == ["c8dd5af2282a6a09", "5c067ec51df50032", "57fb9b921154f66d"]


def test_a_pool_without_blocks_keeps_its_draws() -> None:
    labels = np.arange(200) % 4
    assert not np.array_equal(subsets.order("f", labels, 1)[:50], subsets.order("f", labels, 1, blocks=4)[:50])
    assert np.array_equal(subsets.order("f", labels, 0), subsets.order("f", labels, 0, blocks=1))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": 26, "blocks": 4}, "size 26 exceeds the 23 images of the block"),
        ({"blocks": 11}, "11 blocks leave a block without class 3, of which the pool has 10 images; at most 10 blocks"),
        ({"size": 11, "blocks": 4, "balanced": True}, "the largest balanced size is 8"),
    ],
)
def test_impossible_blocks_say_why_and_the_way_out(changes: dict[str, object], words: str) -> None:
    with pytest.raises(UserError) as error:
        subsets.select(run(draw=3, **changes), pool([30, 30, 30, 10]), "f")
    assert words in str(error.value)


def test_draw_fingerprint_and_zero_make_different_orders() -> None:
    labels = np.arange(200) % 4
    orders = [subsets.order(f, labels, d) for f, d in (("a", 0), ("a", 1), ("b", 0))]
    assert not any(np.array_equal(orders[i], orders[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_the_order_of_the_files_is_not_the_order_of_the_draw() -> None:
    """Within a class the order must not depend on the index, or else draws would share their first images."""
    labels = np.zeros(2000, np.int64)
    labels[1000:] = 1
    order = subsets.order("f", labels, 0)
    first = order[labels[order] == 0]
    assert abs(np.corrcoef(first, np.arange(1000))[0, 1]) < 0.1


def test_the_holdout_is_the_end_of_the_order_and_vanishes_when_the_subset_reaches_into_it() -> None:
    labels = np.arange(1000) % 10
    order = subsets.order("f", labels, 0)
    chosen = subsets.select(run(size=800), labels, "f")
    assert chosen.holdout is not None
    assert np.array_equal(chosen.holdout, order[800:])
    assert subsets.select(run(size=801), labels, "f").holdout is None
    large = np.arange(20_000) % 10
    holdout = subsets.select(run(size=10), large, "f").holdout
    assert holdout is not None
    assert len(holdout) == 1000


def test_balanced_subsets_of_an_unbalanced_pool_never_meet_the_holdout() -> None:
    labels = pool([40, 400])
    chosen = subsets.select(run(size=80, balanced=True), labels, "f")
    assert chosen.holdout is None or not np.intersect1d(chosen.indices, chosen.holdout).size


def test_label_noise_replaces_the_asked_share_by_other_classes() -> None:
    labels = np.arange(20_000) % 10
    noisy = subsets.noisy(labels, 0.2, "f", 0, 10)
    changed = noisy != labels
    assert abs(changed.mean() - 0.2) < 0.01
    shift = np.bincount((noisy - labels)[changed] % 10, minlength=10)
    assert shift[0] == 0
    assert shift[1:].min() > 0.8 * changed.sum() / 9
    assert set(noisy) == set(range(10))
    assert subsets.noisy(labels, 0.0, "f", 0, 10) is labels


def test_imbalance_falls_geometrically() -> None:
    labels = np.arange(5000) % 5
    chosen = subsets.select(run(size=1000, imbalance=16.0), labels, "f")
    counts = np.bincount(labels[chosen.indices])
    expected = 1000 * 16.0 ** (-np.arange(5) / 4) / (16.0 ** (-np.arange(5) / 4)).sum()
    assert np.abs(counts - expected).max() < 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"size": 101}, "size 101 exceeds the 100 images of the pool"),
        ({"size": 3}, "leaves class 3 without an image; the smallest size that works is"),
        ({"size": 90, "balanced": True}, "the largest balanced size is 40"),
        ({"size": 90, "imbalance": 50.0}, "smaller imbalance"),
        ({"size": 20, "imbalance": 2.0, "balanced": True}, "exclude each other"),
    ],
)
def test_impossible_selections_say_why_and_the_way_out(changes: dict[str, object], words: str) -> None:
    with pytest.raises(UserError) as error:
        subsets.select(run(**changes), pool([30, 30, 30, 10]), "f")
    assert words in str(error.value)


def test_messages_name_the_class_if_the_names_are_known() -> None:
    names = ("ant", "bee", "cow", "dog")
    for changes, words in (
        ({"size": 3}, "size 3 leaves class 'dog' without an image"),
        ({"size": 90, "balanced": True}, "class 'dog' has 10 images"),
        ({"size": 4, "blocks": 11}, "a block without class 'dog'"),
    ):
        with pytest.raises(UserError, match=words):
            subsets.select(run(**changes), pool([30, 30, 30, 10]), "f", classes=names)


@pytest.mark.parametrize("counts", [[30, 30, 30, 10], [1000, 1], [5, 5]])
def test_the_smallest_size_that_works_works_and_one_less_does_not(counts: list[int]) -> None:
    size = subsets.smallest_size(counts)
    subsets.select(run(size=size), pool(counts), "f")
    with pytest.raises(UserError, match="without an image"):
        subsets.select(run(size=size - 1), pool(counts), "f")


def test_a_pretraining_on_the_pool_takes_every_image_once() -> None:
    labels = np.arange(50) % 5
    chosen = subsets.select(run(task="pretrain", size=0), labels, "f")
    assert sorted(chosen.indices) == list(range(50))
    assert chosen.holdout is None


def test_a_million_images_in_a_thousand_classes_in_ten_seconds() -> None:
    labels = np.random.default_rng(0).integers(0, 1000, 1_000_000)
    start = time.process_time()
    subsets.order("f", labels, 0)
    assert time.process_time() - start < 10

"""Test that a batch is a pure function of (seed, step), with draws per sample and the pixels of the textbook."""

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision.transforms import functional as F

from bias_lab.data import batches, store
from bias_lab.data.batches import Batches, Crops, DeviceCrops, Normalise, Order
from bias_lab.definition import Run, recipe

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def images(count: int, side: int = 12, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, channels), dtype=np.uint8)


def make(count: int = 50, *, labels: bool = True, steps: int = 8, side: int = 12, **fields: object) -> Batches:
    run = Run(**{"dataset": "x", "backbone": "vit_micro", "size": count, "batch_size": 16, **fields})  # type: ignore[arg-type]
    some = np.arange(count) % 5 if labels else None
    return Batches(images(count, side), some, run, classes=5, mean=MEAN, std=STD, steps=steps)


EVERYTHING: dict[str, object] = {**recipe("strong"), "randaugment": 9, "colour_jitter": 0.4}


@pytest.mark.parametrize("fields", [{}, EVERYTHING, {"resized_crop": 0.2}, {"repeated_augmentation": 4}])
def test_a_resumed_loader_goes_on_with_the_batches_that_were_to_come(fields: dict[str, object]) -> None:
    whole = list(make(**fields))
    resumed = make(**fields)
    rest = [resumed.batch(step) for step in (5, 6, 7)]
    assert len(whole) == len(resumed) == 8
    for (x, y), (again_x, again_y) in zip(whole[5:], rest, strict=True):
        assert torch.equal(x, again_x)
        assert torch.equal(y, again_y)


def test_seeds_and_steps_differ() -> None:
    one, other = make(seed=0), make(seed=1)
    assert not torch.equal(one.batch(0)[0], other.batch(0)[0])
    assert not torch.equal(one.batch(0)[0], one.batch(1)[0])


def test_each_epoch_shows_every_image_once_and_steps_are_full() -> None:
    order = Order(50, 16, seed=0)
    shown = np.concatenate([order(step) for step in range(25)])  # 400 = 8 epochs of 50
    assert all(len(order(step)) == 16 for step in range(25))
    for epoch in range(8):
        assert sorted(shown[epoch * 50 : epoch * 50 + 50]) == list(range(50))
    assert not np.array_equal(shown[:50], shown[50:100])


def test_fewer_images_than_a_batch_wrap() -> None:
    order = Order(5, 16, seed=0)
    assert np.bincount(order(0), minlength=5).min() == 3
    assert np.bincount(np.concatenate([order(s) for s in range(5)])).tolist() == [16] * 5


def test_steps_may_be_asked_in_any_order() -> None:
    order, fresh = Order(50, 16, seed=0), Order(50, 16, seed=0)
    forward = [order(step) for step in range(20)]
    backward = [fresh(step) for step in reversed(range(20))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(forward, backward, strict=True))


def test_repeated_augmentation_shows_an_image_in_different_views() -> None:
    loader = make(repeated_augmentation=4, side=32)
    chosen = loader.order(0)
    assert np.array_equal(chosen, np.repeat(chosen[::4], 4))
    assert len(set(chosen)) == 4
    x, _ = loader.batch(0)
    assert len({view.numpy().tobytes() for view in x[:4]}) > 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("way", ["framed once", "framed a batch", "on the device"])
def test_crops_equal_padding_slicing_and_flipping_by_hand(
    channels: int, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if way == "framed a batch":
        monkeypatch.setattr(batches, "IN_MEMORY", 0)
    some = images(9, 10, channels)
    crops = (DeviceCrops if way == "on the device" else Crops)(some, 3, torch.device("cpu"))
    if isinstance(crops, Crops):
        assert (crops.frames is not None) == (way == "framed once")
    chosen, top, left = np.array([8, 0, 3, 3]), np.array([0, 6, 2, 3]), np.array([6, 1, 0, 3])
    flip = np.array([True, False, True, False])
    ours = crops(chosen, top, left, flip)
    for b in range(4):
        image = F.pad(torch.from_numpy(some[chosen[b]]).permute(2, 0, 1), [3, 3, 3, 3])
        image = F.crop(image, int(top[b]), int(left[b]), 10, 10)
        image = F.hflip(image) if flip[b] else image
        assert torch.equal(ours[b].permute(2, 0, 1), image)
    assert torch.equal(ours[3], torch.from_numpy(some[3]))


def test_a_store_that_fits_a_quarter_of_a_gpus_free_memory_lies_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the choice is tested, without a GPU. 100 images of 12 x 12 x 3 are 43,200 bytes."""
    used: list[str] = []
    for name in ("Crops", "DeviceCrops"):
        monkeypatch.setattr(batches, name, lambda *_, name=name: used.append(name))
    for free, device in ((4 * 43_200, "cuda"), (4 * 43_200 - 4, "cuda"), (10**12, "cpu")):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 2 * free))
        batches.make_crops(images(100, 12), 2, torch.device(device))
    assert used == ["DeviceCrops", "Crops", "Crops"]


def test_batches_are_the_same_wherever_the_store_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    here = [x for x, _ in itertools.islice(make(**EVERYTHING), 3)]
    monkeypatch.setattr(batches, "make_crops", DeviceCrops)
    assert all(torch.equal(x, there) for x, (there, _) in zip(here, make(**EVERYTHING), strict=False))


def test_normalise_equals_torchvision_and_lies_in_channels_last() -> None:
    some = images(4, 10)
    ours = Normalise(MEAN, STD, 10, torch.device("cpu"))(torch.from_numpy(some))
    theirs = F.normalize(torch.from_numpy(some).permute(0, 3, 1, 2).float() / 255, list(MEAN), list(STD))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert ours.is_contiguous(memory_format=torch.channels_last)


def test_grey_images_become_three_channels_where_the_normalisation_has_three() -> None:
    grey = images(4, 10, channels=1)
    given = torch.from_numpy(grey)
    three = Normalise(MEAN, STD, 10, torch.device("cpu"))(given)
    wanted = Normalise(MEAN, STD, 10, torch.device("cpu"))(torch.from_numpy(grey.repeat(3, axis=3)))
    assert torch.equal(three, wanted)
    assert three.is_contiguous(memory_format=torch.channels_last)
    assert Normalise((0.5,), (0.5,), 10, torch.device("cpu"))(given).shape == (4, 1, 10, 10)


def test_flips_and_crops_are_drawn_for_each_image() -> None:
    """All places of a batch show one picture. If places shared a draw, there would be too few views."""
    some = np.broadcast_to(images(1, 12), (64, 12, 12, 3)).copy()
    run = Run(dataset="x", backbone="x", size=64, batch_size=64)
    x = Batches(some, None, run, classes=1, mean=MEAN, std=STD, steps=1).batch(0)
    assert len({view.numpy().tobytes() for view in x}) > 30  # of 2 x 5 x 5 possible views


def test_crop_offsets_and_flips_are_uniform() -> None:
    """All 5 x 5 x 2 views of one picture are equally likely."""
    some = np.broadcast_to(images(1, 12), (5000, 12, 12, 3)).copy()
    run = Run(dataset="x", backbone="x", size=5000, batch_size=5000)
    x = Batches(some, None, run, classes=1, mean=MEAN, std=STD, steps=1).batch(0)
    seen = Counter(view.numpy().tobytes() for view in x)
    assert len(seen) == 50
    assert stats.chisquare(list(seen.values())).pvalue > 0.001


def test_without_labels_nothing_but_images_comes_out() -> None:
    loader = make(labels=False, **EVERYTHING)
    assert loader.labels is None
    assert all(isinstance(x, torch.Tensor) and x.shape == (16, 3, 12, 12) for x in loader)


def test_targets_are_classes_or_shares() -> None:
    _, y = make().batch(0)
    assert y.dtype == torch.int64
    _, mixed = make(mixup=0.2).batch(0)
    assert mixed.shape == (16, 5)
    torch.testing.assert_close(mixed.sum(1), torch.ones(16))


def test_targets_of_another_kind_keep_their_values_and_are_mixed_like_shares() -> None:
    numbers = np.linspace(-1, 1, 100, dtype=np.float32).reshape(50, 2)
    run = Run(dataset="x", backbone="vit_micro", size=50, batch_size=16)
    shape: dict[str, object] = dict(classes=2, mean=MEAN, std=STD, steps=8)
    alone = Batches(images(50), numbers, run, **shape)  # type: ignore[arg-type]
    assert torch.equal(alone.batch(3)[1], torch.from_numpy(numbers[alone.order(3)]))
    mixed = Batches(images(50), numbers, replace(run, mixup=0.4), **shape).batch(3)[1]  # type: ignore[arg-type]
    assert mixed.shape == (16, 2)
    assert not torch.equal(mixed, alone.batch(3)[1])
    assert mixed.abs().max() <= 1  # a mean of two targets lies between them
    (_, labels), *_ = batches.eval_loader(images(50), numbers, run, mean=MEAN, std=STD)
    assert torch.equal(labels, torch.from_numpy(numbers))


def test_labels_belong_to_their_images() -> None:
    count = 40
    some = np.zeros((count, 6, 6, 1), np.uint8) + np.arange(count, dtype=np.uint8)[:, None, None, None]
    run = Run(dataset="x", backbone="x", size=count, crop=0)
    loader = Batches(some, np.arange(count), run, classes=count, mean=(0,), std=(1 / 255,), steps=3)
    for x, y in loader:
        assert torch.equal(x[:, 0, 0, 0].round().long(), y)


def test_plain_is_the_images_in_order_and_nothing_else() -> None:
    some, labels = images(10), np.arange(10)
    run = Run(dataset="x", backbone="x", size=10, **recipe("strong"))
    parts = list(batches.eval_loader(some, labels, run, mean=MEAN, std=STD, batch_size=4))
    assert [len(x) for x, _ in parts] == [4, 4, 2]
    assert torch.equal(torch.cat([y for _, y in parts]), torch.arange(10))
    expected = Normalise(MEAN, STD, 12, torch.device("cpu"))(torch.from_numpy(some))
    assert torch.equal(torch.cat([x for x, _ in parts]), expected)


def test_the_crop_grows_with_the_image() -> None:
    run = Run(dataset="x", backbone="x", size=10)
    assert [batches.padding(run, side) for side in (28, 32, 64, 224)] == [2, 2, 4, 14]


def test_batches_do_not_depend_on_global_generators() -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    first = [x for x, _ in itertools.islice(make(**EVERYTHING), 3)]
    torch.manual_seed(2)
    np.random.seed(2)
    second = [x for x, _ in itertools.islice(make(**EVERYTHING), 3)]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_large_subset_is_read_where_it_lies_and_gives_the_same_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    some, rows = images(60), np.random.default_rng(1).permutation(60)[:40]
    run = Run(dataset="x", backbone="x", size=40, batch_size=16)
    arguments = dict(classes=5, mean=MEAN, std=STD)
    copied = Batches(store.part(some, rows), rows % 5, run, steps=5, **arguments)  # type: ignore[arg-type]
    monkeypatch.setattr(store, "COPIED", 0)
    monkeypatch.setattr(batches, "IN_MEMORY", 0)
    there = store.part(some, rows)
    assert isinstance(there, store.Part)
    lying = Batches(there, rows % 5, run, steps=5, **arguments)  # type: ignore[arg-type]
    for (x, y), (again, label) in zip(copied, lying, strict=True):
        assert torch.equal(x, again)
        assert torch.equal(y, label)
    first = torch.cat([x for x, _ in batches.eval_loader(there, rows % 5, run, mean=MEAN, std=STD, batch_size=7)])
    assert torch.equal(first, Normalise(MEAN, STD, 12, torch.device("cpu"))(torch.from_numpy(some[rows])))

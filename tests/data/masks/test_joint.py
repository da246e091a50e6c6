"""Test that images and masks are augmented together, as torchvision's joint transforms do it."""

import numpy as np
import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as tv

from bias_lab import catalogue
from bias_lab.data import augment, batches
from bias_lab.data.masks import joint
from bias_lab.definition import Run

N, H, W = 12, 20, 28
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(1, 256, (N, H, W, 3)).astype(np.uint8)
MASKS = RNG.integers(0, 7, (N, H, W)).astype(np.uint8)
MASKS[:, 3, 4] = 255


def run(**changes: object) -> Run:
    plain = dict(dataset="x", backbone="vit_micro", size=N, batch_size=8, flip=False, crop=0)
    return Run(**{**plain, **changes})  # type: ignore[arg-type]


def made(of: Run, step: int = 1) -> tuple[torch.Tensor, torch.Tensor, batches.Batches]:
    """Return one batch with the levels back in 0 … 255."""
    whole = batches.Batches(IMAGES, MASKS, of, classes=7, mean=[0.0] * 3, std=[1.0] * 3, steps=5)
    x, masks = whole.batch(step)
    return (x * 255).round().to(torch.uint8), masks, whole


def oracle(index: int) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    return tv_tensors.Image(torch.from_numpy(IMAGES[index]).permute(2, 0, 1)), tv_tensors.Mask(
        torch.from_numpy(MASKS[index])
    )


def test_a_batch_without_augmentation_is_the_images_and_their_masks() -> None:
    x, masks, whole = made(run())
    chosen = whole.order(1)
    assert x.shape == (8, 3, H, W)
    assert masks.shape == (8, H, W)
    assert masks.dtype == torch.int64
    assert np.array_equal(x.permute(0, 2, 3, 1).numpy(), IMAGES[chosen])
    assert np.array_equal(masks.numpy(), MASKS[chosen])


def test_padded_crops_and_flips_equal_torchvisions_with_void_around_the_mask() -> None:
    of = run(flip=True, crop=4)
    x, masks, whole = made(of)
    chosen, at = whole.order(1), augment.At(of.seed, 1, np.arange(8))
    top, left, mirrored = augment.places(at, 2 * whole.pad + 1, flip=True)
    assert whole.pad == 4
    assert 0 < mirrored.sum() < 8
    for b, index in enumerate(chosen):
        image, mask = oracle(index)
        image, mask = tv.pad(image, [4], fill=0), tv.pad(mask, [4], fill=255)
        image, mask = (tv.crop(each, int(top[b]), int(left[b]), H, W) for each in (image, mask))
        if mirrored[b]:
            image, mask = tv.horizontal_flip(image), tv.horizontal_flip(mask)
        assert torch.equal(x[b], image)
        assert torch.equal(masks[b], mask.long())


def test_resized_crops_equal_torchvisions() -> None:
    of = run(resized_crop=0.3)
    x, masks, whole = made(of)
    chosen, at = whole.order(1), augment.At(of.seed, 1, np.arange(8))
    for b, (index, top, left, h, w) in enumerate(zip(chosen, *augment.boxes(at, H, W, 0.3), strict=True)):
        image, mask = (tv.resized_crop(each, int(top), int(left), int(h), int(w), [H, W]) for each in oracle(index))
        assert (x[b].int() - image.int()).abs().max() <= 1
        assert torch.equal(masks[b], mask.long())


def test_colours_leave_masks_alone() -> None:
    plain, masks, _ = made(run())
    changed, same, _ = made(run(colour_jitter=0.5, erasing=1.0))
    assert torch.equal(masks, same)
    assert not torch.equal(plain, changed)


def test_images_are_augmented_as_without_masks() -> None:
    of = run(flip=True, crop=3, colour_jitter=0.3)
    labels = np.zeros(N, np.int64)
    alone = batches.Batches(IMAGES, labels, of, classes=7, mean=[0.3] * 3, std=[0.2] * 3, steps=5)
    both = batches.Batches(IMAGES, MASKS, of, classes=7, mean=[0.3] * 3, std=[0.2] * 3, steps=5)
    for step in (0, 4):
        assert torch.equal(alone.batch(step)[0], both.batch(step)[0])


def test_a_batch_depends_on_its_step_alone() -> None:
    of = run(flip=True, crop=3, resized_crop=0.0, erasing=0.5)
    whole = list(batches.Batches(IMAGES, MASKS, of, classes=7, mean=[0.3] * 3, std=[0.2] * 3, steps=6))
    resumed = batches.Batches(IMAGES, MASKS, of, classes=7, mean=[0.3] * 3, std=[0.2] * 3, steps=6)
    for before, after in zip(whole[4:], (resumed.batch(step) for step in (4, 5)), strict=True):
        assert torch.equal(before[0], after[0])
        assert torch.equal(before[1], after[1])


def test_large_subsets_are_cut_without_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    of = run(flip=True, crop=3)
    x, masks, _ = made(of)
    monkeypatch.setattr(batches, "IN_MEMORY", 0)
    again, same, whole = made(of)
    assert whole.crops.frames is None  # type: ignore[union-attr]
    assert torch.equal(x, again)
    assert torch.equal(masks, same)


def test_masks_are_evaluated_whole_and_in_order() -> None:
    parts = list(batches.eval_loader(IMAGES, MASKS, run(), mean=[0.5] * 3, std=[0.2] * 3, batch_size=5))
    assert [len(masks) for _, masks in parts] == [5, 5, 2]
    assert np.array_equal(torch.cat([masks for _, masks in parts]).numpy(), MASKS)
    assert parts[0][1].dtype == torch.int64


def test_what_has_no_rule_for_masks_is_refused() -> None:
    with pytest.raises(ValueError, match="trivial_augment has no rule for masks"):
        made(run(trivial_augment=True))
    with pytest.raises(ValueError, match="masks of"):
        joint.join(IMAGES, MASKS[:, :5])


def test_every_augmentation_of_levels_is_accounted_for() -> None:
    """A new augmentation must say what it does to masks, or be refused by planning."""
    assert {*augment.LEVELS} <= {*joint.MOVING, *joint.COLOURS, *catalogue.REFUSED}

"""Test that images and masks are written together, resized alike, identified by both, and verified like any store."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bias_lab.data import store
from bias_lab.data.identity import content_hash, fingerprint
from bias_lab.data.masks import pairs
from bias_lab.data.masks.mask_file import value_hash
from bias_lab.data.masks.pairs import Arrays, Files, Masked
from bias_lab.data.moments import moments
from bias_lab.data.readers import pixel_store
from bias_lab.errors import UserError

CLASSES = ("ground", "thing")


def arrays(count: int, seed: int, side: tuple[int, int] = (12, 16)) -> Arrays:
    rng = np.random.default_rng(seed)
    masks = rng.integers(0, 2, (count, *side)).astype(np.uint8)
    masks[:, 0, 0] = 255
    return Arrays(rng.integers(0, 256, (count, *side, 3)).astype(np.uint8), masks)


def opened(folder: Path, raw: Masked, side: tuple[int, int] = (12, 16), key: str = "k") -> pixel_store.Images:
    return pixel_store.open_or_build(folder, key, lambda: pairs.content("mine", raw, side, 3))


def masked(seed: int = 0) -> Masked:
    return Masked(
        splits={"train": arrays(5, seed), "test": arrays(3, seed + 1)},
        classes=CLASSES,
        test_groups=[0, 0, 1],
        test_parts={"apart": [False, False, True]},
    )


def test_a_store_gives_back_images_and_masks(tmp_path: Path) -> None:
    raw = masked()
    images = opened(tmp_path, raw)
    train = raw.splits["train"]
    assert isinstance(train, Arrays)
    assert np.array_equal(images.train, train.images)
    assert np.array_equal(images.train_labels, train.masks)
    assert images.test_labels.shape == (3, 12, 16)
    assert (images.mean, images.std) == moments(train.images)
    assert images.presence is not None
    assert images.presence.tolist() == [[True, True]] * 5
    assert images.test_groups is not None
    assert images.test_groups.tolist() == [0, 0, 1]
    assert images.test_parts["apart"].tolist() == [False, False, True]


def test_the_hash_of_the_mask_takes_the_place_of_the_class(tmp_path: Path) -> None:
    raw = masked()
    images = opened(tmp_path, raw)
    triples = [
        (split, value_hash(mask), content_hash(image))
        for split, each, masks in (
            ("train", images.train, images.train_labels),
            ("test", images.test, images.test_labels),
        )
        for image, mask in zip(each, masks, strict=True)
    ]
    assert images.fingerprint == fingerprint(triples)


def test_other_masks_are_other_data(tmp_path: Path) -> None:
    raw, other = masked(), masked()
    test = other.splits["test"]
    assert isinstance(test, Arrays)
    test.masks[0, 5, 5] ^= 1
    assert opened(tmp_path, raw, key="a").fingerprint != opened(tmp_path, other, key="b").fingerprint


def test_the_size_changes_no_fingerprint_and_no_presence(tmp_path: Path) -> None:
    """A class of one pixel may be lost in a smaller mask, but not among the classes that stratify subsets."""
    raw = masked()
    train = raw.splits["train"]
    assert isinstance(train, Arrays)
    train.masks[:] = 0
    train.masks[2, 11, 15] = 1
    large, small = opened(tmp_path, raw, key="a"), opened(tmp_path, raw, side=(3, 4), key="b")
    assert large.fingerprint == small.fingerprint
    assert not small.train_labels[2].any()
    assert small.presence is not None
    assert small.presence[:, 1].tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("classes", [3, 8, 64, 65, 130])
def test_presence_of_many_classes_is_kept(tmp_path: Path, classes: int) -> None:
    masks = (np.arange(4 * 64).reshape(4, 8, 8) % classes).astype(np.uint8)
    split = Arrays(np.zeros((4, 8, 8, 1), np.uint8), masks)
    raw = Masked(splits={"train": split, "test": split}, classes=[str(k) for k in range(classes)])
    images = pixel_store.open_or_build(tmp_path, "k", lambda: pairs.content("mine", raw, (8, 8), 1))
    assert images.presence is not None
    assert [set(np.flatnonzero(row)) for row in images.presence] == [set(np.unique(mask)) for mask in masks]
    assert images.test_groups is None


def test_a_changed_mask_is_found_and_the_store_built_again(tmp_path: Path) -> None:
    raw = masked()
    opened(tmp_path, raw)
    data = tmp_path / "k.u8"
    damaged = bytearray(data.read_bytes())
    damaged[3] ^= 1  # the mask of the first pixel
    data.write_bytes(bytes(damaged))
    assert pixel_store.open_store(tmp_path, "k") is None
    train = raw.splits["train"]
    assert isinstance(train, Arrays)
    assert np.array_equal(opened(tmp_path, raw).train_labels, train.masks)


def test_files_are_read_and_a_pair_of_two_sizes_is_named(tmp_path: Path) -> None:
    image, mask = tmp_path / "a.png", tmp_path / "a_mask.png"
    Image.new("RGB", (6, 4), (9, 8, 7)).save(image)
    Image.fromarray(np.full((4, 6), 2, np.uint8)).save(mask)
    files = Files([str(image)], [str(mask)], (1, 2), (1, 0))
    assert files[0].mask.tolist() == [[0] * 6] * 4
    assert files[0].image.size == (6, 4)
    Image.fromarray(np.full((6, 4), 2, np.uint8)).save(mask)
    raw = Masked(splits={"train": files, "test": files}, classes=CLASSES)
    with pytest.raises(UserError, match=r"a\.png \(6x4 px, and its mask 4x6\)"):
        opened(tmp_path, raw, (4, 6))


def test_duplicates_of_test_images_leave_with_their_masks(tmp_path: Path) -> None:
    raw = masked()
    train, test = raw.splits["train"], raw.splits["test"]
    assert isinstance(train, Arrays)
    assert isinstance(test, Arrays)
    train.images[1] = test.images[0]
    kept = store.without_duplicates(opened(tmp_path, raw))
    assert len(kept.train) == len(kept.train_labels) == 4
    assert np.array_equal(kept.train_labels, train.masks[[0, 2, 3, 4]])
    assert kept.presence is not None
    assert kept.presence.shape == (4, 2)

"""Test the images that a run opens: their pixels, order and size, and the errors."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bias_lab.data import store
from bias_lab.data.identity import content_hash
from bias_lab.data.moments import moments
from bias_lab.data.own_images import Index, index
from bias_lab.data.readers import manifests
from bias_lab.data.store import Images, open_images
from bias_lab.errors import UserError
from tests.data.pictures_on_disk import class_folders, encoded, picture
from tests.data.stores_on_disk import files, indexed, opened

assert indexed  # a fixture


def by_content(numbers: Iterable[int]) -> list[int]:
    return sorted(numbers, key=lambda number: content_hash(np.asarray(picture(number))))


def test_a_store_holds_the_pictures_by_class_and_content(indexed: Index, tmp_path: Path) -> None:
    images = opened(indexed, tmp_path)
    assert images.classes == ("a", "b")
    assert images.train_labels.tolist() == [0] * 9 + [1] * 7
    for k, number in enumerate(by_content(range(9)) + by_content(range(9, 16))):
        assert np.array_equal(images.train[k], np.asarray(picture(number)))
    assert np.array_equal(images.test[0], np.asarray(picture(by_content(range(100, 103))[0])))
    assert images.holdout is not None
    assert images.holdout_labels is not None
    assert np.array_equal(images.holdout[0], np.asarray(picture(by_content((200, 201))[0])))
    assert images.holdout_labels.tolist() == [0, 0, 1, 1]
    assert images.fingerprint == indexed.fingerprint


def test_renamed_images_are_the_same_rows_and_a_manifest_trains_what_it_names(indexed: Index, tmp_path: Path) -> None:
    """The fingerprint does not depend on names, so a store is opened after a renaming too."""
    before = opened(indexed, tmp_path)
    root = Path(indexed.place["path"])
    for folder in sorted(root.glob("*/*")):
        for k, file in enumerate(sorted(folder.iterdir(), reverse=True)):
            file.rename(folder / f"renamed_{k}.png")
    again = index(root, folder=tmp_path / "elsewhere", image_size=12)
    assert again.identity == indexed.identity
    images = opened(again, tmp_path)
    assert len(files(tmp_path, ".u8")) == 1
    mine = manifests.pool(again.identity, place=again.place)
    assert [content_hash(image) for image in images.train] == list(mine.hashes)
    manifests.write(tmp_path / "m.parquet", manifests.pool(indexed.identity, place=indexed.place), (6,), draw=0)
    rows, _ = manifests.read(tmp_path / "m.parquet")
    order = manifests.ranking(manifests.use(tmp_path / "m.parquet", mine, folder=tmp_path / "elsewhere").place)
    assert [content_hash(images.train[k]) for k in order] == list(rows["content_hash"])
    assert np.array_equal(images.train, before.train)


def test_classes_in_another_order_have_a_store_of_their_own(tmp_path: Path) -> None:
    """Numbers in a table are ordered by size, folders alphabetically. The images and the fingerprint are equal."""
    root = class_folders(tmp_path / "mine", {"9": 7, "10": 9})
    rows = [f"{file.relative_to(tmp_path)},{file.parent.name}" for file in root.rglob("*.png")]
    (tmp_path / "mine.csv").write_text("\n".join(["path,label", *rows]), encoding="utf-8")
    folder = index(root, folder=tmp_path / "a", image_size=12)
    table = index(tmp_path / "mine.csv", folder=tmp_path / "b", image_size=12)
    assert folder.fingerprint == table.fingerprint
    for each, classes in ((folder, ("10", "9")), (table, ("9", "10"))):
        images = opened(each, tmp_path)
        assert images.classes == each.classes == classes
        assert tuple(np.bincount(images.train_labels)) == each.class_counts


def test_each_size_has_a_store_of_its_own(indexed: Index, tmp_path: Path) -> None:
    assert opened(indexed, tmp_path, 12).train.shape == (16, 12, 12, 3)
    assert opened(indexed, tmp_path, 8).train.shape == (16, 8, 8, 3)
    assert len(files(tmp_path, ".u8")) == 2


def test_all_grey_images_have_one_channel_and_a_single_coloured_one_makes_three(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "mine", {"a": 9, "b": 9}, mode="L")
    grey = index(root, folder=tmp_path / "o1", image_size=12)
    assert opened(grey, tmp_path).train.shape[-1] == 1
    (root / "a" / "colour.png").write_bytes(encoded(picture(50)))
    mixed = index(root, folder=tmp_path / "o2", image_size=12)
    assert opened(mixed, tmp_path).train.shape[-1] == 3


def test_an_image_that_changed_between_index_and_store_is_an_error_and_leaves_no_store(
    indexed: Index, tmp_path: Path
) -> None:
    file = Path(indexed.place["path"]) / "train" / "a" / "0002.png"
    file.write_bytes(encoded(picture(999)))
    with pytest.raises(UserError, match="0002.png \\(changed since it was indexed\\)"):
        opened(indexed, tmp_path)
    assert files(tmp_path, ".u8") == []
    assert not [p for p in (tmp_path / "root" / "stores").iterdir() if p.suffix == ".tmp"]


def test_who_asks_for_other_images_than_the_place_holds_is_refused(indexed: Index, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--data"):
        open_images(indexed.identity, data_root=str(tmp_path))
    with pytest.raises(UserError, match="the run needs 0123"):
        open_images("folder:0123", data_root=str(tmp_path), place=indexed.place)


def test_training_images_that_stand_in_the_test_split_are_left_out() -> None:
    """Plant a leak: training image 3 is test image 1 with another class."""
    pixels = np.random.default_rng(0).integers(0, 256, (10, 4, 4, 3), dtype=np.uint8)
    test = pixels[6:].copy()
    test[1] = pixels[3]
    labels = np.arange(10) % 2
    images = Images(pixels[:6], labels[:6], test, labels[6:], ("a", "b"), (0.5,) * 3, (0.2,) * 3, "f00d")
    kept = store.without_duplicates(images)
    assert np.array_equal(kept.train, pixels[[0, 1, 2, 4, 5]])
    assert kept.train_labels.tolist() == [0, 1, 0, 0, 1]
    assert np.array_equal(kept.test, test)
    assert kept.fingerprint != images.fingerprint
    with pytest.raises(UserError, match="every training image is in the test split too"):
        store.without_duplicates(replace(images, test=pixels))
    clean = Images(pixels[:6], labels[:6], pixels[6:], labels[6:], ("a", "b"), (0.5,) * 3, (0.2,) * 3, "f00d")
    assert store.without_duplicates(clean) is clean


@pytest.mark.parametrize("copied", [store.COPIED, 0], ids=["copied", "where they lie"])
def test_a_left_out_test_image_is_not_in_the_normalisation_either(copied: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plant a leak: the only white one of ten training images is the test image."""
    monkeypatch.setattr(store, "COPIED", copied)
    train = np.zeros((10, 4, 4, 3), np.uint8)
    train[3] = 255
    labels = np.arange(10) % 2
    images = Images(train, labels, train[3:4], labels[3:4], ("a", "b"), *moments(train), "f00d")
    assert images.mean == (0.1,) * 3
    kept = store.without_duplicates(images)
    assert (kept.mean, kept.std) == ((0.0,) * 3, (0.0,) * 3)

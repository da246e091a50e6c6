"""Test the index of a user's images with masks: classes, splits, duplicates, identity, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bias_lab.data import own_images, store
from bias_lab.data.masks import own
from bias_lab.data.own_images import Index
from bias_lab.errors import UserError
from tests.data.masks.masks_on_disk import flat_folder, pair, split_folder


def indexed(path: Path, folder: Path, **options: object) -> Index:
    return own.index(path, folder=folder, image_size=8, **options)  # type: ignore[arg-type]


def save(mask: np.ndarray, path: Path) -> None:
    Image.fromarray(mask).save(path)


def test_folders_are_indexed_and_opened(tmp_path: Path) -> None:
    index = indexed(split_folder(tmp_path / "d"), tmp_path / "out")
    assert index.identity == f"folder:{index.fingerprint}"
    assert index.classes == ("0", "1", "2")
    assert (index.pool, index.test_images, index.own_holdout, index.channels) == (12, 4, False, 3)
    images = store.open_images(index.identity, image_width=10, data_root=str(tmp_path), place=index.place)
    assert images.train.shape == (12, 8, 10, 3)
    assert images.train_labels.shape == (12, 8, 10)
    assert images.presence is not None
    assert images.presence.all()
    assert images.fingerprint == index.fingerprint
    again = store.open_images(index.identity, data_root=str(tmp_path), place=index.place)
    assert again.train.shape == (12, 8, 8, 3)


def test_a_class_is_a_value_of_training_masks_and_255_is_void(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for k in range(3):
            pair(tmp_path / "d" / split, f"{split}{k}", values=(7, 255, 300))
    (tmp_path / "d" / "classes.txt").write_text("300: road\n7: sky\n")
    index = indexed(tmp_path / "d", tmp_path / "out")
    assert index.classes == ("sky", "road")
    images = store.open_images(index.identity, data_root=str(tmp_path), place=index.place)
    assert set(np.unique(images.train_labels).tolist()) == {0, 1, 255}


def test_names_and_places_do_not_matter_but_masks_do(tmp_path: Path) -> None:
    first = indexed(split_folder(tmp_path / "a"), tmp_path / "out a")
    moved = tmp_path / "b"
    split_folder(moved)
    for kind, ending in (("images", "jpg"), ("masks", "png")):
        (moved / "train" / kind / f"train0.{ending}").rename(moved / "train" / kind / f"zz.{ending}")
    assert indexed(moved, tmp_path / "out b").fingerprint == first.fingerprint
    mask = moved / "train" / "masks" / "zz.png"
    values = np.array(Image.open(mask))
    values[0, 0] = 1
    save(values, mask)
    assert indexed(moved, tmp_path / "out c").fingerprint != first.fingerprint


def test_a_split_is_drawn_once_and_said(tmp_path: Path) -> None:
    flat_folder(tmp_path / "d")
    first = indexed(tmp_path / "d", tmp_path / "out")
    assert (first.pool, first.test_images) == (15, 5)
    assert any("no test split was given: 5 images were drawn" in line for line in first.warnings)
    drawn = json.loads((tmp_path / "out" / "data" / "split_masks.json").read_text())["test"]
    pair(tmp_path / "d", "later")
    again = indexed(tmp_path / "d", tmp_path / "out")
    assert (again.pool, again.test_images) == (16, 5)
    assert json.loads((tmp_path / "out" / "data" / "split_masks.json").read_text())["test"] == drawn
    assert indexed(tmp_path / "d", tmp_path / "other").fingerprint != again.fingerprint  # another draw of 21 images
    for file in (tmp_path / "d" / "images").iterdir():
        Image.new("RGB", (16, 12), tuple(file.stem.encode()[:3])).save(file)
    with pytest.raises(UserError, match=r"none of the images .* is in the split of"):
        indexed(tmp_path / "d", tmp_path / "out")


def test_a_drawn_split_keeps_a_rare_class_in_training(tmp_path: Path) -> None:
    flat_folder(tmp_path / "d")
    pair(tmp_path / "d", "rare", values=(0, 9))
    for number in range(3):
        index = indexed(tmp_path / "d", tmp_path / f"out{number}")
        assert index.classes == ("0", "1", "2", "9")
        pair(tmp_path / "d", f"more{number}")
    assert any("the value 9 is in one mask alone: images/rare.jpg (96 pixels)" in line for line in index.warnings)


def test_too_few_images_are_not_split(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"5 different images, too few.*6 are needed"):
        indexed(flat_folder(tmp_path / "d", 5), tmp_path / "out")
    assert not (tmp_path / "out" / "data" / "split_masks.json").exists()


@pytest.mark.parametrize(("common", "able"), [(0, 0), (4, 3)])
def test_masks_with_a_value_for_each_object_are_not_split(tmp_path: Path, common: int, able: int) -> None:
    for k in range(12):
        pair(tmp_path / "d", f"one{k}", values=(0, 1) if k < common else (0, 10 + k))
    with pytest.raises(UserError, match=rf"{able} of 12 images can be test images.*each class, not for each object"):
        indexed(tmp_path / "d", tmp_path / "out")
    with pytest.raises(UserError, match="not for each object"):
        own.check(tmp_path / "d")


def test_another_image_takes_the_place_of_one_that_must_stay_in_training(tmp_path: Path) -> None:
    for k in range(10):
        pair(tmp_path / "d", f"one{k}", values=(0, 1) if k < 6 else (0, 10 + k))
    index = indexed(tmp_path / "d", tmp_path / "out")
    assert (index.pool, index.test_images) == (5, 5)


def test_rows_that_a_table_marks_as_training_images_stay_there(tmp_path: Path) -> None:
    flat_folder(tmp_path / "d", 20)
    lines = [f"images/one{k}.jpg,masks/one{k}.png,{'train' if k < 8 else ''}" for k in range(20)]
    (tmp_path / "d" / "t.csv").write_text("\n".join(["image,mask,split", *lines]))
    index = indexed(tmp_path / "d" / "t.csv", tmp_path / "out")
    assert (index.pool, index.test_images) == (15, 5)
    kept = pd.read_parquet(index.place["index"])
    marked = kept["name"].isin([f"images/one{k}.jpg" for k in range(8)])
    assert set(kept.loc[marked, "split"]) == {"train"}
    again = indexed(tmp_path / "d" / "t.csv", tmp_path / "out")
    assert again.fingerprint == index.fingerprint


def test_val_is_the_holdout_beside_a_test_split_and_else_the_test_split(tmp_path: Path) -> None:
    split_folder(tmp_path / "d")
    for k in range(3):
        pair(tmp_path / "d" / "val", f"v{k}")
    index = indexed(tmp_path / "d", tmp_path / "out")
    assert index.own_holdout
    images = store.open_images(index.identity, data_root=str(tmp_path), place=index.place)
    assert images.holdout is not None
    assert images.holdout_labels is not None
    assert images.holdout_labels.shape == (3, 8, 8)
    (tmp_path / "d" / "test").rename(tmp_path / "test")
    index = indexed(tmp_path / "d", tmp_path / "other")
    assert index.test_images == 3
    assert "val is used as the test split" in index.warnings


def test_test_images_leave_training_whatever_their_masks(tmp_path: Path) -> None:
    root = split_folder(tmp_path / "d")
    (root / "train" / "images" / "train0.jpg").write_bytes((root / "test" / "images" / "test0.jpg").read_bytes())
    save(np.full((12, 16), 1, np.uint8), root / "train" / "masks" / "train0.png")
    (root / "train" / "images" / "train1.jpg").write_bytes((root / "train" / "images" / "train2.jpg").read_bytes())
    index = indexed(root, tmp_path / "out")
    assert index.pool == 11
    assert any(
        "left out as duplicates of test or validation images: 1 image (train/images/train0.jpg)" in line
        for line in index.warnings
    )
    assert any("kept, though duplicates of images of their split: 1 image" in line for line in index.warnings)


def test_a_split_of_duplicates_alone_is_refused(tmp_path: Path) -> None:
    root = split_folder(tmp_path / "d", 1, 1)
    (root / "train" / "images" / "train0.jpg").write_bytes((root / "test" / "images" / "test0.jpg").read_bytes())
    with pytest.raises(UserError, match="every training image"):
        indexed(root, tmp_path / "out")


def test_pairs_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    root = split_folder(tmp_path / "d")
    masks = root / "train" / "masks"
    save(np.zeros((12, 17), np.uint8), masks / "train0.png")
    save(np.zeros((12, 16, 3), np.uint8), masks / "train1.png")
    (root / "train" / "images" / "train2.jpg").write_bytes(b"x")
    with pytest.raises(UserError) as raised:
        indexed(root, tmp_path / "out")
    message = str(raised.value)
    assert "3 of 16 images" in message
    assert "train0.jpg (it has 16x12 px, and its mask 17x12: save both at one size)" in message
    assert "train1.jpg (its mask train1.png is a colour mask (RGB): save a number for each class" in message
    assert "train2.jpg (not an image)" in message
    assert "\n" not in message
    index = indexed(root, tmp_path / "out", skip_bad=True)
    assert index.pool == 9
    assert any("3 of 16 images can't be read and are left out" in line for line in index.warnings)


def test_a_mask_beside_a_turned_photograph_is_told_from_one_of_another_size(tmp_path: Path) -> None:
    split_folder(tmp_path / "d")
    mask = tmp_path / "d" / "train" / "masks" / "train0.png"
    save(np.array(Image.open(mask)).T, mask)
    with pytest.raises(
        UserError, match=r"train0\.jpg \(it has 16x12 px, and its mask 12x16: .*EXIF.*save both upright"
    ):
        indexed(tmp_path / "d", tmp_path / "out")


@pytest.mark.parametrize(("orientation", "square", "fits"), [(1, True, True), (3, False, False), (6, True, False)])
def test_a_photograph_that_is_turned_to_its_own_size_is_refused(
    tmp_path: Path, orientation: int, square: bool, fits: bool
) -> None:
    """Nothing tells whether the mask was drawn on the turned photograph."""
    root = split_folder(tmp_path / "d")
    side = (12, 12) if square else (12, 16)
    pair(root / "train", "turned", side=side)
    image = root / "train" / "images" / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.open(image).save(image, exif=exif)
    if fits:
        assert indexed(root, tmp_path / "out").pool == 13
        return
    words = rf"turned\.jpg \(its EXIF orientation {orientation} turns it, .*: save both upright\)"
    with pytest.raises(UserError, match=words):
        indexed(root, tmp_path / "out")


def test_void_pixels_are_counted(tmp_path: Path) -> None:
    root = split_folder(tmp_path / "d")
    assert not any("void" in line for line in indexed(root, tmp_path / "out").warnings)
    mask = root / "train" / "masks" / "train0.png"
    values = np.array(Image.open(mask))
    values[:6] = 255
    save(values, mask)
    told = own.check(root)
    assert "255 is void: 3.1 % of all pixels, in 1 mask, count nowhere" in told


def test_a_table_with_blanks_before_quotes_is_read(tmp_path: Path) -> None:
    flat_folder(tmp_path / "d", 20)
    lines = [f'"images/one{k}.jpg", "masks/one{k}.png"' for k in range(20)]
    (tmp_path / "d" / "t.csv").write_text("\n".join(['"image", "mask"', *lines]))
    assert indexed(tmp_path / "d" / "t.csv", tmp_path / "out").test_images == 5


def test_masks_and_classes_keep_their_drawn_splits_apart(tmp_path: Path) -> None:
    flat_folder(tmp_path / "masks")
    for name in ("cat", "dog"):
        for k in range(8):
            pair(tmp_path / name, f"{name}{k}")
            (tmp_path / "classes" / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / name / "images" / f"{name}{k}.jpg").rename(tmp_path / "classes" / name / f"{name}{k}.jpg")
    for _ in range(2):
        assert indexed(tmp_path / "masks", tmp_path / "out").test_images == 5
        assert own_images.index(tmp_path / "classes", folder=tmp_path / "out").test_images == 10


def test_a_changed_mask_is_named(tmp_path: Path) -> None:
    index = indexed(flat_folder(tmp_path / "d"), tmp_path / "out")
    mask = tmp_path / "d" / "masks" / "one1.png"
    values = np.array(Image.open(mask))
    values[0, 0] = 1
    save(values, mask)
    again = indexed(tmp_path / "d", tmp_path / "out")
    before, after = (pd.read_parquet(one.place["index"]) for one in (index, again))
    assert own_images.difference(before, after) == "1 with another mask (images/one1.jpg)"


def test_a_value_that_only_test_masks_hold_is_named(tmp_path: Path) -> None:
    root = split_folder(tmp_path / "d")
    mask = np.array(Image.open(root / "test" / "masks" / "test1.png"))
    mask[3, 4] = 77
    save(mask, root / "test" / "masks" / "test1.png")
    with pytest.raises(
        UserError, match=r"test1\.jpg \(test\) holds the value 77 \(1 pixel\), which no training mask.*255"
    ):
        indexed(root, tmp_path / "out")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((0,), "one class, the value 0; two or more are needed$"),
        ((255,), "no class; 255 is read as void"),
        (
            (0, 255),
            "the value 0; 255 is read as void, which is no class; two.*save the pixels of the second class as 1",
        ),
        ((1, 255), "the second class as 0"),
        (tuple(range(300)), "hold 299 values.*at most 255"),
    ],
)
def test_numbers_of_classes_that_are_refused(tmp_path: Path, values: tuple[int, ...], words: str) -> None:
    for split in ("train", "test"):
        pair(tmp_path / "d" / split, split, values=values, side=(4, 300))
    with pytest.raises(UserError, match=words):
        indexed(tmp_path / "d", tmp_path / "out")


def test_names_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="2 lines and no name for the value 2"):
        own.class_names([0, 1, 2], ["a", "b"], tmp_path)
    with pytest.raises(UserError, match="one name to two classes"):
        own.class_names([0, 1], ["a", "a"], tmp_path)


def test_unchanged_files_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = split_folder(tmp_path / "d")
    first = indexed(root, tmp_path / "out")
    real, seen = own.inspect, []
    monkeypatch.setattr(own, "inspect", lambda item: seen.append(item.name) or real(item))
    assert indexed(root, tmp_path / "out").fingerprint == first.fingerprint
    assert seen == []
    save(np.tile(np.array([0, 1], np.uint8), (12, 8)), root / "train" / "masks" / "train3.png")
    assert indexed(root, tmp_path / "out").fingerprint != first.fingerprint
    assert seen == ["train/images/train3.jpg"]


def test_a_mask_that_changed_after_the_index_is_refused(tmp_path: Path) -> None:
    root = split_folder(tmp_path / "d")
    index = indexed(root, tmp_path / "out")
    save(np.tile(np.array([0, 1], np.uint8), (12, 8)), root / "train" / "masks" / "train3.png")
    with pytest.raises(UserError, match="changed since it was indexed"):
        store.open_images(index.identity, data_root=str(tmp_path), place=index.place)


def test_a_check_tells_the_classes_with_their_values_and_what_to_do(tmp_path: Path) -> None:
    split_folder(tmp_path / "mine")
    lines = own.check(tmp_path / "mine")
    assert lines[0].startswith("masks of ")
    assert "12 training and 4 test images" in lines[0]
    assert lines[1].startswith("classes, with their values in the masks: ")
    assert "--task segment" in lines[-1]
    assert not any("/tmp/tmp" in line for line in lines)
    flat = own.check(flat_folder(tmp_path / "flat"))
    assert "no test split was given: 5 images were drawn for it" in flat
    assert not any("/tmp/tmp" in line for line in flat)

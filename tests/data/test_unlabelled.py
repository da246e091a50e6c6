"""Test that images without classes are found at any depth, identified by content, and opened for pretraining."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bias_lab.data import store, unlabelled
from bias_lab.errors import UserError
from tests.data.pictures_on_disk import class_folders


def fill(folder: Path, count: int = 6, *, channels: int = 3) -> Path:
    rng = np.random.default_rng(0)
    for k in range(count):
        pixels = rng.integers(0, 256, (20, 24, channels), np.uint8)
        file = folder / ("a" if k % 2 else "b/c") / f"{k}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(file)
    return folder


def test_images_are_found_in_any_depth_counted_once_and_opened(tmp_path: Path) -> None:
    there, out = fill(tmp_path / "photos"), tmp_path / "out"
    (there / "again.png").write_bytes((there / "a" / "1.png").read_bytes())
    (there / "notes.txt").write_text("no image")
    (there / ".hidden").mkdir()
    (there / ".hidden" / "0.png").write_bytes((there / "a" / "1.png").read_bytes())
    identity, place = unlabelled.index(there, folder=out)
    assert identity == f"folder:{place['fingerprint']}"
    images = store.open_images(identity, image_size=16, data_root=str(tmp_path / "root"), place=place)
    assert images.train.shape == (6, 16, 16, 3)
    assert len(images.test) == 0
    assert images.classes == ("image",)


def test_rows_are_in_the_order_of_content_whatever_the_names(tmp_path: Path) -> None:
    there = fill(tmp_path / "photos")
    rows = []
    for out in ("one", "two"):
        rows.append(list(pd.read_parquet(unlabelled.index(there, folder=tmp_path / out)[1]["index"]).hash))
        for number, file in enumerate(sorted(there.rglob("*.png"), reverse=True)):
            file.rename(there / f"{out}_{number}.png")
    assert rows[0] == rows[1]


def test_identity_is_the_content_and_not_the_names(tmp_path: Path) -> None:
    first, _ = unlabelled.index(fill(tmp_path / "one"), folder=tmp_path)
    moved = fill(tmp_path / "two")
    (moved / "a" / "1.png").rename(moved / "renamed.png")
    assert unlabelled.index(moved, folder=tmp_path)[0] == first
    (moved / "renamed.png").unlink()
    assert unlabelled.index(moved, folder=tmp_path)[0] != first


def test_grey_images_have_one_channel(tmp_path: Path) -> None:
    assert unlabelled.index(fill(tmp_path / "grey", channels=1), folder=tmp_path)[1]["channels"] == 1


def test_bad_images_are_named_or_left_out(tmp_path: Path) -> None:
    there = fill(tmp_path / "photos")
    (there / "broken.png").write_bytes(b"not an image")
    with pytest.raises(UserError, match=r"1 of 7 images in .* can't be read: broken.png .*--skip-bad-images"):
        unlabelled.index(there, folder=tmp_path)
    good, _ = unlabelled.index(fill(tmp_path / "good"), folder=tmp_path)
    assert unlabelled.index(there, folder=tmp_path, skip_bad=True)[0] == good


def test_no_images_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no images to pretrain on"):
        unlabelled.index(tmp_path, folder=tmp_path)


def test_results_and_hidden_images_are_left_out_and_said(tmp_path: Path) -> None:
    there = fill(tmp_path / "photos")
    good, _ = unlabelled.index(there, folder=tmp_path / "out")
    fill(there / "results" / "figures")
    (there / ".cache.png").write_bytes(b"")
    again, place = unlabelled.index(there, folder=there / "results")
    assert again == good
    assert place["notes"] == [
        "left out: 1 image whose name, or folder's name, begins with a dot (.cache.png)",
        "left out: results/, which holds results or belongs to another program",
    ]


def test_classes_are_the_folders_of_train_and_an_ambiguous_image_is_left_out(tmp_path: Path) -> None:
    there, out = class_folders(tmp_path / "sample" / "train", {"cat": 4, "dog": 3}), tmp_path / "out"
    class_folders(tmp_path / "sample" / "val", {"cat": 2}, start=50)
    (there / "dog" / "twice.png").write_bytes((there / "cat" / "0001.png").read_bytes())
    identity, place = unlabelled.index(tmp_path / "sample", folder=out, labelled=True)
    images = store.open_images(identity, image_size=12, data_root=str(tmp_path / "root"), place=place)
    assert images.classes == ("cat", "dog")
    assert np.bincount(images.train_labels).tolist() == [3, 3]
    assert len(images.test) == 0
    assert unlabelled.index(there, folder=out, labelled=True)[0] == identity
    assert unlabelled.index(there, folder=out)[0] != identity, "without labels it is another source"


def test_a_relabelled_folder_is_another_source(tmp_path: Path) -> None:
    there = class_folders(tmp_path / "sample", {"cat": 2, "dog": 2})
    before, _ = unlabelled.index(there, folder=tmp_path, labelled=True)
    (there / "cat" / "0000.png").rename(there / "dog" / "0000.png")
    assert unlabelled.index(there, folder=tmp_path, labelled=True)[0] != before


def test_an_image_without_a_class_is_named(tmp_path: Path) -> None:
    there = class_folders(tmp_path / "sample", {"cat": 2})
    (there / "cat" / "0000.png").rename(there / "loose.png")
    with pytest.raises(UserError, match=r"loose.png lies in no class folder; give a folder with a folder a class"):
        unlabelled.index(there, folder=tmp_path, labelled=True)

"""Test folders of class folders: their splits and class names, and that nothing is left out without a line."""

import os
import unicodedata
from pathlib import Path

import pytest

from bias_lab.data.own import folders
from bias_lab.errors import UserError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def test_a_doubled_split_is_read_and_said(tmp_path: Path) -> None:
    names = [f"seg_{s}/seg_{s}/{c}/1.png" for s in ("train", "test") for c in ("forest", "sea")]
    listed = folders.read(touch(tmp_path, *names, "seg_pred/seg_pred/1.png"), None)
    assert listed.classes == ["forest", "sea"]
    assert sorted((item.split, item.label) for item in listed.items) == [
        ("test", "forest"),
        ("test", "sea"),
        ("train", "forest"),
        ("train", "sea"),
    ]
    assert "seg_train/seg_train/ is read as the split 'train'" in listed.warnings
    assert "next to seg_train/, these are left out: seg_pred" in listed.warnings


def test_names_that_differ_in_their_split_word_alone_are_splits(tmp_path: Path) -> None:
    names = [f"asl_{s}/asl_{s}/{c}/1.png" for s in ("train", "test") for c in ("A", "B")]
    listed = folders.read(touch(tmp_path, *names), None)
    assert sorted((item.split, item.label) for item in listed.items) == [
        (split, name) for split in ("test", "train") for name in ("A", "B")
    ]


def test_a_table_beside_the_one_class_folder_gives_a_hint(tmp_path: Path) -> None:
    listed = folders.read(touch(tmp_path, "img/1.png", "labels.csv"), None)
    assert listed.hint == f"if labels.csv has the labels, give --data {tmp_path / 'labels.csv'}"


def test_classes_called_train_and_test_work_below_a_split(tmp_path: Path) -> None:
    names = [f"{split}/{name}/1.png" for split in ("train", "test") for name in ("train", "test", "bus")]
    listed = folders.read(touch(tmp_path / "a", *names), None)
    assert listed.classes == ["bus", "test", "train"]
    assert sorted({(item.split, item.label) for item in listed.items}) == [
        (split, name) for split in ("test", "train") for name in ("bus", "test", "train")
    ]
    alone = folders.read(touch(tmp_path / "b", "train/train/1.png", "train/test/1.png"), None)
    assert (alone.classes, {item.split for item in alone.items}) == (["test", "train"], {"train"})


def test_a_class_in_two_unicode_forms_is_one(tmp_path: Path) -> None:
    forms = [unicodedata.normalize(form, "caf\u00e9") for form in ("NFC", "NFD")]
    listed = folders.read(touch(tmp_path, f"train/{forms[1]}/1.png", f"test/{forms[0]} /1.png", "train/b/1.png"), None)
    assert listed.classes == ["b", forms[0]]
    assert any("is written in 2 ways" in line for line in listed.warnings)


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.png", "train/b/1.png", "train/loose.png", "labels.csv", "train.txt", "notes.txt")
    touch(tmp_path, "__MACOSX/a/1.png", "train/a/x.txt", "train/.c/1.png", "train/a/.2.png")
    assert set(folders.read(tmp_path, None).warnings) == {
        "left out: __MACOSX/, which another program made",
        "left out next to the class folders in train/: 1 image (loose.png)",
        "left out: train/.c/ with 1 image; its name begins with a dot",
        "left out: 1 image whose name, or folder's name, begins with a dot (train/a/.2.png)",
        "train/a: left out: 1 file without the ending of an image",
        "not read, next to the class folders: labels.csv, train.txt",
    }


def test_a_class_folder_that_is_a_link_out_is_refused_and_one_within_is_followed(tmp_path: Path) -> None:
    root = touch(tmp_path / "data", "n01/1.png", "n02/1.png")
    touch(tmp_path / "store" / "n03", "1.png")
    (root / "n04").symlink_to("n02")
    listed = folders.read(root, None)
    assert (listed.classes, listed.warnings) == (["n01", "n02", "n04"], ["n04/ is a link to n02/"])
    (root / "n03").symlink_to("../store/n03")
    with pytest.raises(UserError, match="n03 is a link out of the folder, to .*store/n03"):
        folders.read(root, None)
    (root / "n03").unlink()
    (root / "n03").symlink_to("../gone")
    with pytest.raises(UserError, match="n03 is a link to nothing"):
        folders.read(root, None)


def test_links_to_themselves_or_to_a_folder_above_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "loop").symlink_to(tmp_path)
    with pytest.raises(UserError, match="loop is a link to a folder above it"):
        folders.read(tmp_path, None)
    (tmp_path / "loop").unlink()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError, match="loop is a link to nothing"):
        folders.read(tmp_path, None)


def test_a_number_is_one_class_as_in_a_table(tmp_path: Path) -> None:
    assert folders.read(touch(tmp_path, "train/1/1.png", "train/0/1.png", "test/1.0/1.png"), None).classes == ["0", "1"]


def test_tables_in_a_class_folder_give_a_hint(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "data/train.parquet")
    with pytest.raises(
        UserError, match="class folder data holds no images; it holds tables: to read these, give --data"
    ):
        folders.read(tmp_path, None)


def test_a_class_whose_images_are_all_refused_stays_a_class(tmp_path: Path) -> None:
    root = touch(tmp_path / "data", "a/1.png", "b/1.png")
    (root / "c").mkdir()
    (root / "c" / "1.png").symlink_to(touch(tmp_path, "x.png") / "x.png")
    listed = folders.read(root, None)
    assert listed.classes == ["a", "b", "c"]
    assert listed.bad == {"c/1.png": "a link out of the folder"}


def test_the_folder_of_the_results_is_left_out(tmp_path: Path) -> None:
    root = touch(tmp_path, "ant/1.png", "bee/1.png", "results/train/data/seen.parquet", "results/train/figures/1.png")
    listed = folders.read(root, root / "results" / "train")
    assert listed.classes == ["ant", "bee"]
    assert listed.warnings == ["left out: results/, which holds results of bias-lab"]
    assert folders.read(root, root / "results" / "other").classes == ["ant", "bee"]
    inside = touch(tmp_path / "b", "ant/1.png", "bee/1.png", "ant/out/figures/1.png")
    assert len(folders.read(inside, inside / "ant" / "out").items) == 2


def test_names_that_are_no_utf_8(tmp_path: Path) -> None:
    touch(tmp_path, "dog/1.png")
    os.mkdir(os.path.join(os.fsencode(tmp_path), b"\xe7at"))  # noqa: PTH102, PTH118 - a Path takes no bytes
    with pytest.raises(UserError, match=r"the name of the folder \\xe7at in .* is not UTF-8"):
        folders.read(tmp_path, None)
    (tmp_path / os.fsdecode(b"\xe7at")).rename(tmp_path / "cat")
    (tmp_path / "cat" / os.fsdecode(b"\xe7.png")).write_bytes(b"")
    assert folders.read(tmp_path, None).bad == {"cat/\\udce7.png": "a name that is not UTF-8"}


@pytest.mark.parametrize("name", ["nan", "NaN", " "])
def test_a_class_called_like_a_missing_label_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="is called like a missing label"):
        folders.read(touch(tmp_path, f"{name}/1.png", "b/1.png"), None)


def test_one_folder_too_high_gives_a_hint(tmp_path: Path) -> None:
    listed = folders.read(touch(tmp_path, "flowers/rose/1.png", "flowers/tulip/1.png"), None)
    assert listed.classes == ["flowers"]
    assert listed.hint.endswith(f"flowers holds folders: if these are the classes, give --data {tmp_path / 'flowers'}")

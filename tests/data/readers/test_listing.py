"""Test that splits follow the names of folders and tables, that classes are sorted, and that nothing is decoded."""

import os
from pathlib import Path

import pandas as pd
import pytest

from bias_lab.data.readers.listing import SPLITS, listing
from bias_lab.errors import UserError


def touch(root: Path, *names: str) -> Path:
    """Create empty files, since a listing reads names alone."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def test_class_folders_are_classes_in_sorted_order_and_files_too(tmp_path: Path) -> None:
    listed = listing(touch(tmp_path, "b/2.png", "b/10.png", "a/deep/er/1.JPG", "C/x.webp"))
    assert (listed.kind, listed.classes) == ("folder", ["C", "a", "b"])
    assert [item.name for item in listed.items] == ["C/x.webp", "a/deep/er/1.JPG", "b/10.png", "b/2.png"]
    assert {item.split for item in listed.items} == {""}


@pytest.mark.parametrize(("word", "split"), SPLITS.items())
def test_a_splits_folder_may_be_called_by_any_of_its_words(tmp_path: Path, word: str, split: str) -> None:
    train = word.title() if split == "train" else "train"
    listed = listing(touch(tmp_path, f"{train}/a/1.png", f"{train}/b/2.png", f"{word.title()}/a/3.png"))
    assert {item.split for item in listed.items} == {"train", split}


@pytest.mark.parametrize("two", [("train", "training"), ("val", "Val")])
def test_two_folders_for_one_split_are_refused(tmp_path: Path, two: tuple[str, str]) -> None:
    touch(tmp_path, "train/a/1.png", *(f"{name}/b/2.png" for name in two))
    first, second = sorted(two)
    with pytest.raises(
        UserError, match=f"has {first}/ and {second}/ for the split '{SPLITS[two[0]]}'; keep one of them"
    ):
        listing(tmp_path)


def test_folders_beside_the_splits_are_left_out_and_named(tmp_path: Path) -> None:
    listed = listing(touch(tmp_path, "train/a/1.png", "test/a/2.png", "masks/a/3.png"))
    assert len(listed.items) == 2
    assert listed.warnings == ["next to train/, these are left out: masks"]


def test_a_folder_called_like_an_image_is_listed_as_one_so_that_it_is_refused(tmp_path: Path) -> None:
    listed = listing(touch(tmp_path, "a/1.png", "b/odd.png/inside.png"))
    assert [item.name for item in listed.items] == ["a/1.png", "b/odd.png"]


def test_tables_named_by_their_splits_win_over_folders_beside_them(tmp_path: Path) -> None:
    for name in ("train-00000-of-00002", "train-00001-of-00002", "validation"):
        rows = pd.DataFrame({"path": [f"{name}_x.png", f"{name}_y.png"], "label": [1, 0]})
        rows.to_parquet(tmp_path / f"{name}.parquet")
    touch(tmp_path, "sample/a/1.png")
    listed = listing(tmp_path)
    assert [item.split for item in listed.items] == ["train"] * 4 + ["val"] * 2
    assert listed.classes == ["0", "1"]
    assert listed.warnings == ["the folder sample next to the tables is left out"]


def test_a_table_whose_name_says_no_split_is_refused_beside_others(tmp_path: Path) -> None:
    rows = pd.DataFrame({"path": ["x.png"], "label": [1]})
    for name in ("train", "more"):
        rows.to_parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(UserError, match="its name has no split"):
        listing(tmp_path)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "images.zip")
    with pytest.raises(UserError, match="neither a folder nor a table"):
        listing(tmp_path / "images.zip")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="not a parquet file"):
        listing(tmp_path / "broken.parquet")


def test_a_table_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_bytes("path,label\na.png,café\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"mine.csv is not UTF-8 \(.*\); save it as UTF-8"):
        listing(tmp_path / "mine.csv")


def test_a_folder_called_like_a_table_is_a_folder(tmp_path: Path) -> None:
    listed = listing(touch(tmp_path, "train.parquet/1.png", "other/2.png"))
    assert listed.classes == ["other", "train.parquet"]


def test_a_damaged_table_is_refused(tmp_path: Path) -> None:
    """The end of the file, which describes the table, is intact, but the labels are damaged."""
    pd.DataFrame({"path": [f"{k}.png" for k in range(3000)], "label": range(3000)}).to_parquet(tmp_path / "t.parquet")
    whole = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(whole[:4] + b"\xff" * (len(whole) - 4000) + whole[len(whole) - 3996 :])
    with pytest.raises(UserError, match=r"t.parquet is damaged: "):
        listing(tmp_path / "t.parquet")


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests may run as root, who may read everything. Therefore the error is planted."""
    touch(tmp_path, "a/1.png", "b/2.png")
    scan = os.scandir

    def refuse(folder: str) -> object:
        if Path(folder).name == "b":
            raise PermissionError(13, "Permission denied", folder)
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=f"no permission to read {tmp_path / 'b'}"):
        listing(tmp_path)


def test_a_misspelt_folder_gets_what_lies_beside_it(tmp_path: Path) -> None:
    touch(tmp_path, "flowers/a/1.png")
    with pytest.raises(UserError, match="holds: flowers"):
        listing(tmp_path / "flower")


def write(path: Path, *, start: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = pd.DataFrame({"path": [f"{path.stem}{start + k}.png" for k in range(2)], "label": ["a", "b"]})
    rows.to_parquet(path)


@pytest.mark.parametrize(
    ("files", "where"),
    [
        (("data/train-00000-of-00001", "data/test-00000-of-00001"), "data/"),
        (("default/train/0000", "default/test/0000"), "default/test/, default/train/"),
        (("train/0000", "test/0000"), "test/, train/"),
    ],
)
def test_a_clone_of_a_datasets_repository_is_read_through_its_tables(
    tmp_path: Path, files: tuple[str, str], where: str
) -> None:
    for file in files:
        write(tmp_path / f"{file}.parquet")
    touch(tmp_path, "README.md", ".gitattributes", ".git/config")
    listed = listing(tmp_path)
    assert sorted(item.split for item in listed.items) == ["test", "test", "train", "train"]
    assert f"the tables are read from {where}" in listed.warnings


def test_a_clone_with_several_configurations_is_refused(tmp_path: Path) -> None:
    for name in ("full", "small"):
        write(tmp_path / name / "train.parquet")
    with pytest.raises(UserError, match="holds tables in several folders: full, small; give one of them to --data"):
        listing(tmp_path)


def test_tables_of_text_beside_one_folder_of_images(tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / f"{name}.csv").write_text(f"path,label\nimg/{name}1.png,a\nimg/{name}2.png,b\n")
    touch(tmp_path, "img/train1.png")
    listed = listing(tmp_path)
    assert (listed.kind, len(listed.items)) == ("table", 4)
    assert listed.warnings == ["the folder img is read through the tables beside it"]


def test_nearly_equal_classes_are_said_for_folders_and_tables(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("path,label\n1.png,Cat\n2.png,cat\n")
    lines = [
        listing(touch(tmp_path / "mine", "Cat/1.png", "cat/2.png")).warnings,
        listing(tmp_path / "mine.csv").warnings,
    ]
    assert (
        lines[0]
        == lines[1]
        == ["nearly equal class names, which are kept apart: 'Cat' and 'cat'; rename them if they are one class"]
    )


def test_a_path_that_is_no_utf_8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the path .*\\xe7at is not UTF-8"):
        listing(tmp_path / os.fsdecode(b"\xe7at"))


def test_a_lone_table_of_a_split_is_the_whole_dataset_and_that_is_said(tmp_path: Path) -> None:
    write(tmp_path / "test.parquet")
    listed = listing(tmp_path)
    assert {item.split for item in listed.items} == {""}
    assert listed.warnings == ["test.parquet is the only table, so its name is not taken for a split"]

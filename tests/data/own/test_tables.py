"""Test several tables together: classes by name, splits by file, shards, and rows that repeat."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bias_lab.data.own import tables
from bias_lab.errors import UserError


def write(path: Path, labels: list[object], names: list[str] | None = None, **more: list[object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"path": [f"{path.stem}{k}.png" for k in range(len(labels))], "label": labels, **more})
    if names is not None:
        about = {"info": {"features": {"label": {"names": names}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
    pq.write_table(table, path)
    return path


def test_labels_go_by_name_through_each_files_own_list(tmp_path: Path) -> None:
    train = write(tmp_path / "train.parquet", [0, 1, 2], ["cow", "ant", "bee"])
    test = write(tmp_path / "test.parquet", [0, 1, 2], ["ant", "bee", "cow"])
    assert tables.read([test, train]).classes == ["cow", "ant", "bee"]  # in the order of the training file
    listed = tables.read([train, test])
    assert [(item.split, item.label) for item in listed.items] == [
        *(("train", name) for name in ("cow", "ant", "bee")),
        *(("test", name) for name in ("ant", "bee", "cow")),
    ]
    assert listed.classes == ["cow", "ant", "bee"]


@pytest.mark.parametrize(
    ("second", "labels", "words"),
    [
        (["ant", "bee"], [0, 1], "test.parquet has no class 'cow'"),
        (["ant", "bee", "dog"], [0, 1], "list different classes: test.parquet has no class 'cow' and train.parquet"),
        (None, [0, 1], r"test.parquet row 1: the label is the number 0, but train.parquet has the class names ant"),
        (["ant", "bee", "cow"], [0, 3], "test.parquet row 2: the label 3 is none of the 3 classes of its file"),
        (["ant", "bee", "cow"], [-1, -1], "label -1 is none .*-1 stands for an image without a label"),
    ],
)
def test_files_with_different_class_lists_are_refused(
    tmp_path: Path, second: list[str] | None, labels: list[object], words: str
) -> None:
    train = write(tmp_path / "train.parquet", [0, 1, 2], ["ant", "bee", "cow"])
    test = write(tmp_path / "test.parquet", labels, second)
    with pytest.raises(UserError, match=words):
        tables.read([train, test])


def test_names_in_one_file_and_numbers_of_a_list_in_another(tmp_path: Path) -> None:
    train = write(tmp_path / "train.parquet", [0, 1], ["cow", "ant"])
    test = write(tmp_path / "test.parquet", ["ant", "cow"])
    assert tables.read([train, test]).classes == ["cow", "ant"]


def test_one_is_one_class_in_every_file(tmp_path: Path) -> None:
    files = [
        write(tmp_path / "train.parquet", [1, 0]),
        write(tmp_path / "val.parquet", [1.0, 0.0]),
        write(tmp_path / "test.parquet", ["1", " 0"]),
    ]
    assert tables.read(files).classes == ["0", "1"]


SHARDS = [
    (["train-00000-of-00002", "test-00000-of-00001"], "1 of 2 shards is missing: train-00001-of-00002"),
    (
        ["train-00001-of-00003", "test-00000-of-00001"],
        "2 of 3 shards are missing: train-00000-of-00003, train-00002-of",
    ),
    (["train_2_of_3", "train_3_of_3"], "1 of 3 shards is missing: train_1_of_3"),
    (["train-00000-of-00002", "train-00001-of-00003"], "belong to several tables"),
    (["train-00000-of-00001", "train"], "there is train.parquet beside its shards"),
    (["train-00000-of-00002-0a1b2c"], "1 of 2 shards is missing: train-00001-of-00002"),
]


@pytest.mark.parametrize(("names", "words"), SHARDS)
def test_shards(names: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        tables.check_shards([f"{name}.parquet" for name in names])


def test_whole_shards() -> None:
    tables.check_shards(["train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "test.parquet"])
    tables.check_shards(["train_1_of_2.parquet", "train_2_of_2.parquet", "part of it.parquet"])


@pytest.mark.parametrize(
    ("name", "splits", "words"),
    [
        ("train.parquet", ["train", "test"], "its column 'split' says test, and the name of the file says train"),
        ("train_test.parquet", None, "has words for several splits: test, train"),
        ("more.parquet", None, "its name has no split"),
    ],
)
def test_a_split_that_is_not_clear(tmp_path: Path, name: str, splits: list[object] | None, words: str) -> None:
    other = write(tmp_path / "val.parquet", [0, 1])
    file = write(tmp_path / name, [0, 1], **({"split": splits} if splits else {}))
    with pytest.raises(UserError, match=words):
        tables.read([other, file])


def test_a_row_without_a_split_among_rows_with_one_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", [0, 1, 0], split=["train", None, "test"])
    with pytest.raises(UserError, match="a.parquet row 2: the row has no split, and others have"):
        tables.read([file])


def test_repeated_rows_count_once_and_are_said(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("path,label\na.png,x\nb.png,y\na.png,x\n")
    listed = tables.read([tmp_path / "a.csv"])
    assert [item.name for item in listed.items] == ["a.png", "b.png"]
    assert listed.warnings == ["each image counts once a split: 1 repeated row left out (a.csv row 3: a.png)"]
    (tmp_path / "a.csv").write_text("path,label\na.png,x\nb.png,y\na.png,y\n")
    with pytest.raises(UserError, match=r"a.csv row 3: a.png has the label 'y', but 'x' in a.csv row 1"):
        tables.read([tmp_path / "a.csv"])


def test_names_in_two_spellings_are_one_class_and_said(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("path,label\na.png,caf\u00e9\nb.png, cafe\u0301\nc.png,dog\n")
    listed = tables.read([tmp_path / "a.csv"])
    assert listed.classes == ["caf\u00e9", "dog"]
    assert "is written in 2 ways" in listed.warnings[0]


def test_a_table_without_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("path,label\n")
    with pytest.raises(UserError, match="has no rows"):
        tables.read([tmp_path / "a.csv"])

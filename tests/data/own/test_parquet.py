"""Test parquet tables: which column is read, images in and outside the table, class lists, and damage."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bias_lab.data.own import parquet
from bias_lab.data.own.rows import Columns, Part
from bias_lab.errors import UserError
from tests.data.pictures_on_disk import encoded, picture


def embedded(count: int) -> list[dict[str, object]]:
    return [{"bytes": encoded(picture(k)), "path": f"{k}.png"} for k in range(count)]


def write(path: Path, columns: dict[str, object], names: object = None) -> Part:
    table = pa.table(columns)
    if names is not None:
        about = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
    pq.write_table(table, path, row_group_size=2)
    return parquet.read(path, path.name)


def test_of_two_image_columns_the_one_called_image_counts_and_that_is_said(tmp_path: Path) -> None:
    part = write(tmp_path / "a.parquet", {"mask": embedded(2), "image": embedded(2), "label": [0, 1]})
    assert {row.reference.column for row in part.rows} == {"image"}
    assert part.notes == ["a.parquet: the images are read from the column 'image', and not from mask"]
    with pytest.raises(UserError, match="a.parquet has several columns of images: left, right"):
        write(tmp_path / "a.parquet", {"left": embedded(2), "right": embedded(2), "label": [0, 1]})


def test_of_two_label_columns_the_one_called_label_counts_and_that_is_said(tmp_path: Path) -> None:
    part = write(tmp_path / "a.parquet", {"path": ["a", "b"], "class": [5, 6], "label": [0, 1]})
    assert [row.label for row in part.rows] == [0, 1]
    assert part.notes == ["a.parquet: the labels are read from the column 'label', and not from class"]
    with pytest.raises(UserError, match="several columns of labels: labels, class"):
        write(tmp_path / "a.parquet", {"path": ["a", "b"], "class": [5, 6], "labels": [0, 1]})


def test_images_whose_bytes_lie_outside_the_table_are_found_by_their_path(tmp_path: Path) -> None:
    rows = embedded(4)
    for at in (1, 2, 3):
        rows[at]["bytes"] = None
    part = write(tmp_path / "a.parquet", {"image": rows, "label": [0, 1, 0, 1]})
    assert [(row.reference.path, row.reference.column) for row in part.rows] == [
        (str(tmp_path / "a.parquet"), "image"),
        *((str(tmp_path / f"{k}.png"), "") for k in (1, 2, 3)),
    ]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (pa.array([[0], [1]]), "the column 'label' holds values of the type list"),
        (pa.array([0, 1], pa.timestamp("s")), "the column 'label' holds values of the type timestamp"),
        (pa.array([1.0, float("nan")]), r"a.parquet row 2: the row has no label \(it is 'nan'\)"),
        (pa.array(["a", None]), "a.parquet row 2: the row has no label"),
        (pa.array([b"a", b"\xff"]), "a.parquet row 2: its label is the bytes .*not UTF-8"),
    ],
)
def test_labels_that_are_none(tmp_path: Path, values: pa.Array, words: str) -> None:
    with pytest.raises(UserError, match=words):
        write(tmp_path / "a.parquet", {"image": embedded(2), "label": values})


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1, 0], pa.int8()),
        pa.array([1.0, 0.0]),
        pa.array(["1", "0"]),
        pa.array(["1", "0"]).dictionary_encode(),
        pa.array([b"1", b"0"]),
    ],
)
def test_labels_of_every_type(tmp_path: Path, values: pa.Array) -> None:
    part = write(tmp_path / "a.parquet", {"image": embedded(2), "label": values})
    assert [str(row.label) for row in part.rows] == ["1", "0"]


def test_class_lists(tmp_path: Path) -> None:
    columns = {"image": embedded(2), "label": [0, 1]}
    assert write(tmp_path / "a.parquet", columns, ["b", " a"]).classes == ["b", "a"]
    assert write(tmp_path / "a.parquet", columns, {"10": "c", "9": "b", "0": "a"}).classes == ["a", "b", "c"]
    assert write(tmp_path / "a.parquet", columns, 3).classes is None
    with pytest.raises(UserError, match="both called 'b'"):
        write(tmp_path / "a.parquet", columns, ["b", "b"])


@pytest.mark.parametrize("text", ["{", "[]", '{"info": []}', '{"info": {"features": 3}}', "null"])
def test_odd_metadata(tmp_path: Path, text: str) -> None:
    table = pa.table({"path": ["a"], "label": [0]}).replace_schema_metadata({"huggingface": text})
    pq.write_table(table, tmp_path / "a.parquet")
    if text == "{":
        with pytest.raises(UserError, match="metadata of Hugging Face are damaged"):
            parquet.read(tmp_path / "a.parquet", "a.parquet")
    else:
        assert parquet.read(tmp_path / "a.parquet", "a.parquet").classes is None


def test_a_pointer_of_git_lfs_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345678\n")
    with pytest.raises(UserError, match="a pointer of Git LFS; fetch the content with `git lfs pull`"):
        parquet.read(tmp_path / "a.parquet", "a.parquet")


def test_columns_can_be_named_and_rows_without_a_label_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"where": ["a.png", "b.png", "c.png"], "kind": ["x", "y", "x"]}), file)
    part = parquet.read(file, "a.parquet", Columns("where", "kind"))
    assert [(row.name, row.label) for row in part.rows] == [("a.png", "x"), ("b.png", "y"), ("c.png", "x")]
    pq.write_table(pa.table({"photo": embedded(2), "image": embedded(2), "label": ["x", "y"]}), file)
    assert {row.reference.column for row in parquet.read(file, "a.parquet", Columns(path="photo")).rows} == {"photo"}
    pq.write_table(pa.table({"path": list("abcde"), "label": ["x", None, "y", None, "x"]}), file, row_group_size=2)
    with pytest.raises(UserError, match=r"a.parquet: 2 of 5 rows have no label \(rows 2, 4\); fill in"):
        parquet.read(file, "a.parquet")

"""Test the checks of a table's row: its label, its split, its path."""

from pathlib import Path

import pytest

from bias_lab.data.own.rows import Part, check_columns, check_labelled, column_of, has_label, image_path, row
from bias_lab.data.readers.decoding import Reference
from bias_lab.errors import UserError


def test_a_missing_label_names_the_row() -> None:
    with pytest.raises(UserError, match=r"a.csv row 4: the row has no label \(it is 'nan'\)"):
        row(Reference("x.png"), float("nan"), None, "a.csv row 4", "x.png")


def test_a_label_of_another_type_names_it() -> None:
    with pytest.raises(UserError, match="a.csv row 4: its label is a value of the type list"):
        row(Reference("x.png"), [1], None, "a.csv row 4", "x.png")


@pytest.mark.parametrize(
    ("word", "split"),
    [("Train", "train"), (" validation ", "val"), ("test2017", "test"), (None, ""), (float("nan"), "")],
)
def test_split_words(word: object, split: str) -> None:
    assert row(Reference("x.png"), 1, word, "a", "x.png").split == split


def test_an_unknown_split_is_refused_and_a_fold_with_a_reason() -> None:
    with pytest.raises(UserError, match="a row 1: unknown split 'later'"):
        row(Reference("x.png"), 1, "later", "a row 1", "x.png")
    with pytest.raises(UserError, match="unknown split 'fold1'.*folds must be given as train and test"):
        row(Reference("x.png"), 1, "fold1", "a row 1", "x.png")


def test_backslashes_are_slashes_where_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "img").mkdir()
    (tmp_path / "img" / "1.png").write_bytes(b"")
    part = Part("a.csv")
    assert image_path(tmp_path, "img\\1.png", "a", part) == "img/1.png"
    assert part.converted == 1
    (tmp_path / "img\\1.png").write_bytes(b"")
    assert image_path(tmp_path, "img\\1.png", "a", part) == "img\\1.png"
    assert image_path(tmp_path, "img\\2.png", "a", part) == "img\\2.png"
    assert part.converted == 1


@pytest.mark.parametrize(
    ("path", "words"), [(None, "no path"), (" ", "no path"), (3, "type int"), ("a\0b", "zero byte")]
)
def test_what_is_no_path(path: object, words: str) -> None:
    with pytest.raises(UserError, match=words):
        image_path(Path(), path, "a row 1", Part("a"))


def test_two_columns_of_one_name_are_refused() -> None:
    with pytest.raises(UserError, match="several are called 'label'"):
        check_columns("a.csv", ["path", "label", "label"])


def test_rows_without_a_label_are_named_at_once() -> None:
    part = Part("a.csv")
    assert [has_label(label, number, part) for number, label in enumerate(["x", "", None, 0, " "], 1)] == [
        True,
        False,
        False,
        True,
        False,
    ]
    with pytest.raises(UserError, match=r"a.csv: 3 of 5 rows have no label \(rows 2, 3, 5\)"):
        check_labelled(part, 5)
    check_labelled(Part("b.csv"), 5)


def test_a_column_is_found_in_any_case_and_a_wrong_one_is_named() -> None:
    assert column_of("diagnosis", ["Image", "Diagnosis"], "a.csv", "--label-column") == "Diagnosis"
    with pytest.raises(UserError, match="unknown column of a.csv 'imag'; did you mean 'image'.; correct --path-column"):
        column_of("imag", ["image", "label"], "a.csv", "--path-column")

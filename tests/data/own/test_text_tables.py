"""Test CSV files: quotes, lengths of rows, whole numbers, and errors that name the row."""

from pathlib import Path

import pytest

from bias_lab.data.own import text_tables
from bias_lab.data.own.rows import Columns
from bias_lab.errors import UserError


def read(tmp_path: Path, text: str, name: str = "a.csv") -> list[tuple[str, object]]:
    (tmp_path / name).write_bytes(text.encode())
    return [(row.name, row.label) for row in text_tables.read(tmp_path / name, name).rows]


def test_whole_numbers_are_numbers_and_else_all_are_texts(tmp_path: Path) -> None:
    assert read(tmp_path, "path,label\na,1\nb, 2.0\nc,010\n") == [("a", 1), ("b", 2), ("c", 10)]
    assert read(tmp_path, "path,label\na,1\nb,x\nc,01\n") == [("a", "1"), ("b", "x"), ("c", "01")]
    assert read(tmp_path, "path,label\na,0\nb,²\nc,--1\n") == [("a", "0"), ("b", "²"), ("c", "--1")]


def test_quoted_fields_a_byte_order_mark_and_tabs(tmp_path: Path) -> None:
    assert read(tmp_path, '\ufeffPath,Label\n"a,b.png","say ""hi"""\n') == [("a,b.png", 'say "hi"')]
    assert read(tmp_path, "path\tlabel\na b\tc d\n", "a.tsv") == [("a b", "c d")]
    assert read(tmp_path, "file_name,label,x\r\na,c,\r\n\r\nb,c,,\r\n") == [("a", "c"), ("b", "c")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('path,label\na,1\n"b,2\nc,3\n', r"a.csv row 2 \(line 3\): a quote is not closed"),
        ('path,label\n"a,1\n' + "b,2\n" * 40_000, r"a.csv row 1 \(line 2\): a quote is not closed"),
        ('path,label\n"a,1\nb",2\n', "a.csv row 1: a quote that line 2 opens is closed in line 3 only"),
        ('path,label\na"b"c,"1"2\n', r"a.csv row 1 \(line 2\): a quote is not closed, or stands within a field"),
        ("path,label\na,b.png,cat\n", r"a.csv row 1 \(line 2\) has 3 fields, but the header has 2"),
        ("path,label\na\n", "a.csv row 1: the row has no label"),
        ("path,label\n,1\n", "a.csv row 1: the row has no path"),
        ("path,label\na,1\nb,NaN\n", r"a.csv row 2: the row has no label \(it is 'NaN'\)"),
        ("path,label,Label\na,1,2\n", "several are called 'label'"),
        (
            "path,klass\na,1\n",
            "path and label are needed; if yours have other names: --path-column NAME --label-column",
        ),
        ("path,label\na,\nb,1\nc,NaN\nd,\n", r"a.csv: 3 of 4 rows have no label \(rows 1, 3, 4\); fill in"),
        ("", "a.csv is empty; a header with the columns path and label is needed"),
        ("path,label\na\0,1\n", "a.csv row 1"),
    ],
)
def test_what_is_wrong_is_named_with_its_row(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read(tmp_path, text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "path;label\na.png;cat\n"),
        ("a.csv", "path\tlabel\na.png\tcat\n"),
        ("a.csv", "path|label|note\na.png|cat|one, two\n"),
        ("a.tsv", "path,label\na.png,cat\n"),
        ("a.csv", 'path,label,"a;b;c"\na.png,cat,x;y;z\n'),  # the usual one, though another separates more
    ],
)
def test_the_separator_is_the_one_that_gives_both_columns(tmp_path: Path, name: str, text: str) -> None:
    assert read(tmp_path, text, name) == [("a.png", "cat")]


def test_columns_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id;Image File;Diagnosis\n1;a.png;cat\n2;b.png;dog\n")
    part = text_tables.read(tmp_path / "a.csv", "a.csv", Columns("image file", "diagnosis"))
    assert [(row.name, row.label) for row in part.rows] == [("a.png", "cat"), ("b.png", "dog")]
    with pytest.raises(UserError, match="unknown column of a.csv 'diagnose'; did you mean 'diagnosis'.*--label-column"):
        text_tables.read(tmp_path / "a.csv", "a.csv", Columns("image file", "diagnose"))

"""Test plain lists: class names with spaces, equal stems, and what fits two images."""

from pathlib import Path

import numpy as np
import pytest

from bias_lab.data.own import plain_lists
from bias_lab.errors import UserError

NAMES = ["dog/1.png", "dog/2.jpg", "dog/2.png", "golden retriever/1.png", "golden retriever/3 a.png", "cat/x.y.png"]
LABELS = np.array([1, 1, 1, 2, 2, 0])
KNOWN = plain_lists.Known("pets", ("cat", "dog", "golden retriever"), LABELS, NAMES)


def order(tmp_path: Path, text: str, known: plain_lists.Known = KNOWN) -> list[int]:
    (tmp_path / "list.txt").write_text(text, encoding="utf-8")
    return plain_lists.order(tmp_path / "list.txt", plain_lists.read(tmp_path / "list.txt"), known)


@pytest.mark.parametrize(
    ("line", "index"),
    [
        ("golden retriever/1.png golden retriever", 3),
        ("golden retriever/3 a.png\tgolden retriever", 4),
        ('"golden retriever/3 a.png","golden retriever"', 4),
        ("golden retriever/3 a.png, 2", 4),
        ("./dog/1.png 1", 0),
        ("dog/1 dog", 0),
        ("dog/1.jpeg dog", 0),
        ("dog/2.png dog", 2),
        ("2.jpg dog", 1),
        ("x.y.png cat", 5),
        ("cat/x.y cat", 5),
    ],
)
def test_the_longest_class_and_the_most_exact_name_count(tmp_path: Path, line: str, index: int) -> None:
    assert order(tmp_path, line + "\n") == [index]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("dog/2 dog", "line 1: 'dog/2' fits several images: dog/2.jpg, dog/2.png; give more of its path"),
        ("1.png dog", "'1.png' fits several images: dog/1.png, golden retriever/1.png"),
        ("dog/9.png dog", "'dog/9.png' is not in the pool of pets"),
        ("/ 0", "line 1: '/' is not in the pool"),
        ("dog/1.png cat", "line 1: 'dog/1.png' has label cat, not 'dog' as in pets"),
        ("dog/1.png ²", "has label ², not 'dog'"),
        ("dog/1.png 7", "has label 7, not 'dog'"),
        ("dog/1.png", "line 1: 'dog/1.png' is not 'filename label'"),
    ],
)
def test_what_does_not_fit_names_the_line(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        order(tmp_path, line + "\n")


def test_a_number_is_a_name_where_the_classes_are_numbers(tmp_path: Path) -> None:
    known = plain_lists.Known("digits", ("1", "2"), np.array([0, 1]), ["a.png", "b.png"])
    assert order(tmp_path, "a.png 1\nb.png 2.0\n", known) == [0, 1]
    with pytest.raises(UserError, match="has label 0, not '1'"):
        order(tmp_path, "a.png 0\n", known)


def test_a_pool_of_arrays_has_numbers_as_names(tmp_path: Path) -> None:
    known = plain_lists.Known("toys", ("a", "b"), np.array([0, 1]), [])
    assert order(tmp_path, "1 b\n0,0\n", known) == [1, 0]
    for name in ("2", "²", "-1", "9" * 5000):
        with pytest.raises(UserError, match="is not in the pool"):
            order(tmp_path, f"{name} a\n", known)

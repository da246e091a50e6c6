"""Test that a class is one name, whatever type or spelling it comes in, and that a missing label is none."""

import math
import unicodedata
from decimal import Decimal

import numpy as np
import pytest

from bias_lab.data.own import labels
from bias_lab.errors import UserError

CAFE = "caf\u00e9"


@pytest.mark.parametrize("value", [1, 1.0, "1", " 1", "1.0", "1.", Decimal("1.00"), b"1", np.float64(1)])
def test_one_is_one_class_however_it_is_written(value: object) -> None:
    assert str(labels.key(value)) == "1"


@pytest.mark.parametrize("value", [None, math.nan, "", "  ", "\u200b", "nan", "NaN", "<NA>", Decimal("nan")])
def test_a_missing_label_is_no_class(value: object) -> None:
    assert labels.key(value) is None


@pytest.mark.parametrize("value", [[1], {"a": 1}, b"\xff", math.inf, object()])
def test_what_is_no_label_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        labels.key(value)


def test_spaces_and_unicode_forms_do_not_make_classes() -> None:
    for form in ("NFC", "NFD"):
        assert labels.key(f" {unicodedata.normalize(form, CAFE)}\u00a0") == CAFE


@pytest.mark.parametrize("text", ["²", "--1", "1e3", "0x1", "1_0", "٣", "½", "1,5"])
def test_odd_digits_are_texts(text: str) -> None:
    assert labels.key(text) == unicodedata.normalize("NFC", text)
    assert not labels.all_whole(["1", text])


def test_numbers_stand_by_size_before_names() -> None:
    assert labels.in_order(["b", 10, "9", 9, "a", -1]) == ["-1", "9", "10", "a", "b"]


def test_two_classes_of_one_name_are_refused_with_both_numbers() -> None:
    with pytest.raises(UserError, match="x.parquet: the classes 0 and 2 of its class list are both called 'crane'"):
        labels.check_names("x.parquet", ["crane", "bee", "crane "])
    with pytest.raises(UserError, match="class 1 of its class list has no name"):
        labels.check_names("x.parquet", ["crane", " "])


@pytest.mark.parametrize(
    "two",
    [
        ("Cat", "cat"),
        ("cat", "cat."),
        ("cat", "cats"),
        ("golden retriever", "golden_retriever"),
        ("black-footed", "black footed"),
        (CAFE, "cafe"),
        ("img1", "img01"),
        ("straße", "STRASSE"),
    ],
)
def test_nearly_equal_names_are_said(two: tuple[str, str]) -> None:
    (line,) = labels.near_equal([*two, "dog"])
    assert f"'{two[0]}' and '{two[1]}'" in line


@pytest.mark.parametrize(
    "two", [("1", "-1"), ("15", "1.5"), ("glas", "glass"), ("cat", "cut"), ("+", "-"), ("1", "10"), ("bus", "bu")]
)
def test_different_names_are_not(two: tuple[str, str]) -> None:
    assert labels.near_equal(two) == []


def test_a_name_that_may_be_a_missing_label_is_said() -> None:
    assert labels.near_equal(["cat", "None"]) == [
        "the class 'None' may be the text of a missing label; rename it, or remove its images"
    ]


def test_a_name_in_two_spellings_is_said() -> None:
    assert labels.spellings([("1", "01"), ("1", "1"), ("2", "2"), ("2", "2.0")]) == [
        "the class '1' is written in 2 ways, which are read as one name: '01', '1'"
    ]


def test_a_class_that_is_missing_elsewhere_gets_its_near_name() -> None:
    assert labels.nearest("cat", ["dog", "Cat"]) == "it has 'Cat', which is nearly the same name"
    assert labels.nearest("cat", ["dog"]) == ""

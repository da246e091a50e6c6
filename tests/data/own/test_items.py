"""Test how a message names the first of many."""

from bias_lab.data.own.items import Listing, few


def test_a_message_names_the_first_few() -> None:
    assert few(["a", "b"]) == "a, b"
    assert few(list("abcde"), 2) == "a, b, …"


def test_two_listings_share_nothing() -> None:
    one, other = Listing("folder"), Listing("folder")
    one.warnings.append("x")
    assert other.warnings == []

"""Tables as Markdown and as plain text: aligned, escaped, dashes for what is not there."""

import math

import pandas as pd

from bias_lab.report.pages import Section, Table, markdown, number, plain, points, whole, word

TABLE = Table(
    title="Two",
    columns=(("name", ""), ("N", "images")),
    rows=((word("a|b"), whole(1234)), (word("c"), whole(None))),
    note="seen",
)


def test_cells() -> None:
    assert (points(0.1234).text, points(0.1234).value) == ("12.3", 0.1234)
    assert points(-0.05).text == "−5.0"
    assert whole(10_000).text == "10,000"
    for nothing in (None, math.nan, pd.NA):
        assert number(nothing).text == "–"
        assert number(nothing).value is None
    assert word(None).text == "–"
    assert whole(0).text == "0"


def test_markdown() -> None:
    assert markdown(TABLE) == "**Two**\n\n| name | N |\n| --- | ---: |\n| a\\|b | 1,234 |\n| c | – |\n\nseen"


def test_plain_text_is_aligned() -> None:
    assert plain(TABLE) == "name      N\n────  ─────\na|b   1,234\nc         –"


def test_a_section_without_content_is_left_out() -> None:
    assert not Section(name="a", title="A")
    assert not Section(name="a", title="A", tables=(Table(title="t", columns=(("x", ""),), rows=()),))
    assert Section(name="a", title="A", text=("words",))

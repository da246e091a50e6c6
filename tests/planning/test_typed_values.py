"""Test `FIELD=VALUE` of a command line."""

from dataclasses import replace

import pytest

from bias_lab.definition import TUNED, Run
from bias_lab.errors import UserError
from bias_lab.planning.typed_values import parse_field, with_values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mixup=0.2", ("mixup", 0.2)),
        ("batch_size=8", ("batch_size", 8)),
        ("flip=false", ("flip", False)),
        ("patch=none", ("patch", None)),
        ("patch=7", ("patch", 7)),
        ("learning_rate=1e-3", ("learning_rate", 1e-3)),
        ("intervention=permute_pixels", ("intervention", "permute_pixels")),
        ("seed=0", ("seed", 0)),
    ],
)
def test_fields_from_the_command_line(text: str, expected: tuple) -> None:
    assert parse_field(text) == expected


@pytest.mark.parametrize("text", ["mixup", "mixpu=1", "batch_size=x", "flip=maybe", "mixup=nan", "batch_size=1.5"])
def test_fields_that_cannot_be_read_are_one_line(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_field(text)
    assert "class" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["seed=１", "seed=²", "learning_rate=٣", "batch_size=99999999999999999999", "clip=1e400"]
)
def test_digits_of_other_scripts_and_huge_numbers_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="is not a|is too large"):
        parse_field(text)


def test_an_open_recipe_stays_open_where_a_value_is_set_that_tuning_finds() -> None:
    run = Run(dataset="mnist", backbone="vit_micro", size=100, recipe=TUNED, samples_seen=None)
    assert with_values(run, {"learning_rate": 1e-3}).recipe == TUNED
    assert with_values(run, {"samples_seen": 640}).recipe == TUNED
    assert with_values(replace(run, recipe="plain"), {"samples_seen": None}).recipe == "plain"
    assert with_values(replace(run, recipe="plain"), {"samples_seen": 640}).recipe == "plain+samples_seen=640"

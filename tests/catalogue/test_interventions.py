"""Interventions by name, and the values that they take."""

import pytest

from bias_lab.catalogue import check_intervention, intervention
from bias_lab.errors import UserError


def test_a_value_after_the_colon_takes_the_place_of_the_default() -> None:
    assert intervention("permute_patches") == ("permute_patches", 4.0)
    assert intervention("permute_patches:7") == ("permute_patches", 7.0)


@pytest.mark.parametrize("text", ["permute_pixel", "low_pass:1.5", "permute_patches:2.5", "shift:three"])
def test_an_unknown_name_or_value_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        intervention(text)


def test_patches_that_do_not_divide_the_image_are_refused_with_those_that_do() -> None:
    check_intervention("permute_patches:4", 28)
    with pytest.raises(UserError, match="sides that do: 2, 4, 7, 14"):
        check_intervention("permute_patches:5", 28)

"""Test the names, values and words of interventions."""

import doctest

import pytest

from bias_lab.catalogue import INTERVENTIONS, check_intervention, intervention, intervention_words, interventions
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


def test_every_intervention_and_value_has_words_of_its_own() -> None:
    texts = ["", *(f"{name}:{value}" for name in INTERVENTIONS for value in (0, 1)), "unheard_of:3"]
    texts = [text for text in texts if not text.startswith(("permute_patches:0", "shuffle_patches:0"))]
    assert len({intervention_words(text) for text in texts}) == len(texts)
    assert intervention_words("permute_pixels") == "pixels permuted"
    assert intervention_words("unheard_of:3") == "unheard of:3"
    assert doctest.testmod(interventions).failed == 0

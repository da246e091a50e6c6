"""Engines by name."""

import importlib

import pytest

from bias_lab import catalogue
from bias_lab.errors import UserError


@pytest.mark.parametrize("name", catalogue.ENGINES)
def test_the_module_of_every_row_exists(name: str) -> None:
    row = catalogue.engine(name)
    assert row.name == name
    module, _, factory = row.module.partition(":")
    assert callable(getattr(importlib.import_module(module), factory))


def test_an_unknown_engine_is_an_error_with_the_nearest_match() -> None:
    with pytest.raises(UserError, match="unknown engine 'locl'; did you mean 'local'"):
        catalogue.engine("locl")

"""Optimizers by name."""

from bias_lab.catalogue import OPTIMIZERS
from bias_lab.definition import DEFAULTS
from bias_lab.training.job import load


def test_every_optimizer_has_words_and_an_object_that_makes_it() -> None:
    assert list(OPTIMIZERS) == ["adamw", "muon"]
    assert DEFAULTS["optimizer"] in OPTIMIZERS
    for name, row in OPTIMIZERS.items():
        assert row.name == name
        assert row.words
        assert callable(load(row.module)().make)

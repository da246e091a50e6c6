"""The page on the settled rule is what its simulation gives, and the rule is right where a curve leaves no doubt."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parent.parent / "docs" / "settled_rule.py"


@pytest.fixture(scope="module")
def rule() -> ModuleType:
    spec = importlib.util.spec_from_file_location("settled_rule", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["settled_rule"] = module  # dataclasses and named tuples look their module up
    spec.loader.exec_module(module)
    return module


def test_without_noise_the_rule_finds_the_plateau_and_the_peak(rule: ModuleType) -> None:
    curves = {one.name: one.curve for one in rule.CURVES}
    rule.HOLDOUT = 100_000
    try:
        found = {name: rule.errors(curve, 0.0, 3, searches=2) for name, curve in curves.items()}
    finally:
        rule.HOLDOUT = 1000
    for name in ("flat", "fast", "peaked"):
        assert (found[name].settled, found[name].one, found[name].missed) == (1, 0, 0), name
    assert found["slow"].settled == 0, "each doubling still gains more than a point at the cap"
    assert (found["creeping"].settled, found["creeping"].two) == (1, 1), "the limit that the page states"


def test_noise_costs_and_replicates_help(rule: ModuleType) -> None:
    slow = next(one.curve for one in rule.CURVES if one.name == "slow")
    few, many = (rule.errors(slow, 0.02, replicates, searches=120) for replicates in (3, 12))
    assert many.settled < few.settled


@pytest.mark.slow
def test_the_committed_page_is_that_of_a_new_run(rule: ModuleType) -> None:
    assert rule.PAGE.read_text(encoding="utf-8") == rule.page(), "python docs/settled_rule.py"

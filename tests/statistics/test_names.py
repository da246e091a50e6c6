"""The public names: each has a docstring whose examples hold, and each takes one and the same table as it is."""

import doctest
import importlib
import inspect
import pkgutil

import pandas as pd
import pytest

from bias_lab import statistics
from bias_lab.errors import UserError
from tests.planted import curve, rows, table

DATA = ("ALPHA", "CEILING", "Answer", "AtSize", "Gap", "Headline")
FUNCTIONS = {name: getattr(statistics, name) for name in statistics.__all__ if name not in DATA}
OF_A_TABLE = [name for name, function in FUNCTIONS.items() if "table" in inspect.signature(function).parameters]
APART = ("comparable", "headline", "unsound")  # one returns the metric's own column, the others no table
OF_A_METRIC = [n for n in OF_A_TABLE if "metric" in inspect.signature(FUNCTIONS[n]).parameters and n not in APART]
MODULES = [name for _, name, _ in pkgutil.walk_packages(statistics.__path__, "bias_lab.statistics.")]


def planted() -> list[dict]:
    scratch = rows(lambda run: curve(run.size) - 0.1 * (run.backbone == "vit_micro"), sizes=(100, 300, 1000, 3000))
    pretrained = dict(sizes=(100, 300, 1000, 3000), regime="mae", source="pool", seed=1)
    return scratch + rows(lambda run: curve(run.size) - 0.05, backbones=["vit_micro"], **pretrained)


def test_every_public_name_is_documented() -> None:
    for name, function in FUNCTIONS.items():
        assert inspect.getdoc(function), name


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_hold(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


# Those that need more than the planted table has, such as a second budget or a second head.
NOTHING_HERE = ("power", "removed", "values", "reference", "matched_fit", "headline", "heads", "unsound")


@pytest.mark.parametrize(
    "name",
    [name for name in OF_A_TABLE if name not in NOTHING_HERE],
)
def test_each_takes_the_table_as_it_is(name: str) -> None:
    kinds = [dict(backbones=["resnet_micro"], regime="mae", source="pool"), dict(intervention="permute_pixels")]
    more = [one for kind in kinds for one in rows(lambda run: 0.5, sizes=(100, 300), **kind)]
    before = table([*planted(), *more])
    result = FUNCTIONS[name](before)
    assert len(result.sizes if name == "answer" else result) > 0
    assert before.equals(table([*planted(), *more])), "the table is left as it was"


@pytest.mark.parametrize("name", OF_A_METRIC)
def test_any_metric_gives_what_accuracy_gives_where_it_has_the_same_values(name: str) -> None:
    data = table([*planted(), *rows(lambda run: 0.5, sizes=(100, 300), intervention="permute_pixels", seed=2)])
    as_f1 = data.assign(macro_f1=data["top1"], top1=0.5)
    result, same = FUNCTIONS[name](as_f1, metric="macro_f1"), FUNCTIONS[name](data)
    if name == "answer":
        result, same = result.gaps, same.gaps
    pd.testing.assert_frame_equal(result.rename(columns={"macro_f1": "top1"})[list(same)], same)


@pytest.mark.parametrize("name", ["shortfall", "answer", "recovery", "crossover", "ranking"])
def test_an_accuracy_in_percent_is_an_error_that_says_so(name: str) -> None:
    wrong = planted()
    wrong[0] = wrong[0] | {"top1": 87.0}
    with pytest.raises(UserError, match="fractions in .0, 1.*0.87, not 87"):
        FUNCTIONS[name](table(wrong))


def test_an_unknown_metric_is_an_error_with_the_nearest() -> None:
    with pytest.raises(UserError, match="'top_1'; did you mean 'top1'"):
        statistics.shortfall(table(planted()), metric="top_1")


def test_the_planted_shortfall_and_recovery_come_out() -> None:
    exact = [one | {"top1": curve(one["size"]) - 0.1 * (one["architecture"] == "vit")} for one in planted()]
    exact = [one | {"top1": curve(one["size"]) - 0.05} if one["regime"] == "mae" else one for one in exact]
    assert statistics.shortfall(table(exact))["shortfall"].to_numpy() == pytest.approx(0.1)
    assert statistics.recovery(table(exact))["recovery"].to_numpy() == pytest.approx(0.5)


@pytest.mark.parametrize("name", [n for n in OF_A_TABLE if n not in ("headline", "with_pretraining", "matched")])
def test_each_takes_the_comparison_that_it_is_about(name: str) -> None:
    parameters = inspect.signature(FUNCTIONS[name]).parameters
    assert "comparison" in parameters
    assert parameters["comparison"].default == ""

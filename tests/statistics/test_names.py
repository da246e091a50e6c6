"""The public names: each is a function with a docstring, and each turns one and the same table into its answer."""

import inspect

import pytest

from bias_lab import statistics
from bias_lab.errors import UserError
from tests.planted import curve, rows, table


def made() -> list[dict]:
    scratch = rows(lambda run: curve(run.size) - 0.1 * (run.backbone == "vit_micro"), sizes=(100, 300, 1000))
    mae = rows(
        lambda run: curve(run.size) - 0.05, backbones=["vit_micro"], sizes=(100, 300, 1000), regime="mae", seed=1
    )
    return scratch + [one | {"source": "pool"} for one in mae]


def test_every_public_name_is_documented() -> None:
    for name in statistics.__all__:
        assert inspect.getdoc(getattr(statistics, name)), name


@pytest.mark.parametrize("name", [name for name in statistics.__all__ if name not in ("Answer", "power", "removed")])
def test_each_takes_the_table_as_it_is(name: str) -> None:
    kinds = [dict(backbones=["resnet_micro"], regime="mae"), dict(intervention="permute_pixels")]
    more = [one | {"source": "pool"} for kind in kinds for one in rows(lambda run: 0.5, sizes=(100, 300), **kind)]
    before = table([*made(), *more])
    found = getattr(statistics, name)(before)
    assert len(found.sizes if name == "answer" else found) > 0
    assert before.equals(table([*made(), *more])), "the table is left as it was"


@pytest.mark.parametrize("name", ["shortfall", "answer", "recovery", "crossover", "ranking"])
def test_an_accuracy_in_percent_is_an_error_that_says_so(name: str) -> None:
    wrong = made()
    wrong[0] = wrong[0] | {"top1": 87.0}
    with pytest.raises(UserError, match="fractions in .0, 1.*0.87, not 87"):
        getattr(statistics, name)(table(wrong))


def test_the_planted_shortfall_and_recovery_come_out() -> None:
    exact = [one | {"top1": curve(one["size"]) - 0.1 * (one["architecture"] == "vit")} for one in made()]
    exact = [one | {"top1": curve(one["size"]) - 0.05} if one["regime"] == "mae" else one for one in exact]
    assert statistics.shortfall(table(exact))["shortfall"].to_numpy() == pytest.approx(0.1)
    assert statistics.recovery(table(exact))["recovery"].to_numpy() == pytest.approx(0.5)

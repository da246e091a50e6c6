"""Both comparisons stand in one table, and no statistic mixes them."""

from typing import Any

import pandas as pd
import pytest

from bias_lab.definition import recipe
from bias_lab.errors import UserError
from bias_lab.statistics import answer, arms, axes, comparable, gaps, reference, shortfall, values
from bias_lab.statistics.comparisons import compared, of_optimizers, preferred, serves, with_recipe
from tests.planted import rows, table

PAIR = ("vit_micro", "resnet_micro")
THREE = [(k, k) for k in range(3)]


def cell(backbone: str, top1: float, comparison: str, **fields: Any) -> list[dict[str, Any]]:
    """Return the rows of one backbone at two sizes, in three replicates. fields: of the runs, or evidence of the plan.

    Evidence is `settled` and `holdout_top1`.
    """
    evidence = {name: fields.pop(name) for name in ("settled", "holdout_top1") if name in fields}
    planted = rows(
        lambda run: top1, backbones=[backbone], sizes=(100, 1000), replicates=THREE, noise=0.002, optimizer="muon",
        **fields,
    )  # fmt: skip
    return [one | {"comparison": comparison, **evidence} for one in planted]


def study() -> list[dict[str, Any]]:
    """Return a ViT 0.2 behind at equal images and 0.1 where settled, which prefers another recipe than the ResNet."""
    settled = dict(settled=True)
    return [
        *cell("vit_micro", 0.5, "equal", samples_seen=16_000),
        *cell("resnet_micro", 0.7, "equal", samples_seen=16_000),
        *cell("vit_micro", 0.55, "settled", samples_seen=64_000, holdout_top1=0.54, **settled),
        *cell("vit_micro", 0.65, "settled", samples_seen=128_000, holdout_top1=0.66, **recipe("strong"), **settled),
        *cell("resnet_micro", 0.75, "settled", samples_seen=32_000, holdout_top1=0.74, **settled),
        *cell("resnet_micro", 0.72, "settled", samples_seen=32_000, holdout_top1=0.71, **recipe("strong"), **settled),
    ]


def control() -> list[dict[str, Any]]:
    return [one | {"optimizer": "adamw"} for one in cell("pixels", 0.6, "", protocol="linear_probe")]


def test_a_run_may_serve_both_comparisons_or_none_by_name() -> None:
    rows = pd.DataFrame({"comparison": ["equal", "settled", "equal+settled", "", None]})
    assert serves(rows, "equal").tolist() == [True, False, True, False, False]
    assert serves(rows, "settled").tolist() == [False, True, True, False, False]
    assert not serves(rows[[]], "equal").any()


@pytest.mark.parametrize("order", [1, -1])
def test_each_comparison_has_its_own_shortfall_in_any_order_of_rows(order: int) -> None:
    data = table([*study(), *control()][::order])
    expected = {"": 0.2, "equal": 0.2, "settled": 0.1}
    for comparison, behind in expected.items():
        result = shortfall(data, comparison=comparison)
        assert result["shortfall"].to_numpy() == pytest.approx(behind, abs=0.005), comparison
        assert result["n"].tolist() == [3, 3]
    assert answer(data, comparison="settled").verdict == "shortfall"


def test_the_preferred_recipe_is_the_hold_out_s_and_not_the_one_that_tests_better() -> None:
    better = [one | {"top1": 0.9} if one["recipe"] == "plain" and one["comparison"] == "settled" else one
              for one in study() if one["backbone"] == "vit_micro"]  # fmt: skip
    kept = comparable(table(better), comparison="settled")
    assert set(kept["recipe"]) == {"strong"}


def test_where_names_a_recipe_and_an_axis_compares_them() -> None:
    data = table(study())
    under = {name: shortfall(data, comparison="settled", where={"recipe": name}) for name in ("plain", "strong")}
    assert under["plain"]["shortfall"].to_numpy() == pytest.approx(0.2, abs=0.005)
    assert under["strong"]["shortfall"].to_numpy() == pytest.approx(0.07, abs=0.005)
    assert values(data, "recipe", "settled") == ["plain", "strong"]
    result = arms(data, axis="recipe", comparison="settled").set_index(["value", "size"])["shortfall"]
    assert result["plain", 100] == pytest.approx(0.2, abs=0.005)
    assert result["strong", 100] == pytest.approx(0.07, abs=0.005)


def test_two_comparisons_in_one_table_are_no_axis() -> None:
    assert axes(table(study())) == []
    assert axes(table(study()), "settled") == ["recipe"]
    one_recipe = [one for one in study() if one["backbone"] == "vit_micro" or one["recipe"] == "plain"]
    each = [one for one in one_recipe if one["recipe"] == "strong" or one["backbone"] != "vit_micro"]
    assert axes(table(each), "settled") == [], "each backbone has another recipe and budget, as tuning found them"
    assert len(gaps(table(each), comparison="settled")) == 2


def test_rows_that_serve_both_count_in_both_and_old_tables_are_as_before() -> None:
    both = [one | {"comparison": "equal+settled"} for one in cell("vit_micro", 0.5, "", samples_seen=16_000)]
    data = table([*both, *(one for one in study() if one["backbone"] == "resnet_micro")])
    assert shortfall(data)["shortfall"].to_numpy() == pytest.approx(0.2, abs=0.005)
    assert shortfall(data, comparison="settled")["shortfall"].to_numpy() == pytest.approx(0.25, abs=0.005)
    old = table(rows(lambda run: 0.5, backbones=PAIR, replicates=THREE))
    pd.testing.assert_frame_equal(gaps(old), gaps(old.assign(comparison="equal")))
    pd.testing.assert_frame_equal(gaps(old), gaps(old.drop(columns="comparison")))
    alone = table([one for one in study() if one["comparison"] == "settled"])
    assert shortfall(alone)["shortfall"].to_numpy() == pytest.approx(0.1, abs=0.005)


def test_controls_without_a_budget_belong_to_both() -> None:
    data = table([*study(), *control()])
    for comparison in ("equal", "settled"):
        kept = comparable(data, scratch=False, comparison=comparison)
        assert len(kept[kept["backbone"] == "pixels"]) == 6


def test_the_reference_optimizer_is_that_of_most_cells() -> None:
    one_size = [one | {"optimizer": "adamw", "top1": 0.1} for one in study() if one["size"] == 100]
    data = table([*one_size, *study()])
    assert reference(data, "optimizer", "settled") == "muon"
    assert shortfall(data, comparison="settled")["shortfall"].to_numpy() == pytest.approx(0.1, abs=0.005)


def under(optimizer: str, settled: bool, holdout_top1: float, **fields: Any) -> list[dict[str, Any]]:
    """Return a settled pair under an optimizer, 0.1 apart, of which the ViT is settled or not."""
    shared = dict(holdout_top1=holdout_top1, samples_seen=64_000, **fields)
    pair = cell("vit_micro", 0.55, "settled", settled=settled, **shared)
    pair += cell("resnet_micro", 0.65, "settled", settled=True, **shared)
    return [one | {"optimizer": optimizer, "run_id": f"{optimizer}{k}"} for k, one in enumerate(pair)]


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("adamw", "muon", "expected"),
    [
        ((True, 0.6), (False, 0.7), "adamw"),  # fewer unsettled cells go before accuracy
        ((False, 0.7), (True, 0.6), "muon"),
        ((True, 0.6), (True, 0.7), "muon"),  # as many: the better hold-out accuracy
        ((True, 0.7), (True, 0.6), "adamw"),
        ((True, 0.7), (True, 0.7), "adamw"),  # the default at last
    ],
)
def test_the_reference_optimizer_leaves_the_fewest_cells_unsettled(
    adamw: tuple[bool, float], muon: tuple[bool, float], expected: str, order: int
) -> None:
    """Controls have the default optimizer, and do not count."""
    data = table([*under("adamw", *adamw), *under("muon", *muon), *control()][::order])
    assert reference(data, "optimizer", "settled") == expected
    assert values(data, "optimizer", "settled")[0] == expected


def test_optimizers_are_compared_under_the_recipes_that_all_of_them_have() -> None:
    strong = under("muon", True, 0.8, **recipe("strong"))
    data = table([*under("adamw", True, 0.6), *under("muon", True, 0.7), *strong, *control()])
    kept, recipes = of_optimizers(data)
    assert recipes == ("plain",)
    assert set(kept.loc[serves(kept, "settled"), "recipe"]) == {"plain"}
    assert len(kept) == len(data) - len(strong), "controls stay"
    apart = table([*under("adamw", True, 0.6), *strong])
    pd.testing.assert_frame_equal(of_optimizers(apart)[0], apart)
    assert of_optimizers(apart)[1] == (), "no recipe in common"
    alike = table([*under("adamw", True, 0.6), *under("muon", True, 0.7)])
    assert of_optimizers(alike)[1] == ()


def test_a_recipe_without_evidence_is_kept_where_no_other_has_any() -> None:
    blind = table(study()).assign(holdout_top1=None)
    assert len(preferred(blind[serves(blind, "settled")])) == 12
    assert preferred(table([])).empty


def test_another_word_is_an_error_with_the_nearest() -> None:
    with pytest.raises(UserError, match="'setled'; did you mean 'settled'"):
        shortfall(table(study()), comparison="setled")
    with pytest.raises(UserError, match="equal"):
        compared(table(study()), "x")


def test_the_column_of_the_recipe_stays_where_trained_rows_have_several_and_is_empty_for_controls() -> None:
    made = pd.DataFrame({"comparison": ["settled", "settled", ""], "recipe": ["plain", "strong", "plain"]})
    assert with_recipe(made)["recipe"].tolist() == ["plain", "strong", ""]
    assert "recipe" not in with_recipe(made.iloc[[0, 2]]), "one recipe of all that were trained"
    assert "recipe" not in with_recipe(made[["recipe"]]), "no comparison"

"""Each planted study has the numbers and the flags that are right for it."""

import math
from typing import Any

import numpy as np
import pytest

from bias_lab.definition import recipe
from bias_lab.statistics import Headline, headline
from tests.planted import bits, rows, table

PAIR = ("vit_micro", "resnet_micro")
FAMILY = (*PAIR, "efficientnet_micro")


def study(
    settled: dict[str, float],
    equal: dict[str, float] | None = None,
    *,
    train: dict[str, float] | None = None,
    control: float | None = None,
    n: int = 4,
    sizes: tuple[int, ...] = (100, 1000),
    **marks: Any,
) -> list[dict[str, Any]]:
    """Return the rows of a study. settled, equal: backbone → accuracy. marks: of the settled rows."""
    kind = dict(sizes=sizes, replicates=[(k, k) for k in range(n)], noise=0.004)
    planted = []
    for k, (name, top1) in enumerate((equal or {}).items()):
        made = rows(lambda run, at=top1: at, backbones=[name], seed=k, samples_seen=16_000, **kind)
        fit = (train or {}).get(name, 0.99)
        planted += [one | {"comparison": "equal", "train_top1": fit} for one in made]
    for k, (name, top1) in enumerate(settled.items()):
        made = rows(lambda run, at=top1: at, backbones=[name], seed=10 + k, samples_seen=64_000, **kind)
        planted += [one | {"comparison": "settled", "settled": True, "holdout_top1": top1, **marks} for one in made]
    if control is not None:
        planted += rows(lambda run: control, backbones=["pixels"], seed=99, protocol="linear_probe", **kind)
    return planted


def flags(result: Headline) -> dict[str, tuple[str, ...]]:
    first, *others = (one.flags for one in result.sizes)
    assert all(other == first for other in others)
    return first


def test_all_numbers_of_a_settled_pair() -> None:
    planted = study(
        dict.fromkeys(PAIR, 0.0) | {"vit_micro": 0.60, "resnet_micro": 0.70},
        {"vit_micro": 0.50, "resnet_micro": 0.69, "efficientnet_micro": 0.65},
        train={"vit_micro": 0.8, "resnet_micro": 0.99},
        control=0.55,
    )
    result = headline(table(planted))
    assert [one.size for one in result.open_sizes] == [100, 1000]
    one = result.sizes[0]
    assert one.flags == {}
    assert (one.against, one.members) == ("resnet", ("resnet_micro",)), "EfficientNet is not settled"
    assert (one.settled.value, one.of, one.against_top1) == pytest.approx((0.1, 0.6, 0.7), abs=0.01)
    assert one.settled.low < 0.1 < one.settled.high
    assert one.settled.n == 4
    assert (one.equal.value, one.training, one.share) == pytest.approx((0.19, 0.19, 1), abs=0.06)
    assert (one.of_train, one.against_train) == pytest.approx((0.8, 0.99))
    assert (one.control, one.lead.value) == pytest.approx((0.55, 0.15), abs=0.01)
    assert (one.control_near, one.chance) == ("no", 0.1)
    assert one.majority == pytest.approx(0.1)


def test_the_family_is_named_where_every_member_is_settled() -> None:
    every = {"vit_micro": 0.6, "resnet_micro": 0.7, "efficientnet_micro": 0.8}
    result = headline(table(study(every, every)))
    assert {one.against for one in result.sizes} == {"cnn"}
    assert result.sizes[0].members == ("efficientnet_micro", "resnet_micro")
    assert result.sizes[0].settled.value == pytest.approx(0.15, abs=0.01)
    unsettled = [one | ({"settled": False} if one["backbone"] == "efficientnet_micro" else {}) for one in study(every)]
    assert {one.against for one in headline(table(unsettled)).sizes} == {"resnet"}
    fewer = [one for one in study(every) if one["backbone"] != "efficientnet_micro" or one["draw"] < 2]
    assert {one.against for one in headline(table(fewer)).sizes} == {"resnet"}
    assert {one.against for one in headline(table(study({"vit_micro": 0.6, "resnet_micro": 0.7}))).sizes} == {"resnet"}


def test_a_negative_gap_is_a_headline() -> None:
    result = headline(table(study({"vit_micro": 0.7, "resnet_micro": 0.6})))
    assert flags(result) == {}
    assert result.sizes[0].settled.high < 0
    assert math.isnan(result.sizes[0].equal.value)


def test_what_is_not_settled_is_named() -> None:
    planted = study({"vit_micro": 0.6, "resnet_micro": 0.7})
    one = [r | ({"settled": False} if r["backbone"] == "vit_micro" else {}) for r in planted]
    assert flags(headline(table(one))) == {"unsettled": ("vit_micro",)}
    unknown = [r | ({"settled": None} if r["backbone"] == "vit_micro" else {}) for r in planted]
    assert flags(headline(table(unknown))) == {"unsettled": ("vit_micro",)}
    equal = headline(table(study({}, {"vit_micro": 0.5, "resnet_micro": 0.69})))
    assert flags(equal) == {"absent": ("vit", "resnet"), "no_interval": ("vit", "resnet")}
    assert equal.sizes[0].equal.value == pytest.approx(0.19, abs=0.01)
    assert not equal.open_sizes
    old = headline(table(rows(lambda run: 0.5, backbones=PAIR)))
    assert not old.open_sizes, "tables without comparisons have no settled cell"


def test_collapsed_runs_and_runs_at_chance_forbid_it() -> None:
    planted = study({"vit_micro": 0.2, "resnet_micro": 0.1})
    for one in planted:
        one["collapsed"] = one["backbone"] == "resnet_micro" and one["draw"] == 0
    assert flags(headline(table(planted))) == {"collapsed": ("resnet_micro",), "at_chance": ("resnet_micro",)}
    vit = headline(table(study({"vit_micro": 0.104, "resnet_micro": 0.7})))
    assert flags(vit) == {"at_chance": ("vit_micro",)}
    above = headline(table(study({"vit_micro": 0.3, "resnet_micro": 0.7})), majority=0.35)
    assert flags(above) == {"at_majority": ("vit_micro",)}, "the largest class alone would score more"


def test_one_replicate_and_a_ceiling() -> None:
    one = headline(table(study({"vit_micro": 0.6, "resnet_micro": 0.7}, n=1)))
    assert flags(one) == {"no_interval": ("vit", "resnet")}
    assert one.sizes[0].settled.value == pytest.approx(0.1, abs=0.02)
    assert flags(headline(table(study({"vit_micro": 0.985, "resnet_micro": 0.99})))) == {"ceiling": ("vit", "resnet")}
    assert flags(headline(table(study({"vit_micro": 0.6, "resnet_micro": 0.99})))) == {}


@pytest.mark.parametrize(
    ("control", "near", "flag"),
    [(0.70, "shown", True), (0.685, "likely", True), (0.677, "open", False), (0.5, "no", False)],
)
def test_how_near_the_linear_control_is(control: float, near: str, flag: bool) -> None:
    planted = study({"vit_micro": 0.6, "resnet_micro": 0.7}, control=control, sizes=(100,))
    random = np.random.default_rng(1)
    for one in planted:  # replicates scatter by about a point
        one["top1"] = (
            float(one["top1"] + 0.006 * random.standard_normal()) if near in ("likely", "open") else one["top1"]
        )
    (result,) = headline(table(planted)).sizes
    assert result.control_near == near
    assert ("control_as_good" in result.flags) is flag
    assert result.is_open, "it forbids no headline"


def test_the_shortfall_under_each_recipe_and_optimizer_stands_beside() -> None:
    pair = {"vit_micro": 0.6, "resnet_micro": 0.7}
    planted = study(pair)
    for name, top1 in (("vit_micro", 0.65), ("resnet_micro", 0.85)):
        planted += [
            one | recipe("strong") | {"run_id": f"s{k}{name}", "holdout_top1": 0.0}
            for k, one in enumerate(study({name: top1}))
        ]
    other = [one | {"optimizer": "muon", "run_id": f"m{k}"} for k, one in enumerate(study(pair, sizes=(100,)))]
    result = headline(table([*planted, *other])).sizes
    assert {name: gap.value for name, gap in result[0].by_recipe.items()} == pytest.approx(
        {"plain": 0.1, "strong": 0.2}, abs=0.01
    )
    assert result[0].by_optimizer["muon"].value == pytest.approx(0.1, abs=0.01)
    assert math.isnan(result[1].by_optimizer["muon"].value)
    assert result[0].settled.value == pytest.approx(0.1, abs=0.01)


def by_muon(cells: dict[str, float], start: str, **changes: Any) -> list[dict[str, Any]]:
    """Return a settled study of Muon. start: of its run ids."""
    planted = study(cells)
    return [one | {"optimizer": "muon", "run_id": f"{start}{k}", **changes} for k, one in enumerate(planted)]


def test_a_recipe_that_was_given_up_does_not_change_the_optimizer() -> None:
    """Muon's strong recipe is unsettled and not preferred. What is said of each recipe is still of Muon's cells."""
    muon = by_muon({"vit_micro": 0.6, "resnet_micro": 0.7}, "m", holdout_top1=0.9)
    given_up = by_muon({"vit_micro": 0.5, "resnet_micro": 0.65}, "s", holdout_top1=0.1, settled=False)
    adamw = study({"vit_micro": 0.5, "resnet_micro": 0.8})
    for one in headline(table([*muon, *(row | recipe("strong") for row in given_up), *adamw])).sizes:
        assert one.settled.value == pytest.approx(0.1, abs=0.01)
        assert one.by_recipe["plain"].value == pytest.approx(0.1, abs=0.01)
        assert one.by_optimizer["muon"].value == pytest.approx(0.1, abs=0.01)
        assert one.by_optimizer["adamw"].value == pytest.approx(0.3, abs=0.01)


def test_only_cells_of_the_headline_choose_the_optimizer() -> None:
    """Muon's pair is settled, and its MLP and Swin are not. AdamW's ViT is not."""
    muon = by_muon({"vit_micro": 0.6, "resnet_micro": 0.7}, "m")
    others = by_muon({"mlp_micro": 0.4, "swin_micro": 0.5}, "o", settled=False)
    adamw = study({"vit_micro": 0.5, "resnet_micro": 0.8, "mlp_micro": 0.4, "swin_micro": 0.5})
    open_ = [one | ({"settled": False} if one["backbone"] == "vit_micro" else {}) for one in adamw]
    for one in headline(table([*muon, *others, *open_])).sizes:
        assert one.is_open
        assert one.settled.value == pytest.approx(0.1, abs=0.01)


def test_runs_of_another_optimizer_at_equal_images_do_not_stand_beside_settled_ones() -> None:
    equal = {"vit_micro": 0.4, "resnet_micro": 0.65}
    pair = {"vit_micro": 0.6, "resnet_micro": 0.7}
    alike = headline(table(study(pair, equal)))
    assert alike.sizes[0].equal.value == pytest.approx(0.25, abs=0.01)
    settled = by_muon(pair, "m")
    rest = [one for one in study(pair, equal) if one["comparison"] == "equal"]
    apart = headline(table([*settled, *rest]))
    assert math.isnan(apart.sizes[0].equal.value)
    assert math.isnan(apart.sizes[0].training)


@pytest.mark.parametrize("broken", [{"collapsed": True}, {"settled": False}])
def test_beside_a_broken_cnn_the_linear_control_says_nothing(broken: dict[str, bool]) -> None:
    planted = study({"vit_micro": 0.5, "resnet_micro": 0.52}, control=0.55)
    assert "control_as_good" in headline(table(planted)).sizes[0].flags
    changed = [one | (broken if one["backbone"] == "resnet_micro" else {}) for one in planted]
    assert "control_as_good" not in headline(table(changed)).sizes[0].flags


def test_optimizers_are_compared_under_a_recipe_that_both_have() -> None:
    """Muon was searched under both recipes and prefers the strong one, AdamW under the plain one alone."""
    pair = {"vit_micro": 0.6, "resnet_micro": 0.7}
    better = {"vit_micro": 0.65, "resnet_micro": 0.85}
    muon = [one | {"optimizer": "muon", "run_id": f"m{k}"} for k, one in enumerate(study(pair))]
    strong = [
        one | recipe("strong") | {"optimizer": "muon", "run_id": f"s{k}", "holdout_top1": 0.99}
        for k, one in enumerate(study(better))
    ]
    adamw = [one | {"optimizer": "adamw"} for one in study({"vit_micro": 0.5, "resnet_micro": 0.65})]
    for one in headline(table([*muon, *strong, *adamw])).sizes:
        assert one.settled.value == pytest.approx(0.2, abs=0.01), "the headline is of the preferred recipe"
        found = {name: gap.value for name, gap in one.by_optimizer.items()}
        assert found == pytest.approx({"muon": 0.1, "adamw": 0.15}, abs=0.01)
        assert one.optimizer_recipes == ("plain",)


def test_the_interval_with_test_images_is_the_best_one_where_it_is_known() -> None:
    planted = study({"vit_micro": 0.6, "resnet_micro": 0.7}, sizes=(100,))
    blind = headline(table(planted)).sizes[0].settled
    assert (blind.best_low, blind.best_high) == (blind.low, blind.high)
    random = np.random.default_rng(0)
    hard = {name: random.random(300) for name in PAIR}
    for one in planted:
        right = hard[one["backbone"]] + 0.02 * random.standard_normal(300) < one["top1"]
        one |= {"top1": float(right.mean()), "correct": bits(right), "test_images": 300}
    known = headline(table(planted)).sizes[0].settled
    assert known.best_low == known.low_any < known.low


def test_nothing_yet() -> None:
    assert headline(table([])).sizes == ()

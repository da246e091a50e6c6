"""Rows that may be compared, own backbones, and values that are independent."""

import numpy as np
import pytest

from bias_lab.data import subsets
from bias_lab.errors import UserError
from bias_lab.statistics import replicates
from tests.planted import rows, table


def flat(value: float = 0.5, **options) -> list[dict]:
    return rows(lambda run: value, sizes=(100,), noise=0.0, **options)


def test_only_finished_unlengthened_untouched_runs_from_scratch_are_compared() -> None:
    kept = flat()
    left_out = [
        kept[0] | {"run_id": "a", "status": "failed", "draw": 7},
        kept[0] | {"run_id": "b", "budget": 3.0, "draw": 8},
        kept[0] | {"run_id": "c", "intervention": "permute_pixels", "draw": 9},
        kept[0] | {"run_id": "d", "task": "tune", "draw": 10},
        kept[0] | {"run_id": "e", "regime": "mae", "source": "pool", "draw": 11},
    ]
    result = replicates.comparable(table([*kept, *left_out]))
    assert set(result["run_id"]) == {one["run_id"] for one in kept}
    assert len(replicates.comparable(table([*kept, *left_out]), scratch=False)) == len(kept) + 1


def test_two_runs_of_one_replicate_are_an_error_that_names_the_difference() -> None:
    kept = flat()
    with pytest.raises(UserError, match="two runs of vit_micro at N=100.*experiment"):
        replicates.comparable(table([*kept, kept[0] | {"run_id": "again", "experiment": "another"}]))


def test_a_column_that_is_misspelt_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match="no column 'top1'; rename 'top_1'"):
        replicates.check(table(flat()).rename(columns={"top1": "top_1"}))


def test_guests_are_own_ones_those_of_family_other_and_names_that_joined() -> None:
    names = ["vit_micro", "resnet_micro", "mine:net", "resnet34"]
    joined = [one | ({"family": "other"} if one["backbone"] == "resnet34" else {}) for one in flat(backbones=names)]
    assert replicates.own(table(joined)) == {"mine:net", "resnet34"}
    assert replicates.own(table(flat(backbones=["resnet34", "resnet26"]))) == set()


def test_controls_are_no_guests_and_members_of_no_family() -> None:
    names = ["vit_micro", "resnet_micro", "mlp_micro", "pixels", "mine:net"]
    controls = {"mlp_micro": "mlp", "pixels": "pixels"}
    planted = [
        one | ({"family": "other", "architecture": controls[one["backbone"]]} if one["backbone"] in controls else {})
        for one in flat(backbones=names)
    ]
    rows = table(planted)
    assert replicates.own(rows) == {"mine:net"}
    assert set(replicates.select(rows, "other")["backbone"]) == {"mine:net"}
    for name, architecture in controls.items():
        assert set(replicates.select(rows, name)["backbone"]) == {name}
        assert set(replicates.select(rows, architecture)["backbone"]) == {name}


def test_a_variant_of_a_backbone_is_compared_by_its_name() -> None:
    rows = table(flat(backbones=["vit_micro", "vit_micro_wide", "resnet_micro"]))
    for group in ("vit", "transformer"):
        assert set(replicates.select(rows, group)["backbone"]) == {"vit_micro"}
    assert set(replicates.select(rows, "vit_micro_wide")["backbone"]) == {"vit_micro_wide"}
    assert replicates.own(rows) == set()
    alone = table(flat(backbones=["vit_micro_wide", "resnet_micro"]))
    assert set(replicates.select(alone, "vit")["backbone"]) == {"vit_micro_wide"}


def test_a_group_is_averaged_over_its_backbones_and_needs_them_all() -> None:
    names = ["resnet_micro", "efficientnet_micro"]
    planted = flat(backbones=names)
    planted = [one | {"top1": 0.4 if one["backbone"] == names[0] else 0.8} for one in planted]
    assert replicates.averaged(table(planted))["top1"].to_numpy() == pytest.approx(0.6)
    without = [one for one in planted if not (one["backbone"] == names[1] and one["draw"] == 2)]
    assert replicates.averaged(table(without))["draw"].tolist() == [0, 1]


def test_pairs_are_of_the_same_draw_and_seed() -> None:
    vit = [one | {"top1": 0.1 * one["draw"]} for one in flat(backbones=["vit_micro"])]
    cnn = [one | {"top1": 0.1 * one["draw"] + 0.3} for one in flat(backbones=["resnet_micro"])]
    result = replicates.pairs(table(vit), table(cnn[1:]))
    assert result["draw"].tolist() == [1, 2]
    assert result["difference"].to_numpy() == pytest.approx(0.3)


def test_seeds_of_one_draw_are_averaged_first() -> None:
    grid = [(draw, seed) for draw in (0, 1) for seed in (0, 1, 2)]
    planted = [one | {"top1": 0.1 * one["draw"] + 0.01 * one["seed"]} for one in flat(replicates=grid)]
    wide = replicates.wide(table(planted))
    assert np.sort(replicates.units(wide)[100].to_numpy()) == pytest.approx([0.01, 0.11])
    one_draw = replicates.wide(table([one for one in planted if one["draw"] == 0]))
    assert len(replicates.units(one_draw)) == 3


@pytest.mark.parametrize(("size", "counts"), [(100, [100] * 10), (60, [300, 100, 50])])
def test_the_expected_overlap_is_that_of_real_draws(size: int, counts: list[int]) -> None:
    """The oracle is the order of the draws itself, over 28 pairs."""
    labels = np.repeat(np.arange(len(counts)), counts)
    taken = [set(subsets.order("f" * 16, labels, draw)[:size].tolist()) for draw in range(8)]
    shares = [len(one & other) / size for place, one in enumerate(taken) for other in taken[:place]]
    made = rows(lambda run: 0.5, sizes=(size,), replicates=[(k, k) for k in range(3)])
    (row,) = replicates.common_images(table(made), len(labels)).to_dict("records")
    assert (row["size"], row["draws"]) == (size, 3)
    assert row["share"] == pytest.approx(np.mean(shares), abs=0.02)


def test_blocks_and_whole_pools_share_nothing_and_all() -> None:
    apart = table(rows(lambda run: 0.5, sizes=(100,), replicates=[(0, 0), (1, 1)], blocks=2))
    assert replicates.common_images(apart, 1000)["share"].tolist() == [0]
    labels = np.arange(1000) % 10
    blocks = [set(subsets.order("f" * 16, labels, draw, blocks=2)[:100].tolist()) for draw in range(2)]
    assert not blocks[0] & blocks[1]
    whole = table(rows(lambda run: 0.5, sizes=(100, 1000), replicates=[(0, 0), (1, 1)]))
    assert replicates.common_images(whole, 1000)["share"].tolist() == [0.1, 1]
    assert replicates.common_images(whole, None)["share"].isna().all()
    assert not len(
        replicates.common_images(table(rows(lambda run: 0.5, sizes=(100,), replicates=[(0, 0), (0, 1)])), 1000)
    )


def test_a_variant_of_a_backbone_is_compared_by_its_own_name() -> None:
    rows = table(flat(backbones=["vit_micro", "vit_micro_wide", "resnet_micro"]))
    for group in ("vit", "transformer"):
        assert set(replicates.select(rows, group)["backbone"]) == {"vit_micro"}
    assert set(replicates.select(rows, "vit_micro_wide")["backbone"]) == {"vit_micro_wide"}
    alone = table(flat(backbones=["vit_micro_wide"]))
    assert set(replicates.select(alone, "vit")["backbone"]) == {"vit_micro_wide"}


def test_replicates_after_a_pretraining_that_is_not_named_share_one() -> None:
    """As in tables of older code, where one pretraining served all replicates."""
    after = table(flat(regime="mae", source="pool"))
    assert replicates.shared_sizes(after.assign(pretraining="")) == {100}
    assert replicates.shared_sizes(after.drop(columns="pretraining", errors="ignore")) == {100}
    assert replicates.shared_sizes(after.assign(pretraining=after["draw"].map(str))) == set()
    assert replicates.shared_sizes(table(flat())) == set()

"""Planted recoveries are result, and their intervals hold them or are unbounded where the gap may be 0."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bias_lab.definition import Run, run_id
from bias_lab.statistics import (
    axes,
    comparable,
    gains,
    likewise,
    moved,
    recovery,
    removed,
    shortfall,
    untrained_starts,
)
from tests.planted import bits, row, rows, table

PAIRS = [(k, k) for k in range(4)]


def scratch(run: Run) -> float:
    return 0.5 if run.backbone == "vit_micro" else 0.7


def study(seed: int = 0, noise: float = 0.01, share: float = 0.4, **gap: float) -> list[dict[str, object]]:
    """Return rows of the ViT at 0.5, the CNNs at 0.7, and the ViT after MAE at 0.5 + share of the gap."""
    after = rows(
        lambda run: 0.5 + share * 0.2, backbones=["vit_micro"], sizes=[100, 1000], replicates=PAIRS, seed=seed + 10_000,
        noise=noise, regime="mae", source="pool",
    )  # fmt: skip
    return rows(scratch, sizes=[100, 1000], replicates=PAIRS, seed=seed, noise=noise) + after


def test_the_planted_share_is_recovered() -> None:
    result = recovery(table(study(noise=0.0)))
    assert result[["regime", "source", "size"]].to_numpy().tolist() == [["mae", "pool", 100], ["mae", "pool", 1000]]
    assert result["recovery"].to_numpy() == pytest.approx(0.4)
    assert result["shortfall"].to_numpy() == pytest.approx(0.2)
    assert result["n"].tolist() == [4, 4]


def test_protocols_and_sources_stand_apart() -> None:
    probe = rows(lambda run: 0.6, backbones=["vit_micro"], sizes=[100], replicates=PAIRS, regime="mae", source="subset")
    for r in probe:
        r["protocol"] = "linear_probe"
    result = recovery(table([*study(), *probe]))
    assert sorted(set(zip(result["protocol"], result["source"], strict=True))) == [
        ("finetune", "pool"),
        ("linear_probe", "subset"),
    ]


def test_no_gap_to_recover() -> None:
    level = [r | {"top1": 0.6} if r["regime"] == "scratch" else r for r in study()]
    result = recovery(table(level))
    assert result["recovery"].isna().all()
    noisy = recovery(table(study(noise=0.3, seed=5)))
    assert noisy.loc[noisy["recovery"].notna(), "high"].isin([math.inf]).any()


def test_one_replicate_and_none() -> None:
    one = [r for r in study() if r["draw"] == 0]
    assert recovery(table(one))["low"].isna().all()
    assert recovery(table([])).empty
    assert removed(table(study())).empty  # no own backbone


def test_the_share_that_an_own_backbone_removes() -> None:
    own = rows(lambda run: 0.65, backbones=["mine.nets:stem"], sizes=[100, 1000], replicates=PAIRS, noise=0.0)
    result = removed(table([*rows(scratch, sizes=[100, 1000], replicates=PAIRS, noise=0.0), *own]))
    assert result["backbone"].tolist() == ["mine.nets:stem"] * 2
    assert result["share"].to_numpy() == pytest.approx(0.75)


def _held(rounds: int, start: int) -> float:
    held = 0
    for seed in range(start, start + rounds):
        result = recovery(table(study(seed=seed, noise=0.02)))
        held += int(((result["low"] <= 0.4) & (result["high"] >= 0.4)).sum())
    return held / (2 * rounds)


def test_intervals_hold_the_planted_share() -> None:
    assert _held(25, 0) >= 0.86


@pytest.mark.slow
def test_coverage_is_93_percent_at_least() -> None:
    assert _held(250, 1000) >= 0.93


# --- few test images --------------------------------------------------------------------------------------------------

LEVELS = {"vit_micro": 0.0, "resnet_micro": 1.5, "mine.nets:stem": 0.5}  # of the latent score that has to exceed 0
SDS = dict(image=0.8, own=0.5, replicate=0.15, each=0.5)  # of an image for all models and for one, of a run, of both
TOTAL = math.sqrt(sum(sd**2 for sd in SDS.values()))


def few_images(worlds: int, *, seed: int, images: int = 60, k: int = 6) -> pd.DataFrame:
    """Return a table in which each size is a world of its own, with test images and replicates of its own."""
    random = np.random.default_rng(seed)
    planted = []
    for size in range(1, worlds + 1):
        image = SDS["image"] * random.standard_normal(images)
        for name, level in LEVELS.items():
            score = level + image + SDS["own"] * random.standard_normal(images)
            for draw in range(k):
                moved = SDS["replicate"] * random.standard_normal() + SDS["each"] * random.standard_normal(images)
                right = score + moved > 0
                run = Run(dataset="fashion_mnist_12k", backbone=name, size=size, draw=draw, seed=draw)
                planted.append(row(run, top1=float(right.mean()), correct=bits(right), test_images=images))
    return table(planted)


def _held_on_few_images(worlds: int, seed: int) -> float:
    vit, cnn, own = (stats.norm.cdf(level / TOTAL) for level in LEVELS.values())
    result = removed(few_images(worlds, seed=seed))
    return float(((result["low"] <= (own - vit) / (cnn - vit)) & ((own - vit) / (cnn - vit) <= result["high"])).mean())


def test_intervals_hold_the_share_on_60_test_images() -> None:
    assert _held_on_few_images(150, 0) >= 0.92  # 0.85 without the test images


@pytest.mark.slow
def test_coverage_on_60_test_images_is_93_to_97_percent() -> None:
    assert 0.93 <= _held_on_few_images(1500, 1) <= 0.97


def test_starts_and_starts_of_both_count_the_test_images_too() -> None:
    """The ViT's rows from scratch serve as the CNN's, and own rows as those after a start: both shares are the same."""
    data = few_images(3, seed=3)
    share = removed(data)
    is_own = data["backbone"] == "mine.nets:stem"
    after = data[is_own].assign(backbone="vit_micro", family="transformer", architecture="vit", regime="mae",
                                source="pool")  # fmt: skip
    ends = ["low", "high"]
    assert recovery(pd.concat([data[~is_own], after]))[ends].to_numpy() == pytest.approx(share[ends].to_numpy())
    blind = data.assign(correct=None)
    assert (removed(blind)["low"] > share["low"]).all()
    same = data[data["backbone"] == "vit_micro"].assign(regime="mae", source="pool")
    other = after.assign(backbone="resnet_micro", family="cnn", architecture="resnet")
    alike = likewise(pd.concat([data[~is_own], same, other]))
    assert alike[["left_low", "left_high"]].to_numpy() == pytest.approx(share[ends].to_numpy())


def test_one_of_the_two_sides_is_nobody_s_own() -> None:
    """A published CNN that the catalogue does not list is the reference here, so it is no own backbone."""
    published = [r | {"backbone": "tf_efficientnet_lite0"} for r in study() if r["backbone"] == "resnet_micro"]
    vit = [r for r in study() if r["backbone"] == "vit_micro"]
    assert removed(table([*vit, *published])).empty


# --- pretrainings ----------------------------------------------------------------------------------------------------

THREE = [(0, 0), (1, 1), (2, 2)]


def after(regime: str, top1: float, *, backbone: str = "vit_micro", shared: bool = False, **before: Any) -> list[Any]:
    """Return the runs of three replicates after a pretraining, and its own runs: one for each, or one for all."""
    start = dict(regime=regime, source="pool")
    marks = {name: before.pop(name) for name in ("untrained",) if name in before}
    planted = []
    for place, (draw, seed) in enumerate(THREE):
        first = Run(dataset="fashion_mnist_12k", backbone=backbone, task="pretrain", seed=0 if shared else seed,
                    **{"samples_seen": 40_000, **start, **before})  # fmt: skip
        planted += [row(first, top1=None, **marks)] if not (shared and place) else []
        planted += rows(lambda run: top1, backbones=[backbone], sizes=(100, 1000), replicates=[(draw, seed)],
                        seed=draw + 7, pretraining=run_id(first), **start)  # fmt: skip
    return planted


def from_scratch(**fields: Any) -> list[Any]:
    return rows(lambda run: 0.5 if run.backbone == "vit_micro" else 0.7, sizes=(100, 1000), replicates=THREE, **fields)


def controls() -> list[Any]:
    """Return what stands beside MAE: zero steps, sin-cos positions, and as many images as both trainings together."""
    from_vit = dict(backbones=["vit_micro"], sizes=(100, 1000), replicates=THREE)
    return [
        *after("mae", 0.52, samples_seen=0, untrained=True),
        *rows(lambda run: 0.54, priors="sincos_positions", seed=3, **from_vit),
        *rows(lambda run: 0.56, samples_seen=56_000, seed=4, **from_vit),
    ]


@pytest.mark.parametrize("first", [True, False])
def test_controls_of_a_pretraining_stand_in_one_study_and_are_not_mixed_with_it(first: bool) -> None:
    """Without the rule that the usual number of images is the reference, the order of the rows would decide."""
    plain = [*from_scratch(), *after("mae", 0.6)]
    every = table([*controls(), *plain] if first else [*plain, *controls()])
    assert set(axes(every)) == {"priors", "samples_seen", "pretraining_samples_seen"}
    alone = table(plain)
    for statistic in (recovery, gains, shortfall):
        mixed, pure = (statistic(data).sort_values(["size"]).reset_index(drop=True) for data in (every, alone))
        assert mixed.drop(columns="seen_before", errors="ignore").equals(
            pure.drop(columns="seen_before", errors="ignore")
        )
    assert not recovery(every)["untrained"].any()
    moved_by = moved(every, axis="samples_seen").set_index(["value", "size"])["change"]
    assert moved_by.round(1).to_dict() == {(56_000, 100): 0.1, (56_000, 1000): 0.1}
    zero = moved(every, axis="pretraining_samples_seen").set_index(["value", "size"])["change"]
    assert zero.round(1).to_dict() == {(0, 100): -0.1, (0, 1000): -0.1}


def test_the_usual_number_of_images_is_that_of_a_size() -> None:
    planted = []
    for size, seen in ((100, 32_000), (1000, 64_000)):
        planted += rows(lambda run: 0.5, sizes=(size,), replicates=THREE, samples_seen=seen)
        planted += rows(lambda run: 0.9, backbones=["vit_micro"], sizes=(size,), replicates=THREE, seed=1,
                        samples_seen=seen + 40_000)  # fmt: skip
    kept = comparable(table(planted[::-1]))
    assert set(zip(kept["size"], kept["samples_seen"], strict=True)) == {(100, 32_000), (1000, 64_000)}
    assert kept["top1"].max() < 0.6


def test_rows_know_whether_their_replicates_share_a_pretraining() -> None:
    own, shared = (table([*from_scratch(), *after("mae", 0.6, shared=is_shared)]) for is_shared in (False, True))
    for statistic in (recovery, gains):
        assert not statistic(own)["shared"].any()
        assert statistic(shared)["shared"].all()
    both = table([*from_scratch(), *after("simmim", 0.6), *after("simmim", 0.7, backbone="resnet_micro", shared=True)])
    alike = likewise(both, against="resnet_micro")
    assert len(alike) == 2
    assert alike["shared"].all()
    one = table([r for r in [*from_scratch(), *after("mae", 0.6, shared=True)] if r["draw"] == 0])
    assert not recovery(one)["shared"].any(), "one replicate has nobody to share with"


def test_seeds_of_one_draw_are_replicates_that_may_share_a_pretraining_too() -> None:
    planted = [r | {"draw": 0} for r in [*from_scratch(), *after("mae", 0.6, shared=True)]]
    assert recovery(table(planted))["shared"].all()


def test_a_start_whose_pretraining_did_not_train_is_named() -> None:
    planted = [*from_scratch(), *after("dino", 0.5, untrained=True), *after("mae", 0.6, untrained=False)]
    found = recovery(table(planted)).groupby("regime")["untrained"].unique().map(list).to_dict()
    assert found == {"dino": [True], "mae": [False]}
    starts = untrained_starts(table(planted))
    assert starts.to_dict("records") == [
        {"backbone": "vit_micro", "regime": "dino", "source": "pool", "runs": 6, "of": 6}
    ]
    assert not len(untrained_starts(table([*from_scratch(), *after("mae", 0.6), *controls()]))), "a control is no start"
    assert not len(untrained_starts(table(from_scratch())))


# --- coverage with a pretraining for each replicate -------------------------------------------------------------------

AFTER = {"vit_micro": 0.0, "resnet_micro": 1.2, "mae": 0.7}  # of the latent score, as in LEVELS
MOVES = dict(draw=0.1, run=0.1, pretraining=0.15)  # sds of what moves all images of a run alike


def pretrained(worlds: int, *, seed: int, shared: bool = False, images: int = 300, k: int = 4) -> pd.DataFrame:
    """Return a table in which each size is a world: a pair from scratch, and the ViT after a pretraining.

    Test images are common to all runs, draws to the runs of a replicate. shared: one pretraining serves all replicates.
    """
    random = np.random.default_rng(seed)
    planted = []
    for size in range(1, worlds + 1):
        image = SDS["image"] * random.standard_normal(images)
        draws = MOVES["draw"] * random.standard_normal(k)
        starts = MOVES["pretraining"] * random.standard_normal(1 if shared else k)
        for name, level in AFTER.items():
            begun = name == "mae"
            score = level + image + SDS["own"] * random.standard_normal(images)
            for draw in range(k):
                moved = draws[draw] + MOVES["run"] * random.standard_normal()
                moved += starts[0 if shared else draw] if begun else 0.0
                right = score + moved + SDS["each"] * random.standard_normal(images) > 0
                start = dict(regime="mae", source="pool", pretraining=f"p{size}{'' if shared else draw}")
                run = Run(dataset="fashion_mnist_12k", backbone="vit_micro" if begun else name, size=size, draw=draw,
                          seed=draw, **(start if begun else {}))  # fmt: skip
                planted.append(row(run, top1=float(right.mean()), correct=bits(right), test_images=images))
    return table(planted)


def _truths() -> tuple[float, float]:
    """Return the true gain and the true share of the shortfall: means over draws, runs, pretrainings and images."""
    common = sum(SDS[name] ** 2 for name in ("image", "own", "each")) + MOVES["draw"] ** 2 + MOVES["run"] ** 2
    total = {name: math.sqrt(common + (MOVES["pretraining"] ** 2 if name == "mae" else 0)) for name in AFTER}
    vit, cnn, mae = (float(stats.norm.cdf(level / total[name])) for name, level in AFTER.items())
    return mae - vit, (mae - vit) / (cnn - vit)


def _held_after(worlds: int, seed: int, *, k: int = 4, shared: bool = False) -> tuple[float, float]:
    """Return the coverage of the gain (with test images) and of the recovery."""
    gain, share = _truths()
    data = pretrained(worlds, seed=seed, shared=shared, k=k)
    by_gain, by_share = gains(data), recovery(data)
    assert set(by_share["shared"]) == {shared}
    return (
        float(((by_gain["low_any"] <= gain) & (gain <= by_gain["high_any"])).mean()),
        float(((by_share["low"] <= share) & (share <= by_share["high"])).mean()),
    )


def test_a_shared_pretraining_narrows_the_intervals_beyond_what_they_promise() -> None:
    own, shared = _held_after(60, 0), _held_after(60, 0, shared=True)
    assert min(own) >= 0.86  # the slow test below asks for 93 to 97 %
    assert shared[0] < own[0]


@pytest.mark.slow
def test_coverage_with_a_pretraining_for_each_replicate_is_93_to_97_percent() -> None:
    for held in _held_after(1200, 1):
        assert 0.93 <= held <= 0.97


@pytest.mark.slow
def test_three_replicates_are_cautious() -> None:
    """The interval with both noises is too wide with 3 values where the noises are alike (see `both_noises`)."""
    for held in _held_after(1200, 2, k=3):
        assert 0.94 <= held <= 0.985

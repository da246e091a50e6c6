"""Comparisons along an axis, between starts, and of gains agree with planted truths and with scipy."""

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd
import pytest
from scipy import stats
from scipy.optimize import brentq

from bias_lab.definition import Run
from bias_lab.statistics import values
from bias_lab.statistics.contrasts import arms, gains, likewise, moved
from tests.planted import row, rows, table

PAIR = ("vit_micro", "resnet_micro")
FOUR = [(k, k) for k in range(4)]


def located(run: Run) -> float:
    """Return accuracies where the CNN leads because of locality: the lead vanishes when pixels are permuted."""
    vit = run.backbone == "vit_micro"
    if run.intervention == "permute_pixels":
        return 0.4
    if run.intervention == "permute_patches:4":
        return 0.6 if vit else 0.65
    return 0.6 if vit else 0.75


def study(seed: int = 0, noise: float = 0.01, sizes: Iterable[int] = (100, 1000)) -> list[dict[str, Any]]:
    planted = []
    for place, name in enumerate(("", "permute_pixels", "permute_patches:4")):
        planted += rows(located, backbones=PAIR, sizes=sizes, replicates=FOUR, intervention=name, noise=noise,
                     seed=10 * seed + place)  # fmt: skip
    return planted


def wide(planted: list[dict[str, Any]], name: str, size: int = 100) -> pd.DataFrame:
    at = table(planted).query("intervention == @name and size == @size")
    return at.pivot(index="draw", columns="backbone", values="top1").astype(float)


def test_what_was_planted_comes_out() -> None:
    result = arms(table(study(noise=0.0))).set_index(["value", "size"])
    assert result["shortfall"].to_numpy() == pytest.approx([0.15, 0.15, 0.0, 0.0, 0.05, 0.05])
    assert result.loc[("permute_pixels", 100), "gone"] == pytest.approx(0.15)
    assert math.isnan(result.loc[("", 100), "gone"])
    change = moved(table(study(noise=0.0))).set_index(["value", "backbone", "size"])["change"]
    assert change["permute_patches:4", "vit_micro", 100] == pytest.approx(0.0)
    assert change["permute_pixels", "resnet_micro", 1000] == pytest.approx(-0.35)
    in_order = ["", "permute_pixels", "permute_patches:4"]  # the reference, then as the table has them
    assert values(table(study()), "intervention") == in_order


def test_intervals_are_paired_t_intervals() -> None:
    planted = study()
    plain, pixels = wide(planted, ""), wide(planted, "permute_pixels")
    result = arms(table(planted)).set_index(["value", "size"]).loc[("permute_pixels", 100)]
    lead = stats.ttest_rel(pixels["resnet_micro"], pixels["vit_micro"])
    assert (result["low"], result["high"]) == pytest.approx(tuple(lead.confidence_interval()))
    both = plain["resnet_micro"] - plain["vit_micro"], pixels["resnet_micro"] - pixels["vit_micro"]
    gone = stats.ttest_rel(*both).confidence_interval()
    assert (result["gone_low"], result["gone_high"]) == pytest.approx((gone.low, gone.high))
    own = moved(table(planted)).set_index(["value", "backbone", "size"]).loc[("permute_pixels", "vit_micro", 100)]
    change = stats.ttest_rel(pixels["vit_micro"], plain["vit_micro"])
    assert (own["low"], own["high"], own["p"]) == pytest.approx((*change.confidence_interval(), change.pvalue))


def test_p_is_corrected_over_all_rows() -> None:
    result = arms(table(study()))
    assert len(result) == 6
    smallest = result.loc[result["p"].idxmin()]
    assert smallest["p_holm"] == pytest.approx(6 * smallest["p"])


def test_a_backbone_that_moves_in_no_replicate_is_not_tested() -> None:
    planted = study()
    for index, name in enumerate(("", "permute_pixels", "permute_patches:4")):
        control = rows(located, backbones=("pixels",), sizes=(100, 1000), replicates=FOUR, intervention=name, noise=0.0)
        planted += [one | {"run_id": f"{one['run_id']}{index}", "top1": 0.3 + one["draw"] / 100} for one in control]
    result = moved(table(planted)).set_index("backbone")
    alone = moved(table(study())).set_index("backbone")
    assert (result.loc["pixels", ["change", "low", "high"]] == 0).all(axis=None)
    assert result.loc["pixels", ["p", "p_holm"]].isna().all(axis=None)
    assert result.drop("pixels")["p_holm"].tolist() == alone["p_holm"].tolist()


def test_no_intervention_no_rows() -> None:
    plain = table(rows(located, backbones=PAIR, sizes=(100,)))
    assert arms(plain).empty
    assert moved(plain).empty
    assert likewise(plain).empty
    assert gains(plain).empty


def photographs(noise: float = 0.01, seed: int = 0, sizes: Iterable[int] = (100,)) -> list[dict[str, Any]]:
    """Return rows from scratch (0.5 and 0.7) and from own weights (0.88 and 0.93), which leave a quarter of the gap."""
    level = {("vit_micro", "scratch"): 0.5, ("resnet_micro", "scratch"): 0.7, ("vit_micro", "weights"): 0.88,
             ("resnet_micro", "weights"): 0.93}  # fmt: skip
    planted = []
    for name in PAIR:
        for regime in ("scratch", "weights"):
            seed += 1
            source = name if regime == "weights" else ""
            planted += rows(lambda run: level[run.backbone, run.regime], backbones=[name], sizes=sizes, replicates=FOUR,
                         noise=noise, seed=seed, regime=regime, source=source)  # fmt: skip
    return planted


def test_what_is_left_of_the_shortfall_where_both_have_weights() -> None:
    result = likewise(table(photographs(noise=0.0))).iloc[0]
    assert (result["regime"], result["source"], result["n"]) == ("weights", "", 4)  # each model has weights of its own
    assert (result["shortfall"], result["left"]) == pytest.approx((0.05, 0.25))


def test_the_share_s_interval_inverts_the_paired_t_test() -> None:
    planted = table(photographs())
    cells = {key: part.sort_values("draw")["top1"].to_numpy() for key, part in planted.groupby(["backbone", "regime"])}
    after, before = (cells["resnet_micro", kind] - cells["vit_micro", kind] for kind in ("weights", "scratch"))

    def excess(share: float) -> float:
        return stats.ttest_1samp(after - share * before, 0).pvalue - 0.05

    result = likewise(planted).iloc[0]
    ends = brentq(excess, result["left"] - 1, result["left"]), brentq(excess, result["left"], result["left"] + 1)
    assert (result["left_low"], result["left_high"]) == pytest.approx(ends, abs=1e-6)


def test_one_source_is_compared_with_the_same() -> None:
    planted = rows(lambda run: 0.6, backbones=PAIR, sizes=(100,), noise=0.001)
    for source in ("pool", "fractals"):
        planted += rows(
            lambda run: 0.7, backbones=PAIR, sizes=(100,), regime="dino", source=source, noise=0.001, seed=3
        )
    assert likewise(table(planted))["source"].tolist() == ["fractals", "pool"]


def test_sides_that_share_a_start_but_no_size_have_no_row() -> None:
    planted = rows(located, backbones=PAIR, sizes=(100, 500), noise=0.001)
    for name, size in (("vit_micro", 100), ("resnet_micro", 500)):
        planted += rows(lambda run: 0.7, backbones=[name], sizes=(size,), regime="mae", source="pool")
    assert likewise(table(planted)).empty


def test_two_sources_are_two_treatments() -> None:
    planted = rows(lambda run: 0.6, backbones=PAIR, sizes=(100,), noise=0.001)
    for name, source, level in (("vit_micro", "pool", 0.9), ("resnet_micro", "subset", 0.2)):
        planted += rows(lambda run, at=level: at, backbones=[name], sizes=(100,), regime="mae", source=source)
    assert likewise(table(planted)).empty
    second = rows(lambda run: 0.9, backbones=["vit_micro"], sizes=(100,), regime="weights", source="another")
    assert likewise(table([*photographs(), *second])).empty  # either of the two could be compared with ResNet's


def test_gains_stand_beside_the_cnn_and_the_images_seen_before() -> None:
    planted = rows(located, backbones=PAIR, sizes=(100,), replicates=FOUR, noise=0.0)
    planted += rows(lambda run: 0.7, backbones=["vit_micro"], sizes=(100,), replicates=FOUR, noise=0.0, regime="mae",
                 source="pool")  # fmt: skip
    before = Run(dataset="fashion_mnist_12k", backbone="vit_micro", task="pretrain", regime="mae", source="pool")
    planted.append(row(before, top1=None, samples_seen=128_000))
    result = gains(table(planted)).iloc[0]
    assert (result["backbone"], result["regime"], result["n"]) == ("vit_micro", "mae", 4)
    assert (result["gain"], result["behind"], result["top1"]) == pytest.approx((0.1, 0.05, 0.7))
    assert result["seen_before"] == 128_000
    assert math.isnan(gains(table(photographs()))["seen_before"].iloc[0])  # weights from elsewhere


def test_images_seen_before_are_those_of_this_start() -> None:
    planted = rows(located, backbones=PAIR, sizes=(100, 1000), noise=0.0)
    planted += rows(
        lambda run: 0.7, backbones=["vit_micro"], sizes=(100, 1000), noise=0.0, regime="mae", source="subset"
    )
    first = dict(dataset="fashion_mnist_12k", backbone="vit_micro", task="pretrain", regime="mae", source="subset")
    for size, pixels, seen in ((100, 28, 10_000), (1000, 28, 50_000), (1000, 64, 900_000)):
        planted.append(row(Run(**first, size=size, image_size=pixels), top1=None, samples_seen=seen))
    assert gains(table(planted))["seen_before"].tolist() == [10_000, 50_000]


@pytest.mark.slow
def test_coverage_of_what_is_gone_and_what_is_left() -> None:
    """Each size of a table is an independent experiment, and 95 % of the intervals hold the planted 0.15 and 0.25."""
    sizes = range(100, 400)
    gone = arms(table(study(seed=1, noise=0.02, sizes=sizes))).query("value == 'permute_pixels'")
    left = likewise(table(photographs(noise=0.02, seed=7, sizes=sizes)))
    assert len(gone) == len(left) == 300
    assert 0.93 <= ((gone["gone_low"] <= 0.15) & (gone["gone_high"] >= 0.15)).mean() <= 0.97
    assert ((left["left_low"] <= 0.25) & (left["left_high"] >= 0.25)).mean() >= 0.93

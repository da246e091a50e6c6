"""The shortfall and the answer agree with scipy and with planted truths; what can't be compared is an error."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bias_lab.definition import Run
from bias_lab.errors import UserError
from bias_lab.statistics import ALPHA, answer, gaps, shortfall
from bias_lab.statistics.intervals import holm
from tests.planted import SIZES, bits, curve, row, rows, table


def behind(by: float, *, below: float = math.inf) -> Any:
    """Return accuracies on one curve, with the ViT lower `by` that much at sizes below `below`."""
    return lambda run: curve(run.size) - (by if run.backbone == "vit_micro" and run.size < below else 0)


def crossing(run: Run) -> float:
    """Return accuracies where the ViT's curve meets the CNNs' at 2,000 images."""
    return curve(run.size) - (0.06 * math.log10(2000 / run.size) if run.backbone == "vit_micro" else 0)


def test_it_is_the_paired_t_interval_of_the_family_s_mean() -> None:
    planted = table(rows(behind(0.1)))
    result = shortfall(planted)
    assert list(result.columns) == ["size", "shortfall", "low", "high", "low_any", "high_any", "n"]
    at = planted[planted["size"] == 300]
    cnn = at[at["family"] == "cnn"].groupby("draw")["top1"].mean()
    vit = at[at["backbone"] == "vit_micro"].set_index("draw")["top1"]
    oracle = stats.ttest_rel(cnn, vit[cnn.index])
    ends = oracle.confidence_interval()
    here = result.set_index("size").loc[300]
    assert here["shortfall"] == pytest.approx((cnn - vit[cnn.index]).mean(), abs=1e-12)
    assert (here["low"], here["high"]) == pytest.approx((ends.low, ends.high), abs=1e-12)
    assert here["n"] == 3
    assert gaps(planted).set_index("size").loc[300, "p"] == pytest.approx(oracle.pvalue, rel=1e-9)


def test_any_pair_by_backbone_architecture_or_family() -> None:
    planted = table(rows(behind(0.1), noise=0.0))
    for against in ("cnn", "resnet", "resnet_micro"):
        assert shortfall(planted, against=against)["shortfall"].to_numpy() == pytest.approx(0.1)
    assert shortfall(planted, of="resnet", against="vit_micro")["shortfall"].to_numpy() == pytest.approx(-0.1)
    assert shortfall(planted, of="vit", against="hybrid").empty  # known, but not in this table


def test_a_misspelt_name_gets_the_nearest() -> None:
    with pytest.raises(UserError, match=r"'resnet_mirco'; did you mean 'resnet_micro'"):
        shortfall(table(rows(behind(0.1))), against="resnet_mirco")


def test_seeds_of_one_draw_are_averaged_first() -> None:
    replicates = [(draw, seed) for draw in range(4) for seed in range(3)]
    planted = table(rows(behind(0.1), sizes=[100], replicates=replicates, backbones=["vit_micro", "resnet_micro"]))
    result = gaps(planted).iloc[0]
    wide = planted.pivot(index=["draw", "seed"], columns="backbone", values="top1")
    draws = (wide["resnet_micro"] - wide["vit_micro"]).groupby("draw").mean()
    assert (result["n"], result["units"], result["unit"]) == (12, 4, "draw")
    assert (result["low"], result["high"]) == pytest.approx(stats.t.interval(0.95, 3, draws.mean(), stats.sem(draws)))


def test_seeds_alone_are_the_unit_where_there_is_one_draw() -> None:
    planted = table(rows(behind(0.1), sizes=[100], replicates=[(0, 0), (0, 1), (0, 2)]))
    assert gaps(planted).loc[0, ["n", "units", "unit"]].tolist() == [3, 3, "seed"]


def test_one_replicate_has_no_interval() -> None:
    result = shortfall(table(rows(behind(0.1), replicates=[(0, 0)])))
    assert result[["low", "high", "low_any", "high_any"]].isna().all(axis=None)
    assert (result["n"] == 1).all()
    result = answer(table(rows(behind(0.1), replicates=[(0, 0)])))
    assert result.verdict == "unknown"
    assert result.gaps["p"].isna().all()


def test_a_replicate_that_lacks_a_member_is_left_out_and_a_backbone_without_rows_is_not_missed() -> None:
    planted = rows(behind(0.1), sizes=[100, 300])
    lost = [r for r in planted if not (r["backbone"] == "resnet_micro" and r["size"] == 100 and r["draw"] == 1)]
    assert shortfall(table(lost))["n"].tolist() == [2, 3]
    absent = [r for r in planted if not (r["backbone"] == "resnet_micro" and r["size"] == 100)]
    assert shortfall(table(absent))["n"].tolist() == [3, 3]


def test_failed_collapsed_longer_pretrained_and_intervened_runs() -> None:
    planted = rows(behind(0.1), sizes=[100], noise=0.0)
    plain = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100)
    more = [
        row(plain, status="failed", top1=None, draw=7),
        row(plain, budget=3.0, top1=0.99),
        row(plain, regime="mae", source="pool", top1=0.99),
        row(plain, protocol="linear_probe", top1=0.99),
        row(plain, intervention="permute_pixels", top1=0.99),
        row(plain, task="pretrain", top1=None, size=0),
    ]
    for r in planted:
        r["collapsed"] = r["backbone"] == "vit_micro" and r["draw"] == 0
    result = gaps(table([*planted, *more]))
    assert result.loc[0, "shortfall"] == pytest.approx(0.1)
    assert result.loc[0, ["n", "collapsed"]].tolist() == [3, 1]


def test_own_backbones_never_enter_the_reference() -> None:
    planted = rows(behind(0.1), sizes=[100], noise=0.0)
    guests = rows(lambda run: 0.01, sizes=[100], backbones=["mine.nets:better", "resnet34"], noise=0.0)
    for guest in guests:
        guest["family"] = "cnn"  # as --family cnn says
    both = table([*planted, *guests])
    assert shortfall(both).loc[0, "shortfall"] == pytest.approx(0.1)
    assert shortfall(both, of="mine.nets:better").loc[0, "shortfall"] == pytest.approx(curve(100) - 0.01)
    published = table(rows(behind(0.0), sizes=[100], backbones=["resnet18", "resnet50", "vit_tiny_patch16_224"]))
    assert shortfall(published)["n"].tolist() == [3]


@pytest.mark.parametrize(
    ("column", "value", "hint"),
    [
        ("dataset", "cifar10", r"table\[table\['dataset'\] == 'cifar10'\]"),
        ("image_size", 32, r"table\[table\['image_size'\] == 28\]"),
    ],
)
def test_a_mixed_table_is_an_error_that_names_the_filter(column: str, value: Any, hint: str) -> None:
    planted = rows(behind(0.1))
    planted[0] = planted[0] | {column: value}
    with pytest.raises(UserError, match=f"2 values of {column}.*{hint}"):
        shortfall(table(planted))


def test_two_runs_for_one_replicate_are_an_error_that_says_how_they_differ() -> None:
    planted = rows(behind(0.1), sizes=[100])
    with pytest.raises(UserError, match=r"two runs of vit_micro at N=100, draw 0, seed 0; they differ in monitor"):
        shortfall(table([*planted, planted[0] | {"monitor": 5}]))


def test_wrong_columns_and_percents_are_named() -> None:
    planted = table(rows(behind(0.1)))
    with pytest.raises(UserError, match=r"no column 'top1'; rename 'top_1'\?"):
        shortfall(planted.rename(columns={"top1": "top_1"}))
    with pytest.raises(UserError, match=r"top1 holds 87 in 1 of 60 rows; accuracies are fractions.*0\.87, not 87"):
        shortfall(planted.assign(top1=planted["top1"].where(planted.index != 3, 87.0)))
    with pytest.raises(UserError, match="column 'top1' holds no numbers"):
        shortfall(planted.assign(top1="0.9"))


def _bits(random: np.random.Generator, gap: float, runs: int, images: int = 400) -> list[np.ndarray]:
    """Return which images each of several equally good models gets right; images differ in difficulty."""
    difficulty = random.normal(0.6, 1.0, images)
    return [random.normal(0, 0.1, images) + difficulty + gap > 0 for _ in range(runs)]


def test_the_wider_interval_holds_the_sampling_of_test_images() -> None:
    random = np.random.default_rng(0)
    planted = []
    vit, cnn = _bits(random, 0.0, 3), _bits(random, 0.4, 3)  # each with image difficulties of its own
    for name, runs in (("vit_micro", vit), ("resnet_micro", cnn)):
        for draw, right in enumerate(runs):
            run = Run(dataset="fashion_mnist_12k", backbone=name, size=100, draw=draw, seed=draw)
            planted.append(row(run, top1=float(right.mean()), correct=bits(right), test_images=400))
    result = gaps(table(planted)).iloc[0]
    difference = np.array(cnn, float) - np.array(vit, float)
    resampled = [difference[:, random.integers(0, 400, 400)].mean() for _ in range(2000)]
    assert result["test_se"] == pytest.approx(np.std(resampled), rel=0.06)
    assert result["low_any"] < result["low"] < result["shortfall"] < result["high"] < result["high_any"]
    assert math.isnan(gaps(table(planted).assign(test_images=409)).loc[0, "low_any"])  # not the number of bits
    torn = table(planted)
    torn.at[0, "correct"] = None
    assert math.isnan(gaps(torn).loc[0, "low_any"])


def test_a_tie_over_few_test_images_is_no_difference() -> None:
    """Six runs on 60 images: the ViT has 36, 34 and 36 right, the CNN 33, 36 and 37, so the means are equal."""
    random = np.random.default_rng(0)
    planted = []
    for name, counts in (("vit_micro", (36, 34, 36)), ("resnet_micro", (33, 36, 37))):
        for draw, count in enumerate(counts):
            run = Run(dataset="fashion_mnist_12k", backbone=name, size=100, draw=draw, seed=draw)
            right = np.argsort(np.arange(60) + random.normal(0, 8, 60)) < count
            planted.append(row(run, top1=count / 60, correct=bits(right), test_images=60))
    result = answer(table(planted))
    assert result.verdict == "none"
    assert result.gaps.loc[0, ["p", "p_permutation"]].tolist() == [1, 1]
    assert result.gaps.loc[0, "shortfall"] == pytest.approx(0, abs=1e-12)
    assert result.gaps.loc[0, "low_any"] < 0 < result.gaps.loc[0, "high_any"]


# --- planted truths ---------------------------------------------------------------------------------------------------


def test_a_shortfall_below_500_alone_is_claimed_there_alone() -> None:
    result = answer(table(rows(behind(0.1, below=500))))
    assert (result.verdict, result.sizes) == ("shortfall", (100, 300))
    assert (result.gaps["p_holm"] <= ALPHA).tolist() == [True, True, False, False, False]


def test_a_shortfall_everywhere() -> None:
    result = answer(table(rows(behind(0.15))))
    assert (result.verdict, result.sizes) == ("shortfall", SIZES)
    assert result.meeting is None
    assert (result.gaps["p_smallest"] == 0.25).all()  # 3 draws


def test_a_crossover_at_2000_is_seen_and_placed() -> None:
    result = answer(table(rows(crossing, replicates=[(k, k) for k in range(6)], noise=0.004)))
    assert (result.verdict, result.sizes) == ("crossover", (100, 300, 1000))
    assert result.meeting is not None
    assert result.meeting["size"] == pytest.approx(2000, rel=0.1)
    assert result.meeting["low"] < 2000 < result.meeting["high"]


def test_a_lead_everywhere() -> None:
    assert answer(table(rows(behind(-0.1)))).verdict == "lead"


def test_nothing_yet() -> None:
    empty = table([])
    assert answer(empty).verdict == "unknown"
    assert shortfall(empty).empty


def _many(tables: int, *, draws: int, seeds: int, truth: float = 0.0, seed: int = 0) -> pd.DataFrame:
    """Return `gaps` of many tables of five sizes, in which each draw moves the groups apart by 2 points (sd)."""
    random = np.random.default_rng(seed)
    moved = {
        (size, draw): truth + 0.02 * random.standard_normal()
        for size in range(1, 5 * tables + 1)
        for draw in range(draws)
    }

    def accuracy(run: Run) -> float:
        return 0.5 + (moved[run.size, run.draw] if run.backbone == "resnet_micro" else 0)

    replicates = [(draw, s) for draw in range(draws) for s in range(seeds)]
    sizes = range(1, 5 * tables + 1)
    planted = rows(accuracy, seed=seed, replicates=replicates, backbones=("vit_micro", "resnet_micro"), sizes=sizes)
    return gaps(table(planted)).assign(table=lambda result: (result["size"] - 1) // 5)


def _claims(result: pd.DataFrame) -> float:
    """Return the share of tables with a claim after Holm's correction over the five sizes."""
    return float(result.groupby("table")["p"].apply(lambda p: (holm(p.to_numpy()) <= 0.05).any()).mean())


def _coverage(result: pd.DataFrame, truth: float = 0.0) -> float:
    return float(((result["low"] <= truth) & (truth <= result["high"])).mean())


def test_null_tables_are_seldom_claimed_and_intervals_hold_their_truth() -> None:
    result = _many(150, draws=3, seeds=1)
    assert _claims(result) <= 0.05 + 2.6 * math.sqrt(0.05 * 0.95 / 150)
    assert 0.93 <= _coverage(result) <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize(("draws", "seeds"), [(3, 1), (3, 3), (6, 1)])
def test_at_most_one_null_table_in_twenty_is_claimed(draws: int, seeds: int) -> None:
    result = _many(800, draws=draws, seeds=seeds, seed=1)
    assert _claims(result) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 800)
    assert 0.94 <= _coverage(result) <= 0.96


def test_pairs_that_share_a_draw_taken_for_independent_would_miss_too_often() -> None:
    """The t interval over nine pairs of 3 draws x 3 seeds misses the truth too often, so draws are the unit."""
    random = np.random.default_rng(0)
    d = 0.02 * random.standard_normal((4000, 3, 1)) + 0.014 * random.standard_normal((4000, 3, 3))
    nine = d.reshape(4000, 9)
    half = stats.t.ppf(0.975, 8) * stats.sem(nine, axis=1)
    assert np.mean(np.abs(nine.mean(axis=1)) <= half) < 0.85


def test_the_answer_says_none_of_null_tables() -> None:
    verdicts = [answer(table(rows(behind(0.0), seed=seed))).verdict for seed in range(12)]
    assert verdicts.count("none") >= 11


def test_the_answer_is_pure() -> None:
    planted = table(rows(behind(0.1)))
    before = planted.copy(deep=True)
    answer(planted)
    pd.testing.assert_frame_equal(planted, before)

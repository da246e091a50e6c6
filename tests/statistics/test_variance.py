"""Shares of draws and seeds, and power, agree with statsmodels and with planted truths."""

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy.stats import norm
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.power import TTestPower

from bias_lab.definition import Run
from bias_lab.statistics import gaps, intervals, power, variance_shares
from bias_lab.statistics.variance import chance_to_show, needed
from tests.planted import bits, row, rows, table

GRID = [(draw, seed) for draw in range(3) for seed in range(3)]


def planted(seed: int, draw_sd: float = 0.02, **kind: object) -> pd.DataFrame:
    random = np.random.default_rng(seed + 7)
    moved: dict[tuple[str, int, int], float] = {}

    def accuracy(run: Run) -> float:
        key = (run.backbone, run.size, run.draw)
        return 0.6 + moved.setdefault(key, draw_sd * random.standard_normal())

    return table(rows(accuracy, seed=seed, replicates=GRID, sizes=(100, 1000)))


def test_shares_are_those_of_statsmodels_anova() -> None:
    data = planted(0)
    one = data[(data["backbone"] == "vit_micro") & (data["size"] == 100)]
    mean_square = anova_lm(smf.ols("top1 ~ C(draw)", one.astype({"top1": float, "draw": int})).fit())["mean_sq"]
    between = max(0.0, (mean_square["C(draw)"] - mean_square["Residual"]) / 3)
    result = variance_shares(one).set_index("component")
    assert result.loc["draw", "sd"] == pytest.approx(math.sqrt(between))
    assert result.loc["seed and rest", "sd"] == pytest.approx(math.sqrt(mean_square["Residual"]))
    assert result.loc["draw", "share"] == pytest.approx(between / (between + mean_square["Residual"]))


def test_the_interval_holds_the_planted_share() -> None:
    held = 0
    for seed in range(20):
        result = variance_shares(planted(seed)).set_index("component").loc["draw"]
        held += result["low"] <= 0.8 <= result["high"]  # 0.02² of 0.02² + 0.01²
    assert held >= 17


@pytest.mark.slow
def test_coverage_is_93_percent_at_least() -> None:
    held = 0
    for seed in range(250):
        result = variance_shares(planted(1000 + seed)).set_index("component").loc["draw"]
        held += result["low"] <= 0.8 <= result["high"]
    assert held / 250 >= 0.93


def _held_by_cells_that_share_draws(rounds: int, start: int) -> float:
    """Return the coverage of 8 cells: a draw moves all of them alike."""
    held = 0
    for seed in range(start, start + rounds):
        random = np.random.default_rng(seed)
        common = random.standard_normal(3)
        kind = dict(seed=seed, replicates=GRID, noise=0.01)
        alike = rows(lambda run, at=common: 0.6 + 0.02 * at[run.draw], sizes=(100, 1000), **kind)
        result = variance_shares(table(alike)).set_index("component").loc["draw"]
        held += result["low"] <= 0.8 <= result["high"]
    return held / rounds


def test_cells_that_share_draws_are_not_taken_for_independent() -> None:
    assert _held_by_cells_that_share_draws(30, 0) >= 0.83  # 0.6 if they were; the slow test below asks for 93 %


@pytest.mark.slow
def test_coverage_of_cells_that_share_draws_is_93_percent_at_least() -> None:
    assert _held_by_cells_that_share_draws(400, 1000) >= 0.93


def test_many_cells_tell_no_more_about_draws_than_one() -> None:
    result = variance_shares(planted(1)).set_index("component")["df"]
    assert result["draw"] == 2
    assert 6 <= result["seed and rest"] <= 8 * 6


def test_one_seed_a_draw_can_t_be_told_apart_and_says_so() -> None:
    result = variance_shares(table(rows(lambda run: 0.6)))
    assert result["component"].tolist() == ["draw and seed"]
    assert result["low"].isna().all()
    assert variance_shares(table([])).empty


@pytest.mark.parametrize(("sd", "resolve"), [(0.01, 0.01), (0.02, 0.01), (0.005, 0.02)])
def test_needed_is_statsmodels_power(sd: float, resolve: float) -> None:
    oracle = TTestPower()
    k = needed(sd, resolve)
    assert oracle.power(resolve / sd, k, 0.05) >= 0.8 - 1e-6
    assert k == 2 or oracle.power(resolve / sd, k - 1, 0.05) < 0.8


@pytest.mark.parametrize(("k", "sd", "se"), [(4, 0.01, 0.005), (8, 0.02, 0.01), (20, 0.005, 0.008), (3, 0.02, 0.002)])
def test_the_chance_is_that_of_the_test_that_is_made(k: int, sd: float, se: float) -> None:
    random = np.random.default_rng(0)
    truth = 2.5 * math.hypot(sd / math.sqrt(k), se)
    values = truth + se * random.standard_normal((3000, 1)) + sd * random.standard_normal((3000, k))
    shown = np.mean([intervals.p_value(intervals.mean(one), se) <= 0.05 for one in values])
    assert chance_to_show(k, sd, truth, se) == pytest.approx(shown, abs=0.03)


def test_no_number_of_draws_resolves_less_than_the_test_images_do() -> None:
    assert needed(0.001, 0.01, test_se=0.01) == 10_000
    assert needed(0.001, 0.03, test_se=0.01) < 10


def few_images(worlds: int, draws: int, seed: int, images: int = 500) -> pd.DataFrame:
    """Return a table in which each size is a world of its own: a shortfall of 6 points, test images that all share."""
    random = np.random.default_rng(seed)
    planted = []
    for size in range(1, worlds + 1):
        image = random.standard_normal(images)
        for name, level in (("vit_micro", 0.0), ("resnet_micro", LEAD)):
            own = level + image + 0.8 * random.standard_normal(images)
            for draw in range(draws):
                right = own + 0.1 * random.standard_normal() + 0.5 * random.standard_normal(images) > 0
                run = Run(dataset="fashion_mnist_12k", backbone=name, size=size, draw=draw, seed=draw)
                planted.append(row(run, top1=float(right.mean()), correct=bits(right), test_images=images))
    return table(planted)


LEAD = float(norm.ppf(0.56)) * math.sqrt(1 + 0.8**2 + 0.1**2 + 0.5**2)


def _promised_and_kept(worlds: int, seed: int) -> tuple[float, float, float]:
    """Return the chance that `power` promises, what it would without test images, and how often `gaps` has p ≤ 5 %."""
    past = power(few_images(60, 8, seed), resolve=0.06)
    sd, se = (math.sqrt(float((past[name] ** 2).mean())) for name in ("sd", "test_se"))
    draws = needed(sd, 0.06, test_se=se)
    shown = gaps(few_images(worlds, draws, seed + 1))["p"] <= 0.05
    return chance_to_show(draws, sd, 0.06, se), chance_to_show(draws, sd, 0.06), float(shown.mean())


def test_power_counts_the_test_images_that_the_answer_counts() -> None:
    promised, blind, kept = _promised_and_kept(150, 0)
    assert promised >= 0.8
    assert kept == pytest.approx(promised, abs=0.1)  # the slow test below asks for 5 points
    assert blind > promised + 0.1


@pytest.mark.slow
def test_power_is_within_5_points_of_what_is_said() -> None:
    promised, _, kept = _promised_and_kept(1500, 2)
    assert kept == pytest.approx(promised, abs=0.05)


def test_more_seeds_help_only_where_seeds_scatter() -> None:
    data = table(rows(lambda run: 0.6, replicates=[(d, s) for d in range(5) for s in range(5)], sizes=[100]))
    result = power(data).set_index("seeds")["draws"]
    assert result[5] < result[1]
    assert (power(data)["draws_high"] >= power(data)["draws"]).all()
    pairs = power(table(rows(lambda run: 0.6)))
    assert set(pairs["seeds"]) == {1}
    assert needed(0.0, 0.01) == 2
    assert needed(10.0, 0.0001) == 10_000

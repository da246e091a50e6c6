"""Draws and seeds: shares against a planted truth and statsmodels' ANOVA, power against statsmodels' own."""

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from statsmodels.stats.anova import anova_lm
from statsmodels.stats.power import TTestPower

from bias_lab.definition import Run
from bias_lab.statistics import power, variance_shares
from bias_lab.statistics.variance import needed
from tests.planted import rows, table

GRID = [(draw, seed) for draw in range(3) for seed in range(3)]


def planted(seed: int, draw_sd: float = 0.02, **kind: object) -> pd.DataFrame:
    random = np.random.default_rng(seed + 7)
    moved: dict[tuple[str, int, int], float] = {}

    def accuracy(run: Run) -> float:
        key = (run.backbone, run.size, run.draw)
        return 0.6 + moved.setdefault(key, draw_sd * random.standard_normal())

    return table(rows(accuracy, seed=seed, replicates=GRID, sizes=(100, 1000)))


def test_shares_are_those_of_statsmodels_anova() -> None:
    made = planted(0)
    one = made[(made["backbone"] == "vit_micro") & (made["size"] == 100)]
    told = anova_lm(smf.ols("top1 ~ C(draw)", one.astype({"top1": float, "draw": int})).fit())["mean_sq"]
    between = max(0.0, (told["C(draw)"] - told["Residual"]) / 3)
    found = variance_shares(one).set_index("component")
    assert found.loc["draw", "sd"] == pytest.approx(math.sqrt(between))
    assert found.loc["seed and rest", "sd"] == pytest.approx(math.sqrt(told["Residual"]))
    assert found.loc["draw", "share"] == pytest.approx(between / (between + told["Residual"]))


def test_the_interval_holds_the_planted_share() -> None:
    held = 0
    for seed in range(20):
        found = variance_shares(planted(seed)).set_index("component").loc["draw"]
        held += found["low"] <= 0.8 <= found["high"]  # 0.02² of 0.02² + 0.01²
    assert held >= 17


@pytest.mark.slow
def test_coverage_is_93_percent_at_least() -> None:
    held = 0
    for seed in range(250):
        found = variance_shares(planted(1000 + seed)).set_index("component").loc["draw"]
        held += found["low"] <= 0.8 <= found["high"]
    assert held / 250 >= 0.93


def test_one_seed_a_draw_can_t_be_told_apart_and_says_so() -> None:
    found = variance_shares(table(rows(lambda run: 0.6)))
    assert found["component"].tolist() == ["draw and seed"]
    assert found["low"].isna().all()
    assert variance_shares(table([])).empty


@pytest.mark.parametrize(("sd", "resolve"), [(0.01, 0.01), (0.02, 0.01), (0.005, 0.02)])
def test_needed_is_statsmodels_power(sd: float, resolve: float) -> None:
    oracle = TTestPower()
    k = needed(sd, resolve)
    assert oracle.power(resolve / sd, k, 0.05) >= 0.8 - 1e-6
    assert k == 2 or oracle.power(resolve / sd, k - 1, 0.05) < 0.8


def test_more_seeds_help_only_where_seeds_scatter() -> None:
    made = table(rows(lambda run: 0.6, replicates=[(d, s) for d in range(5) for s in range(5)], sizes=[100]))
    found = power(made).set_index("seeds")["draws"]
    assert found[5] < found[1]
    assert (power(made)["draws_high"] >= power(made)["draws"]).all()
    pairs = power(table(rows(lambda run: 0.6)))
    assert set(pairs["seeds"]) == {1}
    assert needed(0.0, 0.01) == 2
    assert needed(10.0, 0.0001) == 10_000

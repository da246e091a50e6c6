"""Intervals agree with scipy, statsmodels and brute force, and hold the truth as often as they say."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from bias_lab.statistics import intervals

SOME = np.array([0.11, 0.07, 0.13, 0.09, 0.02])


@pytest.mark.parametrize("k", [2, 3, 5])
def test_mean_is_student_s(k: int) -> None:
    of = intervals.mean(SOME[:k])
    low, high = stats.t.interval(0.95, k - 1, loc=SOME[:k].mean(), scale=stats.sem(SOME[:k]))
    assert (of.value, of.low, of.high) == pytest.approx((SOME[:k].mean(), low, high), abs=1e-12)


def test_one_value_has_no_interval_and_none_has_no_mean() -> None:
    assert math.isnan(intervals.mean(SOME[:1]).low)
    assert intervals.mean(SOME[:1]).value == 0.11
    assert math.isnan(intervals.mean(SOME[:0]).value)


def test_p_value_is_the_paired_t_test_s() -> None:
    assert intervals.p_value(intervals.mean(SOME)) == pytest.approx(stats.ttest_1samp(SOME, 0).pvalue, rel=1e-9)


@pytest.mark.parametrize("test_se", [0.001, 0.01, 0.05])
def test_p_value_is_the_level_at_which_the_interval_touches_zero(test_se: float) -> None:
    of = intervals.mean(SOME)
    p = intervals.p_value(of, test_se)
    assert intervals.both_noises(of, test_se, level=1 - p) == pytest.approx(of.value, rel=1e-6)


def test_replicates_that_agree_exactly_are_not_taken_for_certain() -> None:
    tied = intervals.mean(np.array([0.0005, 0.0005]))
    assert intervals.p_value(tied) == 0
    assert intervals.p_value(tied, resolution=1 / 2000) > 0.1
    assert intervals.p_value(intervals.mean(np.zeros(3))) == 1


@pytest.mark.parametrize("test_se", [math.nan, 0.0, 0.05])
@pytest.mark.parametrize("tied", [[0.05, -0.1, 0.05], [1e-16, 1e-16], [0.1 + 0.2 - 0.3, 0.0, 0.0]])
def test_a_tie_has_a_p_of_1(tied: list[float], test_se: float) -> None:
    assert intervals.p_value(intervals.mean(np.array(tied)), test_se, 1 / 60) == 1
    assert intervals.p_value(intervals.mean(np.array(tied)), test_se) == 1


def test_a_difference_far_below_its_noise_has_a_p_near_1() -> None:
    assert intervals.p_value(intervals.Mean(1e-10, 0, 0, 1e4, 3), 1e4) == pytest.approx(1)


def test_holm_is_statsmodels() -> None:
    p = np.array([0.001, 0.04, 0.03, 0.2, 0.012])
    assert intervals.holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    with_gap = intervals.holm(np.array([0.01, np.nan, 0.02]))
    assert np.isnan(with_gap[1])
    assert with_gap[[0, 2]] == pytest.approx([0.02, 0.02])


@pytest.mark.parametrize("values", [SOME, SOME - 0.08, np.array([0.1, -0.1, 0.1]), np.array([1.0, 1.0, 2.0, -3.0])])
def test_sign_flips_are_scipy_s_exact_permutation_test(values: np.ndarray) -> None:
    p, smallest = intervals.sign_flips(values)
    exact = stats.permutation_test((values,), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert p == pytest.approx(min(1.0, exact.pvalue))
    assert smallest == 2 / 2 ** len(values)
    assert p >= smallest


def test_many_sign_flips_are_drawn_and_count_the_observed_one() -> None:
    p, smallest = intervals.sign_flips(np.full(20, 0.1))
    assert p == smallest == 1 / 20_001


def test_ratio_is_the_inverted_t_test() -> None:
    random = np.random.default_rng(3)
    top, bottom = 0.05 + 0.01 * random.standard_normal(5), 0.1 + 0.02 * random.standard_normal(5)
    result = intervals.ratio(top, bottom)
    for end in (result.low, result.high):
        assert stats.ttest_1samp(top - end * bottom, 0).pvalue == pytest.approx(0.05, rel=1e-6)
    assert result.low < result.value < result.high


def test_ratio_is_unbounded_where_the_denominator_is_not_settled() -> None:
    result = intervals.ratio(np.array([0.1, 0.2, 0.15]), np.array([-0.1, 0.12, 0.05]))
    assert (result.low, result.high) == (-math.inf, math.inf)


def test_zero_set_is_the_t_test_at_every_place() -> None:
    random = np.random.default_rng(5)
    for _ in range(10):
        left, right = random.normal(0.02, 0.02, 4), random.normal(-0.02, 0.02, 4)
        pieces = intervals.zero_set(left, right)
        for w in np.linspace(0, 1, 51):
            p = stats.ttest_1samp(left + w * (right - left), 0).pvalue
            inside = any(low <= w <= high for low, high in pieces)
            assert inside == (p >= 0.05) or abs(p - 0.05) < 2e-3


def _right(random: np.random.Generator, replicates: int, images: int, truth: float) -> np.ndarray:
    """Return (replicates, images) differences of two models: noise of replicates, of images, and of both."""
    gap = truth + 0.02 * random.standard_normal((replicates, 1)) + 0.4 * random.standard_normal((1, images))
    return gap + 0.5 * random.standard_normal((replicates, images))


def test_image_noise_is_what_resampling_the_images_jointly_gives() -> None:
    random = np.random.default_rng(0)
    difference = _right(random, 8, 400, 0.1)
    closed = intervals.image_noise(difference)
    columns = difference.mean(axis=0)
    resampled = [columns[random.integers(0, 400, 400)].mean() for _ in range(3000)]
    rest = difference - columns - difference.mean(axis=1, keepdims=True) + difference.mean()
    interaction = np.sum(rest**2) / (7 * 399) / (8 * 400)  # already in the variance of the replicates' means
    assert closed == pytest.approx(math.sqrt(np.var(resampled) - interaction), rel=0.06)


def test_image_noise_of_identical_images_is_nothing() -> None:
    assert intervals.image_noise(np.tile([[0.1], [0.3]], (1, 50))) == pytest.approx(0, abs=1e-12)
    assert math.isnan(intervals.image_noise(np.ones((1, 50))))


def test_the_covariance_of_two_differences_has_their_noises_on_its_diagonal() -> None:
    random = np.random.default_rng(0)
    one, other = _right(random, 8, 400, 0.1), _right(random, 8, 400, 0.2)
    covariance = intervals.image_covariance(one, one + other)
    assert np.sqrt(np.diag(covariance)) == pytest.approx([intervals.image_noise(d) for d in (one, one + other)])
    assert covariance[0, 1] == pytest.approx(covariance[0, 0], rel=0.3)


def _coverage(rounds: int, seed: int = 1) -> dict[str, float]:
    random = np.random.default_rng(seed)
    hits = {"mean": 0, "both": 0, "ratio": 0, "zero": 0}
    for _ in range(rounds):
        values = random.normal(0.1, 0.03, 3)
        of = intervals.mean(values)
        hits["mean"] += of.low <= 0.1 <= of.high
        images = 0.01 * random.standard_normal()  # the noise of the test set, which all replicates share
        of = intervals.mean(values + images)
        hits["both"] += abs(of.value - 0.1) <= intervals.both_noises(of, 0.01)
        gap, back = random.normal(0.1, 0.02, 5), random.normal(0.05, 0.02, 5)
        share = intervals.ratio(back, gap)
        hits["ratio"] += share.low <= 0.5 <= share.high
        ends = random.normal(0.06, 0.02, 3), random.normal(-0.04, 0.02, 3)  # the truth crosses at w = 0.6
        pieces = intervals.zero_set(*ends)
        hits["zero"] += any(low <= 0.6 <= high for low, high in pieces)
    return {name: count / rounds for name, count in hits.items()}


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    result = _coverage(3000)
    assert 0.93 <= result["mean"] <= 0.97
    assert all(result[name] >= 0.93 for name in ("both", "ratio", "zero"))


@pytest.mark.slow
def test_coverage_to_half_a_point() -> None:
    result = _coverage(40_000, seed=2)
    assert 0.945 <= result["mean"] <= 0.955
    assert 0.945 <= result["ratio"] <= 0.955
    assert 0.945 <= result["zero"] <= 0.955
    assert 0.945 <= result["both"] <= 0.975  # the sum in quadrature is conservative


def test_a_percentile_bootstrap_of_three_would_not_do() -> None:
    """The percentile bootstrap of 3 replicates holds the truth in only about three of four cases."""
    random = np.random.default_rng(0)
    picks = np.array(list(itertools.product(range(3), repeat=3)))
    held = 0
    for _ in range(2000):
        means = random.normal(0, 1, 3)[picks].mean(axis=1)
        low, high = np.quantile(means, [0.025, 0.975])
        held += low <= 0 <= high
    assert held / 2000 < 0.82


@pytest.mark.parametrize(("k", "most"), [(3, 0.978), (4, 0.97), (5, 0.97), (8, 0.963)])
@pytest.mark.parametrize("test_se", [0.0, 0.3, 1.0, 4.0])  # times the standard error from replicates
def test_the_interval_of_both_noises_covers_95_percent_at_least(k: int, most: float, test_se: float) -> None:
    random = np.random.default_rng(k)
    values, extra = random.standard_normal((6000, k)), test_se / math.sqrt(k)
    off = extra * random.standard_normal(6000)
    every = [intervals.mean(one) for one in values]
    held = np.mean([abs(of.value + e) <= intervals.both_noises(of, extra) for of, e in zip(every, off, strict=True)])
    assert 0.943 <= held <= most + 0.004

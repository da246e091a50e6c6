"""Test that draws stay the same bits, are uniform, and do not depend on their order."""

import numpy as np
from scipy import stats

from bias_lab.data import draws


def test_golden_bits() -> None:
    """Another value here would mean that every finished run sees other batches."""
    golden = ["93e1b4f21b3499a1", "ce73ae9ac0ba7cea", "967503a86c9165fc"]
    assert [f"{b:016x}" for b in draws.bits(0, "flip", 3, np.arange(3))] == golden
    assert draws.permutation(8, 1, "order", 0).tolist() == [3, 4, 1, 6, 2, 0, 5, 7]


def test_seed_zero_step_zero_and_sample_zero_are_values_like_others() -> None:
    first = draws.bits(0, "x", 0, np.arange(4))
    assert len(set(first.tolist())) == 4
    assert not np.intersect1d(first, draws.bits(1, "x", 0, np.arange(4))).size
    assert not np.intersect1d(first, draws.bits(0, "y", 0, np.arange(4))).size
    assert not np.intersect1d(first, draws.bits(0, "x", 1, np.arange(4))).size


def test_counters_do_not_commute() -> None:
    assert draws.bits(0, "x", 1, 2)[0] != draws.bits(0, "x", 2, 1)[0]


def test_a_value_does_not_depend_on_its_neighbours() -> None:
    many = draws.uniform(3, "x", 5, np.arange(100))
    assert draws.uniform(3, "x", 5, 42)[0] == many[42]


def test_uniform_in_each_direction_of_the_counters() -> None:
    for values in (draws.uniform(0, "x", 0, np.arange(20_000)), draws.uniform(0, "x", np.arange(20_000), 0)):
        assert values.min() >= 0
        assert values.max() < 1
        assert stats.kstest(values, "uniform").pvalue > 0.001
        assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.03


def test_permutations_are_uniform() -> None:
    seen = np.zeros((6, 6))
    for epoch in range(3000):
        seen[np.arange(6), draws.permutation(6, 0, "order", epoch)] += 1
    assert stats.chisquare(seen.ravel()).pvalue > 0.001

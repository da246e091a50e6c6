"""Effects agree with statsmodels' type II ANOVA, and intervals hold a planted share."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from statsmodels.stats.anova import anova_lm

from bias_lab.definition import Run
from bias_lab.errors import UserError
from bias_lab.statistics import effects
from bias_lab.statistics.factors import variance_share
from tests.planted import row, rows, table

FAMILY = {"vit_micro": 0.0, "swin_micro": 0.02, "resnet_micro": 0.1, "efficientnet_micro": 0.08}


def accuracy(run: Run) -> float:
    return 0.5 + FAMILY[run.backbone] + (0.12 if run.recipe == "strong" else 0) + (0.1 if run.size == 1000 else 0)


def study(seed: int = 0) -> pd.DataFrame:
    pairs = [(draw, s) for draw in range(3) for s in range(2)]
    kind = dict(backbones=FAMILY, sizes=(100, 1000), replicates=pairs)
    both = rows(accuracy, seed=seed, **kind) + rows(accuracy, seed=seed + 500, recipe="strong", **kind)
    return table(both[:-7])  # unbalanced


def test_each_factor_s_test_is_statsmodels_type_ii() -> None:
    data = study()
    plain = data[["top1", "size", "recipe", "backbone", "draw", "seed"]].astype(
        dict.fromkeys(("size", "draw", "seed"), "int")
    )
    fitted = smf.ols("top1 ~ C(size) + C(recipe) + C(backbone) + C(draw) + C(seed)", plain).fit()
    oracle = anova_lm(fitted, typ=2)
    result = effects(data).set_index("factor")
    for name, term in (("recipe", "C(recipe)"), ("draw", "C(draw)"), ("seed", "C(seed)")):
        assert result.loc[name, "p"] == pytest.approx(oracle.loc[term, "PR(>F)"], rel=1e-6)
        assert result.loc[name, "df"] == oracle.loc[term, "df"]
    assert result.loc["recipe", "range"] == pytest.approx(fitted.params["C(recipe)[T.strong]"], abs=1e-9)
    assert result.loc["recipe", ["best", "worst"]].tolist() == ["strong", "plain"]


def test_what_was_planted_largest_comes_first_and_what_was_not_is_near_zero() -> None:
    result = effects(study())
    assert set(result["factor"][:2]) == {"recipe", "family"}
    by_name = result.set_index("factor")
    assert by_name.loc["draw", "low"] == 0
    assert by_name.loc["backbone", "df"] == 2  # two backbones in each of two families
    assert by_name.loc["backbone", "range"] == pytest.approx(0.02, abs=0.012)
    assert "regime" not in by_name.index


def test_draw_and_seed_are_one_where_they_vary_together() -> None:
    result = effects(table(rows(lambda run: 0.5)))
    assert "draw and seed" in set(result["factor"])
    assert not {"draw", "seed"} & set(result["factor"])


@pytest.mark.parametrize("order", range(4))  # of the rows, because rounding depends on it
@pytest.mark.parametrize("step", [0.0, 0.22, 1 / 3])
def test_a_fit_without_a_rest_is_told_and_no_crash(order: int, step: float) -> None:
    kind = dict(backbones=("vit_micro", "resnet_micro"), sizes=(100,), replicates=[(0, 0), (1, 0)])
    data = table(rows(lambda run: 0.44, seed=0, **kind))
    data["top1"] = 0.44 + step * (data["backbone"] == "resnet_micro") + 0.06 * data["draw"].astype(int)
    result = effects(data.sample(frac=1, random_state=order)).set_index("factor")
    between = result.loc["family" if "family" in result.index else "backbone"]
    assert between["range"] == pytest.approx(step, abs=1e-9)
    assert between["share"] == (1 if step else 0)


MANY = {"vit_micro": 0, "swin_micro": 1, "resnet_micro": 2, "efficientnet_micro": 3, "mobilenetv3_micro": 4}


def by_backbone(seed: int, lost: int = 0, scatter: float = 0.03) -> pd.DataFrame:
    """Return a table in which backbones differ at random and families do not differ."""
    moved = scatter * np.random.default_rng(seed).standard_normal(len(MANY))
    kind = dict(backbones=MANY, sizes=(100, 1000), replicates=[(k, k) for k in range(3)], seed=seed)
    planted = rows(lambda run: 0.6 + moved[MANY[run.backbone]], **kind)
    return table(planted[lost:])


def test_a_family_is_tested_against_its_backbones_in_a_balanced_table() -> None:
    """The F test of backbone means is the oracle: scipy's, of 2 against 3 means."""
    from scipy import stats

    data = by_backbone(3)
    means = data.astype({"top1": float}).groupby(["family", "backbone"])["top1"].mean()
    oracle = stats.f_oneway(*(part.to_numpy() for _, part in means.groupby("family")))
    result = effects(data).set_index("factor").loc["family"]
    assert result["p"] == pytest.approx(oracle.pvalue, rel=1e-6)
    share = variance_share(oracle.statistic, 1, 3, 5)
    assert result[["share", "low", "high"]].tolist() == pytest.approx(share, abs=1e-9)


def test_a_backbone_with_many_runs_counts_as_one() -> None:
    """The family's test of a table with twice the runs of one backbone is that of the table without them."""
    exact = {"vit_micro": 0.0, "swin_micro": 0.1, "resnet_micro": 0.2, "efficientnet_micro": 0.24}
    kind = dict(sizes=(100,), noise=0.0)
    once = rows(lambda run: 0.5 + exact[run.backbone], backbones=exact, replicates=[(k, k) for k in range(4)], **kind)
    noise = 1e-4 * np.random.default_rng(0).standard_normal(len(once))
    once = [one | {"top1": one["top1"] + e} for one, e in zip(once, noise, strict=True)]
    half = [one for one in once if one["backbone"] == "vit_micro" or one["draw"] < 2]
    both = [effects(table(planted)).set_index("factor").loc["family"] for planted in (once, half)]
    assert both[0]["p"] == pytest.approx(both[1]["p"], rel=0.02)
    assert both[0]["range"] == pytest.approx(0.17, abs=1e-3)


def _false_families(rounds: int, start: int, lost: int) -> float:
    tables = (effects(by_backbone(start + k, lost)).set_index("factor") for k in range(rounds))
    return float(np.mean([result.loc["family", "p"] <= 0.05 for result in tables]))


@pytest.mark.parametrize("lost", [0, 4])  # runs of one backbone: the table is balanced, or it is not
def test_a_family_that_makes_no_difference_is_seldom_shown(lost: int) -> None:
    assert _false_families(60, 0, lost) <= 0.12  # the slow test below asks for 7 %


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 4])
def test_a_false_family_effect_in_7_percent_of_null_tables_at_most(lost: int) -> None:
    assert _false_families(1000, 1000, lost) <= 0.07


def test_one_backbone_in_each_family_says_nothing_of_families() -> None:
    result = effects(table(rows(lambda run: 0.5 + 0.1 * (run.backbone == "vit_micro"), backbones=list(MANY)[::2][:2])))
    assert "family" not in set(result["factor"])
    assert result.set_index("factor").loc["backbone", "p"] < 0.05


def test_small_and_mixed_tables() -> None:
    assert effects(table([])).empty
    assert effects(table(rows(lambda run: 0.5, replicates=[(0, 0)], sizes=[100]))).empty
    mixed = study()
    mixed.loc[0, "dataset"] = "cifar10"
    with pytest.raises(UserError, match="2 values of dataset"):
        effects(mixed)


def test_the_share_s_interval_inverts_the_noncentral_f() -> None:
    from scipy import stats

    f, df, rest, n = 8.0, 2, 30, 36
    share, low, high = variance_share(f, df, rest, n)
    for end, tail in ((low, 0.975), (high, 0.025)):
        assert stats.ncf.cdf(f, df, rest, end * n / (1 - end)) == pytest.approx(tail, abs=1e-6)
    assert low < share < high
    assert variance_share(0.2, 2, 30, 36)[1] == 0


@pytest.mark.parametrize("df", [1, 2, 7, 40])
@pytest.mark.parametrize("rest", [1, 3, 30, 5000])
def test_every_f_has_a_share_within_its_interval(df: int, rest: int) -> None:
    for f in np.logspace(-12, 12, 97):
        share, low, high = variance_share(float(f), df, rest, 40)
        assert 0 <= share <= 1
        assert math.isnan(low) or 0 <= low <= high <= 1


def test_a_factor_without_any_effect_is_told_and_no_crash() -> None:
    """Rounding leaves a sum of squares below zero in some of these tables."""
    for seed in range(100):
        random = np.random.default_rng(seed)
        planted = []
        for backbone in ("vit_micro", "resnet_micro", "efficientnet_micro"):
            for size in (20, 40, 80):
                top1 = random.integers(60, 100) / 100
                run = Run(dataset="fashion_mnist_12k", backbone=backbone, size=size)
                planted += [row(replace(run, draw=draw, seed=draw), top1=top1) for draw in range(2)]
        found = effects(table(planted)).set_index("factor")
        assert found.loc["draw and seed", "p"] == pytest.approx(1.0, abs=1e-4)
        assert found.loc["draw and seed", "share"] == 0


def _held(rounds: int, start: int) -> float:
    """Return the coverage for effects -1, 0 and 1, noise 1 and 8 rows a level: the share is 16 / (16 + 24)."""
    random = np.random.default_rng(start)
    held = 0
    for _ in range(rounds):
        groups = np.array([[-1.0], [0.0], [1.0]]) + random.standard_normal((3, 8))
        between = 8 * np.var(groups.mean(axis=1), ddof=1)
        within = np.mean(np.var(groups, axis=1, ddof=1))
        _, low, high = variance_share(between / within, 2, 21, 24)
        held += low <= 16 / 40 <= high
    return held / rounds


def test_coverage() -> None:
    assert 0.93 <= _held(1500, 0) <= 0.97


@pytest.mark.slow
def test_coverage_to_half_a_point() -> None:
    assert 0.94 <= _held(20_000, 1) <= 0.96

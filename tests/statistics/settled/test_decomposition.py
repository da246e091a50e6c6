"""A planted training gap and a planted generalisation gap come out as what they are."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.optimize import brentq

from bias_lab.definition import Run
from bias_lab.errors import UserError
from bias_lab.statistics import decomposition, gaps
from tests.planted import CNNS, bits, row, rows, table


def fitted(vit: tuple[float, float], cnn: tuple[float, float], *, noise: float = 0.0, n: int = 4) -> list[Any]:
    """Return rows of the ViT and the CNNs. vit, cnn: training and test accuracy. noise: sd, of both by themselves."""
    random = np.random.default_rng(5)
    planted = rows(
        lambda run: (vit if run.backbone == "vit_micro" else cnn)[1], sizes=(100, 1000), noise=noise, seed=3,
        replicates=[(k, k) for k in range(n)],
    )  # fmt: skip
    for one in planted:
        level = (vit if one["backbone"] == "vit_micro" else cnn)[0]
        one["train_top1"] = float(np.clip(level + noise * random.standard_normal(), 0, 1))
    return planted


def test_a_pure_training_gap() -> None:
    """Training accuracies of 60 and 99 %, and equal train-test gaps."""
    result = decomposition(table(fitted((0.60, 0.50), (0.99, 0.89))))
    assert result["size"].tolist() == [100, 1000]
    assert result[["shortfall", "training", "share"]].to_numpy() == pytest.approx(np.array([[0.39, 0.39, 1]] * 2))
    assert result["generalisation"].to_numpy() == pytest.approx(0, abs=1e-12)
    means = result.loc[0, ["of_train", "against_train", "of_test", "against_test"]].tolist()
    assert means == pytest.approx([0.60, 0.99, 0.50, 0.89])


def test_a_pure_generalisation_gap_and_a_share_beyond_the_whole() -> None:
    result = decomposition(table(fitted((0.99, 0.60), (0.99, 0.70)))).iloc[0]
    assert (result["training"], result["generalisation"], result["share"]) == pytest.approx((0, 0.1, 0))
    over = decomposition(table(fitted((0.60, 0.55), (0.99, 0.80)))).iloc[0]
    assert (over["generalisation"], over["share"]) == pytest.approx((-0.14, 0.39 / 0.25))


def test_the_parts_add_up_and_have_paired_t_intervals() -> None:
    planted = table(fitted((0.60, 0.50), (0.99, 0.80), noise=0.02))
    result = decomposition(planted)
    assert (result["training"] + result["generalisation"]).to_numpy() == pytest.approx(result["shortfall"].to_numpy())
    whole = gaps(planted)
    for name in ("shortfall", "low", "high", "n", "units"):
        assert result[name].to_numpy() == pytest.approx(whole[name].to_numpy())
    at = planted[planted["size"] == 100]
    cnn, vit = at[at["backbone"].isin(CNNS)].groupby("draw"), at[at["backbone"] == "vit_micro"].set_index("draw")
    fit = cnn["train_top1"].mean() - vit["train_top1"]
    total = cnn["top1"].mean() - vit["top1"]
    here = result.iloc[0]
    for name, values in (("training", fit), ("generalisation", total - fit)):
        low, high = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
        assert (here[f"{name}_low"], here[f"{name}_high"]) == pytest.approx((low, high))

    def excess(share: float) -> float:
        return float(stats.ttest_1samp(fit - share * total, 0).pvalue - 0.05)

    ends = brentq(excess, here["share"] - 5, here["share"]), brentq(excess, here["share"], here["share"] + 5)
    assert (here["share_low"], here["share_high"]) == pytest.approx(ends, abs=1e-6)


def test_a_share_of_nothing_is_not_determined() -> None:
    planted = decomposition(table(fitted((0.70, 0.60), (0.99, 0.60), noise=0.01)))
    assert planted[["share", "share_low", "share_high"]].isna().all(axis=None)
    assert planted["training_low"].gt(0.2).all()
    one = decomposition(table(fitted((0.60, 0.50), (0.99, 0.80), n=1))).iloc[0]
    assert math.isnan(one["share"])
    assert math.isnan(one["training_low"])
    assert one["training"] == pytest.approx(0.39)


def test_replicates_without_a_training_accuracy_are_left_out_of_all_parts() -> None:
    planted = fitted((0.60, 0.50), (0.99, 0.80))
    for one in planted:
        if one["draw"] == 3 and one["backbone"] == "vit_micro":
            one |= {"train_top1": None, "top1": 0.0}
    result = decomposition(table(planted))
    assert result["n"].tolist() == [3, 3]
    assert result["shortfall"].to_numpy() == pytest.approx(0.3)
    assert decomposition(table([])).empty
    with pytest.raises(UserError, match="no column 'train_top1'"):
        decomposition(table(planted).drop(columns="train_top1"))


# --- coverage ---------------------------------------------------------------------------------------------------------

LEVELS = {"vit_micro": (0.0, 1.2), "resnet_micro": (0.9, 2.4)}  # latent scores of test and training images
IMAGE, OWN, RUN, EACH = 0.8, 0.5, 0.12, 0.5  # sds: of an image for all models, for one, of a run, of a run on an image


def worlds(count: int, *, seed: int, images: int = 300, k: int = 4) -> pd.DataFrame:
    """Return a table in which each size is a world: test images that all runs share, and draws that a pair shares."""
    random = np.random.default_rng(seed)
    planted = []
    for size in range(1, count + 1):
        image = IMAGE * random.standard_normal(images)
        draws = 0.1 * random.standard_normal(k)
        for name, (level, fit) in LEVELS.items():
            score = level + image + OWN * random.standard_normal(images)
            for draw in range(k):
                moved = draws[draw] + RUN * random.standard_normal()
                right = score + moved + EACH * random.standard_normal(images) > 0
                train = float(stats.norm.cdf(fit + moved))
                run = Run(dataset="fashion_mnist_12k", backbone=name, size=size, draw=draw, seed=draw)
                known = dict(top1=float(right.mean()), train_top1=train, correct=bits(right), test_images=images)
                planted.append(row(run, **known))
    return table(planted)


def truth() -> tuple[float, float]:
    """Return the true shortfall and the true training part: means over draws, runs and images."""
    scatter = math.hypot(0.1, RUN)
    total = math.sqrt(IMAGE**2 + OWN**2 + EACH**2 + scatter**2)
    test = {name: stats.norm.cdf(level / total) for name, (level, _) in LEVELS.items()}
    fit = {name: stats.norm.cdf(level / math.hypot(1, scatter)) for name, (_, level) in LEVELS.items()}
    return test["resnet_micro"] - test["vit_micro"], fit["resnet_micro"] - fit["vit_micro"]


def covered(count: int, seed: int) -> dict[str, float]:
    """Return the coverage of each interval."""
    total, training = truth()
    result = decomposition(worlds(count, seed=seed))
    ends = {
        "shortfall": ("low_any", "high_any", total),
        "training": ("training_low", "training_high", training),
        "generalisation": ("generalisation_low_any", "generalisation_high_any", total - training),
        "share": ("share_low", "share_high", training / total),
    }
    known = result[result["share"].notna()]
    return {
        name: float(((known if name == "share" else result)[[low, high]] - value).prod(axis=1).le(0).mean())
        for name, (low, high, value) in ends.items()
    }


def test_intervals_of_the_parts_hold_the_truth() -> None:
    assert min(covered(60, 0).values()) >= 0.86  # the slow test below asks for 93 to 97 %


@pytest.mark.slow
def test_coverage_of_the_parts_is_93_to_97_percent() -> None:
    for name, share in covered(1500, 1).items():
        assert 0.93 <= share <= 0.97, (name, share)

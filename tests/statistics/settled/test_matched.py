"""At equal training accuracy, planted paths give the difference that was planted, and nothing is extrapolated."""

import math
from typing import Any

import numpy as np
import pytest

from bias_lab.definition import Run
from bias_lab.statistics import matched_fit
from tests.planted import bits, row, table

Points = dict[int, tuple[float, float]]  # images seen → training and test accuracy


def study(paths: dict[str, Points], *, draws: int = 3, moved: float = 0.0) -> list[dict[str, Any]]:
    """Return rows along budgets. moved: by how much every test accuracy grows from draw to draw."""
    planted = []
    for name, points in paths.items():
        for draw in range(draws):
            for images, (train, test) in points.items():
                run = Run(
                    dataset="fashion_mnist_12k", backbone=name, size=100, draw=draw, seed=draw, samples_seen=images
                )
                planted.append(row(run, train_top1=train, top1=test + moved * draw))
    return planted


VIT: Points = {16_000: (0.5, 0.40), 32_000: (0.7, 0.50), 64_000: (0.9, 0.60)}
CNN: Points = {16_000: (0.6, 0.55), 32_000: (1.0, 0.75)}


def test_a_gap_at_equal_fit_is_read_between_the_runs_around_it() -> None:
    result = matched_fit(table(study({"vit_micro": VIT, "resnet_micro": CNN}, moved=0.01)))
    assert result["fit"].to_numpy() == pytest.approx([0.6, 0.75, 0.9])
    assert result["of"].to_numpy() == pytest.approx([0.46, 0.535, 0.61])  # 0.01 more on average over draws
    assert result["against"].to_numpy() == pytest.approx([0.56, 0.635, 0.71])
    assert result["shortfall"].to_numpy() == pytest.approx(0.1)
    assert set(result["n"]) == {3}
    middle = 32_000 * 2**0.25  # a quarter of the way, in log images
    assert result["images_of"].iloc[1] == pytest.approx(middle)
    assert result["images_against"].iloc[0] == pytest.approx(16_000)


def test_a_pure_training_gap_vanishes_at_equal_fit() -> None:
    """The ViT is 0.2 behind after 16,000 and 64,000 images, because it fits its training images later."""
    line = {images: (train, 0.2 + 0.6 * train) for images, train in ((16_000, 0.4), (64_000, 0.7))}
    ahead = {images: (train, 0.2 + 0.6 * train) for images, train in ((16_000, 0.65), (64_000, 1.0))}
    result = matched_fit(table(study({"vit_micro": line, "resnet_micro": ahead})))
    assert result["shortfall"].to_numpy() == pytest.approx(0, abs=1e-12)
    assert result["fit"].between(0.65, 0.7).all()


def test_one_budget_or_ranges_apart_give_no_row() -> None:
    once = {16_000: (0.6, 0.55)}
    assert matched_fit(table(study({"vit_micro": VIT, "resnet_micro": once}))).empty
    apart = {16_000: (0.95, 0.7), 32_000: (1.0, 0.8)}
    assert matched_fit(table(study({"vit_micro": VIT, "resnet_micro": apart}))).empty
    assert matched_fit(table([])).empty


def test_a_fit_is_that_of_the_first_budget_which_reaches_it() -> None:
    """Training on does not change what the ViT had when it first fitted its images: later it has over-fitted."""
    over = {16_000: (0.6, 0.50), 32_000: (1.0, 0.60), 64_000: (0.9, 0.55), 128_000: (1.0, 0.40)}
    result = matched_fit(table(study({"vit_micro": over, "resnet_micro": CNN})), levels=2).set_index("fit")
    assert result["of"].to_dict() == pytest.approx({0.6: 0.50, 1.0: 0.60})


def test_a_group_is_the_mean_of_its_paths() -> None:
    other = {16_000: (0.6, 0.45), 32_000: (1.0, 0.65)}
    paths = {"vit_micro": VIT, "resnet_micro": CNN, "efficientnet_micro": other}
    result = matched_fit(table(study(paths)))
    assert result["shortfall"].to_numpy() == pytest.approx(0.05)
    lost = [one for one in study(paths) if (one["backbone"], one["draw"]) != ("efficientnet_micro", 2)]
    assert set(matched_fit(table(lost))["n"]) == {2}


def test_recipes_are_not_mixed_and_test_images_count() -> None:
    planted = study({"vit_micro": VIT, "resnet_micro": CNN})
    mixed = [one | {"recipe": "strong"} if one["backbone"] == "vit_micro" else one for one in planted]
    assert matched_fit(table(mixed)).empty
    random = np.random.default_rng(0)
    hard = random.standard_normal(400)
    for one in planted:
        right = hard + 0.5 * random.standard_normal(400) < np.quantile(hard, one["top1"])
        one |= {"top1": float(right.mean()), "correct": bits(right), "test_images": 400}
    result = matched_fit(table(planted))
    assert result["low_any"].notna().all()
    assert (result["low_any"] <= result["low"]).all()
    end, alone = result.iloc[-1], table([r for r in planted if r["samples_seen"] == 64_000])
    assert not alone.empty
    assert end["of"] == pytest.approx(float(alone["top1"].mean()))
    one = matched_fit(table([r for r in planted if r["draw"] == 0]))
    assert math.isnan(one["low"].iloc[0])

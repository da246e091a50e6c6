"""The budget axis keeps every number of images seen, and the ladders of the tuning table become rows."""

import math
from typing import Any

import pytest

from bias_lab import tuning
from bias_lab.definition import recipe
from bias_lab.errors import UserError
from bias_lab.statistics import budget_gaps, by_budget, rungs
from tests.planted import rows, table

PAIR = ("vit_micro", "resnet_micro")
THREE = [(k, k) for k in range(3)]


def at(images: int, vit: float, cnn: float, comparison: str = "equal", **fields: Any) -> list[dict[str, Any]]:
    """Return rows of the pair at one number of images seen, with accuracies of 0.1 more on their training images."""
    evidence = {"settled": True} if comparison == "settled" else {}
    planted = rows(
        lambda run: vit if run.backbone == "vit_micro" else cnn, backbones=PAIR, sizes=(100,), replicates=THREE,
        noise=0.0, samples_seen=images, **fields,
    )  # fmt: skip
    return [one | {"comparison": comparison, "train_top1": one["top1"] + 0.1, **evidence} for one in planted]


def study() -> list[dict[str, Any]]:
    """Return both comparisons, three times the images, and a recipe that the settled ViT alone prefers."""
    strong = [one for one in at(64_000, 0.7, 0.9, "settled", **recipe("strong")) if one["backbone"] == "vit_micro"]
    return [*at(16_000, 0.5, 0.7), *at(48_000, 0.55, 0.8), *at(32_000, 0.6, 0.75, "settled"), *strong]


def test_every_cell_stands_at_the_images_that_it_saw() -> None:
    result = by_budget(table([*study(), *rows(lambda run: 0.1, sizes=(100,), backbones=PAIR, priors="")[:0]]))
    vit = result[result["backbone"] == "vit_micro"].set_index(["recipe", "images_seen"])
    assert vit["mean"].to_dict() == pytest.approx(
        {("plain", 16_000): 0.5, ("plain", 32_000): 0.6, ("plain", 48_000): 0.55, ("strong", 64_000): 0.7}
    )
    assert (vit["train"] - vit["mean"]).to_numpy() == pytest.approx(0.1)
    assert set(result["n"]) == {3}
    assert vit["settled"].to_dict()["strong", 64_000]
    assert not vit["settled"].to_dict()["plain", 16_000]
    assert set(by_budget(table(study()), comparison="equal")["images_seen"]) == {16_000, 48_000}
    assert set(by_budget(table(study()), where={"recipe": "strong"})["images_seen"]) == {64_000}


def test_a_number_of_images_that_both_have_seen_has_a_shortfall() -> None:
    result = budget_gaps(table(study())).set_index(["recipe", "images_seen"])
    assert result["shortfall"].to_dict() == pytest.approx(
        {("plain", 16_000): 0.2, ("plain", 32_000): 0.15, ("plain", 48_000): 0.25}
    )
    assert set(result["n"]) == {3}


def test_other_axes_stay_at_their_reference_and_a_run_counts_once() -> None:
    noisy = at(16_000, 0.1, 0.1, label_noise=0.4)
    again = [one | {"learning_rate": 0.01, "run_id": f"x{k}"} for k, one in enumerate(at(16_000, 0.6, 0.6, "settled"))]
    result = by_budget(table([*noisy, *study(), *again])).set_index(["backbone", "recipe", "images_seen"])
    assert result.loc[("vit_micro", "plain", 16_000), ["mean", "n"]].tolist() == pytest.approx([0.6, 3])
    probe = rows(lambda run: 0.9, backbones=PAIR, sizes=(100,), protocol="linear_probe")
    assert by_budget(table([*study(), *probe])).equals(by_budget(table(study())))


def test_nothing_and_wrong_names() -> None:
    assert by_budget(table([])).empty
    assert budget_gaps(table([])).empty
    with pytest.raises(UserError, match="comparison"):
        by_budget(table(study()), comparison="equall")


def test_ladders_become_rows() -> None:
    cell = dict(dataset="mnist", backbone="vit_micro", recipe="strong", regime="scratch", size=100, optimizer="muon")
    trials = [
        dict(learning_rate=0.01, samples_seen=16_000, top1=0.4, n=1),
        dict(learning_rate=0.001, samples_seen=32_000, top1=0.54, n=3),
        dict(learning_rate=0.001, samples_seen=16_000, top1=0.5, n=3),
    ]
    row = dict(cell, learning_rate=0.001, samples_seen=32_000, settled=False, holdout_top1=0.54, trials=trials)
    result = rungs([row, dict(cell, learning_rate=0.01, trials=[dict(learning_rate=0.01, top1=0.4)])])
    assert result["samples_seen"].tolist() == [16_000, 32_000], "trials of other rates are no rungs, nor are old rows"
    assert math.isnan(result["gain"].iloc[0])
    assert result["gain"].iloc[1] == pytest.approx(0.04)
    assert result["is_chosen"].tolist() == [False, True]
    assert not result["settled"].any()
    assert set(tuning.KEY) <= set(result)
    assert (result["optimizer"] == "muon").all()
    assert rungs([]).empty

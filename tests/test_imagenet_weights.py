"""Test what the page on ImageNet's weights says by hand, from its tables and their trials."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from statsmodels.stats.multitest import multipletests

from bias_lab import results, statistics, tuning
from bias_lab.report import findings
from bias_lab.statistics import images, intervals

ROOT = Path(__file__).parents[1]
TUNED = ("flowers8_tuned", "cifar10", "pets3")
NAMES = (*TUNED, "flowers8")
VIT, CNN = "deit_tiny_patch16_224", "tf_efficientnet_lite0"
HOLDOUT = {"flowers8_tuned": 72, "cifar10": 1000, "pets3": 36}  # images that a trial is judged on


def test_what_the_page_says_of_patches_holds() -> None:
    page = " ".join((ROOT / "docs" / "studies" / "imagenet_weights.md").read_text("utf-8").split())
    said = page.partition("## Which patch?")[2].partition("## Run it")[0]
    read = results.open_results(ROOT / "docs" / "results" / "weights_patches")
    rows = read.table[read.table["task"] == "classify"]
    accuracy = {patch: 100 * rows[rows["patch"] == patch].set_index("draw")["top1"].astype(float) for patch in (8, 16)}
    assert {tuple(sorted(part.index)) for part in accuracy.values()} == {(0, 1, 2)}
    mean, low, high, _ = both_noises(more_right(rows[rows["patch"] == 8], rows[rows["patch"] == 16]))
    means = f"{accuracy[8].mean():.1f} % of the test photographs right with patches of 8 pixels and "
    assert f"{means}{accuracy[16].mean():.1f} % with 16" in said
    assert f"{mean:.1f} points more (CI {low:.1f} to {high:.1f})".replace("-", "−") in said
    assert (low > 0) == ("not shown" not in said)
    tuned = {int(row["patch"]): row for row in read.tuned["rows"]}
    best = {patch: max(trial["top1"] for trial in row["trials"]) for patch, row in tuned.items()}
    assert f"the best trials had {100 * best[8]:.0f} and {100 * best[16]:.0f} %" in said
    assert {len(row["trials"]) for row in tuned.values()} == {6}
    assert sum(trial["top1"] == 1 for trial in tuned[8]["trials"]) == 3, "three rates had 100 %"
    assert tuning.at_grid_edge(tuned[8]) == "smallest"
    minutes = {patch: float(rows[rows["patch"] == patch]["seconds"].mean()) / 60 for patch in (8, 16)}
    assert f"about {minutes[8]:.0f} minutes in place of {minutes[16]:.0f}" in said


def more_right(ours: pd.DataFrame, theirs: pd.DataFrame) -> NDArray[np.float64]:
    """Return what each test image adds to the accuracy of `ours` minus that of `theirs`, (draws, images)."""
    (one,), (other,) = (images.by_size(rows).values() for rows in (ours, theirs))
    pairs = {name: one[name] for name in ("draw", "seed")}
    difference, _ = images.difference(images.used(other, pairs), images.used(one, pairs), pairs)
    assert difference is not None
    return difference


def both_noises(difference: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Return mean, low, high in points, and p, of differences (draws, images), with the sampling of test images."""
    of, noise = intervals.mean(difference.mean(axis=1)), intervals.image_noise(difference)
    half = intervals.both_noises(of, noise)
    ends = (100 * (of.value - half), 100 * (of.value + half))
    return 100 * of.value, *ends, intervals.p_value(of, noise, 1 / difference.shape[1])


def more_to_the_vit(table: pd.DataFrame) -> tuple[float, float, float, float]:
    """Return how many points more the weights add to the DeiT than to the EfficientNet, as `both_noises` does."""
    rows = table[table["task"] == "classify"]
    cell = dict(iter(rows.groupby(["backbone", "regime"])))
    gain = {model: more_right(cell[model, "weights"], cell[model, "scratch"]) for model in (VIT, CNN)}
    return both_noises(gain[VIT] - gain[CNN])


def lead_in_images(row: Mapping[str, Any], of: int) -> int:
    """Return by how many images of the hold-out, which has `of`, the best rate of a tuned row is ahead of the next."""
    right = sorted((of * trial["top1"] for trial in row["trials"]), reverse=True)
    assert right == pytest.approx([round(number) for number in right], abs=1e-3), "the hold-out has as many images"
    return round(right[0] - right[1])


def test_what_the_page_makes_of_the_weights_holds() -> None:
    page = " ".join((ROOT / "docs" / "studies" / "imagenet_weights.md").read_text("utf-8").split())
    said = page.partition("## What to make of it")[2].partition("## Which patch?")[0]
    tables = {name: results.open_results(ROOT / "docs" / "results" / f"weights_{name}").table for name in NAMES}
    gains = {name: statistics.gains(findings.split(table)[0][1]) for name, table in tables.items()}
    shown = {
        (name, str(row["backbone"]))
        for name in TUNED
        for row in gains[name].to_dict("records")
        if row["low_any"] > 0 and row["p_holm"] <= 0.05
    }
    assert shown == {(name, model) for name in TUNED for model in (VIT, CNN)} - {("pets3", CNN)}
    beside = {name: more_to_the_vit(tables[name]) for name in TUNED}
    corrected = multipletests([beside[name][-1] for name in TUNED], method="holm")[1]
    assert f"after Holm's correction over the three it is not shown (p = {min(corrected):.2f})" in said
    assert min(corrected) == corrected[TUNED.index("cifar10")] > 0.05
    six = [(name, row["backbone"], row["p"]) for name in TUNED for row in gains[name].to_dict("records")]
    left = multipletests([p for _, _, p in six], method="holm")[0]
    assert {one[:2] for one, is_left in zip(six, left, strict=True) if is_left} == {
        ("cifar10", VIT), ("cifar10", CNN), ("flowers8_tuned", VIT)
    }  # fmt: skip
    for name in TUNED:
        more, low, high, _ = beside[name]
        assert (low > 0) == (name == "cifar10")
        told = {
            "cifar10": "add {:.1f} points more to the DeiT than to the EfficientNet (CI {:.1f} to {:.1f})",
            "flowers8_tuned": "{:.1f} points on flowers (CI {:.1f} to {:.1f})",
            "pets3": "{:.1f} on pets (CI {:.1f} to {:.1f})",
        }[name]
        assert told.format(more, low, high).replace("-", "−") in said
        scratch = statistics.gaps(findings.split(tables[name])[0][1])
        assert (scratch["low_any"] > 0).all() == (name == "cifar10")
        alike = statistics.likewise(findings.split(tables[name])[0][1])
        assert (alike["low_any"] < 0).all()
        assert (alike["high_any"] > 0).all()
    assert "to the DeiT, and no gain of the EfficientNet (95 % CI −7.1 to 47.1 points) is shown." in page
    assert (gains["flowers8"]["p_holm"] > 0.05).sum() == 3
    assert len(gains["flowers8"]) == 4
    assert "Three of the four gains of that table are not shown" in said
    known = 100 * tables["cifar10"].query("task == 'classify'").groupby(["regime", "backbone"])["train_top1"].mean()
    low, high = sorted(known["scratch"])
    assert f"know only {low:.0f} and {high:.0f} % of their training images by then" in said
    assert {f"{value:.0f}" for value in known["weights"]} == {"88"}
    assert "and from the weights 88 %" in said
    all_flowers = tables["flowers8"].query("task == 'classify' and regime == 'scratch' and size == 360")
    of_flowers = 100 * all_flowers.groupby("backbone")["train_top1"].mean()
    assert f"the DeiT knows {of_flowers[VIT]:.0f} % of them and the EfficientNet {of_flowers[CNN]:.0f} %" in said
    work = {model: {int(one) for one in tables["cifar10"].query("backbone == @model")["flops"]} for model in (VIT, CNN)}
    ((vit,), (cnn,)) = (work[model] for model in (VIT, CNN))
    assert f"{vit / 1e6:.0f} million multiplications for an image, and the EfficientNet {cnn / 1e6:.0f}." in said
    rows = tables["pets3"].query("task == 'classify' and regime == 'scratch' and backbone == @VIT")
    assert f"On pets the DeiT from scratch knows {100 * rows['train_top1'].mean():.0f} %" in said
    tuned = results.open_results(ROOT / "docs" / "results" / "weights_flowers8_tuned").tuned["rows"]
    of_scratch = {row["backbone"]: row["trials"] for row in tuned if row["regime"] == "scratch"}
    best = [100 * max(trial["top1"] for trial in of_scratch[model]) for model in (VIT, CNN)]
    reached = tables["flowers8_tuned"].query("task == 'classify' and regime == 'scratch' and draw < 1000")
    means = [100 * reached.loc[reached["backbone"] == model, "top1"].astype(float).mean() for model in (VIT, CNN)]
    assert (
        f"had {best[0]:.0f} and {best[1]:.0f} % on it from scratch, and {means[0]:.0f} and {means[1]:.0f} % of" in said
    )
    (row,) = (
        row
        for row in results.open_results(ROOT / "docs" / "results" / "weights_pets3").tuned["rows"]
        if (row["backbone"], row["regime"]) == (VIT, "scratch")
    )
    assert lead_in_images(row, HOLDOUT["pets3"]) == 1, "one more of 36 photographs"
    smallest = min(trial["learning_rate"] for trial in row["trials"])
    fitted = (
        tables["pets3"].query("draw >= 1000 and regime == 'scratch' and backbone == @VIT").set_index("learning_rate")
    )
    assert fitted["train_top1"].astype(float)[smallest] == 1, "knew all of its training images"
    assert set(tables["flowers8_tuned"]["test_images"].dropna()) == {120}
    assert set(tables["pets3"]["test_images"].dropna()) == {60}


def test_the_tuned_tables_have_the_rates_that_their_page_names() -> None:
    page = " ".join((ROOT / "docs" / "studies" / "imagenet_weights.md").read_text("utf-8").split())
    ends, leads = [], []
    for name in TUNED:
        read = results.open_results(ROOT / "docs" / "results" / f"weights_{name}")
        assert "--set patch=16" in read.plan.command
        tuned = {(row["backbone"], row["regime"]): row for row in read.tuned["rows"]}
        assert len(tuned) == 4
        ends += [(name, *key, len(row["trials"])) for key, row in tuned.items() if tuning.at_grid_edge(row)]
        assert {trial["n"] for row in tuned.values() for trial in row["trials"]} == {1}, "one run for each rate"
        leads += [lead_in_images(row, HOLDOUT[name]) for row in tuned.values()]
        rows = read.table[read.table["task"] == "classify"]
        assert set(rows["size"]) == {row["size"] for row in tuned.values()}, "no rate of another size"
        assert set(rows["patch"]) == {16}
        assert set(rows["blocks"]) == {3}
        if name == "flowers8_tuned":
            vit, cnn = (tuned[model, "scratch"]["learning_rate"] for model in (VIT, CNN))
            assert f"has a rate of {vit}, and the tuned EfficientNet one of {cnn}, where" in page
    assert sorted(leads)[:5] == [0, 1, 1, 1, 2]
    assert "Of these twelve rates, three won by one image of the hold-out, and one tied with the end of its" in page
    assert ends == [("pets3", VIT, "weights", 6)]
    assert "the DeiT from the weights has the smallest of six" in page

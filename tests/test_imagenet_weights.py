"""Test what the page on ImageNet's weights says of patches, from the table and its trials."""

from pathlib import Path

import pandas as pd
from scipy import stats

from bias_lab import results, statistics, tuning
from bias_lab.report import findings

ROOT = Path(__file__).parents[1]
NAMES = ("flowers8_tuned", "flowers8", "cifar10", "pets3")


def test_what_the_page_says_of_patches_holds() -> None:
    page = " ".join((ROOT / "docs" / "studies" / "imagenet_weights.md").read_text("utf-8").split())
    said = page.partition("## Which patch?")[2].partition("## Run it")[0]
    read = results.open_results(ROOT / "docs" / "results" / "weights_patches")
    rows = read.table[read.table["task"] == "classify"]
    accuracy = {patch: 100 * rows[rows["patch"] == patch].set_index("draw")["top1"].astype(float) for patch in (8, 16)}
    assert {tuple(sorted(part.index)) for part in accuracy.values()} == {(0, 1, 2)}
    gain: pd.Series[float] = accuracy[8] - accuracy[16]
    low, high = stats.ttest_1samp(gain, 0).confidence_interval(0.95)
    means = f"{accuracy[8].mean():.1f} % of the test photographs right with patches of 8 pixels and "
    assert f"{means}{accuracy[16].mean():.1f} % with 16" in said
    assert f"{gain.mean():.1f} points more (CI {low:.1f} to {high:.1f})".replace("-", "−") in said
    assert (low > 0) == ("not shown" not in said)
    tuned = {int(row["patch"]): row for row in read.tuned["rows"]}
    best = {patch: max(trial["top1"] for trial in row["trials"]) for patch, row in tuned.items()}
    assert f"the best trials had {100 * best[8]:.0f} and {100 * best[16]:.0f} %" in said
    assert {len(row["trials"]) for row in tuned.values()} == {6}
    assert sum(trial["top1"] == 1 for trial in tuned[8]["trials"]) == 3, "three rates had 100 %"
    assert tuning.at_grid_edge(tuned[8]) == "smallest"
    minutes = {patch: float(rows[rows["patch"] == patch]["seconds"].mean()) / 60 for patch in (8, 16)}
    assert f"about {minutes[8]:.0f} minutes in place of {minutes[16]:.0f}" in said


def test_what_the_page_makes_of_the_weights_holds() -> None:
    page = " ".join((ROOT / "docs" / "studies" / "imagenet_weights.md").read_text("utf-8").split())
    said = page.partition("## What to make of it")[2].partition("## Which patch?")[0]
    tables = {name: results.open_results(ROOT / "docs" / "results" / f"weights_{name}").table for name in NAMES}
    gains = {name: statistics.gains(findings.split(table)[0][1]) for name, table in tables.items()}
    assert all((part["low_any"] > 0).all() for part in gains.values()), "each gain's interval excludes 0"
    assert (gains["flowers8"]["p_holm"] > 0.05).sum() == 3
    assert len(gains["flowers8"]) == 4
    assert "three of the four gains are no longer shown" in said
    assert all((gains[name]["p_holm"] <= 0.05).all() for name in ("flowers8_tuned", "cifar10", "pets3"))
    scratch = tables["cifar10"][tables["cifar10"]["regime"] == "scratch"]
    known = sorted(100 * scratch.groupby("backbone")["train_top1"].mean())
    assert "know only {:.0f} and {:.0f} % of their training images".format(*known) in said


def test_the_tuned_table_of_flowers_has_the_rates_that_its_page_names() -> None:
    page = " ".join((ROOT / "docs" / "studies" / "imagenet_weights.md").read_text("utf-8").split())
    read = results.open_results(ROOT / "docs" / "results" / "weights_flowers8_tuned")
    assert "--set patch=16" in read.plan.command
    tuned = {(row["backbone"], row["regime"]): row for row in read.tuned["rows"]}
    assert len(tuned) == 4
    assert not any(tuning.at_grid_edge(row) for row in tuned.values()), "none at an end of its grid"
    assert {trial["n"] for row in tuned.values() for trial in row["trials"]} == {1}, "one run for each rate"
    rates = {name: row["learning_rate"] for (name, regime), row in tuned.items() if regime == "scratch"}
    vit, cnn = rates["deit_tiny_patch16_224"], rates["tf_efficientnet_lite0"]
    assert f"has a rate of {vit}, and the tuned EfficientNet one of {cnn}, where" in page
    rows = read.table[read.table["task"] == "classify"]
    assert set(rows["patch"]) == {16}
    assert set(rows["blocks"]) == {3}

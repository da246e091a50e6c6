"""Test what the page on ImageNet's weights says of patches, from the table and its trials."""

from pathlib import Path

import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

from bias_lab import results, statistics, tuning
from bias_lab.report import findings

ROOT = Path(__file__).parents[1]
TUNED = ("flowers8_tuned", "cifar10", "pets3")
NAMES = (*TUNED, "flowers8")
VIT, CNN = "deit_tiny_patch16_224", "tf_efficientnet_lite0"


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


def gains_of_draws(table: pd.DataFrame, backbone: str) -> "pd.Series[float]":
    """Return what the weights add to a backbone in each draw, in points."""
    rows = table[(table["task"] == "classify") & (table["backbone"] == backbone)].set_index("draw")
    top1 = {regime: part["top1"].astype(float) for regime, part in rows.groupby("regime")}
    return 100 * (top1["weights"] - top1["scratch"])


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
    beside = {name: gains_of_draws(tables[name], VIT) - gains_of_draws(tables[name], CNN) for name in TUNED}
    corrected = multipletests([stats.ttest_1samp(beside[name], 0).pvalue for name in TUNED], method="holm")[1]
    assert f"after Holm's correction over the three it is not shown (p = {min(corrected):.2f})" in said
    assert min(corrected) == corrected[TUNED.index("cifar10")] > 0.05
    six = [(name, row["backbone"], row["p"]) for name in TUNED for row in gains[name].to_dict("records")]
    left = multipletests([p for _, _, p in six], method="holm")[0]
    assert {one[:2] for one, is_left in zip(six, left, strict=True) if is_left} == {
        ("cifar10", VIT), ("cifar10", CNN), ("flowers8_tuned", VIT)
    }  # fmt: skip
    for name in TUNED:
        more = gains_of_draws(tables[name], VIT) - gains_of_draws(tables[name], CNN)
        low, high = stats.ttest_1samp(more, 0).confidence_interval(0.95)
        assert (low > 0) == (name == "cifar10")
        if low > 0:
            told = (
                f"add {more.mean():.1f} points more to the DeiT than to the EfficientNet (CI {low:.1f} to {high:.1f})"
            )
            assert told in said
        scratch = statistics.gaps(findings.split(tables[name])[0][1])
        assert (scratch["low_any"] > 0).all() == (name == "cifar10")
        alike = statistics.likewise(findings.split(tables[name])[0][1])
        assert (alike["low_any"] < 0).all()
        assert (alike["high_any"] > 0).all()
    assert "to the DeiT, and no gain of the EfficientNet (95 % CI −7.1 to 47.1 points) is shown." in page
    assert (gains["flowers8"]["p_holm"] > 0.05).sum() == 3
    assert len(gains["flowers8"]) == 4
    assert "Three of its four gains are no longer shown" in said
    known = 100 * tables["cifar10"].query("task == 'classify'").groupby(["regime", "backbone"])["train_top1"].mean()
    low, high = sorted(known["scratch"])
    assert f"know only {low:.0f} and {high:.0f} % of their training images by then" in said
    assert {f"{value:.0f}" for value in known["weights"]} == {"88"}
    assert "and from the weights 88 %" in said
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
    first, second = sorted((trial["top1"] for trial in row["trials"]), reverse=True)[:2]
    assert round(36 * (first - second)) == 1, "one more of 36 photographs"
    smallest = min(trial["learning_rate"] for trial in row["trials"])
    fitted = (
        tables["pets3"].query("draw >= 1000 and regime == 'scratch' and backbone == @VIT").set_index("learning_rate")
    )
    assert fitted["train_top1"].astype(float)[smallest] == 1, "knew all of its training images"
    assert set(tables["flowers8_tuned"]["test_images"].dropna()) == {120}
    assert set(tables["pets3"]["test_images"].dropna()) == {60}


def test_the_tuned_tables_have_the_rates_that_their_page_names() -> None:
    page = " ".join((ROOT / "docs" / "studies" / "imagenet_weights.md").read_text("utf-8").split())
    ends = []
    for name in TUNED:
        read = results.open_results(ROOT / "docs" / "results" / f"weights_{name}")
        assert "--set patch=16" in read.plan.command
        tuned = {(row["backbone"], row["regime"]): row for row in read.tuned["rows"]}
        assert len(tuned) == 4
        ends += [(name, *key, len(row["trials"])) for key, row in tuned.items() if tuning.at_grid_edge(row)]
        assert {trial["n"] for row in tuned.values() for trial in row["trials"]} == {1}, "one run for each rate"
        rows = read.table[read.table["task"] == "classify"]
        assert set(rows["size"]) == {row["size"] for row in tuned.values()}, "no rate of another size"
        assert set(rows["patch"]) == {16}
        assert set(rows["blocks"]) == {3}
        if name == "flowers8_tuned":
            vit, cnn = (tuned[model, "scratch"]["learning_rate"] for model in (VIT, CNN))
            assert f"has a rate of {vit}, and the tuned EfficientNet one of {cnn}, where" in page
    assert ends == [("pets3", VIT, "weights", 6)]
    assert "the DeiT from the weights has the smallest of six" in page

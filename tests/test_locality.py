"""Test the locality experiment: three arms and two backbones on the same images and seeds, and nothing else varies."""

from collections import defaultdict
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from bias_lab import catalogue, results, tuning
from bias_lab.planning import experiment_files, plan

FILE = Path(__file__).parents[1] / "experiments" / "locality.py"


STILL = "plain+crop=0+flip=False"
PROFILES = ["smoke", "laptop", "desk", "full"]


@pytest.mark.parametrize("profile", PROFILES)
def test_arms_and_backbones_are_paired_with_their_linear_control(profile: str) -> None:
    runs = experiment_files.read(FILE, profile).runs
    cells: dict[tuple[int, int, int], set[tuple[str, str]]] = defaultdict(set)
    for run in runs:
        cells[run.size, run.draw, run.seed].add((run.backbone, run.intervention))
    for cell in cells.values():
        assert len(cell) == 9
        assert {arm for _, arm in cell} == {"", "permute_pixels", "permute_patches:4"}
        assert sum(backbone == "pixels" for backbone, _ in cell) == 3
    assert len({(draw, seed) for _, draw, seed in cells}) >= 2  # an interval needs replicates


@pytest.mark.parametrize("profile", PROFILES)
def test_nothing_augments_an_image_before_it_is_rearranged(profile: str) -> None:
    trained = [run for run in experiment_files.read(FILE, profile).runs if run.protocol == "finetune"]
    assert {(run.flip, run.crop, run.recipe) for run in trained} == {(False, 0, STILL)}
    assert len({replace(run, backbone="", intervention="", size=1, draw=0, seed=0) for run in trained}) == 1


@pytest.mark.parametrize("profile", ["laptop", "desk", "full"])
def test_cells_are_settled_on_disjoint_draws(profile: str) -> None:
    trained = [run for run in experiment_files.read(FILE, profile).runs if run.protocol == "finetune"]
    assert {run.samples_seen for run in trained} == {None}
    assert all(run.blocks > run.draw for run in trained)


@pytest.mark.parametrize("profile", ["laptop", "desk", "full"])
def test_permuted_patches_are_the_vits_own(profile: str) -> None:
    for run in experiment_files.read(FILE, profile).runs:
        row = catalogue.BACKBONES[run.backbone]
        side = catalogue.dataset(run.dataset).image_size
        if row.architecture == "vit":
            assert catalogue.choose_patch(side, row.image_size, row.patch, row.halvings) == 4
        if "patches" in run.intervention:
            assert catalogue.intervention(run.intervention) == ("permute_patches", 4)


def test_tuning_searches_every_arm(tmp_path: Path) -> None:
    made = plan.make(FILE.with_name("tuning.py"), "desk", tmp_path, plan.Request())
    searched = {(run.backbone, run.intervention) for cell in made.searched for run in cell if run.crop == 0}
    arms = ("", "permute_pixels", "permute_patches:4")
    assert searched == {(backbone, arm) for backbone in ("vit_micro", "resnet_micro") for arm in arms}


def test_cells_that_have_no_settled_row_of_their_own_recipe_are_searched(tmp_path: Path) -> None:
    """A rate and budget that were tuned with shifts and flips belong to another cell."""
    runs = plan.make(FILE, "laptop", tmp_path / "own", plan.Request(tune=True))
    assert not runs.searched, "they have rows of their own"
    flipped = plan.Request(tune=True, fields={"flip": True})
    made = plan.make(FILE, "laptop", tmp_path / "other", flipped)
    searched = {(run.backbone, run.intervention) for cell in made.searched for run in cell}
    assert len(searched) == 6


def accuracies(table: pd.DataFrame, backbone: str, arm: str = "", protocol: str = "finetune") -> "pd.Series[float]":
    named = {"backbone": backbone, "intervention": arm, "protocol": protocol, "task": "classify"}
    rows = table[(table[list(named)] == list(named.values())).all(axis=1)]
    assert len(rows) == 3
    return 100 * rows.set_index(["draw", "seed"])["top1"].astype(float)


def told(difference: "pd.Series[float]") -> tuple[str, str]:
    low, high = stats.ttest_1samp(difference, 0).confidence_interval(0.95)
    return f"{difference.mean():.1f}", f"{low:.1f} to {high:.1f}".replace("-", "−")


def test_what_the_page_makes_of_drawn_shapes_holds() -> None:
    """Every number of the section is computed here."""
    root = FILE.parents[1]
    page = " ".join((root / "docs" / "studies" / "locality.md").read_text("utf-8").split())
    page = page.partition("### Drawn shapes")[2].partition("### CIFAR-10")[0]
    table = pd.read_parquet(root / "docs" / "results" / "locality_shapes" / "results.parquet")
    cell = partial(accuracies, table)
    pixels, arms = cell("pixels", protocol="linear_probe"), ("", "permute_pixels", "permute_patches:4")
    resnet, vit = ([cell(name, arm) for arm in arms] for name in ("resnet_micro", "vit_micro"))
    leads = [(one - other).mean() for one, other in zip(resnet, vit, strict=True)]
    assert "of {:.1f} points, {:.1f} are left with permuted pixels".format(*leads) in page
    assert (resnet[0] == 100).all(), "names every test image right"
    assert f"With permuted pixels it has {resnet[1].mean():.1f} %" in page
    assert f"from a linear classifier on pixels is shown (CI {told(resnet[1] - pixels)[1]} points)" in page
    assert stats.ttest_1samp(resnet[1] - pixels, 0).pvalue > 0.05
    for words, difference in (
        ("With permuted patches it is {} points behind that classifier (CI {})", pixels - resnet[2]),
        ("and is {} points behind the linear classifier (CI {})", pixels - vit[0]),
        ("With permuted pixels it is {} behind (CI {})", pixels - vit[1]),
    ):
        assert words.format(*told(difference)) in page
        assert stats.ttest_1samp(difference, 0).pvalue < 0.05
    assert f"No loss is shown (its change: CI {told(vit[1] - vit[0])[1]} points)" in page
    assert f"It has {vit[0].mean():.1f} % on the images as they are, where chance is 25 %" in page
    assert page.count("CI ") == 5
    assert all(stats.ttest_1samp(one - vit[0], 0).pvalue > 0.05 for one in vit[1:]), "no change is shown"
    trained = table[(table["protocol"] == "finetune") & (table["task"] == "classify")]
    assert trained["train_top1"].min() == 1, "knows every training image"
    cells = trained.drop_duplicates(["backbone", "intervention"]).set_index(["backbone", "intervention"])
    assert (cells["samples_seen"] == 16_000).sum() == 3, "the smallest budget that was tried"
    beside = pd.read_parquet(root / "docs" / "results" / "small_data_shapes_300" / "results.parquet")
    longer = beside[beside["comparison"].eq("settled") & beside["backbone"].eq("vit_micro")]
    assert set(longer["size"]) == set(trained["size"]) == {300}, "with as many labels"
    assert f"it is right {100 * longer['top1'].mean():.0f} % of the time" in page
    assert (longer["samples_seen"] == 32 * cells.loc[("vit_micro", ""), "samples_seen"]).all()
    tuned = results.open_results(root / "docs" / "results" / "locality_shapes").tuned["rows"]
    own = [row for row in tuned if row["recipe"] == STILL and row["size"] == 300]
    by_arm = {(row["backbone"], row.get("intervention", "")): row for row in own}
    assert len(by_arm) == 6
    assert [key for key, row in by_arm.items() if tuning.at_grid_edge(row) == "largest"] == [("resnet_micro", "")]
    rates = {key: {trial["learning_rate"] for trial in row["trials"]} for key, row in by_arm.items()}
    assert all(
        max(rates["resnet_micro", arm]) == 0.01 > by_arm["resnet_micro", arm]["learning_rate"] for arm in arms[1:]
    )
    assert max(trial["samples_seen"] for trial in by_arm["vit_micro", ""]["trials"]) == 32_000


def test_what_the_page_makes_of_locality_on_cifar10_holds() -> None:
    """Every interval of the section is computed here, and sentences without one are held against the tables."""
    root = FILE.parents[1]
    page = " ".join((root / "docs" / "studies" / "locality.md").read_text("utf-8").split())
    page = page.partition("### CIFAR-10")[2].partition("## Run it")[0]
    table = pd.read_parquet(root / "docs" / "results" / "locality_cifar10" / "results.parquet")
    beside = pd.read_parquet(root / "docs" / "results" / "small_data_cifar10" / "results.parquet")

    cell = partial(accuracies, table)
    resnet, vit, pixels = cell("resnet_micro"), cell("vit_micro"), cell("pixels", protocol="linear_probe")
    permuted = {name: cell(name, "permute_pixels") for name in ("resnet_micro", "vit_micro")}
    for words, difference, is_shown in (
        ("the ResNet is {} points ahead (CI {})", resnet - vit, False),
        ("by {} points on the images as they are (CI {})", resnet - pixels, True),
        ("and by {} points with permuted pixels (CI {})", permuted["resnet_micro"] - pixels, True),
        ("The ViT is {} points ahead of it on the images as they are (CI {})", vit - pixels, True),
    ):
        assert words.format(*told(difference)) in page
        assert is_shown == (stats.ttest_1samp(difference, 0).pvalue < 0.05)
    _, ends = told(permuted["vit_micro"] - pixels)
    assert f"no difference is shown with permuted pixels (CI {ends})" in page
    augmented = {"comparison": "settled", "recipe": "plain", "optimizer": "muon", "size": 1000}
    rows = beside[(beside[list(augmented)] == list(augmented.values())).all(axis=1)]
    shifted = {name: 100 * part.set_index(["draw", "seed"])["top1"] for name, part in rows.groupby("backbone")}
    lead = shifted["resnet_micro"] - shifted["vit_micro"]
    welch = stats.ttest_ind(lead, resnet - vit, equal_var=False)
    low, high = welch.confidence_interval(0.95)
    assert f"it is {lead.mean():.1f} points ahead at 1,000 labels" in page
    larger = lead.mean() - (resnet - vit).mean()
    assert f"The lead is {larger:.1f} points larger there (CI {low:.1f} to {high:.1f})" in page
    assert page.count("(CI ") == 6
    arms = (resnet, shifted["resnet_micro"], vit, shifted["vit_micro"])
    means = [f"{part.mean() + 1e-9:.1f}" for part in arms]  # the ViT has 37.45, which the figure rounds up
    assert "{} % without shifts and flips and {} % with them, the ViT {} % and {} %".format(*means) in page
    losses = []
    for backbone, own in (("resnet_micro", resnet), ("vit_micro", vit)):
        for arm in ("permute_pixels", "permute_patches:4"):
            low, high = stats.ttest_1samp(own - cell(backbone, arm), 0).confidence_interval(0.95)
            assert low < 0 < high, "no loss is shown"
            losses.append(high)
    assert f"up to {min(losses):.1f} points in one of the four cases and {max(losses):.1f} in another" in page
    trained = table[table["protocol"] == "finetune"]
    known = trained.groupby(["backbone", "intervention"])["train_top1"].mean()
    assert f"knows {100 * known['vit_micro', 'permute_pixels']:.0f} % of its training images" in page
    assert known.drop(("vit_micro", "permute_pixels")).min() > 0.995
    assert (trained.drop_duplicates(["backbone", "intervention"])["samples_seen"] == 16_000).sum() == 4

"""Test the locality experiment: three arms and two backbones on the same images and seeds, and nothing else varies."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from bias_lab import catalogue
from bias_lab.data import store, subsets
from bias_lab.planning import experiment_files, plan
from bias_lab.training.protocols.frozen import linear_probe

FILE = Path(__file__).parents[1] / "experiments" / "locality.py"


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
    assert {(run.flip, run.crop, run.recipe) for run in trained} == {(False, 0, "plain+crop=0+flip=False")}
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


@pytest.mark.slow
def test_a_linear_classifier_on_raw_pixels_does_as_well_as_the_committed_resnet() -> None:
    """Show why permuted pixels cost the ResNet nothing here: a linear classifier is as good, as the page states."""
    page = " ".join((FILE.parents[1] / "docs" / "studies" / "locality.md").read_text("utf-8").split())
    assert "a linear classifier on raw pixels is about as accurate as this ResNet, although it knows no" in page
    table = pd.read_parquet(FILE.parents[1] / "docs" / "results" / "locality" / "results.parquet")
    table = table[(table["backbone"] == "resnet_micro") & (table["size"] == 1000) & (table["intervention"] == "")]
    images = store.open_images("fashion_mnist_12k", image_size=None, data_root=None, place=None)
    scores = []
    for draw in (0, 1, 2):
        chosen = subsets.order(images.fingerprint, images.train_labels, draw)[:1000]
        pixels, queries = (
            torch.from_numpy(part.reshape(len(part), -1) / 255) for part in (images.train[chosen], images.test[:])
        )
        labels = torch.from_numpy(images.train_labels[chosen])
        logits = linear_probe(pixels.float(), labels, queries.float(), classes=10, penalty=0.1)
        scores.append(float((logits.argmax(1).numpy() == images.test_labels).mean()))
    assert abs(sum(scores) / 3 - table["top1"].mean()) < 0.02

"""Test the locality experiment: three arms and two backbones on the same images and seeds, and nothing else varies."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from bias_lab import catalogue
from bias_lab.data import store, subsets
from bias_lab.definition import Run
from bias_lab.planning import experiment_files, learning_rates, settle
from bias_lab.training.protocols.frozen import linear_probe

FILE = Path(__file__).parents[1] / "experiments" / "locality.py"


@pytest.mark.parametrize("profile", ["smoke", "laptop", "full"])
def test_arms_and_backbones_are_paired(profile: str) -> None:
    cells: dict[Run, set[tuple[str, str]]] = defaultdict(set)
    for run in experiment_files.read(FILE, profile).runs:
        cells[replace(run, backbone="any", intervention="")].add((run.backbone, run.intervention))
    for cell in cells.values():
        assert len(cell) == 6
        assert {arm for _, arm in cell} == {"", "permute_pixels", "permute_patches:4"}
    assert len({(cell.draw, cell.seed) for cell in cells}) >= 2  # an interval needs replicates


@pytest.mark.parametrize("profile", ["laptop", "full"])
def test_permuted_patches_are_the_vits_own(profile: str) -> None:
    for run in experiment_files.read(FILE, profile).runs:
        row = catalogue.BACKBONES[run.backbone]
        side = catalogue.dataset(run.dataset).image_size
        if row.architecture == "vit":
            assert catalogue.choose_patch(side, row.image_size, row.patch, row.halvings) == 4
        if "patches" in run.intervention:
            assert catalogue.intervention(run.intervention) == ("permute_patches", 4)


def test_the_laptop_s_arms_are_all_tuned() -> None:
    table = learning_rates.read(FILE.with_name("tuned.json"))
    runs = experiment_files.read(FILE, "laptop").runs
    filled = settle.settle(runs, table, dict.fromkeys({run.dataset for run in runs}, 9000), (), tune=None).runs
    assert {run.learning_rate for run in filled} <= set(table.grid())


def test_tuning_gives_every_arm_the_same_grid() -> None:
    cells: dict[tuple[str, str, int], set[float | None]] = defaultdict(set)
    for run in experiment_files.read(FILE.with_name("tuning.py"), "laptop").runs:
        if run.intervention:
            cells[run.backbone, run.intervention, run.size].add(run.learning_rate)
    backbones, arms = ("vit_micro", "resnet_micro"), ("permute_pixels", "permute_patches:4")
    assert set(cells) == {(backbone, arm, size) for backbone in backbones for arm in arms for size in (100, 1000)}
    assert all(len(grid) == 4 for grid in cells.values())


@pytest.mark.slow
def test_a_linear_classifier_on_raw_pixels_does_as_well_as_the_committed_resnet() -> None:
    """Show why permuted pixels cost the ResNet nothing here: a linear classifier is as good, as README states."""
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

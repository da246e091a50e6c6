"""The locality experiment: three arms on the same images and seeds, for two backbones, and nothing else varies."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from bias_lab import catalogue
from bias_lab.definition import Run, read_experiment
from bias_lab.sweep import rates

FILE = Path(__file__).parents[1] / "experiments" / "locality.py"


@pytest.mark.parametrize("profile", ["smoke", "laptop", "full"])
def test_arms_and_backbones_are_paired(profile: str) -> None:
    cells: dict[Run, set[tuple[str, str]]] = defaultdict(set)
    for run in read_experiment(FILE, profile).runs:
        cells[replace(run, backbone="any", intervention="")].add((run.backbone, run.intervention))
    for cell in cells.values():
        assert len(cell) == 6
        assert {arm for _, arm in cell} == {"", "permute_pixels", "permute_patches:4"}
    assert len({(cell.draw, cell.seed) for cell in cells}) >= 2  # an interval needs replicates


@pytest.mark.parametrize("profile", ["laptop", "full"])
def test_permuted_patches_are_the_vits_own(profile: str) -> None:
    for run in read_experiment(FILE, profile).runs:
        row = catalogue.BACKBONES[run.backbone]
        side = catalogue.dataset(run.dataset).image_size
        if row.architecture == "vit":
            assert catalogue.choose_patch(side, row.image_size, row.patch, row.halvings) == 4
        if "patches" in run.intervention:
            assert catalogue.intervention(run.intervention) == ("permute_patches", 4)


def test_the_laptop_s_arms_are_all_tuned() -> None:
    table = rates.read(FILE.with_name("tuned.json"))
    for run in read_experiment(FILE, "laptop").runs:
        assert rates.resolve(run, table).learning_rate in table.grid()


def test_tuning_gives_every_arm_the_same_grid() -> None:
    cells: dict[tuple[str, str, int], set[float | None]] = defaultdict(set)
    for run in read_experiment(FILE.with_name("tuning.py"), "laptop").runs:
        if run.intervention:
            cells[run.backbone, run.intervention, run.size].add(run.learning_rate)
    backbones, arms = ("vit_micro", "resnet_micro"), ("permute_pixels", "permute_patches:4")
    assert set(cells) == {(backbone, arm, size) for backbone in backbones for arm in arms for size in (100, 1000)}
    assert all(len(grid) == 4 for grid in cells.values())

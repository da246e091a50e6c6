"""Check that the measurements run, and that they compare equal work."""

import mmap
from collections.abc import Iterable
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
import torch

from bias_lab.bench import data
from bias_lab.catalogue import PROTOCOLS, traits
from bias_lab.data.readers.image_file import pixels, read
from bias_lab.definition import RECIPES, TUNED, Run

KEYS = {"case", "mode", "reference", "ratio", "low", "high", "n"}


def test_building_gives_rates_parts_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "_memory", lambda place, root: 300 / max(1.0, data.held(place, root, steps=1)))
    rows = list(data.building(200, rounds=2))  # ten images of each class, since fewer can't be split
    assert all(set(row) == KEYS and row["ratio"] > 0 for row in rows)
    assert [row["mode"] for row in rows] == ["decoding"] * 2 + ["part"] * 4 + ["memory"]
    assert rows[1]["ratio"] < rows[0]["ratio"]  # with the index it takes longer
    assert abs(sum(row["ratio"] for row in rows if row["mode"] == "part") - 1) < 0.1


def test_pages_of_a_store_are_not_the_processes_memory(tmp_path: Path) -> None:
    (tmp_path / "some.u8").write_bytes(bytes(64 * 2**20))
    before = data.resident()
    mapped = np.memmap(tmp_path / "some.u8", np.uint8, mode="r")
    assert int(mapped[::4096].sum()) == 0  # every page is touched
    assert data.resident() - before < 32
    before = data.resident()
    with mmap.mmap(-1, 64 * 2**20) as held:  # new pages; an array may get freed pages, which are counted already
        held.write(b"1" * len(held))
        assert data.resident() - before > 32


def test_every_cell_of_the_laptop_profile_has_its_share_measured() -> None:
    """Controls are left out, as in `data.cells`."""

    def steps(runs: Iterable[Run]) -> set[tuple[object, ...]]:
        trained = [run for run in runs if PROTOCOLS[run.protocol].trains]
        return {
            (run.dataset, run.backbone, recipe, run.task, run.regime, run.batch_size)
            for run in trained
            for recipe in (RECIPES if run.recipe == TUNED else [run.recipe])
        }

    runs = run_path("experiments/small_data.py")["experiment"]("laptop").runs
    runs = [run for run in runs if not traits(run.backbone).control]
    planned = {each if each[3] == "pretrain" else (*each[:4], "scratch", each[5]) for each in steps(runs)}
    assert planned <= steps(data.cells())  # a run's start changes nothing in its step


def test_generated_jpegs_are_all_different(tmp_path: Path) -> None:
    data.jpegs(tmp_path, 300, classes=20)
    files = sorted(tmp_path.rglob("*.jpg"))
    assert len(files) == 300
    assert len({pixels(read(file.read_bytes())).tobytes() for file in files}) == 300
    assert len(list(tmp_path.iterdir())) == 20


@pytest.mark.parametrize("case", data.CASES)
def test_each_reference_makes_the_same_kind_of_batch(case: str) -> None:
    """Every pipeline gives normalised floats of the same shape and a similar range."""
    side, _ = data.CASES[case]
    images = data.photographs(16, side)
    for name, steps in data.references(case).items():
        given = data.Image.fromarray(images[0]) if "PIL" in name else torch.from_numpy(images[0]).permute(2, 0, 1)
        x = data.transforms.Compose(steps)(given)
        assert x.shape == (3, side, side)
        assert x.dtype == torch.float32
        assert float(x.abs().max()) < 4


def test_photographs_are_the_same_each_time() -> None:
    assert np.array_equal(data.photographs(3, 16), data.photographs(3, 16))


@pytest.mark.slow
def test_all_rows_of_a_quick_run(tmp_path: Path) -> None:
    rows = data.main(tmp_path / "rows.json", quick=True)
    assert (tmp_path / "rows.json").is_file()
    assert all(set(row) == {*KEYS, "machine"} for row in rows)
    assert {row["mode"] for row in rows} == {"batch", "share", "decoding", "part", "memory"}

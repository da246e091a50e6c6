"""The measurements of data run, and what they compare is equal work."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bias_lab.bench import data
from bias_lab.data.pictures import pixels, read

KEYS = {"case", "mode", "reference", "ratio", "low", "high", "n"}


def test_the_decoding_rate_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    row = data.decoding_rate(200, rounds=2)  # ten of each class: fewer can't be split
    assert set(row) == KEYS
    assert row["mode"] == "decoding"
    assert row["ratio"] > 0


def test_generated_jpegs_are_all_different(tmp_path: Path) -> None:
    data.jpegs(tmp_path, 300, classes=20)
    files = sorted(tmp_path.rglob("*.jpg"))
    assert len(files) == 300
    assert len({pixels(read(file.read_bytes())).tobytes() for file in files}) == 300
    assert len(list(tmp_path.iterdir())) == 20


@pytest.mark.parametrize("case", data.CASES)
def test_each_reference_makes_the_same_kind_of_batch(case: str) -> None:
    """Normalised floats of the same shape and like moments, by every pipeline."""
    side, _ = data.CASES[case]
    images = data.photographs(16, side)
    for name, steps in data.references(case, side).items():
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
    assert all(set(row) == KEYS for row in rows)
    assert {row["mode"] for row in rows} == {"batch", "share", "decoding"}

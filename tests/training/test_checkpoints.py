"""Checkpoints are whole, or they are skipped."""

from pathlib import Path

import pytest
import torch

from bias_lab.training import checkpoints


def test_a_checkpoint_comes_back_and_goes(tmp_path: Path) -> None:
    io, path = checkpoints.CheckedCheckpointIO(), tmp_path / "checkpoint.ckpt"
    io.save_checkpoint({"global_step": 3, "x": torch.arange(3)}, path)
    assert io.load_checkpoint(path)["global_step"] == 3
    io.remove_checkpoint(path)
    assert checkpoints.read(path) is None
    with pytest.raises(FileNotFoundError):
        io.load_checkpoint(path)


@pytest.mark.parametrize("damage", [lambda d: d[:100], lambda d: b"", lambda d: d[:-1] + bytes([d[-1] ^ 1])])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path, damage) -> None:
    io, path = checkpoints.CheckedCheckpointIO(), tmp_path / "checkpoint.ckpt"
    io.save_checkpoint({"global_step": 1}, path)
    io.save_checkpoint({"global_step": 2}, path)
    path.write_bytes(damage(path.read_bytes()))
    checkpoint = checkpoints.read(path)
    assert checkpoint is not None
    assert checkpoint["global_step"] == 1

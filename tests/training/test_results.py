"""The pieces of a result, each against its definition."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from bias_lab.data.subsets import Selection
from bias_lab.training import results


def test_slope_tells_a_falling_loss_from_a_flat_one() -> None:
    assert results.slope([1.0] * 16) == 0.0
    assert results.slope([16.0 - k for k in range(16)]) == pytest.approx((1.5 - 3.5) / 3.5)
    assert results.slope([1.0] * 7) is None


def test_predictions_are_a_row_an_image_in_index_order(tmp_path: Path) -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    results.save_predictions(logits, torch.tensor([0, 0, 1]), tmp_path / "p.parquet")
    table = pd.read_parquet(tmp_path / "p.parquet")
    assert table[["index", "label", "predicted"]].to_numpy().tolist() == [[0, 0, 0], [1, 0, 1], [2, 1, 0]]
    assert table["confidence"].to_numpy() == pytest.approx([1 / (1 + np.exp(-d)) for d in (2, 1, 3)], abs=1e-6)


def test_weights_come_back(tmp_path: Path) -> None:
    layer = nn.Linear(2, 3)
    results.save_weights(layer, tmp_path / "w.safetensors")
    torch.testing.assert_close(load_file(tmp_path / "w.safetensors"), dict(layer.state_dict()))


def test_subset_hash_follows_images_and_labels_in_order() -> None:
    def made(indices: list[int], labels: list[int]) -> str:
        return results.subset_hash(Selection(np.array(indices), np.array(labels), None))

    assert made([1, 2], [0, 1]) == made([1, 2], [0, 1])
    assert len({made([1, 2], [0, 1]), made([2, 1], [0, 1]), made([1, 2], [1, 0]), made([1, 3], [0, 1])}) == 4

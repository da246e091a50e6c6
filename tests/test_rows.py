"""A run's record as a row of the table, and the comparison of a run."""

from pathlib import Path

import pandas as pd
import pytest

from bias_lab import ledger, rows
from bias_lab.definition import Run
from tests.planted import write_run

ONE = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100, learning_rate=1e-3)


def test_predictions_out_of_order_are_put_in_order(tmp_path: Path) -> None:
    name = write_run(tmp_path, ONE, 0.25)
    path = ledger.run_folder(tmp_path, name) / ledger.PREDICTIONS
    before = rows.correct_bits(path)
    pd.read_parquet(path).iloc[::-1].to_parquet(path, index=False)
    assert rows.correct_bits(path) == before
    path.unlink()
    assert rows.correct_bits(path) is None


@pytest.mark.parametrize(
    ("task", "protocol", "comparison"),
    [
        ("classify", "finetune", "equal"),
        ("classify", "linear_probe", ""),
        ("classify", "knn", ""),
        ("tune", "finetune", ""),
        ("pretrain", "finetune", ""),
    ],
)
def test_only_a_run_with_a_training_budget_is_compared(task: str, protocol: str, comparison: str) -> None:
    assert rows.comparison_of(task, protocol) == comparison

"""Rows that survive a kill, the check of the loss, and the log."""

import json
import logging
import warnings
from pathlib import Path

import pytest
import torch

from bias_lab.errors import Diverged
from bias_lab.training import recording


class FakeTrainer:
    """The part of a trainer that the callbacks read."""

    def __init__(self, max_steps: int) -> None:
        self.max_steps, self.global_step = max_steps, 0
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.loggers = [self]
        self.optimizers = [torch.optim.SGD([torch.zeros(1)], lr=0.5)]

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.rows.append((step, metrics))

    def run(self, callback: recording.Intervals, losses: list[float]) -> None:
        for loss in losses:
            self.global_step += 1
            callback.on_train_batch_end(self, None, {"loss": torch.tensor(loss)}, None, 0)


def test_rows_are_means_over_an_interval_and_the_last_step_has_one() -> None:
    trainer, callback = FakeTrainer(45), recording.Intervals(45)
    assert callback.every == 2
    trainer.run(callback, [float(k) for k in range(45)])
    assert [step for step, _ in trainer.rows] == [*range(2, 45, 2), 45]
    assert trainer.rows[0][1] == {"train/loss": 0.5, "lr": 0.5}
    assert trainer.rows[-1][1]["train/loss"] == 44.0


def test_an_interval_cut_by_a_checkpoint_goes_on_where_it_was() -> None:
    whole, callback = FakeTrainer(40), recording.Intervals(40)
    losses = [0.1 * k for k in range(40)]
    whole.run(callback, losses)
    first, before = FakeTrainer(40), recording.Intervals(40)
    first.run(before, losses[:17])
    checkpoint: dict[str, object] = {}
    before.on_save_checkpoint(first, None, checkpoint)
    second, after = FakeTrainer(40), recording.Intervals(40)
    second.global_step = 17
    after.on_load_checkpoint(second, None, checkpoint)
    second.run(after, losses[17:])
    assert first.rows + second.rows == whole.rows


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_names_its_step(value: float) -> None:
    trainer, callback = FakeTrainer(100), recording.Intervals(100)
    losses = [1.0] * 100
    losses[62] = value
    with pytest.raises(Diverged, match="at step 63"):
        trainer.run(callback, losses)


def test_rows_are_appended_once_and_a_torn_line_goes(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    rows = recording.JsonLines(path)
    rows.log_metrics({"a": 1.0}, step=1)
    rows.log_metrics({"a": 2.0}, step=2)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"a": 3.0, "st')
    again = recording.JsonLines(path)
    assert path.read_bytes() == whole
    again.log_metrics({"a": 9.0}, step=2)
    again.log_metrics({"b": 9.0}, step=2)  # another kind of row at the same step is new
    again.log_metrics({"a": 3.0}, step=3)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"a": 1.0, "step": 1},
        {"a": 2.0, "step": 2},
        {"b": 9.0, "step": 2},
        {"a": 3.0, "step": 3},
    ]
    assert again.rows() == [json.loads(line) for line in path.read_text().splitlines()]


def test_log_takes_warnings_and_gives_them_back(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    with recording.log_to(path), warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.getLogger("x").info("said")
    assert "said" in path.read_text()
    before = path.read_text()
    logging.getLogger("x").info("after")
    assert path.read_text() == before


def test_slope_tells_a_falling_loss_from_a_flat_one() -> None:
    assert recording.slope([1.0] * 16) == 0.0
    assert recording.slope([16.0 - k for k in range(16)]) == pytest.approx((1.5 - 3.5) / 3.5)
    assert recording.slope([1.0] * 7) is None

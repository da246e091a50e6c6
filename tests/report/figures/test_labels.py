"""The words beside a line."""

import pandas as pd

from bias_lab.report.figures import labels
from bias_lab.statistics.conditions import UNTRAINED


def test_a_frozen_backbone_from_scratch_is_called_untrained() -> None:
    assert labels.start_label("vit", "scratch", "linear_probe") == "vit (untrained, linear probe)"
    assert labels.start_label("pixels", "scratch", "knn") == "pixels (knn)"
    assert labels.start_label("vit", "mae", "linear_probe") == "vit + mae (linear probe)"


def test_a_start_that_did_not_train_is_marked_and_a_control_of_zero_steps_is_not() -> None:
    row = dict(
        backbone="vit_micro", regime="dino", protocol="finetune", source="pool", pretraining_samples_seen=40_000,
    )  # fmt: skip
    names = {"vit_micro": "vit"}
    for changes, label in (
        ({}, "vit + dino"),
        ({UNTRAINED: [False, True]}, "vit + dino, not all trained"),
        ({UNTRAINED: [True, True], "pretraining_samples_seen": 0}, "vit + dino"),
    ):
        part = pd.DataFrame([row, row]).assign(**changes)
        assert labels.label_of(part, part, names) == label

"""The level that needs no learning: of accuracy by the classes, of mean IoU by what the runs recorded, else unknown."""

import math

import pandas as pd

from bias_lab import statistics
from bias_lab.statistics.settled.headline import headline
from tests.planted import rows, table


def test_the_level_of_accuracy_is_one_over_the_classes_and_that_of_mean_iou_is_never() -> None:
    plain = table(rows(lambda run: 0.5, sizes=(30,)))
    assert statistics.chance(plain) == 0.1
    masks = plain.assign(task="segment", miou=0.5)
    assert math.isnan(statistics.chance(masks))
    assert statistics.chance(masks.assign(constant_miou=0.04)) == 0.04
    assert math.isnan(statistics.chance(pd.DataFrame({"task": []})))


def test_a_head_line_compares_masks_with_their_own_level() -> None:
    """Settled cells at 8 % mIoU are above a constant prediction of 4 %, though 1 / classes would be 10 %."""
    made = [
        one | {"task": "segment", "miou": one["top1"], "train_miou": 0.9, "settled": True, "comparison": "settled"}
        for one in rows(lambda run: 0.08 if run.backbone == "vit_micro" else 0.3, sizes=(30,), noise=0.001)
    ]
    frame = table(made).assign(constant_miou=0.04, dataset="shape_masks")
    assert "at_chance" not in headline(frame, metric="miou").sizes[0].flags
    assert "at_chance" in headline(frame.assign(constant_miou=0.1), metric="miou").sizes[0].flags
    assert headline(frame, metric="miou").sizes[0].chance == 0.04

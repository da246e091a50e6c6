"""Test that tasks, datasets and settings that do not fit masks are refused with the way out."""

from dataclasses import fields

import pytest

from bias_lab import catalogue
from bias_lab.catalogue import Task, masks, tasks
from bias_lab.definition import Run
from bias_lab.errors import UserError

NEUTRAL = {name: neutral for name, (neutral, _) in masks.REFUSED.items()}


@pytest.fixture(autouse=True)
def dense(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tasks.TASKS, "dense", Task(name="dense", dense=True, metric="miou"))


def test_a_task_and_a_dataset_must_fit() -> None:
    masks.check_masks("dense", "camvid", True, NEUTRAL)
    masks.check_masks("classify", "mnist", False, NEUTRAL)
    masks.check_masks("pretrain", "camvid", True, NEUTRAL)
    with pytest.raises(UserError, match=r"camvid has masks and no class.*'classify' can't use it.*dense"):
        masks.check_masks("classify", "camvid", True, NEUTRAL)
    with pytest.raises(UserError, match=r"mnist has a class for each image and no masks.*classify"):
        masks.check_masks("dense", "mnist", False, NEUTRAL)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mixup", 0.2), ("cutmix", 1.0), ("trivial_augment", True), ("randaugment", 9), ("balanced", True),
        ("imbalance", 10.0), ("label_noise", 0.1), ("intervention", "permute_pixels"),
    ],
)  # fmt: skip
def test_settings_without_a_meaning_for_masks_are_refused(name: str, value: object) -> None:
    with pytest.raises(UserError, match=f"{name} .*can't be used with masks: .*({name}=|leave {name} out)"):
        masks.check_masks("dense", "camvid", True, {**NEUTRAL, name: value})
    masks.check_masks("classify", "mnist", False, {**NEUTRAL, name: value})


def test_neutral_values_are_the_defaults_of_a_run() -> None:
    defaults = {field.name: field.default for field in fields(Run)}
    assert {name: defaults[name] for name in catalogue.REFUSED} == NEUTRAL

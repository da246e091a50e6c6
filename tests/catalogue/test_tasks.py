"""Tasks by name: which images evaluate them, and what they learn from."""

import pytest

from bias_lab.catalogue import TASKS, check_task
from bias_lab.errors import UserError


def test_tuning_never_reads_test_images() -> None:
    assert [name for name, task in TASKS.items() if task.evaluated_on == "test"] == ["classify", "segment"]
    for task in TASKS.values():
        if task.trials:
            trial = TASKS[task.trials]
            assert trial.evaluated_on == "holdout"
            assert (trial.module, trial.metric, trial.dense) == (task.module, task.metric, task.dense)


def test_a_pretraining_learns_from_images_and_has_no_metric() -> None:
    assert [name for name, task in TASKS.items() if task.pretrains] == ["pretrain"]
    for name, task in TASKS.items():
        assert task.name == name
        assert task.pretrains == (not task.labelled) == (not task.metric) == (not task.evaluated_on)
        assert task.pretrains == (not task.trials)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (("classify", "vit_micro", "finetune", "linear"), "a run of task 'classify' has no head, and 'linear' is one"),
        (("segment", "vit_micro", "finetune", "unet"), "vit_micro can't have the head 'unet'"),
        (("segment", "vit_micro", "knn", ""), "the protocol 'knn' can't segment; protocols that can: finetune"),
        (("segment", "pixels", "linear_probe", ""), "pixels gives no map"),
    ],
)
def test_a_task_refuses_a_part_that_it_can_not_use(parts: tuple[str, str, str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_task(*parts)


def test_a_task_takes_the_usual_parts() -> None:
    check_task("classify", "pixels", "knn", "")
    check_task("segment", "vit_micro", "finetune", "")
    check_task("tune_segment", "resnet_micro", "finetune", "unet")

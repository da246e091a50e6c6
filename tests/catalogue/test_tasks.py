"""Tasks by name: which images evaluate them, and what they learn from."""

from bias_lab.catalogue import TASKS


def test_only_one_task_reads_test_images_and_tuning_never_does() -> None:
    assert [name for name, task in TASKS.items() if task.evaluated_on == "test"] == ["classify"]
    assert TASKS["tune"].evaluated_on == "holdout"


def test_a_pretraining_learns_from_images_and_has_no_metric() -> None:
    assert [name for name, task in TASKS.items() if task.pretrains] == ["pretrain"]
    for name, task in TASKS.items():
        assert task.name == name
        assert task.pretrains == (not task.labelled) == (not task.metric) == (not task.evaluated_on)

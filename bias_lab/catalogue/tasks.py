"""Every task by name, as plain data."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a run is for. judged_on: the images that it is evaluated on (`test`, `holdout` or none)."""

    name: str
    judged_on: str
    labelled: bool
    metric: str = "top1"
    unit: str = "fraction"


TASKS = {
    task.name: task
    for task in (
        Task(name="classify", judged_on="test", labelled=True),
        Task(name="pretrain", judged_on="", labelled=False),
        Task(name="tune", judged_on="holdout", labelled=True),
    )
}

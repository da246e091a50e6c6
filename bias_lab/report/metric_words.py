"""Say what is said of accuracy in the words of another metric, where the runs of a report are evaluated in it."""

from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, cast

import pandas as pd

from bias_lab import catalogue, schema
from bias_lab.statistics.conditions import finished

Part = TypeVar("Part")
NAMES = ("name", "hue", "marker")  # fields of a page or a figure that nobody reads: file names, anchors, colours


def task_of(rows: pd.DataFrame) -> str:
    """Return the task of most finished runs that are evaluated on test images, or the usual one."""
    tasks = finished(rows)["task"].value_counts()
    return str(tasks.index[0]) if len(tasks) else str(schema.DEFAULTS["task"])


def metrics_in_words(rows: pd.DataFrame) -> str:
    """Return what differences between finished runs are measured in: 'accuracy', 'mIoU', or 'accuracy and mIoU'."""
    tasks = [str(name) for name in finished(rows)["task"].unique()] or [str(schema.DEFAULTS["task"])]
    return " and ".join(dict.fromkeys(catalogue.in_words_of(name, "accuracy") for name in tasks))


def said(part: Part, task: str) -> Part:
    """Return a page, a figure, or a collection of them with every text in the words of a task's metric.

    part: a dataclass, a tuple, a list, a dictionary or a text. Its names and numbers are the same afterwards.
    """
    return cast(Part, _said(part, task)) if catalogue.TASKS[task].phrases else part


def _said(part: Any, task: str) -> Any:
    if isinstance(part, str):
        return catalogue.in_words_of(task, part)
    if isinstance(part, tuple) and hasattr(part, "_make"):
        return part._make(_said(one, task) for one in part)
    if isinstance(part, list | tuple):
        return type(part)(_said(one, task) for one in part)
    if isinstance(part, dict):
        return {name: _said(value, task) for name, value in part.items()}
    if is_dataclass(part) and not isinstance(part, type):
        return replace(
            part, **{f.name: _said(getattr(part, f.name), task) for f in fields(part) if f.name not in NAMES}
        )
    return part

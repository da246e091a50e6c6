"""Say what is said of accuracy and of the CNNs in the words of a view: of its metric, and of its CNN if it has one."""

import re
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, cast

import pandas as pd

from bias_lab import catalogue, schema
from bias_lab.report.sentences import name_of
from bias_lab.statistics import select
from bias_lab.statistics.conditions import finished

Part = TypeVar("Part")
NAMES = ("name", "hue", "marker")  # fields of a page or a figure that nobody reads: file names, anchors, colours
ONE = {  # what is said of several CNNs, in small letters → what is said of one, the first that fits
    "the cnn family": "{}",
    "cnn family": "{}",
    "the cnns still lead": "{} still leads",
    "the cnns lead": "{} leads",
    "the cnns have": "{} has",
    "the cnns are": "{} is",
    "the cnns gain from their": "{} gains from its",
    "the cnns'": "{}'s",
    "the cnns": "{}",
    "beside cnns from scratch": "beside {} from scratch",
    "cnns'": "{}'s",
    "cnns,": "{},",
}


def task_of(rows: pd.DataFrame) -> str:
    """Return the task of most finished runs that are evaluated on test images, or the usual one."""
    tasks = finished(rows)["task"].value_counts()
    return str(tasks.index[0]) if len(tasks) else str(schema.DEFAULTS["task"])


def metrics_in_words(rows: pd.DataFrame) -> str:
    """Return what differences between finished runs are measured in: 'accuracy', 'mIoU', or 'accuracy and mIoU'."""
    tasks = [str(name) for name in finished(rows)["task"].unique()] or [str(schema.DEFAULTS["task"])]
    return " and ".join(dict.fromkeys(catalogue.in_words_of(name, "accuracy") for name in tasks))


def only_cnn(rows: pd.DataFrame) -> str:
    """Return the only CNN of a view in words, 'ResNet', or '' where it has none or several backbones of the family."""
    cnns = select(rows, "cnn")[["backbone", "architecture"]].drop_duplicates()
    return name_of(str(cnns["architecture"].iloc[0])) if len(cnns) == 1 else ""


def said(part: Part, task: str, cnn: str = "") -> Part:
    """Return a page, a figure, or a collection of them with every text in the words of a task's metric.

    part: a dataclass, a tuple, a list, a dictionary or a text. Its names and numbers are the same afterwards.
    cnn: the only CNN in words (`only_cnn`), which takes the place of the family.
    """
    return cast(Part, _said(part, task, cnn)) if cnn or catalogue.TASKS[task].phrases else part


def _said(part: Any, task: str, cnn: str) -> Any:
    if isinstance(part, str):
        return of_one(catalogue.in_words_of(task, part), cnn)
    if isinstance(part, tuple) and hasattr(part, "_make"):
        return part._make(_said(one, task, cnn) for one in part)
    if isinstance(part, list | tuple):
        return type(part)(_said(one, task, cnn) for one in part)
    if isinstance(part, dict):
        return {name: _said(value, task, cnn) for name, value in part.items()}
    if is_dataclass(part) and not isinstance(part, type):
        return replace(
            part, **{f.name: _said(getattr(part, f.name), task, cnn) for f in fields(part) if f.name not in NAMES}
        )
    return part


def of_one(text: str, cnn: str) -> str:
    """Return what is said of several CNNs, said of one.

    >>> of_one("The CNNs lead plain ViT, and the CNN family has one member", "ResNet")
    'ResNet leads plain ViT, and ResNet has one member'
    """
    return _SEVERAL.sub(lambda found: ONE[found.group().lower()].format(cnn), text) if cnn else text


_SEVERAL = re.compile(rf"(?<![\w:./])(?:{'|'.join(map(re.escape, ONE))})(?!\w)", flags=re.IGNORECASE)

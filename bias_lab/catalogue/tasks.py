"""Every task by name, as plain data: what a run learns from, which images evaluate it, and in which metric."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bias_lab.catalogue.heads import check_head
from bias_lab.catalogue.protocols import PROTOCOLS
from bias_lab.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a run is for. Defaults are those of image classification.

    module: `module:class` of the object that carries it out, a `bias_lab.training.job.Task`.
    learns: from the `labels` of the run's labelled images, or from the `images` of its source (a pretraining).
    labelled: whether a run needs labelled images, and so a `size`.
    dense: whether its labels are masks, a class for each pixel, so that a run has a head.
    evaluated_on: the images that evaluate a run, `test`, `holdout`, or empty if none do.
    metric, unit, metric_words: the number by which runs are compared (the higher the better), its unit, and its short
    name for people.
    counted: the column that tells how a run did on each test image, from which the noise of test images follows.
    chance: the column with the level that needs no learning, empty where it is one over the number of classes.
    phrases: what is said of accuracy, in small letters → what is said of its metric instead, the first that fits.
    key: what the metric is called in keys of statistics. by_class: what it is called for one class.
    trials: the task of the trials that tune its runs, empty if none do.
    """

    name: str
    module: str = "bias_lab.training.tasks.classification:Classification"
    learns: str = "labels"
    labelled: bool = True
    dense: bool = False
    evaluated_on: str = "test"
    metric: str = "top1"
    unit: str = "fraction"
    metric_words: str = "top-1"
    counted: str = "correct"
    chance: str = ""
    phrases: Mapping[str, str] = field(default_factory=dict)
    key: str = "accuracy"
    by_class: str = "accuracy"
    trials: str = ""

    @property
    def pretrains(self) -> bool:
        """Whether its result is an encoder that other runs start from."""
        return self.learns == "images"


_MASKS: dict[str, Any] = dict(
    module="bias_lab.training.tasks.segmentation:Segmentation",
    dense=True,
    metric="miou",
    metric_words="mIoU",
    counted="scores",
    chance="constant_miou",
    key="miou",
    by_class="IoU",
    phrases={
        "how much less accurate plain vit is": "how much lower the mIoU of plain ViT is",
        "is less accurate": "has a lower mIoU",
        "top-1 accuracy": "mIoU",
        "top-1": "mIoU",
        "accuracies": "mIoU values",
        "accuracy": "mIoU",
        "not shown to be above chance": "not shown to be better than one class for all pixels",
        "at chance": "no better than one class for all pixels",
        "chance,": "one class for all pixels,",
    },
)

TASKS = {
    task.name: task
    for task in (
        Task(name="classify", trials="tune"),
        Task(
            name="pretrain",
            module="bias_lab.training.tasks.pretraining:Pretraining",
            learns="images",
            labelled=False,
            evaluated_on="",
            metric="",
            unit="",
            counted="",
        ),
        # The hold-out chooses learning rates, so that test images are never read.
        Task(name="tune", evaluated_on="holdout", trials="tune"),
        Task(name="segment", trials="tune_segment", **_MASKS),
        Task(name="tune_segment", evaluated_on="holdout", trials="tune_segment", **_MASKS),
    )
}


def in_words_of(task: str, text: str) -> str:
    """Return a text about accuracy in the words of a task's metric. Names of backbones and files are left alone.

    >>> in_words_of("segment", "Accuracy on the hold-out, %"), in_words_of("classify", "test accuracy")
    ('mIoU on the hold-out, %', 'test accuracy')
    """
    phrases = TASKS[task].phrases
    if not phrases:
        return text
    pattern = rf"(?<![\w:./])(?:{'|'.join(map(re.escape, phrases))})(?![\w:/])"
    return re.sub(pattern, lambda found: phrases[found.group().lower()], text, flags=re.IGNORECASE)


def counted_by(metric: str) -> tuple[str, ...]:
    """Return the columns that tell how a run did on each test image. A run has one of them, by its task.

    Empty for a metric by which no task compares its runs.

    >>> counted_by("top1"), counted_by("ece")
    (('correct', 'scores'), ())
    """
    if metric not in [task.metric for task in TASKS.values()]:
        return ()
    return tuple(dict.fromkeys(task.counted for task in TASKS.values() if task.counted))


def check_task(task: str, backbone: str, protocol: str, head: str) -> None:
    """Raise UserError if a task can't use the backbone, the protocol or the head of a run."""
    if not TASKS[task].dense:
        if head:
            able = ", ".join(row.name for row in TASKS.values() if row.dense and row.evaluated_on == "test")
            raise UserError(f"a run of task '{task}' has no head, and '{head}' is one", f"heads are for {able}")
        return
    check_head(backbone, head)
    if not PROTOCOLS[protocol].trains:
        able = ", ".join(name for name, row in PROTOCOLS.items() if row.trains)
        raise UserError(f"the protocol '{protocol}' can't segment", f"protocols that can: {able}")

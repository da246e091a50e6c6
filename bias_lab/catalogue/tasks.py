"""Every task by name, as plain data: what a run learns from, which images evaluate it, and in which metric."""

from dataclasses import dataclass


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

    @property
    def pretrains(self) -> bool:
        """Whether its result is an encoder that other runs start from."""
        return self.learns == "images"


TASKS = {
    task.name: task
    for task in (
        Task(name="classify"),
        Task(
            name="pretrain",
            module="bias_lab.training.tasks.pretraining:Pretraining",
            learns="images",
            labelled=False,
            evaluated_on="",
            metric="",
            unit="",
        ),
        Task(name="tune", evaluated_on="holdout"),  # the hold-out chooses learning rates, so test images are never read
    )
}

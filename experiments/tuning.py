"""Which recipe, learning rate and budget suit each backbone? One search for all, evaluated on the hold-out alone.

The plain ViT may fall short only because it was tuned less. So every cell of the other experiments whose recipe,
learning rate or budget is open is searched in the same way (bias_lab/planning/ladder.py): every learning rate of one
grid at a small budget, then the images seen are doubled at the best rate, with three tuning replicates where it counts,
until a doubling gains less than 1 point. Cells at equal images are searched for their learning rate alone, at the
smallest and at the largest size. Other sizes take the rate of the nearest size in log N. Tuning draws and seeds (1000
and more) are used by no sweep. Where a size reaches into the hold-out, the largest one that does not takes its place.
Permuted images are tuned like any others. Cells with masks are searched by their mean IoU, on the ladder of their
study.
A start after a pretraining is tuned on a pretraining of its own, with seed 1000, so that the learning rate is chosen
for no encoder of the sweep. That pretraining sees all images of the pool without labels, those of the hold-out too, as
the sweep's pretrainings do. Its hold-out accuracy may therefore be a little higher than that on unseen images, for all
learning rates alike, and no label of the hold-out reaches the encoder.
Run it: make tune [PROFILE=laptop|desk|desk_1000|desk_9000|desk_pretraining|patches|shapes|full] (the sweep, then
`bias-lab tuned`, which writes experiments/tuned.json)
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from bias_lab import tuning
from bias_lab.catalogue import TASKS
from bias_lab.definition import Experiment, Run, run_id
from bias_lab.planning import experiment_files

TUNED_FOR = (  # the most important one first
    "small_data",
    "locality",
    "pretraining",
    "seed_claim",
    "imagenet_weights",
    "segmentation",
)
PROFILES = (  # those of any of these experiments
    "smoke",
    "laptop",
    "laptop_camvid",
    "desk",
    "desk_1000",
    "desk_9000",
    "desk_pretraining",
    "patches",
    "shapes",
    "full",
)
SEED = 1000  # of the pretrainings that trials start from


def experiment(profile: str) -> Experiment:
    here = Path(__file__).parent
    known = {name: profiles for name, _, profiles in experiment_files.listed()}
    asked = [name for name in TUNED_FOR if profile in known[name]]
    read = [experiment_files.read(here / f"{name}.py", profile) for name in asked]
    runs = [run for one in read for run in one.runs]
    pretrainings = {run_id(run): run for run in runs if TASKS[run.task].pretrains}
    trials = [planned for cell in cells(runs) for planned in started(cell, pretrainings)]
    question = "Which recipe, learning rate and budget suit each backbone?"
    ladders = {run.dataset: one.ladder for one in reversed(read) for run in one.runs if TASKS[run.task].dense}
    return Experiment(question=question, runs=tuple(dict.fromkeys(trials)), ladder=read[0].ladder, ladders=ladders)


def started(cell: Run, pretrainings: dict[str, Run]) -> list[Run]:
    """Return the run that stands for a cell's search, after the pretraining that its trials start from."""
    search = replace(cell, task=TASKS[cell.task].trials, draw=0, seed=0, blocks=0)
    if not search.pretraining:
        return [search]
    before = replace(pretrainings[search.pretraining], seed=SEED)
    return [before, replace(search, pretraining=run_id(before))]


def cells(runs: list[Run]) -> list[Run]:
    """Return one run of each cell to search: every settled one, then both ends of each arm at equal images.

    Of an arm's runs the first counts, so a control that shares its arm (a start of zero steps) is not searched.
    """
    found: dict[tuple[Any, ...], Run] = {}
    arms: dict[tuple[Any, ...], dict[int, Run]] = {}
    for run in runs:
        if TASKS[run.task].evaluated_on != "test" or run.learning_rate is not None:
            continue
        if run.samples_seen is None:
            found.setdefault(tuning.key(run), run)
        elif run.protocol == "finetune" and run.budget == 1:
            arm = (run.dataset, *(tuning.value(run, name) for name in tuning.ARM))
            arms.setdefault(arm, {}).setdefault(run.size, run)
    ends = [by_size[end] for by_size in arms.values() for end in sorted({min(by_size), max(by_size)})]
    return [*found.values(), *sorted(ends, key=lambda run: run.size)]

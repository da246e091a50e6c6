"""Which learning rate suits each backbone? The same grid for all, evaluated on the hold-out and never on test.

The plain ViT may fall short only because it was tuned less. So every backbone, recipe, start and intervention that
experiments/small_data.py, locality.py and pretraining.py run is given the same grid at its smallest and at its largest
size, on a draw and a seed (1000) that no sweep uses. The best accuracy on the hold-out chooses. Where the largest size
reaches into the hold-out, the largest one that does not takes its place. Other sizes take the learning rate of the
nearest size in log N. Permuted images are tuned like any others.
A start after a pretraining is tuned on a pretraining of its own, with seed 1000, so that the learning rate is chosen
for no encoder of the sweep. That pretraining sees all images of the pool without labels, those of the hold-out too, as
the sweep's pretrainings do. Its hold-out accuracy may therefore be a little higher than that on unseen images, for all
learning rates alike, and no label of the hold-out reaches the encoder.
Cost: 128 trials and 7 pretrainings (laptop).
Run it: make tune (the sweep, then `bias-lab tuned`, which writes experiments/tuned.json)
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from bias_lab import tuning
from bias_lab.definition import Experiment, Run, grid, run_id
from bias_lab.planning import checks, experiment_files

GRID = (3e-4, 1e-3, 3e-3, 1e-2)
REPLICATE = (1000, 1000)  # (draw, seed), which no sweep uses
TUNED_FOR = ("small_data", "locality", "pretraining")
PROFILES = ("smoke", "laptop", "desk", "full")  # those of any of these experiments


def experiment(profile: str) -> Experiment:
    here = Path(__file__).parent
    having = {name: profiles for name, _, profiles in experiment_files.listed()}
    asked = [name for name in TUNED_FOR if profile in having[name]]
    runs = [run for name in asked for run in experiment_files.read(here / f"{name}.py", profile).runs]
    pretrainings = {run_id(run): run for run in runs if run.task == "pretrain"}
    trials = [
        planned
        for cell in cells(runs)
        for trial in grid(replace(cell, task="tune", blocks=0), replicate=(REPLICATE,), learning_rate=GRID)
        for planned in started(trial, pretrainings)
    ]
    return Experiment(question="Which learning rate suits each backbone?", runs=tuple(dict.fromkeys(trials)))


def started(trial: Run, pretrainings: dict[str, Run]) -> list[Run]:
    """Return a trial, after the pretraining that it starts from: that of its cell, with the trial's seed."""
    if not trial.pretraining:
        return [trial]
    before = replace(pretrainings[trial.pretraining], seed=trial.seed)
    return [before, replace(trial, pretraining=run_id(before))]


def cells(runs: list[Run]) -> list[Run]:
    """Return one run of the smallest and of the largest size of each arm that is tuned, the smallest sizes first.

    Of an arm's runs the first counts, so a control that shares its arm (a start of zero steps) has no trials of its
    own. No size exceeds the largest one that leaves the hold-out alone.
    """
    arms: dict[tuple[Any, ...], dict[int, Run]] = {}
    for run in runs:
        if run.task == "classify" and run.budget == 1 and run.learning_rate is None:
            arm = (run.dataset, *(tuning.value(run, name) for name in tuning.ARM))
            arms.setdefault(arm, {}).setdefault(run.size, run)
    ends = [by_size[end] for by_size in arms.values() for end in sorted({min(by_size), max(by_size)})]
    largest = {name: summary.largest_tuned for name, summary in checks.summaries(ends, {}).items()}
    return sorted((replace(run, size=min(run.size, largest[run.dataset])) for run in ends), key=lambda run: run.size)

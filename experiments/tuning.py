"""Which learning rate suits each backbone? The same grid for all, evaluated on the hold-out and never on test.

The plain ViT may fall short only because it was tuned less. So every backbone, recipe, regime and intervention that
experiments/small_data.py and experiments/locality.py run is given the same grid at its smallest and at its largest
size, on a draw and a seed (1000) that no sweep uses. The best accuracy on the hold-out chooses. Where the largest size
reaches into the hold-out, the largest one that does not takes its place. Other sizes take the learning rate of the
nearest size in log N. Permuted images are tuned like any others.
Cost: 104 trials and one pretraining (laptop).
Run it: make tune (the sweep, then `bias-lab tuned`, which writes experiments/tuned.json)
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from bias_lab import tuning
from bias_lab.definition import Experiment, Run, grid
from bias_lab.planning import checks, experiment_files

GRID = (3e-4, 1e-3, 3e-3, 1e-2)
REPLICATE = (1000, 1000)  # (draw, seed), which no sweep uses
TUNED_FOR = ("small_data.py", "locality.py")
PROFILES = ("smoke", "laptop", "full")  # those of both experiments


def experiment(profile: str) -> Experiment:
    here = Path(__file__).parent
    runs = [run for name in TUNED_FOR for run in experiment_files.read(here / name, profile).runs]
    pretrainings = [run for run in runs if run.task == "pretrain"]
    trials = [
        trial
        for cell in cells(runs)
        for trial in grid(replace(cell, task="tune", blocks=0), replicate=(REPLICATE,), learning_rate=GRID)
    ]
    return Experiment(question="Which learning rate suits each backbone?", runs=(*pretrainings, *trials))


def cells(runs: list[Run]) -> list[Run]:
    """Return one run of the smallest and of the largest size of each arm that is tuned, the smallest sizes first.

    No size exceeds the largest one that leaves the hold-out alone.
    """
    arms: dict[tuple[Any, ...], dict[int, Run]] = {}
    for run in runs:
        if run.task == "classify" and run.budget == 1 and run.learning_rate is None:
            arm = (run.dataset, *(tuning.value(run, name) for name in tuning.ARM))
            arms.setdefault(arm, {}).setdefault(run.size, run)
    ends = [by_size[end] for by_size in arms.values() for end in sorted({min(by_size), max(by_size)})]
    largest = {name: summary.largest_tuned for name, summary in checks.summaries(ends, {}).items()}
    return sorted((replace(run, size=min(run.size, largest[run.dataset])) for run in ends), key=lambda run: run.size)

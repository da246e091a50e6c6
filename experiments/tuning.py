"""Which learning rate suits each backbone? The same grid for all, judged on the hold-out, never on test.

Whoever doubts the shortfall asks first whether the ViT was tuned. So every (backbone, recipe, regime, intervention)
that experiments/small_data.py and experiments/locality.py run is given the same grid at its smallest and its largest
size, on a draw and a seed (1000) that no sweep uses; the best hold-out accuracy chooses, and other sizes take the
nearest in log N. Permuted images are tuned like any others.
Cost: the laptop profile's was measured with the table it made, see experiments/tuned.json.
Run: make tune (the sweep, then `bias-lab tuned`, which writes experiments/tuned.json)
"""

from dataclasses import replace
from pathlib import Path

from bias_lab.definition import Experiment, Run, grid, read_experiment

GRID = (3e-4, 1e-3, 3e-3, 1e-2)
DRAW = SEED = 1000  # no sweep's
TUNED_FOR = ("small_data.py", "locality.py")


def experiment(profile: str) -> Experiment:
    here = Path(__file__).parent
    runs = tuple(run for name in TUNED_FOR for run in read_experiment(here / name, profile).runs)
    pretrainings = tuple(run for run in runs if run.task == "pretrain")
    trials: list[Run] = []
    for cell in cells(runs):
        trials += grid(replace(cell, task="tune", draw=DRAW, seed=SEED), learning_rate=GRID)
    return Experiment(question="Which learning rate suits each backbone?", runs=pretrainings + tuple(trials))


def cells(runs: tuple[Run, ...]) -> list[Run]:
    """One run of the smallest and the largest size of each thing that is tuned (the key below), cheapest first."""
    sizes: dict[tuple[str, ...], dict[int, Run]] = {}
    for run in runs:
        if run.task == "classify" and run.budget == 1 and run.learning_rate is None:
            key = (run.dataset, run.backbone, run.recipe, run.regime, run.intervention)
            sizes.setdefault(key, {}).setdefault(run.size, run)
    ends = [by_size[end] for by_size in sizes.values() for end in sorted({min(by_size), max(by_size)})]
    return sorted(ends, key=lambda run: run.size)

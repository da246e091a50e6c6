"""Which recipe, learning rate and budget suit each backbone? One search for all, evaluated on the hold-out alone.

The plain ViT may fall short only because it was tuned less. So every cell of the other experiments whose recipe,
learning rate or budget is open is searched in the same way (bias_lab/planning/ladder.py): every learning rate of one
grid at a small budget, then the images seen are doubled at the best rate, with three tuning replicates where it counts,
until a doubling gains less than 1 point. Cells at equal images are searched for their learning rate alone, at the
smallest and at the largest size. Other sizes take the rate of the nearest size in log N. Tuning draws and seeds (1000
and more) are used by no sweep. Where a size reaches into the hold-out, the largest one that does not takes its place.
Permuted images are tuned like any others.
Run it: make tune [PROFILE=laptop|desk|full] (the sweep, then `bias-lab tuned`, which writes experiments/tuned.json)
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from bias_lab import tuning
from bias_lab.definition import Experiment, Run
from bias_lab.planning import experiment_files

TUNED_FOR = ("small_data", "locality")  # experiments, the most important one first
PROFILES = ("smoke", "laptop", "desk", "full")  # those of these experiments


def experiment(profile: str) -> Experiment:
    here = Path(__file__).parent
    read = [experiment_files.read(here / f"{name}.py", name_of) for name, name_of in profiles(profile)]
    runs = [run for one in read for run in one.runs]
    pretrainings = [run for run in runs if run.task == "pretrain"]
    trials = [replace(cell, task="tune", draw=0, seed=0, blocks=0) for cell in cells(runs)]
    question = "Which recipe, learning rate and budget suit each backbone?"
    return Experiment(question=question, runs=(*pretrainings, *dict.fromkeys(trials)), ladder=read[0].ladder)


def profiles(profile: str) -> list[tuple[str, str]]:
    """Return the experiments that have this profile, with its name."""
    known = {name: listed for name, _, listed in experiment_files.listed()}
    return [(name, profile) for name in TUNED_FOR if profile in known[name]]


def cells(runs: list[Run]) -> list[Run]:
    """Return one run of each cell to search: every settled one, and at equal images both ends of each arm."""
    found: dict[tuple[Any, ...], Run] = {}
    arms: dict[tuple[Any, ...], dict[int, Run]] = {}
    for run in runs:
        if run.task != "classify" or run.learning_rate is not None:
            continue
        if run.samples_seen is None:
            found.setdefault((*tuning.key(run), "settled"), run)
        elif run.protocol == "finetune" and run.budget == 1:
            arm = (run.dataset, *(tuning.value(run, name) for name in tuning.ARM))
            arms.setdefault(arm, {}).setdefault(run.size, run)
    ends = [by_size[end] for by_size in arms.values() for end in sorted({min(by_size), max(by_size)})]
    return [*found.values(), *sorted(ends, key=lambda run: run.size)]

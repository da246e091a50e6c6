"""Carry out the trials of a plan, each as soon as what it depends on is known, and adopt what they show."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from bias_lab import ledger, tuning
from bias_lab.definition import Run, pretrains, run_id
from bias_lab.execution.progress import print_line
from bias_lab.planning import ladder, learning_rates
from bias_lab.planning.plan import Plan

Follow = Callable[[Run], Sequence[Run]]  # runs that can start now that this run has ended
CarryOut = Callable[[Sequence[Run], Follow], None]


def tune(plan: Plan, carry_out: CarryOut, folder: Path, command: str, console: Console) -> tuple[Run, ...]:
    """Search all cells of a plan, write FOLDER/tuned.json, and return all trials of the search.

    The budgets that were tried are printed as they end.

    carry_out: carries out runs, and those that its second argument returns for each of them that ends.
    """
    score = ladder.reader(folder)
    searches = [ladder.explore(cell, how, score) for cell, how in zip(plan.searched, plan.ladders, strict=True)]
    place = {run: k for k, cell in enumerate(searches) for search in cell for run in search.asked}
    asked = set(place)
    printed: set[str] = set()

    def follow(run: Run) -> list[Run]:
        if run not in place:
            return []  # a pretraining
        k = place[run]
        searches[k] = ladder.explore(plan.searched[k], plan.ladders[k], score)
        for search in searches[k]:
            for line in ladder.rung_lines(search.cell, search.rungs()):
                if line not in printed:
                    printed.add(line)
                    print_line(console, line)
        new = [trial for search in searches[k] for trial in search.missing if trial not in asked]
        asked.update(new)
        place.update(dict.fromkeys(new, k))
        return new

    named = {trial.pretraining for trial in asked}
    first = [run for run in plan.runs if pretrains(run) and run_id(run) in named]
    to_do = [trial for cell in searches for search in cell for trial in search.missing]
    finished = [trial for trial in asked if ledger.state(folder, run_id(trial)) == "finished"]
    carry_out((*first, *finished, *to_do), follow)
    adopt_trials(list(asked), folder, command)
    return tuple(place)


def adopt_trials(trials: Iterable[Run], folder: Path, command: str) -> int:
    """Choose values from the trials that were carried out, add them to FOLDER/tuned.json, and return their number.

    command: what the user typed, which the file keeps.
    """
    rows = chosen(trials, folder)
    learning_rates.write(folder / ledger.TUNED, rows, command)
    return len(rows)


def chosen(trials: Iterable[Run], folder: Path) -> list[dict[str, Any]]:
    """Return the rows of the tuning table that the carried-out trials of a folder give. Raises as `ladder.choose`.

    Cells of which some learning rates are still to be tried have no row (`waiting`).
    """
    trials = list(trials)
    states = {run: ledger.state(folder, run_id(run)) for run in trials}
    open_cells = waiting(states)
    ended = [run for run, state in states.items() if state in ledger.ENDED and tuning.key(run) not in open_cells]
    measured = {run_id(run): ladder.measured(run, folder) for run in ended if states[run] == "finished"}
    return ladder.choose(ended, {name: top1 for name, top1 in measured.items() if top1 is not None})


def waiting(states: Mapping[Run, str]) -> dict[tuple[Any, ...], Run]:
    """Return the tuned cells (`tuning.key`) of which some learning rates are still to be tried, each with such a trial.

    states: trial → its state in the ledger. A rate chosen among the others would not be tuned equally, and the grid of
    the whole table would lack the rest (`Rates.grid`). Learning rates are tried at the smallest budget.
    """
    cells: dict[tuple[Any, ...], list[Run]] = defaultdict(list)
    for run in states:
        cells[tuning.key(run)].append(run)
    found = {}
    for key, group in cells.items():
        least = min(run.samples_seen or 0 for run in group)
        still = [run for run in group if (run.samples_seen or 0) == least and states[run] not in ledger.ENDED]
        if still:
            found[key] = still[0]
    return found

"""Print what a sweep would do, the minutes first: `--dry-run`, and with `--list` a line for each run."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bias_lab import schema
from bias_lab.catalogue import costs
from bias_lab.cli import terminal
from bias_lab.definition import Run, images_seen, run_id
from bias_lab.errors import plural
from bias_lab.execution import run_sweep
from bias_lab.execution import status as state
from bias_lab.execution.clock import Clock
from bias_lab.execution.progress import duration, print_line
from bias_lab.planning import plan as planning
from bias_lab.planning.plan import Plan


def show(console: Console, plan: Plan, folder: Path, workers: int, absent: Sequence[str], *, rows: bool) -> None:
    """Print the plan of a sweep: how long it takes, notes and warnings, and its cells.

    workers: number of runs at a time. absent: lines about datasets that are not on this machine. rows: whether each run
    is listed too. A run whose learning rate has yet to be tuned has no id.
    """
    listed = [entry["run_id"] for entry in planning.listed(plan, folder)]
    states = state.states(folder, listed)
    to_do = [run for run in plan.all() if states[run_id(run)] in ("missing", "started")]
    for line in forecast(plan, folder, to_do, workers):
        print_line(console, line, "bold")
    print_line(console, counts(plan, states, to_do))
    for line in (*plan.notes, *(f"warning: {text}" for text in (*plan.warnings, *absent))):
        print_line(console, line)
    if rows:
        runs(console, plan)
        return
    kinds = {run_id(run): run for run in plan.all()}
    terminal.table(console, *state.cells(kinds, {name: states[name] for name in kinds}))
    print_line(console, "finished/planned runs of each cell; to list every run, add --list", "dim")


def forecast(plan: Plan, folder: Path, to_do: Sequence[Run], workers: int) -> list[str]:
    """Return a line on how long the runs to do take, and on what this estimate is based."""
    if not to_do:
        return ["nothing is left to do: every run of the plan is finished or failed"]
    clock = Clock(to_do, workers)
    known = run_sweep.durations(plan, folder)
    for run, seconds in known:
        clock.add(run, seconds)
    at_once = f"{min(workers, len(to_do))} at a time"
    line = f"about {duration(clock.estimate())} for {plural(len(to_do), 'run')}, {at_once}"
    if plan.searched:
        line += ", and more for trials that depend on these"
    if known:
        return [f"{line} (by {plural(len(known), 'finished run')} in {folder})"]
    new = sorted({run.backbone for run in to_do if not costs.is_measured(run.backbone)})
    guessed = f"; {', '.join(new[:3])}{', …' if len(new) > 3 else ''} not measured, a guess" if new else ""
    return [f"{line} (by runs on one busy CPU core each{guessed}; the first runs will tell)"]


def counts(plan: Plan, states: dict[str, str], to_do: Sequence[Run]) -> str:
    """Return the number of runs, of those that are finished, and of the images that the others see."""
    finished = sum(one == "finished" for one in states.values())
    failed = sum(one in ("failed", "diverged") for one in states.values())
    parts = [plural(len(states), "run"), *([f"{finished:,} finished"] if finished else [])]
    parts += [f"{failed:,} failed"] if failed else []
    known = [run for run in to_do if run.samples_seen is not None]
    parts.append(f"{round(sum(map(images_seen, known))):,} images to be seen")
    after = "; the settled budgets come on top" if len(known) < len(to_do) else ""
    after = after or ("; further trials depend on these" if plan.searched else "")
    return ", ".join(parts) + after


def runs(console: Console, plan: Plan) -> None:
    """Print a line for each run of a plan, in order."""
    labels = schema.labels(plan.all())
    for run in plan.all():
        words = labels[run_id(run)]
        rate = f"lr {run.learning_rate:g}" if run.learning_rate else ""
        if run in plan.pending:
            budget = " and budget" if run.samples_seen is None else ""
            print_line(console, f"{'?' * 12}  {words}  learning rate{budget} to be tuned")
        else:
            print_line(console, f"{run_id(run)}  {words}" + (f"  {rate}" if rate not in words else ""))

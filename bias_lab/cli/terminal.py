"""Print tables, the state of a folder, a run and a plan in the terminal."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bias_lab import schema
from bias_lab.definition import Run, images_seen, run_id
from bias_lab.errors import plural
from bias_lab.execution import status as state
from bias_lab.execution.progress import print_line
from bias_lab.execution.status import Status
from bias_lab.planning.plan import Plan

UNCUT = 10_000  # characters of a line that no table reaches


def console() -> Console:
    """Return a console for standard output. Where that is not a terminal, tables are as wide as their text."""
    return Console() if sys.stdout.isatty() else Console(width=UNCUT)


def table(console: Console, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table with figures right-aligned and words left-aligned.

    In a narrow terminal, columns of words (the first excepted) wrap. Figures and names are never cut: if these alone
    are wider than the terminal, lines are longer than its width.
    """
    grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False, header_style="dim")
    for place, name in enumerate(header):
        cells = [row[place] for row in rows if row[place]]
        figures = place > 0 and all(cell[0].isdigit() for cell in cells)
        whole = max(map(len, [name, *cells])) if figures or place == 0 else None
        grid.add_column(name, justify="right" if figures else "left", no_wrap=whole is not None, min_width=whole)
    for row in rows:
        grid.add_row(*map(Text, row))
    console.width = max(console.width, console.measure(grid, options=console.options.update(width=UNCUT)).minimum)
    console.print(grid)


def folder(console: Console, current: Status) -> None:
    """Print what `bias-lab status` shows: the counts, the table of cells, why runs failed, and what to do next."""
    print_line(console, state.headline(current), "bold")
    if current.head.get("question"):
        print_line(console, current.head["question"], "dim")
    table(console, *state.table(current))
    for name, failure in current.failures.items():
        words = schema.label(current.runs[name])
        print_line(console, f"{failure['reason']}  {name}  {words}: {failure['exception']}", "red")
    for line in state.advice(current):
        print_line(console, line)


def run(console: Console, known: Mapping[str, Any]) -> None:
    """Print what `bias-lab show` shows. known: what `status.describe` returned."""
    print_line(console, f"{known['run_id']}  {known['label']}  ({known['state']})", "bold")
    for title, rows in state.sections(known):
        print_line(console, title, "dim")
        width = max(len(key) for key, _ in rows)
        for key, value in rows:
            print_line(console, f"  {key:<{width}}  {value}" if width else f"  {value}")


def plan(console: Console, plan: Plan, absent: Sequence[str] = ()) -> None:
    """Print what `--dry-run` shows: notes, warnings, and the runs in order.

    A run whose learning rate has yet to be tuned has no id. absent: lines about datasets that are not on this machine.
    """
    for line in (*plan.notes, *(f"warning: {text}" for text in (*plan.warnings, *absent))):
        print_line(console, line)
    labels = schema.labels(plan.all())
    for run in plan.all():
        words = labels[run_id(run)]
        rate = f"lr {run.learning_rate:g}" if run.learning_rate else ""
        if run in plan.pending:
            print_line(console, f"{'?' * 12}  {words}  learning rate{_budget(run)} to be tuned")
        else:
            print_line(console, f"{run_id(run)}  {words}" + (f"  {rate}" if rate not in words else ""))
    known = [run for run in plan.all() if run.samples_seen is not None]
    seen = sum(round(images_seen(run)) for run in known)
    after = "; the settled budgets come on top" if len(known) < len(plan.all()) else ""
    after = after or ("; further trials depend on these" if plan.searched else "")
    print_line(console, f"{plural(len(plan.all()), 'run')}, {seen:,} images to be seen{after}")


def _budget(run: Run) -> str:
    return " and budget" if run.samples_seen is None else ""

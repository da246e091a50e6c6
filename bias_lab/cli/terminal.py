"""Print tables, the state of a folder, a run and a plan in the terminal."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bias_lab import schema
from bias_lab.errors import plural
from bias_lab.execution import status as state
from bias_lab.execution.progress import print_line
from bias_lab.execution.status import Status

SHOWN = 8  # finished runs that `bias-lab status` lists
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
    ended = [name for name, word in current.states.items() if word == "finished"]
    if ended:
        table(console, *state.listing(current, ended[:SHOWN]))
        if len(ended) > SHOWN:
            print_line(console, f"… and {len(ended) - SHOWN:,} more: bias-lab runs {current.folder} [WORDS]", "dim")
        print_line(console, state.weights_line(current.folder), "dim")
    for line in state.advice(current):
        print_line(console, line)


def runs(console: Console, current: Status, names: Sequence[str]) -> None:
    """Print what `bias-lab runs` shows: a table of these runs, and where their weights lie."""
    print_line(console, f"{len(names):,} of {plural(len(current.runs), 'run')} in {current.folder}", "bold")
    if names:
        table(console, *state.listing(current, names))
        print_line(console, state.weights_line(current.folder), "dim")


def run(console: Console, known: Mapping[str, Any]) -> None:
    """Print what `bias-lab show` shows. known: what `status.describe` returned."""
    print_line(console, f"{known['run_id']}  {known['label']}  ({known['state']})", "bold")
    for title, rows in state.sections(known):
        print_line(console, title, "dim")
        width = max(len(key) for key, _ in rows)
        for key, value in rows:
            print_line(console, f"  {key:<{width}}  {value}" if width else f"  {value}")

"""What the terminal shows besides a sweep's progress: tables, a folder's state, a run, a plan."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from bias_lab.definition import label, run_id
from bias_lab.errors import plural
from bias_lab.execution import status as state
from bias_lab.execution.status import Status
from bias_lab.planning.learning_rates import needs_rate
from bias_lab.planning.plan import Plan

GAP = "  "  # between columns


def say(console: Console, text: str, style: str = "") -> None:
    """One line as it is: no markup, no colours of rich's own, never broken by us."""
    console.print(text, style=style or None, highlight=False, markup=False, soft_wrap=True)


def table(console: Console, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns of figures to the right, of words to the left; where the width is short, the last column is cut."""
    every = [header, *rows]
    widths = [max(len(row[place]) for row in every) for place in range(len(header))]
    figures = [
        place > 0 and all(row[place][:1].isdigit() for row in rows if row[place]) for place in range(len(header))
    ]
    widths[-1] = max(len(header[-1]), min(widths[-1], console.width - sum(widths[:-1]) - len(GAP) * (len(widths) - 1)))

    def line(row: Sequence[str]) -> str:
        cells = []
        for text, width, right in zip(row, widths, figures, strict=True):
            fits = text if len(text) <= width else text[: width - 1] + "…"
            cells.append(fits.rjust(width) if right else fits.ljust(width))
        return GAP.join(cells).rstrip()

    say(console, line(header), "dim")
    say(console, GAP.join("─" * width for width in widths), "dim")
    for row in rows:
        say(console, line(row))


def folder(console: Console, now: Status) -> None:
    """`bias-lab status`: the counts, the grid of cells, why runs failed, what to type next."""
    say(console, state.headline(now), "bold")
    if now.head.get("question"):
        say(console, now.head["question"], "dim")
    table(console, *state.table(now))
    for name, failure in now.failures.items():
        say(console, f"{failure['reason']}  {name}  {label(now.runs[name])}: {failure['exception']}", "red")
    for line in state.advice(now):
        say(console, line)


def run(console: Console, told: dict[str, Any]) -> None:
    """`bias-lab show`: a run's definition, its result or failure, how to repeat it."""
    say(console, f"{told['run_id']}  {told['label']}  ({told['state']})", "bold")
    for title, rows in state.sections(told):
        say(console, title, "dim")
        width = max(len(key) for key, _ in rows)
        for key, value in rows:
            say(console, f"  {key:<{width}}  {value}" if width else f"  {value}")


def plan(console: Console, made: Plan, absent: Sequence[str] = ()) -> None:
    """`--dry-run`: notes, warnings, and the runs in order; those whose learning rate is to be tuned have no id yet.

    absent: lines about datasets that are not at hand.
    """
    for line in (*made.notes, *(f"warning: {text}" for text in (*made.warnings, *absent))):
        say(console, line)
    for one in made.all():
        if needs_rate(one):
            say(console, f"{'?' * 12}  {label(one)}  learning rate to be tuned")
        else:
            rate = f"  lr {one.learning_rate:g}" if one.learning_rate and one.task != "tune" else ""
            say(console, f"{run_id(one)}  {label(one)}{rate}")
    seen = sum(round(one.samples_seen * one.budget) for one in made.all())
    say(console, f"{plural(len(made.all()), 'run')}, {seen:,} images to be seen")

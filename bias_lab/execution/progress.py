"""Show the progress of a sweep in the terminal."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn

from bias_lab import ledger
from bias_lab.catalogue import TASKS
from bias_lab.definition import Run, run_id, steps
from bias_lab.execution.clock import Clock

LOSS = "train/loss"  # in a row of metrics
QUIET = 20.0  # seconds between two lines about one run where no terminal shows a bar


def print_line(console: Console, text: str, style: str = "") -> None:
    """Print one line as it is, without rich's markup or colours, and never broken."""
    console.print(text, style=style or None, highlight=False, markup=False, soft_wrap=True)


def duration(seconds: float | None) -> str:
    """Return a duration as text: `40 s`, `14 min`, `2 h 05 min`, `3 d 4 h`."""
    if seconds is None:
        return "time left not known yet"
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


class Steps:
    """Read how far a run is from the rows of metrics that it has written so far, about twenty a run.

    The run itself does nothing for it, so that its results keep their bytes.
    """

    def __init__(self, folder: Path, run: Run, total: int) -> None:
        """folder: the sweep's. total: the number of steps of the run."""
        self.here, self.run, self.total = ledger.run_folder(folder, run_id(run)), run, total

    def read(self) -> tuple[int, float | None]:
        """Return the last step that was recorded, 0 before the first one, and the training loss there."""
        try:
            text = ledger.metrics_file(self.here).read_text(encoding="utf-8")
        except OSError:  # none is written yet, or it is just being published
            return 0, None
        rows = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
        losses = [row for row in rows if LOSS in row]
        return (int(losses[-1]["step"]), float(losses[-1][LOSS])) if losses else (0, None)


def share_done(folder: Path, run: Run) -> float:
    """Return the share of a run's steps that was recorded so far, 0 for one that was never begun."""
    total = steps(run)
    return min(1.0, Steps(folder, run, total).read()[0] / total) if total else 0.0


class Display:
    """Print one line for each run that ended. At a terminal, a bar with counts stands below these lines.

    While a single run is under way, its steps, its loss and the time left are shown too: in the bar, or without a
    terminal as a line now and then.
    """

    def __init__(
        self, labels: Mapping[str, str], known: Mapping[str, str], clock: Clock, console: Console, folder: Path
    ) -> None:
        """labels: run_id → words for runs of the plan. known: run_id → state before, of every run of the folder."""
        self.labels: dict[str, str] = {}
        self.begin_again(labels, known)
        self.clock, self.console, self.folder = clock, console, folder
        self.bar: Progress | None = None
        self.last: tuple[str, int] = ("", 0)  # the run and the step of the last line about one run
        self.looked = self.said = clock.now()

    @property
    def total(self) -> int:
        """The number of runs of the sweep, which grows while a search for learning rates goes on."""
        return len(self.listed)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            columns = BarColumn(bar_width=24), TextColumn("{task.description}")
            self.bar = Progress(*columns, console=self.console, refresh_per_second=2, transient=True)
            self.bar.start()
            self.task = self.bar.add_task(self.counts(), total=self.total, completed=self.done)
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()

    def extend(self, labels: Mapping[str, str]) -> None:
        """Add runs that are to be carried out too. labels: as at the start."""
        self.labels.update(labels)
        self.listed.update(dict.fromkeys(labels))

    def begin_again(self, labels: Mapping[str, str], known: Mapping[str, str]) -> None:
        """Show another plan of the same sweep, in which values that were open are filled in. As at the start."""
        self.labels.update(labels)
        self.listed = dict.fromkeys(known)
        self.done = sum(state == "finished" for state in known.values())
        self.failed = sum(state in ("failed", "diverged") for state in known.values())

    def tick(self) -> None:
        """Update the bar, and once a second what is shown of a single run."""
        alone = ""
        if len(self.clock.under_way) == 1 and (self.bar or self.clock.now() - self.looked >= 1):
            self.looked = self.clock.now()
            alone = self._alone()
        if self.bar:
            done = self.done + self.failed
            self.bar.update(self.task, description=self.counts() + alone, completed=done, total=self.total)

    def _alone(self) -> str:
        """Return what is known of the one run under way. Without a terminal, print it if it is news."""
        (run,) = (known.run for known in self.clock.under_way.values())
        total = steps(run)
        step, loss = Steps(self.folder, run, total).read()
        if not step or loss is None or not total:
            return ""
        left = self.clock.advance(run, min(1.0, step / total))
        text = f"step {step:,} of {total:,}, loss {loss:.3f}" + (f", {duration(left)} left" if left is not None else "")
        news = self.last != (run_id(run), step) and self.clock.now() - self.said >= QUIET
        if news and not self.bar:
            self.last, self.said = (run_id(run), step), self.clock.now()
            print_line(self.console, f"  {self.labels[run_id(run)]}: {text}")
        return f" · {text}"

    def counts(self) -> str:
        """Return the counts beside the bar: `84/96 done · 2 running · 1 failed · 5 min left`."""
        failed = f" · {self.failed} failed" if self.failed else ""
        left = self.clock.left()
        ahead = duration(left) + (" left" if left is not None else "")
        return f"{self.done}/{self.total} done · {len(self.clock.under_way)} running{failed} · {ahead}"

    def run_finished(self, run: Run, seconds: float, score: float | None) -> None:
        """Print a line for a finished run. score: the metric of its task, None if it has none."""
        self.done += 1
        metric = f"  {TASKS[run.task].metric_words} {score:.3f}" if score is not None else ""
        self._line("[green]✓[/]", f"{self.labels[run_id(run)]}{metric}  {duration(seconds)}")

    def run_failed(self, run: Run, exception: str) -> None:
        """Print a line for a failed run."""
        self.failed += 1
        self._line("[red]✗[/]", f"{self.labels[run_id(run)]}  failed: {exception}")

    def _line(self, mark: str, text: str) -> None:
        self.said = self.clock.now()
        if self.bar:
            self.console.print(f"{mark} {escape(text)}", highlight=False)
        else:
            left = self.clock.left()
            ahead = f"  ({duration(left)} left)" if left is not None else ""
            print_line(self.console, f"[{self.done + self.failed}/{self.total}] {text}{ahead}")

"""Show the progress of a sweep in the terminal, and estimate the time left."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn

from bias_lab.catalogue import TASKS
from bias_lab.definition import Run, images_seen, run_id

Kind = tuple[str, str, int | None]  # task, backbone, image size


def print_line(console: Console, text: str, style: str = "") -> None:
    """Print one line as it is, without rich's markup or colours, and never broken."""
    console.print(text, style=style or None, highlight=False, markup=False, soft_wrap=True)


class Clock:
    """Estimate the time left from the seconds per image that runs of each kind have taken so far."""

    def __init__(self, runs: Iterable[Run], workers: int, *, now: Callable[[], float] = time.monotonic) -> None:
        """runs: those to carry out. workers: how many are carried out at a time. now: the time in seconds."""
        self.workers, self.now = max(workers, 1), now
        self.images_left = Counter[Kind]()
        self.spent: dict[Kind, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))  # seconds, images
        self.under_way: dict[str, tuple[Run, float]] = {}
        self.extend(runs)

    def extend(self, runs: Iterable[Run]) -> None:
        """Add runs that are to be carried out too."""
        for run in runs:
            self.images_left[_kind(run)] += _images(run)

    def add(self, run: Run, seconds: float) -> None:
        """Add the duration of a finished run, of this sweep or an earlier one. One of zero steps tells no speed."""
        if not _images(run):
            return
        before, images = self.spent[_kind(run)]
        self.spent[_kind(run)] = (before + seconds, images + _images(run))

    def begin(self, run: Run) -> None:
        """Record the start of a run."""
        self.under_way[run_id(run)] = (run, self.now())

    def end(self, run: Run, *, finished: bool) -> float:
        """Record the end of a run and return the seconds that it took."""
        _, began = self.under_way.pop(run_id(run), (run, self.now()))
        seconds = self.now() - began
        self.images_left[_kind(run)] -= _images(run)
        if finished:
            self.add(run, seconds)
        return seconds

    def left(self) -> float | None:
        """Return the estimated seconds left, or None before any run has finished.

        A kind of which no run has finished is estimated by the average of all kinds.
        """
        seconds, images = (sum(values) for values in zip(*self.spent.values(), strict=True)) if self.spent else (0, 0)
        if not images:
            return None
        average = seconds / images
        known = {kind: cost / seen for kind, (cost, seen) in self.spent.items() if seen}
        ahead = sum(count * known.get(kind, average) for kind, count in self.images_left.items())
        elapsed = sum(
            min(self.now() - began, _images(run) * known.get(_kind(run), average))
            for run, began in self.under_way.values()
        )
        return max(0.0, ahead - elapsed) / min(self.workers, max(len(self.under_way), 1))


def _kind(run: Run) -> Kind:
    return run.task, run.backbone, run.image_size


def _images(run: Run) -> int:
    return round(images_seen(run))


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


class Display:
    """Print one line for each run that ended. At a terminal, a bar with counts stands below these lines."""

    def __init__(self, labels: Mapping[str, str], done: int, clock: Clock, console: Console) -> None:
        """labels: run_id → words for each run of the plan. done: number of runs that were finished before."""
        self.labels, self.total, self.done, self.failed = dict(labels), len(labels), done, 0
        self.clock, self.console = clock, console
        self.bar: Progress | None = None

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
        self.total = len(self.labels)

    def tick(self) -> None:
        """Update the bar."""
        if self.bar:
            done = self.done + self.failed
            self.bar.update(self.task, description=self.counts(), completed=done, total=self.total)

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
        if self.bar:
            self.console.print(f"{mark} {escape(text)}", highlight=False)
        else:
            left = self.clock.left()
            ahead = f"  ({duration(left)} left)" if left is not None else ""
            print_line(self.console, f"[{self.done + self.failed}/{self.total}] {text}{ahead}")

"""What the terminal shows of a sweep: runs done, running, failed, time left; plain lines where there is no terminal."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn

from bias_lab.definition import Run, label, run_id

Kind = tuple[str, str, int | None]  # task, backbone, image size


class Clock:
    """Time left, from the seconds that an image seen has cost so far for each kind of run."""

    def __init__(self, runs: Iterable[Run], workers: int, *, now: Callable[[], float] = time.monotonic) -> None:
        self.workers, self.now = max(workers, 1), now
        self.left_over = Counter[Kind]()  # images still to be seen
        self.spent: dict[Kind, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))  # seconds, images
        self.under_way: dict[str, tuple[Run, float]] = {}
        for run in runs:
            self.left_over[_kind(run)] += _images(run)

    def learn(self, run: Run, seconds: float) -> None:
        """A finished run's cost, of this sweep or an earlier one."""
        before, images = self.spent[_kind(run)]
        self.spent[_kind(run)] = (before + seconds, images + _images(run))

    def begin(self, run: Run) -> None:
        self.under_way[run_id(run)] = (run, self.now())

    def end(self, run: Run, *, finished: bool) -> float:
        """Seconds that it took."""
        _, began = self.under_way.pop(run_id(run), (run, self.now()))
        seconds = self.now() - began
        self.left_over[_kind(run)] -= _images(run)
        if finished:
            self.learn(run, seconds)
        return seconds

    def left(self) -> float | None:
        """Seconds; None before anything is known."""
        seconds, images = (sum(values) for values in zip(*self.spent.values(), strict=True)) if self.spent else (0, 0)
        if not images:
            return None
        usual = seconds / images
        known = {kind: cost / seen for kind, (cost, seen) in self.spent.items() if seen}
        ahead = sum(count * known.get(kind, usual) for kind, count in self.left_over.items())
        elapsed = sum(
            min(self.now() - began, _images(run) * known.get(_kind(run), usual))
            for run, began in self.under_way.values()
        )
        return max(0.0, ahead - elapsed) / min(self.workers, max(len(self.under_way), 1))


def _kind(run: Run) -> Kind:
    return run.task, run.backbone, run.image_size


def _images(run: Run) -> int:
    return round(run.samples_seen * run.budget)


def spoken(seconds: float | None) -> str:
    """A duration as one says it: `40 s`, `14 min`, `2 h 05 min`, `3 d 4 h`."""
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


class Show:
    """The sweep's face while it runs: a bar with counts below lines of finished runs, or the lines alone."""

    def __init__(self, total: int, done: int, clock: Clock, console: Console) -> None:
        """total: runs of the plan; done: those finished before."""
        self.total, self.done, self.failed, self.clock, self.console = total, done, 0, clock, console
        self.bar: Progress | None = None

    def __enter__(self) -> "Show":
        if self.console.is_terminal:
            columns = BarColumn(bar_width=24), TextColumn("{task.description}")
            self.bar = Progress(*columns, console=self.console, refresh_per_second=2, transient=True)
            self.bar.start()
            self.task = self.bar.add_task(self.counts(), total=self.total, completed=self.done)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar:
            self.bar.stop()

    def tick(self) -> None:
        if self.bar:
            self.bar.update(self.task, description=self.counts(), completed=self.done + self.failed)

    def counts(self) -> str:
        failed = f" · {self.failed} failed" if self.failed else ""
        left = self.clock.left()
        ahead = spoken(left) + (" left" if left is not None else "")
        return f"{self.done}/{self.total} done · {len(self.clock.under_way)} running{failed} · {ahead}"

    def finished(self, run: Run, seconds: float, top1: float | None) -> None:
        self.done += 1
        score = f"  top-1 {top1:.3f}" if top1 is not None else ""
        self._line("[green]✓[/]", f"{label(run)}{score}  {spoken(seconds)}")

    def failed_run(self, run: Run, exception: str) -> None:
        self.failed += 1
        self._line("[red]✗[/]", f"{label(run)}  failed: {exception}")

    def say(self, text: str) -> None:
        self.console.print(escape(text), highlight=False, soft_wrap=True)

    def _line(self, mark: str, text: str) -> None:
        number = self.done + self.failed
        if self.bar:
            self.console.print(f"{mark} {escape(text)}", highlight=False)
        else:
            left = self.clock.left()
            ahead = f"  ({spoken(left)} left)" if left is not None else ""
            self.console.print(escape(f"[{number}/{self.total}] {text}{ahead}"), highlight=False, soft_wrap=True)

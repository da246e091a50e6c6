"""Run a sweep from its plan to its end: carry out missing runs, record failures, keep the report up to date."""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from bias_lab import ledger, schema
from bias_lab.definition import Run, Settings, run_id
from bias_lab.errors import NOTE, plural
from bias_lab.execution.clock import Clock
from bias_lab.execution.engine import Engine, Event, open_engine
from bias_lab.execution.progress import Display, print_line, share_done
from bias_lab.execution.publisher import Publisher
from bias_lab.execution.queue import Queue
from bias_lab.execution.status import codes, other_code, states
from bias_lab.execution.tune import Follow, adopt_trials, tune
from bias_lab.planning import ladder
from bias_lab.planning import plan as planning
from bias_lab.planning.plan import Plan

DURATIONS = 200  # earlier runs from whose durations the time left is estimated


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a sweep is carried out.

    engine: a name in `catalogue.ENGINES`. retry_failed: carry out failed runs again, except diverged ones.
    redo_changed: carry out finished runs again that came from different code. keep: keep runs of earlier plans listed
    even if they are unfinished (for a folder of single runs). recorded: a line on where runs are recorded, which is
    printed once the runs have been checked.
    """

    engine: str = "local"
    retry_failed: bool = False
    redo_changed: bool = False
    keep: bool = False
    recorded: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A failed run, with the reason and exception of its failure.json."""

    run: Run
    reason: str
    exception: str

    def __str__(self) -> str:
        return f"{run_id(self.run)}  {schema.label(self.run)}: {self.exception}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a sweep ended.

    plan: the last one, its open values filled in. finished, total: numbers of runs that the folder lists. blocked: runs
    whose pretraining failed.
    """

    plan: Plan
    finished: int
    total: int
    failures: tuple[Failure, ...]
    blocked: tuple[Run, ...]

    @property
    def exit_code(self) -> int:
        """1 if a run failed or is blocked, else 0."""
        return 1 if self.failures or self.blocked else 0


def run_sweep(
    make: Callable[[], Plan],
    folder: Path,
    settings: Settings,
    options: Options,
    *,
    publish: Callable[[], None],
    console: Console,
) -> Outcome:
    """Carry out the runs of a plan that are not finished in the folder, and return how that ended.

    make: returns the plan. It is called again after the tuning trials, which settle the open learning rates.
    folder: the sweep's, claimed by the caller. publish: rewrites table and report, first before any run starts.
    Raise UserError for a user's mistake that planning or the preflight finds, before anything is written to `runs/`.
    Raise DiskFullError when the disk is full.
    """
    plan = make()
    planning.write_places(plan, folder)
    for line in (*plan.notes, *(f"warning: {text}" for text in plan.warnings)):
        print_line(console, line)
    _treat_other_code(plan, folder, console, redo=options.redo_changed)
    to_do = _unfinished(plan.all(), _states(plan.all(), folder), options)
    if not to_do:
        if plan.trials:
            adopt_trials(plan.trials, folder, settings.command)
        planning.write(plan, folder, settings.command, keep=options.keep)
        return _outcome(plan, folder, options)
    with Publisher(publish) as publisher, open_engine(options.engine, folder, settings) as engine:
        known = _listed(plan, folder, options, to_do)
        counts = f"{len(to_do):,} of {plural(len(known), 'run')} to do, {min(engine.most, len(to_do))} at a time"
        print_line(console, f"{plan.name}, {plan.profile}: {counts}; starting workers and checking the runs")
        for line in engine.preflight(_distinct(to_do)):
            print_line(console, line if line.startswith(NOTE) else f"warning: {line}")
        if options.recorded:
            print_line(console, options.recorded)
        planning.write(plan, folder, settings.command, keep=options.keep)
        publisher.request()
        clock = _clock(plan, to_do, folder, engine.most)
        with Display(schema.labels(plan.all()), known, clock, console, folder) as display:
            work = _Work(engine, folder, publisher, options, clock, display)
            if plan.searched:
                plan = _search(plan, make, work, settings.command, console)
            work.carry_out(plan.runs)
    if publisher.problem:
        print_line(console, publisher.problem)
    return _outcome(plan, folder, options)


def _listed(plan: Plan, folder: Path, options: Options, to_do: Sequence[Run] = ()) -> dict[str, str]:
    """Return run_id → state of every run that the folder lists: those of the plan, and what earlier ones left.

    to_do: runs that count as missing, whatever became of them before.
    """
    known = states(folder, [entry["run_id"] for entry in planning.listed(plan, folder, keep=options.keep)])
    return {**known, **dict.fromkeys(map(run_id, to_do), "missing")}


def _clock(plan: Plan, to_do: Sequence[Run], folder: Path, workers: int) -> Clock:
    """Return a clock for the runs to do that has the durations of the finished ones."""
    clock = Clock(to_do, workers)
    for run, seconds in durations(plan, folder):
        clock.add(run, seconds)
    return clock


def durations(plan: Plan, folder: Path) -> list[tuple[Run, float]]:
    """Return the seconds of runs of a plan that are finished in its folder, the last `DURATIONS` of them."""
    known = _states(plan.all(), folder)
    finished = [run for run in plan.all() if known[run_id(run)] == "finished"][-DURATIONS:]
    return [(run, float(_result(run, folder)["seconds"])) for run in finished]


@dataclass(frozen=True, slots=True)
class _Work:
    """What carries out the runs of one sweep, and shows them."""

    engine: Engine
    folder: Path
    publisher: Publisher
    options: Options
    clock: Clock
    display: Display

    def carry_out(self, runs: Sequence[Run], follow: Follow = lambda _: ()) -> None:
        """Carry out the unfinished ones of these runs, and those that `follow` returns for each run that ends."""
        to_do = _unfinished(runs, _states(runs, self.folder), self.options)
        before = {run.pretraining for run in runs if run.pretraining}  # those of earlier plans are not among the runs
        queue = Queue(to_do, [name for name in before if ledger.state(self.folder, name) == "finished"])
        for event in self.engine.work(queue):
            if event.run is None:
                self.publisher.tick()
                self.display.tick()
            elif event.kind == "started":
                self.clock.begin(event.run, share_done(self.folder, event.run))
            else:
                self._ended(event)
                if more := follow(event.run):
                    queue.add(more, after=event.run)
                    self.clock.extend(more)
                    self.display.extend(schema.labels(more))
                self.publisher.request()

    def _ended(self, event: Event) -> None:
        assert event.run is not None
        seconds = self.clock.end(event.run, finished=event.kind == "finished")
        if event.kind == "finished":
            self.display.run_finished(event.run, seconds, ladder.measured(event.run, self.folder))
        else:
            self.display.run_failed(event.run, event.exception)


def _search(plan: Plan, make: Callable[[], Plan], work: _Work, command: str, console: Console) -> Plan:
    """Carry out the trials of a plan, and return the next plan, in which the open values are filled in.

    All trials are listed before, those too that followed from others, so that every total counts them.
    """
    folder, options = work.folder, work.options
    trials = tune(plan, work.carry_out, folder, command, console)
    planning.write(replace(plan, trials=trials), folder, command, keep=options.keep)
    filled = make()
    planning.write(filled, folder, command, keep=options.keep)
    to_do = _unfinished(filled.all(), _states(filled.all(), folder), options)
    work.clock.drop(plan.pending)
    work.clock.extend(run for run in to_do if run not in plan.runs)
    work.display.begin_again(schema.labels(filled.all()), _listed(filled, folder, options, to_do))
    return filled


def _result(run: Run, folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = ledger.read_json(ledger.run_folder(folder, run_id(run)) / ledger.RESULT)
    return result


def _states(runs: Iterable[Run], folder: Path) -> dict[str, str]:
    return states(folder, [run_id(run) for run in runs])


def _unfinished(runs: Sequence[Run], known: Mapping[str, str], options: Options) -> list[Run]:
    """Return the runs to carry out: failed ones only with `retry_failed`, diverged ones never."""
    again = {"missing", "started", *(["failed"] if options.retry_failed else [])}
    return [run for run in runs if known[run_id(run)] in again]


def _distinct(runs: Sequence[Run]) -> list[Run]:
    """Return one run of each kind for the preflight, which does not depend on replicate and learning rate."""
    return list({replace(run, draw=0, seed=0, learning_rate=None): run for run in runs}.values())


def _treat_other_code(plan: Plan, folder: Path, console: Console, *, redo: bool) -> None:
    """Print how many finished runs came from different code. With `redo`, remove them, so that they run again."""
    finished = [name for name, state in _states(plan.all(), folder).items() if state == "finished"]
    now = ledger.code_hash()
    others = [name for name, code in codes(folder, finished).items() if code != now]
    if not others:
        return
    if not redo:
        print_line(console, other_code(len(others)))
        return
    for name in others:
        shutil.rmtree(ledger.run_folder(folder, name))
    print_line(console, f"carried out again, since the code has changed: {plural(len(others), 'run')}")


def _outcome(plan: Plan, folder: Path, options: Options) -> Outcome:
    known = _listed(plan, folder, options)
    failures = []
    for run in plan.all():
        if known[run_id(run)] in ("failed", "diverged"):
            failure = ledger.read_json(ledger.run_folder(folder, run_id(run)) / ledger.FAILURE)
            failures.append(Failure(run=run, reason=failure["reason"], exception=failure["exception"]))
    done = {name for name, state in known.items() if state == "finished"}
    blocked = tuple(run for run in plan.all() if known[run_id(run)] == "missing" and run.pretraining not in {"", *done})
    return Outcome(plan=plan, finished=len(done), total=len(known), failures=tuple(failures), blocked=blocked)

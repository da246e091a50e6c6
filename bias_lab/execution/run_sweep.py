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
from bias_lab.execution.engine import Engine, open_engine
from bias_lab.execution.progress import Clock, Display, print_line
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
    even if they are unfinished (for a folder of single runs).
    """

    engine: str = "local"
    retry_failed: bool = False
    redo_changed: bool = False
    keep: bool = False


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
    """How a sweep ended. finished and total are numbers of runs, blocked are runs whose pretraining failed."""

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
    folder: the sweep's folder, which the caller has claimed. publish: rewrites the table and the report. It is called
    first before any run starts, then as runs end.
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
        return _outcome(plan, folder)
    with Publisher(publish) as publisher, open_engine(options.engine, folder, settings) as engine:
        counts = f"{len(to_do)} of {plural(len(plan.all()), 'run')} to do, {min(engine.most, len(to_do))} at a time"
        print_line(console, f"{plan.name}, {plan.profile}: {counts}; starting workers and checking the runs")
        for line in engine.preflight(_distinct(to_do)):
            print_line(console, line if line.startswith(NOTE) else f"warning: {line}")
        planning.write(plan, folder, settings.command, keep=options.keep)
        publisher.request()
        if plan.searched:

            def carry_out(trials: Sequence[Run], follow: Follow) -> None:
                _carry_out(engine, trials, folder, publisher, console, options, follow)

            tune(plan, carry_out, folder, settings.command, console)
            plan = make()
            planning.write(plan, folder, settings.command, keep=options.keep)
        _carry_out(engine, plan.runs, folder, publisher, console, options)
    return _outcome(plan, folder)


def _carry_out(
    engine: Engine,
    runs: Sequence[Run],
    folder: Path,
    publisher: Publisher,
    console: Console,
    options: Options,
    follow: Follow = lambda _: (),
) -> None:
    """Carry out the unfinished ones of these runs, and those that `follow` returns for each run that ends."""
    known = _states(runs, folder)
    finished = {name for name, state in known.items() if state == "finished"}
    to_do = _unfinished(runs, known, options)
    pretrainings = {run.pretraining for run in runs if run.pretraining}  # those of earlier plans are not among the runs
    queue = Queue(to_do, [name for name in pretrainings if ledger.state(folder, name) == "finished"])
    clock = Clock(to_do, engine.most)
    for run in [run for run in runs if run_id(run) in finished][-DURATIONS:]:
        clock.add(run, float(_result(run, folder)["seconds"]))
    with Display(schema.labels(runs), len(finished), clock, console) as display:
        for event in engine.work(queue):
            if event.run is None:
                publisher.tick()
                display.tick()
                continue
            if event.kind == "started":
                clock.begin(event.run)
                continue
            seconds = clock.end(event.run, finished=event.kind == "finished")
            if event.kind == "finished":
                display.run_finished(event.run, seconds, ladder.measured(event.run, folder))
            else:
                display.run_failed(event.run, event.exception)
            if more := follow(event.run):
                queue.add(more, after=event.run)
                clock.extend(more)
                display.extend(schema.labels(more))
            publisher.request()
    if publisher.problem:
        print_line(console, publisher.problem)


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


def _outcome(plan: Plan, folder: Path) -> Outcome:
    known = _states(plan.all(), folder)
    failures = []
    for run in plan.all():
        if known[run_id(run)] in ("failed", "diverged"):
            failure = ledger.read_json(ledger.run_folder(folder, run_id(run)) / ledger.FAILURE)
            failures.append(Failure(run=run, reason=failure["reason"], exception=failure["exception"]))
    done = {name for name, state in known.items() if state == "finished"}
    blocked = tuple(run for run in plan.all() if known[run_id(run)] == "missing" and run.pretraining not in {"", *done})
    return Outcome(finished=len(done), total=len(plan.all()), failures=tuple(failures), blocked=blocked)

"""A sweep from plan to end: what is missing is run, failures are kept, the report is refreshed as rows come in."""

import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from rich.console import Console

from bias_lab import ledger
from bias_lab.definition import Run, Settings, label, run_id
from bias_lab.errors import plural
from bias_lab.execution.local import Local
from bias_lab.execution.progress import Clock, Show
from bias_lab.execution.queue import Queue
from bias_lab.execution.status import codes, other_code, states
from bias_lab.planning import learning_rates
from bias_lab.planning import plan as planning
from bias_lab.planning.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    run: Run
    reason: str
    exception: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a sweep ended. blocked: runs whose pretraining failed."""

    finished: int
    total: int
    failures: tuple[Failure, ...]
    blocked: tuple[Run, ...]

    @property
    def exit_code(self) -> int:
        return 1 if self.failures or self.blocked else 0


def run_sweep(
    make: Callable[[], Plan],
    folder: Path,
    settings: Settings,
    *,
    publish: Callable[[], None],
    console: Console,
    retry_failed: bool = False,
    redo_changed: bool = False,
    keep: bool = False,
) -> Outcome:
    """Run what the ledger lacks of a plan. The caller holds the folder's claim.

    make: the plan, asked for again after its trials have finished. publish: rewrites the table and the report; called
    from the first minute on. keep: a folder of single runs, which stay listed when others are added. Raises UserError,
    with nothing in `runs/`, for what planning or the preflight refuse.
    """
    plan = make()
    planning.write_places(plan, folder)
    for line in (*plan.notes, *(f"warning: {text}" for text in plan.warnings)):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    _other_code(plan, folder, console, redo=redo_changed)
    todo = _missing(plan.all(), folder, retry_failed=retry_failed)
    if not todo:
        planning.write(plan, folder, settings.command, keep=keep)
        return _outcome(plan, folder)
    with _Publisher(publish) as publisher, Local(folder, settings) as engine:
        count = min(engine.most, len(todo))
        console.print(
            f"{plan.name}, {plan.profile}: {len(todo)} of {len(plan.all())} runs to do, {count} at a time; "
            "starting workers and checking what can be checked",
            highlight=False,
            soft_wrap=True,
        )
        for line in engine.preflight(_distinct(todo)):
            console.print(f"warning: {line}", highlight=False, markup=False, soft_wrap=True)
        planning.write(plan, folder, settings.command, keep=keep)
        publisher.due()
        if plan.trials:
            named = {trial.pretraining for trial in plan.trials}
            first = [run for run in plan.runs if run_id(run) in named]  # trials of pretrained cells wait for these
            _carry_out(engine, (*first, *plan.trials), folder, publisher, console, retry_failed=retry_failed)
            adopt_trials(plan.trials, folder, settings.command)
            plan = make()
            planning.write(plan, folder, settings.command, keep=keep)
        _carry_out(engine, plan.runs, folder, publisher, console, retry_failed=retry_failed)
    return _outcome(plan, folder)


def _carry_out(
    engine: Local,
    runs: Sequence[Run],
    folder: Path,
    publisher: "_Publisher",
    console: Console,
    *,
    retry_failed: bool,
) -> None:
    known = states(folder, [run_id(run) for run in runs])
    finished = {name for name, state in known.items() if state == "finished"}
    queue = Queue(_missing(runs, folder, retry_failed=retry_failed), finished | _finished_pretrainings(runs, folder))
    clock = Clock(_missing(runs, folder, retry_failed=retry_failed), engine.most)
    _learn(clock, runs, finished, folder)
    with Show(len(runs), len(finished), clock, console) as show:
        for event in engine.work(queue):
            if event.run is None:
                publisher.tick()
                show.tick()
                continue
            if event.kind == "started":
                clock.begin(event.run)
                continue
            seconds = clock.end(event.run, finished=event.kind == "finished")
            if event.kind == "finished":
                show.finished(event.run, seconds, _top1(folder, event.run))
            else:
                show.failed_run(event.run, event.exception)
            publisher.due()
        for problem in publisher.problems:
            show.say(problem)


def adopt_trials(trials: Sequence[Run], folder: Path, command: str) -> None:
    """Choose learning rates from finished trials and add them to FOLDER/tuned.json."""
    learning_rates.write(folder / ledger.TUNED, learning_rates.choose(trials, scores(trials, folder)), command)


def scores(trials: Sequence[Run], folder: Path) -> dict[str, float]:
    """run_id → top-1 of the finished ones; a trial's is that of the hold-out, since it never reads the test split."""
    found = {}
    for run in trials:
        path = ledger.run_folder(folder, run_id(run)) / ledger.RESULT
        if path.is_file():
            found[run_id(run)] = float(ledger.read_json(path)["metrics"]["top1"])
    return found


def _missing(runs: Sequence[Run], folder: Path, *, retry_failed: bool) -> list[Run]:
    """Runs to do: those without result, failed ones only if asked, diverged ones never."""
    again = {"missing", "started", "failed"} if retry_failed else {"missing", "started"}
    known = states(folder, [run_id(run) for run in runs])
    return [run for run in runs if known[run_id(run)] in again]


def _distinct(runs: Sequence[Run]) -> list[Run]:
    """One run of each kind, for the preflight: replicates and learning rates can't be refused one by one."""
    from dataclasses import replace

    return list({replace(run, draw=0, seed=0, learning_rate=None): run for run in runs}.values())


def _finished_pretrainings(runs: Sequence[Run], folder: Path) -> set[str]:
    """Pretrainings that the runs name and that are there, in this plan or not."""
    named = {run.pretraining for run in runs if run.pretraining}
    return {name for name in named if ledger.state(folder, name) == "finished"}


def _other_code(plan: Plan, folder: Path, console: Console, *, redo: bool) -> None:
    """Say that finished runs come from other code of the lab; with `redo`, forget them, so that they run again."""
    now = ledger.code_hash()
    others = [name for name, code in codes(folder, [run_id(run) for run in plan.all()]).items() if code != now]
    if not others:
        return
    if not redo:
        console.print(
            other_code(len(others)),
            highlight=False,
            soft_wrap=True,
        )
        return
    for name in others:
        shutil.rmtree(ledger.run_folder(folder, name))
    console.print(f"{plural(len(others), 'run')} of other code to be done again", highlight=False)


def _outcome(plan: Plan, folder: Path) -> Outcome:
    runs = plan.all()
    known = states(folder, [run_id(run) for run in runs])
    failures = []
    for run in runs:
        if known[run_id(run)] in ("failed", "diverged"):
            said = ledger.read_json(ledger.run_folder(folder, run_id(run)) / ledger.FAILURE)
            failures.append(Failure(run=run, reason=said["reason"], exception=said["exception"]))
    done = {name for name, state in known.items() if state == "finished"}
    blocked = tuple(run for run in runs if known[run_id(run)] == "missing" and run.pretraining not in {"", *done})
    return Outcome(finished=len(done), total=len(runs), failures=tuple(failures), blocked=blocked)


def _learn(clock: Clock, runs: Sequence[Run], finished: set[str], folder: Path, *, most: int = 200) -> None:
    """What earlier runs cost tells the time left from the start; a few hundred are enough."""
    for run in [run for run in runs if run_id(run) in finished][-most:]:
        clock.learn(run, float(ledger.read_json(ledger.run_folder(folder, run_id(run)) / ledger.RESULT)["seconds"]))


def _top1(folder: Path, run: Run) -> float | None:
    value = ledger.read_json(ledger.run_folder(folder, run_id(run)) / ledger.RESULT)["metrics"].get("top1")
    return None if value is None else float(value)


def told(failure: Failure) -> str:
    """A failure as a line: which run, why."""
    return f"{run_id(failure.run)}  {label(failure.run)}: {failure.exception}"


class _Publisher:
    """Rewrites the table and the report beside the sweep, seldom enough that the workers don't feel it.

    One rewrite at a time, in a thread; the next not before `SHARE` times as long as the last one took.
    """

    SHARE = 20
    LEAST = 3.0  # seconds

    def __init__(self, publish: Callable[[], None], *, now: Callable[[], float] = time.monotonic) -> None:
        self.publish, self.now = publish, now
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="report")
        self.at_work: Future[float] | None = None
        self.waiting = False
        self.next = 0.0
        self.problems: list[str] = []

    def __enter__(self) -> "_Publisher":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)
        self._collect()

    def due(self) -> None:
        """There is news."""
        self.waiting = True
        self.tick()

    def tick(self) -> None:
        if self.at_work and self.at_work.done():
            self._collect()
        if self.waiting and self.at_work is None and self.now() >= self.next:
            self.waiting = False
            self.at_work = self.pool.submit(self._timed)

    def _timed(self) -> float:
        began = time.perf_counter()
        self.publish()
        return time.perf_counter() - began

    def _collect(self) -> None:
        """Take up the last rewrite's end. A report that can't be written does not stop the runs, but is told."""
        if self.at_work is None or not self.at_work.done() or self.at_work.cancelled():
            return
        error = self.at_work.exception()
        took = self.LEAST if error else self.at_work.result()
        if error:
            self.problems = [f"the report could not be written: {type(error).__name__}: {error}"]
        self.next = self.now() + max(self.LEAST, self.SHARE * took)
        self.at_work = None

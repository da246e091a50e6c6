"""The commands that carry out runs: `sweep` and `train`."""

import argparse
import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bias_lab.errors import UserError, plural

if TYPE_CHECKING:
    from bias_lab.planning.plan import Plan


def sweep(arguments: argparse.Namespace) -> int:
    """Run an experiment, several runs at a time. After an interruption the same command continues it."""
    from bias_lab.cli import terminal
    from bias_lab.planning import checks, experiment_files
    from bias_lab.planning import plan as planning
    from bias_lab.planning import request as requests

    arguments.experiment = experiment_files.find(arguments.experiment)
    folder = arguments.out or default_folder(arguments.experiment, arguments.profile, arguments.data)
    with _claimed(folder):
        request = requests.request(arguments, folder)

        def make() -> "Plan":
            return planning.make(arguments.experiment, arguments.profile, folder, request)

        if arguments.dry_run:
            plan = make()
            terminal.plan(terminal.console(), plan, checks.absent(plan.all(), arguments.data_root))
            return 0
        return _carry_out(make, folder, arguments, keep=False)


def default_folder(experiment: Path, profile: str, data: Path | None) -> Path:
    """Return `results/NAME`, with the profile added unless it is laptop, and the name of a user's own data."""
    name = "" if data is None else data.name if data.name not in ("", "..") else data.resolve().name  # `.` has none
    own = re.sub(r"[^\w.]+", "-", name)
    parts = experiment.stem, "" if profile == "laptop" else profile, own
    return Path("results") / "-".join(filter(None, parts))


def train(arguments: argparse.Namespace) -> int:
    """Carry out one run, given by flags or like another run (--like). Other fields are set with --set."""
    from bias_lab.planning import ladder, single
    from bias_lab.planning import plan as planning
    from bias_lab.planning import request as requests
    from bias_lab.planning.typed_values import parse_field

    folder: Path = arguments.out
    like, before, places = single.like(arguments.like, None) if arguments.like else (None, (), {})
    typed = {name: value for name, value in vars(arguments).items() if value is not None}
    fields = dict(parse_field(text) for text in arguments.set)
    with _claimed(folder):
        runs, more = single.definition(typed, like=like, recipe_name=arguments.recipe, fields=fields, folder=folder)
        if like and like.dataset in places and not (arguments.data or arguments.dataset):
            arguments.data, arguments.image_size = Path(places[like.dataset]["path"]), like.image_size
        request = requests.single(arguments, folder, runs, {**places, **more})
        if like and request.data and not typed.get("data") and request.data.dataset != like.dataset:
            raise UserError(
                f"the images in {arguments.data} have changed since {arguments.like}",
                remedy="to use them now, give --data",
            )

        def make() -> "Plan":
            experiment = single.experiment(runs, before)
            plan = planning.arrange(experiment, "train", "single runs", folder, request, planning.rates(folder))
            known = [line for row in plan.tuned for line in ladder.rung_lines(row, ladder.rungs_of(row))]
            return replace(plan, notes=(*plan.notes, *known)) if arguments.settle else plan

        return _carry_out(make, folder, arguments, keep=True)


@contextlib.contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """Claim the folder for this sweep. Remove it afterwards if this command made it and left nothing in it."""
    from bias_lab import ledger

    new = not folder.exists()
    try:
        with ledger.claim(folder):
            yield
    finally:
        if new and folder.is_dir() and {entry.name for entry in folder.iterdir()} <= {ledger.LOCK}:
            (folder / ledger.LOCK).unlink(missing_ok=True)
            folder.rmdir()


def _carry_out(make: "Callable[[], Plan]", folder: Path, arguments: argparse.Namespace, *, keep: bool) -> int:
    from bias_lab import ledger, results
    from bias_lab.cli import terminal
    from bias_lab.execution.progress import print_line
    from bias_lab.execution.run_sweep import Options, run_sweep
    from bias_lab.planning import request as requests
    from bias_lab.report import report

    console = terminal.console()

    def publish() -> None:
        results.write(folder)
        report.write(folder)

    settings = requests.settings(arguments, "train" if keep else arguments.experiment.stem)
    again = dict(retry_failed=arguments.retry_failed, redo_changed=arguments.redo_changed)
    options = Options(engine=arguments.engine, keep=keep, **again)
    outcome = run_sweep(make, folder, settings, options, publish=publish, console=console)
    for failure in outcome.failures:
        print_line(console, f"failed  {failure}")
    if outcome.failures:
        repeatable = any(failure.reason != "diverged" for failure in outcome.failures)
        retry = "; to try again those that did not diverge, add --retry-failed" if repeatable else ""
        print_line(console, f"to see the end of a log: bias-lab show RUN --out {folder}{retry}")
    if outcome.blocked:
        print_line(console, f"not started because the pretraining failed: {plural(len(outcome.blocked), 'run')}")
    publish()
    print_line(console, report.summary(folder))
    print_line(console, f"{outcome.finished} of {outcome.total} runs finished. The report is {folder / ledger.REPORT}")
    return outcome.exit_code

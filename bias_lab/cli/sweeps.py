"""The commands that carry out runs: `sweep` and `train`."""

import argparse
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bias_lab.cli import folders
from bias_lab.errors import UserError, plural

if TYPE_CHECKING:
    from rich.console import Console

    from bias_lab.execution.run_sweep import Outcome
    from bias_lab.planning.plan import Plan


def sweep(arguments: argparse.Namespace) -> int:
    """Run an experiment, several runs at a time. After an interruption the same command continues it."""
    from bias_lab.planning import experiment_files
    from bias_lab.planning import plan as planning
    from bias_lab.planning import request as requests

    arguments.experiment = experiment_files.find(arguments.experiment)
    folder = arguments.out or default_folder(arguments.experiment, arguments.profile, arguments.data)
    experiment_files.read(arguments.experiment, arguments.profile)  # a mistake in it is found before any image is read
    folders.check_profile(folder, arguments.profile)
    is_dry = arguments.dry_run or arguments.list
    with folders.claimed(folder, lasting=not is_dry):
        request = requests.request(arguments, folder)

        def make() -> "Plan":
            return planning.make(arguments.experiment, arguments.profile, folder, request)

        if is_dry:
            _show(make(), folder, arguments)
            return 0
        return _carry_out(make, folder, arguments, _end_of_sweep)


def _show(plan: "Plan", folder: Path, arguments: argparse.Namespace) -> None:
    """Print the plan of a dry run."""
    from bias_lab.cli import dry_run, terminal
    from bias_lab.execution.engine import open_engine
    from bias_lab.planning import checks
    from bias_lab.planning import request as requests

    absent = checks.absent(plan.all(), arguments.data_root)
    with open_engine(arguments.engine, folder, requests.settings(arguments, plan.name)) as engine:
        workers = engine.most
    dry_run.show(terminal.console(), plan, folder, workers, absent, rows=arguments.list)


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
    folders.check_profile(folder, folders.SINGLE)
    like, before, places = single.like(arguments.like, None) if arguments.like else (None, (), {})
    typed = {name: value for name, value in vars(arguments).items() if value is not None}
    fields = dict(parse_field(text) for text in arguments.set)
    with folders.claimed(folder):
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
            tables = planning.rates(folder)
            plan = planning.arrange(experiment, "train", folders.SINGLE, folder, request, tables)
            made = single.lines(runs, folder)
            known = [line for row in plan.tuned for line in ladder.rung_lines(row, ladder.rungs_of(row))]
            return replace(plan, notes=(*plan.notes, *made, *(known if arguments.settle else ())))

        return _carry_out(make, folder, arguments, _end_of_train)


End = Callable[["Console", Path, "Outcome", Mapping[str, int]], None]


def _carry_out(make: "Callable[[], Plan]", folder: Path, arguments: argparse.Namespace, end: End) -> int:
    """Carry out the runs of a plan, print how that ended, and return the exit code.

    end: prints the closing lines, given the results that were there before.
    """
    from bias_lab import results
    from bias_lab.cli import closing, terminal
    from bias_lab.execution.progress import print_line
    from bias_lab.execution.run_sweep import Options, run_sweep
    from bias_lab.planning import request as requests
    from bias_lab.report import report
    from bias_lab.tracking import mapping

    console = terminal.console()

    def publish() -> None:
        results.write(folder)
        report.write(folder)

    is_single = end is _end_of_train
    settings = requests.settings(arguments, "train" if is_single else arguments.experiment.stem)
    again = dict(retry_failed=arguments.retry_failed, redo_changed=arguments.redo_changed)
    recorded = mapping.line(arguments.wandb, folder)
    options = Options(engine=arguments.engine, keep=is_single, recorded=recorded, **again)
    before = closing.results_at(folder)
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
    end(console, folder, outcome, before)
    return outcome.exit_code


def _end_of_sweep(console: "Console", folder: Path, outcome: "Outcome", _: Mapping[str, int]) -> None:
    from bias_lab import ledger
    from bias_lab.cli import closing
    from bias_lab.execution.progress import print_line
    from bias_lab.report import report

    print_line(console, report.summary(folder))
    for line in closing.of_own(folder, outcome.plan.families) if outcome.plan.families else ():
        print_line(console, line)
    print_line(console, f"to find a run and its weights: bias-lab runs {folder} [WORDS]")
    done = f"{outcome.finished:,} of {plural(outcome.total, 'run')} finished"
    print_line(console, f"{done}. The report is {folder / ledger.REPORT}")


def _end_of_train(console: "Console", folder: Path, outcome: "Outcome", before: Mapping[str, int]) -> None:
    from bias_lab import ledger
    from bias_lab.cli import closing
    from bias_lab.execution.progress import print_line

    for line in closing.of_runs(outcome.plan.runs, folder, before):
        print_line(console, line)
    print_line(console, f"The report on all runs of this folder is {folder / ledger.REPORT}")

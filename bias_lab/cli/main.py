"""The door: `bias-lab COMMAND`. A function a command; each imports what it needs, inside, so that --help is instant."""

import argparse
import contextlib
import importlib
import json
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from bias_lab.cli import flags
from bias_lab.errors import UserError, plural, unknown

if TYPE_CHECKING:
    from rich.console import Console

    from bias_lab.planning.plan import Plan

REFUSED, FAILED, INTERRUPTED = 2, 1, 130  # exit codes
BENCHES = ("data", "backbones")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code: 0 done, 1 runs failed, 2 refused, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminated)  # a scheduler's request to stop is a Ctrl-C
    try:
        arguments = flags.parse(words, COMMANDS)
        arguments.typed = shlex.join(["bias-lab", *words])
        code: int = arguments.run(arguments)
        return code
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print("stopped; finished runs are kept, the same command goes on where this one ended", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `bias-lab status | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        from bias_lab.execution.worker import disk_full

        if not disk_full(error):
            raise
        print("error: no space left on the disk; make room, then the same command goes on", file=sys.stderr)
        return REFUSED


def _terminated(*_: object) -> NoReturn:
    raise KeyboardInterrupt


# --- commands --------------------------------------------------------------------------------------------------------


def sweep(arguments: argparse.Namespace) -> int:
    """Run an experiment: what is missing of it, several runs at a time, resumable at any moment."""
    from bias_lab.cli import terminal
    from bias_lab.planning import checks
    from bias_lab.planning import plan as planning
    from bias_lab.planning import request as requests

    folder = arguments.out or default_folder(arguments.experiment, arguments.profile, arguments.data)
    with _claimed(folder):
        request = requests.request(arguments, folder)

        def make() -> "Plan":
            return planning.make(arguments.experiment, arguments.profile, folder, request)

        if arguments.dry_run:
            made = make()
            terminal.plan(_console(), made, checks.absent(made.all(), arguments.data_root))
            return 0
        return _conduct(make, folder, arguments, keep=False)


def default_folder(experiment: Path, profile: str, data: Path | None) -> Path:
    """`results/NAME`; other profiles than laptop, and a user's own images, have a folder of their own."""
    name = "" if data is None else data.name if data.name not in ("", "..") else data.resolve().name  # `.` has none
    own = re.sub(r"[^\w.]+", "-", name)
    parts = experiment.stem, "" if profile == "laptop" else profile, own
    return Path("results") / "-".join(filter(None, parts))


def train(arguments: argparse.Namespace) -> int:
    """One run from flags, or another run again (--like); the rest of its definition by --set."""
    from bias_lab import ledger
    from bias_lab.definition import parse_field
    from bias_lab.planning import learning_rates, single
    from bias_lab.planning import plan as planning
    from bias_lab.planning import request as requests

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
            raise UserError(f"the images in {arguments.data} are not those of {arguments.like} any more")

        def make() -> "Plan":
            tables = learning_rates.read(folder / ledger.TUNED, Path("experiments") / ledger.TUNED)
            return planning.arrange(single.experiment(runs, before), "train", "single runs", folder, request, tables)

        return _conduct(make, folder, arguments, keep=True)


@contextlib.contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """Hold the folder; one that was made for a command that leaves nothing in it (refused, a dry run) goes again."""
    from bias_lab import ledger

    new = not folder.exists()
    try:
        with ledger.claim(folder):
            yield
    finally:
        if new and folder.is_dir() and {entry.name for entry in folder.iterdir()} == {ledger.LOCK}:
            (folder / ledger.LOCK).unlink()
            folder.rmdir()


def _conduct(make: "Callable[[], Plan]", folder: Path, arguments: argparse.Namespace, *, keep: bool) -> int:
    from bias_lab import ledger, results
    from bias_lab.execution.run_sweep import run_sweep, told
    from bias_lab.planning import request as requests
    from bias_lab.report import report

    console = _console()

    def publish() -> None:
        results.write(folder)
        report.write(folder)

    outcome = run_sweep(
        make,
        folder,
        requests.settings(arguments, "train" if keep else arguments.experiment.stem),
        publish=publish,
        console=console,
        retry_failed=arguments.retry_failed,
        redo_changed=arguments.redo_changed,
        keep=keep,
    )
    for failure in outcome.failures:
        console.print(f"failed  {told(failure)}", highlight=False, markup=False, soft_wrap=True)
    if outcome.failures:
        again = any(failure.reason != "diverged" for failure in outcome.failures)
        way = f"the end of a log: bias-lab show RUN --out {folder}"
        way += "; --retry-failed tries again what did not diverge" if again else ""
        console.print(way, highlight=False, markup=False, soft_wrap=True)
    if outcome.blocked:
        console.print(f"{len(outcome.blocked)} runs wait for a pretraining that failed", highlight=False)
    publish()
    console.print(report.summary(folder), highlight=False, markup=False, soft_wrap=True)
    page = folder / ledger.REPORT
    console.print(f"{outcome.finished} of {outcome.total} runs finished; {page}", highlight=False, soft_wrap=True)
    return outcome.exit_code


def status(arguments: argparse.Namespace) -> int:
    """What a sweep's folder holds: runs done, running, failed and missing."""
    from bias_lab.cli import terminal
    from bias_lab.execution import status as state

    now = state.read(arguments.folder)
    terminal.folder(_console(), now)
    return FAILED if now.failures else 0


def show(arguments: argparse.Namespace) -> int:
    """One run: its definition, its result, and how to repeat it."""
    from bias_lab.cli import terminal
    from bias_lab.execution import status as state

    terminal.run(_console(), state.describe(*state.find(arguments.name, arguments.out)))
    return 0


def report(arguments: argparse.Namespace) -> int:
    """Write a folder's table and report again."""
    from bias_lab import ledger, results
    from bias_lab.report import report as page

    if not arguments.folder.is_dir():
        raise UserError(f"there is no folder {arguments.folder}", remedy="give the --out of a sweep")
    runs, table, plan = (arguments.folder / name for name in ("runs", ledger.TABLE, ledger.EXPERIMENT))
    if not (runs.is_dir() or table.is_file() or plan.is_file()):
        raise UserError(f"{arguments.folder} holds neither runs nor a table", remedy="give the --out of a sweep")
    if runs.is_dir() or not table.is_file():
        results.write(arguments.folder)
    print(page.write(arguments.folder, format=arguments.format))
    return 0


def tuned(arguments: argparse.Namespace) -> int:
    """Choose learning rates from a folder's finished tuning runs and write tuned.json."""
    from bias_lab import ledger
    from bias_lab.execution import run_sweep
    from bias_lab.execution import status as state
    from bias_lab.planning import learning_rates

    now = state.read(arguments.folder)
    trials = [run for run in now.runs.values() if run.task == "tune"]
    if not trials:
        raise UserError(f"{arguments.folder} holds no tuning runs", remedy="bias-lab sweep experiments/tuning.py")
    rows = learning_rates.choose(trials, run_sweep.scores(trials, arguments.folder))
    path = arguments.out or arguments.folder / ledger.TUNED
    learning_rates.write(path, rows, now.head.get("command", ""))
    print(f"{len(rows)} learning rates in {path}")
    return 0


def backbones(arguments: argparse.Namespace) -> int:
    """List the lab's backbones."""
    from bias_lab import catalogue
    from bias_lab.cli import terminal

    rows = [
        [row.name, row.architecture, row.family, f"{row.image_size} px", row.about]
        for row in catalogue.BACKBONES.values()
        if arguments.pattern in row.name
    ]
    if not rows:
        raise unknown("backbone", arguments.pattern, catalogue.BACKBONES)
    console = _console()
    terminal.table(console, ["name", "architecture", "family", "made for", ""], rows)
    console.print("any timm name works too, and package.module:factory for your own", style="dim", highlight=False)
    return 0


def datasets(arguments: argparse.Namespace) -> int:
    """List the datasets by name; `datasets check NAME` verifies one's files."""
    from bias_lab import catalogue
    from bias_lab.cli import terminal

    if arguments.action:
        if arguments.action != "check":
            raise unknown("action", arguments.action, ["check"], "bias-lab datasets --help")
        if not arguments.name:
            raise UserError("bias-lab datasets check: which?", remedy="bias-lab datasets check fashion_mnist_12k")
        from bias_lab.data import own_images

        for line in own_images.check(arguments.name, data_root=arguments.data_root):
            print(line)
        return 0
    rows = [
        [d.name, f"{d.classes}", f"{d.pool:,}", f"{d.test_images:,}", f"{d.image_size}", f"{d.channels}", d.licence]
        for d in catalogue.DATASETS.values()
    ]
    console = _console()
    terminal.table(console, ["name", "classes", "training", "test", "px", "channels", "licence"], rows)
    own = "your own images: --data PATH, a folder of class folders or a table"
    terminal.say(console, f"citation, normalisation, checksums of one: bias-lab datasets check NAME\n{own}", "dim")
    return 0


def subset(arguments: argparse.Namespace) -> int:
    """Write a manifest: the training images of one draw, in order, to publish or to use elsewhere."""
    from bias_lab.data.readers import manifests
    from bias_lab.planning import request as requests

    path = Path(arguments.dataset)
    place, name = None, arguments.dataset
    if path.exists():
        folder = arguments.out.parent / f"{arguments.out.stem}.data"  # what was found in the user's folder
        data = requests.own_data(path, folder, image_size=None, skip_bad=arguments.skip_bad_images)
        place, name = dict(data.place), data.dataset
    pool = manifests.pool(name, place=place, data_root=arguments.data_root)
    sizes = arguments.sizes or (len(pool.labels),)
    manifests.write(arguments.out, pool, sizes, arguments.draw, balanced=arguments.balanced)
    print(f"{max(sizes)} images of {arguments.dataset}, draw {arguments.draw}: {arguments.out}")
    return 0


def bench(arguments: argparse.Namespace) -> int:
    """Measure the lab against its references: `bench data` or `bench backbones`."""
    from bias_lab.cli import terminal

    if arguments.what not in BENCHES:
        raise unknown("benchmark", arguments.what, BENCHES)
    main = importlib.import_module(f"bias_lab.bench.{arguments.what}").main
    header = ["case", "mode", "reference", "ratio", "low", "high", "n"]
    rows = [[str(row[name]) for name in header] for row in main(out=arguments.out, quick=arguments.quick)]
    terminal.table(_console(), header, rows)
    return 0


def wandb_sync(arguments: argparse.Namespace) -> int:
    """Export a folder's runs to W&B: uploaded if you are logged in, else left in FOLDER/wandb."""
    from bias_lab.report import wandb_summary
    from bias_lab.tracking import export, mapping

    if not arguments.folder.is_dir():
        raise UserError(f"there is no folder {arguments.folder}", remedy="give the --out of a sweep")
    online = mapping.is_logged_in() and not arguments.offline
    project, entity, artifacts = arguments.project, arguments.entity, arguments.artifacts
    written = export.sync(
        arguments.folder, wandb_summary.study_of, project=project, entity=entity, online=online, artifacts=artifacts
    )
    where = (
        f"uploaded to {project}"
        if online
        else f"written; upload them: wandb sync {arguments.folder}/wandb/offline-run-*"
    )
    print(f"{plural(len(written), 'run')} {where}" if written else "nothing new: every run was exported before")
    return 0


def wandb_dashboard(arguments: argparse.Namespace) -> int:
    """Save a W&B workspace and a report for a folder's experiment; --dry-run prints them."""
    from bias_lab.report import wandb_summary
    from bias_lab.tracking import dashboard, mapping

    spec = dashboard.specify(wandb_summary.study_of_folder(arguments.folder), project=arguments.project)
    if arguments.dry_run:
        print(json.dumps(spec, indent=1, ensure_ascii=False))
        return 0
    if not mapping.is_logged_in():
        raise UserError("no key of W&B's is known here", remedy="wandb login, or --dry-run to see what would be saved")
    entity = arguments.entity or str(importlib.import_module("wandb").Api().default_entity)
    for address in dashboard.save(spec, entity):
        print(address)
    return 0


def _console() -> "Console":
    from rich.console import Console

    return Console()


COMMANDS: dict[str, tuple[Callable[[argparse.Namespace], int], Callable[[flags.Parser], None]]] = {
    "sweep": (sweep, flags.sweep),
    "train": (train, flags.train),
    "status": (status, flags.folder),
    "show": (show, flags.show),
    "report": (report, flags.report),
    "tuned": (tuned, flags.tuned),
    "backbones": (backbones, flags.backbones),
    "datasets": (datasets, flags.datasets),
    "subset": (subset, flags.subset),
    "bench": (bench, flags.bench),
    "wandb-sync": (wandb_sync, flags.wandb_sync),
    "wandb-dashboard": (wandb_dashboard, flags.wandb_dashboard),
}

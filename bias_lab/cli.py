"""The door: `bias-lab COMMAND`. A function a command; each imports what it needs, inside, so that --help is instant."""

import argparse
import difflib
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from bias_lab.errors import UserError, unknown

if TYPE_CHECKING:
    from rich.console import Console

    from bias_lab.definition import Settings
    from bias_lab.sweep.plan import Plan, Request

REFUSED, FAILED, INTERRUPTED = 2, 1, 130  # exit codes


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are one line, with the nearest match."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message}", remedy=f"{self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code: 0 done, 1 runs failed, 2 refused, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    signal.signal(signal.SIGTERM, _terminated)
    try:
        arguments = parse(words)
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
        from bias_lab.sweep.worker import disk_full

        if not disk_full(error):
            raise
        print(f"error: no space left on the disk ({error}); make room, then the same command goes on", file=sys.stderr)
        return REFUSED


def _terminated(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Words → arguments. Raises UserError for an unknown command or flag, with the nearest match."""
    parser, commands = build()
    named = next((word for word in words if not word.startswith("-")), "")
    if named and named not in commands and not {"-h", "--help", "--version"} & set(words[:1]):
        raise unknown("command", named, commands, "bias-lab --help")
    arguments, rest = parser.parse_known_args(words)
    if rest:
        flags = sorted(commands[arguments.command]) if arguments.command else []
        near = difflib.get_close_matches(rest[0].partition("=")[0], flags, n=1, cutoff=0.6)
        raise UserError(
            f"bias-lab {arguments.command or ''}: unknown argument '{rest[0]}'".replace(" :", ":"),
            f"did you mean '{near[0]}'?" if near else "",
            f"bias-lab {arguments.command} --help" if arguments.command else "bias-lab --help",
        )
    if not arguments.command:
        parser.print_help()
        raise SystemExit(0)
    return arguments


# --- what can be typed -----------------------------------------------------------------------------------------------


def build() -> tuple[Parser, dict[str, list[str]]]:
    """The parser, and each command's flags."""
    from bias_lab import __version__

    parser = Parser(prog="bias-lab", allow_abbrev=False, description=__doc__ and _ABOUT)
    parser.add_argument("--version", action="version", version=f"bias-lab {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    made: dict[str, list[str]] = {}
    for name, (run, add) in COMMANDS.items():
        about = (run.__doc__ or "").strip()
        sub = commands.add_parser(name, help=about.splitlines()[0].rstrip("."), description=about, allow_abbrev=False)
        add(sub)
        sub.set_defaults(run=run)
        made[name] = [option for action in sub._actions for option in action.option_strings]
    return parser, made


_ABOUT = (
    "How much accuracy does an image model lose for lack of inductive bias when labels are few, and what buys it back?"
)


def numbers(text: str) -> tuple[int, ...]:
    """`100,300,1000`, each once."""
    try:
        values = tuple(dict.fromkeys(int(part.replace("_", "")) for part in text.split(",")))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not whole numbers with commas between, such as 100,300"
        ) from error
    if min(values) < 0:
        raise argparse.ArgumentTypeError(f"{min(values)} is negative")
    return values


def positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number") from error
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is below 1")
    return value


def _sweep_flags(sub: Parser) -> None:
    sub.add_argument("experiment", type=Path, metavar="EXPERIMENT", help="an experiment file, experiments/NAME.py")
    sub.add_argument("--profile", default="laptop", help="smoke, laptop or full (default: laptop)")
    sub.add_argument("--out", type=Path, metavar="FOLDER", help="where results go (default: results/NAME)")
    sub.add_argument("--sizes", type=numbers, metavar="N,N", help="labelled training images, in place of the profile's")
    sub.add_argument("--draws", type=numbers, metavar="D,D", help="which orders of the pool, in place of the profile's")
    sub.add_argument("--seeds", type=numbers, metavar="S,S", help="initialisations, in place of the profile's")
    sub.add_argument(
        "--backbone",
        action="append",
        default=[],
        metavar="NAME",
        help="join a backbone in all scratch cells: a timm name or package.module:factory (repeatable)",
    )
    sub.add_argument("--family", default="", help="of the joined backbone: cnn, transformer, hybrid or other")
    tuning = sub.add_mutually_exclusive_group()
    tuning.add_argument("--tune", action="store_true", default=None, help="tune every backbone's learning rate first")
    tuning.add_argument("--no-tune", dest="tune", action="store_false", help="tune nothing: borrow learning rates")
    sub.add_argument("--retry-failed", action="store_true", help="try failed runs again (never diverged ones)")
    sub.add_argument("--redo-changed", action="store_true", help="run again what other code of the lab finished")
    sub.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    _data_flags(sub)
    _recipe_flags(sub)
    _machine_flags(sub)


def _data_flags(sub: Parser) -> None:
    sub.add_argument("--data", type=Path, metavar="PATH", help="your own images: a folder of class folders, or a table")
    sub.add_argument("--image-size", type=positive, metavar="PX", help="side in pixels (default for --data: 64)")
    sub.add_argument(
        "--manifest", type=Path, metavar="FILE", help="the training images and their order, from elsewhere"
    )
    sub.add_argument("--data-root", metavar="FOLDER", help="where named datasets lie (default: BIAS_LAB_DATA)")
    sub.add_argument("--skip-bad-images", action="store_true", help="leave unreadable images out and go on")
    sub.add_argument("--allow-overlap", action="store_true", help="allow weights or a source that saw the test images")


def _recipe_flags(sub: Parser) -> None:
    sub.add_argument("--recipe", default="", help="plain or strong, in place of the experiment's")
    sub.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="one more field of every run (repeatable)"
    )


def _machine_flags(sub: Parser) -> None:
    sub.add_argument("--workers", type=positive, metavar="K", help="runs at a time (default: one a core, or a GPU)")
    sub.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    sub.add_argument("--no-wandb", action="store_true", help="record nothing in W&B, not even offline")


def _train_flags(sub: Parser) -> None:
    sub.add_argument("--like", metavar="RUN", help="start from this run's definition: an id, or its folder")
    sub.add_argument("--dataset", help="a dataset's name (default: fashion_mnist_12k)")
    sub.add_argument("--backbone", metavar="NAME", help="a lab name, a timm name or package.module:factory")
    sub.add_argument("--task", help="classify, pretrain or tune")
    sub.add_argument("--size", type=int, metavar="N", help="labelled training images")
    sub.add_argument("--draw", type=int, help="which order of the pool")
    sub.add_argument("--seed", type=int, help="initialisation, batch order, augmentation")
    sub.add_argument("--regime", help="where weights come from: scratch, weights, mae, …")
    sub.add_argument("--protocol", help="finetune, linear_probe or knn")
    sub.add_argument("--source", help="where a pretraining looks: pool, subset, or a dataset's name")
    sub.add_argument("--pretraining", metavar="RUN", help="the pretraining run in FOLDER to start from")
    sub.add_argument("--weights", metavar="NAME|FILE", help="weights to start from: a timm name, or a file")
    sub.add_argument("--out", type=Path, default=Path("results/train"), metavar="FOLDER", help="default: results/train")
    sub.add_argument("--no-tune", dest="tune", action="store_false", default=None, help="borrow a learning rate")
    sub.add_argument("--retry-failed", action="store_true", help="try it again if it failed")
    _data_flags(sub)
    _recipe_flags(sub)
    _machine_flags(sub)


def _folder_flag(sub: Parser) -> None:
    sub.add_argument("folder", type=Path, metavar="FOLDER", help="a sweep's --out")


def _show_flags(sub: Parser) -> None:
    sub.add_argument("name", metavar="RUN", help="a run's id, the beginning of it, or its folder")
    sub.add_argument("--out", type=Path, metavar="FOLDER", help="the sweep's folder (default: all in results/)")


def _report_flags(sub: Parser) -> None:
    _folder_flag(sub)
    sub.add_argument("--format", default="html", choices=("html", "md"), help="default: html")


def _tuned_flags(sub: Parser) -> None:
    _folder_flag(sub)
    sub.add_argument("--out", type=Path, metavar="FILE", help="default: FOLDER/tuned.json")


def _backbones_flags(sub: Parser) -> None:
    sub.add_argument("pattern", nargs="?", default="", metavar="WORD", help="only names that hold it")


def _datasets_flags(sub: Parser) -> None:
    sub.add_argument("action", nargs="?", choices=("check",), help="check: verify a dataset's files")
    sub.add_argument("name", nargs="?", metavar="NAME", help="which")
    sub.add_argument("--data-root", metavar="FOLDER", help="where datasets lie (default: BIAS_LAB_DATA)")


# --- commands --------------------------------------------------------------------------------------------------------


def sweep(arguments: argparse.Namespace) -> int:
    """Run an experiment: what is missing of it, several runs at a time, resumable at any moment."""
    from bias_lab import ledger
    from bias_lab.sweep import plan as planning

    name = arguments.experiment.stem + ("" if arguments.profile == "laptop" else f"-{arguments.profile}")
    folder: Path = arguments.out or Path("results") / name
    request = _request(arguments)

    def make() -> "Plan":
        return planning.make(arguments.experiment, arguments.profile, folder, request)

    if arguments.dry_run:
        return _print_plan(make())
    plan = make()
    with ledger.claim(folder):
        return _conduct(make, plan, folder, arguments)


def _conduct(make: "Callable[[], Plan]", plan: "Plan", folder: Path, arguments: argparse.Namespace) -> int:
    from bias_lab.analysis import collect, report
    from bias_lab.sweep.conduct import conduct, told

    console = _console()

    def publish() -> None:
        collect.write(folder)
        report.write(folder)

    settings = _settings(arguments, plan.name)
    retry, redo = arguments.retry_failed, getattr(arguments, "redo_changed", False)
    outcome = conduct(make, folder, settings, publish=publish, console=console, retry_failed=retry, redo_changed=redo)
    publish()
    console.print(report.summary(folder), highlight=False, markup=False)
    for failure in outcome.failures:
        console.print(f"failed  {told(failure)}", highlight=False, markup=False, soft_wrap=True)
    if outcome.blocked:
        console.print(f"{len(outcome.blocked)} runs wait for a pretraining that failed", highlight=False)
    console.print(
        f"{outcome.finished} of {outcome.total} runs finished; {folder / 'report.html'}",
        highlight=False,
        soft_wrap=True,
    )
    return outcome.exit_code


def _settings(arguments: argparse.Namespace, experiment: str) -> "Settings":
    from bias_lab.definition import Settings

    return Settings(
        device=arguments.device,
        workers=arguments.workers,
        wandb=not arguments.no_wandb,
        data_root=arguments.data_root,
        experiment=experiment,
        command=arguments.typed,
        skip_bad_images=arguments.skip_bad_images,
        allow_overlap=arguments.allow_overlap,
    )


def _request(arguments: argparse.Namespace) -> "Request":
    from bias_lab.definition import parse_field
    from bias_lab.sweep.plan import Request

    return Request(
        sizes=arguments.sizes,
        draws=arguments.draws,
        seeds=arguments.seeds,
        backbones=tuple(dict.fromkeys(arguments.backbone)),
        family=arguments.family,
        recipe=arguments.recipe,
        fields=dict(parse_field(text) for text in arguments.set),
        tune=arguments.tune,
        allow_overlap=arguments.allow_overlap,
    )


def _print_plan(plan: "Plan") -> int:
    from bias_lab.definition import label, run_id
    from bias_lab.sweep.rates import needs_rate

    for line in (*plan.notes, *(f"warning: {text}" for text in plan.warnings)):
        print(line)
    for run in plan.all():
        rate = "learning rate open" if needs_rate(run) else f"lr {run.learning_rate:g}" if run.learning_rate else ""
        print(f"{'?' * 12 if needs_rate(run) else run_id(run)}  {label(run)}  {rate}".rstrip())
    print(f"{len(plan.all())} runs")
    return 0


def status(arguments: argparse.Namespace) -> int:
    """What a sweep's folder holds: runs done, running, failed and missing."""
    from bias_lab.sweep import status as state

    now = state.read(arguments.folder)
    console = _console()
    console.print(state.headline(now), style="bold", highlight=False)
    if now.head.get("question"):
        console.print(now.head["question"], style="dim", highlight=False, markup=False)
    _print_table(console, *state.table(now))
    for name, failure in now.failures.items():
        text = f"{failure['reason']}  {name}  {state.label(now.runs[name])}: {failure['exception']}"
        console.print(text, style="red", highlight=False, markup=False, soft_wrap=True)
    for line in state.advice(now):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return FAILED if now.failures else 0


def show(arguments: argparse.Namespace) -> int:
    """One run: its definition, its result, and how to repeat it."""
    from bias_lab.sweep import status as state

    folder, name = state.find(arguments.name, arguments.out)
    told = state.describe(folder, name)
    console = _console()
    console.print(f"{name}  {told['label']}  ({told['state']})", style="bold", highlight=False, markup=False)
    for title, rows in state.sections(told):
        console.print(title, style="dim", highlight=False)
        width = max(len(key) for key, _ in rows)
        for key, value in rows:
            console.print(f"  {key:<{width}}  {value}", highlight=False, markup=False, soft_wrap=True)
    return 0


def report(arguments: argparse.Namespace) -> int:
    """Write a folder's table and report again."""
    from bias_lab import ledger
    from bias_lab.analysis import collect
    from bias_lab.analysis import report as page

    if not arguments.folder.is_dir():
        raise UserError(f"there is no folder {arguments.folder}", remedy="give the --out of a sweep")
    if (arguments.folder / "runs").is_dir() or not (arguments.folder / ledger.TABLE).is_file():
        collect.write(arguments.folder)
    print(page.write(arguments.folder))
    return 0


def tuned(arguments: argparse.Namespace) -> int:
    """Choose learning rates from a folder's finished tuning runs and write tuned.json."""
    from bias_lab import ledger
    from bias_lab.sweep import conduct, rates
    from bias_lab.sweep import status as state

    now = state.read(arguments.folder)
    trials = [run for run in now.runs.values() if run.task == "tune"]
    if not trials:
        raise UserError(f"{arguments.folder} holds no tuning runs", remedy="bias-lab sweep experiments/tuning.py")
    rows = rates.choose(trials, conduct.scores(trials, arguments.folder))
    path = arguments.out or arguments.folder / ledger.TUNED
    rates.write(path, rows, now.head.get("command", ""))
    print(f"{len(rows)} learning rates in {path}")
    return 0


def backbones(arguments: argparse.Namespace) -> int:
    """List the lab's backbones."""
    from bias_lab import catalogue

    rows = [
        [row.name, row.architecture, row.family, f"{row.image_size} px", row.about]
        for row in catalogue.BACKBONES.values()
        if arguments.pattern in row.name
    ]
    if not rows:
        raise unknown("backbone", arguments.pattern, catalogue.BACKBONES)
    console = _console()
    _print_table(console, ["name", "architecture", "family", "made for", ""], rows, numeric=False)
    console.print("any timm name works too, and package.module:factory for your own", style="dim", highlight=False)
    return 0


def datasets(arguments: argparse.Namespace) -> int:
    """List the datasets by name; `datasets check NAME` verifies one's files."""
    from bias_lab import catalogue

    if arguments.action == "check":
        from bias_lab.data import sources

        if not arguments.name:
            raise UserError(
                "bias-lab datasets check: which dataset?", remedy="bias-lab datasets check fashion_mnist_12k"
            )
        catalogue.dataset(arguments.name)
        for line in sources.check(arguments.name, data_root=arguments.data_root):
            print(line)
        return 0
    rows = [
        [d.name, f"{d.classes}", f"{d.pool:,}", f"{d.test_images:,}", f"{d.image_size}", f"{d.channels}", d.licence]
        for d in catalogue.DATASETS.values()
    ]
    console = _console()
    _print_table(console, ["name", "classes", "training", "test", "px", "channels", "licence"], rows)
    console.print("your own images: --data PATH, a folder of class folders or a table", style="dim", highlight=False)
    return 0


# --- the terminal ----------------------------------------------------------------------------------------------------


def _console() -> "Console":
    from rich.console import Console

    return Console()


def _print_table(console: "Console", header: list[str], rows: list[list[str]], *, numeric: bool = True) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="dim")
    for place, name in enumerate(header):
        table.add_column(name, justify="right" if numeric and place else "left", no_wrap=place == 0)
    for row in rows:
        table.add_row(*row)
    console.print(table, highlight=False)


COMMANDS: dict[str, tuple[Callable[[argparse.Namespace], int], Callable[[Parser], None]]] = {
    "sweep": (sweep, _sweep_flags),
    "status": (status, _folder_flag),
    "show": (show, _show_flags),
    "report": (report, _report_flags),
    "tuned": (tuned, _tuned_flags),
    "backbones": (backbones, _backbones_flags),
    "datasets": (datasets, _datasets_flags),
}

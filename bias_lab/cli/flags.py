"""What can be typed: the words and flags of every command. Plain argparse; a snapshot test freezes it."""

import argparse
import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from bias_lab import __version__
from bias_lab.errors import UserError, unknown

Commands = Mapping[str, tuple[Callable[[argparse.Namespace], int], Callable[["Parser"], None]]]


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are one line, with the nearest match."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message}", remedy=f"{self.prog} --help")


def parse(words: Sequence[str], table: Commands) -> argparse.Namespace:
    """Words → arguments. Raises UserError for an unknown command or flag, with the nearest match."""
    parser, commands = build(table)
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


def build(table: Commands) -> tuple[Parser, dict[str, list[str]]]:
    """The parser, and each command's flags."""
    parser = Parser(prog="bias-lab", allow_abbrev=False, description=_ABOUT)
    parser.add_argument("--version", action="version", version=f"bias-lab {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    made: dict[str, list[str]] = {}
    for name, (run, add) in table.items():
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


def sizes(text: str) -> tuple[int, ...]:
    """Numbers of labelled images, each once."""
    values = numbers(text)
    if min(values) < 1:
        raise argparse.ArgumentTypeError("0 labelled images are too few: a size is 1 or more")
    return values


def device(text: str) -> str:
    """`auto`, `cpu`, `cuda` or `cuda:1`; whether it is there, a worker finds out."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"'{text}' is none of auto, cpu, cuda and cuda:NUMBER")
    return text


def positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number") from error
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is below 1")
    return value


def sweep(sub: Parser) -> None:
    sub.add_argument("experiment", type=Path, metavar="EXPERIMENT", help="an experiment file, experiments/NAME.py")
    sub.add_argument("--profile", default="laptop", help="smoke, laptop or full (default: laptop)")
    sub.add_argument("--out", type=Path, metavar="FOLDER", help="where results go (default: results/NAME[-PROFILE])")
    sub.add_argument("--sizes", type=sizes, metavar="N,N", help="labelled training images, in place of the profile's")
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
    again(sub)
    sub.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    data(sub)
    recipe(sub)
    machine(sub)


def again(sub: Parser) -> None:
    tuning = sub.add_mutually_exclusive_group()
    tuning.add_argument("--tune", action="store_true", default=None, help="tune every backbone's learning rate first")
    tuning.add_argument("--no-tune", dest="tune", action="store_false", help="tune nothing: borrow learning rates")
    sub.add_argument("--retry-failed", action="store_true", help="try failed runs again (never diverged ones)")
    sub.add_argument("--redo-changed", action="store_true", help="run again what other code of the lab finished")


def data(sub: Parser) -> None:
    sub.add_argument(
        "--data", type=Path, metavar="PATH", help="your own images: a folder of class folders, a table, or hf:NAME"
    )
    sub.add_argument("--image-size", type=positive, metavar="PX", help="side in pixels (default for --data: 64)")
    sub.add_argument(
        "--manifest", type=Path, metavar="FILE", help="the training images and their order, from elsewhere"
    )
    sub.add_argument("--data-root", metavar="FOLDER", help="where named datasets lie (default: BIAS_LAB_DATA)")
    sub.add_argument("--skip-bad-images", action="store_true", help="leave unreadable images out and go on")
    sub.add_argument("--allow-overlap", action="store_true", help="allow weights or a source that saw the test images")


def recipe(sub: Parser) -> None:
    sub.add_argument("--recipe", default="", help="plain or strong, in place of the experiment's")
    sub.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="one more field of every run (repeatable)"
    )


def machine(sub: Parser) -> None:
    sub.add_argument("--workers", type=positive, metavar="K", help="runs at a time (default: one a core, or a GPU)")
    sub.add_argument("--device", type=device, default="auto", help="auto, cpu or cuda (default: auto)")
    sub.add_argument("--no-wandb", action="store_true", help="record nothing in W&B, not even offline")


def train(sub: Parser) -> None:
    sub.add_argument("--like", metavar="RUN", help="start from this run's definition: an id, or its folder")
    sub.add_argument("--dataset", help="a dataset's name (default: fashion_mnist_12k)")
    sub.add_argument("--backbone", metavar="NAME", help="a lab name, a timm name or package.module:factory")
    sub.add_argument("--task", help="classify, pretrain or tune")
    sub.add_argument("--size", type=int, metavar="N", help="labelled training images")
    sub.add_argument("--draw", type=int, help="which order of the pool")
    sub.add_argument("--seed", type=int, help="initialisation, batch order, augmentation")
    sub.add_argument("--regime", help="where weights come from: scratch, weights, mae, …")
    sub.add_argument("--protocol", help="finetune, linear_probe or knn")
    sub.add_argument("--source", help="where a pretraining looks: pool, subset, a dataset's name, or a folder")
    sub.add_argument("--pretraining", metavar="RUN", help="the pretraining run in FOLDER to start from")
    sub.add_argument("--weights", metavar="NAME|FILE", help="weights to start from: a timm name, or a file")
    sub.add_argument("--out", type=Path, default=Path("results/train"), metavar="FOLDER", help="default: results/train")
    again(sub)
    data(sub)
    recipe(sub)
    machine(sub)


def folder(sub: Parser) -> None:
    sub.add_argument("folder", type=Path, metavar="FOLDER", help="a sweep's --out")


def show(sub: Parser) -> None:
    sub.add_argument("name", metavar="RUN", help="a run's id, the beginning of it, or its folder")
    sub.add_argument("--out", type=Path, metavar="FOLDER", help="the sweep's folder (default: all in results/)")


def report(sub: Parser) -> None:
    folder(sub)
    sub.add_argument("--format", default="html", help="html, md, svg or png (default: html)")


def tuned(sub: Parser) -> None:
    folder(sub)
    sub.add_argument("--out", type=Path, metavar="FILE", help="default: FOLDER/tuned.json")


def backbones(sub: Parser) -> None:
    sub.add_argument("pattern", nargs="?", default="", metavar="WORD", help="only names that hold it")


def datasets(sub: Parser) -> None:
    sub.add_argument("action", nargs="?", metavar="check", help="verify a dataset's files")
    sub.add_argument("name", nargs="?", metavar="NAME", help="which")
    sub.add_argument("--data-root", metavar="FOLDER", help="where datasets lie (default: BIAS_LAB_DATA)")


def subset(sub: Parser) -> None:
    sub.add_argument("dataset", metavar="DATASET", help="a dataset's name, or a folder of class folders")
    sub.add_argument("--sizes", type=sizes, metavar="N,N", help="prefixes that must work (default: the whole pool)")
    sub.add_argument("--draw", type=int, default=0, help="which order of the pool (default: 0)")
    sub.add_argument("--balanced", action="store_true", help="equal counts a class instead of proportional ones")
    sub.add_argument("--out", type=Path, required=True, metavar="FILE", help="the manifest, a parquet file")
    sub.add_argument("--data-root", metavar="FOLDER", help="where named datasets lie (default: BIAS_LAB_DATA)")
    sub.add_argument("--skip-bad-images", action="store_true", help="leave unreadable images out and go on")


def bench(sub: Parser) -> None:
    sub.add_argument("what", metavar="WHAT", help="data or backbones")
    sub.add_argument("--out", type=Path, metavar="FILE", help="write the rows as JSON")
    sub.add_argument("--quick", action="store_true", help="a few rounds, to see that it works; no figure to quote")


def wandb_sync(sub: Parser) -> None:
    folder(sub)
    project(sub)
    sub.add_argument("--offline", action="store_true", help="upload nothing, even if logged in")
    sub.add_argument("--artifacts", action="store_true", help="the weights too")


def project(sub: Parser) -> None:
    sub.add_argument("--project", default="bias_lab", metavar="NAME", help="W&B's project (default: bias_lab)")
    sub.add_argument("--entity", metavar="NAME", help="W&B's user or team (default: yours)")


def wandb_dashboard(sub: Parser) -> None:
    sub.add_argument("folder", nargs="?", type=Path, metavar="FOLDER", help="a sweep's --out (default: the main study)")
    project(sub)
    sub.add_argument("--dry-run", action="store_true", help="print the specification and stop")

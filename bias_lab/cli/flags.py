"""Define the words and flags of every command with argparse. A snapshot test freezes them."""

import argparse
import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from bias_lab import __version__, catalogue
from bias_lab.cli import values
from bias_lab.errors import UserError, unknown


class Command(NamedTuple):
    """A command: its name, the function that runs it, the one that adds its flags, and what it does in a few words."""

    name: str
    run: Callable[[argparse.Namespace], int]
    add: Callable[["Parser"], None]
    about: str


Commands = Mapping[str, Command]


class Parser(argparse.ArgumentParser):
    """An argparse parser that raises UserError instead of printing its usage."""

    def error(self, message: str) -> NoReturn:
        """Raise UserError."""
        raise UserError(f"{self.prog}: {message}", remedy=f"{self.prog} --help")


def parse(words: Sequence[str], table: Commands) -> argparse.Namespace:
    """Return the arguments of a command line. Raise UserError with the nearest match for unknown commands and flags.

    table: name → command.
    """
    parser, commands = build(table)
    named = next((word for word in words if not word.startswith("-")), "")
    if named and named not in commands and not {"-h", "--help", "--version"} & set(words[:1]):
        raise unknown("command", named, commands, "bias-lab --help")
    arguments, rest = parser.parse_known_args(words)
    if rest:
        prog = f"bias-lab {arguments.command}" if arguments.command else "bias-lab"
        flags = sorted(commands[arguments.command]) if arguments.command else []
        near = difflib.get_close_matches(rest[0].partition("=")[0], flags, n=1, cutoff=0.6)
        match = f"did you mean '{near[0]}'?" if near else ""
        raise UserError(f"{prog}: unknown argument '{rest[0]}'", match, f"{prog} --help")
    if not arguments.command:
        parser.print_help()
        raise SystemExit(0)
    return arguments


def build(table: Commands) -> tuple[Parser, dict[str, list[str]]]:
    """Return the parser, and the flags of each command by its name."""
    parser = Parser(prog="bias-lab", allow_abbrev=False, description=_ABOUT)
    parser.add_argument("--version", action="version", version=f"bias-lab {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    flags: dict[str, list[str]] = {}
    for name, command in table.items():
        about = f"{command.about[0].upper()}{command.about[1:]}."
        sub = commands.add_parser(name, help=command.about, description=about, allow_abbrev=False)
        command.add(sub)
        sub.set_defaults(run=command.run)
        flags[name] = [option for action in sub._actions for option in action.option_strings]
    return parser, flags


_ABOUT = (
    "How much accuracy does an image model lose for lack of inductive bias when labels are few, and what buys it back?"
)


def sweep(sub: Parser) -> None:
    add = sub.add_argument
    add("experiment", metavar="EXPERIMENT", help="an experiment's name (bias-lab experiments), or your own file")
    add("--profile", default="laptop", help="the experiment's size: smoke, laptop, desk or full (default: laptop)")
    add("--out", type=Path, metavar="FOLDER", help="folder for the results (default: results/NAME[-PROFILE])")
    add(
        "--sizes",
        type=values.sizes,
        metavar="N,N",
        help="numbers of labelled training images, instead of the profile's",
    )
    add("--draws", type=values.numbers, metavar="D,D", help="draws of the labelled images, instead of the profile's")
    add(
        "--seeds",
        type=values.numbers,
        metavar="S,S",
        help="seeds of initialisation and batches, instead of the profile's",
    )
    add(
        "--backbone",
        action="append",
        default=[],
        metavar="NAME",
        help="add a backbone to all scratch cells: a timm name or package.module:factory (repeatable)",
    )
    add(
        "--method",
        action="append",
        default=[],
        metavar="NAME",
        help="add your own training to all fine-tuned cells: package.module:Class, or :loss (repeatable)",
    )
    add("--family", default="", help="family of the added backbone: cnn, transformer, hybrid or other")
    again(sub)
    add("--dry-run", action="store_true", help="print how long it takes and what is planned, and stop")
    add("--list", action="store_true", help="print a line for each run (with --dry-run)")
    data(sub)
    start(sub)
    recipe(sub)
    machine(sub)


def again(sub: Parser) -> None:
    tuning = sub.add_mutually_exclusive_group()
    tuning.add_argument("--tune", action="store_true", default=None, help="tune the learning rate of every backbone")
    tuning.add_argument("--no-tune", dest="tune", action="store_false", help="tune nothing, borrow learning rates")
    sub.add_argument("--retry-failed", action="store_true", help="repeat failed runs (never diverged ones)")
    sub.add_argument("--redo-changed", action="store_true", help="repeat runs that came from different code of the lab")


def data(sub: Parser) -> None:
    add = sub.add_argument
    add(
        "--data",
        type=Path,
        metavar="PATH",
        help="your own images: class folders, images/ and masks/, a table, or hf:NAME",
    )
    columns(sub)
    add(
        "--image-size", type=values.positive, metavar="PX", help="side of the images in pixels (default for --data: 64)"
    )
    add("--manifest", type=Path, metavar="FILE", help="file that lists the training images in order (bias-lab subset)")
    data_root(sub)
    skip_bad_images(sub)
    add("--allow-overlap", action="store_true", help="allow weights or a source that have seen the test images")


def columns(sub: Parser) -> None:
    add = sub.add_argument
    add("--path-column", default="", metavar="NAME", help="column of image paths in a table (default: path, file_name)")
    add("--label-column", default="", metavar="NAME", help="column of labels in a table (default: label)")


def start(sub: Parser) -> None:
    add = sub.add_argument
    add(
        "--weights",
        metavar="NAME|FILE",
        help="weights to start from: a timm name, or a file (in a sweep with --backbone)",
    )
    add(
        "--allow-partial-weights",
        action="store_true",
        help="go on if weights fill only a part of the backbone, and say which",
    )
    add(
        "--mean",
        type=values.channels,
        metavar="R,G,B",
        help="mean of the images that the weights were trained with, 0 to 1",
    )
    add("--std", type=values.channels, metavar="R,G,B", help="standard deviation that belongs to --mean")


def data_root(sub: Parser) -> None:
    sub.add_argument("--data-root", metavar="FOLDER", help="folder of the named datasets (default: BIAS_LAB_DATA)")


def skip_bad_images(sub: Parser) -> None:
    sub.add_argument("--skip-bad-images", action="store_true", help="leave out images that can't be read")


def recipe(sub: Parser) -> None:
    sub.add_argument("--recipe", default="", help="plain, strong, or tuned (the hold-out's choice), for all runs")
    sub.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="set a field of every run (repeatable)"
    )


def machine(sub: Parser) -> None:
    engines = "; ".join(f"{row.name}, {row.words}" for row in catalogue.ENGINES.values())
    add = sub.add_argument
    add(
        "--engine",
        type=lambda name: catalogue.engine(name).name,
        default="local",
        metavar="NAME",
        help=f"what carries out the runs: {engines} (default: local)",
    )
    add("--workers", type=values.positive, metavar="K", help="number of runs at a time (default: one per core or GPU)")
    add("--device", type=values.device, default="auto", help="auto, cpu, cuda or cuda:NUMBER (default: auto)")
    wandb(sub, "off")
    add("--no-wandb", dest="wandb", action="store_const", const="off", help="another word for --wandb off")


def wandb(sub: Parser, *more: str, words: str = "record in W&B") -> None:
    """Add --wandb. more: choices beside offline and online."""
    sub.add_argument(
        "--wandb",
        type=lambda given: values.one_of("W&B mode", given, ("offline", "online", *more)),
        metavar="|".join(("offline", "online", *more)),
        help=f"{words}: written to FOLDER/wandb, or uploaded (default: WANDB_MODE, else offline)",
    )


def train(sub: Parser) -> None:
    add = sub.add_argument
    add("--like", metavar="RUN", help="start from the definition of this run, given by its id or its folder")
    add("--dataset", help="name of the dataset (default: fashion_mnist_12k)")
    add("--backbone", metavar="NAME", help="a lab or timm name, or package.module:factory (default: vit_micro)")
    add("--method", metavar="NAME", help="your own training or pretraining: package.module:Class, or a loss")
    add("--task", help=", ".join(catalogue.TASKS))
    add("--size", type=values.whole, metavar="N", help="number of labelled training images")
    add("--draw", type=values.whole, help="draw of the labelled images")
    add("--seed", type=values.whole, help="seed of initialisation, batch order and augmentation")
    add("--regime", help=f"where the weights come from: {', '.join(catalogue.REGIMES)}")
    add("--protocol", help=", ".join(catalogue.PROTOCOLS))
    add(
        "--prior",
        dest="priors",
        action="append",
        metavar="NAME",
        help=f"give the backbone a prior: {', '.join(catalogue.PRIORS)} (repeatable)",
    )
    add("--source", help="images of a pretraining: pool, subset, the name of a dataset, or a folder")
    add("--pretraining", metavar="RUN", help="finished pretraining in the --out folder to start from")
    add(
        "--out",
        type=Path,
        default=Path("results/train"),
        metavar="FOLDER",
        help="folder for the results (default: results/train)",
    )
    add(
        "--settle",
        action="store_true",
        help="find learning rate, recipe and images seen on the hold-out, until more training no longer helps",
    )
    again(sub)
    data(sub)
    start(sub)
    recipe(sub)
    machine(sub)


def nothing(sub: Parser) -> None:
    """Add no flag."""


def folder(sub: Parser) -> None:
    sub.add_argument("folder", type=Path, metavar="FOLDER", help="folder of a sweep (its --out)")


def runs(sub: Parser) -> None:
    folder(sub)
    sub.add_argument("words", nargs="*", metavar="WORD", help="list only runs whose label, id or state has these words")


def show(sub: Parser) -> None:
    about = "id of a run, the beginning of its id, its folder, or words that describe no other run"
    sub.add_argument("name", nargs="+", metavar="RUN", help=about)
    sub.add_argument("--out", type=Path, metavar="FOLDER", help="folder of the sweep (default: all in results/)")


def report(sub: Parser) -> None:
    folder(sub)
    sub.add_argument(
        "parts", nargs="*", type=Path, metavar="PART", help="further folders of the same study, to be joined"
    )
    sub.add_argument("--format", default="html", help="html, md, svg or png (default: html)")
    sub.add_argument(
        "--out",
        type=Path,
        metavar="PATH",
        help="file to write, or folder for svg and png (default: in FOLDER, required with PART)",
    )


def tuned(sub: Parser) -> None:
    folder(sub)
    sub.add_argument("--out", type=Path, metavar="FILE", help="file to write (default: FOLDER/tuned.json)")


def backbones(sub: Parser) -> None:
    sub.add_argument("pattern", nargs="?", default="", metavar="WORD", help="list only names that contain this word")


def datasets(sub: Parser) -> None:
    sub.add_argument("action", nargs="?", metavar="check", help="verify the files of a dataset")
    sub.add_argument("name", nargs="?", metavar="NAME", help="dataset to check: a name, or your own folder or table")
    columns(sub)
    data_root(sub)
    skip_bad_images(sub)


def subset(sub: Parser) -> None:
    add = sub.add_argument
    add("dataset", metavar="DATASET", help="name of a dataset, or a folder of class folders")
    add(
        "--sizes", type=values.sizes, metavar="N,N", help="sizes that the manifest must serve (default: the whole pool)"
    )
    add("--draw", type=values.whole, default=0, help="draw of the labelled images (default: 0)")
    add(
        "--blocks",
        type=values.positive,
        default=0,
        metavar="K",
        help="cut draw 0 into K disjoint blocks, of which --draw is one",
    )
    add("--balanced", action="store_true", help="the same number of images from each class, instead of proportional")
    add("--out", type=Path, required=True, metavar="FILE", help="manifest to write, a parquet file")
    data_root(sub)
    skip_bad_images(sub)


def bench(sub: Parser) -> None:
    sub.add_argument("what", metavar="WHAT", help="data or backbones")
    sub.add_argument("--out", type=Path, metavar="FILE", help="JSON file to write the rows to")
    sub.add_argument("--quick", action="store_true", help="measure a few rounds only, as a test without valid figures")


def wandb_sync(sub: Parser) -> None:
    folder(sub)
    project(sub)
    wandb(sub, words="where the runs go")
    sub.add_argument(
        "--offline", dest="wandb", action="store_const", const="offline", help="the same as --wandb offline"
    )
    sub.add_argument("--artifacts", action="store_true", help="export the weights too")


def project(sub: Parser) -> None:
    sub.add_argument("--project", default="bias_lab", metavar="NAME", help="W&B project (default: bias_lab)")
    sub.add_argument("--entity", metavar="NAME", help="W&B user or team (default: yours)")


def wandb_dashboard(sub: Parser) -> None:
    sub.add_argument(
        "folder", nargs="?", type=Path, metavar="FOLDER", help="folder of a sweep (default: the main study)"
    )
    project(sub)
    wandb(sub, words="where the page goes")
    sub.add_argument("--dry-run", action="store_true", help="print the specification and stop")

"""The commands that need no sweep: `experiments`, `backbones`, `datasets`, `subset`, `bench`."""

import argparse
import importlib
from pathlib import Path

from bias_lab.errors import UserError, unknown

BENCHES = ("data", "backbones")


def experiments(_: argparse.Namespace) -> int:
    """List the experiments that come with the package, with their profiles."""
    from bias_lab.cli import terminal
    from bias_lab.execution.progress import print_line
    from bias_lab.planning import experiment_files

    rows = [[name, ", ".join(profiles), question] for name, question, profiles in experiment_files.listed()]
    console = terminal.console()
    terminal.table(console, ["name", "profiles", "question"], rows)
    print_line(console, "to run one: bias-lab sweep NAME --profile PROFILE; your own: bias-lab sweep FILE.py", "dim")
    return 0


def backbones(arguments: argparse.Namespace) -> int:
    """List the backbones of the lab."""
    from bias_lab import catalogue
    from bias_lab.cli import terminal
    from bias_lab.execution.progress import print_line

    rows = [
        [
            row.name,
            row.architecture,
            row.family,
            "control" if catalogue.traits(row.name).control else "",
            f"{row.image_size} px",
        ]
        for row in catalogue.BACKBONES.values()
        if arguments.pattern in row.name
    ]
    if not rows:
        raise unknown("backbone", arguments.pattern, catalogue.BACKBONES)
    console = terminal.console()
    terminal.table(console, ["name", "architecture", "family", "role", "made for"], rows)
    print_line(console, "any timm name works too, and package.module:factory for your own", "dim")
    return 0


def datasets(arguments: argparse.Namespace) -> int:
    """List the datasets by name. `datasets check NAME` verifies the files of one."""
    from bias_lab import catalogue
    from bias_lab.cli import terminal
    from bias_lab.execution.progress import print_line

    if arguments.action:
        if arguments.action != "check":
            raise unknown("action", arguments.action, ["check"], "bias-lab datasets --help")
        if not arguments.name:
            raise UserError("no dataset is named", remedy="for example: bias-lab datasets check fashion_mnist_12k")
        from bias_lab.data import own_images
        from bias_lab.data.masks import listing, own
        from bias_lab.data.own.rows import Columns

        path, name = Path(arguments.name), arguments.name
        has_masks = path.exists() and listing.holds_pairs(path)
        skip_bad = arguments.skip_bad_images
        if has_masks:
            lines = own.check(path, skip_bad=skip_bad)
        else:
            columns = Columns(arguments.path_column, arguments.label_column)
            lines = own_images.check(name, data_root=arguments.data_root, skip_bad=skip_bad, columns=columns)
        for line in lines:
            print(line)
        return 0
    rows = [
        [d.name, f"{d.classes}", f"{d.pool:,}", f"{d.test_images:,}", f"{d.image_size}", f"{d.channels}", d.licence]
        for d in catalogue.DATASETS.values()
    ]
    console = terminal.console()
    terminal.table(console, ["name", "classes", "training", "test", "px", "channels", "licence"], rows)
    print_line(console, "for the citation and checksums of a dataset: bias-lab datasets check NAME", "dim")
    print_line(console, "for your own images: --data PATH, class folders, images/ and masks/, or a table", "dim")
    return 0


def subset(arguments: argparse.Namespace) -> int:
    """Write a manifest: the training images of one draw in order, to publish or to use elsewhere."""
    from bias_lab.data.readers import manifests
    from bias_lab.planning import request as requests

    if arguments.draw < 0:
        raise UserError(f"draw {arguments.draw} is negative", "it must be 0 or more")
    path = Path(arguments.dataset)
    place, name = None, arguments.dataset
    if path.exists():
        folder = arguments.out.parent / f"{arguments.out.stem}.data"  # keeps the index of the user's images
        data = requests.own_data(path, folder, image_size=None, skip_bad=arguments.skip_bad_images)
        place, name = dict(data.place), data.dataset
    pool = manifests.pool(name, place=place, data_root=arguments.data_root)
    length = manifests.write(
        arguments.out,
        pool,
        arguments.sizes or (),
        arguments.draw,
        balanced=arguments.balanced,
        blocks=arguments.blocks,
    )
    kind = "block" if arguments.blocks else "draw"
    print(f"{arguments.out} lists {length} images of {arguments.dataset}, {kind} {arguments.draw}")
    return 0


def bench(arguments: argparse.Namespace) -> int:
    """Measure the lab against its references: `bench data` or `bench backbones`."""
    from bias_lab.cli import terminal

    if arguments.what not in BENCHES:
        raise unknown("benchmark", arguments.what, BENCHES)
    main = importlib.import_module(f"bias_lab.bench.{arguments.what}").main
    header = ["case", "mode", "reference", "ratio", "low", "high", "n"]
    rows = [[str(row[name]) for name in header] for row in main(out=arguments.out, quick=arguments.quick)]
    terminal.table(terminal.console(), header, rows)
    return 0

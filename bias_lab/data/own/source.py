"""Index a folder of class folders to pretrain on with labels. It is identified by its content. No torch."""

from pathlib import Path
from typing import Any

import pandas as pd

from bias_lab import ledger
from bias_lab.data.identity import fingerprint
from bias_lab.data.own.files import is_image
from bias_lab.data.own_images import check_readable
from bias_lab.data.readers.decoding import Inspection, inspect_all
from bias_lab.data.readers.listing import listing
from bias_lab.errors import UserError, plural

NAMED = 5  # unreadable files that a message names


def index(path: Path, *, folder: Path, image_size: int = 64, skip_bad: bool = False) -> tuple[str, dict[str, Any]]:
    """Return (identity, place) of the training images of a folder of class folders. An image counts once.

    An image that lies in folders of several classes is left out.

    identity: `folder:<fingerprint>`, a run's `source`. place: values for FOLDER/places.json, which `open_images` takes.
    Test and validation images, if the folder has such splits, are left out. folder: the sweep's, where the index is
    kept. skip_bad: leave out the images that cannot be read. Raises UserError for a folder without classes, and if some
    images lie in no class folder or cannot be read.
    """
    _check_loose(path)
    listed = listing(path, folder)
    items = [item for item in listed.items if item.split in ("", "train")]
    notes = list(listed.warnings)
    if len(items) < len(listed.items):
        notes.append(f"left out: {plural(len(listed.items) - len(items), 'image')} of the test and validation splits")
    table = pd.DataFrame(inspect_all([item.reference for item in items]), columns=Inspection._fields)
    places = [
        (i.reference.path, i.reference.column, i.reference.group, i.reference.row, i.label, i.name) for i in items
    ]
    table[["path", "column", "group", "row", "class", "name"]] = pd.DataFrame(places, index=table.index)
    table["path"] = [str(Path(each).absolute()) for each in table.path]
    bad = {**listed.bad, **dict(table.loc[table.problem != "", ["name", "problem"]].itertuples(index=False, name=None))}
    count = len(table) + len(listed.bad)
    notes += check_readable(path, bad, count, skip_bad=skip_bad, at_most=NAMED, folder=folder)
    table = table[table.problem == ""]
    there = set(table["class"])
    classes = [name for name in listed.classes if name in there]
    if len(classes) < 2:
        raise UserError(
            f"{path} holds {plural(len(classes), 'class folder')} with training images, to pretrain on with labels",
            "two or more are needed",
            "give a folder of class folders, or a regime that needs no labels",
        )
    table, left_out = _numbered(table, classes)
    notes += left_out
    mark = fingerprint(("train", name, content) for name, content in zip(table["class"], table.hash, strict=True))
    where = folder / "data" / f"{mark}.parquet"
    with ledger.replacing(where) as temporary:
        table.to_parquet(temporary, index=False)
    place = {
        "path": str(path.absolute()),
        "index": str(where.absolute()),
        "fingerprint": mark,
        "classes": classes,
        "channels": 1 if bool(table.grey.all()) else 3,
        "image_size": image_size,
        "notes": notes,
    }
    return f"folder:{mark}", place


def _numbered(table: pd.DataFrame, classes: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """Return the table by content, each image once, with a column `label`, and a line on ambiguous images."""
    several = table.groupby("hash")["class"].transform("nunique") > 1
    table = table[~several].drop_duplicates("hash").sort_values("hash").reset_index(drop=True)
    table = table.assign(split="train", label=table["class"].map({name: k for k, name in enumerate(classes)}))
    count = plural(int(several.sum()), "image")
    return table, [f"left out, since they lie in several classes: {count}"] if several.any() else []


def _check_loose(path: Path) -> None:
    """Raise UserError for an image that lies beside the class folders."""
    for part in (path, path / "train"):
        if part.is_dir() and (loose := sorted(p.name for p in part.iterdir() if is_image(p.name) and p.is_file())):
            raise UserError(f"{part / loose[0]} lies in no class folder", remedy="give a folder with a folder a class")

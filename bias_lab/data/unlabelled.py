"""Index a folder of images to pretrain on, without classes or with them. It is identified by its content. No torch."""

from pathlib import Path
from typing import Any

import pandas as pd

from bias_lab import ledger
from bias_lab.data.identity import fingerprint
from bias_lab.data.own_images import check_readable
from bias_lab.data.readers.decoding import Inspection, Reference, inspect_all
from bias_lab.data.readers.image_file import EXTENSIONS
from bias_lab.errors import UserError

NAMED = 5  # unreadable files that a message names


def index(
    path: Path, *, folder: Path, image_size: int = 64, skip_bad: bool = False, labelled: bool = False
) -> tuple[str, dict[str, Any]]:
    """Return (identity, place) of all images below `path`, in folders of any depth. An image counts once.

    labelled: a class is a folder in `path`/train, or in `path` where that is not there. An image that lies in folders
    of several classes is left out, and other splits than train are not read.

    identity: `folder:<fingerprint>`, a run's `source`. place: values for FOLDER/places.json, which `open_images` takes.
    The images are its training split, of one class unless labelled. folder: the sweep's, where the index is kept.
    skip_bad: leave out the images that cannot be read. Raises UserError if there are no images, if some cannot be read,
    or if some lie in no class's folder.
    """
    path = path / "train" if labelled and (path / "train").is_dir() else path
    files = _files(path)
    inspected = inspect_all([Reference(str(file)) for file in files])
    table = pd.DataFrame(inspected, columns=Inspection._fields)
    table = table.assign(path=[str(file.absolute()) for file in files])
    table = table.assign(name=[str(file.relative_to(path)) for file in files])
    table = table[["path", "name", "hash", "file", "grey", "problem"]]
    bad = dict(table.loc[table.problem != "", ["name", "problem"]].itertuples(index=False, name=None))
    check_readable(path, bad, len(table), skip_bad=skip_bad and len(bad) < len(table), at_most=NAMED, folder=folder)
    table = table[table.problem == ""]
    names, table = _classes(path, table) if labelled else (["image"], table.assign(label=0))
    table = table.drop_duplicates("hash").sort_values("hash").reset_index(drop=True)
    if labelled:
        mark = fingerprint(("train", names[label], content) for label, content in table[["label", "hash"]].to_numpy())
    else:
        mark = fingerprint(("unlabelled", "", content) for content in table.hash)
    table = table.assign(column="", group=0, row=0, split="train")
    where = folder / "data" / f"{mark}.parquet"
    with ledger.replacing(where) as temporary:
        table.to_parquet(temporary, index=False)
    place = {
        "path": str(path.absolute()),
        "index": str(where.absolute()),
        "fingerprint": mark,
        "classes": names,
        "channels": 1 if bool(table.grey.all()) else 3,
        "image_size": image_size,
    }
    return f"folder:{mark}", place


def _files(path: Path) -> list[Path]:
    """Return the image files below a folder, sorted, without hidden ones. Raise UserError if there are none."""
    files = sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in EXTENSIONS
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )
    if not files:
        raise UserError(
            f"{path} holds no images to pretrain on", f"its files must end in {', '.join(sorted(EXTENSIONS))}"
        )
    return files


def _classes(path: Path, table: pd.DataFrame) -> tuple[list[str], pd.DataFrame]:
    """Return the names of the classes, sorted, and the table with a column `label`, without ambiguous images."""
    loose = [name for name in table.name if len(Path(name).parts) < 2]
    if loose:
        raise UserError(f"{path / loose[0]} lies in no class's folder", remedy="give a folder with a folder a class")
    first = table.name.map(lambda name: Path(name).parts[0])
    names = sorted(set(first))
    table = table.assign(label=first.map({name: number for number, name in enumerate(names)}))
    return names, table[table.groupby("hash")["label"].transform("nunique") == 1]

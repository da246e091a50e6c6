"""Index a folder of images to pretrain on, without classes or with them. It is identified by its content. No torch."""

from pathlib import Path
from typing import Any

import pandas as pd

from bias_lab import ledger
from bias_lab.data.identity import fingerprint
from bias_lab.data.own import source
from bias_lab.data.own.files import is_text, left_out, walk
from bias_lab.data.own_images import check_readable
from bias_lab.data.readers import image_file
from bias_lab.data.readers.decoding import Inspection, Reference, inspect_all
from bias_lab.data.readers.image_file import EXTENSIONS
from bias_lab.errors import UserError

NAMED = 5  # unreadable files that a message names


def index(
    path: Path, *, folder: Path, image_size: int = 64, skip_bad: bool = False, labelled: bool = False
) -> tuple[str, dict[str, Any]]:
    """Return (identity, place) of all images below `path`, in folders of any depth. An image counts once.

    labelled: the folder is read as `source.index` describes, and gives the classes of its class folders.

    identity: `folder:<fingerprint>`, a run's `source`. place: values for FOLDER/places.json, which `open_images` takes.
    The images are its training split, of one class unless labelled. folder: the sweep's, where the index is kept.
    skip_bad: leave out the images that cannot be read. Raises UserError if there are no images, or if some cannot be
    read.
    """
    if labelled:
        return source.index(path, folder=folder, image_size=image_size, skip_bad=skip_bad)
    found = walk(path, folder)
    files = sorted(Path(file) for file, _ in found.images if Path(file).is_file())
    if bad_names := [ascii(file.name) for file in files if not is_text(str(file))]:
        raise UserError(f"{path}: the name of the file {bad_names[0]} is not UTF-8", remedy="rename the file")
    notes = left_out(path, found)
    if not files:
        raise UserError(
            f"{path} holds no images to pretrain on", f"its files must end in {', '.join(sorted(EXTENSIONS))}"
        )
    inspected = inspect_all([Reference(str(file)) for file in files])
    table = pd.DataFrame(inspected, columns=Inspection._fields)
    table = table.assign(path=[str(file.absolute()) for file in files])
    table = table.assign(name=[str(file.relative_to(path)) for file in files])
    table = table[["path", "name", "hash", "file", "grey", "problem"]]
    bad = dict(table.loc[table.problem != "", ["name", "problem"]].itertuples(index=False, name=None))
    notes += check_readable(
        path, bad, len(table), skip_bad=skip_bad and len(bad) < len(table), at_most=NAMED, folder=folder
    )
    notes += image_file.on_depth(list(table.name), [one.remark for one in inspected])
    table = table[table.problem == ""].drop_duplicates("hash").sort_values("hash").reset_index(drop=True)
    mark = fingerprint(("unlabelled", "", content) for content in table.hash)
    table = table.assign(column="", group=0, row=0, split="train", label=0)
    where = folder / "data" / f"{mark}.parquet"
    with ledger.replacing(where) as temporary:
        table.to_parquet(temporary, index=False)
    place = {
        "path": str(path.absolute()),
        "index": str(where.absolute()),
        "fingerprint": mark,
        "classes": ["image"],
        "channels": 1 if bool(table.grey.all()) else 3,
        "image_size": image_size,
        "notes": notes,
    }
    return f"folder:{mark}", place

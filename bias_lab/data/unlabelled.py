"""A folder of images without classes, to pretrain on: looked at once, identified by its content. No torch."""

from pathlib import Path
from typing import Any

import pandas as pd

from bias_lab import ledger
from bias_lab.data.identity import fingerprint
from bias_lab.data.readers.decoding import Reference, look_at
from bias_lab.data.readers.image_file import EXTENSIONS
from bias_lab.errors import UserError

NAMED = 5  # bad files that an error names


def index(path: Path, *, folder: Path, image_size: int = 64, skip_bad: bool = False) -> tuple[str, dict[str, Any]]:
    """(identity, place) of all images below `path`, whatever folders they lie in; an image counts once.

    identity: `folder:<fingerprint>`, a run's `source`. place: plain values for FOLDER/places.json, which `open_images`
    takes; the images stand there as a training split of one class. folder: the sweep's, where the index is kept.
    Raises UserError if there are no images, or some can't be read (skip_bad leaves those out).
    """
    files = sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in EXTENSIONS
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )
    if not files:
        raise UserError(f"{path} holds no images to pretrain on", f"files that end in {', '.join(sorted(EXTENSIONS))}")
    seen = look_at([Reference(str(file)) for file in files])
    rows = {"path": [str(file.absolute()) for file in files], "name": [str(file.relative_to(path)) for file in files]}
    table = pd.DataFrame(
        {
            **rows,
            "hash": [one.hash for one in seen],
            "file": [one.file for one in seen],
            "grey": [one.grey for one in seen],
            "problem": [one.problem for one in seen],
        }
    )
    bad = table[table.problem != ""]
    if len(bad) and (not skip_bad or len(bad) == len(table)):
        shown = ", ".join(f"{name} ({why})" for name, why in zip(bad["name"].head(NAMED), bad.problem, strict=False))
        what = f"{len(bad)} of {len(table)} images in {path} can't be read: {shown}"
        raise UserError(what, remedy="mend or remove them, or go on without them by --skip-bad-images")
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
    }
    return f"folder:{mark}", place

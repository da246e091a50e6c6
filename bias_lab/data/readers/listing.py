"""List the images of a folder of class folders, of a table or of a dataset of the hub. Nothing is decoded."""

import os
import tempfile
from pathlib import Path

from bias_lab.data.own import files, folders, labels, split_words, tables
from bias_lab.data.own.items import Item, Listing
from bias_lab.data.own.rows import USUAL, Columns
from bias_lab.data.own.split_words import SPLITS
from bias_lab.data.readers.pixel_store import data_root
from bias_lab.errors import UserError, check_regular
from bias_lab.ledger import replacing

__all__ = ["HUB", "SPLITS", "Item", "Listing", "listing"]

HUB = "hf:"  # the prefix of a dataset of the Hugging Face hub
FEW = 8  # folders that a message names


def listing(path: Path, out: Path | None = None, columns: Columns = USUAL) -> Listing:
    """Return the images of a folder or a table. out: the folder of the results, which is never read as images.
    columns: those of a table that the user named.

    Raises UserError if there are no images, if the input cannot be read, or if it could mean two things.
    """
    check_regular(path)
    try:
        listed = _listing(Path(path), out, columns)
    except PermissionError as error:
        raise UserError(f"no permission to read {error.filename}") from error
    listed.warnings += labels.near_equal(listed.classes)
    return listed


def _listing(path: Path, out: Path | None, columns: Columns) -> Listing:
    if str(path).startswith(HUB):
        return tables.read(_from_hub(str(path).removeprefix(HUB)), columns=columns)
    try:
        str(path.absolute()).encode()
    except UnicodeEncodeError:
        shown = ascii(os.fsencode(path.absolute()))[2:-1]
        raise UserError(f"the path {shown} is not UTF-8", remedy="rename its folders") from None
    if not path.exists():
        near = [p.name for p in path.parent.iterdir() if p.is_dir()] if path.parent.is_dir() else []
        others = f"{path.parent} holds: {', '.join(sorted(near)[:FEW])}" if near else ""
        raise UserError(
            f"there is no {path}", others, "--data takes a folder of class folders, a CSV or parquet file, or hf:NAME"
        )
    if path.is_file():
        return tables.read([path], columns=columns)
    found, notes = _tables(path, out)
    if not found:
        if columns != USUAL:
            what = f"--path-column and --label-column name columns of a table, and {path} is a folder of images"
            raise UserError(what, remedy="leave them out, or give the table itself")
        return folders.read(path, out)
    listed = tables.read(found, path, columns)
    listed.warnings += notes
    return listed


def _tables(root: Path, out: Path | None) -> tuple[list[Path], list[str]]:
    """Return the tables that a folder is to be read from, none if it holds class folders, and lines for the user."""
    entries = sorted(p for p in root.iterdir() if not p.name.startswith("."))
    here = [p for p in entries if p.suffix == ".parquet" and p.is_file()]
    below = [p for p in entries if p.is_dir() and not files.is_results(p, out)]
    if here and (not below or any("train" in split_words.splits_in(p.stem) for p in here)):
        notes = [f"the folder {p.name} next to the tables is left out" for p in below]
        if len(here) == 1 and split_words.splits_in(here[0].stem) - {"train"}:
            notes.append(f"{here[0].name} is the only table, so its name is not taken for a split")
        return here, notes
    texts = [p for p in entries if p.suffix in (".csv", ".tsv") and split_words.splits_in(p.stem) and p.is_file()]
    if len(below) < 2 and any("train" in split_words.splits_in(p.stem) for p in texts):
        return texts, [f"the folder {p.name} is read through the tables beside it" for p in below]
    if here or not below:
        return [], []
    return _tables_below(root, out)


def _tables_below(root: Path, out: Path | None) -> tuple[list[Path], list[str]]:
    """Return the parquet files below a folder that holds no image, as a clone of a dataset's repository has them.

    Raises UserError if they lie in several folders whose names do not say the splits.
    """
    has_image, found = files.first_image(root, out)
    if has_image or not found:
        return [], []
    places = sorted({file.parent for file in found})
    if len({place.parent for place in places}) == 1 and (
        len(places) == 1 or all(split_words.split_of(p.name) for p in places)
    ):
        names = ", ".join(f"{place.relative_to(root)}/" for place in places)
        return found, [f"the tables are read from {names}"]
    names = ", ".join(str(place.relative_to(root)) for place in places[:FEW])
    raise UserError(f"{root} holds tables in several folders: {names}", remedy="give one of them to --data")


def _from_hub(name: str) -> list[Path]:
    """Return a dataset of the Hugging Face hub as parquet files in the data root, one a split. It is fetched once."""
    folder = data_root(None) / "hf" / name.replace("/", "--")
    if found := sorted(folder.glob("*.parquet")):
        return found
    try:
        import datasets
    except ImportError as error:
        raise UserError(f"{HUB}{name} needs the package datasets", remedy="pip install 'bias_lab[hf]'") from error
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
            whole = Path(temporary) / "whole"  # moved to its place when it holds all splits
            for split, part in datasets.load_dataset(name).items():
                with replacing(whole / f"{split}.parquet") as file:
                    part.to_parquet(str(file))
            whole.replace(folder)
    except Exception as error:  # some of its errors have no narrower class
        why = " ".join(str(error).split())[:160]
        raise UserError(
            f"{HUB}{name} can't be fetched ({why})", remedy=f"put its parquet files into {folder}"
        ) from error
    return sorted(folder.glob("*.parquet"))

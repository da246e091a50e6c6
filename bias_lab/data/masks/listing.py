"""List a user's images with their masks, from folders or a table. Nothing is decoded.

| layout | how it is read |
|---|---|
| train/images, train/masks, test/images, test/masks, perhaps val/ | the split is kept |
| images/train, images/test, masks/train, masks/test, perhaps val | the split is kept |
| images/, masks/ | pairs without a split: one is drawn |
| a CSV or TSV with the columns image, mask, and perhaps split | paths are relative to the table |

An image and its mask have the same name up to the ending, below images/ and masks/. `classes.txt` beside the folders or
the table names the classes.
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bias_lab.data.own import files, layouts, split_words
from bias_lab.data.own.items import few
from bias_lab.data.own.rows import Columns
from bias_lab.data.own.text_tables import PATHS, lines_of, separator
from bias_lab.errors import UserError, check_regular, plural

CLASSES = "classes.txt"
COLUMNS = Columns("image", "mask")  # by which the separator of a table is told
LAYOUT = "images/ and masks/ are needed, or train/images, train/masks, test/images and test/masks"


@dataclass(frozen=True, slots=True)
class Item:
    """Locate one image and its mask. split: train, val or test, or empty. name: of the image, for messages."""

    image: str
    mask: str
    split: str
    name: str


@dataclass(slots=True)
class Listing:
    """Hold a user's pairs. kind: folder or table. names: the lines of classes.txt, empty without it."""

    kind: str
    items: list[Item] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def listing(path: Path, out: Path | None = None) -> Listing:
    """Return the pairs of a folder or a table. out: the folder of the results, which is never read as images.

    Raises UserError for an image without a mask, a mask without an image, and any other layout.
    """
    check_regular(path)
    if not path.exists():
        raise UserError(f"there is no {path}", LAYOUT, "--data takes such a folder, or a CSV with image and mask")
    listed = _table(path) if path.is_file() else _folder(path, out)
    named = (path.parent if path.is_file() else path) / CLASSES
    if named.is_file():
        listed.names = [line.strip() for line in lines_of(named) if line.strip()]
    if not listed.items:
        raise UserError(f"{path} holds no images with masks", LAYOUT)
    return listed


def holds_pairs(path: Path) -> bool:
    """Return whether a folder or a table is laid out as images with masks, and not as images with classes."""
    if path.is_file():
        if path.suffix.lower() not in (".csv", ".tsv"):
            return False
        first = next((line for line in lines_of(path) if line.strip()), "").lower()
        names = {name.strip().strip('"') for name in first.split(separator([first], path.suffix.lower(), COLUMNS))}
        return {"image", "mask"} <= names and not ("label" in names and names & {*PATHS})
    inner = layouts.subfolders(path) if path.is_dir() else []
    return any(all(_images_and_masks(part)) for part in (path, *inner) if part.is_dir())


# --- folders ---------------------------------------------------------------------------------------------------------


def _folder(root: Path, out: Path | None) -> Listing:
    listed = Listing("folder")
    folders = [p for p in layouts.subfolders(root) if p.name not in files.JUNK and not files.is_results(p, out)]
    words = split_words.among(p.name for p in folders)
    splits = {p: words[p.name] for p in folders if p.name in words and _images_and_masks(p)[0]}
    if not splits:
        _pairs(root, root, "", out, listed)
        return listed
    if "train" not in splits.values():
        raise UserError(f"{root} has {few([p.name + '/' for p in splits])} and no train/", LAYOUT)
    if len(set(splits.values())) < len(splits):
        raise UserError(
            f"{root} has two folders for one split: {few([p.name + '/' for p in splits])}", remedy="join them"
        )
    for part, split in splits.items():
        _pairs(root, part, split, out, listed)
    if others := [p.name for p in folders if p not in splits]:
        listed.warnings.append(f"next to the splits, these are left out: {', '.join(others)}")
    return listed


def _images_and_masks(part: Path) -> tuple[list[Path], list[Path]]:
    """Return the folders in a folder that are called like images, and those that are called like masks."""
    inner = layouts.subfolders(part)
    return (
        [p for p in inner if p.name.casefold() in layouts.PICTURES],
        [p for p in inner if p.name.casefold() in layouts.MASKS],
    )


def _pairs(root: Path, part: Path, split: str, out: Path | None, listed: Listing) -> None:
    """Add the pairs of one split. Raises UserError for an image or a mask that has no partner."""
    pictures, masks = _images_and_masks(part)
    if len(pictures) != 1 or len(masks) != 1:
        held = few([p.name + "/" for p in layouts.subfolders(part)], 6) or "no folders"
        raise UserError(f"{part} holds {held}, so its images and masks can't be told apart", LAYOUT)
    stems = [_by_stem(root, folder, out, listed) for folder in (pictures[0], masks[0])]
    for mine, theirs, kind, partner, folder in (
        (stems[0], stems[1], "image", "mask", masks[0]),
        (stems[1], stems[0], "mask", "image", pictures[0]),
    ):
        if alone := sorted(mine.keys() - theirs.keys()):
            shown = few([str(Path(mine[stem]).relative_to(root)) for stem in alone])
            what = f"{plural(len(alone), kind)} without {'a' if partner == 'mask' else 'an'} {partner}: {shown}"
            remedy = f"put {partner}s of the same names into {folder.relative_to(root)}/, or remove them"
            raise UserError(what, remedy=remedy)
    inside = {} if split else _splits_inside(stems[0])
    for stem, image in sorted(stems[0].items()):
        named = split or inside.get(_top(stem), "")
        listed.items.append(Item(image, stems[1][stem], named, str(Path(image).relative_to(root))))


def _top(stem: str) -> str:
    """Return the first folder of a path without ending, '' for a file that lies in none."""
    return Path(stem).parts[0] if len(Path(stem).parts) > 1 else ""


def _splits_inside(stems: Iterable[str]) -> dict[str, str]:
    """Return folder → split where all images lie in folders that are called like splits, else nothing.

    >>> sorted(_splits_inside(["train/a", "test/b"])), _splits_inside(["train/a", "b"]), _splits_inside(["cat/a"])
    (['test', 'train'], {}, {})
    """
    tops = {_top(stem) for stem in stems}
    words = split_words.among(sorted(tops - {""}))
    return words if tops <= set(words) and "train" in words.values() and len(tops) > 1 else {}


def _by_stem(root: Path, folder: Path, out: Path | None, listed: Listing) -> dict[str, str]:
    """Return path without ending → path, of the images below a folder. Raises UserError for two endings of one name."""
    walked = files.walk(folder, out)
    listed.warnings += files.left_out(root, walked)
    if walked.other:
        what = f"{plural(walked.other, 'file')} without the ending of an image"
        listed.warnings.append(f"{folder.relative_to(root)}: left out: {what}")
    found: dict[str, str] = {}
    for path, linked in walked.images:
        inside = path[len(str(folder)) + 1 :]
        if not files.is_text(inside):
            raise UserError(f"the name {inside!a} in {folder} is not UTF-8", remedy="rename the file")
        if linked and not Path(path).resolve().is_relative_to(root.resolve()):
            raise UserError(f"{path} is a link out of the folder", remedy="copy the image into the folder")
        stem = inside.rpartition(".")[0]
        if stem in found:
            raise UserError(f"{found[stem]} and {path} have one name with two endings", remedy="remove one of them")
        found[stem] = path
    return found


# --- tables ----------------------------------------------------------------------------------------------------------


def _table(file: Path) -> Listing:
    """Return the pairs of a CSV or TSV. Raises UserError that names the row for a missing file and an unknown split."""
    if file.suffix.lower() not in (".csv", ".tsv"):
        raise UserError(f"{file} is no CSV or TSV", "a table of masks has the columns image, mask, and perhaps split")
    listed = Listing("table")
    try:
        lines = lines_of(file)
        rows = list(
            csv.reader(
                lines, delimiter=separator(lines, file.suffix.lower(), COLUMNS), skipinitialspace=True, strict=True
            )
        )
    except csv.Error as error:
        raise UserError(f"{file} is no CSV: {error}", remedy="correct the quotes") from error
    header = [name.strip().lower() for name in rows[0]] if rows else []
    if not {"image", "mask"} <= {*header} or len(set(header)) < len(header):
        what = f"{file} has the columns {', '.join(header) or 'none'}"
        raise UserError(what, "image and mask are needed, once each, and split may be there")
    seen: dict[str, int] = {}
    for number, fields in enumerate(rows[1:], 1):
        if any(text.strip() for text in fields):
            item = _row(file, header, fields, f"{file.name} row {number}")
            if item.image in seen:
                raise UserError(
                    f"{file.name} row {number}: the image of row {seen[item.image]} again", remedy="remove one"
                )
            seen[item.image] = number
            listed.items.append(item)
    return listed


def _row(file: Path, header: Sequence[str], fields: Sequence[str], where: str) -> Item:
    if len(fields) != len(header):
        raise UserError(f"{where} has {len(fields)} fields, but the header has {len(header)}")
    values = dict(zip(header, (text.strip() for text in fields), strict=True))
    for kind in ("image", "mask"):
        if not values[kind]:
            raise UserError(f"{where}: the row has no {kind}", remedy=f"fill in the {kind}, or remove the row")
        if not (file.parent / values[kind]).is_file():
            raise UserError(
                f"{where}: the {kind} {values[kind]} is not there", remedy="paths are relative to the table"
            )
    word = values.get("split", "")
    split = split_words.split_of(word) if word else ""
    if word and not split:
        raise UserError(f"{where}: unknown split '{word}'", f"it must be one of {', '.join(split_words.SPLITS)}")
    return Item(str(file.parent / values["image"]), str(file.parent / values["mask"]), split, values["image"])

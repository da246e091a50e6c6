"""List a folder of class folders, with or without splits above them.

| layout | how it is read |
|---|---|
| CLASS/… | classes without a split: one is drawn |
| train/CLASS, test/CLASS, val/CLASS | the split is kept |
| training_set/, seg_train/, images_val/, test2017/ | as train, train, val and test |
| seg_train/seg_train/CLASS | as train/CLASS |
| train/CLASS alone | training images: a test split is drawn |
| CLASS/front, CLASS/side | one class, and a line says so |
| fold1/, fold2/, or CLASS/train and CLASS/test, or train/ without class folders | refused |
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bias_lab.data.own import labels, layouts, split_words
from bias_lab.data.own.files import JUNK, Found, hidden_images, is_folder, is_image, is_results, is_text, left_out, walk
from bias_lab.data.own.items import Item, Listing, few
from bias_lab.data.readers.decoding import Reference
from bias_lab.errors import UserError, plural


def read(root: Path, out: Path | None) -> Listing:
    """Return the images of a folder. out: the folder of the results, which is left out if it lies inside.

    Raises UserError for a layout that could mean two things.
    """
    listed = Listing("folder")
    folders = _folders(root, root, out, listed)
    if not folders:
        raise UserError(f"{root} holds no class folders", "each class needs one folder with its images", _loose(root))
    splits = layouts.split_folders(root, folders, listed.warnings)
    _report_beside(root, folders, splits, listed)
    parts = {split: layouts.inside_split(root, split, folder, listed.warnings) for split, folder in splits.items()} or {
        "": root
    }
    written: list[tuple[str, str]] = []
    for split, part in parts.items():
        inner = folders if part == root else _folders(root, part, out, listed)
        if part != root:
            _report_loose(root, part, listed)
        written += _classes(listed, root, inner, split, part, out)
    names = {name for name, _ in written}
    listed.classes = sorted(names)
    listed.warnings += labels.spellings(written)
    if len(names) == 1:
        listed.hint = _one_level_down(parts) or _tables_beside(root)
    return listed


def _folders(root: Path, part: Path, out: Path | None, listed: Listing) -> list[Path]:
    """Return the folders in a folder that may be classes or splits. Links are checked, and what is left out is said."""
    kept = []
    for path in sorted(part.iterdir()):
        where = path.relative_to(root)
        if path.name.startswith("."):
            if path.is_dir() and (hidden := hidden_images(path)):
                what = f"{plural(len(hidden), 'image')}; its name begins with a dot"
                listed.warnings.append(f"left out: {where}/ with {what}")
        elif path.is_symlink() and not path.exists() and not path.suffix:
            raise UserError(f"{path} is a link to nothing", remedy="correct or remove the link")
        elif path.is_dir():
            if path.name in JUNK:
                listed.warnings.append(f"left out: {where}/, which another program made")
            elif is_results(path, out) or _holds_only(path, out):
                listed.warnings.append(f"left out: {where}/, which holds results of bias-lab")
            elif not path.resolve().is_relative_to(root.resolve()):
                raise UserError(
                    f"{path} is a link out of the folder, to {path.resolve()}",
                    remedy="copy the images into the folder, or give a table with their paths",
                )
            elif root.resolve().is_relative_to(path.resolve()):
                raise UserError(f"{path} is a link to a folder above it, {path.resolve()}", remedy="remove the link")
            else:
                if path.is_symlink():
                    listed.warnings.append(f"{where}/ is a link to {path.resolve().relative_to(root.resolve())}/")
                kept.append(path)
    return kept


def _holds_only(folder: Path, out: Path | None, depth: int = 3) -> bool:
    """Return whether a folder holds results alone, at most `depth` levels down: results/train."""
    inner = []
    with os.scandir(folder) as scanned:
        for entry in scanned:
            if not entry.name.startswith("."):
                if not is_folder(entry):
                    return False
                inner.append(Path(entry.path))
    return bool(inner) and all(is_results(path, out) or (depth and _holds_only(path, out, depth - 1)) for path in inner)


def _loose(root: Path) -> str:
    images = sum(is_image(p.name) for p in root.iterdir() if not p.name.startswith("."))
    tables = [p.name for p in sorted(root.iterdir()) if p.suffix in (".csv", ".tsv")]
    hint = f"it holds {plural(images, 'loose image')}" if images else ""
    return "; ".join(filter(None, (f"it holds {few(tables)}: give its path to --data" if tables else "", hint)))


def _report_beside(root: Path, folders: Sequence[Path], splits: dict[str, Path], listed: Listing) -> None:
    """Add lines on what lies beside the splits or the class folders and is not read."""
    if splits and (others := [p.name for p in folders if p not in splits.values()]):
        listed.warnings.append(f"next to {splits['train'].name}/, these are left out: {', '.join(others)}")
    _report_loose(root, root, listed)
    if unread := [p.name for p in sorted(root.iterdir()) if p.is_file() and _may_say_splits(p)]:
        listed.warnings.append(f"not read, next to the class folders: {few(unread)}")


def _may_say_splits(file: Path) -> bool:
    """Return whether a file is a table, or a list whose name says a split: labels.csv, train.txt."""
    if file.suffix in (".txt", ".json", ".jsonl", ".lst"):
        return bool(split_words.splits_in(file.stem))
    return file.suffix in (".csv", ".tsv", ".parquet") and not file.name.startswith(".")


def _tables_beside(root: Path) -> str:
    """Return a hint on a table that lies beside the one class folder."""
    found = [p for p in sorted(root.iterdir()) if p.suffix in (".csv", ".tsv")]
    return f"if {found[0].name} has the labels, give --data {found[0]}" if found else ""


def _report_loose(root: Path, part: Path, listed: Listing) -> None:
    loose = sorted(p.name for p in part.iterdir() if is_image(p.name) and p.is_file() and not p.name.startswith("."))
    if loose:
        where = "" if part == root else f" in {part.relative_to(root)}/"
        named = loose[0] + (", …" if len(loose) > 1 else "")
        listed.warnings.append(f"left out next to the class folders{where}: {plural(len(loose), 'image')} ({named})")


def _one_level_down(parts: dict[str, Path]) -> str:
    """Return a hint where the one class folder holds folders, which may be the classes."""
    for part in parts.values():
        for folder in layouts.subfolders(part):
            if layouts.subfolders(folder):
                return f"{folder} holds folders: if these are the classes, give --data {folder}"
    return ""


# --- classes ---------------------------------------------------------------------------------------------------------


def _classes(
    listed: Listing, root: Path, folders: Sequence[Path], split: str, part: Path, out: Path | None
) -> list[tuple[str, str]]:
    """Add the images of the class folders to the listing. Return (class, the folder's name) pairs."""
    if not folders:
        raise UserError(f"{part} holds no class folders", "each class needs one folder with its images")
    real = root.resolve()
    found: dict[Path, Found] = {}
    written = []
    for folder in folders:
        found[folder] = walked = walk(folder, out)
        label = sys.intern(class_name(folder, root))
        written.append((label, folder.name))
        inside = str(folder.relative_to(root))
        if not walked.images:
            tables = any(path.suffix == ".parquet" for path in folder.iterdir())
            hint = f"it holds tables: to read these, give --data {folder}" if tables else ""
            raise UserError(f"class folder {inside} holds no images", hint, "fill or remove it")
        for file, linked in walked.images:
            name = inside + file[len(str(folder)) :]
            if not is_text(name):
                listed.bad[ascii(name).strip("'")] = "a name that is not UTF-8"
            elif linked and not Path(file).resolve().is_relative_to(real):
                listed.bad[name] = "a link out of the folder"
            else:
                listed.items.append(Item(Reference(file), split, label, name))
        if walked.other:
            what = f"left out: {plural(walked.other, 'file')} without the ending of an image"
            listed.warnings.append(f"{inside}: {what}")
        listed.warnings += left_out(root, walked)
    listed.warnings += layouts.check_inside_classes(root, found)
    listed.warnings += layouts.check_masks(root, found)
    return written


def class_name(folder: Path, root: Path) -> str:
    """Return the class that a folder's name says. Raises UserError if it says none, or is not UTF-8."""
    if not is_text(folder.name):
        shown = ascii(os.fsencode(folder.name))[2:-1]
        raise UserError(f"the name of the folder {shown} in {root} is not UTF-8", remedy="rename the folder")
    name = labels.key(folder.name)
    if name is None:
        what = f"the class folder '{folder.relative_to(root)}' is called like a missing label"
        raise UserError(what, remedy="rename it, or remove it")
    return str(name)

"""Walk through a user's folders: which files are images, and what is left out on the way."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bias_lab.data.own.items import few
from bias_lab.data.readers.image_file import EXTENSIONS
from bias_lab.errors import plural

JUNK = frozenset({"__MACOSX", "@eaDir", "__pycache__", "$RECYCLE.BIN", "System Volume Information"})


@dataclass(slots=True)
class Found:
    """Hold what a walk finds. images: (path, whether a link led there), in sorted order."""

    images: list[tuple[str, bool]] = field(default_factory=list)
    other: int = 0  # files without the ending of an image
    hidden: list[str] = field(default_factory=list)  # images whose name, or folder's name, begins with a dot
    folders: set[str] = field(default_factory=set)  # relative paths of the folders below that hold images
    left_out: list[str] = field(default_factory=list)  # folders of the lab's own results, and of other programs


def is_image(name: str) -> bool:
    """Return whether a file's name has the ending of an image."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS  # noqa: PTH122 - a Path for each file is slow


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder or a link to one. A link that leads to itself is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_results(folder: Path, out: Path | None) -> bool:
    """Return whether a folder is the one that results are written to, or looks like an earlier one of these."""
    if out is not None and folder.resolve() == out.resolve():
        return True
    if not ((folder / "runs").is_dir() or (folder / "data").is_dir()):
        return False
    return (folder / "data" / "seen.parquet").is_file() or (
        (folder / "runs").is_dir() and any((folder / name).is_file() for name in ("places.json", "experiment.json"))
    )


def walk(folder: Path, out: Path | None) -> Found:
    """Return the images at any depth below a folder. Links to folders are followed, but never in a circle.

    A folder that is named like an image counts as one, so that it is reported. out: the folder of the results.
    """
    found = Found()
    for path, linked in _walk(str(folder), frozenset({folder.resolve()}), False, found, out):
        if is_image(path):
            found.images.append((path, linked))
        else:
            found.other += 1
    start = len(str(folder)) + 1
    found.folders = {path.rpartition("/")[0] for path, _ in found.images} - {str(folder)}
    found.folders = {path[start:] for path in found.folders}
    return found


def _walk(
    folder: str, above: frozenset[Path], linked: bool, found: Found, out: Path | None
) -> Iterator[tuple[str, bool]]:
    with os.scandir(folder) as scanned:
        entries = sorted(scanned, key=lambda entry: entry.name)
    for entry in entries:
        if entry.name.startswith("."):
            found.hidden += hidden_images(Path(entry.path))
            continue
        link = linked or entry.is_symlink()
        if is_folder(entry) and not is_image(entry.name):
            path = Path(entry.path)
            if entry.name in JUNK or is_results(path, out):
                found.left_out.append(entry.path)
            elif (real := path.resolve()) not in above:
                yield from _walk(entry.path, above | {real}, link, found, out)
        else:
            yield entry.path, link


def is_text(name: str) -> bool:
    """Return whether a file's name can be written as UTF-8."""
    return name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def left_out(root: Path, found: Found) -> list[str]:
    """Return lines on the images and folders that a walk below `root` left out."""
    lines = []
    if found.hidden:
        what = f"{plural(len(found.hidden), 'image')} whose name, or folder's name, begins with a dot"
        lines.append(f"left out: {what} ({few([str(Path(path).relative_to(root)) for path in found.hidden], 1)})")
    if found.left_out:
        names = few([f"{Path(path).relative_to(root)}/" for path in found.left_out])
        lines.append(f"left out: {names}, which holds results or belongs to another program")
    return lines


def hidden_images(path: Path) -> list[str]:
    """Return the images that a file or folder whose name begins with a dot is or directly holds."""
    if not path.is_dir():
        return [str(path)] if is_image(path.name) else []
    try:
        with os.scandir(path) as scanned:
            return [entry.path for entry in scanned if is_image(entry.name)]
    except PermissionError:
        return []


def first_image(folder: Path, out: Path | None, depth: int = 4) -> tuple[bool, list[Path]]:
    """Return whether there is an image below a folder, and the parquet files found before the first one."""
    tables: list[Path] = []
    inner: list[Path] = []
    with os.scandir(folder) as scanned:
        for entry in scanned:
            if entry.name.startswith(".") or entry.name in JUNK:
                continue
            if is_folder(entry) and not is_image(entry.name):
                inner.append(Path(entry.path))
            elif is_image(entry.name):
                return True, []
            elif entry.name.endswith(".parquet"):
                tables.append(Path(entry.path))
    for below in sorted(inner) if depth else []:
        if is_results(below, out):
            continue
        has_image, found = first_image(below, out, depth - 1)
        if has_image:
            return True, []
        tables += found
    return False, sorted(tables)

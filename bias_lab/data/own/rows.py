"""Describe a row of a user's table, and check its path, label and split."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bias_lab.data.own import labels, split_words
from bias_lab.data.readers.decoding import Reference
from bias_lab.errors import UserError


@dataclass(slots=True)
class Row:
    """Describe one image of a table. written: its label as the table has it, for messages."""

    reference: Reference
    split: str
    label: labels.Key
    where: str  # the file and the row
    name: str
    written: str


@dataclass(slots=True)
class Part:
    """Hold the rows of one file. classes: the names that its metadata give to the numbers of its labels, or None."""

    name: str
    rows: list[Row] = field(default_factory=list)
    classes: list[str] | None = None
    notes: list[str] = field(default_factory=list)
    converted: int = 0  # paths whose backslashes were read as slashes


def row(reference: Reference, label: Any, split: Any, where: str, name: str, *, written: str = "") -> Row:
    """Return a checked row. Raises UserError for a missing or unusable label, and for an unknown split."""
    try:
        key = labels.key(label)
    except TypeError as error:
        raise UserError(f"{where}: its label is {error}", "a number or a text is needed") from error
    if key is None:
        said = f" (it is '{label}')" if label not in (None, "") else ""
        raise UserError(f"{where}: the row has no label{said}", remedy="fill in the label, or remove the row")
    return Row(reference, _split(split, where), key, where, name, written or (label if isinstance(label, str) else ""))


def _split(value: Any, where: str) -> str:
    """Return train, val or test, or an empty text if the table has no split. Raises UserError for another word."""
    word = "" if value is None else str(value).strip()
    if not word or word.casefold() in labels.MISSING:
        return ""
    split = split_words.split_of(word)
    if not split:
        fold = "folds must be given as train and test" if split_words.is_fold(word) else ""
        known = f"it must be one of {', '.join(split_words.SPLITS)}"
        raise UserError(f"{where}: unknown split '{word.lower()}'", known, fold)
    return split


def image_path(base: Path, value: Any, where: str, part: Part) -> str:
    """Return a row's path as this system writes it. `part` counts the paths that were written with backslashes.

    base: the folder of the table. Raises UserError for a path that is missing or no text.
    """
    path = "" if value is None else value
    if not isinstance(path, str):
        raise UserError(f"{where}: its path is a value of the type {type(path).__name__}", "a text is needed")
    if not path.strip():
        raise UserError(f"{where}: the row has no path", remedy="fill in the path, or remove the row")
    if "\0" in path:
        raise UserError(f"{where}: its path holds a zero byte", remedy="correct the path")
    if "\\" in path and not (base / path).exists():
        other = path.replace("\\", "/")
        if (base / other).exists():
            part.converted += 1
            return other
    return path


def check_columns(name: str, columns: Sequence[str]) -> None:
    """Raise UserError if two columns have the same name."""
    if twice := [column for column, count in Counter(columns).items() if count > 1 and column]:
        raise UserError(f"{name} has {len(columns)} columns, and several are called '{twice[0]}'", remedy="rename one")

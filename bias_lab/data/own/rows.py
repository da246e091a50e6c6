"""Describe a row of a user's table, and check its path, label and split."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from bias_lab.data.own import labels, split_words
from bias_lab.data.readers.decoding import Reference
from bias_lab.errors import UserError, plural, unknown

FEW = 8  # rows without a label that a message names


class Columns(NamedTuple):
    """The names of the columns of paths and labels that the user gave. Empty: the usual ones."""

    path: str = ""
    label: str = ""


USUAL = Columns()


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
    unlabelled: list[tuple[int, str]] = field(default_factory=list)  # number and text of each row without a label


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


def has_label(label: Any, number: int, part: Part) -> bool:
    """Return whether a row has a label. `part` keeps the rows that have none, so that all of them are named at once."""
    try:
        missing = labels.key(label) is None
    except TypeError:
        return True  # a value that is no label, which `row` names
    if missing:
        part.unlabelled.append((number, "" if label is None else str(label).strip()))
    return not missing


def check_labelled(part: Part, total: int) -> None:
    """Raise UserError if rows of a file have no label, with the number of all of them. total: of all rows."""
    if not part.unlabelled:
        return
    numbers = [str(number) for number, _ in part.unlabelled]
    if len(numbers) == 1:
        said = f" (it is '{part.unlabelled[0][1]}')" if part.unlabelled[0][1] else ""
        what = f"{part.name} row {numbers[0]}: the row has no label{said}"
        raise UserError(what, remedy="fill in the label, or remove the row")
    shown = ", ".join(numbers[:FEW]) + (", …" if len(numbers) > FEW else "")
    what = f"{part.name}: {len(numbers):,} of {plural(total, 'row')} have no label (rows {shown})"
    raise UserError(what, remedy="fill in their labels, or remove these rows")


def column_of(given: str, columns: Sequence[str], name: str, flag: str) -> str:
    """Return the column that the user named, in the file's own spelling. Raises UserError if there is none."""
    if given in columns:
        return given
    for column in columns:
        if column.strip().casefold() == given.strip().casefold():
            return column
    raise unknown(f"column of {name}", given, columns, f"correct {flag}")


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

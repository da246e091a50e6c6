"""Put the rows of a user's tables together: one list of classes, one split an image, no row twice."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from bias_lab.data.own import labels, parquet, split_words, text_tables
from bias_lab.data.own.items import Item, Listing, few
from bias_lab.data.own.rows import USUAL, Columns, Part, Row
from bias_lab.errors import UserError, plural

SUFFIXES = (".csv", ".tsv", ".parquet")
SHARD = re.compile(r"^(?P<stem>.*?)[-_.]?(?P<number>\d+)[-_]of[-_](?P<total>\d+)", re.I)


def read(files: Sequence[Path], root: Path | None = None, columns: Columns = USUAL) -> Listing:
    """Return the images of tables. Several tables must say their split in their names, or in those of their folders.

    root: the folder above all of them, for messages. columns: those that the user named. Raises UserError for a missing
    shard, for labels that do not go together, and for rows that contradict one another.
    """
    names = {file: file.name if root is None else str(file.relative_to(root)) for file in files}
    check_shards([names[file] for file in files])
    parts: list[Part] = []
    rows: list[Row] = []
    listed = Listing("table")
    for file in files:
        if file.suffix not in SUFFIXES:
            raise UserError(
                f"{file} is neither a folder nor a table", "give a folder of class folders, .csv, .tsv or .parquet"
            )
        part = (parquet if file.suffix == ".parquet" else text_tables).read(file, names[file], columns)
        whole = "" if len(files) == 1 else _split_of(file, root)
        parts.append(part)
        rows += _with_split(part, whole)
        listed.warnings += part.notes
        if part.converted:
            what = f"{plural(part.converted, 'path')} with backslashes, which are read as slashes"
            listed.warnings.append(f"{names[file]}: {what}")
    if not rows:
        raise UserError(f"{few([str(file) for file in files])} has no rows", remedy="give a table with a row an image")
    listed.classes = _classes(parts)
    _check_splits(files[0], rows)
    items, repeated = _distinct(rows)
    listed.items = items
    listed.warnings += [*repeated, *labels.spellings((str(each.label), each.written) for each in rows if each.written)]
    return listed


# --- labels ----------------------------------------------------------------------------------------------------------


def _classes(parts: Sequence[Part]) -> list[str]:
    """Give each row the name of its class, and return the names in order.

    The numbers of a file with a class list become the names of that list. Raises UserError if files have different
    lists, or if one of them names its classes and another numbers them.
    """
    named = [part for part in parts if part.classes is not None]
    named.sort(
        key=lambda part: all(each.split != "train" for each in part.rows[:1])
    )  # the training file states the order
    for part in named[1:]:
        _check_alike(named[0], part)
    order = named[0].classes or [] if named else []
    numbered = False
    for part in parts:
        for each in part.rows:
            if isinstance(each.label, int) and part.classes is not None:
                each.label, numbered = _name(each, part.classes), True
            elif isinstance(each.label, int) and named and str(each.label) not in order:
                raise UserError(
                    f"{each.where}: the label is the number {each.label}, but {named[0].name} has the class names "
                    f"{few(order)}",
                    remedy="write both files with names, or both with numbers",
                )
    there = {each.label for part in parts for each in part.rows}
    if numbered and {str(label) for label in there} <= set(order):
        return [name for name in order if name in {str(label) for label in there}]
    return labels.in_order(there)


def _name(row: Row, classes: Sequence[str]) -> str:
    number = row.label
    assert isinstance(number, int)
    if not 0 <= number < len(classes):
        remedy = "leave such rows out: -1 stands for an image without a label" if number == -1 else "correct the label"
        raise UserError(
            f"{row.where}: the label {number} is none of the {len(classes)} classes of its file", "", remedy
        )
    return classes[number]


def _check_alike(first: Part, other: Part) -> None:
    """Raise UserError if two files do not list the same classes. The order may differ."""
    mine, theirs = set(first.classes or ()), set(other.classes or ())
    if mine == theirs:
        return
    lacking = [
        f"{part.name} has no class '{min(names)}'"
        for part, names in ((other, mine - theirs), (first, theirs - mine))
        if names
    ]
    raise UserError(
        f"{first.name} and {other.name} list different classes: {' and '.join(lacking)}",
        remedy="write all files with one class list",
    )


# --- splits ----------------------------------------------------------------------------------------------------------


def _split_of(file: Path, root: Path | None) -> str:
    """Return the split that a file's name or its folder's says: train-00000-of-00002.parquet, train/0000.parquet."""
    splits = split_words.splits_in(file.stem)
    if not splits and root is not None and file.parent != root:
        splits = {split_words.split_of(file.parent.name)} - {""}
    if len(splits) > 1:
        raise UserError(
            f"the name of {file} has words for several splits: {', '.join(sorted(splits))}",
            remedy="rename it, so that one is left",
        )
    if not splits:
        raise UserError(
            f"{file} is one of several tables, and its name has no split", "train…, val… or test… is needed"
        )
    return splits.pop()


def _with_split(part: Part, whole: str) -> list[Row]:
    """Return a file's rows, with the split that its name says where they have none. Raises UserError for another."""
    for each in part.rows:
        if whole and each.split and each.split != whole:
            what = f"{each.where}: its column 'split' says {each.split}, and the name of the file says {whole}"
            raise UserError(what, remedy="correct one of them")
        each.split = each.split or whole
    return part.rows


def _check_splits(file: Path, rows: Sequence[Row]) -> None:
    given = {each.split for each in rows}
    if given == {""}:
        return
    if "" in given:
        row = next(each for each in rows if not each.split)
        raise UserError(f"{row.where}: the row has no split, and others have", "train, val or test is needed")
    if "train" not in given:
        raise UserError(f"{file} has the splits {', '.join(sorted(given))} and no 'train'")


def check_shards(names: Sequence[str]) -> None:
    """Raise UserError that names the shards of `NAME-00000-of-00002` that are missing.

    A single shard that was given by its own name is refused too, since it is only a part of the table.
    """
    groups: dict[str, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    kept: dict[str, re.Match[str]] = {}
    for name in names:
        if found := SHARD.match(name):
            groups[found["stem"]][int(found["total"])].add(int(found["number"]))
            kept[found["stem"]] = found
    for stem, totals in groups.items():
        if len(totals) > 1:
            several = " and ".join(f"of-{total}" for total in sorted(totals))
            raise UserError(f"the shards of {stem} belong to several tables ({several})", remedy="keep those of one")
        ((total, numbers),) = totals.items()
        first = 1 if total in numbers else 0
        missing = sorted(set(range(first, first + total)) - numbers)
        if missing:
            found = kept[stem]
            digits, text = len(found["number"]), found.group()
            at, end = found.start("number"), found.end("number")
            lost = [f"{text[:at]}{number:0{digits}}{text[end:]}" for number in missing]
            raise UserError(
                f"{len(missing)} of {plural(total, 'shard')} is missing: {few(lost)}"
                if len(missing) == 1
                else f"{len(missing)} of {plural(total, 'shard')} are missing: {few(lost)}",
                remedy="put all shards into the folder and give that, or rename the file to use it alone",
            )
        if f"{stem}.parquet" in names:
            raise UserError(f"there is {stem}.parquet beside its shards of {total}", remedy="keep one of the two")


# --- rows ------------------------------------------------------------------------------------------------------------


def _distinct(rows: Sequence[Row]) -> tuple[list[Item], list[str]]:
    """Return the images, each path once a split, and a line on the rows that repeat an earlier one.

    Raises UserError if a file has two labels in one split.
    """
    seen: dict[tuple[str, str], Row] = {}
    items: list[Item] = []
    repeats: list[str] = []
    for each in rows:
        name = str(each.label)
        if not each.reference.column:
            before = seen.setdefault((each.reference.path, each.split), each)
            if before is not each:
                if str(before.label) != name:
                    raise UserError(
                        f"{each.where}: {each.name} has the label '{name}', but '{before.label}' in {before.where}",
                        remedy="keep one of the two rows",
                    )
                repeats.append(f"{each.where}: {each.name}")
                continue
        items.append(Item(each.reference, each.split, name, each.name))
    if not repeats:
        return items, []
    count = plural(len(repeats), "repeated row")
    return items, [f"each image counts once a split: {count} left out ({few(repeats)})"]

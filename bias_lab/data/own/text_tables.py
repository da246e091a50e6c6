"""Read a CSV or TSV file with a column of paths, one of labels, and perhaps one of splits."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from bias_lab.data.own import labels
from bias_lab.data.own.rows import (
    USUAL,
    Columns,
    Part,
    check_columns,
    check_labelled,
    column_of,
    has_label,
    image_path,
    row,
)
from bias_lab.data.readers.decoding import Reference
from bias_lab.errors import UserError

PATHS = ("path", "file_name")  # the column of paths: the lab's name, and that of Hugging Face's image folders


SEPARATORS = (",", ";", "\t", "|")


def read(file: Path, name: str, columns: Columns = USUAL) -> Part:
    """Return the rows of a file. name: of the file, for messages. columns: those that the user named.

    The separator is the one under which the header has both columns.

    Raises UserError that names the row for a quote that is never closed, a row of other length, and a row without a
    path or a label.
    """
    lines = lines_of(file)
    records = _records(lines, separator(lines, file.suffix, columns), name)
    header = [text.strip().lower() for text in next(records, (0, 0, []))[2]]
    check_columns(name, header)
    path_at, label_at = _places(file, header, columns)
    split_at = header.index("split") if "split" in header else None
    part = Part(name, notes=_other_columns(name, header))
    read: list[tuple[str, str, str | None, str]] = []
    total = 0
    for number, (first, last, fields) in enumerate(records, 1):
        where = f"{name} row {number}"
        _check_length(fields, header, f"{where} (line {first})")
        total += 1
        path, label = fields[path_at], fields[label_at]
        if "\n" in path + label or "\r" in path + label:
            what = f"{where}: a quote that line {first} opens is closed in line {last} only"
            raise UserError(what, remedy=f"correct the quotes of line {first}")
        if has_label(label, number, part):
            read.append((path, label, fields[split_at] if split_at is not None else None, where))
    check_labelled(part, total)
    whole = labels.all_whole(label for _, label, _, _ in read) and all(label.strip() for _, label, _, _ in read)
    for path, label, split, where in read:
        found = image_path(file.parent, path, where, part)
        value = int(labels.clean(label).partition(".")[0]) if whole else label
        part.rows.append(row(Reference(str(file.parent / found)), value, split, where, found, written=label))
    return part


def separator(lines: Sequence[str], suffix: str, columns: Columns = USUAL) -> str:
    """Return what separates the fields: the one under which the header has a column of paths and one of labels.

    Without any it is the usual one of the file's ending, unless another separates more columns.
    """
    usual = "\t" if suffix == ".tsv" else ","
    header = next((line for line in lines if line.strip()), "")
    found = {mark: _header(header, mark) for mark in (usual, *SEPARATORS)}
    wanted = ({columns.path.lower()} if columns.path else {*PATHS}, {columns.label.lower() or "label"})
    for mark, names in found.items():
        if all(names & some for some in wanted):
            return mark
    return max(found, key=lambda mark: len(found[mark]))  # of equal ones the usual


def _header(line: str, mark: str) -> set[str]:
    try:
        return {text.strip().lower() for text in next(csv.reader([line], delimiter=mark), [])}
    except csv.Error:
        return set()


def _places(file: Path, header: Sequence[str], columns: Columns) -> tuple[int, int]:
    """Return the places of the columns of paths and of labels. Raises UserError for one that is not there."""
    paths = [column_of(columns.path.lower(), header, file.name, "--path-column")] if columns.path else PATHS
    label = column_of(columns.label.lower(), header, file.name, "--label-column") if columns.label else "label"
    path = next((column for column in paths if column in header), None)
    if not header:
        raise UserError(f"{file} is empty", "a header with the columns path and label is needed", "fill the file")
    if path is None or label not in header:
        raise UserError(
            f"{file} has the columns {', '.join(header)}",
            "path and label are needed",
            "if yours have other names: --path-column NAME --label-column NAME",
        )
    return header.index(path), header.index(label)


def _other_columns(name: str, header: Sequence[str]) -> list[str]:
    if "path" in header and "file_name" in header:
        return [f"{name}: the paths are read from the column 'path', and 'file_name' is not read"]
    return []


def _records(lines: Sequence[str], delimiter: str, name: str) -> Iterator[tuple[int, int, list[str]]]:
    """Yield (first line, last line, fields) of each record. Raises UserError for what is no CSV."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    done, number = 0, 0
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            place = f"{name} row {number} (line {done + 1})" if number else f"{name}, its header in line 1"
            if '"' in lines[done]:
                raise UserError(
                    f"{place}: a quote is not closed, or stands within a field ({error})",
                    remedy='close it, or write it twice ("") within a quoted field',
                ) from error
            raise UserError(f"{place} is no CSV: {error}", remedy="correct or remove the line") from error
        first, done = done + 1, reader.line_num
        if fields:
            yield first, done, fields
            number += 1


def _check_length(fields: list[str], header: Sequence[str], where: str) -> None:
    if len(fields) > len(header) and any(text.strip() for text in fields[len(header) :]):
        raise UserError(
            f"{where} has {len(fields)} fields, but the header has {len(header)}",
            remedy="put a field that holds a comma into quotes",
        )
    fields += [""] * (len(header) - len(fields))


def lines_of(file: Path) -> list[str]:
    """Return a text file's lines, each with its end. Raises UserError if it is not UTF-8."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            return list(lines)
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 ({error.reason})", remedy="save it as UTF-8") from error

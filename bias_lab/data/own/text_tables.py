"""Read a CSV or TSV file with the columns path and label, and perhaps split."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from bias_lab.data.own import labels
from bias_lab.data.own.rows import Part, check_columns, image_path, row
from bias_lab.data.readers.decoding import Reference
from bias_lab.errors import UserError

PATHS = ("path", "file_name")  # the column of paths: the lab's name, and that of Hugging Face's image folders


def read(file: Path, name: str) -> Part:
    """Return the rows of a file. name: of the file, for messages.

    Raises UserError that names the row for a quote that is never closed, a row of other length, and a row without a
    path or a label.
    """
    lines = lines_of(file)
    records = _records(lines, "\t" if file.suffix == ".tsv" else ",", name)
    header = [text.strip().lower() for text in next(records, (0, 0, []))[2]]
    check_columns(name, header)
    path_at = next((header.index(column) for column in PATHS if column in header), None)
    if path_at is None or "label" not in header:
        raise UserError(f"{file} has the columns {', '.join(header) or 'none'}", "path and label are needed")
    label_at, split_at = header.index("label"), header.index("split") if "split" in header else None
    part = Part(name, notes=_other_columns(name, header))
    read: list[tuple[str, str, str | None, str]] = []
    for number, (first, last, fields) in enumerate(records, 1):
        where = f"{name} row {number}"
        _check_length(fields, header, f"{where} (line {first})")
        path, label = fields[path_at], fields[label_at]
        if "\n" in path + label or "\r" in path + label:
            what = f"{where}: a quote that line {first} opens is closed in line {last} only"
            raise UserError(what, remedy=f"correct the quotes of line {first}")
        read.append((path, label, fields[split_at] if split_at is not None else None, where))
    whole = labels.all_whole(label for _, label, _, _ in read) and all(label.strip() for _, label, _, _ in read)
    for path, label, split, where in read:
        found = image_path(file.parent, path, where, part)
        value = int(labels.clean(label).partition(".")[0]) if whole else label
        part.rows.append(row(Reference(str(file.parent / found)), value, split, where, found, written=label))
    return part


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

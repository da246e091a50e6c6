"""Read a parquet table of images: of paths, or in Hugging Face's layout with a column of {bytes, path}."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bias_lab.data.own import labels
from bias_lab.data.own.rows import (
    USUAL,
    Columns,
    Part,
    Row,
    check_columns,
    check_labelled,
    column_of,
    has_label,
    image_path,
    row,
)
from bias_lab.data.readers.decoding import Reference
from bias_lab.errors import UserError

LABELS = ("label", "labels", "fine_label", "class")
POINTER = b"version https://git-lfs"  # what a clone without Git LFS has instead of a file


def read(file: Path, name: str, columns: Columns = USUAL) -> Part:
    """Return the rows of a file, with the class names that its metadata have. name: of the file, for messages.

    columns: those that the user named. The one of paths may hold the images themselves.

    Raises UserError if it is damaged, or if it does not say which column holds the images or the labels.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    errors = (pa.ArrowException, OSError, ValueError, NotImplementedError)
    try:
        table = pq.ParquetFile(file)
        schema = table.schema_arrow
    except errors as error:
        raise UserError(f"{file} is not a parquet file: {_reason(file, error)}") from error
    check_columns(name, schema.names)
    part = Part(name)
    label = _label_column(name, schema, part.notes, columns.label)
    path = column_of(columns.path, schema.names, name, "--path-column") if columns.path else "path"
    image = _image_column(name, schema, part.notes) if not columns.path else path if _holds_images(schema, path) else ""
    if not label or not (image or path in schema.names):
        raise UserError(
            f"{file} has the columns {', '.join(schema.names)}",
            "path or image, and label are needed",
            "if yours have other names: --path-column NAME --label-column NAME",
        )
    seen = 0
    for group in range(table.num_row_groups):
        try:
            part.rows += _group(table, file, group, (label, image, path), seen, part)
        except errors as error:
            raise UserError(f"{file} is damaged: {' '.join(str(error).split())[:160]}") from error
        seen += table.metadata.row_group(group).num_rows
    check_labelled(part, seen)
    part.classes = _class_list(name, schema, label)
    return part


def _reason(file: Path, error: Exception) -> str:
    with file.open("rb") as opened:
        if opened.read(len(POINTER)) == POINTER:
            return "it is a pointer of Git LFS; fetch the content with `git lfs pull`"
    return " ".join(str(error).split())[:160]


def _label_column(name: str, schema: Any, notes: list[str], given: str = "") -> str:
    """Return the column of the labels, empty if there is none: `label`, or the only one with another usual name.

    given: the column that the user named, which comes first.
    """
    import pyarrow as pa

    there = [column for column in LABELS if column in schema.names]
    there = [column_of(given, schema.names, name, "--label-column")] if given else there
    if not there:
        return ""
    if len(there) > 1 and there[0] != "label":
        raise UserError(
            f"{name} has several columns of labels: {', '.join(there)}", remedy="call the one that counts 'label'"
        )
    if len(there) > 1:
        notes.append(f"{name}: the labels are read from the column 'label', and not from {', '.join(there[1:])}")
    kind = schema.field(there[0]).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    allowed = ("integer", "floating", "decimal", "boolean", "string", "large_string", "binary", "large_binary", "null")
    if not any(getattr(pa.types, f"is_{one}")(kind) for one in allowed):
        raise UserError(
            f"{name}: the column '{there[0]}' holds values of the type {kind}", "a number or a text an image is needed"
        )
    return there[0]


def _image_column(name: str, schema: Any, notes: list[str]) -> str:
    """Return the column with the bytes of the images, empty if there is none.

    Of several columns it is the one called `image`. Raises UserError if none of them is.
    """
    import pyarrow as pa

    packed = [f.name for f in schema if pa.types.is_struct(f.type) and "bytes" in {inner.name for inner in f.type}]
    plain = [f.name for f in schema if pa.types.is_binary(f.type) or pa.types.is_large_binary(f.type)]
    plain = [column for column in plain if column not in LABELS]
    there = packed + plain
    chosen = there[0] if len(there) == 1 else "image" if "image" in there else ""
    if there and not chosen:
        raise UserError(
            f"{name} has several columns of images: {', '.join(there)}", remedy="call the one that counts 'image'"
        )
    if others := [
        column for column in [*there, *(["path"] if "path" in schema.names and chosen else [])] if column != chosen
    ]:
        notes.append(f"{name}: the images are read from the column '{chosen}', and not from {', '.join(others)}")
    return chosen


def _holds_images(schema: Any, column: str) -> bool:
    """Return whether a column holds the bytes of images."""
    import pyarrow as pa

    kind = schema.field(column).type
    return any(is_one(kind) for is_one in (pa.types.is_struct, pa.types.is_binary, pa.types.is_large_binary))


def _group(table: Any, file: Path, group: int, columns: tuple[str, str, str], before: int, part: Part) -> Iterator[Row]:
    """Yield the rows of a row group. columns: of labels, of images (empty for a table of paths), and of paths."""
    label, image, path_column = columns
    names = table.schema_arrow.names
    wanted = [label, *(["split"] if "split" in names else []), *([] if image else [path_column])]
    read = table.read_row_group(group, columns=wanted).to_pydict()
    paths = _outside(table, group, image) if image else dict(enumerate(read[path_column]))
    for at, value in enumerate(read[label]):
        if not has_label(value, before + at + 1, part):
            continue
        where = f"{part.name} row {before + at + 1}"
        split = read["split"][at] if "split" in read else None
        if at not in paths:
            yield row(Reference(str(file), image, group, at), value, split, where, where)
            continue
        path = image_path(file.parent, paths[at], where, part)
        yield row(Reference(str(file.parent / path)), value, split, where, path)


def _outside(table: Any, group: int, image: str) -> dict[int, Any]:
    """Return place in the group → path, for the images whose bytes are not in the table.

    The bytes are read only if the file's statistics do not rule out that some are missing.
    """
    about = table.metadata.row_group(group)
    columns = {about.column(k).path_in_schema: about.column(k) for k in range(about.num_columns)}
    inner = columns.get(f"{image}.bytes")
    if inner is None or f"{image}.path" not in columns:
        return {}
    statistics = inner.statistics
    if statistics is not None and statistics.has_null_count and statistics.null_count == 0:
        return {}
    values = table.read_row_group(group, columns=[image]).column(image).to_pylist()
    return {
        at: value["path"]
        for at, value in enumerate(values)
        if value is not None and value["bytes"] is None and value["path"]
    }


def _class_list(name: str, schema: Any, column: str) -> list[str] | None:
    """Return the class names that Hugging Face's datasets keeps in the file's metadata, or None."""
    text = (schema.metadata or {}).get(b"huggingface")
    if text is None:
        return None
    try:
        about = json.loads(text)
    except ValueError as error:
        raise UserError(f"{name}: its metadata of Hugging Face are damaged ({error})") from error
    for step in ("info", "features", column, "names"):
        about = about.get(step) if isinstance(about, dict) else None
    if isinstance(about, dict):  # number → name
        about = [about[number] for number in sorted(about, key=lambda number: (len(number), number))]
    return labels.check_names(name, [str(each) for each in about]) if isinstance(about, list) else None

"""List the images of a folder of class folders or of a table. Nothing is decoded."""

import csv
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bias_lab.data.readers.decoding import Reference
from bias_lab.data.readers.image_file import EXTENSIONS
from bias_lab.data.readers.pixel_store import data_root
from bias_lab.errors import UserError, plural
from bias_lab.ledger import replacing

SPLITS = {  # the word in a folder or table → train, val or test
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


HUB = "hf:"  # the prefix of a dataset of the Hugging Face hub


@dataclass(frozen=True, slots=True)
class Item:
    """Describe one image of the user: its place, its class, and its split (empty: none was given)."""

    reference: Reference
    split: str
    label: str
    name: str  # the path relative to the dataset, or table and row, for messages


@dataclass(slots=True)
class Listing:
    """Describe a dataset before decoding. bad: name → reason, for files that are refused without decoding."""

    kind: str  # folder or table
    items: list[Item] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)  # in order
    bad: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def listing(path: Path) -> Listing:
    """Return the images of a folder or a table. Raises UserError if there are none, or if it cannot be read."""
    try:
        return _listing(Path(path))
    except PermissionError as error:
        raise UserError(f"no permission to read {error.filename}") from error


def _listing(path: Path) -> Listing:
    if str(path).startswith(HUB):
        return _table(_from_hub(str(path).removeprefix(HUB)))
    if not path.exists():
        near = [p.name for p in path.parent.iterdir() if p.is_dir()] if path.parent.is_dir() else []
        others = f"{path.parent} holds: {', '.join(sorted(near)[:8])}" if near else ""
        raise UserError(
            f"there is no {path}", others, "--data takes a folder of class folders, a CSV or parquet file, or hf:NAME"
        )
    if path.is_file():
        return _table([path])
    entries = sorted(p for p in path.iterdir() if not p.name.startswith("."))
    tables = [p for p in entries if p.suffix == ".parquet" and p.is_file()]
    folders = [p for p in entries if p.is_dir()]
    if tables and (not folders or any(_word(p) == "train" for p in tables)):
        listed = _table(tables)
        listed.warnings += [f"the folder {p.name} next to the tables is left out" for p in folders]
        return listed
    return _folder(path, entries)


# --- folders ---------------------------------------------------------------------------------------------------------


def _folder(root: Path, entries: list[Path]) -> Listing:
    folders = [p for p in entries if p.is_dir()]
    if not folders:
        raise UserError(
            f"{root} holds no class folders", "each class needs one folder with its images", _loose(entries)
        )
    splits: dict[str, Path] = {}
    for part in folders:
        split = SPLITS.get(part.name.lower(), "")
        if split in splits:
            raise UserError(
                f"{root} has {splits[split].name}/ and {part.name}/ for the split '{split}'", remedy="keep one of them"
            )
        if split:
            splits[split] = part
    listed = Listing("folder")
    real = root.resolve()
    if "train" in splits:
        if others := [p.name for p in folders if p not in splits.values()]:
            listed.warnings.append(f"next to {splits['train'].name}/, these are left out: {', '.join(others)}")
        for split, part in splits.items():
            inner = sorted(p for p in part.iterdir() if not p.name.startswith("."))
            _classes(listed, real, root, [p for p in inner if p.is_dir()], split, part)
    elif splits:
        raise UserError(
            f"{root} has {' and '.join(p.name + '/' for p in splits.values())} and no train/",
            remedy="put the images to train on into train/, one folder a class",
        )
    else:
        loose = [p for p in entries if p.is_file() and p.suffix.lower() in EXTENSIONS]
        if loose:
            named = loose[0].name + (", …" if len(loose) > 1 else "")
            listed.warnings.append(f"left out next to the class folders: {plural(len(loose), 'image')} ({named})")
        _classes(listed, real, root, folders, "", root)
    listed.classes = sorted({item.label for item in listed.items})
    return listed


def _loose(entries: list[Path]) -> str:
    images = sum(p.suffix.lower() in EXTENSIONS for p in entries)
    return f"it holds {plural(images, 'loose image')}" if images else ""


def _classes(listed: Listing, real: Path, root: Path, folders: list[Path], split: str, part: Path) -> None:
    """Add the images of the class folders. real: the dataset's folder without links."""
    if not folders:
        raise UserError(f"{part} holds no class folders", "each class needs one folder with its images")
    for folder in folders:
        if not folder.resolve().is_relative_to(real):
            listed.bad[str(folder.relative_to(root))] = "a link out of the folder"
            continue
        inside, label = str(folder.relative_to(root)), sys.intern(folder.name)
        before, other = len(listed.items) + len(listed.bad), 0
        for file, linked in _files(str(folder), frozenset({folder.resolve()})):
            name = inside + file[len(str(folder)) :]
            if os.path.splitext(file)[1].lower() not in EXTENSIONS:  # noqa: PTH122 - a Path for each file is slow
                other += 1
            elif linked and not Path(file).resolve().is_relative_to(real):
                listed.bad[name] = "a link out of the folder"
            else:
                listed.items.append(Item(Reference(file), split, label, name))
        if other:
            what = f"left out: {plural(other, 'file')} without the ending of an image"
            listed.warnings.append(f"{folder.relative_to(root)}: {what}")
        if len(listed.items) + len(listed.bad) == before:
            raise UserError(f"class folder {folder.relative_to(root)} holds no images", remedy="fill or remove it")


def _files(folder: str, above: frozenset[Path], linked: bool = False) -> Iterator[tuple[str, bool]]:
    """Yield all files under a folder in sorted order, and whether a link led there. Hidden ones are left out.

    Links are followed, but never in a circle. A folder that is named like an image is yielded too, so that it is
    reported.
    """
    with os.scandir(folder) as scanned:
        entries = sorted(scanned, key=lambda entry: entry.name)
    for entry in entries:
        if entry.name.startswith("."):
            continue
        link = linked or entry.is_symlink()
        if entry.is_dir() and Path(entry.name).suffix.lower() not in EXTENSIONS:
            real = Path(entry.path).resolve()
            if real not in above:
                yield from _files(entry.path, above | {real}, link)
        else:
            yield entry.path, link


# --- tables ----------------------------------------------------------------------------------------------------------


def _table(files: list[Path]) -> Listing:
    listed = Listing("table")
    labels: set[Any] = set()
    rows: list[tuple[Reference, str, Any, str]] = []
    names: list[str] | None = None
    for file in files:
        if file.suffix == ".parquet":
            part, names = _parquet(file)
        elif file.suffix in (".csv", ".tsv"):
            part = _text(file)
        else:
            raise UserError(
                f"{file} is neither a folder nor a table", "give a folder of class folders, .csv, .tsv or .parquet"
            )
        whole = "" if len(files) == 1 else _split_of(file)
        rows += [(reference, split or whole, label, name) for reference, split, label, name in part]
    labels = {label for _, _, label, _ in rows}
    order = sorted(labels, key=lambda label: (isinstance(label, str), label))  # numbers by size, names alphabetically
    if names is not None and all(isinstance(label, int) and 0 <= label < len(names) for label in order):
        called = {label: names[label] for label in order}
    else:
        called = {label: str(label) for label in order}
    listed.classes = [called[label] for label in order]
    listed.items = [Item(reference, split, called[label], name) for reference, split, label, name in rows]
    given = {item.split for item in listed.items}
    if "train" not in given and given != {""}:
        raise UserError(f"{files[0]} has the splits {', '.join(sorted(given))} and no 'train'")
    return listed


def _from_hub(name: str) -> list[Path]:
    """Return a dataset of the Hugging Face hub as parquet files in the data root, one a split. It is fetched once."""
    folder = data_root(None) / "hf" / name.replace("/", "--")
    if files := sorted(folder.glob("*.parquet")):
        return files
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


def _split_of(file: Path) -> str:
    """Return the split that a parquet file's name begins with: train.parquet, train-00000-of-00002.parquet."""
    split = _word(file)
    if not split:
        raise UserError(
            f"{file} is one of several tables, and its name has no split", "train…, val… or test… is needed"
        )
    return split


def _word(file: Path) -> str:
    return SPLITS.get(file.stem.lower().replace("_", "-").split("-")[0], "")


def _row(base: Path, path: Any, label: Any, split: Any, name: str) -> tuple[Reference, str, Any, str]:
    word = "" if split is None else str(split).strip().lower()
    if word and word not in SPLITS:
        raise UserError(f"{name}: unknown split '{word}'", f"it must be one of {', '.join(SPLITS)}")
    if path is None or str(path) == "" or label is None or label == "":
        raise UserError(f"{name}: the row has no {'path' if not path else 'label'}")
    return Reference(str(base / str(path))), SPLITS.get(word, ""), label, str(path)


def _text(file: Path) -> list[tuple[Reference, str, Any, str]]:
    reader = csv.DictReader(lines_of(file), delimiter="\t" if file.suffix == ".tsv" else ",")
    columns = [name.strip().lower() for name in reader.fieldnames or []]
    reader.fieldnames = columns
    if not {"path", "label"} <= set(columns):
        raise UserError(f"{file} has the columns {', '.join(columns) or 'none'}", "path and label are needed")
    read = [(row["path"], row["label"], row.get("split")) for row in reader]
    numbers = _all_integers(label for _, label, _ in read)
    return [
        _row(file.parent, path, int(label) if numbers else label, split, f"{file.name} row {number}")
        for number, (path, label, split) in enumerate(read, 1)
    ]


def lines_of(file: Path) -> list[str]:
    """Return a text file's lines, each with its end. Raises UserError if it is not UTF-8."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            return list(lines)
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 ({error.reason})", remedy="save it as UTF-8") from error


def _all_integers(labels: Iterable[str | None]) -> bool:
    return all(label is not None and label.strip().lstrip("-").isdigit() for label in labels)


def _parquet(file: Path) -> tuple[list[tuple[Reference, str, Any, str]], list[str] | None]:
    """Read a table of paths, or Hugging Face's layout: a column of {bytes, path} and a column of class numbers.

    Returns a row for each image (reference, split, label, name), and the class names if the table has them.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{file} is not a parquet file: {error}") from error
    schema = table.schema_arrow
    labels = [name for name in ("label", "labels", "fine_label", "class") if name in schema.names]
    packed = [f.name for f in schema if pa.types.is_struct(f.type) and "bytes" in {inner.name for inner in f.type}]
    packed += [f.name for f in schema if pa.types.is_binary(f.type) or pa.types.is_large_binary(f.type)]
    if not labels or not (packed or "path" in schema.names):
        raise UserError(f"{file} has the columns {', '.join(schema.names)}", "path or image, and label are needed")
    wanted = [labels[0], *(["split"] if "split" in schema.names else []), *([] if packed else ["path"])]
    rows: list[tuple[Reference, str, Any, str]] = []
    for group in range(table.num_row_groups):
        try:
            part = table.read_row_group(group, columns=wanted).to_pydict()
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"{file} is damaged: {error}") from error
        for row, label in enumerate(part[labels[0]]):
            split = part["split"][row] if "split" in part else None
            name = f"{file.name} row {len(rows) + 1}"
            if packed:
                _, word, label, _ = _row(file.parent, name, label, split, name)
                rows.append((Reference(str(file), packed[0], group, row), word, label, name))
            else:
                rows.append(_row(file.parent, part["path"][row], label, split, name))
    return rows, _names(schema, labels[0])


def _names(schema: Any, column: str) -> list[str] | None:
    """Return the class names that Hugging Face's datasets keeps in the file's metadata."""
    text = (schema.metadata or {}).get(b"huggingface")
    if text is None:
        return None
    feature = json.loads(text).get("info", {}).get("features", {}).get(column, {})
    names = feature.get("names")
    return [str(name) for name in names] if isinstance(names, list) else None

"""Write a subset as a file that can be published, read one, and check it against the images. No torch.

Our manifest is a parquet file with a row for each image, in order, so that every prefix is a subset. Its columns are
`index, label, rank, content_hash`, and the file's metadata says how it was made. An image is found by its content hash,
wherever it lies. A list of `filename label` lines, as published small-data benchmarks use, can be read too.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bias_lab import __version__, ledger
from bias_lab.data import subsets
from bias_lab.data.masks.pairs import Masked
from bias_lab.data.own import plain_lists
from bias_lab.data.readers import named
from bias_lab.errors import UserError, check_regular

COLUMNS = ("index", "label", "rank", "content_hash")


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """Hold what manifests need of a dataset's training images. names: relative paths, empty for arrays."""

    dataset: str
    fingerprint: str
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    hashes: Sequence[str]
    names: Sequence[str]
    ordered_by: str = ""  # keys the order of images, if not the fingerprint


@dataclass(frozen=True, slots=True)
class Used:
    """Describe a checked manifest. place: values for FOLDER/places.json, under the key `manifest:<digest>`."""

    digest: str
    length: int
    place: dict[str, Any]


def pool(dataset: str, *, place: dict[str, Any] | None = None, data_root: str | None = None) -> Pool:
    """Return the pool of a dataset by name, or of the user's own images (place: from `own_images.index`).

    Raises UserError for images with masks.
    """
    if place is not None:
        if "values" in place:
            raise _masked(str(place["path"]))
        table = pd.read_parquet(place["index"])
        part = table[table.split == "train"]
        classes = tuple(place["classes"])
        labels = part.label.to_numpy(np.int64)
        return Pool(dataset, place["fingerprint"], classes, labels, list(part.hash), list(part.name))
    raw = named.reader(dataset, data_root)[1]()
    if isinstance(raw, Masked):
        raise _masked(dataset)
    images, labels = raw.splits["train"]
    names = [] if isinstance(images, np.ndarray) else [str(path) for path in images]
    hashes = named.hashes_of(dataset, images)
    opened = named.open_named(dataset, data_root=data_root)
    return Pool(dataset, opened.fingerprint, tuple(raw.classes), labels, hashes, names, opened.ordered_by)


def _masked(name: str) -> UserError:
    what = f"a manifest lists the class of each image, and {name} has masks"
    return UserError(what, remedy="choose its images with draw and blocks")


def write(path: Path, images: Pool, sizes: Sequence[int], draw: int, *, balanced: bool = False, blocks: int = 0) -> int:
    """Write one draw's order, or one block's, up to the largest size (without sizes, all of it). Return its length.

    Raises UserError for a draw that is none of the blocks, and if a size exceeds the pool, leaves out a class or cannot
    be balanced although `balanced` is set.
    """
    if blocks and draw >= blocks:
        raise UserError(f"draw {draw} is none of {blocks} blocks", f"0 to {blocks - 1}")
    counts = np.bincount(images.labels, minlength=len(images.classes)).tolist()
    counts = subsets.block_counts(counts, blocks, draw, images.classes)
    part = f"block {draw} of {images.dataset}" if blocks else images.dataset
    sizes = sizes or (sum(counts),)
    for size in sizes:
        _check_size(size, counts, part, images.classes, balanced=balanced)
    key = images.ordered_by or images.fingerprint
    order = subsets.order(key, images.labels, draw, balanced=balanced, blocks=blocks)[: max(sizes)]
    table = pd.DataFrame(
        {
            "index": order,
            "label": images.labels[order],
            "rank": np.arange(len(order)),
            "content_hash": [images.hashes[i] for i in order],
        }
    )
    about = {
        "dataset": images.dataset,
        "fingerprint": images.fingerprint,
        "draw": draw,
        **({"blocks": blocks, "block": f"every {blocks}th image of each class of draw 0"} if blocks else {}),
        "sizes": sorted(sizes),
        "balanced": balanced,
        "classes": list(images.classes),
        "made_by": f"bias_lab {__version__}",
        "rule": "classes interleaved by the quota method of Balinski and Young, images of a class by BLAKE2b of "
        "fingerprint, draw and index",
    }
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata({"bias_lab": json.dumps(about)})
    with ledger.replacing(path) as temporary:
        pq.write_table(rows, temporary)
    return len(order)


def _check_size(size: int, counts: list[int], part: str, classes: Sequence[str], *, balanced: bool) -> None:
    """Raise UserError for a size that exceeds the images of `part`, leaves out a class or cannot be balanced."""
    if size > sum(counts):
        raise UserError(f"size {size} exceeds the {sum(counts)} images of {part}")
    if size < (least := len(counts) if balanced else subsets.smallest_size(counts)):
        empty = size if balanced else subsets.left_out(counts, size)  # balanced: the classes take turns
        name = subsets.name_of(empty, classes)
        raise UserError(f"size {size} leaves {name} without an image", f"the smallest size that works is {least}")
    if balanced:
        subsets.check_balanced(counts, size, classes)


def read(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return a manifest's rows in order, and how it was made. A text list gives `line, text` and an empty dict.

    Raises UserError if the file is absent, damaged or of another format.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_regular(path)
    if not Path(path).is_file():
        raise UserError(f"there is no manifest {path}", remedy="bias-lab subset DATASET --sizes 100,1000 --out FILE")
    if Path(path).suffix != ".parquet":
        return plain_lists.read(Path(path)), {}
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path} is not a parquet file, or it is damaged: {error}") from error
    if missing := [name for name in COLUMNS if name not in table.schema.names]:
        raise UserError(f"{path} has no column {missing[0]}", f"a manifest has {', '.join(COLUMNS)}")
    for name in COLUMNS:
        _check_column(path, name, table.column(name))
    rows = table.select(COLUMNS).to_pandas().sort_values("rank", kind="stable").reset_index(drop=True)
    return rows, _how_it_was_made(path, (table.schema.metadata or {}).get(b"bias_lab", b"{}"))


def _check_column(path: Path, name: str, column: Any) -> None:
    """Raise UserError for a column with values of another type, or without a value in some rows."""
    import pyarrow as pa

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    is_text = name == "content_hash"
    fits = pa.types.is_string(kind) or pa.types.is_large_string(kind) if is_text else pa.types.is_integer(kind)
    if not fits:
        allowed = "text is" if is_text else "whole numbers are"
        raise UserError(f"{path}: the column {name} has values of type {column.type}", f"{allowed} needed")
    if column.null_count:
        row = column.is_null().to_pylist().index(True) + 1
        raise UserError(f"{path}: row {row} has no {name}", remedy="write the file again with bias-lab subset")


def _how_it_was_made(path: Path, text: bytes) -> dict[str, Any]:
    try:
        about = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: its metadata are not JSON ({error})", remedy="write the file again") from error
    return about if isinstance(about, dict) else {}


def use(path: Path, images: Pool, *, folder: Path) -> Used:
    """Check a manifest against the images, and write its order, in our numbering, into the sweep's folder.

    Raises UserError if one of its images is not in the pool (or is in the test split), has another label, or is named
    twice.
    """
    rows, about = read(path)
    if about or "content_hash" in rows:
        order = _by_content(path, rows, images, [str(name) for name in about.get("classes", ())])
    else:
        order = plain_lists.order(
            path, rows, plain_lists.Known(images.dataset, images.classes, images.labels, images.names)
        )
    _check_distinct(path, order, images)
    hasher = hashlib.blake2b(images.fingerprint.encode(), digest_size=8)
    hasher.update(np.asarray(order, "<i8").tobytes())
    digest = hasher.hexdigest()
    kept = folder / "data" / f"manifest-{digest}.npy"
    with ledger.replacing(kept) as temporary, temporary.open("wb") as file:
        np.save(file, np.asarray(order, np.int64))
    return Used(digest, len(order), {"path": str(Path(path).absolute()), "ranking": str(kept.absolute())})


def ranking(place: dict[str, Any]) -> NDArray[np.int64]:
    """Return the order that `use` wrote. `subsets.select` takes it instead of a draw's."""
    order: NDArray[np.int64] = np.load(place["ranking"])
    return order


def _check_distinct(path: Path, order: Sequence[int], images: Pool) -> None:
    """Raise UserError if an image is listed twice."""
    seen: set[int] = set()
    for index in order:
        if index in seen:
            name = f"'{images.names[index]}'" if len(images.names) else f"image {index}"
            raise UserError(f"{path} names an image twice ({name})", remedy="keep one of its lines")
        seen.add(index)


def _by_content(path: Path, rows: pd.DataFrame, images: Pool, classes: Sequence[str]) -> list[int]:
    """Return the index of each row's image, found by its content hash.

    classes: the manifest's, in the order of its label numbers. A label is compared by its name if the pool has that,
    and else by its number.
    """
    own = {number: images.classes.index(name) for number, name in enumerate(classes) if name in images.classes}
    where: dict[str, list[int]] = defaultdict(list)
    for index, mark in enumerate(images.hashes):
        where[mark].append(index)
    order: list[int] = []
    taken: set[int] = set()
    absent = 0
    for index, given, mark in zip(rows["index"], rows["label"], rows["content_hash"], strict=True):
        label = own.get(given, given)
        places = [place for place in where.get(mark, ()) if place not in taken]
        if not places:
            absent += 1
            continue
        matching = [place for place in places if images.labels[place] == label]
        if not matching:
            theirs, mine = _called(given, classes), _called(int(images.labels[places[0]]), images.classes)
            raise UserError(
                f"{path}: image {mark} has label {theirs}, but in {images.dataset} it has {mine}",
                remedy="check that the classes have the same names, or are numbered alike",
            )
        order.append(index if index in matching else matching[0])  # of two equal images, its own if possible
        taken.add(order[-1])
    if absent:
        raise UserError(
            f"{path}: {absent} of its {len(rows)} images are not in the pool of {images.dataset}",
            remedy="check whether it was made from other images, or from a test split",
        )
    return order


def _called(number: Any, classes: Sequence[str]) -> str:
    """Return a label with the name of its class, if that is known."""
    known = isinstance(number, int | np.integer) and 0 <= number < len(classes)
    return f"{number} ('{classes[int(number)]}')" if known else f"{number}"

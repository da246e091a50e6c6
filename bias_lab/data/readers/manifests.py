"""A subset as a file that can be published: made, read, and held against the images before anything trains. No torch.

Ours is a parquet file with a row an image, in order, so that every prefix is a subset: `index, label, rank,
content_hash`, with how it was made in the file's metadata. Another's may also be a plain list of `filename label`
lines, as published small-data benchmarks use. What counts is the content: an image is found by its hash, wherever it
stands.
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

from bias_lab import __version__, catalogue, ledger
from bias_lab.data import subsets
from bias_lab.data.identity import content_hash
from bias_lab.data.readers import named
from bias_lab.data.readers.listing import lines_of
from bias_lab.errors import UserError

COLUMNS = ("index", "label", "rank", "content_hash")


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """The training images of a dataset as manifests see them. names: relative paths, empty for arrays."""

    dataset: str
    fingerprint: str
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    hashes: Sequence[str]
    names: Sequence[str]


@dataclass(frozen=True, slots=True)
class Used:
    """A manifest that fits the images. place: for FOLDER/places.json, under the key `manifest:<digest>`."""

    digest: str
    length: int
    place: dict[str, Any]


def pool(dataset: str, *, place: dict[str, Any] | None = None, data_root: str | None = None) -> Pool:
    """The pool of a catalogue dataset, or of the user's own (place: as `sources.index` gave it)."""
    if place is not None:
        table = pd.read_parquet(place["index"])
        part = table[table.split == "train"]
        classes = tuple(place["classes"])
        labels = part.label.to_numpy(np.int64)
        return Pool(dataset, place["fingerprint"], classes, labels, list(part.hash), list(part.name))
    if dataset == "fashion_mnist_12k":
        images = named.embedded(dataset)
        hashes = [content_hash(image) for image in images.train]
        return Pool(dataset, images.fingerprint, images.classes, images.train_labels, hashes, [])
    catalogue.dataset(dataset)
    raw = named.reader(dataset, data_root)[1]()
    pictures, labels = raw.splits["train"]
    names = [] if isinstance(pictures, np.ndarray) else [str(path) for path in pictures]
    hashes = named.hashes_of(dataset, pictures)
    images = named.open_named(dataset, data_root=data_root)
    return Pool(dataset, images.fingerprint, tuple(raw.classes), labels, hashes, names)


def write(path: Path, images: Pool, sizes: Sequence[int], draw: int, *, balanced: bool = False) -> None:
    """Write one draw's order up to the largest size.

    Raises UserError if a size exceeds the pool, misses a class, or can't be balanced though it is to be.
    """
    counts = np.bincount(images.labels, minlength=len(images.classes)).tolist()
    for size in sizes:
        if size > len(images.labels):
            raise UserError(f"size {size} exceeds the {len(images.labels)} images of {images.dataset}")
        if size < (least := len(counts) if balanced else subsets.smallest_size(counts)):
            raise UserError(f"size {size} leaves a class without an image", f"the smallest size that works is {least}")
        if balanced:
            subsets.check_balanced(counts, size)
    order = subsets.order(images.fingerprint, images.labels, draw, balanced=balanced)[: max(sizes)]
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
        "sizes": sorted(sizes),
        "balanced": balanced,
        "classes": list(images.classes),
        "made_by": f"bias_lab {__version__}",
        "rule": "classes interleaved by the quota method of Balinski and Young, images of a class by BLAKE2b of "
        "fingerprint, draw and index",
    }
    import pyarrow as pa
    import pyarrow.parquet as pq

    made = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata({"bias_lab": json.dumps(about)})
    with ledger.replacing(path) as temporary:
        pq.write_table(made, temporary)


def read(path: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A manifest's rows in order, and how it was made (empty for a plain list, whose rows are `name, label`)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not Path(path).is_file():
        raise UserError(f"there is no manifest {path}", remedy="bias-lab subset DATASET --sizes 100,1000 --out FILE")
    if Path(path).suffix != ".parquet":
        return _plain(Path(path)), {}
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path} is no parquet file: {error}") from error
    if missing := [name for name in COLUMNS if name not in table.schema.names]:
        raise UserError(f"{path} has no column {missing[0]}", f"a manifest has {', '.join(COLUMNS)}")
    text = (table.schema.metadata or {}).get(b"bias_lab", b"{}")
    rows = table.select(COLUMNS).to_pandas().sort_values("rank", kind="stable").reset_index(drop=True)
    return rows, json.loads(text)


def _plain(path: Path) -> pd.DataFrame:
    """A list of `filename label`, separated by blanks, a tab or a comma; empty lines and # comments are left out."""
    rows = []
    for number, line in enumerate(lines_of(path), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, _, label = text.replace("\t", " ").replace(",", " ").rpartition(" ")
        if not name or not label:
            raise UserError(f"{path} line {number}: '{text[:60]}' is not 'filename label'")
        rows.append({"name": name.strip(), "label": label})
    if not rows:
        raise UserError(f"{path} is empty")
    return pd.DataFrame(rows)


def use(path: Path, images: Pool, *, folder: Path) -> Used:
    """Hold a manifest against the images; its order, in our numbering, is kept in the sweep's folder.

    Raises UserError if an image of it is not in the pool (or is in the test split), has another label, or stands twice.
    """
    rows, about = read(path)
    order = _by_content(path, rows, images) if about or "content_hash" in rows else _by_name(path, rows, images)
    if len(set(order)) != len(order):
        raise UserError(f"{path} names an image twice")
    hasher = hashlib.blake2b(images.fingerprint.encode(), digest_size=8)
    hasher.update(np.asarray(order, "<i8").tobytes())
    digest = hasher.hexdigest()
    kept = folder / "data" / f"manifest-{digest}.npy"
    with ledger.replacing(kept) as temporary, temporary.open("wb") as file:
        np.save(file, np.asarray(order, np.int64))
    return Used(digest, len(order), {"path": str(Path(path).absolute()), "ranking": str(kept.absolute())})


def ranking(place: dict[str, Any]) -> NDArray[np.int64]:
    """The order that `use` kept: what `subsets.select` takes in place of a draw's."""
    order: NDArray[np.int64] = np.load(place["ranking"])
    return order


def _by_content(path: Path, rows: pd.DataFrame, images: Pool) -> list[int]:
    where: dict[str, list[int]] = defaultdict(list)
    for index, mark in enumerate(images.hashes):
        where[mark].append(index)
    order: list[int] = []
    taken: set[int] = set()
    absent = 0
    for index, label, mark in zip(rows["index"], rows["label"], rows["content_hash"], strict=True):
        places = [place for place in where.get(mark, ()) if place not in taken]
        if not places:
            absent += 1
            continue
        fits = [place for place in places if images.labels[place] == label]
        if not fits:
            raise UserError(
                f"{path}: image {mark} has label {label}, in {images.dataset} it has {images.labels[places[0]]}",
                remedy="are the classes numbered alike?",
            )
        order.append(
            index if index in fits else fits[0]
        )  # the same picture twice: the one it stood for, if that is there
        taken.add(order[-1])
    if absent:
        raise UserError(
            f"{path}: {absent} of its {len(rows)} images are not in the pool of {images.dataset}",
            remedy="was it made from other images, or from a test split?",
        )
    return order


def _by_name(path: Path, rows: pd.DataFrame, images: Pool) -> list[int]:
    """A plain list: names are relative paths, or, for datasets without files, indices."""
    of = _name_index(images)
    order = []
    for name, label in zip(rows["name"], rows["label"], strict=True):
        index = of.get(str(Path(name).with_suffix("")).lstrip("./"))
        if index is None:
            raise UserError(f"{path}: '{name}' is not in the pool of {images.dataset}")
        number = images.classes.index(label) if label in images.classes else int(label) if label.isdigit() else -1
        if number != images.labels[index]:
            raise UserError(f"{path}: '{name}' has label {label}, in {images.dataset} it has {images.labels[index]}")
        order.append(index)
    return order


def _name_index(images: Pool) -> dict[str, int]:
    """Every tail of an image's path that no other image has → its index (a list may leave leading folders out)."""
    if not images.names:
        return {str(index): index for index in range(len(images.labels))}
    found: dict[str, int] = {}
    for index, name in enumerate(images.names):
        parts = Path(name).with_suffix("").parts
        for start in range(len(parts)):
            tail = "/".join(parts[start:])
            found[tail] = -1 if tail in found else index
    return {tail: index for tail, index in found.items() if index >= 0}

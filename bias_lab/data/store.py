"""Images decoded once, and opened by every run: whole splits of uint8, memory-mapped, keyed by what they hold.

A store is two files: `KEY.u8` (pixels of all splits, then labels) and `KEY.json` (shapes, classes, moments, checksum),
which is written last, by rename: without it there is no store. One process builds, others wait for it. On opening, size
and checksum must be as written; a store that fails is built again. A checksum that held is noted with the file's size
and time in `KEY.checked`, so that the next run need not read it all.
"""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from bias_lab import ledger
from bias_lab.data.decoding import Reference, Target, fill
from bias_lab.data.identity import content_hash
from bias_lab.errors import UserError

COPIED = 64 * 2**20  # bytes of a subset that is copied into memory; a larger one is read where it lies
RULE = "bilinear-centre-1"  # how images are brought to size (pictures.fit); part of every key
SPLITS = ("train", "test", "holdout", "unlabelled")

Pixels = NDArray[np.uint8]  # (M, H, W, C)
Labels = NDArray[np.int64]  # (M,)


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """A dataset as a run sees it. mean, std: of the training pool, per channel, in [0, 1]."""

    train: Pixels
    train_labels: Labels
    test: Pixels
    test_labels: Labels
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    holdout: Pixels | None = None  # a user's val/ beside test/
    holdout_labels: Labels | None = None
    unlabelled: Pixels | None = None  # images of no class, for pretraining (STL-10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a store is to hold: for each split its labels, and `write`, which puts the pixels into their rows."""

    labels: Mapping[str, Labels]
    shape: tuple[int, int, int]  # H, W, C
    classes: Sequence[str]
    fingerprint: str
    write: Callable[[Path], None]  # gets a file of the right size; rows in the order of the splits


def data_root(given: str | None) -> Path:
    """Where datasets and stores lie: what was given, else BIAS_LAB_DATA, else ~/.cache/bias_lab/data."""
    return Path(given or os.environ.get("BIAS_LAB_DATA") or Path.home() / ".cache" / "bias_lab" / "data")


def open_images(
    dataset: str, *, image_size: int | None = None, data_root: str | None = None, place: dict[str, Any] | None = None
) -> Images:
    """A dataset's images, decoded at `image_size` (None: its own). place: where a user's own data lie.

    Raises UserError if the dataset is unknown, absent, or not what it was when it was indexed.
    """
    if dataset.startswith(("folder:", "table:")):
        return _own(dataset, image_size, data_root, place)
    from bias_lab.data import named

    return named.open_named(dataset, image_size=image_size, data_root=data_root)


def moments(images: Pixels) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over (M, H, W, C), in [0, 1], from exact integer sums."""
    W, C = images.shape[-2:]
    lines = images.reshape(-1, W * C)  # a row of pixels is long enough to be added up as a vector
    first, second = np.zeros(W * C, np.uint64), np.zeros(W * C, np.uint64)
    for start in range(0, len(lines), 4096):  # few enough that 4096 squares of 255 fit in 32 bits
        part = lines[start : start + 4096]
        first += part.sum(0, dtype=np.uint32)
        second += np.multiply(part, part, dtype=np.uint16).sum(0, dtype=np.uint32)
    count = lines.size // C
    mean = first.reshape(W, C).sum(0) / count
    std = np.sqrt(np.maximum(second.reshape(W, C).sum(0) / count - mean**2, 0))
    return tuple((mean / 255).round(6).tolist()), tuple((std / 255).round(6).tolist())


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Some rows of a store, looked up when they are asked for, so that a large subset stays in the store's pages."""

    images: Pixels
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self.images.shape[1:])

    def __getitem__(self, which: slice | NDArray[np.int64]) -> Pixels:
        return self.images[self.rows[which]]


def part(images: Pixels, rows: NDArray[np.int64]) -> Pixels:
    """Those rows of (M, H, W, C): copied where they are few, else a `Part`, which batches and `plain` read alike."""
    if len(rows) * int(np.prod(images.shape[1:])) <= COPIED:
        return images[rows]
    return cast(Pixels, Part(images, rows))


def without_duplicates(images: Images) -> Images:
    """The dataset less the training images that stand in its test split too, whatever their class (no leaks).

    If there are any, the pool is another one: so is its fingerprint.
    """
    test = {content_hash(image) for image in images.test}
    kept = np.array([content_hash(image) not in test for image in images.train], bool)
    if kept.all():
        return images
    mark = hashlib.blake2b(f"{images.fingerprint} without {np.flatnonzero(~kept).tolist()}".encode(), digest_size=8)
    return replace(
        images,
        train=part(images.train, np.flatnonzero(kept)),
        train_labels=images.train_labels[kept],
        fingerprint=mark.hexdigest(),
    )


# --- the user's own --------------------------------------------------------------------------------------------------


def _own(dataset: str, image_size: int | None, root: str | None, place: dict[str, Any] | None) -> Images:
    """The images that `sources.index` found, from the store of their fingerprint."""
    if place is None:
        raise UserError(f"nobody said where {dataset} lies", remedy="give its folder with --data")
    mark = dataset.partition(":")[2]
    if place["fingerprint"] != mark:
        raise UserError(f"{place['path']} holds {place['fingerprint']}, the run wants {mark}", remedy="index it again")
    side = image_size or int(place["image_size"])
    channels = int(place["channels"])
    key = key_of(mark, side, channels)
    return open_or_build(stores(root), key, lambda: _content(place, side, channels))


def _content(place: dict[str, Any], side: int, channels: int) -> Content:
    import pandas as pd

    table = pd.read_parquet(place["index"])
    order = [table[table.split == split] for split in SPLITS]
    together = pd.concat(order)
    refs = zip(together.path, together.column, together.group, together.row, strict=True)
    references = [Reference(path, column, int(group), int(row)) for path, column, group, row in refs]

    def write(path: Path) -> None:
        target = Target(str(path), (side, side), channels, side, list(range(len(references))), list(together.hash))
        refuse(place["path"], list(together.name), fill(references, target))

    labels = {split: part.label.to_numpy(np.int64) for split, part in zip(SPLITS, order, strict=True)}
    return Content(
        labels=labels,
        shape=(side, side, channels),
        classes=place["classes"],
        fingerprint=place["fingerprint"],
        write=write,
    )


def refuse(where: str, names: Sequence[str], problems: Sequence[str]) -> None:
    """Raises UserError if a file could not be decoded, naming the first few."""
    bad = [f"{name} ({problem})" for name, problem in zip(names, problems, strict=True) if problem]
    if bad:
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise UserError(f"{len(bad)} images of {where}: {', '.join(bad[:5])}{more}", remedy="start the sweep again")


# --- stores ----------------------------------------------------------------------------------------------------------


def stores(root: str | None) -> Path:
    """The folder of stores: in the data root, or in the user's cache where that can't be written."""
    folder = data_root(root) / "stores"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False  # a shared, read-only data root is no fault
    if writable:
        return folder
    folder = Path.home() / ".cache" / "bias_lab" / "data" / "stores"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def key_of(*parts: object) -> str:
    """A store's name: a hash of what it holds, at which size, by which rule."""
    return hashlib.blake2b(" ".join(map(str, (*parts, RULE))).encode(), digest_size=12).hexdigest()


def open_or_build(folder: Path, key: str, content: Callable[[], Content]) -> Images:
    """The store of that key, built first if it is not there or not whole. Two processes at once build it once."""
    images = _open(folder, key)
    if images is not None:
        return images
    with _locked(folder / f".{key}.lock"):
        images = _open(folder, key)  # another process may have built it while this one waited
        if images is None:
            _build(folder, key, content())
            images = _open(folder, key)
    if images is None:
        raise UserError(f"the store {folder / key} was written and does not read back", remedy="is the disk sound?")
    return images


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # freed by the kernel, however the holder ends
        yield


def _build(folder: Path, key: str, content: Content) -> None:
    count = sum(len(labels) for labels in content.labels.values())
    H, W, C = content.shape
    for left in folder.glob(f".{key}.*.tmp"):  # of a builder that was killed: the lock says that none is at work
        left.unlink()
    with ledger.replacing(folder / f"{key}.u8") as temporary:
        os.truncate(temporary, count * H * W * C)
        content.write(temporary)
        with temporary.open("ab") as file:
            for split in SPLITS:
                file.write(content.labels.get(split, np.zeros(0)).astype("<i8").tobytes())
        pixels = np.memmap(temporary, np.uint8, mode="r", shape=(count, H, W, C))
        mean, std = moments(pixels[: len(content.labels["train"])])
        header = {
            "splits": {split: len(content.labels.get(split, ())) for split in SPLITS},
            "shape": [H, W, C],
            "classes": list(content.classes),
            "fingerprint": content.fingerprint,
            "mean": mean,
            "std": std,
            "checksum": _checksum(temporary),
        }
    ledger.write_json(folder / f"{key}.json", header)


def _checksum(path: Path) -> str:
    hasher = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(2**22):
            hasher.update(block)
    return hasher.hexdigest()


def _open(folder: Path, key: str) -> Images | None:
    """The store, or None if it is not there, not whole, or not what was written."""
    data, header = folder / f"{key}.u8", folder / f"{key}.json"
    try:
        about = json.loads(header.read_text(encoding="utf-8"))
        stat = data.stat()
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    splits, (H, W, C) = about["splits"], about["shape"]
    count = sum(splits.values())
    if stat.st_size != count * (H * W * C + 8):
        return None
    stamp = f"{about['checksum']} {stat.st_size} {stat.st_mtime_ns}"
    checked = folder / f"{key}.checked"
    if not checked.is_file() or checked.read_text(encoding="utf-8") != stamp:
        if _checksum(data) != about["checksum"]:
            return None
        ledger.write_bytes(checked, stamp.encode())
    pixels = np.memmap(data, np.uint8, mode="r", shape=(count, H, W, C))
    labels = np.fromfile(data, "<i8", offset=count * H * W * C).astype(np.int64)
    a, b = splits["train"], splits["train"] + splits["test"]
    c = b + splits["holdout"]
    return Images(
        train=pixels[:a],
        train_labels=labels[:a],
        test=pixels[a:b],
        test_labels=labels[a:b],
        classes=tuple(about["classes"]),
        mean=tuple(about["mean"]),
        std=tuple(about["std"]),
        fingerprint=about["fingerprint"],
        holdout=pixels[b:c] if splits["holdout"] else None,
        holdout_labels=labels[b:c] if splits["holdout"] else None,
        unlabelled=pixels[c:] if splits["unlabelled"] else None,
    )

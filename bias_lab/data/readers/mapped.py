"""Files of decoded images: whole splits of uint8, memory-mapped, keyed by what they hold, written once.

A store is two files: `KEY.u8` (pixels of all splits, then labels) and `KEY.json` (shapes, classes, moments, checksum),
which is written last, by rename: without it there is no store. One process builds, others wait for it. On opening, size
and checksum must be as written; a store that fails is built again. The checksum is a hash of the rows' content hashes
and of the labels: where nothing was resized, what the index knows already. That it holds is noted with the file's size
and time in `KEY.checked`, so that the next run need not read it all.
"""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bias_lab import ledger
from bias_lab.data.identity import content_hash
from bias_lab.data.moments import of_sums
from bias_lab.errors import UserError

RULE = "bilinear-centre-2"  # how images are brought to size (pictures.fit) and rows are checked; part of every key
SPLITS = ("train", "test", "holdout", "unlabelled")
HEADER = {"splits", "shape", "classes", "fingerprint", "mean", "std", "checksum"}

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


@dataclass(frozen=True, slots=True)
class Written:
    """What is known of a store's pixels once they are written."""

    fingerprint: str
    rows: Sequence[str]  # each row's content hash
    sums: NDArray[np.float64]  # (2, C): `moments.sums` of the training split


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a store is to hold: for each split its labels, and `write`, which puts the pixels into their rows."""

    labels: Mapping[str, Labels]
    shape: tuple[int, int, int]  # H, W, C
    classes: Sequence[str]
    write: Callable[[Path], Written]  # gets a file of the right size; rows in the order of the splits


def data_root(given: str | None) -> Path:
    """Where datasets and stores lie: what was given, else BIAS_LAB_DATA, else ~/.cache/bias_lab/data."""
    return Path(given or os.environ.get("BIAS_LAB_DATA") or Path.home() / ".cache" / "bias_lab" / "data")


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
    labels = b"".join(np.asarray(content.labels.get(split, ())).astype("<i8").tobytes() for split in SPLITS)
    with ledger.replacing(folder / f"{key}.u8") as temporary:
        os.truncate(temporary, count * H * W * C)
        written = content.write(temporary)
        with temporary.open("ab") as file:
            file.write(labels)
    mean, std = of_sums(written.sums, len(content.labels["train"]) * H * W)
    checksum = _checksum(written.rows, labels)
    header = {
        "splits": {split: len(content.labels.get(split, ())) for split in SPLITS},
        "shape": [H, W, C],
        "classes": list(content.classes),
        "fingerprint": written.fingerprint,
        "mean": mean,
        "std": std,
        "checksum": checksum,
    }
    ledger.write_json(folder / f"{key}.json", header)
    _note(folder, key, checksum)


def _checksum(rows: Iterable[str], labels: bytes) -> str:
    return hashlib.blake2b("".join(rows).encode() + labels, digest_size=16).hexdigest()


def _stamp(data: Path, checksum: str) -> str:
    stat = data.stat()
    return f"{checksum} {stat.st_size} {stat.st_mtime_ns}"


def _note(folder: Path, key: str, checksum: str) -> None:
    """Note that the store, as it lies there, is what was written."""
    ledger.write_bytes(folder / f"{key}.checked", _stamp(folder / f"{key}.u8", checksum).encode())


def _open(folder: Path, key: str) -> Images | None:
    """The store, or None if it is not there, not whole, or not what was written."""
    data, header = folder / f"{key}.u8", folder / f"{key}.json"
    try:
        about = json.loads(header.read_text(encoding="utf-8"))
        H, W, C = about["shape"]
        count = sum(about["splits"][split] for split in SPLITS)
        whole = about.keys() >= HEADER and data.stat().st_size == count * (H * W * C + 8)
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # not there, not UTF-8, not JSON, not a header
        return None
    if not whole:
        return None
    pixels = np.memmap(data, np.uint8, mode="r", shape=(count, H, W, C))
    labels = np.fromfile(data, "<i8", offset=count * H * W * C)
    checked = folder / f"{key}.checked"
    if not checked.is_file() or checked.read_bytes() != _stamp(data, about["checksum"]).encode():
        if _checksum((content_hash(row) for row in pixels), labels.tobytes()) != about["checksum"]:
            return None
        _note(folder, key, about["checksum"])
    return _images(about, pixels, labels.astype(np.int64))


def _images(about: Mapping[str, Any], pixels: Pixels, labels: Labels) -> Images:
    splits = about["splits"]
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

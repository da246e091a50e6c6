"""Keep whole splits of decoded images in files of uint8 that are memory-mapped.

A store is two files: `KEY.u8` (the pixels of all splits, then the labels) and `KEY.json` (shapes, classes, moments and
a checksum). The second is written last, by rename, and without it there is no store. One process builds a store while
others wait for it. On opening, the size and the checksum must match, otherwise the store is built again. The checksum
is a hash of the labels and of the rows' content hashes, which an index already holds if nothing was resized.
`KEY.checked` records that the checksum was right, with the file's size and time, so that the next run does not have to
read everything again.

In a store with masks, a row has one more channel, which is the mask: the number of each pixel's class, 255 for void.
Its labels are bits: which classes the mask holds, before it was resized.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from bias_lab import ledger
from bias_lab.data.identity import content_hash
from bias_lab.data.moments import of_sums
from bias_lab.errors import UserError

RULE = "bilinear-centre-2"  # how images are resized and rows are checked, as part of every key
SPLITS = ("train", "test", "holdout", "unlabelled")
HEADER = {"splits", "shape", "classes", "fingerprint", "mean", "std", "checksum"}

Pixels = NDArray[np.uint8]  # (M, H, W, C)
Labels = NDArray[Any]  # (M,) class numbers in int64, or masks (M, H, W) in uint8
Presence = NDArray[np.bool_]  # (M, K), which classes a mask holds


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """Hold a dataset's images. mean, std: of the training pool, per channel, in [0, 1].

    Labels are class numbers (M,), or masks (M, H, W) whose void is 255. A dataset with masks has `presence` too: which
    classes each training mask holds, (M, K).
    test_groups: (T,) numbers of groups of test images that depend on one another (neighbouring frames), None if each
    stands for itself. test_parts: name of a part of the test images → which belong to it, (T,).
    """

    train: Pixels
    train_labels: Labels
    test: Pixels
    test_labels: Labels
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fingerprint: str
    holdout: Pixels | None = None  # a user's own val/ next to test/
    holdout_labels: Labels | None = None
    unlabelled: Pixels | None = None  # images without a class, for pretraining (STL-10)
    order_key: str = ""  # of the catalogue's row: keys the order of images in place of the fingerprint
    presence: Presence | None = None
    test_groups: NDArray[np.int64] | None = None
    test_parts: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)

    @property
    def ordered_by(self) -> str:
        """Return what keys the order of images: the fingerprint, unless copies of a dataset differ in pixels."""
        return self.order_key or self.fingerprint


@dataclass(frozen=True, slots=True)
class Written:
    """Describe the pixels that were written into a store."""

    fingerprint: str
    rows: Sequence[str]  # each row's content hash
    sums: NDArray[np.float64]  # (2, C): `moments.sums` of the training split
    presence: Presence | None = None  # (M, K) of all rows, if they have masks


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Describe what a store will hold: the labels of each split, and the function that writes the pixels."""

    labels: Mapping[str, Labels]  # with masks, only their number counts
    shape: tuple[int, int, int]  # H, W, and C, or C + 1 with a mask
    classes: Sequence[str]
    write: Callable[[Path], Written]  # takes a file of the right size and writes the rows in the order of the splits
    has_masks: bool = False
    about: Mapping[str, Any] = field(default_factory=dict)  # test_groups and test_parts as JSON has them


def data_root(given: str | None) -> Path:
    """Return the folder of datasets and stores: the given one, else BIAS_LAB_DATA, else ~/.cache/bias_lab/data."""
    return Path(given or os.environ.get("BIAS_LAB_DATA") or Path.home() / ".cache" / "bias_lab" / "data")


def stores(root: str | None) -> Path:
    """Return the folder of stores in the data root, or in the user's cache if the data root is read-only."""
    folder = data_root(root) / "stores"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False  # a shared data root may be read-only
    if writable:
        return folder
    folder = Path.home() / ".cache" / "bias_lab" / "data" / "stores"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def key_of(*parts: object) -> str:
    """Return a store's name: a hash of its content, its size and the rule."""
    return hashlib.blake2b(" ".join(map(str, (*parts, RULE))).encode(), digest_size=12).hexdigest()


def side_words(side: tuple[int, int]) -> int | str:
    """Return a side as a store's key has it: one number for a square.

    >>> side_words((32, 32)), side_words((96, 128))
    (32, '96x128')
    """
    H, W = side
    return H if H == W else f"{H}x{W}"


def open_or_build(folder: Path, key: str, content: Callable[[], Content]) -> Images:
    """Return the images of a store. It is built first if it is absent or damaged, once by all processes together."""
    images = open_store(folder, key)
    if images is not None:
        return images
    with FileLock(folder / f".{key}.lock"):
        images = open_store(folder, key)  # another process may have built it while this one waited
        if images is None:
            _build(folder, key, content())
            images = open_store(folder, key)
    if images is None:
        raise UserError(f"the store {folder / key} was written but can't be read again", remedy="check the disk")
    return images


def _build(folder: Path, key: str, content: Content) -> None:
    count = sum(len(labels) for labels in content.labels.values())
    H, W, C = content.shape
    for temporary in folder.glob(f".{key}.*.tmp"):  # of a killed builder, since this process has the lock
        temporary.unlink()
    needed, free = (
        count * (H * W * C + 8 * _words(len(content.classes), content.has_masks)),
        shutil.disk_usage(folder).free,
    )
    if needed > free:
        raise UserError(
            f"{count:,} images of {H}x{W} px take {needed / 2**30:,.1f} GiB, but {folder} has {free / 2**30:,.1f} left",
            remedy="choose a smaller --image-size, or another --data-root",
        )
    labels = b"".join(np.asarray(content.labels.get(split, ())).astype("<i8").tobytes() for split in SPLITS)
    with ledger.replacing(folder / f"{key}.u8") as temporary:
        os.truncate(temporary, count * H * W * C)
        written = content.write(temporary)
        if written.presence is not None:
            labels = _pack(written.presence)
        with temporary.open("ab") as file:
            file.write(labels)
    mean, std = of_sums(written.sums, len(content.labels["train"]) * H * W)
    checksum = _checksum(written.rows, labels)
    header: dict[str, Any] = {
        "splits": {split: len(content.labels.get(split, ())) for split in SPLITS},
        "shape": [H, W, C],
        "classes": list(content.classes),
        "fingerprint": written.fingerprint,
        "mean": mean,
        "std": std,
        "checksum": checksum,
    }
    if content.has_masks:
        header |= {**content.about, "masks": True}
    ledger.write_json(folder / f"{key}.json", header)
    _note(folder, key, checksum)


def _words(classes: int, has_masks: bool) -> int:
    """Return how many words of 8 bytes the labels of an image take."""
    return -(-classes // 64) if has_masks else 1


def _pack(presence: Presence) -> bytes:
    """Return the bits of (M, K), each row filled up to whole words."""
    bits = np.packbits(presence, axis=1, bitorder="little")  # (M, K / 8)
    return np.pad(bits, ((0, 0), (0, -bits.shape[1] % 8))).tobytes()


def _checksum(rows: Iterable[str], labels: bytes) -> str:
    return hashlib.blake2b("".join(rows).encode() + labels, digest_size=16).hexdigest()


def _stamp(data: Path, checksum: str) -> str:
    stat = data.stat()
    return f"{checksum} {stat.st_size} {stat.st_mtime_ns}"


def _note(folder: Path, key: str, checksum: str) -> None:
    """Record that the store's checksum is right."""
    ledger.write_bytes(folder / f"{key}.checked", _stamp(folder / f"{key}.u8", checksum).encode())


def open_store(folder: Path, key: str) -> Images | None:
    """Return the store's images, or None if it is absent, incomplete or changed."""
    data, header = folder / f"{key}.u8", folder / f"{key}.json"
    try:
        about = json.loads(header.read_text(encoding="utf-8"))
        H, W, C = about["shape"]
        count = sum(about["splits"][split] for split in SPLITS)
        words = _words(len(about["classes"]), about.get("masks", False))
        whole = about.keys() >= HEADER and data.stat().st_size == count * (H * W * C + 8 * words)
    except (FileNotFoundError, ValueError, KeyError, TypeError):  # absent, not UTF-8, not JSON, or not a header
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
    further: dict[str, Any] = {}
    if about.get("masks"):
        bits = labels.astype("<i8").view(np.uint8).reshape(len(pixels), -1)[: splits["train"]]
        presence = np.unpackbits(bits, axis=1, count=len(about["classes"]), bitorder="little").astype(bool)
        further = {"presence": presence, **_test_images(about)}
        pixels, labels = pixels[..., :-1], pixels[..., -1]
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
        **further,
    )


def _test_images(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the groups and the parts of the test images that a header describes."""
    groups, parts = about.get("test_groups"), about.get("test_parts", {})
    return {
        "test_groups": None if groups is None else np.asarray(groups, np.int64),
        "test_parts": {name: np.asarray(rows, bool) for name, rows in parts.items()},
    }

"""Datasets by name: the embedded one, and those that torchvision or the user has already, read where they lie."""

import errno
import hashlib
import json
import lzma
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bias_lab import catalogue
from bias_lab.data.identity import content_hash, fingerprint
from bias_lab.data.moments import moments, sums
from bias_lab.data.readers import image_file, mapped, procedural
from bias_lab.data.readers.decoding import Filled, Reference, Target, fill, look_at, refuse
from bias_lab.data.readers.mapped import Content, Images, Written
from bias_lab.data.readers.torchvision_sets import SOURCES, Pictures, Raw, unpacked
from bias_lab.errors import UserError

# what readers raise for a part that is missing or damaged; RuntimeError is torchvision's word for a wrong checksum
DAMAGED = (RuntimeError, OSError, EOFError, ValueError, LookupError, zlib.error)


def open_named(name: str, *, image_size: int | None = None, data_root: str | None = None) -> Images:
    """A catalogue dataset's images at `image_size` (None: as published). Raises UserError if it is not at hand."""
    row = catalogue.dataset(name)
    if name == "fashion_mnist_12k" and image_size in (None, row.image_size):
        return embedded(name)
    side = image_size or row.image_size
    mark, read = reader(name, data_root, side)
    key = mapped.key_of(name, mark, side)
    return mapped.open_or_build(mapped.stores(data_root), key, lambda: content(name, read(), side, row.channels))


def reader(name: str, data_root: str | None, side: int = 32) -> tuple[str, Callable[[], Raw]]:
    """What identifies a dataset's files as they lie, and a function that reads them. side: of those that are drawn."""
    if name == "fashion_mnist_12k":
        return "embedded", _embedded_raw
    if name.partition(":")[0] == "shapes":
        return f"drawn {procedural.VERSION}", lambda: Raw(*procedural.dataset(name, side))
    root = mapped.data_root(data_root)
    folder = _find(name, root)
    return _signature(folder), lambda: _read(name, root, folder)


def _read(name: str, root: Path, folder: Path) -> Raw:
    try:
        return SOURCES[name].read(root, folder)
    except DAMAGED as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        raise UserError(f"{name}: {error}", remedy=f"fetch {SOURCES[name].fetch} again") from error


def check(name: str, *, data_root: str | None = None) -> list[str]:
    """Read a dataset anew and say whether its counts are right, which checksums are, and what stands in both splits.

    Raises UserError if it is absent, damaged, or not what the catalogue or a published checksum says.
    """
    row = catalogue.dataset(name)
    _, read = reader(name, data_root)
    raw = read()
    counts = tuple(np.bincount(raw.splits["train"][1], minlength=len(raw.classes)).tolist())
    test = len(raw.splits["test"][1])
    if counts != row.class_counts or test != row.test_images or len(raw.classes) != row.classes:
        raise UserError(
            f"{name}: {len(raw.classes)} classes, {sum(counts)} training and {test} test images",
            f"the catalogue says {row.classes}, {row.pool} and {row.test_images}, or other counts a class",
            "is a part of it missing?",
        )
    verified = _verified(name, data_root)
    hashes = {split: hashes_of(name, images) for split, (images, _) in raw.splits.items()}
    both = set(hashes["train"]) & set(hashes["test"])
    leaks = sum(mark in both for mark in hashes["train"])
    twice = len(hashes["train"]) - len(set(hashes["train"]))
    pixels = raw.splits["train"][0]
    mean, std = moments(pixels) if isinstance(pixels, np.ndarray) else _moments_of_files(name, data_root)
    return [
        f"{row.classes} classes, {row.pool:,} training and {test:,} test images: as the catalogue says",
        verified,
        f"{leaks} training images stand in the test split too" + ("; drop_duplicates leaves them out" if leaks else ""),
        f"{twice} training images stand more than once",
        f"{row.image_size} px, {row.channels} channel{'s'[: row.channels - 1]}; of the training images: "
        f"mean {_numbers(mean)}, standard deviation {_numbers(std)}",
        f"licence: {row.licence}; cite {row.citation}",
    ]


def _verified(name: str, data_root: str | None) -> str:
    """Which checksums are right. Raises UserError for a file that is not the published one."""
    if name not in SOURCES:
        return "checksum: as published" if name == "fashion_mnist_12k" else "drawn: it has no files"
    source = SOURCES[name]
    folder = _find(name, mapped.data_root(data_root))
    for file, published in source.sha256.items():
        found = hashlib.sha256(unpacked(folder, file)).hexdigest()
        if found != published:
            what = f"{name}: {folder / file}, unpacked, has SHA-256 {found[:12]}…, the published one {published[:12]}…"
            raise UserError(what, remedy=f"fetch {source.fetch} again")
    if source.sha256 or source.verified:
        return "checksums: as published"
    return f"checksums: none are known here for {name}; its files are counted and read, not verified"


def _moments_of_files(name: str, data_root: str | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    images = open_named(name, data_root=data_root)
    return images.mean, images.std


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.4f}" for value in values)


def content(name: str, raw: Raw, side: int, channels: int) -> Content:
    """What the store of a dataset is to hold, at that size. Each image is decoded once, and hashed for the dataset."""

    def write(path: Path) -> Written:
        triples: list[tuple[str, str, str]] = []
        rows: list[str] = []
        total = np.zeros((2, channels))
        for split in (split for split in mapped.SPLITS if split in raw.splits):
            images, labels = raw.splits[split]
            target = Target(path=str(path), side=(side, side), channels=channels, resize=side, first=len(rows))
            made = _fill(name, images, replace(target, counted=len(images) if split == "train" else 0))
            rows += made.rows
            total += made.sums
            if split != "unlabelled":
                triples += [(split, raw.classes[c], mark) for c, mark in zip(labels, made.contents, strict=True)]
        return Written(fingerprint(triples), rows, total)

    labels = {split: labels for split, (_, labels) in raw.splits.items()}
    return Content(labels=labels, shape=(side, side, channels), classes=raw.classes, write=write)


def _fill(name: str, images: Pictures, target: Target) -> Filled:
    if not isinstance(images, np.ndarray):
        filled = fill([Reference(str(path)) for path in images], target)
        refuse(name, [str(path) for path in images], filled.problems)
        return filled
    made = Filled([], hashes_of(name, images), [], np.zeros((2, target.channels)))
    with Path(target.path).open("r+b") as file:
        file.seek(target.first * target.side[0] * target.side[1] * target.channels)
        for start in range(0, len(images), 4096):
            given = np.ascontiguousarray(images[start : start + 4096])
            part = _resized(given, target.side[0], target.channels)
            file.write(part.data)
            made.rows += hashes_of(name, part) if part is not given else made.contents[start : start + len(part)]
            made.sums += sums(part[: max(0, target.counted - start)])
    return made


def hashes_of(name: str, images: Pictures) -> list[str]:
    """The content hash of each image. Raises UserError if a file can't be read."""
    if isinstance(images, np.ndarray):
        return [content_hash(image) for image in images]
    seen = look_at([Reference(str(path)) for path in images])
    refuse(name, [str(path) for path in images], [one.problem for one in seen])
    return [one.hash for one in seen]


def _resized(images: NDArray[np.uint8], side: int, channels: int) -> NDArray[np.uint8]:
    if images.shape[1:] == (side, side, channels):
        return images
    squeezed = images[..., 0] if images.shape[-1] == 1 else images
    return np.stack([image_file.fit(Image.fromarray(image), side, channels) for image in squeezed])


def _find(name: str, root: Path) -> Path:
    """The dataset's folder, downloaded if it is nowhere. Raises UserError: what to fetch, and where to put it."""
    source = SOURCES[name]
    for place in source.places:
        if _holds(root / place):
            return root / place
    if source.torchvision:
        try:
            _download(source.torchvision, root)
        except (OSError, RuntimeError) as error:  # URLError is an OSError; torchvision adds RuntimeErrors of its own
            raise _absent(name, root, str(error)) from error
        for place in source.places:
            if _holds(root / place):
                return root / place
    raise _absent(name, root, "")


def _holds(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())  # a download that failed leaves an empty one


def _absent(name: str, root: Path, why: str) -> UserError:
    tried = f" and can't be downloaded ({' '.join(why.split())})" if why else ""
    return UserError(
        f"{name} is not in {root}{tried}",
        f"fetch {SOURCES[name].fetch} and unpack it to {root / SOURCES[name].places[0]}",
        "or say where it lies with --data-root or BIAS_LAB_DATA",
    )


def _download(kind: str, root: Path) -> None:
    import torchvision.datasets

    root.mkdir(parents=True, exist_ok=True)
    getattr(torchvision.datasets, kind)(str(root), download=True)


def _signature(folder: Path) -> str:
    """A hash of the files' names, sizes and times: as long as they stand, so does the store made of them."""
    hasher = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            stat = path.stat()
            hasher.update(f"{path.relative_to(folder)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return hasher.hexdigest()


# --- the embedded dataset --------------------------------------------------------------------------------------------


@cache
def embedded(name: str) -> Images:
    """The dataset that the package carries. Raises UserError if its file is damaged."""
    folder = files("bias_lab.data.embedded")
    about = json.loads(folder.joinpath(f"{name}.json").read_text(encoding="utf-8"))
    packed = folder.joinpath(f"{name}.xz").read_bytes()
    if hashlib.sha256(packed).hexdigest() != about["sha256"]:
        raise UserError(f"the embedded dataset {name} is damaged: its SHA-256 differs", remedy="install bias_lab again")
    raw = np.frombuffer(lzma.decompress(packed), np.uint8)
    train, test = about["images"]["train"], about["images"]["test"]
    labels = raw[: train + test].astype(np.int64)
    pixels = raw[train + test :].reshape(train + test, 28, 28, 1)
    mean, std = moments(pixels[:train])
    return Images(
        train=pixels[:train],
        train_labels=labels[:train],
        test=pixels[train:],
        test_labels=labels[train:],
        classes=tuple(about["classes"]),
        mean=mean,
        std=std,
        fingerprint=about["fingerprint"],
    )


def _embedded_raw() -> Raw:
    images = embedded("fashion_mnist_12k")
    splits = {"train": (images.train, images.train_labels), "test": (images.test, images.test_labels)}
    return Raw(splits, images.classes)

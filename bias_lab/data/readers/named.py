"""Open datasets by name: the packaged one, and those that torchvision or the user has already."""

import errno
import hashlib
import json
import lzma
import pkgutil
import shutil
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
from bias_lab.catalogue import Dataset
from bias_lab.data.identity import content_hash, fingerprint
from bias_lab.data.masks import pairs
from bias_lab.data.masks import published as masked
from bias_lab.data.masks.mask_file import VOID
from bias_lab.data.masks.pairs import Masked
from bias_lab.data.moments import moments, sums
from bias_lab.data.readers import image_file, pixel_store
from bias_lab.data.readers.decoding import Decoded, Reference, Target, check_decoded, decode_all, inspect_all
from bias_lab.data.readers.pixel_store import Content, Images, Written
from bias_lab.data.readers.published import ImagesOrFiles, Published, Reader, unpacked
from bias_lab.errors import UserError

# raised by readers for a missing or damaged part (RuntimeError by torchvision for a wrong checksum)
DAMAGED = (RuntimeError, OSError, EOFError, ValueError, LookupError, zlib.error)


def open_named(
    name: str, *, image_size: int | None = None, image_width: int | None = None, data_root: str | None = None
) -> Images:
    """Return a dataset's images at `image_size` by `image_width`. Raises UserError if it cannot be found.

    image_size: the height, None for the published one. image_width: None for square images, or for the published width
    if no height is given.
    """
    row = catalogue.dataset(name)
    side = catalogue.image_side(row.image_size, row.image_width, image_size, image_width)
    if row.is_packaged and side == (row.image_size, row.image_size):
        return embedded(name)
    mark, read = reader(name, data_root, side)
    key = pixel_store.key_of(name, mark, pixel_store.side_words(side))
    images = pixel_store.open_or_build(
        pixel_store.stores(data_root), key, lambda: content(name, read(), side, row.channels)
    )
    return replace(images, order_key=row.order_key)


def reader(
    name: str, data_root: str | None, side: tuple[int, int] = (32, 32)
) -> tuple[str, Callable[[], Published | Masked]]:
    """Return what identifies a dataset's files, and a function that reads them. side: of images that are drawn."""
    row = catalogue.dataset(name)
    read: Reader | masked.Reader = pkgutil.resolve_name(row.reader)
    if not row.places:
        return row.version, lambda: read(row, Path(), side)
    folder = _find(row, pixel_store.data_root(data_root))
    return _signature(folder), lambda: _read(row, read, folder, side)


def _read(row: Dataset, read: Reader | masked.Reader, folder: Path, side: tuple[int, int]) -> Published | Masked:
    try:
        return read(row, folder, side)
    except DAMAGED as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        raise UserError(f"{row.name}: {error}", remedy=f"fetch {row.fetch} again") from error


def check(name: str, *, data_root: str | None = None) -> list[str]:
    """Read a dataset anew and return a line each on its counts, checksums, duplicates, moments and licence.

    Raises UserError if it is absent or damaged, or differs from the catalogue or a published checksum.
    """
    row = catalogue.dataset(name)
    _, read = reader(name, data_root)
    raw = read()
    if isinstance(raw, Masked):
        return _check_masks(row, open_named(name, data_root=data_root), _verified(row, data_root))
    counts = tuple(np.bincount(raw.splits["train"][1], minlength=len(raw.classes)).tolist())
    test = len(raw.splits["test"][1])
    if counts != row.class_counts or test != row.test_images or len(raw.classes) != row.classes:
        raise UserError(
            f"{name}: {len(raw.classes)} classes, {sum(counts)} training and {test} test images",
            f"the catalogue lists {row.classes}, {row.pool} and {row.test_images}, or classes of other sizes",
            "is a part of it missing?",
        )
    verified = _verified(row, data_root)
    hashes = {split: hashes_of(name, images) for split, (images, _) in raw.splits.items()}
    both = set(hashes["train"]) & set(hashes["test"])
    leaks = sum(one in both for one in hashes["train"])
    twice = len(hashes["train"]) - len(set(hashes["train"]))
    named = {split: [raw.classes[c] for c in raw.splits[split][1]] for split in hashes if split != "unlabelled"}
    mark = fingerprint((split, *one) for split in named for one in zip(named[split], hashes[split], strict=True))
    copy = f" ({row.copies[mark]})" if mark in row.copies else ""
    pixels = raw.splits["train"][0]
    if isinstance(pixels, np.ndarray):
        mean, std = moments(pixels)
    else:
        images = open_named(name, data_root=data_root)
        mean, std = images.mean, images.std
    return [
        f"{row.classes} classes, {row.pool:,} training and {test:,} test images: as in the catalogue",
        verified,
        f"training images that are in the test split too: {leaks}"
        + (" (left out by drop_duplicates)" if leaks else ""),
        f"training images that repeat another: {twice}",
        f"fingerprint: {mark}{copy}",
        f"{row.image_size} px, {row.channels} channel{'s'[: row.channels - 1]}; of the training images: "
        f"mean {_numbers(mean)}, standard deviation {_numbers(std)}",
        f"licence: {row.licence}; cite {row.citation}",
    ]


def _check_masks(row: Dataset, images: Images, verified: str) -> list[str]:
    """Return the lines of `check` on a dataset with masks. Raises UserError if it differs from the catalogue."""
    presence = np.zeros((0, row.classes), bool) if images.presence is None else images.presence
    known = catalogue.Masks(len(images.train), tuple(presence.sum(0).tolist()))
    if known != row.masks or len(images.test) != row.test_images:
        raise UserError(
            f"{row.name}: {known.images} training and {len(images.test)} test images with masks",
            f"the catalogue lists {row.pool} and {row.test_images}, or classes that other images show",
            "is a part of it missing?",
        )
    test = {content_hash(image) for image in images.test}
    leaks = sum(content_hash(image) in test for image in images.train)
    void = float(np.mean(images.train_labels == VOID))
    groups = len(images.test) if images.test_groups is None else len(set(images.test_groups.tolist()))
    return [
        f"{row.classes} classes, {row.pool:,} training and {row.test_images:,} test images with masks: as in the "
        "catalogue",
        verified,
        f"training images that are in the test split too: {leaks}",
        f"void pixels of the training masks: {100 * void:.1f} %; independent groups of test images: {groups}",
        f"{images.train.shape[1]}x{images.train.shape[2]} px; of the training images: "
        f"mean {_numbers(images.mean)}, standard deviation {_numbers(images.std)}",
        f"licence: {row.licence}; cite {row.citation}",
    ]


def _verified(row: Dataset, data_root: str | None) -> str:
    """Return a line on the checksums. Raises UserError for a file that is not the published one."""
    if not row.places:
        return "checksum: as published" if row.is_packaged else "drawn: it has no files"
    folder = _find(row, pixel_store.data_root(data_root))
    for file, published in row.sha256.items():
        computed = hashlib.sha256(unpacked(folder, file)).hexdigest()
        if computed != published:
            what = f"{row.name}: {folder / file}, unpacked, has SHA-256 {computed[:12]}…"
            raise UserError(f"{what}, but the published file has {published[:12]}…", remedy=f"fetch {row.fetch} again")
    if row.sha256 or row.is_verified:
        return "checksums: as published"
    return f"checksums: none are known here for {row.name}; its files are counted and read, not verified"


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.4f}" for value in values)


def content(name: str, raw: Published | Masked, side: tuple[int, int], channels: int) -> Content:
    """Describe the store of a dataset at one size. Each image is decoded once, and hashed for the fingerprint."""
    if isinstance(raw, Masked):
        return pairs.content(name, raw, side, channels)

    def write(path: Path) -> Written:
        triples: list[tuple[str, str, str]] = []
        rows: list[str] = []
        total = np.zeros((2, channels))
        for split in (split for split in pixel_store.SPLITS if split in raw.splits):
            images, labels = raw.splits[split]
            target = Target(path=str(path), side=side, channels=channels, resize=side, first=len(rows))
            decoded = _decode(name, images, replace(target, summed=len(images) if split == "train" else 0))
            rows += decoded.rows
            total += decoded.sums
            if split != "unlabelled":
                triples += [(split, raw.classes[c], mark) for c, mark in zip(labels, decoded.contents, strict=True)]
        return Written(fingerprint(triples), rows, total)

    labels = {split: labels for split, (_, labels) in raw.splits.items()}
    return Content(labels=labels, shape=(*side, channels), classes=raw.classes, write=write)


def _decode(name: str, images: ImagesOrFiles, target: Target) -> Decoded:
    """Write a split's pixels into their rows."""
    if not isinstance(images, np.ndarray):
        decoded = decode_all([Reference(str(path)) for path in images], target)
        check_decoded(name, [str(path) for path in images], decoded.problems)
        return decoded
    decoded = Decoded([], hashes_of(name, images), [], np.zeros((2, target.channels)))
    with Path(target.path).open("r+b") as file:
        file.seek(target.first * target.side[0] * target.side[1] * target.channels)
        for start in range(0, len(images), 4096):
            given = np.ascontiguousarray(images[start : start + 4096])
            part = _resized(given, target.side, target.channels)
            file.write(part.data)
            decoded.rows += hashes_of(name, part) if part is not given else decoded.contents[start : start + len(part)]
            decoded.sums += sums(part[: max(0, target.summed - start)])
    return decoded


def hashes_of(name: str, images: ImagesOrFiles) -> list[str]:
    """Return the content hash of each image. Raises UserError if a file cannot be read."""
    if isinstance(images, np.ndarray):
        return [content_hash(image) for image in images]
    inspected = inspect_all([Reference(str(path)) for path in images])
    check_decoded(name, [str(path) for path in images], [one.problem for one in inspected])
    return [one.hash for one in inspected]


def _resized(images: NDArray[np.uint8], side: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    if images.shape[1:] == (*side, channels):
        return images
    squeezed = images[..., 0] if images.shape[-1] == 1 else images
    return np.stack([image_file.resize(Image.fromarray(image), side, channels) for image in squeezed])


def _find(row: Dataset, root: Path) -> Path:
    """Return the dataset's folder, after a download if there is none.

    Raises UserError that names what to fetch and where to put it.
    """
    if folder := _place(row, root):
        return folder
    if row.download:
        try:
            _download(row.download, root)
        except (OSError, RuntimeError) as error:  # URLError is an OSError, and torchvision raises RuntimeError too
            raise _absent(row, root, str(error)) from error
        if folder := _place(row, root):
            return folder
    raise _absent(row, root, "")


def _place(row: Dataset, root: Path) -> Path | None:
    """Return the first of the dataset's folders that holds something. A failed download leaves an empty one."""
    folders = (root / place for place in row.places)
    return next((folder for folder in folders if folder.is_dir() and any(folder.iterdir())), None)


def _absent(row: Dataset, root: Path, why: str) -> UserError:
    tried = f" and can't be downloaded ({' '.join(why.split())})" if why else ""
    return UserError(
        f"{row.name} is not in {root}{tried}",
        f"fetch {row.fetch} and put the unpacked files into {root / row.places[0]}",
        "or name its folder with --data-root or BIAS_LAB_DATA",
    )


def _download(kind: str, root: Path) -> None:
    import torchvision.datasets

    made = [folder for folder in (root, *root.parents) if not folder.exists()]
    root.mkdir(parents=True, exist_ok=True)
    try:
        getattr(torchvision.datasets, kind)(str(root), download=True)
    finally:
        if made and not any(path.is_file() for path in root.rglob("*")):
            shutil.rmtree(made[-1])  # a failed download leaves nothing behind


def _signature(folder: Path) -> str:
    """Return a hash of the files' names, sizes and times. While it stays the same, so does the store."""
    hasher = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            stat = path.stat()
            hasher.update(f"{path.relative_to(folder)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return hasher.hexdigest()


# --- the packaged dataset --------------------------------------------------------------------------------------------


@cache
def embedded(name: str) -> Images:
    """Return the images of the dataset that the package holds. Raises UserError if its file is damaged."""
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


def read_embedded(row: Dataset, _folder: Path, _side: int) -> Published:
    """Read the packaged dataset."""
    images = embedded(row.name)
    splits = {"train": (images.train, images.train_labels), "test": (images.test, images.test_labels)}
    return Published(splits, images.classes)

"""Open a dataset's images for a run, by name or the user's own. They are decoded once and then memory-mapped."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from bias_lab import catalogue
from bias_lab.data.identity import content_hash
from bias_lab.data.masks import own
from bias_lab.data.moments import moments
from bias_lab.data.readers import named
from bias_lab.data.readers.decoding import Reference, Target, check_decoded, decode_all
from bias_lab.data.readers.pixel_store import (
    SPLITS,
    Content,
    Images,
    Pixels,
    Written,
    key_of,
    open_or_build,
    side_words,
    stores,
)
from bias_lab.errors import UserError

__all__ = ["Images", "Part", "open_images", "part", "without_duplicates"]

COPIED = 64 * 2**20  # bytes up to which a subset is copied into memory (a larger one stays memory-mapped)


def open_images(
    dataset: str,
    *,
    image_size: int | None = None,
    image_width: int | None = None,
    data_root: str | None = None,
    place: dict[str, Any] | None = None,
) -> Images:
    """Return a dataset's images, decoded at `image_size` (None: its own) by `image_width` (None: square, or its own).

    place: where a user's own images lie. Raises UserError if the dataset is unknown or absent, or changed since it was
    indexed.
    """
    if dataset.startswith(("folder:", "table:")):
        return _own(dataset, (image_size, image_width), data_root, place)
    return named.open_named(dataset, image_size=image_size, image_width=image_width, data_root=data_root)


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Some rows of a store. They are read on access, so that a large subset stays memory-mapped."""

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
    """Return those rows of (M, H, W, C): a copy if they are few, else a `Part`, which batches can read too."""
    if len(rows) * int(np.prod(images.shape[1:])) <= COPIED:
        return images[rows]
    return cast(Pixels, Part(images, rows))


def without_duplicates(images: Images) -> Images:
    """Return the dataset without the training images that are in its test split too, whatever their class (no leaks).

    If there are any, the pool changes, and so do its fingerprint, its mean and its deviation. Raises UserError if none
    is left.
    """
    test = {content_hash(image) for image in images.test}
    kept = np.array([content_hash(image) not in test for image in images.train], bool)
    if kept.all():
        return images
    if not kept.any():
        raise UserError("every training image is in the test split too", remedy="give another split")
    mark = hashlib.blake2b(f"{images.fingerprint} without {np.flatnonzero(~kept).tolist()}".encode(), digest_size=8)
    train = part(images.train, np.flatnonzero(kept))
    mean, std = moments(train)
    return replace(
        images,
        train=train,
        train_labels=images.train_labels[kept],
        mean=mean,
        std=std,
        fingerprint=mark.hexdigest(),
        presence=None if images.presence is None else images.presence[kept],
    )


# --- the user's own images -------------------------------------------------------------------------------------------


def _own(dataset: str, given: tuple[int | None, int | None], root: str | None, place: dict[str, Any] | None) -> Images:
    """Return the images that `own_images.index` found, from the store of their fingerprint."""
    if place is None:
        raise UserError(f"the folder of {dataset} is not known", remedy="give its folder with --data")
    mark = dataset.partition(":")[2]
    if place["fingerprint"] != mark:
        raise UserError(
            f"{place['path']} holds images {place['fingerprint']}, but the run needs {mark}", remedy="index it again"
        )
    side = catalogue.image_side(int(place["image_size"]), place.get("image_width"), *given)
    channels = int(place["channels"])
    key = key_of(mark, side_words(side), channels, *place["classes"])  # a table has its own order of classes
    describe = own.content if "values" in place else _content  # the values of masks
    return open_or_build(stores(root), key, lambda: describe(place, side, channels))


def _content(place: dict[str, Any], side: tuple[int, int], channels: int) -> Content:
    import pyarrow.parquet as pq

    table = pq.read_table(
        place["index"], columns=["split", "path", "column", "group", "row", "label", "hash", "file", "name"]
    )
    split = table.column("split").to_numpy()
    rows = [np.flatnonzero(split == name) for name in SPLITS]
    column = table.take(np.concatenate(rows)).to_pydict()  # lists: pandas takes a second for a hundred thousand strings
    where = zip(column["path"], column["column"], column["group"], column["row"], strict=True)
    references = [Reference(*each) for each in where]
    ordered = np.asarray(column["label"], np.int64)
    labels = dict(zip(SPLITS, np.split(ordered, np.cumsum([len(each) for each in rows])[:-1]), strict=True))

    def write(path: Path) -> Written:
        target = Target(
            path=str(path),
            side=side,
            channels=channels,
            resize=side,
            summed=len(rows[0]),
            hashes=column["hash"],
            files=column["file"],
        )
        decoded = decode_all(references, target)
        check_decoded(place["path"], column["name"], decoded.problems)
        return Written(place["fingerprint"], decoded.rows, decoded.sums)

    return Content(labels=labels, shape=(*side, channels), classes=place["classes"], write=write)

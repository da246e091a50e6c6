"""Describe images with their masks, and write them into a pixel store: each row is an image and its mask. No torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bias_lab.data.identity import content_hash, fingerprint
from bias_lab.data.masks.mask_file import numbered, read, resize, value_hash
from bias_lab.data.masks.presence import presence_of
from bias_lab.data.moments import sums
from bias_lab.data.readers import image_file
from bias_lab.data.readers.decoding import Reference, check_decoded, fetch
from bias_lab.data.readers.image_file import Unreadable
from bias_lab.data.readers.pixel_store import SPLITS, Content, Written

TOGETHER = 64  # pairs that are written at once


class Pair(NamedTuple):
    """Hold one image in mode `L` or `RGB`, and its mask (H, W): a class a pixel, 255 for void."""

    image: Image.Image
    mask: NDArray[np.uint8]

    @property
    def hashes(self) -> tuple[str, str]:
        """The content hash of the mask, which takes the place of a class, and that of the image."""
        return value_hash(self.mask), content_hash(image_file.pixels(self.image))


class Pairs(Protocol):
    """Give the pairs of a split one by one."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Pair: ...


@dataclass(frozen=True, slots=True)
class Files:
    """Pairs of files. values: the value that a mask file has for each class, ascending. Other values are void.

    classes: the number of each of these values, ascending by default. hashes: of the values of each mask and of each
    image, which they must have (empty: any).
    """

    images: Sequence[str]
    masks: Sequence[str]
    values: tuple[int, ...]
    classes: tuple[int, ...] = ()
    hashes: Sequence[tuple[str, str]] = ()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int, /) -> Pair:
        """Return one pair. Raises Unreadable with the reason."""
        image = image_file.read(fetch(Reference(self.images[index])))
        values = read(fetch(Reference(self.masks[index])))
        if self.hashes and self.hashes[index] != (value_hash(values), content_hash(image_file.pixels(image))):
            raise Unreadable("changed since it was indexed")
        mask = numbered(values, np.array(self.values))
        if image.size != mask.shape[::-1]:
            raise Unreadable(f"{image.width}x{image.height} px, and its mask {mask.shape[1]}x{mask.shape[0]}")
        if self.classes:
            table = np.full(256, 255, np.uint8)
            table[: len(self.classes)] = self.classes
            mask = table[mask]
        return Pair(image, mask)


@dataclass(frozen=True, slots=True)
class Arrays:
    """Pairs in memory. images: (M, H, W, C). masks: (M, H, W)."""

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int, /) -> Pair:
        image = self.images[index]
        return Pair(Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image), self.masks[index])


@dataclass(frozen=True, slots=True, kw_only=True)
class Masked:
    """Hold a dataset with masks as its files give it: the pairs of each split, and the classes in order.

    test_groups, test_parts: as in `pixel_store.Images`, as lists.
    """

    splits: Mapping[str, Pairs]
    classes: Sequence[str]
    test_groups: Sequence[int] | None = None
    test_parts: Mapping[str, Sequence[bool]] = field(default_factory=dict)


def content(name: str, raw: Masked, side: tuple[int, int], channels: int, *, mark: str = "") -> Content:
    """Describe the store of a dataset with masks at one size (H, W). name: of the dataset, for messages.

    mark: the fingerprint, if an index has computed it.

    The fingerprint is over (split, hash of the mask, hash of the image), both before they are resized. An image is
    resized as in classification, and its mask in the same way by the nearest pixel.
    """

    def write(path: Path) -> Written:
        triples: list[tuple[str, str, str]] = []
        rows: list[str] = []
        present = []
        total = np.zeros((2, channels))
        with path.open("r+b") as file:
            for split in (split for split in SPLITS if split in raw.splits):
                for start in range(0, len(raw.splits[split]), TOGETHER):
                    wanted = range(start, min(start + TOGETHER, len(raw.splits[split])))
                    pairs = _read(name, raw.splits[split], wanted)
                    triples += [(split, *pair.hashes) for pair in pairs]
                    present += [presence_of(pair.mask[None], len(raw.classes)) for pair in pairs]
                    pixels = np.stack([_row(pair, side, channels) for pair in pairs])
                    file.write(pixels.data)
                    rows += [content_hash(row) for row in pixels]
                    if split == "train":
                        total += sums(np.ascontiguousarray(pixels[..., :-1]))
        return Written(mark or fingerprint(triples), rows, total, np.concatenate(present))

    about = {"test_groups": raw.test_groups, "test_parts": {k: list(map(bool, v)) for k, v in raw.test_parts.items()}}
    return Content(
        labels={split: np.zeros(len(pairs), np.int64) for split, pairs in raw.splits.items()},
        shape=(*side, channels + 1),
        classes=raw.classes,
        write=write,
        has_masks=True,
        about=about,
    )


def _read(name: str, pairs: Pairs, wanted: Sequence[int]) -> list[Pair]:
    """Return some pairs. Raises UserError that names those that cannot be read."""
    found, problems = [], {}
    for index in wanted:
        try:
            found.append(pairs[index])
        except Unreadable as error:
            where = pairs.images[index] if isinstance(pairs, Files) else str(index)
            problems[where] = str(error)
    check_decoded(name, list(problems), list(problems.values()))
    return found


def _row(pair: Pair, side: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    """Return (H, W, C + 1): the resized image, and its mask as the last channel."""
    image = image_file.resize(pair.image, side, channels)
    return np.concatenate([image, resize(pair.mask, side)[..., None]], axis=2)

"""Read datasets in the formats they are published in: pixels or files, labels and classes. Nothing is resized here.

torchvision's classes read their own datasets and compare checksums. They are imported when a dataset is first opened.
"""

import gzip
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from bias_lab.catalogue import Dataset
from bias_lab.data import subsets
from bias_lab.data.readers import procedural
from bias_lab.errors import UserError

ImagesOrFiles = NDArray[np.uint8] | Sequence[Path]  # (M, H, W, C), or files that are not decoded yet
Splits = Mapping[str, tuple[ImagesOrFiles, NDArray[np.int64]]]


@dataclass(frozen=True, slots=True)
class Published:
    """Hold a dataset as its files give it: the images and labels of each split, and the classes in order."""

    splits: Splits
    classes: Sequence[str]


class Reader(Protocol):
    """Read a dataset. row: its row of the catalogue. folder: its files. side: (H, W), for images that are drawn."""

    def __call__(self, row: Dataset, folder: Path, side: tuple[int, int], /) -> Published: ...


def _labels(values: Any) -> NDArray[np.int64]:
    return np.asarray(values, np.int64)


def unpacked(folder: Path, name: str) -> bytes:
    """Return a file's bytes, from the file or from `name.gz`. Raises UserError if neither exists."""
    file, packed = folder / name, folder / f"{name}.gz"
    if not file.is_file() and not packed.is_file():
        raise UserError(f"{folder} has no {packed.name}", remedy="unpack the whole dataset there")
    return file.read_bytes() if file.is_file() else gzip.decompress(packed.read_bytes())


def read_shapes(row: Dataset, _folder: Path, side: tuple[int, int]) -> Published:
    """Draw the procedural dataset, as large as the longer side. There are no files."""
    return Published(*procedural.dataset(row.name, max(side)))


def read_idx(row: Dataset, folder: Path, _side: tuple[int, int]) -> Published:
    """Read MNIST's format: four idx files, packed or not."""

    def part(prefix: str, kind: str, header: int) -> NDArray[np.uint8]:
        return np.frombuffer(unpacked(folder, f"{prefix}-{kind}-ubyte"), np.uint8, offset=header)

    splits = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        pixels = part(prefix, "images-idx3", 16).reshape(-1, 28, 28, 1)
        splits[split] = (pixels, _labels(part(prefix, "labels-idx1", 8)))
    return Published(splits, row.class_names)


def read_cifar(row: Dataset, folder: Path, _side: tuple[int, int]) -> Published:
    """Read CIFAR-10 or CIFAR-100."""
    import torchvision.datasets

    kind = getattr(torchvision.datasets, row.download)
    train, test = (kind(str(folder.parent), train=is_train) for is_train in (True, False))
    return Published({k: (d.data, _labels(d.targets)) for k, d in (("train", train), ("test", test))}, train.classes)


def read_cifar_sample(row: Dataset, folder: Path, side: tuple[int, int]) -> Published:
    """Read 10,000 + 2,000 images of CIFAR-10: the first of each class, in turn.

    They come from two parquet files with the images' bytes (columns `img`, `label`), or from the published batches. The
    parquet files that are in circulation hold JPEGs, whose pixels are not quite those of the batches.
    """
    if not (folder / "train.parquet").is_file():
        whole = read_cifar(row, folder, side)
        per_class = {"train": row.pool // row.classes, "test": row.test_images // row.classes}
        return Published({k: _first_of_each(*whole.splits[k], n) for k, n in per_class.items()}, whole.classes)
    splits = {}
    for split in ("train", "test"):
        table = pq.read_table(folder / f"{split}.parquet", columns=["img", "label"])
        images = [Image.open(io.BytesIO(value["bytes"])).convert("RGB") for value in table["img"].to_pylist()]
        splits[split] = (np.stack([np.asarray(image) for image in images]), _labels(table["label"].to_numpy()))
    return Published(splits, row.class_names)


def _first_of_each(
    images: ImagesOrFiles, labels: NDArray[np.int64], count: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the first images of each class: the first of class 0, 1, 2 …, then the second of each."""
    places = np.stack([np.flatnonzero(labels == c)[:count] for c in range(labels.max() + 1)], axis=1).ravel()
    return np.asarray(images)[places], labels[places]


def read_svhn(row: Dataset, folder: Path, _side: tuple[int, int]) -> Published:
    """Read SVHN."""
    from torchvision.datasets import SVHN

    return _planes({split: SVHN(str(folder), split=split) for split in ("train", "test")}, row.class_names)


def read_stl10(row: Dataset, folder: Path, _side: tuple[int, int]) -> Published:
    """Read STL-10, with its images without labels."""
    from torchvision.datasets import STL10

    names = {"train": "train", "test": "test", "unlabelled": "unlabeled"}
    opened = {split: STL10(str(folder.parent), split=theirs) for split, theirs in names.items()}
    return _planes(opened, row.class_names)


def _planes(opened: Mapping[str, Any], classes: Sequence[str]) -> Published:
    """Turn torchvision's arrays (M, C, H, W) into (M, H, W, C)."""
    return Published({k: (d.data.transpose(0, 2, 3, 1), _labels(d.labels)) for k, d in opened.items()}, classes)


def read_eurosat(_row: Dataset, folder: Path, _side: tuple[int, int]) -> Published:
    """Read EuroSAT. No split was published, so 20 % of each class, by hash order, are the test split."""
    names = sorted(p.name for p in (folder / "2750").iterdir() if p.is_dir())
    paths = [path for name in names for path in sorted((folder / "2750" / name).glob("*.jpg"))]
    labels = _labels([names.index(path.parent.name) for path in paths])
    test = np.zeros(len(paths), bool)
    for group in subsets.by_class("eurosat", labels, 0):
        test[group[: round(0.2 * len(group))]] = True
    parts = {"train": np.flatnonzero(~test), "test": np.flatnonzero(test)}
    return Published({split: ([paths[i] for i in rows], labels[rows]) for split, rows in parts.items()}, names)


def read_flowers(row: Dataset, folder: Path, _side: tuple[int, int]) -> Published:
    """Read Flowers102. The small training and validation splits together are the pool, 20 images a class."""
    from torchvision.datasets import Flowers102

    train, val, test = (Flowers102(str(folder.parent), split=split) for split in ("train", "val", "test"))
    pool = (train._image_files + val._image_files, _labels(train._labels + val._labels))
    classes = getattr(Flowers102, "classes", [f"flower {k}" for k in range(1, row.classes + 1)])
    return Published({"train": pool, "test": (test._image_files, _labels(test._labels))}, classes)


def read_pets(_row: Dataset, folder: Path, _side: tuple[int, int]) -> Published:
    """Read Oxford-IIIT Pet."""
    from torchvision.datasets import OxfordIIITPet

    names = {"train": "trainval", "test": "test"}
    opened = {split: OxfordIIITPet(str(folder.parent), split=theirs) for split, theirs in names.items()}
    return Published({k: (d._images, _labels(d._labels)) for k, d in opened.items()}, opened["train"].classes)


def read_imagenette(row: Dataset, folder: Path, _side: tuple[int, int]) -> Published:
    """Read Imagenette of 160 px. Its validation split is the test split."""
    from torchvision.datasets import Imagenette

    names = {"train": "train", "test": "val"}
    opened = {
        split: Imagenette(str(folder.parent), split=theirs, size=f"{row.image_size}px")
        for split, theirs in names.items()
    }
    splits = {
        k: ([Path(path) for path, _ in d._samples], _labels([c for _, c in d._samples])) for k, d in opened.items()
    }
    return Published(splits, [names[0] for names in opened["train"].classes])


def read_tiny_imagenet(_row: Dataset, folder: Path, _side: tuple[int, int]) -> Published:
    """Read Tiny ImageNet. Its validation split, in val/images with val_annotations.txt, is the test split."""
    wnids = sorted(p.name for p in (folder / "train").iterdir() if p.is_dir())
    train = [path for wnid in wnids for path in sorted((folder / "train" / wnid).rglob("*.JPEG"))]
    number = {wnid: k for k, wnid in enumerate(wnids)}
    labels = _labels([number[path.relative_to(folder / "train").parts[0]] for path in train])
    lines = [line.split("\t") for line in (folder / "val" / "val_annotations.txt").read_text().splitlines()]
    test = [folder / "val" / "images" / line[0] for line in lines]
    return Published({"train": (train, labels), "test": (test, _labels([number[line[1]] for line in lines]))}, wnids)

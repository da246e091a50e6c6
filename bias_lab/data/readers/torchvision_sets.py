"""Datasets in the formats they are published in → pixels or files, labels, classes; nothing is resized here.

torchvision's own classes read theirs, with its checksums; they are imported inside, when a dataset is first opened.
"""

import gzip
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bias_lab.data import subsets
from bias_lab.errors import UserError

DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package dataset-fashion-mnist puts it

Pictures = NDArray[np.uint8] | Sequence[Path]  # (M, H, W, C), or files yet to be decoded


@dataclass(frozen=True, slots=True)
class Raw:
    """A dataset as its own reader gives it: split → images and labels, and the classes in order."""

    splits: Mapping[str, tuple[Pictures, NDArray[np.int64]]]
    classes: Sequence[str]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a dataset lies below the data root, who reads it, and what to fetch if it is not there."""

    places: tuple[str, ...]  # folders, the first that exists is taken; absolute ones are a system's
    read: Callable[[Path, Path], Raw]  # gets the data root and the folder
    fetch: str  # what to fetch, for whom no network is reachable
    torchvision: str = ""  # the class that can download it
    sha256: Mapping[str, str] = field(default_factory=dict)  # of its files, unpacked: packers put names and times in
    verified: bool = False  # torchvision's reader compares checksums of all its files, each time


def _labels(values: Any) -> NDArray[np.int64]:
    return np.asarray(values, np.int64)


def unpacked(folder: Path, name: str) -> bytes:
    """A file's bytes, whether it lies there packed or not."""
    plain, packed = folder / name, folder / f"{name}.gz"
    if not plain.is_file() and not packed.is_file():
        raise UserError(f"{folder} has no {packed.name}", remedy="unpack the whole dataset there")
    return plain.read_bytes() if plain.is_file() else gzip.decompress(packed.read_bytes())


def _idx(classes: Sequence[str]) -> Callable[[Path, Path], Raw]:
    """MNIST's format: four idx files, packed or not."""

    def read(_: Path, folder: Path) -> Raw:
        def part(prefix: str, kind: str, header: int) -> NDArray[np.uint8]:
            return np.frombuffer(unpacked(folder, f"{prefix}-{kind}-ubyte"), np.uint8, offset=header)

        splits = {}
        for split, prefix in (("train", "train"), ("test", "t10k")):
            pixels = part(prefix, "images-idx3", 16).reshape(-1, 28, 28, 1)
            splits[split] = (pixels, _labels(part(prefix, "labels-idx1", 8)))
        return Raw(splits, classes)

    return read


def _cifar(kind: str) -> Callable[[Path, Path], Raw]:
    def read(root: Path, _: Path) -> Raw:
        import torchvision.datasets

        both = {
            split: getattr(torchvision.datasets, kind)(str(root), train=split == "train") for split in ("train", "test")
        }
        return Raw({split: (d.data, _labels(d.targets)) for split, d in both.items()}, both["train"].classes)

    return read


def _planes(kind: str, splits: Mapping[str, str], classes: Sequence[str]) -> Callable[[Path, Path], Raw]:
    """SVHN and STL-10: (M, C, H, W) in memory."""

    def read(root: Path, folder: Path) -> Raw:
        import torchvision.datasets

        base = folder if kind == "SVHN" else root
        found = {ours: getattr(torchvision.datasets, kind)(str(base), split=theirs) for ours, theirs in splits.items()}
        made = {ours: (d.data.transpose(0, 2, 3, 1), _labels(d.labels)) for ours, d in found.items()}
        return Raw(made, classes)

    return read


def _eurosat(_: Path, folder: Path) -> Raw:
    """No split was published: 20 % of each class, by hash order, are the test split."""
    names = sorted(p.name for p in (folder / "2750").iterdir() if p.is_dir())
    paths = [path for name in names for path in sorted((folder / "2750" / name).glob("*.jpg"))]
    labels = _labels([names.index(path.parent.name) for path in paths])
    test = np.zeros(len(paths), bool)
    for group in subsets.by_class("eurosat", labels, 0):
        test[group[: round(0.2 * len(group))]] = True
    parts = {"train": np.flatnonzero(~test), "test": np.flatnonzero(test)}
    return Raw({split: ([paths[i] for i in rows], labels[rows]) for split, rows in parts.items()}, names)


def _flowers(root: Path, _: Path) -> Raw:
    """The small training and validation splits together are the pool, 20 images a class."""
    from torchvision.datasets import Flowers102

    found = {split: Flowers102(str(root), split=split) for split in ("train", "val", "test")}
    pool = found["train"]._image_files + found["val"]._image_files
    labels = _labels(found["train"]._labels + found["val"]._labels)
    test = (found["test"]._image_files, _labels(found["test"]._labels))
    classes = getattr(Flowers102, "classes", [f"flower {k}" for k in range(1, 103)])
    return Raw({"train": (pool, labels), "test": test}, classes)


def _pets(root: Path, _: Path) -> Raw:
    from torchvision.datasets import OxfordIIITPet

    found = {"train": OxfordIIITPet(str(root), split="trainval"), "test": OxfordIIITPet(str(root), split="test")}
    return Raw({split: (d._images, _labels(d._labels)) for split, d in found.items()}, found["train"].classes)


def _imagenette(root: Path, _: Path) -> Raw:
    from torchvision.datasets import Imagenette

    found = {
        ours: Imagenette(str(root), split=theirs, size="160px")
        for ours, theirs in (("train", "train"), ("test", "val"))
    }
    made = {s: ([Path(p) for p, _ in d._samples], _labels([c for _, c in d._samples])) for s, d in found.items()}
    return Raw(made, [names[0] for names in found["train"].classes])


def _tiny_imagenet(_: Path, folder: Path) -> Raw:
    """As published: train/WNID/images/*.JPEG, and val/images with val_annotations.txt, which is the test split."""
    wnids = sorted(p.name for p in (folder / "train").iterdir() if p.is_dir())
    train = [path for wnid in wnids for path in sorted((folder / "train" / wnid).rglob("*.JPEG"))]
    of = {wnid: k for k, wnid in enumerate(wnids)}
    labels = _labels([of[path.relative_to(folder / "train").parts[0]] for path in train])
    lines = [line.split("\t") for line in (folder / "val" / "val_annotations.txt").read_text().splitlines()]
    test = [folder / "val" / "images" / line[0] for line in lines]
    return Raw({"train": (train, labels), "test": (test, _labels([of[line[1]] for line in lines]))}, wnids)


FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
DIGITS = tuple("0123456789")
STL = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
MNIST_SHA256 = (
    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
)
FASHION_SHA256 = (
    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
)
_STL_SPLITS = {"train": "train", "test": "test", "unlabelled": "unlabeled"}

SOURCES = {
    "mnist": Source(
        ("MNIST/raw", "mnist"),
        _idx(DIGITS),
        "the four idx files of MNIST",
        "MNIST",
        sha256=dict(zip(FILES, MNIST_SHA256, strict=True)),
    ),
    "fashion_mnist": Source(
        ("FashionMNIST/raw", "fashion-mnist", str(DEBIAN)),
        _idx(FASHION),
        "the four idx files of github.com/zalandoresearch/fashion-mnist",
        "FashionMNIST",
        sha256=dict(zip(FILES, FASHION_SHA256, strict=True)),
    ),
    "cifar10": Source(
        ("cifar-10-batches-py",),
        _cifar("CIFAR10"),
        "cifar-10-python.tar.gz of www.cs.toronto.edu/~kriz/cifar.html",
        "CIFAR10",
        verified=True,
    ),
    "cifar100": Source(
        ("cifar-100-python",),
        _cifar("CIFAR100"),
        "cifar-100-python.tar.gz of www.cs.toronto.edu/~kriz/cifar.html",
        "CIFAR100",
        verified=True,
    ),
    "svhn": Source(
        ("svhn",),
        _planes("SVHN", {"train": "train", "test": "test"}, DIGITS),
        "train_32x32.mat and test_32x32.mat of ufldl.stanford.edu/housenumbers",
        verified=True,
    ),
    "stl10": Source(
        ("stl10_binary",),
        _planes("STL10", _STL_SPLITS, STL),
        "stl10_binary.tar.gz of cs.stanford.edu/~acoates/stl10",
        "STL10",
        verified=True,
    ),
    "eurosat": Source(("eurosat",), _eurosat, "EuroSAT.zip (RGB) of github.com/phelber/EuroSAT", "EuroSAT"),
    "flowers102": Source(
        ("flowers-102",),
        _flowers,
        "102flowers.tgz, imagelabels.mat and setid.mat of www.robots.ox.ac.uk/~vgg/data/flowers/102",
        "Flowers102",
    ),
    "oxford_pet": Source(
        ("oxford-iiit-pet",),
        _pets,
        "images.tar.gz and annotations.tar.gz of www.robots.ox.ac.uk/~vgg/data/pets",
        "OxfordIIITPet",
    ),
    "tiny_imagenet": Source(("tiny-imagenet-200",), _tiny_imagenet, "tiny-imagenet-200.zip of cs231n.stanford.edu"),
    "imagenette": Source(("imagenette2-160",), _imagenette, "imagenette2-160.tgz of github.com/fastai/imagenette"),
}

"""Images decoded once, and opened by every run: whole splits of uint8, on disk or in memory."""

import hashlib
import json
import lzma
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bias_lab.errors import UserError

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


def open_images(
    dataset: str, *, image_size: int | None = None, data_root: str | None = None, place: dict[str, Any] | None = None
) -> Images:
    """A dataset's images, decoded at `image_size` (None: its own). place: where a user's own data lie."""
    if dataset == "fashion_mnist_12k":
        if image_size not in (None, 28):
            raise UserError(f"fashion_mnist_12k at {image_size} px", "28")
        return embedded(dataset)
    raise UserError(f"dataset '{dataset}' can't be opened yet")


def moments(images: Pixels) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over (M, H, W, C), in [0, 1], from exact integer sums."""
    first, second = np.zeros(images.shape[-1]), np.zeros(images.shape[-1])
    count = 0
    for start in range(0, len(images), 1024):  # a chunk at a time, so that a store's pages can come and go
        chunk = images[start : start + 1024].reshape(-1, images.shape[-1]).astype(np.uint32)
        first += chunk.sum(0, dtype=np.uint64)
        second += (chunk * chunk).sum(0, dtype=np.uint64)
        count += len(chunk)
    mean = first / count
    std = np.sqrt(second / count - mean**2)
    return tuple((mean / 255).round(6).tolist()), tuple((std / 255).round(6).tolist())


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
        pixels[:train],
        labels[:train],
        pixels[train:],
        labels[train:],
        tuple(about["classes"]),
        mean,
        std,
        about["fingerprint"],
    )

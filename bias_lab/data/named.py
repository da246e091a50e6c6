"""Datasets by name: the embedded one, and torchvision's, read where they lie."""

import hashlib
import json
import lzma
from functools import cache
from importlib.resources import files

import numpy as np

from bias_lab import catalogue
from bias_lab.data.store import Images, moments
from bias_lab.errors import UserError


def open_named(name: str, *, image_size: int | None = None, data_root: str | None = None) -> Images:
    """A catalogue dataset's images at `image_size` (None: as published)."""
    row = catalogue.dataset(name)
    if image_size not in (None, row.image_size):
        raise UserError(f"{name} at {image_size} px", f"{row.image_size}")
    return embedded(name)


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

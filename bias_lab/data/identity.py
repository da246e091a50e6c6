"""Identify an image and a dataset by hashes.

An image is identified by its decoded pixels and their shape, so that the same picture is recognised in another file,
folder or format. A dataset is identified by its images with their classes and splits. If an image is moved, changed or
added, it is another dataset.
"""

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def content_hash(pixels: NDArray[np.uint8]) -> str:
    """Return the BLAKE2b-128 of one image's decoded pixels (H, W, C) and their shape, as 32 hex digits."""
    if pixels.ndim != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"an image is (H, W, C) of uint8, not {pixels.shape} of {pixels.dtype}")
    H, W, C = pixels.shape
    hasher = hashlib.blake2b(f"{H}x{W}x{C}:".encode(), digest_size=16)
    hasher.update(np.ascontiguousarray(pixels).data)
    return hasher.hexdigest()


def file_hash(data: bytes) -> str:
    """Return the BLAKE2b-64 of a file's bytes, as 16 hex digits. There are several times fewer bytes than pixels."""
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def fingerprint(images: Iterable[tuple[str, str, str]]) -> str:
    """Return the BLAKE2b-64 over the sorted (split, class, content hash) triples of a dataset, as 16 hex digits.

    Paths have no influence. A renamed file or another folder gives the same dataset.
    """
    hasher = hashlib.blake2b(digest_size=8)
    for triple in sorted(images):
        hasher.update("\0".join(triple).encode() + b"\n")
    return hasher.hexdigest()

"""Augment images and their masks together: what moves pixels moves both, what changes colours changes the image alone.

Masks are moved by the nearest pixel, and pixels that come from outside the image are void. The draws are those of
`bias_lab.data.augment`, keyed by (seed, purpose, step, place in the batch), so that an image is augmented in the same
way with and without its mask. The results equal torchvision's joint transforms (`tests/data/masks/test_joint.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from bias_lab.data import augment
from bias_lab.data.augment import At
from bias_lab.data.masks.mask_file import VOID
from bias_lab.definition import Run

Joint = Callable[[Tensor, Tensor, At, Any], tuple[Tensor, Tensor]]


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """Images (N, H, W, C) with a last channel that is VOID - mask, so that the black around a crop is void.

    It is made on access, so that a large subset stays memory-mapped.
    """

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.images.shape[:3], self.images.shape[3] + 1)

    def __getitem__(self, which: slice | NDArray[np.int64]) -> NDArray[np.uint8]:
        return np.concatenate([self.images[which], VOID - self.masks[which][..., None]], axis=3)


def join(images: NDArray[np.uint8], masks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return what `batches.make_crops` can cut: images (N, H, W, C) and masks (N, H, W) as (N, H, W, C + 1)."""
    if images.shape[:3] != masks.shape:
        raise ValueError(f"masks of {images.shape[:3]} are needed, not {masks.shape}")
    return cast(NDArray[np.uint8], Joined(images, np.asarray(masks, np.uint8)))


def augmented(x: Tensor, at: At, run: Run) -> tuple[Tensor, Tensor]:
    """Return images (B, H, W, C) in uint8 and masks (B, H, W) in int64, augmented as the run asks.

    x: crops of joined images (B, H, W, C + 1). Raises ValueError for an augmentation that has no rule for masks.
    """
    images, masks = x[..., :-1].contiguous(), VOID - x[..., -1]
    for field, change in augment.LEVELS.items():
        strength = getattr(run, field)
        if not strength:
            continue
        if field in MOVING:
            images, masks = MOVING[field](images, masks, at, strength)
        elif field in COLOURS:
            images = change(images, at, strength)
        else:
            raise ValueError(f"{field} has no rule for masks")
    return images, masks.long()


def resized_crop(images: Tensor, masks: Tensor, at: At, strength: float) -> tuple[Tensor, Tensor]:
    """Cut a random box of each image and of its mask, and resize both to the image's size."""
    H, W = masks.shape[1:]
    drawn = zip(*(part.tolist() for part in augment.boxes(at, H, W, strength)), strict=True)
    maps = masks[:, None]  # (B, 1, H, W)
    crops = [
        F.interpolate(maps[b : b + 1, :, top : top + h, left : left + w], size=(H, W), mode="nearest")
        for b, (top, left, h, w) in enumerate(drawn)
    ]
    return augment.resized_crop(images, at, strength), torch.cat(crops)[:, 0]


MOVING: dict[str, Joint] = {"resized_crop": resized_crop}  # field of `Run` → what changes images and masks alike
COLOURS = ("colour_jitter",)  # fields that leave every pixel where it is

"""Augment a batch as its run defines it, with separate draws for every image. `operations` changes the pixels.

A draw is a pure function of (seed, purpose, step, place in the batch). The distributions are those of torchvision's
RandomResizedCrop, TrivialAugmentWide, RandAugment, ColorJitter, RandomErasing, MixUp and CutMix. torchvision draws the
last two once a batch. Here each image has its own share and its own partner.

`LEVELS` and `NORMALISED` map a field of `Run` to the function that applies it. A new augmentation is that field in
`definition`, and here its function and its row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import betaincinv
from torch import Tensor
from torch.nn import functional as F

from bias_lab.data import draws
from bias_lab.data import operations as op
from bias_lab.data.operations import operate, to_device
from bias_lab.definition import Run

BINS = 31  # magnitudes of TrivialAugment and RandAugment
_FACTORS = (op.BRIGHTNESS, op.COLOUR, op.CONTRAST, op.SHARPNESS)
_SIGNED = (op.SHEAR_X, op.SHEAR_Y, op.TRANSLATE_X, op.TRANSLATE_Y, op.ROTATE, *_FACTORS)
_IS_SIGNED = np.isin(range(op.COUNT), _SIGNED)  # by operation

Whole = NDArray[np.int64]  # (B,) whole numbers


@dataclass(frozen=True, slots=True)
class At:
    """Key the draws of a batch: the run's seed, the step, and the places within the batch (B,)."""

    seed: int
    step: int
    slots: Whole

    def uniform(self, purpose: str, *further: int) -> NDArray[np.float64]:
        return draws.uniform(self.seed, purpose, self.step, self.slots, *further)

    def integers(self, high: int, purpose: str, *further: int) -> Whole:
        return draws.integers(high, self.seed, purpose, self.step, self.slots, *further)

    def tries(self, purpose: str, count: int) -> NDArray[np.float64]:
        """Return (B, count) uniform draws, for rejection sampling."""
        return draws.uniform(self.seed, purpose, self.step, self.slots[:, None], np.arange(count))


class Augmentation(Protocol):
    """Change a batch by a strength, which is the value of the run's field."""

    def __call__(self, x: Tensor, at: At, strength: Any, /) -> Tensor: ...


# --- geometry --------------------------------------------------------------------------------------------------------


def places(at: At, shifts: int, *, flip: bool) -> tuple[Whole, Whole, NDArray[np.bool_]]:
    """Return the top and the left of a padded crop, each below `shifts`, and whether it is mirrored, each (B,).

    The three are taken from the bits of one hash.
    """
    bits = draws.bits(at.seed, "place", at.step, at.slots)
    top = (bits >> np.uint64(33)) % np.uint64(shifts)
    left = (bits >> np.uint64(2) & np.uint64(2**31 - 1)) % np.uint64(shifts)
    mirrored = (bits & np.uint64(1)).astype(bool) if flip else np.zeros(len(bits), bool)
    return top.astype(np.int64), left.astype(np.int64), mirrored


def _sizes(
    at: At, purpose: str, pixels: int, area: tuple[float, float], ratio: tuple[float, float]
) -> tuple[Whole, Whole]:
    """Draw the two sides of ten boxes for each image, (B, 10) each.

    area: the smallest share of an image's pixels and the length of its range, uniform. ratio: the smallest ratio of the
    first side to the second and the factor to the largest, log-uniform.
    """
    size = pixels * (area[0] + area[1] * at.tries(f"{purpose} area", 10))
    shape = np.exp(np.log(ratio[0]) + np.log(ratio[1]) * at.tries(f"{purpose} ratio", 10))
    return np.rint(np.sqrt(size * shape)).astype(np.int64), np.rint(np.sqrt(size / shape)).astype(np.int64)


def boxes(at: At, H: int, W: int, smallest: float) -> tuple[Whole, Whole, Whole, Whole]:
    """Draw the boxes of RandomResizedCrop: top, left, height and width, each (B,), in pixels of an (H, W) image.

    The area is from `smallest` to 1 of the image's, the log aspect ratio from 3/4 to 4/3. If ten draws do not fit, the
    largest central box within these ratios is taken.
    """
    width, height = _sizes(at, "crop", H * W, (smallest, 1 - smallest), (3 / 4, 16 / 9))
    fits = (width > 0) & (width <= W) & (height > 0) & (height <= H)
    first, b = fits.argmax(1), np.arange(len(fits))
    h = np.where(fits.any(1), height[b, first], min(H, round(W / (3 / 4))))
    w = np.where(fits.any(1), width[b, first], min(W, round(H * (4 / 3))))
    top = (at.uniform("crop top") * (H - h + 1)).astype(np.int64)
    left = (at.uniform("crop left") * (W - w + 1)).astype(np.int64)
    central = ~fits.any(1)
    return np.where(central, (H - h) // 2, top), np.where(central, (W - w) // 2, left), h, w


def resized_crop(x: Tensor, at: At, strength: float) -> Tensor:
    """Cut a random box of each image and resize it to the image's size: uint8 (B, H, W, C).

    strength: the smallest share of the area. Each image is resized on its own (bilinear, antialiased), as uint8 in
    channels_last memory, for which PyTorch's kernel is vectorised. Boxes differ in size, and a batched `grid_sample` is
    slower and not antialiased.
    """
    _, H, W, _ = x.shape
    maps = x.permute(0, 3, 1, 2)  # (B, C, H, W), channels_last
    drawn = zip(*(part.tolist() for part in boxes(at, H, W, strength)), strict=True)
    crops = [
        _resize(maps[b : b + 1, :, top : top + h, left : left + w], (H, W)) for b, (top, left, h, w) in enumerate(drawn)
    ]
    return torch.cat(crops).permute(0, 2, 3, 1)


def _resize(part: Tensor, side: tuple[int, int]) -> Tensor:
    if part.device.type == "cpu":
        return F.interpolate(part, size=side, mode="bilinear", antialias=True)
    return F.interpolate(part.float(), size=side, mode="bilinear", antialias=True).round().clamp(0, 255).to(torch.uint8)


# --- colour and shape ------------------------------------------------------------------------------------------------


def _spaces(shear: float, across: float, down: float, turn: float, factor: float, bits: int) -> NDArray[np.float64]:
    """Return the magnitudes of each operation over the bins, (14, 31), zero for an operation without a magnitude."""
    ladder = np.arange(BINS) / (BINS - 1)
    rows = {
        op.SHEAR_X: shear * ladder,
        op.SHEAR_Y: shear * ladder,
        op.TRANSLATE_X: across * ladder,
        op.TRANSLATE_Y: down * ladder,
        op.ROTATE: turn * ladder,
        **dict.fromkeys(_FACTORS, factor * ladder),
        op.POSTERIZE: 8 - np.rint(bits * ladder),
        op.SOLARIZE: 255 * (1 - ladder),
    }
    return np.stack([rows.get(kind, 0 * ladder) for kind in range(op.COUNT)])


WIDE = _spaces(0.99, 32.0, 32.0, 135.0, 0.99, 6)


def trivial_augment(x: Tensor, at: At, _on: bool = True) -> Tensor:
    """Apply one operation of a random magnitude: uint8 (B, H, W, C).

    Müller, Hutter 2021, arXiv:2103.10158, the wide space.
    """
    operation = at.integers(op.COUNT, "trivial operation")
    value = WIDE[operation, at.integers(BINS, "trivial magnitude")]
    return operate(x, operation, _sign(operation, value, at.integers(2, "trivial sign")))


def rand_augment(x: Tensor, at: At, strength: int) -> Tensor:
    """Apply two operations of one magnitude, 0 to 30 (Cubuk et al. 2020, arXiv:1909.13719): uint8 (B, H, W, C)."""
    _, H, W, _ = x.shape
    spaces = _spaces(0.3, 150 / 331 * W, 150 / 331 * H, 30.0, 0.9, 4)
    for turn in range(2):
        operation = at.integers(op.COUNT, "rand operation", turn)
        value = spaces[operation, strength]
        x = operate(x, operation, _sign(operation, value, at.integers(2, "rand sign", turn)))
    return x


def _sign(operation: Whole, value: NDArray[np.float64], coin: Whole) -> NDArray[np.float64]:
    return np.where(_IS_SIGNED[operation] & (coin == 1), -value, value)


def colour_jitter(x: Tensor, at: At, strength: float) -> Tensor:
    """Scale brightness, contrast and saturation by factors from 1 - strength to 1 + strength, in random order."""
    kinds = np.array([op.BRIGHTNESS, op.CONTRAST, op.COLOUR])
    turns = np.argsort(np.stack([at.uniform("jitter order", k) for k in range(3)]), axis=0, kind="stable")  # (3, B)
    low = max(0.0, 1 - strength)
    factor = low + (1 + strength - low) * np.stack([at.uniform("jitter factor", k) for k in range(3)])
    for kind in turns:
        x = operate(x, kinds[kind], factor[kind, np.arange(len(kind))] - 1)
    return x


# --- after normalisation ---------------------------------------------------------------------------------------------


def inside(top: Whole, left: Whole, h: Whole, w: Whole, x: Tensor) -> Tensor:
    """Return a mask (B, 1, H, W) that is true within each image's box. x: the batch (B, C, H, W)."""
    rows, columns = np.arange(x.shape[2]), np.arange(x.shape[3])
    down = to_device((rows >= top[:, None]) & (rows < (top + h)[:, None]), x.device)  # (B, H)
    across = to_device((columns >= left[:, None]) & (columns < (left + w)[:, None]), x.device)  # (B, W)
    return down[:, None, :, None] & across[:, None, None, :]


def erase(x: Tensor, at: At, strength: float) -> Tensor:
    """Set one box of an image to the mean colour, with probability `strength`: float (B, C, H, W), in place.

    Zhong et al. 2020, arXiv:1708.04896. The area is 2 to 33 % of the image's, the log aspect ratio from 0.3 to 3.3. If
    ten draws do not fit, the image stays whole.
    """
    H, W = x.shape[2:]
    height, width = _sizes(at, "erase", H * W, (0.02, 0.31), (0.3, 3.3 / 0.3))
    fits = (height < H) & (width < W)
    first, b = fits.argmax(1), np.arange(len(fits))
    erased = fits.any(1) & (at.uniform("erase") < strength)
    h, w = np.where(erased, height[b, first], 0), np.where(erased, width[b, first], 0)
    top = (at.uniform("erase top") * (H - h + 1)).astype(np.int64)
    left = (at.uniform("erase left") * (W - w + 1)).astype(np.int64)
    return x.masked_fill_(inside(top, left, h, w, x), 0.0)


def mix(x: Tensor, labels: Tensor, at: At, *, classes: int, mixup: float, cutmix: float) -> tuple[Tensor, Tensor]:
    """Apply Mixup (arXiv:1710.09412) or CutMix (arXiv:1905.04899): x (B, C, H, W) and targets (B, K).

    labels: class numbers (B,), or targets (B, K) in float32. mixup, cutmix: the alpha of the Beta distribution of an
    image's share, or 0 for off. If both are on, each image gets one of them with equal chances. Each image has its own
    share and its own partner, another image of the batch.
    """
    B, _, H, W = x.shape
    cut = np.full(B, cutmix > 0) if not (mixup and cutmix) else at.uniform("mix kind") < 0.5
    alpha = np.where(cut, cutmix, mixup)
    share = betaincinv(alpha, alpha, at.uniform("mix share"))  # (B,) of the image itself
    other = (at.slots + 1 + at.integers(max(B - 1, 1), "mix partner")) % B
    side = np.sqrt(1 - share)
    middle_y, middle_x = at.integers(H, "cut row"), at.integers(W, "cut column")
    half_h, half_w = (H * side / 2).astype(np.int64), (W * side / 2).astype(np.int64)
    top, bottom = np.clip(middle_y - half_h, 0, H), np.clip(middle_y + half_h, 0, H)
    left, right = np.clip(middle_x - half_w, 0, W), np.clip(middle_x + half_w, 0, W)
    box = inside(top, left, np.where(cut, bottom - top, 0), np.where(cut, right - left, 0), x)
    share = np.where(cut, 1 - (bottom - top) * (right - left) / (H * W), share)
    own = to_device(share.astype(np.float32), x.device)
    partner = to_device(other, x.device)
    blended = to_device(np.where(cut, 1.0, share).astype(np.float32), x.device)[:, None, None, None]
    mixed = torch.lerp(x[partner], x, blended * ~box)
    hot = labels if labels.is_floating_point() else F.one_hot(labels, classes).float()  # (B, K)
    return mixed, hot * own[:, None] + hot[partner] * (1 - own)[:, None]


# --- what a run asks for ---------------------------------------------------------------------------------------------

LEVELS: dict[str, Augmentation] = {  # field of `Run` → what changes uint8 (B, H, W, C), in this order
    "resized_crop": resized_crop,
    "trivial_augment": trivial_augment,
    "randaugment": rand_augment,
    "colour_jitter": colour_jitter,
}
NORMALISED: dict[str, Augmentation] = {"erasing": erase}  # the same for normalised float (B, C, H, W)


def apply(augmentations: Mapping[str, Augmentation], x: Tensor, at: At, run: Run) -> Tensor:
    """Apply the augmentations that the run turns on, in the table's order."""
    for field, augmentation in augmentations.items():
        if strength := getattr(run, field):
            x = augmentation(x, at, strength)
    return x


def mix_targets(x: Tensor, labels: Tensor, at: At, run: Run, *, classes: int) -> tuple[Tensor, Tensor]:
    """Return the batch and its targets: class numbers (B,), or shares (B, K) if the run mixes images."""
    if run.mixup or run.cutmix:
        return mix(x, labels, at, classes=classes, mixup=run.mixup, cutmix=run.cutmix)
    return x, labels

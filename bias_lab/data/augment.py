"""What a recipe does to a batch, every draw for each image on its own: draws here, pixels in `operations`.

A draw is a pure function of (seed, purpose, step, place in the batch). Distributions are torchvision's:
RandomResizedCrop, TrivialAugmentWide, RandAugment, ColorJitter, RandomErasing, MixUp and CutMix, of which it draws the
last two once a batch; here each image has its own share and its own partner.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import betaincinv
from torch import Tensor
from torch.nn import functional as F

from bias_lab.data import draws
from bias_lab.data import operations as op
from bias_lab.data.operations import operate, to_device

BINS = 31  # magnitudes of TrivialAugment and RandAugment
_FACTORS = (op.BRIGHTNESS, op.COLOUR, op.CONTRAST, op.SHARPNESS)
_SIGNED = (op.SHEAR_X, op.SHEAR_Y, op.TRANSLATE_X, op.TRANSLATE_Y, op.ROTATE, *_FACTORS)
_IS_SIGNED = np.isin(range(op.COUNT), _SIGNED)  # by operation


@dataclass(frozen=True, slots=True)
class At:
    """Where a draw stands: the run's seed, the step, and the batch's places (B,)."""

    seed: int
    step: int
    slots: NDArray[np.int64]

    def uniform(self, purpose: str, *further: int) -> NDArray[np.float64]:
        return draws.uniform(self.seed, purpose, self.step, self.slots, *further)

    def integers(self, high: int, purpose: str, *further: int) -> NDArray[np.int64]:
        return draws.integers(high, self.seed, purpose, self.step, self.slots, *further)

    def tries(self, purpose: str, count: int) -> NDArray[np.float64]:
        """(B, count) uniform draws, for what is drawn until it fits."""
        return draws.uniform(self.seed, purpose, self.step, self.slots[:, None], np.arange(count))


# --- geometry: which part of an image is seen ------------------------------------------------------------------------


def places(at: At, shifts: int, *, flip: bool) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Top and left of a padded crop, each below `shifts`, and whether it is mirrored: (B,) each, of one hash's bits."""
    bits = draws.bits(at.seed, "place", at.step, at.slots)
    top, left = (
        (bits >> np.uint64(33)) % np.uint64(shifts),
        (bits >> np.uint64(2) & np.uint64(2**31 - 1)) % np.uint64(shifts),
    )
    mirrored = (bits & np.uint64(1)).astype(bool) if flip else np.zeros(len(bits), bool)
    return top.astype(np.int64), left.astype(np.int64), mirrored


def boxes(at: At, H: int, W: int, smallest: float) -> tuple[NDArray[np.int64], ...]:
    """RandomResizedCrop's boxes: top, left, height, width, each (B,), in pixels of an (H, W) image.

    Area from `smallest` to 1 of the image's, log aspect ratio from 3/4 to 4/3; after ten draws that do not fit, the
    largest central box that does.
    """
    area = H * W * (smallest + (1 - smallest) * at.tries("crop area", 10))
    ratio = np.exp(np.log(3 / 4) + np.log(16 / 9) * at.tries("crop ratio", 10))
    width, height = np.rint(np.sqrt(area * ratio)).astype(np.int64), np.rint(np.sqrt(area / ratio)).astype(np.int64)
    fits = (width > 0) & (width <= W) & (height > 0) & (height <= H)
    first, b = fits.argmax(1), np.arange(len(fits))
    h = np.where(fits.any(1), height[b, first], min(H, round(W / (3 / 4))))
    w = np.where(fits.any(1), width[b, first], min(W, round(H * (4 / 3))))
    top = (at.uniform("crop top") * (H - h + 1)).astype(np.int64)
    left = (at.uniform("crop left") * (W - w + 1)).astype(np.int64)
    central = ~fits.any(1)
    return np.where(central, (H - h) // 2, top), np.where(central, (W - w) // 2, left), h, w


def resized_crops(x: Tensor, box: tuple[NDArray[np.int64], ...], side: tuple[int, int]) -> Tensor:
    """Cut each image's box and resize it: uint8 (B, H, W, C) → (B, *side, C), antialiased bilinear.

    One resize an image, on uint8 in channels_last memory, where PyTorch's kernel is vectorised; boxes differ in size,
    and a batched grid_sample is slower and not antialiased.
    """
    maps = x.permute(0, 3, 1, 2)  # (B, C, H, W), channels_last
    made = []
    for b, (top, left, h, w) in enumerate(zip(*(part.tolist() for part in box), strict=True)):
        made.append(_resize(maps[b : b + 1, :, top : top + h, left : left + w], side))
    return torch.cat(made).permute(0, 2, 3, 1)


def _resize(part: Tensor, side: tuple[int, int]) -> Tensor:
    if part.device.type == "cpu":
        return F.interpolate(part, size=side, mode="bilinear", antialias=True)
    return F.interpolate(part.float(), size=side, mode="bilinear", antialias=True).round().clamp(0, 255).to(torch.uint8)


# --- colour and shape ------------------------------------------------------------------------------------------------


def _spaces(shear: float, across: float, down: float, turn: float, factor: float, bits: int) -> NDArray[np.float64]:
    """Magnitudes of each operation over the bins: (14, 31), zero where an operation takes none."""
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


def trivial_augment(x: Tensor, at: At) -> Tensor:
    """One operation of a random strength (Müller, Hutter 2021, arXiv:2103.10158, wide space): uint8 (B, H, W, C)."""
    operation = at.integers(op.COUNT, "trivial operation")
    value = WIDE[operation, at.integers(BINS, "trivial magnitude")]
    return operate(x, operation, _sign(operation, value, at.integers(2, "trivial sign")))


def rand_augment(x: Tensor, at: At, magnitude: int) -> Tensor:
    """Two operations of one strength, 0 … 30 (Cubuk et al. 2020, arXiv:1909.13719): uint8 (B, H, W, C)."""
    _, H, W, _ = x.shape
    spaces = _spaces(0.3, 150 / 331 * W, 150 / 331 * H, 30.0, 0.9, 4)
    for turn in range(2):
        operation = at.integers(op.COUNT, "rand operation", turn)
        value = spaces[operation, magnitude]
        x = operate(x, operation, _sign(operation, value, at.integers(2, "rand sign", turn)))
    return x


def _sign(operation: NDArray[np.int64], value: NDArray[np.float64], coin: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.where(_IS_SIGNED[operation] & (coin == 1), -value, value)


def colour_jitter(x: Tensor, at: At, strength: float) -> Tensor:
    """Brightness, contrast and saturation by factors from 1 - strength to 1 + strength, in random order."""
    kinds = np.array([op.BRIGHTNESS, op.CONTRAST, op.COLOUR])
    turns = np.argsort(np.stack([at.uniform("jitter order", k) for k in range(3)]), axis=0, kind="stable")  # (3, B)
    low = max(0.0, 1 - strength)
    factor = low + (1 + strength - low) * np.stack([at.uniform("jitter factor", k) for k in range(3)])
    for kind in turns:
        x = operate(x, kinds[kind], factor[kind, np.arange(len(kind))] - 1)
    return x


# --- after normalising -----------------------------------------------------------------------------------------------


def _inside(
    top: NDArray[np.int64], left: NDArray[np.int64], h: NDArray[np.int64], w: NDArray[np.int64], x: Tensor
) -> Tensor:
    """(B, 1, H, W): true within each image's box."""
    rows, columns = np.arange(x.shape[2]), np.arange(x.shape[3])
    down = to_device((rows >= top[:, None]) & (rows < (top + h)[:, None]), x.device)  # (B, H)
    across = to_device((columns >= left[:, None]) & (columns < (left + w)[:, None]), x.device)  # (B, W)
    return down[:, None, :, None] & across[:, None, None, :]


def erase(x: Tensor, at: At, probability: float) -> Tensor:
    """Set one box to the mean colour (Zhong et al. 2020, arXiv:1708.04896): normalised float (B, C, H, W), in place.

    Area 2 to 33 % of the image's, log aspect ratio from 0.3 to 3.3; ten draws that do not fit leave the image whole.
    """
    H, W = x.shape[2:]
    area = H * W * (0.02 + 0.31 * at.tries("erase area", 10))
    ratio = np.exp(np.log(0.3) + np.log(3.3 / 0.3) * at.tries("erase ratio", 10))
    height, width = np.rint(np.sqrt(area * ratio)).astype(np.int64), np.rint(np.sqrt(area / ratio)).astype(np.int64)
    fits = (height < H) & (width < W)
    first, b = fits.argmax(1), np.arange(len(fits))
    taken = fits.any(1) & (at.uniform("erase") < probability)
    h, w = np.where(taken, height[b, first], 0), np.where(taken, width[b, first], 0)
    top = (at.uniform("erase top") * (H - h + 1)).astype(np.int64)
    left = (at.uniform("erase left") * (W - w + 1)).astype(np.int64)
    return x.masked_fill_(_inside(top, left, h, w, x), 0.0)


def mix(x: Tensor, labels: Tensor, at: At, *, classes: int, mixup: float, cutmix: float) -> tuple[Tensor, Tensor]:
    """Mixup (arXiv:1710.09412) or CutMix (arXiv:1905.04899), with both a coin each: x (B, C, H, W) and targets (B, K).

    mixup, cutmix: alpha of the Beta distribution that an image's share is drawn from; 0: off. Each image has its own
    share and its own partner, another place of the batch.
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
    box = _inside(top, left, np.where(cut, bottom - top, 0), np.where(cut, right - left, 0), x)
    share = np.where(cut, 1 - (bottom - top) * (right - left) / (H * W), share)
    own = to_device(share.astype(np.float32), x.device)
    partner = to_device(other, x.device)
    blended = to_device(np.where(cut, 1.0, share).astype(np.float32), x.device)[:, None, None, None]
    mixed = torch.lerp(x[partner], x, blended * ~box)
    hot = F.one_hot(labels, classes).float()
    return mixed, hot * own[:, None] + hot[partner] * (1 - own)[:, None]

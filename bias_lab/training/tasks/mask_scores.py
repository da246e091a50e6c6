"""Score label maps: intersections and unions, mIoU, pixel accuracy, and the F1 of boundaries.

Letters: M images, H rows, W columns, K classes. A truth holds classes 0 to K-1 and VOID. Void pixels count nowhere.
"""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

VOID = 255  # in a mask: a pixel without a class
TOLERANCE = 0.0075  # of the image's diagonal (Csurka et al. 2013)

Counts = NDArray[np.int64]  # (M, K, 2): intersection and union, in pixels


def count(predicted: Tensor, truth: Tensor, classes: int) -> Counts:
    """Return the intersection and the union of each image and class, in pixels: (M, K, 2).

    predicted, truth: label maps (M, H, W). Raises ValueError for a class that is none of the K.
    """
    known = truth != VOID
    for maps in (predicted[known], truth[known]):
        if maps.numel() and not 0 <= int(maps.min()) <= int(maps.max()) < classes:
            raise ValueError(
                f"label maps hold classes from {int(maps.min())} to {int(maps.max())}, not 0 to {classes - 1}"
            )
    there = torch.arange(classes, device=truth.device)[:, None, None]  # (K, 1, 1)
    truly = (truth[:, None] == there) & known[:, None]  # (M, K, H, W)
    said = (predicted[:, None] == there) & known[:, None]  # (M, K, H, W)
    both = torch.stack([(truly & said).sum((2, 3)), (truly | said).sum((2, 3))], dim=2)  # (M, K, 2)
    return both.cpu().numpy()


def per_class(counts: Counts) -> list[float | None]:
    """Return the IoU of each class over all images, in [0, 1], or None where truth and prediction lack it."""
    totals = counts.sum(0)
    return [float(both / either) if either else None for both, either in totals.tolist()]


def miou(counts: Counts) -> float | None:
    """Return the mean IoU over the classes that truth or prediction hold, in [0, 1], from one table over all images.

    It equals torchmetrics' `JaccardIndex`. A mean over images is another number. None if all pixels are void.
    """
    held = [value for value in per_class(counts) if value is not None]
    return math.fsum(held) / len(held) if held else None


def constant(training: NDArray[np.int64], test: NDArray[np.int64]) -> float | None:
    """Return the mIoU on test images of one class for all pixels, the one that most training pixels have.

    It needs no learning, so it is for mIoU what the chance level is for accuracy. It is the share of that class in the
    test pixels, divided by the number of classes that truth or prediction hold. training, test: pixels of each class,
    (K,), void left out. None if there are no pixels.
    """
    if not training.sum() or not test.sum():
        return None
    said = int(training.argmax())
    held = int((test > 0).sum()) + int(test[said] == 0)
    return float(test[said] / test.sum() / held)


def pixel_accuracy(predicted: Tensor, truth: Tensor) -> tuple[int, int]:
    """Return how many pixels are right, and how many have a class. predicted, truth: label maps (M, H, W)."""
    known = truth != VOID
    return int(((predicted == truth) & known).sum()), int(known.sum())


# --- boundaries ------------------------------------------------------------------------------------------------------


def boundary_f1(predicted: Tensor, truth: Tensor, classes: int, *, tolerance: float = TOLERANCE) -> Tensor:
    """Return the F1 of the boundaries of each image and class, (M, K) in [0, 1], NaN where neither has a boundary.

    Precision is the share of the predicted boundary pixels that lie within the tolerance of a true one, recall the
    share of the true ones that lie within it of a predicted one (Csurka et al. 2013, "What is a good evaluation measure
    for semantic segmentation?", section 3). The distance is Euclidean, from pixel centre to pixel centre.

    A boundary pixel of a class has the class, and one of its four neighbours has another. Pixels beyond the image's
    edge and void pixels are no neighbours, and void pixels are taken out of both maps. So a class that fills the image
    or borders on void alone has no boundary there. A class with a boundary in one of the maps alone gets 0.

    predicted, truth: label maps (M, H, W). tolerance: a share of the diagonal. It is at least one pixel.
    """
    known = truth != VOID
    near = max(1.0, tolerance * math.hypot(*truth.shape[1:]))
    said, truly = (_boundaries(maps, known, classes) for maps in (predicted, truth))  # each (M, K, H, W)
    hits = (said & _within(truly, near)).sum((2, 3)).double(), (truly & _within(said, near)).sum((2, 3)).double()
    totals = said.sum((2, 3)).double(), truly.sum((2, 3)).double()
    precision, recall = (hit / total.clamp(min=1) for hit, total in zip(hits, totals, strict=True))  # each (M, K)
    f1 = 2 * precision * recall / (precision + recall).clamp(min=1e-12)
    return f1.masked_fill(totals[0] + totals[1] == 0, float("nan"))


def _boundaries(maps: Tensor, known: Tensor, classes: int) -> Tensor:
    """Return the boundary pixels of each class, (M, K, H, W). known: (M, H, W), where the truth is not void."""
    edge = torch.zeros_like(known)
    down = (maps[:, 1:] != maps[:, :-1]) & known[:, 1:] & known[:, :-1]
    right = (maps[:, :, 1:] != maps[:, :, :-1]) & known[:, :, 1:] & known[:, :, :-1]
    edge[:, 1:] |= down
    edge[:, :-1] |= down
    edge[:, :, 1:] |= right
    edge[:, :, :-1] |= right
    there = torch.arange(classes, device=maps.device)[:, None, None]  # (K, 1, 1)
    return (maps[:, None] == there) & edge[:, None]


def _within(places: Tensor, distance: float) -> Tensor:
    """Return which pixels lie within a distance of one of the places, (M, K, H, W)."""
    reach = int(distance)
    at = torch.arange(-reach, reach + 1, device=places.device)
    disc = (at[:, None] ** 2 + at[None, :] ** 2 <= distance**2).float()[None, None]  # (1, 1, 2r + 1, 2r + 1)
    found = F.conv2d(places.flatten(0, 1)[:, None].float(), disc, padding=reach)
    return (found > 0.5).reshape(places.shape)


def mean_f1(f1: Tensor) -> Tensor:
    """Return the mean over an image's classes, (M, K) to (M,), NaN for an image without a boundary."""
    return f1.nanmean(1)


class BoundaryF1(Metric):
    """`boundary_f1`, the mean over the classes of an image and then over the images that have a boundary."""

    total: Tensor
    images: Tensor

    def __init__(self, classes: int, *, tolerance: float = TOLERANCE, **settings: Any) -> None:
        super().__init__()
        self.classes, self.tolerance = classes, tolerance
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("images", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, truth: Tensor) -> None:
        """Add label maps (M, H, W)."""
        means = mean_f1(boundary_f1(predicted, truth, self.classes, tolerance=self.tolerance))
        self.total += means.nansum()
        self.images += (~means.isnan()).sum()

    def compute(self) -> Tensor:
        return self.total / self.images if self.images else torch.tensor(float("nan"))


def dice_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Return 1 minus the mean soft Dice coefficient of the classes that the batch holds, in [0, 1].

    logits: (B, K, H, W). truth: (B, H, W), whose void pixels count nowhere. The coefficient of a class over the whole
    batch is twice the sum of probabilities on its pixels, over the sum of probabilities and pixels (Milletari et al.
    2016, arXiv:1606.04797, with sums in place of squares).
    """
    known = (truth != VOID)[:, None]
    probabilities = logits.softmax(1) * known  # (B, K, H, W)
    there = torch.arange(logits.shape[1], device=truth.device)[:, None, None]  # (K, 1, 1)
    truly = (truth[:, None] == there).to(logits.dtype)  # (B, K, H, W)
    both = (probabilities * truly).sum((0, 2, 3))  # (K,)
    either = (probabilities + truly).sum((0, 2, 3))  # (K,)
    held = truly.sum((0, 2, 3)) > 0
    return 1 - (2 * both[held] / either[held]).mean() if bool(held.any()) else 0.0 * logits.sum()


def cross_entropy(logits: Tensor, truth: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Return the mean cross-entropy of the pixels that have a class, in nats, 0 if none has.

    logits: (B, K, H, W). truth: (B, H, W). Pixels are laid out in a row, since torch's sum over maps has no fixed order
    on a GPU.
    """
    flat = logits.movedim(1, -1).flatten(0, -2)  # (B*H*W, K)
    total = F.cross_entropy(flat, truth.flatten(), ignore_index=VOID, label_smoothing=smoothing, reduction="sum")
    return total / (truth != VOID).sum().clamp(min=1)

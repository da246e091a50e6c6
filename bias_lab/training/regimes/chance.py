"""Tell a pretraining that taught its encoder nothing: its loss is near that of an output that ignores the image.

The level of each regime is the lowest loss that one fixed output for all images can reach, so a network can come down
to it by its last layer's bias alone. A loss that is less than a twentieth below the level counts as near it. Of the
lab's own pretrainings, a ViT on drawn shapes ended 0 and 1 % below and DINO's ResNets 1 %. MAE, SimMIM, fractals and a
ResNet on shapes ended 13 to 71 % below.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MARGIN = 0.05  # share of the level below which a loss must be
MOST_KEPT = 0.5  # share of the teacher's random start, above which it is mostly that start


def is_near(loss: float, level: float, *, margin: float = MARGIN) -> bool:
    """Return whether a loss is not clearly below a level, both in the unit of the loss. A NaN is not below any.

    >>> is_near(1.386, math.log(4)), is_near(0.46, math.log(4))
    (True, False)
    """
    return not loss < (1 - margin) * level


def level_of_classes(labels: NDArray[np.int64], classes: int, *, label_smoothing: float = 0.0) -> float:
    """Return the cross-entropy in nats of the best fixed prediction for all images: the entropy of the mean target.

    labels: (N,) class numbers below `classes`, of all training images. Balanced classes give ln K. Mixup and cutmix
    leave the mean target as it is.

    >>> level_of_classes(np.array([0, 1, 2, 3]), 4) == math.log(4)
    True
    """
    share = np.bincount(labels, minlength=classes) / len(labels)
    target = (1 - label_smoothing) * share + label_smoothing / classes
    return float(-sum(p * math.log(p) for p in target if p > 0))


def level_of_patches(targets: Tensor) -> float:
    """Return MAE's loss for the best fixed prediction of each patch: the mean squared distance from the mean target.

    targets: (B, N, D), each patch normalised by its own mean and variance. Predicting each patch's own mean, which is
    0, gives their mean square. That is about 1 for patches with contrast and 0 for patches of one colour.
    """
    return float((targets - targets.mean(0)).square().mean())


def level_of_pixels(images: Tensor) -> float:
    """Return SimMIM's loss for the better of two predictions: the median of each pixel, and each image's own mean.

    images: (B, C, H, W). The image's mean is no fixed output, but it tells nothing of what is in the image.
    """
    median = (images - images.median(0).values).abs().mean()
    own_mean = (images - images.mean((2, 3), keepdim=True)).abs().mean()
    return float(torch.minimum(median, own_mean))


def level_of_prototypes(prototypes: int) -> float:
    """Return DINO's loss in nats for a student with uniform output over K prototypes: ln K, whatever the teacher's.

    The best fixed output for all images reaches the entropy of the teacher's mean output, which is lower where the
    teacher uses few prototypes. DINO compares its last loss with that of the same batch, without a margin: the student
    has a higher temperature than the teacher, so part of what it knows is lost in its loss.
    """
    return math.log(prototypes)


def start_kept(momentum: float, steps: int) -> float:
    """Return the share of a teacher's first weights that is left after its training, in [0, 1].

    It is the product of the momenta of its steps - 1 updates, which rise from `momentum` to 1 by a cosine (Caron et al.
    2021, arXiv:2104.14294, section 3.1).

    >>> round(start_kept(0.99, 100), 2), round(start_kept(0.99, 1500), 3)
    (0.61, 0.001)
    """
    kept = 1.0
    for step in range(1, steps):
        kept *= momentum_at(momentum, step, steps)
    return kept


def momentum_at(momentum: float, step: int, steps: int) -> float:
    """Return the momentum of a teacher's update at a step: it rises from `momentum` to 1 by a cosine."""
    return 1 - (1 - momentum) * (math.cos(math.pi * step / steps) + 1) / 2

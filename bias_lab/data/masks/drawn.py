"""Draw coloured shapes with exact masks from (seed, index), the case of segmentation in which the truth is known.

An image shows one to three figures (disc, square, triangle, cross) on a plain ground with noise. Their places are free,
a later figure covers an earlier one, and the class of a pixel is the figure on which its centre lies. Colours say
nothing: the ground and each figure have random colours, drawn apart from each other whatever the figure is. So a model
has to find the form. No files are needed. If the drawing changes, raise the version in the catalogue's row.
"""

import numpy as np
from numpy.typing import NDArray

from bias_lab.data import draws
from bias_lab.data.masks.pairs import Arrays, Masked
from bias_lab.data.readers.procedural import TEST, inside

CLASSES = ("background", "disc", "square", "triangle", "cross")
FIGURES = 3  # at most
RADIUS = (0.14, 0.12)  # of a figure as a share of the side: the smallest, and the length of the range
APART = 64  # levels between the ground's colour and a figure's in each channel, on a circle of 256 levels
NOISE = 24  # levels, peak to peak


def images(index: NDArray[np.int64], side: tuple[int, int], *, seed: int = 0) -> Arrays:
    """Draw the images of these indices, a pure function of (seed, index): (n, H, W, 3) and masks (n, H, W)."""
    H, W = side
    n, scale = len(index), min(side)
    y, x = (np.arange(H) + 0.5)[:, None], (np.arange(W) + 0.5)[None, :]
    masks = np.zeros((n, H, W), np.uint8)
    channel = np.arange(3)
    ground = draws.integers(256, seed, "ground", index[:, None], channel)  # (n, 3)
    levels = np.broadcast_to(ground[:, None, None, :], (n, H, W, 3)).copy()
    count = 1 + draws.integers(FIGURES, seed, "figures", index)
    for figure in range(FIGURES):
        kind = draws.integers(len(CLASSES) - 1, seed, "kind", index, figure)
        radius = scale * (RADIUS[0] + RADIUS[1] * draws.uniform(seed, "radius", index, figure))
        free = draws.uniform(seed, "place", index[:, None], np.arange(2), figure)  # (n, 2)
        room = 1.22 * radius  # the farthest that a form reaches, which is a triangle's corner
        middle_y, middle_x = room + free[:, 0] * (H - 2 * room), room + free[:, 1] * (W - 2 * room)
        there = inside(
            (y - middle_y[:, None, None]) / radius[:, None, None],
            (x - middle_x[:, None, None]) / radius[:, None, None],
            kind[:, None, None],
        )
        there &= (figure < count)[:, None, None]
        shift = APART + draws.integers(257 - 2 * APART, seed, "colour", index[:, None], channel, figure)
        colour = (ground + shift) % 256
        levels = np.where(there[..., None], colour[:, None, None, :], levels)
        masks = np.where(there, (kind + 1)[:, None, None], masks).astype(np.uint8)
    noise = (draws.uniform(seed, "noise", index[:, None], np.arange(H * W * 3)) - 0.5) * NOISE
    noisy = np.rint(np.clip(levels + noise.reshape(n, H, W, 3), 0, 255)).astype(np.uint8)
    return Arrays(noisy, masks)


def dataset(pool: int, test: int, side: tuple[int, int]) -> Masked:
    """Return the splits of the drawn dataset at a size (H, W). No test image has the index of a training image."""
    splits = {}
    for split, first, count in (("train", 0, pool), ("test", TEST, test)):
        parts = [images(np.arange(first + at, first + min(at + 250, count)), side) for at in range(0, count, 250)]
        splits[split] = Arrays(np.concatenate([p.images for p in parts]), np.concatenate([p.masks for p in parts]))
    return Masked(splits=splits, classes=CLASSES)

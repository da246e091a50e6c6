"""Draw fractals from formulas: labelled images to pretrain on without any photograph. No torch.

A class is a set of four contracting affine maps of the plane. An image is the set's attractor: a point is moved by maps
chosen at random, and a pixel's level is the logarithm of its number of hits. The images of a class differ by small
changes of the maps (Kataoka et al. 2020, FractalDB, arXiv:2101.08515). Maps are drawn by their singular values, so that
every map contracts (Anderson and Farrell 2022, arXiv:2110.03091).
"""

import numpy as np
from numpy.typing import NDArray

from bias_lab.data import draws

MAPS = 4
POINTS, BURN_IN = 1200, 20  # steps of the walk, and how many of them come before it is on the attractor
CHUNK = 500  # images walked at once


def fractals(
    classes: int, each: int, side: int, channels: int, *, seed: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw `each` images of each class: (classes * each, side, side, channels) uint8, and labels. Classes take turns.

    An image depends on its class, its number and the seed, and not on the number of other classes or images.
    """
    index = np.arange(classes * each)
    label, number = index % classes, index // classes
    images = np.empty((len(index), side, side, channels), np.uint8)
    for start in range(0, len(index), CHUNK):
        part = slice(start, start + CHUNK)
        points = walk(maps(label[part], number[part], seed), label[part], number[part], seed)
        images[part] = draw(points, side)[..., None]
    return images, label.astype(np.int64)


def maps(label: NDArray[np.int64], number: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """Return the affine maps of each image, (M, MAPS, 2, 3): those of its class with small changes."""
    k = np.arange(MAPS)

    def of_class(purpose: str) -> NDArray[np.float64]:
        return draws.uniform(seed, purpose, label[:, None], k)  # (M, MAPS)

    def of_image(purpose: str) -> NDArray[np.float64]:
        return draws.uniform(seed, purpose, label[:, None], number[:, None], k) - 0.5

    first = 2 * np.pi * of_class("angle 1") + 0.4 * of_image("turn 1")
    second = 2 * np.pi * of_class("angle 2") + 0.4 * of_image("turn 2")
    large = 0.4 + 0.4 * of_class("large")  # singular values below 1, so that the map contracts
    small = large * (0.2 + 0.8 * of_class("small")) * np.where(of_class("mirror") < 0.5, 1, -1)
    affine = np.empty((len(label), MAPS, 2, 3))
    c1, s1, c2, s2 = np.cos(first), np.sin(first), np.cos(second), np.sin(second)
    affine[..., 0, 0], affine[..., 0, 1] = c1 * large * c2 - s1 * small * s2, -c1 * large * s2 - s1 * small * c2
    affine[..., 1, 0], affine[..., 1, 1] = s1 * large * c2 + c1 * small * s2, -s1 * large * s2 + c1 * small * c2
    affine[..., 0, 2] = 2 * of_class("x") - 1 + 0.3 * of_image("move x")
    affine[..., 1, 2] = 2 * of_class("y") - 1 + 0.3 * of_image("move y")
    return affine


def walk(
    affine: NDArray[np.float64], label: NDArray[np.int64], number: NDArray[np.int64], seed: int
) -> NDArray[np.float64]:
    """Return the points of each image's attractor, (M, POINTS, 2).

    A map is chosen with a probability in proportion to the area it keeps.
    """
    M = len(affine)
    area = np.abs(np.linalg.det(affine[..., :2])) + 0.02  # (M, MAPS), above 0: flat maps are chosen sometimes
    cumulative = np.cumsum(area, axis=1) / area.sum(1, keepdims=True)
    at, every = np.zeros((M, 2)), np.arange(M)
    points = np.empty((POINTS, M, 2))
    for step in range(-BURN_IN, POINTS):
        u = draws.uniform(seed, "walk", label, number, step + BURN_IN)  # (M,)
        chosen = np.minimum((u[:, None] > cumulative).sum(1), MAPS - 1)
        one = affine[every, chosen]  # (M, 2, 3)
        at = np.einsum("mij,mj->mi", one[..., :2], at) + one[..., 2]
        if step >= 0:
            points[step] = at
    return points.transpose(1, 0, 2)


def draw(points: NDArray[np.float64], side: int) -> NDArray[np.uint8]:
    """Draw points (M, P, 2) as images (M, side, side) whose levels are log(1 + hits).

    The attractor fills the frame without being stretched.
    """
    M = len(points)
    low, high = points.min(1, keepdims=True), points.max(1, keepdims=True)  # (M, 1, 2)
    span = np.maximum((high - low).max(2, keepdims=True), 1e-9)
    unit = (points - (low + high) / 2) / span * 0.96 + 0.5  # (M, P, 2), within [0.02, 0.98]
    pixel = np.clip((unit * side).astype(np.int64), 0, side - 1)
    flat = (np.arange(M)[:, None] * side + pixel[..., 1]) * side + pixel[..., 0]
    hits = np.log1p(np.bincount(flat.ravel(), minlength=M * side * side).reshape(M, side, side))
    brightest = hits.max((1, 2), keepdims=True)
    shades: NDArray[np.uint8] = np.round(255 * hits / brightest).astype(np.uint8)
    return shades

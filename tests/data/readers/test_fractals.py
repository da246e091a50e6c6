"""Test that fractals are a pure function of their arguments, and that classes differ more than their images."""

import hashlib

import numpy as np

from bias_lab.data.readers.fractals import draw, fractals, maps


def test_shapes_labels_and_range() -> None:
    images, labels = fractals(3, 4, 16, 3)
    assert images.shape == (12, 16, 16, 3)
    assert labels.tolist() == [0, 1, 2] * 4
    assert np.array_equal(images[..., 0], images[..., 2])
    assert (images.reshape(12, -1).max(1) == 255).all()
    assert ((images > 0).reshape(12, -1).mean(1) > 0.02).all()  # no image is a dot


def test_the_same_everywhere_and_whatever_else_is_drawn() -> None:
    images, _ = fractals(3, 2, 16, 1)
    more, _ = fractals(3, 5, 16, 1)
    assert np.array_equal(more[:6], images)
    assert not np.array_equal(fractals(3, 2, 16, 1, seed=1)[0], images)
    coarse = (images > 0).astype(np.uint8)  # pixels with hits and without, which rounding cannot change
    assert hashlib.sha256(coarse.tobytes()).hexdigest()[:12] == "1240889c7af1"


def test_every_map_contracts() -> None:
    label = np.arange(200)
    singular = np.linalg.svd(maps(label, label % 7, 0)[..., :2], compute_uv=False)
    assert singular.max() < 0.81
    assert singular.min() > 0.05


def test_images_of_a_class_are_more_alike_than_those_of_others() -> None:
    images, labels = fractals(10, 6, 16, 1)
    flat = images.reshape(60, -1).astype(float)
    distance = np.linalg.norm(flat[:, None] - flat[None], axis=2)
    same = labels[:, None] == labels[None]
    inside = distance[same & ~np.eye(60, dtype=bool)].mean()
    assert inside < 0.85 * distance[~same].mean()
    assert inside > 0  # they are no copies


def test_the_attractor_fills_the_frame_unstretched() -> None:
    line = np.stack([np.linspace(0, 8, 50), np.zeros(50)], axis=1)[None]
    picture = draw(line, 10)[0]
    assert (picture.any(0)).all()  # it reaches from edge to edge
    assert picture.any(1).sum() == 1  # it is one row high

"""Test the drawn shapes: exact masks, free places, colours without meaning, and no image in both splits."""

import hashlib

import numpy as np

from bias_lab import catalogue
from bias_lab.data.masks import drawn
from bias_lab.data.masks.presence import presence_of

SIDE = (48, 48)


def test_an_image_is_a_function_of_its_index() -> None:
    together = drawn.images(np.arange(6), SIDE)
    alone = drawn.images(np.array([4]), SIDE)
    assert np.array_equal(together.images[4], alone.images[0])
    assert np.array_equal(together.masks[4], alone.masks[0])


def test_masks_are_exact() -> None:
    """Within a figure and on the ground the levels vary by the noise alone, up to the very edge of the mask."""
    made = drawn.images(np.arange(40), SIDE)
    apart = 0
    for image, mask in zip(made.images.astype(int), made.masks, strict=True):
        ground = image[mask == 0]
        assert (np.ptp(ground, axis=0) <= drawn.NOISE + 1).all()
        middle = np.median(ground, axis=0)
        apart += int((np.abs(image[mask > 0] - middle).max(1) > drawn.APART - drawn.NOISE - 1).all())
    assert apart == 40


def test_each_mask_shows_one_to_three_figures_anywhere() -> None:
    made = drawn.images(np.arange(400), SIDE)
    shown = presence_of(made.masks, len(drawn.CLASSES))
    assert shown[:, 0].all()
    figures = shown[:, 1:].sum(1)
    assert figures.min() == 1
    assert figures.max() == 3
    assert (made.masks > 0).any(0)[6:-6, 6:-6].all()  # no place is always empty
    assert not made.masks[:, [0, -1]].any()  # every figure lies within the image


def test_colours_say_nothing_of_the_class() -> None:
    made = drawn.images(np.arange(600), SIDE)
    means = []
    for kind in range(1, len(drawn.CLASSES)):
        levels = [
            image[mask == kind].mean(0)
            for image, mask in zip(made.images, made.masks, strict=True)
            if (mask == kind).any()
        ]
        means.append(np.mean(levels, axis=0))
    assert np.ptp(means, axis=0).max() < 25  # of a standard error of about 5 levels a class


def test_rectangles_are_drawn() -> None:
    made = drawn.images(np.arange(3), (24, 40))
    assert made.images.shape == (3, 24, 40, 3)
    assert made.masks.shape == (3, 24, 40)


def test_the_splits_share_no_image_and_the_drawing_is_pinned() -> None:
    made = drawn.dataset(30, 10, (24, 24))
    train, test = made.splits["train"], made.splits["test"]
    assert isinstance(train, drawn.Arrays)
    assert isinstance(test, drawn.Arrays)
    assert not {image.tobytes() for image in train.images} & {image.tobytes() for image in test.images}
    digest = hashlib.blake2b(train.images.tobytes() + train.masks.tobytes(), digest_size=8).hexdigest()
    assert digest == "a98e559dadbccca6", "the drawing changed: raise the version in the catalogue's row"


def test_the_catalogue_names_its_classes() -> None:
    assert catalogue.DATASETS["shape_masks"].class_names == drawn.CLASSES

"""Test the moments of channels against double precision, and that the sums are exact."""

import numpy as np
import pytest

from bias_lab.data import moments
from bias_lab.data.moments import sums


@pytest.mark.parametrize("shape", [(2100, 5, 4, 3), (700, 28, 28, 1), (3, 600, 400, 3), (1, 1, 1, 1)])
def test_moments_are_those_of_floating_point(shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    mean, std = moments.moments(images)
    np.testing.assert_allclose(mean, (images / 255).mean((0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(std, (images / 255).std((0, 1, 2)), atol=1e-6)


def test_sums_are_exact_where_single_precision_would_round() -> None:
    """The squares of white images exceed 2^24 in a sum of more than 258."""
    white = np.full((5000, 3, 2, 1), 255, np.uint8)
    assert sums(white).ravel().tolist() == [255 * 30_000, 255**2 * 30_000]
    assert moments.moments(white) == ((1.0,), (0.0,))


def test_sums_of_parts_add_up() -> None:
    images = np.random.default_rng(1).integers(0, 256, (300, 8, 8, 3), dtype=np.uint8)
    assert np.array_equal(sums(images[:64]) + sums(images[64:]), sums(images))
    assert np.array_equal(sums(images[:0]), np.zeros((2, 3)))

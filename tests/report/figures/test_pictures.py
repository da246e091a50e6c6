"""Arrays as pictures: scaled, shaped, refused where they are none."""

import numpy as np
import pytest

from bias_lab.report.figures import pictures


def test_a_row_is_a_png_of_its_pictures() -> None:
    made = pictures.row(
        {"image": np.zeros((8, 8, 3), np.uint8), "map": np.arange(16).reshape(4, 4)}, lines=2, numbers=True
    )
    assert made.startswith(b"\x89PNG")
    width, height = (int.from_bytes(made[k : k + 4], "big") for k in (16, 20))
    assert (width, height) == pytest.approx((2.3 * 1.05 * 2 * 110, 2.3 * 110), abs=1)


def test_floats_are_scaled_and_a_lone_channel_goes() -> None:
    assert pictures.scaled(np.array([[2.0, 4.0]])).tolist() == [[0.0, 1.0]]
    assert pictures.scaled(np.ones((2, 2))).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert pictures.scaled(np.zeros((2, 3, 1), np.uint8)).shape == (2, 3)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(1, 2, 3, 4\) is no picture"):
        pictures.scaled(np.zeros((1, 2, 3, 4)))


def test_truths_are_black_and_white_also_where_all_are_alike() -> None:
    assert pictures.scaled(np.ones((2, 2), bool)).tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert pictures.row({"open": np.ones((2, 2), bool)}) != pictures.row({"open": np.zeros((2, 2), bool)})

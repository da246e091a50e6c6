"""Pictures of test images: which three are drawn, what stands in them, and that void stays blank."""

from pathlib import Path

import numpy as np
from PIL import Image

from bias_lab.training.tasks import mask_pictures
from bias_lab.training.tasks.mask_scores import VOID

CLASSES = ("ground", "figure")


def maps(count: int = 5, side: tuple[int, int] = (8, 16)) -> tuple[np.ndarray, np.ndarray]:
    """Grey images (M, H, W, 1) and their masks, whose left half is a figure and whose first row is void."""
    images = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((count, *side, 1), np.uint8) * 20
    truth = np.zeros((count, *side), np.uint8)
    truth[:, :, : side[1] // 2] = 1
    truth[:, 0] = VOID
    return images, truth


def test_the_worst_the_median_and_the_best_image_are_drawn(tmp_path: Path) -> None:
    images, truth = maps()
    predicted = [np.where(truth[k] == VOID, 0, truth[k]) for k in range(5)]
    counts = np.tile(np.array([[40, 50], [40, 50]]), (5, 1, 1))
    counts[3, :, 0], counts[1, :, 0] = 1, 50
    mask_pictures.save(tmp_path, images, truth, predicted, counts, CLASSES)
    drawn = {path.stem: np.asarray(Image.open(path)) for path in tmp_path.glob("*.png")}
    assert {name: int(picture[0, 0, 0]) for name, picture in drawn.items()} == {
        "test_worst": 60, "test_median": 40, "test_best": 20,
    }  # fmt: skip
    assert all(path.stat().st_size < 20_000 for path in tmp_path.glob("*.png"))


def test_image_mask_and_prediction_stand_side_by_side_and_void_is_blank() -> None:
    images, truth = maps(1)
    drawn = np.asarray(mask_pictures.picture(images[0], truth[0], 1 - truth[0] % 2, CLASSES))
    times = mask_pictures.SMALLEST // 16
    step = 16 * times + mask_pictures.GAP
    colours = mask_pictures.palette(2)
    assert (drawn[:, 16 * times : step, 3] == 0).all()
    assert drawn[0, step, 3] == 0
    assert drawn[2 * times, step].tolist() == [*colours[1], 255]
    assert drawn[2 * times, step + 12 * times].tolist() == [*colours[0], 255]
    assert drawn[2 * times, 2 * step].tolist() == [*colours[0], 255]
    assert len(drawn) > 8 * times + mask_pictures.TEXT


def test_many_classes_have_different_colours_and_their_names_wrap() -> None:
    colours = mask_pictures.palette(11)[:11]
    assert len({tuple(colour) for colour in colours.tolist()}) == 11
    images, truth = maps(1)
    truth[0, 1:, :11] = np.arange(11)
    few, many = (mask_pictures.picture(images[0], t, truth[0], tuple(f"class number {k}" for k in range(11)))
                 for t in (np.zeros_like(truth[0]), truth[0]))  # fmt: skip
    assert few.width == many.width
    assert len(np.asarray(many)) >= len(np.asarray(few))


def test_nothing_is_drawn_where_all_is_void(tmp_path: Path) -> None:
    images, truth = maps(2)
    mask_pictures.save(tmp_path, images, truth * 0 + VOID, list(truth), np.zeros((2, 2, 2), int), CLASSES)
    assert not list(tmp_path.iterdir())

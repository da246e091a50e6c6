"""Test that the cue alone determines the class, and that an image is a function of (seed, index)."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from bias_lab import catalogue
from bias_lab.data.readers.procedural import TEST, Drawn, shapes, sheet
from bias_lab.data.store import open_images
from bias_lab.errors import UserError

INDEX = np.arange(400)
CUES = catalogue.SHAPES["cue"]


def share(a: np.ndarray, b: np.ndarray) -> float:
    return float((a == b).mean())


def test_an_image_is_a_function_of_seed_and_index_alone() -> None:
    many = shapes(INDEX, 24, cue="conflict", position="free")
    alone = shapes(np.array([17]), 24, cue="conflict", position="free")
    assert np.array_equal(many.images[17], alone.images[0])
    assert not np.array_equal(shapes(np.array([17]), 24, cue="conflict", position="free", seed=1).images, alone.images)
    assert len({image.tobytes() for image in many.images}) == len(INDEX)


@pytest.mark.parametrize("cue", CUES)
def test_classes_take_turns(cue: str) -> None:
    assert np.bincount(shapes(INDEX, 16, cue=cue).labels).tolist() == [100] * 4


def test_each_cue_speaks_for_the_class_and_the_others_do_not() -> None:
    shape, texture = shapes(INDEX, 16, cue="shape"), shapes(INDEX, 16, cue="texture")
    assert share(shape.shape, shape.labels) == 1
    assert 0.15 < share(shape.texture, shape.labels) < 0.35  # a quarter agrees by chance
    assert share(texture.texture, texture.labels) == 1
    assert 0.15 < share(texture.shape, texture.labels) < 0.35


def test_agreeing_cues_agree_and_conflicting_ones_never() -> None:
    agree, conflict = shapes(INDEX, 16, cue="agree"), shapes(INDEX, 16, cue="conflict")
    assert share(agree.shape, agree.texture) == 1
    assert share(conflict.shape, conflict.labels) == 1
    assert share(conflict.texture, conflict.labels) == 0
    assert np.bincount((conflict.texture - conflict.labels) % 4)[1:].min() > 100


def middle(masks: np.ndarray) -> np.ndarray:
    """Return the masks' centres of mass, (n, 2)."""
    side = masks.shape[-1]
    at = np.arange(side)
    total = masks.sum((1, 2))
    return np.stack([(masks.sum(2) * at).sum(1) / total, (masks.sum(1) * at).sum(1) / total], 1)


def test_a_free_figure_stands_anywhere_and_a_fixed_one_in_the_centre() -> None:
    fixed, free = shapes(INDEX, 32), shapes(INDEX, 32, position="free")
    assert middle(fixed.masks).std(0).max() < 1
    assert middle(free.masks).std(0).min() > 2
    edge = free.masks.copy()
    edge[:, 1:-1, 1:-1] = False
    assert not edge.any()  # the figure always fits


def test_forms_have_about_equal_area_so_that_area_is_no_cue() -> None:
    drawn = shapes(INDEX, 48)
    areas = [drawn.masks[drawn.shape == k].mean() for k in range(4)]
    assert max(areas) < 1.25 * min(areas)


def test_local_form_and_global_arrangement_are_independent() -> None:
    local, whole = shapes(INDEX, 48, cue="local"), shapes(INDEX, 48, cue="global")
    assert share(local.shape, local.labels) == 1
    assert 0.15 < share(whole.shape, whole.labels) < 0.35
    spread = [whole.masks[whole.labels == k].any(0) for k in range(2)]
    assert spread[0].any(1).sum() < spread[0].any(0).sum()  # a row is wider than high, a column higher than wide
    assert spread[1].any(1).sum() > spread[1].any(0).sum()


@pytest.mark.parametrize("cue", ["shape", "texture"])
def test_bands_hold_their_frequencies(cue: str) -> None:
    """Return the energy of the mean-free images below a quarter of the Nyquist frequency, without the noise."""

    def low_share(band: str) -> float:
        x = shapes(INDEX[:80], 32, cue=cue, band=band).images[..., 0].astype(float)
        power = np.abs(np.fft.rfft2(x - x.mean((1, 2), keepdims=True))) ** 2
        radius = np.hypot(np.fft.fftfreq(32)[:, None] * 2, np.fft.rfftfreq(32) * 2)
        return float(power[:, radius <= 0.25].sum() / power.sum())

    assert low_share("low") > 0.85
    assert low_share("high") < 0.15


def direction(drawn: Drawn) -> np.ndarray:
    """Return the class of the stripes' direction, in which the coarse part of the figure changes most."""
    pictures = drawn.images[..., 0].astype(float)
    down, across = np.gradient(ndimage.gaussian_filter(pictures, (0, 1, 1)), axis=(1, 2))
    twice, apart = 2 * down * across * drawn.masks, (down**2 - across**2) * drawn.masks
    angle = np.arctan2(twice.sum((1, 2)), apart.sum((1, 2))) / 2
    return np.round(angle / (np.pi / 4)).astype(int) % 4


@pytest.mark.parametrize("side", [16, 20, 24, 32])
def test_the_low_band_keeps_its_cue_at_any_side(side: int) -> None:
    drawn = shapes(INDEX, side, cue="texture", band="low")
    assert share(direction(drawn), drawn.labels) > 0.95


def test_masks_mark_the_figure() -> None:
    drawn = shapes(INDEX[:50], 32, cue="local")
    inside = drawn.images[..., 0][drawn.masks].mean()
    assert inside > drawn.images[..., 0][~drawn.masks].mean() + 80


def test_it_is_a_dataset_by_name(tmp_path: Path) -> None:
    images = open_images("shapes:cue=texture,position=free", image_size=16, data_root=str(tmp_path))
    row = catalogue.dataset("shapes:cue=texture,position=free")
    assert images.train.shape == (row.pool, 16, 16, 1)
    assert np.bincount(images.train_labels).tolist() == list(row.class_counts)
    assert len(images.test) == row.test_images
    assert images.classes == ("across", "rising", "upright", "falling")
    again = shapes(np.array([5, TEST + 3]), 16, cue="texture", position="free")
    assert np.array_equal(images.train[5], again.images[0])
    assert np.array_equal(images.test[3], again.images[1])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("shapes:cue=shap", "did you mean 'shape'"),
        ("shapes:positon=free", "did you mean 'position'"),
        ("shapes:band=middle", "choose from: all, high, low"),
    ],
)
def test_factors_that_are_not_there(name: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        catalogue.dataset(name)


def test_the_picture_in_the_docs_is_what_is_drawn() -> None:
    from PIL import Image

    with Image.open(Path(__file__).parents[3] / "docs" / "procedural.png") as committed:
        same = np.asarray(committed)[30:, 180:] == np.asarray(sheet())[30:, 180:]  # the font of the words may differ
    assert same.mean() > 0.999  # the last digit of a sine may round a pixel differently on another machine


@pytest.mark.parametrize("cue", ["shape", "texture", "agree", "conflict", "local", "global"])
def test_wherever_a_figure_stands_it_is_whole(cue: str) -> None:
    """No figure is cut by the image's edge, and the four parts of an arrangement do not touch."""
    masks = shapes(np.arange(120), 128, cue=cue, position="free").masks
    assert not masks[:, [0, -1]].any()
    assert not masks[:, :, [0, -1]].any()
    if cue in ("local", "global"):
        assert {ndimage.label(mask)[1] for mask in masks} == {4}


def test_a_linear_classifier_tells_shapes_apart_by_where_their_corners_may_lie() -> None:
    """docs/studies/small_data.md: their areas are equal, and shifted anywhere they tell it next to nothing."""
    train, test = (shapes(np.arange(at, at + 2000), 32, position="free") for at in (0, TEST))
    areas = [train.masks[train.labels == label].sum(axis=(1, 2)).mean() for label in range(4)]
    assert max(areas) / min(areas) < 1.05

    def correct(move: Callable[[np.ndarray], np.ndarray]) -> float:
        x, y = (np.stack([move(one).ravel() / 255 for one in part.images]) for part in (train, test))
        ridge = x.T @ x + 100 * np.eye(x.shape[1])
        fitted = np.linalg.solve(ridge, x.T @ (np.eye(4)[train.labels] - 0.25))
        return float(((y @ fitted).argmax(axis=1) == test.labels).mean())

    rng = np.random.default_rng(0)
    assert correct(lambda one: one) > 0.45
    assert correct(lambda one: np.roll(one, rng.integers(32, size=2), axis=(0, 1))) < 0.32

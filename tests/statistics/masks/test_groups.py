"""Test the noise of test images in a mean IoU: its formula, its groups, and that its intervals cover the truth."""

import math

import numpy as np
import pytest

from bias_lab.statistics import images, intervals
from bias_lab.statistics.gaps import gaps
from bias_lab.statistics.masks import groups
from tests.planted import covariance, rows, table


def mean_iou(scores: groups.Scores) -> float:
    both, either = scores.sum(0).T
    return float(np.mean((both / np.maximum(either, 1))[either > 0]))


def influence(scores: groups.Scores, of: groups.Groups) -> np.ndarray:
    values = groups.pseudo_values([scores], of)[0]
    return (values - values.mean()) / len(values)


def drawn(rng: np.random.Generator, images: int, classes: int, skill: float = 0.7) -> groups.Scores:
    """Return scores whose unions differ by image and class, and of which some are empty."""
    union = rng.integers(20, 200, (images, classes)) * (rng.random((images, classes)) < 0.8)
    both = rng.binomial(union, np.clip(skill + 0.1 * rng.normal(size=(images, 1)), 0.05, 0.95))
    return np.stack([both, union], axis=2).astype(np.int64)


def test_pseudo_values_have_the_mean_iou_as_their_mean() -> None:
    rng = np.random.default_rng(0)
    scores, of = drawn(rng, 40, 5), np.repeat(np.arange(10), 4)
    assert groups.pseudo_values([scores], of)[0].mean() == pytest.approx(mean_iou(scores))


def test_the_influence_is_the_derivative_by_the_weight_of_a_group() -> None:
    """The oracle: count one group a little more than once, and divide the change of the mean IoU by it."""
    rng = np.random.default_rng(1)
    scores, of = drawn(rng, 30, 4), rng.integers(0, 6, 30)
    found = influence(scores, of)

    def weighted(weight: np.ndarray) -> float:
        both, either = (weight[:, None, None] * scores).sum(0).T
        return float(np.mean(both / either))

    for place, group in enumerate(np.unique(of)):
        step = 1e-6 * (of == group)
        assert found[place] == pytest.approx((weighted(1 + step) - weighted(1 - step)) / 2e-6, rel=1e-5)


def test_the_covariance_is_near_the_jackknifes() -> None:
    rng = np.random.default_rng(2)
    runs, of = [drawn(rng, 120, 5, skill) for skill in (0.6, 0.7)], np.repeat(np.arange(40), 3)
    left_out = np.array([[mean_iou(scores[of != g]) for g in range(40)] for scores in runs])
    apart = left_out - left_out.mean(1, keepdims=True)
    assert covariance(runs, of) == pytest.approx(39 / 40 * apart @ apart.T, rel=0.1, abs=2e-7)


def test_equal_images_in_one_group_are_one_image() -> None:
    """If every image stands five times, groups give the noise of the single images, and no groups give far less."""
    scores = drawn(np.random.default_rng(3), 30, 4)
    single = covariance([scores], np.arange(30))[0, 0]
    repeated, of = np.repeat(scores, 5, axis=0), np.repeat(np.arange(30), 5)
    assert covariance([repeated], of)[0, 0] == pytest.approx(single)
    assert covariance([repeated], np.arange(150))[0, 0] < single / 4


def test_the_noise_of_a_difference_is_that_of_its_covariance() -> None:
    rng = np.random.default_rng(4)
    runs, of = [drawn(rng, 60, 5, skill) for skill in (0.5, 0.7)], np.repeat(np.arange(20), 3)
    noise = covariance(runs, of)
    values = np.subtract(*groups.pseudo_values(runs[::-1], of))
    assert values.var(ddof=1) / 20 == pytest.approx(noise[0, 0] + noise[1, 1] - 2 * noise[0, 1])


def test_a_shortfall_in_mean_iou_has_the_noise_of_test_images() -> None:
    rng = np.random.default_rng(5)
    made = []
    for backbone, skill in (("vit_micro", 0.5), ("resnet_micro", 0.7)):
        for one in rows(lambda run: 0.5, backbones=[backbone], sizes=[90], replicates=[(k, k) for k in range(3)]):
            scores = drawn(rng, 24, 3, skill)
            column = {"miou": mean_iou(scores), "scores": scores.astype("<u4").tobytes(), "classes": 3}
            made.append(
                one
                | column
                | {"test_images": 24, "test_groups": ",".join(["0"] * 8 + ["1"] * 4 + ["2"] * 12), "task": "segment"}
            )
    frame = table(made)
    result = gaps(frame, metric="miou").iloc[0]
    assert result["shortfall"] > 0.1
    assert result["test_se"] >= 0
    assert result["low_any"] <= result["low"]
    sides = [images.by_size(frame[frame["backbone"] == name])[90] for name in ("vit_micro", "resnet_micro")]
    pairs = {name: np.arange(3) for name in ("draw", "seed")}
    values, T = images.difference(images.used(sides[0], pairs), images.used(sides[1], pairs), pairs, "miou")
    assert values is not None
    assert (values.shape, T) == ((3, 3), 24)
    assert values.mean() == pytest.approx(result["shortfall"])
    assert result["test_se"] == pytest.approx(intervals.image_noise(values))


@pytest.mark.slow
@pytest.mark.parametrize(("count", "least"), [(25, 0.9), (60, 0.9)])
def test_intervals_cover_the_mean_iou_of_the_population(count: int, least: float) -> None:
    """Simulate test sets of groups of ten like images: 95 % intervals must hold the value of the whole population.

    An image alone as its own group is the planted error, whose intervals are far too narrow.
    """
    rng = np.random.default_rng(7)
    of = np.repeat(np.arange(count), 10)

    def test_set(number: int) -> groups.Scores:
        scene = np.repeat(rng.normal(size=(number, 4)), 10, axis=0)
        union = rng.poisson(80 * np.exp(0.5 * scene))
        chance = 1 / (1 + np.exp(-(0.5 + 0.8 * scene + 0.2 * rng.normal(size=scene.shape))))
        return np.stack([rng.binomial(union, chance), union], axis=2)

    truth = mean_iou(test_set(20_000))
    covered = {"groups": 0, "images": 0}
    for _ in range(400):
        scores = test_set(count)
        for name, each in (("groups", of), ("images", np.arange(len(of)))):
            half = 1.96 * math.sqrt(covariance([scores], each)[0, 0])
            covered[name] += abs(mean_iou(scores) - truth) <= half
    assert least <= covered["groups"] / 400 <= 0.99
    assert covered["images"] / 400 < 0.7


def test_parts_are_packed_and_unpacked() -> None:
    assert groups.pack_parts({}) == ""
    parts = {"a: b": np.array([True, False]), "c": np.array([False, False]), "d": np.array([True, True])}
    again = groups.unpack_parts(groups.pack_parts(parts), 2)
    assert {name: found.tolist() for name, found in again.items()} == {
        name: one.tolist() for name, one in parts.items()
    }
    with pytest.raises(ValueError, match="is of 2 images, and there are 3"):
        groups.unpack_parts("c: 2", 3)

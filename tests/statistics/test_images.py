"""Which test images are right is averaged over a group's backbones and a draw's seeds, as accuracy is."""

import numpy as np

from bias_lab.statistics import images, intervals
from tests.planted import bits, rows, table

GRID = [(draw, seed) for draw in range(3) for seed in range(2)]


def planted(name: str, seed: int) -> list[dict]:
    random = np.random.default_rng(seed)
    right = [random.random(20) < 0.6 for _ in GRID]
    made = rows(lambda run: 0.5, backbones=[name], sizes=[100], replicates=GRID, noise=0.0)
    return [
        one | {"top1": float(r.mean()), "correct": bits(r), "test_images": 20}
        for one, r in zip(made, right, strict=True)
    ]


def sides() -> list[images.Columns]:
    vit, cnns = planted("vit_micro", 0), [*planted("resnet_micro", 1), *planted("efficientnet_micro", 2)]
    return [images.by_size(table(side))[100] for side in (vit, cnns)]


def test_means_of_the_images_are_differences_of_accuracies() -> None:
    ours, theirs = sides()
    pairs = {name: np.array([one[place] for one in GRID]) for place, name in enumerate(("draw", "seed"))}
    right, T = images.difference(images.used(ours, pairs), images.used(theirs, pairs), pairs)
    assert right is not None
    assert (right.shape, T) == ((3, 20), 20)
    accuracy = {side: [np.mean([np.unpackbits(np.frombuffer(b, np.uint8), count=20).mean() for b, d in
                zip(one["correct"], one["draw"], strict=True) if d == draw]) for draw in range(3)]
                for side, one in (("of", ours), ("against", theirs))}  # fmt: skip
    assert np.allclose(right.mean(axis=1), np.array(accuracy["against"]) - np.array(accuracy["of"]))


def test_pairs_that_are_not_used_are_left_out_and_lost_predictions_are_told() -> None:
    ours, theirs = sides()
    pairs = {"draw": np.array([0, 1]), "seed": np.array([0, 0])}
    kept = [images.used(side, pairs) for side in (ours, theirs)]
    assert [len(side["draw"]) for side in kept] == [2, 4]
    assert set(kept[1]["weight"]) == {0.5}
    kept[0]["correct"][0] = None
    assert images.difference(kept[0], kept[1], pairs) == (None, 20)


# --- label maps ------------------------------------------------------------------------------------------------------

T, K = 60, 4


def maps(seed: int, images: int = T) -> np.ndarray:
    """Intersections and unions of images and classes, (T, K, 2). Classes are rare, and the last is in no image."""
    random = np.random.default_rng(seed)
    union = random.integers(1, 200, (images, K)) * (random.random((images, K)) < 0.6)
    union[:, K - 1] = 0
    return np.stack([random.binomial(union, 0.5 + 0.1 * random.random(images)[:, None]), union], axis=2)


def miou(scores: np.ndarray) -> float:
    total = scores.sum(0)
    held = total[:, 1] > 0
    return float((total[held, 0] / total[held, 1]).mean())


def runs_of(scores: list[np.ndarray], groups: str = "") -> images.Columns:
    """Columns of one backbone's runs, a replicate each."""
    return {
        "backbone": np.array(["vit_micro"] * len(scores), object),
        "draw": np.arange(len(scores)),
        "seed": np.arange(len(scores)),
        "scores": np.array([one.astype("<u4").tobytes() for one in scores], object),
        "classes": np.array([K] * len(scores)),
        "test_images": np.array([len(one) for one in scores]),
        "test_groups": np.array([groups] * len(scores), object),
    }


def compared(ours: images.Columns, theirs: images.Columns) -> tuple[np.ndarray | None, int]:
    pairs = {name: ours[name] for name in ("draw", "seed")}
    return images.difference(images.used(ours, pairs), images.used(theirs, pairs), pairs, "miou")


def test_what_each_image_adds_has_the_miou_as_its_mean_and_its_spread_is_the_bootstraps() -> None:
    scores = maps(0)
    share = images.shares(scores)
    assert share.shape == (T,)
    assert np.isclose(share.mean(), miou(scores))
    random = np.random.default_rng(1)
    drawn = [miou(scores[random.integers(0, T, T)]) for _ in range(4000)]
    assert np.isclose(share.std(ddof=1) / np.sqrt(T), np.std(drawn), rtol=0.07)


def test_differences_of_label_maps_are_differences_of_miou() -> None:
    ours, theirs = [maps(seed) for seed in range(3)], [maps(seed) for seed in range(3, 6)]
    found, count = compared(runs_of(ours), runs_of(theirs))
    assert found is not None
    assert (found.shape, count) == ((3, T), T)
    assert np.allclose(found.mean(1), [miou(b) - miou(a) for a, b in zip(ours, theirs, strict=True)])


def test_groups_of_images_are_the_units_of_sampling() -> None:
    base = [maps(seed, images=12) for seed in range(4)]
    repeated = [np.repeat(one, 5, axis=0) for one in base]  # five equal neighbouring frames
    groups = ",".join(str(n // 5) for n in range(60))
    half = [runs_of(repeated[:2], groups), runs_of(repeated[2:], groups)]
    grouped, _ = compared(*half)
    alone, _ = compared(runs_of(base[:2]), runs_of(base[2:]))
    assert grouped is not None
    assert alone is not None
    assert grouped.shape == alone.shape == (2, 12)
    assert np.allclose(grouped, alone)
    naive, _ = compared(runs_of(repeated[:2]), runs_of(repeated[2:]))
    assert intervals.image_noise(naive) < 0.6 * intervals.image_noise(grouped)


def test_groups_of_unequal_size_keep_the_mean() -> None:
    values = np.random.default_rng(0).random((2, 7))
    text = np.array(["4,4,4,4,9,9,2"] * 3, object)
    found = images.by_group(values, text)
    assert found.shape == (2, 3)
    assert np.allclose(found.mean(1), values.mean(1))
    level = values.mean(1)
    assert np.allclose(found[:, 0], level + (values[:, 6] - level) * 3 / 7)
    assert np.allclose(images.by_group(np.full((2, 7), 0.3), text), 0.3)  # sizes alone are no noise


def test_label_maps_of_another_number_of_classes_are_told_from_none() -> None:
    ours, theirs = runs_of([maps(0), maps(1)]), runs_of([maps(2), maps(3)])
    theirs["classes"] = np.array([K + 1] * 2)
    assert compared(ours, theirs) == (None, T)
    assert images.difference(ours, theirs, {n: ours[n] for n in ("draw", "seed")}, "boundary_f1") == (None, 0)

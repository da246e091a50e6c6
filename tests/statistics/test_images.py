"""Which test images are right is averaged over a group's backbones and a draw's seeds, as accuracy is."""

import numpy as np

from bias_lab.statistics import images
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

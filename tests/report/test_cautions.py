"""Every caution is said where the data call for it, and only there."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bias_lab.report.cautions import cautions, lost
from tests.planted import bits, rows, table

Row = dict[str, Any]


def clean() -> list[Row]:
    """Nothing to object to: 4 draws, predictions kept, trained to the end."""
    made = rows(lambda run: 0.6, sizes=[100, 1000], replicates=[(k, k) for k in range(4)])
    return [r | {"correct": bits(np.arange(2000) < 2000 * r["top1"])} for r in made]


def vit(r: Row) -> bool:
    return r["backbone"] == "vit_micro"


def test_a_clean_table_needs_none() -> None:
    assert cautions(table(clean()), {}) == []
    assert cautions(table([]), {}) == []


def test_a_start_that_lost_a_replicate_is_named() -> None:
    after = rows(
        lambda run: 0.65, backbones=["vit_micro"], sizes=[100, 1000], replicates=[(k, k) for k in range(4)],
        regime="mae", source="pool",
    )  # fmt: skip
    after = [r | {"correct": bits(np.arange(2000) < 2000 * r["top1"]), "pretraining": f"p{r['draw']}"} for r in after]
    sentence = (
        "Of 4 replicates of plain ViT from scratch at N = 100, 3 have one after MAE (on pool). What it recovers rests "
        "on these."
    )
    assert sentence not in cautions(table([*clean(), *after]), {})
    kept = [r for r in after if (r["draw"], r["size"]) != (1, 100)]
    assert sentence in cautions(table([*clean(), *kept]), {})


def test_no_cause_of_a_shortfall_is_told_where_none_is_shown() -> None:
    """The ViT fits its images less well, and is behind by 5 points in the mean, but replicates scatter."""
    shifts = (0.2, -0.3, 0.25, 0.05)
    made = [
        r | {"top1": r["top1"] - 0.05 + shifts[r["draw"]], "train_top1": 0.6, "correct": None} if vit(r) else r
        for r in clean()
    ]
    assert not any("fitting within this budget" in text for text in cautions(table(made), {}))
    sure = [r | {"top1": r["top1"] - 0.05, "train_top1": 0.6, "correct": None} if vit(r) else r for r in clean()]
    assert any("fitting within this budget" in text for text in cautions(table(sure), {}))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda r: r | {"train_top1": 0.6, "loss_slope": -0.2} if vit(r) else r,
            "vit_micro at N = 100 and 1,000 (60 %)",
        ),
        (lambda r: r | {"top1": 0.99}, "Both sides are above 97 % at N = 100 and 1,000"),
        (lambda r: r | {"collapsed": vit(r) and r["draw"] == 0}, "stay in all means: vit_micro (2 of 8)"),
        (lambda r: r | {"samples_seen": 8000} if vit(r) else r, "did not see equally many images at N = 100 and 1,000"),
        (lambda r: r | {"parameters": 1_000_000} if vit(r) else r, "The models differ 2.5-fold in parameters"),
        (lambda r: r | {"correct": None} if vit(r) else r, "intervals hold for this test set alone"),
        (lambda r: r | {"device": "cuda"} if vit(r) else r, "Runs come from 2 kinds of device"),
        (lambda r: r | {"commit": "d" * 40} if vit(r) else r, "Runs come from 2 commits"),
        (lambda r: r | {"dataset_fingerprint": "0"} if vit(r) else r, "The data changed between runs"),
        (lambda r: r | {"draw": 0}, "Replicates share one draw of images"),
    ],
)
def test_each_has_its_cause(spoil: Callable[[Row], Row], words: str) -> None:
    told = cautions(table([spoil(r) for r in clean()]), {})
    assert len(told) == 1
    assert words in told[0]


def test_a_replicate_that_is_lost_is_named() -> None:
    gone = {("efficientnet_micro", 100, 1), ("efficientnet_micro", 100, 2), ("vit_micro", 100, 0)}
    told = cautions(table([r for r in clean() if (r["backbone"], r["size"], r["draw"]) not in gone]), {})
    assert (
        "Of 4 replicates at N = 100, efficientnet_micro lacks 2 and vit_micro lacks 1, which were not run or "
        "diverged. A comparison with the mean of these CNNs rests on the 1 that every backbone has."
    ) in told
    assert not any(text.startswith("Of 4 replicates at N = 1,000") for text in told)
    one = table([r for r in clean() if r["backbone"] in ("vit_micro", "resnet_micro")])
    (alone,) = lost(one[~(one["backbone"].eq("vit_micro") & one["size"].eq(100) & one["draw"].eq(0))])
    assert alone.endswith(
        "vit_micro lacks 1, which were not run or diverged. The comparison there rests on the 3 that "
        "every backbone has."
    )


def test_fitted_training_images_are_not_under_trained_whatever_the_slope() -> None:
    assert cautions(table([r | {"train_top1": 1.0, "loss_slope": -0.5} for r in clean()]), {}) == []


def test_a_vit_that_lags_on_its_own_training_images_is_said_to() -> None:
    made = [r | {"train_top1": 0.57, "top1": 0.4, "loss_slope": 0.0} if vit(r) else r for r in clean()]
    told = cautions(table(made), {})
    assert told[0].startswith(
        "Plain ViT is less accurate on its own training images than the CNNs at N = 100 and 1,000: 57 % against 99 %"
    )
    assert "So half of the shortfall there, or more, may come from fitting" in told[0], "means alone do not show it"
    (single,) = (one for one in cautions(table([r for r in made if r["size"] == 100]), {}) if "own training" in one)
    assert "at N = 100: 57 % against 99 %. So" in single
    assert cautions(table([r | {"top1": 0.4} if vit(r) else r for r in clean()]), {}) == []


def test_what_holds_at_equal_images_alone_says_so_where_cells_are_settled_too() -> None:
    made = [r | {"train_top1": 0.57, "top1": 0.4, "loss_slope": -0.5} if vit(r) else r for r in clean()]
    settled = [r | {"comparison": "settled", "settled": True, "run_id": f"{r['run_id']}s"} for r in clean()]
    told = cautions(table([*(r | {"comparison": "equal"} for r in made), *settled]), {})
    starts = ("At equal images plain ViT is less accurate on", "At equal images from scratch, the training loss still")
    assert [text.startswith(starts) for text in told[:2]] == [True, True]


def test_few_replicates() -> None:
    assert (
        "There is only one replicate at N = 100"
        in cautions(table([r for r in clean() if r["size"] > 100 or r["draw"] == 0]), {})[0]
    )
    assert "Some size has only two draws" in cautions(table([r for r in clean() if r["draw"] < 2]), {})[0]


def test_a_family_that_changes_with_size_or_has_one_member() -> None:
    made = [r for r in clean() if vit(r) or r["backbone"] == "resnet_micro" or r["size"] == 100]
    assert "The CNN family consists of resnet_micro alone at N = 1,000" in cautions(table(made), {})[0]
    lone = [r for r in clean() if vit(r) or r["backbone"] == "resnet_micro"]
    assert "resnet_micro is the only CNN here" in cautions(table(lone), {})[0]


def test_a_learning_rate_at_the_end_of_its_grid() -> None:
    trials = [{"learning_rate": rate, "top1": 0.5} for rate in (0.001, 0.003, 0.01)]
    tuned = dict(backbone="vit_micro", regime="scratch", recipe="plain", size=100, learning_rate=0.01, trials=trials)
    inner = tuned | {"learning_rate": 0.003}
    edge = "The best learning rate was at an edge of the grid for vit_micro (N = 100), so a better one may lie outside."
    assert cautions(table(clean()), {"rows": [tuned, inner, inner | {"size": 1000}]}) == [edge]
    borrowed = ["Runs at N = 1,000 take the learning rate of the nearest tuned size."]
    assert cautions(table(clean()), {"rows": [inner]}) == borrowed, "at an edge or not"
    other = tuned | {"recipe": "strong", "regime": "mae"}
    (told,) = cautions(table(clean()), {"rows": [other, inner | {"size": 1000}]})
    assert "vit_micro + mae + strong (N = 100)" in told or "vit_micro + strong + mae (N = 100)" in told
    (told,) = cautions(table(clean()), {"rows": [tuned | {"patch": 8}, inner | {"size": 1000}]})
    assert "vit_micro + patch 8 px (N = 100)" in told
    (told,) = cautions(table(clean()), {"rows": [tuned | {"patch": 8, "recipe": "plain+patch=8"}]})[:1]
    assert "vit_micro + plain+patch=8 (N = 100)" in told, "the patch is named once"


def test_a_size_that_borrows_its_rate_is_named() -> None:
    trials = [{"learning_rate": rate, "top1": 0.5} for rate in (0.001, 0.003, 0.01)]
    tuned = dict(backbone="vit_micro", regime="scratch", recipe="plain", size=100, learning_rate=0.01, trials=trials)
    assert cautions(table(clean()), {"rows": [tuned]})[1:] == [
        "Runs at N = 1,000 take the learning rate of the nearest tuned size."
    ]


def test_a_budget_at_the_foot_of_its_ladder() -> None:
    trials = [dict(learning_rate=0.003, samples_seen=images, top1=0.5, n=3) for images in (16_000, 32_000)]
    trials += [dict(learning_rate=rate, samples_seen=16_000, top1=0.4, n=1) for rate in (0.001, 0.01)]
    row = dict(backbone="vit_micro", regime="scratch", recipe="plain", size=100, learning_rate=0.003, trials=trials)
    first = row | {"samples_seen": 16_000, "settled": True}
    foot = "The best budget was the smallest that was tried for vit_micro (N = 100), so less training may be better."
    assert cautions(table(clean()), {"rows": [first, first | {"size": 1000, "samples_seen": 32_000}]}) == [foot]
    large = row | {"size": 1000}
    assert cautions(table(clean()), {"rows": [row, large]}) == [], "no budget was searched"
    assert cautions(table(clean()), {"rows": [first | {"settled": False}, large]}) == [], "that is said elsewhere"

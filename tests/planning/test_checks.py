"""Test what planning refuses and what it warns of."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bias_lab.data import subsets
from bias_lab.definition import Run, run_id
from bias_lab.errors import UserError
from bias_lab.planning import checks
from bias_lab.planning.checks import DatasetSummary
from bias_lab.planning.learning_rates import Rates

ONE = Run(dataset="own", backbone="vit_micro", size=100)
BEFORE = replace(ONE, task="pretrain", regime="mae", source="pool", size=0)
AFTER = replace(ONE, regime="mae", source="pool", pretraining=run_id(BEFORE))
SUBSETS: list[tuple[str, Any]] = [
    ("size", 50),
    ("draw", 1),
    ("blocks", 4),
    ("balanced", True),
    ("imbalance", 10.0),
    ("manifest", "ab"),
]
POOL = {"own": DatasetSummary(name="photos", counts=(60, 40, 20), side=64)}


def sized(*sizes: int) -> list[Run]:
    return [replace(ONE, size=size) for size in sizes]


def test_a_profiles_size_over_the_pool_is_left_out_with_a_line() -> None:
    kept, lines = checks.fit_sizes(sized(100, 120, 121, 5000), POOL, typed=False)
    assert [run.size for run in kept] == [100, 120]
    assert lines == [
        "left out: size 121 exceeds the 120 training images of photos",
        "left out: size 5000 exceeds the 120 training images of photos",
    ]


def test_a_typed_size_over_the_pool_is_refused() -> None:
    with pytest.raises(UserError, match="size 121 exceeds the 120 training images of photos"):
        checks.fit_sizes(sized(100, 121), POOL, typed=True)


def test_the_smallest_block_bounds_the_sizes_of_all_draws() -> None:
    runs = [replace(ONE, size=size, draw=draw, blocks=7) for size in (15, 16) for draw in (0, 6)]
    kept, lines = checks.fit_sizes([*runs, *sized(120)], POOL, typed=False)
    assert kept == [*runs[:2], *sized(120)]
    assert lines == ["left out: size 16 exceeds the 15 training images of one of 7 blocks of photos"]
    remedy = "sizes from 7 to 15 work; add --sizes 15$"
    with pytest.raises(UserError, match=f"size 16 exceeds the 15 .* one of 7 blocks of photos; {remedy}"):
        checks.fit_sizes(runs[2:], POOL, typed=False)
    with pytest.raises(UserError, match="size 121 exceeds the 120 .*; add --size 120$"):
        checks.fit_sizes(sized(121), POOL, typed=False, single=True)
    with pytest.raises(UserError, match="30 blocks leave a block without class 2, .*; at most 20 blocks"):
        checks.fit_sizes([replace(ONE, blocks=30)], POOL, typed=False)


def test_a_size_below_the_number_of_classes_is_refused() -> None:
    with pytest.raises(UserError, match="size 2 is below the 3 classes of photos"):
        checks.fit_sizes(sized(2), POOL, typed=True)


def test_a_size_that_leaves_a_class_empty_is_refused_with_the_smallest_that_works() -> None:
    rare = {"own": DatasetSummary(name="photos", counts=(99, 1), side=64, names=("ant", "bee"))}
    with pytest.raises(UserError, match="size 3 leaves class 'bee' of photos without an image; 100 works"):
        checks.fit_sizes(sized(3), rare, typed=True)


def test_if_no_size_of_the_profile_fits_the_largest_that_works_is_named() -> None:
    remedy = "sizes from 6 to 120 work; add --sizes 12,120$"
    with pytest.raises(UserError, match=f"no size of this profile fits photos: 1000, 5000; {remedy}"):
        checks.fit_sizes(sized(1000, 5000), POOL, typed=False)
    with pytest.raises(UserError, match=f"size 1000 exceeds the 120 training images of photos; {remedy}"):
        checks.fit_sizes(sized(1000), POOL, typed=False)


def test_pretrainings_on_the_whole_pool_have_no_size_to_fit() -> None:
    whole = replace(ONE, task="pretrain", regime="mae", size=0)
    assert checks.fit_sizes([whole, ONE], POOL, typed=False)[0] == [whole, ONE]


def test_an_unknown_dataset_gets_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'fashion_mnist_12k'"):
        checks.summaries([replace(ONE, dataset="fashion_mnist_12")], {})


def check(run: Run, *, allow: bool = False) -> list[str]:
    return checks.check_runs([run], {run.dataset: POOL["own"]}, allow_overlap=allow)


def test_a_regime_that_a_backbone_cannot_take() -> None:
    with pytest.raises(UserError, match=r"resnet_micro can't take the regime 'mae': .*backbones that can: .*vit_micro"):
        check(replace(ONE, backbone="resnet_micro", regime="mae"))


@pytest.mark.parametrize(
    ("field", "value", "near"), [("regime", "simmin", "simmim"), ("protocol", "finetun", "finetune")]
)
def test_unknown_names_get_the_nearest(field: str, value: str, near: str) -> None:
    with pytest.raises(UserError, match=f"did you mean '{near}'"):
        check(replace(ONE, **{field: value}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(head="unet"), "vit_micro can't have the head 'unet': a plain ViT keeps one resolution"),
        (dict(backbone="resnet_micro", head="segvit"), "resnet_micro can't have the head 'segvit'"),
        (dict(head="lineer"), "unknown head 'lineer'; did you mean 'linear'"),
        (dict(protocol="knn"), "the protocol 'knn' can't segment"),
        (dict(backbone="mlp_micro"), "mlp_micro gives no map of an image"),
        (dict(task="classify", head="linear", dataset="mnist"), "a run of task 'classify' has no head"),
    ],
)
def test_a_head_that_does_not_fit_is_refused(fields: dict[str, Any], message: str) -> None:
    run = replace(Run(dataset="shape_masks", backbone="vit_micro", task="segment", size=30), **fields)
    with pytest.raises(UserError, match=message):
        checks.check_runs([run], checks.summaries([run], {}), allow_overlap=False)


def test_imagenet_weights_on_a_set_made_from_imagenet_are_refused_unless_allowed() -> None:
    small = replace(ONE, dataset="tiny_imagenet", regime="weights")
    run = replace(small, weights="deit_tiny_patch16_224", source="deit_tiny_patch16_224")
    file = replace(small, weights="file:0123456789abcdef")  # it does not say what it was trained on
    with pytest.raises(UserError, match="made from imagenet"):
        check(file)
    with pytest.raises(UserError, match=r"made from imagenet.*--allow-overlap"):
        check(run)
    (line,) = check(run, allow=True)
    assert line.startswith("deit_tiny_patch16_224 may hold test images of photos: tiny_imagenet is made from imagenet")
    assert check(replace(run, dataset="cifar10")) == []


def test_a_source_that_holds_the_targets_images_is_refused() -> None:
    run = replace(ONE, dataset="fashion_mnist_12k", regime="supervised", source="fashion_mnist_12k")
    summaries = checks.summaries([run], {})
    with pytest.raises(
        UserError, match="may hold test images of fashion_mnist_12k: fashion_mnist_12k is the target itself"
    ):
        checks.check_runs([run], summaries, allow_overlap=False)


def test_a_source_that_nobody_knows_gets_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown source 'fractal'; did you mean 'fractals'"):
        check(replace(ONE, regime="simmim", source="fractal"))
    check(replace(BEFORE, regime="supervised", source="shapes:position=free"))
    with pytest.raises(UserError, match="unknown position of shapes 'loose'"):
        check(replace(ONE, regime="supervised", source="shapes:position=loose"))


@pytest.mark.parametrize("regime", ["supervised", "formula"])
def test_labels_of_the_target_are_no_source(regime: str) -> None:
    with pytest.raises(
        UserError, match=rf"'{regime}' pretrains with labels, so the target \('pool'\) can't be its source"
    ):
        check(replace(ONE, regime=regime, source="pool"))
    check(replace(BEFORE, regime=regime, source="fractals"))


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (replace(ONE, regime="weights"), "vit_micro weights N=100 .* names no weights; .*--weights"),
        (replace(ONE, regime="mae", source="pool"), "vit_micro mae N=100 .* names no pretraining"),
        (replace(ONE, regime="mae", pretraining=run_id(BEFORE)), "names no source"),
        (replace(ONE, pixel_mean="0.5"), "a normalisation has a mean and a standard deviation, .*give both --mean and"),
        (replace(ONE, pixel_mean="0.5", pixel_std="0.5"), "has a normalisation of weights and no weights"),
        (
            replace(ONE, pixel_mean="0.5", pixel_std="0.5,0.5,0.5"),
            "the mean 0.5 and the standard deviation 0.5,",
        ),
        (replace(ONE, allow_partial_weights=True), "has allow_partial_weights and no weights; .*add --weights"),
        (replace(ONE, weights="deit_tiny"), "the regime 'scratch' does not use weights 'deit_tiny'"),
        (replace(ONE, source="pool"), "the regime 'scratch' does not use source 'pool'"),
        (replace(ONE, pretraining="0123456789ab"), "the regime 'scratch' does not use pretraining '0123456789ab'"),
        (replace(AFTER, weights="deit_tiny"), "the regime 'mae' does not use weights 'deit_tiny'"),
        (replace(BEFORE, source=""), "vit_micro mae pool pretrain .* names no source; give pool, subset, fractals"),
        (replace(BEFORE, regime="scratch", source=""), "the regime 'scratch' has no pretraining; supervised, mae"),
        (replace(BEFORE, weights="deit_tiny"), "a pretraining does not use weights 'deit_tiny'"),
        (replace(BEFORE, source="subset"), "a subset needs a size; .*for all images, use the source pool"),
    ],
)
def test_a_regime_and_what_it_starts_from_go_together(run: Run, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(run)


@pytest.mark.parametrize(
    ("before", "run"),
    [
        (dict(dataset="mnist"), {}),
        (dict(regime="dino"), {}),
        (dict(backbone="vit_mini"), {}),
        (dict(source="folder:ab"), {}),
        (dict(dataset="mnist", source="folder:ab"), dict(source="folder:ab")),  # held against mnist's test images alone
        *((dict(source="subset", size=100), dict(source="subset", **{field: value})) for field, value in SUBSETS),
    ],
)
def test_a_pretraining_that_is_not_what_the_row_says_is_refused(before: dict[str, Any], run: dict[str, Any]) -> None:
    earlier = replace(BEFORE, **before)
    after = replace(AFTER, pretraining=run_id(earlier), **run)
    (field,) = [name for name in {**run, **before} if getattr(earlier, name) != getattr(after, name)]
    message = rf"the pretraining {run_id(earlier)} has {field} '?{getattr(earlier, field)}'?, and vit_micro mae N="
    summaries = dict.fromkeys(("own", "mnist"), POOL["own"])
    with pytest.raises(UserError, match=message):
        checks.check_runs([earlier, after], summaries, allow_overlap=False)
    with pytest.raises(UserError, match=message):
        checks.check_runs([after], summaries, allow_overlap=False, earlier={run_id(earlier): earlier})


def test_a_pretraining_that_is_what_the_row_says_is_taken() -> None:
    drawn = replace(BEFORE, dataset="mnist", regime="formula", source="fractals")  # drawn images are no dataset's
    subset = replace(BEFORE, source="subset", size=100, draw=3)
    for before, changes in (
        (BEFORE, {}),
        (BEFORE, dict(size=50, draw=4)),
        (drawn, dict(regime="formula", source="fractals")),
        (subset, dict(source="subset", draw=3)),
        (replace(subset, manifest="ab"), dict(source="subset", manifest="ab")),  # a manifest takes the draw's place
    ):
        after = replace(AFTER, pretraining=run_id(before), **changes)
        summaries = dict.fromkeys(("own", "mnist"), POOL["own"])
        assert checks.check_runs([before, after], summaries, allow_overlap=False) == []


@pytest.mark.parametrize(
    ("intervention", "message"),
    [
        ("permute_pixel", "did you mean 'permute_pixels'"),
        ("occlude:2", "out of range"),
        ("shuffle_patches:5", "patches of 5 px do not divide a 64x64 image; sides that do: 2, 4, 8"),
        ("permute_patches:7", "do not divide a 64x64 image"),
    ],
)
def test_an_intervention_that_can_not_be_done_is_refused(intervention: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(replace(ONE, intervention=intervention))
    check(replace(ONE, intervention="permute_patches:7", image_size=28))


# --- warnings --------------------------------------------------------------------------------------------------------


def test_few_labels_a_class_are_warned_of_once() -> None:
    (line,) = checks.warnings([*sized(5, 10, 14, 15), *sized(10)], POOL, Rates())
    assert line.startswith("photos: N = 5, 10, 14 are under 5 images a class")


def test_a_patch_grid_under_four_by_four_is_warned_of() -> None:
    (line,) = checks.warnings([replace(ONE, patch=17), replace(ONE, patch=16)], POOL, Rates())
    assert line.startswith("vit_micro: patch 17 cuts 64 px into 3x3 tokens")
    (line,) = checks.warnings([replace(ONE, image_size=58), replace(ONE, image_size=56)], POOL, Rates())
    assert line.startswith("vit_micro: patch 29 cuts 58 px into 2x2 tokens")  # nothing between 2 and 29 divides 58


def test_a_rate_outside_of_the_tuned_range_is_warned_of() -> None:
    known = Rates(rows=[{"backbone": "vit_micro", "trials": [{"learning_rate": 1e-3}, {"learning_rate": 3e-3}]}])
    runs = [replace(ONE, learning_rate=rate) for rate in (1e-3, 3e-3, 4e-3)]
    assert checks.warnings(runs, POOL, known) == [
        "vit_micro: learning rate 0.004 is outside the tuned range, 0.001 to 0.003"
    ]


def test_a_chosen_rate_at_the_edge_of_its_grid_is_reported() -> None:
    def row(backbone: str, size: int, chosen: float, **more: str) -> dict[str, object]:
        trials = [{"learning_rate": rate, "top1": 0.5} for rate in (1e-3, 3e-3, 1e-2)]
        cell = {"backbone": backbone, "regime": "scratch", "recipe": "plain", "size": size, **more}
        return {**cell, "learning_rate": chosen, "trials": trials}

    rows = [row("vit_micro", 100, 3e-3), row("resnet_micro", 100, 1e-2), row("resnet_micro", 3000, 1e-2)]
    assert checks.at_grid_edge(rows) == [
        "the best learning rate was the largest of the grid, so a better one may lie beyond: "
        "resnet_micro scratch at N = 100 and 3000"
    ]
    (line,) = checks.at_grid_edge([row("vit_micro", 100, 1e-3, recipe="strong", intervention="permute_pixels")])
    assert line.startswith("the best learning rate was the smallest")
    assert line.endswith("vit_micro scratch strong permute_pixels at N = 100")
    assert checks.at_grid_edge([{**row("vit_micro", 100, 1e-3), "trials": []}]) == []


def test_datasets_that_are_not_at_hand_are_told_sources_too(tmp_path: Path) -> None:
    runs = [replace(ONE, dataset="cifar10"), replace(ONE, dataset="fashion_mnist_12k", source="tiny_imagenet")]
    lines = checks.absent(runs, str(tmp_path))
    assert [line.split(":")[0] for line in lines] == [f"{n} is not in {tmp_path}" for n in ("cifar10", "tiny_imagenet")]
    (tmp_path / "cifar-10-batches-py").mkdir()
    assert len(checks.absent(runs, str(tmp_path))) == 1


def test_a_slip_in_a_joined_backbones_name_is_told() -> None:
    (line,) = checks.misspelt(["resnet_mirco", "resnet18", "convnext_tiny", "my.module:resnet_mirco"])
    assert line.startswith("resnet_mirco is not one of the lab's backbones (did you mean 'resnet_micro'?)")


def test_the_hold_out_is_what_tuning_must_leave_alone() -> None:
    assert POOL["own"].largest_tuned == 96  # 120 less a fifth
    assert DatasetSummary(name="big", counts=(50_000,), side=32).largest_tuned == 49_000


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(task="tune", size=97), "the largest size that works is 96"),
        (dict(monitor=2, size=97), "the largest size that works is 96"),
        (dict(task="tune", size=60, balanced=True), "the largest size that works is 50"),  # 16 of the rarest class
        (dict(task="tune", size=96, imbalance=20.0), "the largest size that works is 61"),
    ],
)
def test_a_run_that_needs_the_hold_out_and_reaches_into_it_is_refused(changes: dict[str, Any], words: str) -> None:
    run = replace(ONE, **changes)
    with pytest.raises(UserError, match=f"vit_micro .*: size {run.size} reaches into the hold-out of photos; {words}"):
        checks.check_holdout([run], POOL)
    checks.check_holdout([replace(run, size=int(words.split()[-1]))], POOL)


def test_no_other_run_is_held_to_the_hold_out() -> None:
    trial = replace(ONE, task="tune", size=120)
    checks.check_holdout([replace(ONE, size=120), replace(BEFORE, monitor=5)], POOL)
    checks.check_holdout([trial], {"own": replace(POOL["own"], own_holdout=True)})  # its val/ split
    checks.check_holdout([replace(trial, manifest="ab", size=100)], POOL, manifest_length=100)
    with pytest.raises(UserError, match="reaches into the hold-out"):  # the manifest lists the whole pool
        checks.check_holdout([replace(trial, manifest="ab", size=100)], POOL, manifest_length=120)
    with pytest.raises(UserError, match="its pool is too small to have one"):
        checks.check_holdout([replace(trial, size=2)], {"own": DatasetSummary(name="few", counts=(2, 2), side=64)})


BLOCKS = dict(blocks=2, draw=1)


@pytest.mark.parametrize(
    "changes",
    [{}, {"balanced": True}, {"imbalance": 3.0}, {"imbalance": 20.0}, BLOCKS, {**BLOCKS, "balanced": True}],
)
@pytest.mark.parametrize("counts", [(60, 40, 20), (30, 30), (7, 90, 33)])
def test_planning_and_the_selection_of_images_agree_on_the_hold_out(
    counts: tuple[int, ...], changes: dict[str, Any]
) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    for size in range(20, sum(counts), 3):
        run = replace(ONE, task="tune", size=size, **changes)
        try:
            spared = subsets.select(run, labels, "f").holdout is not None
        except UserError:
            continue  # no such subset
        assert (subsets.largest_tuned(run, list(counts)) == size) == spared


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(backbone="pixels"), "pixels has no weights to train, so the protocol 'finetune' can't use it; .*knn"),
        (dict(backbone="pixels", task="tune"), "pixels has no weights to train"),
        (dict(backbone="pixels", protocol="knn", regime="dino", source="pool", pretraining="x"), "it takes scratch"),
        (dict(backbone="pixels", task="pretrain", regime="dino", source="pool", size=0), "it takes scratch"),
        (dict(backbone="pixels", task="pretrain", size=0), "the regime 'scratch' has no pretraining"),
        (dict(backbone="resnet_micro", priors="mean_pooling"), "resnet_micro can't take the prior 'mean_pooling'"),
        (dict(backbone="my.module:vit", priors="mean_pooling"), "my.module:vit can't take the prior"),
        (dict(priors="mean_pooling", regime="weights", weights="file:1", source="w"), "made without; leave the priors"),
    ],
)
def test_what_a_backbone_can_not_do_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        checks.check_runs([replace(ONE, **changes)], POOL, allow_overlap=False)


@pytest.mark.parametrize(
    "changes",
    [
        dict(backbone="pixels", protocol="linear_probe"),
        dict(backbone="pixels", protocol="knn"),
        dict(backbone="resnet_micro", protocol="linear_probe"),  # an untrained backbone, read out
        dict(backbone="mlp_micro"),
        dict(priors="mean_pooling+sincos_positions"),
        dict(backbone="resnet_micro", priors="no_batch_norm"),
    ],
)
def test_controls_are_ordinary_runs(changes: dict[str, Any]) -> None:
    assert checks.check_runs([replace(ONE, **changes)], POOL, allow_overlap=False) == []


def test_a_pretraining_has_the_priors_of_the_runs_that_start_from_it() -> None:
    before = replace(BEFORE, priors="mean_pooling")
    with pytest.raises(UserError, match="has priors 'mean_pooling', and .* has ''"):
        checks.check_runs([before, replace(AFTER, pretraining=run_id(before))], POOL, allow_overlap=False)
    after = replace(AFTER, pretraining=run_id(before), priors="mean_pooling")
    assert checks.check_runs([before, after], POOL, allow_overlap=False) == []


# --- masks -----------------------------------------------------------------------------------------------------------

MASKED = Run(dataset="camvid", backbone="vit_micro", task="segment", size=90)


def test_sizes_of_images_with_masks_are_those_of_the_pool_and_its_blocks() -> None:
    data = checks.summaries([MASKED], {})
    assert (data["camvid"].pool, data["camvid"].largest_tuned, data["camvid"].has_masks) == (367, 294, True)
    runs = [replace(MASKED, size=size, blocks=blocks) for size, blocks in ((367, 0), (368, 0), (122, 3), (123, 3))]
    kept, lines = checks.fit_sizes(runs, data, typed=False)
    assert kept == [runs[0], runs[2]]
    assert lines[0] == "left out: size 368 exceeds the 367 training images of camvid"
    trials = [replace(MASKED, task="tune_segment", size=size, blocks=blocks) for size, blocks in ((294, 0), (98, 3))]
    checks.check_holdout(trials, data)
    for size, blocks, works in ((295, 0, 294), (99, 3, 98)):
        with pytest.raises(UserError, match=f"reaches into the hold-out of camvid; .* is {works}"):
            checks.check_holdout([replace(MASKED, task="tune_segment", size=size, blocks=blocks)], data)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (replace(MASKED, mixup=0.2), "mixup 0.2 can't be used with masks"),
        (replace(MASKED, intervention="permute_pixels"), "it moves pixels"),
        (replace(MASKED, task="classify"), "camvid has masks and no class for an image.*tasks that can: segment$"),
        (replace(MASKED, dataset="mnist"), "mnist has a class for each image and no masks.*tasks that can: classify$"),
    ],
)
def test_what_does_not_fit_masks_is_refused(run: Run, words: str) -> None:
    with pytest.raises(UserError, match=words):
        checks.check_runs([run], checks.summaries([run], {}), allow_overlap=False)
    checks.check_runs([MASKED], checks.summaries([MASKED], {}), allow_overlap=False)

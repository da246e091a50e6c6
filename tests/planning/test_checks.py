"""What planning refuses and warns of."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bias_lab.definition import Run, run_id
from bias_lab.errors import UserError
from bias_lab.planning import checks
from bias_lab.planning.checks import Facts
from bias_lab.planning.learning_rates import Rates

ONE = Run(dataset="own", backbone="vit_micro", size=100)
BEFORE = replace(ONE, task="pretrain", regime="mae", source="pool", size=0)
AFTER = replace(ONE, regime="mae", source="pool", pretraining=run_id(BEFORE))
SUBSETS: list[tuple[str, Any]] = [
    ("size", 50),
    ("draw", 1),
    ("balanced", True),
    ("imbalance", 10.0),
    ("manifest", "ab"),
]
POOL = {"own": Facts(name="photos", counts=(60, 40, 20), side=64)}


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


def test_a_size_below_the_number_of_classes_is_refused() -> None:
    with pytest.raises(UserError, match="size 2 is below the 3 classes of photos"):
        checks.fit_sizes(sized(2), POOL, typed=True)


def test_a_size_that_leaves_a_class_empty_is_refused_with_the_smallest_that_works() -> None:
    rare = {"own": Facts(name="photos", counts=(99, 1), side=64)}
    with pytest.raises(UserError, match="size 3 leaves a class of photos without an image; 100 works"):
        checks.fit_sizes(sized(3), rare, typed=True)


def test_if_no_size_of_the_profile_fits_the_largest_that_works_is_named() -> None:
    with pytest.raises(UserError, match=r"no size of this profile fits photos: 1000, 5000; .*that works is 120"):
        checks.fit_sizes(sized(1000, 5000), POOL, typed=False)


def test_pretrainings_on_the_whole_pool_have_no_size_to_fit() -> None:
    whole = replace(ONE, task="pretrain", regime="mae", size=0)
    assert checks.fit_sizes([whole, ONE], POOL, typed=False)[0] == [whole, ONE]


def test_an_unknown_dataset_gets_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'fashion_mnist_12k'"):
        checks.known([replace(ONE, dataset="fashion_mnist_12")], {})


def refuse(run: Run, *, made_from: tuple[str, ...] = (), allow: bool = False) -> list[str]:
    return checks.refuse([run], {run.dataset: replace(POOL["own"], made_from=made_from)}, allow_overlap=allow)


def test_a_regime_that_a_backbone_cannot_take() -> None:
    with pytest.raises(UserError, match=r"resnet_micro can't take the regime 'mae': .*which can: .*vit_micro"):
        refuse(replace(ONE, backbone="resnet_micro", regime="mae"))


@pytest.mark.parametrize(
    ("field", "value", "near"), [("regime", "simmin", "simmim"), ("protocol", "finetun", "finetune")]
)
def test_unknown_names_get_the_nearest(field: str, value: str, near: str) -> None:
    with pytest.raises(UserError, match=f"did you mean '{near}'"):
        refuse(replace(ONE, **{field: value}))  # type: ignore[arg-type]


def test_imagenet_weights_on_a_set_made_from_imagenet_are_refused_unless_allowed() -> None:
    run = replace(ONE, regime="weights", weights="deit_tiny_patch16_224", source="deit_tiny_patch16_224")
    file = replace(ONE, regime="weights", weights="file:0123456789abcdef")  # it does not say what it was trained on
    with pytest.raises(UserError, match="made from imagenet"):
        refuse(file, made_from=("imagenet",))
    with pytest.raises(UserError, match=r"made from imagenet.*--allow-overlap"):
        refuse(run, made_from=("imagenet",))
    (line,) = refuse(run, made_from=("imagenet",), allow=True)
    assert line.startswith("deit_tiny_patch16_224 has seen images of photos: photos is made from imagenet")
    assert refuse(run, made_from=("wikipedia",)) == []


def test_a_source_that_holds_the_targets_images_is_refused() -> None:
    run = replace(ONE, dataset="fashion_mnist_12k", regime="supervised", source="fashion_mnist_12k")
    facts = checks.known([run], {})
    with pytest.raises(UserError, match="has seen images of fashion_mnist_12k"):
        checks.refuse([run], facts, allow_overlap=False)


def test_a_source_that_nobody_knows_gets_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown source 'fractal'; did you mean 'fractals'"):
        refuse(replace(ONE, regime="simmim", source="fractal"))
    refuse(replace(BEFORE, regime="supervised", source="shapes:position=free"))
    with pytest.raises(UserError, match="unknown position of shapes 'loose'"):
        refuse(replace(ONE, regime="supervised", source="shapes:position=loose"))


@pytest.mark.parametrize("regime", ["supervised", "formula"])
def test_labels_of_the_target_are_no_source(regime: str) -> None:
    with pytest.raises(UserError, match=f"'{regime}' pretrains with labels, and source 'pool' is the target itself"):
        refuse(replace(ONE, regime=regime, source="pool"))
    refuse(replace(BEFORE, regime=regime, source="fractals"))


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (replace(ONE, regime="weights"), "vit_micro weights N=100 .* names no weights; .*--weights"),
        (replace(ONE, regime="mae", source="pool"), "vit_micro mae N=100 .* names no pretraining"),
        (replace(ONE, regime="mae", pretraining=run_id(BEFORE)), "names no source"),
        (replace(ONE, weights="deit_tiny"), "weights 'deit_tiny' means nothing to the regime 'scratch'"),
        (replace(ONE, source="pool"), "source 'pool' means nothing to the regime 'scratch'"),
        (replace(ONE, pretraining="0123456789ab"), "pretraining '0123456789ab' means nothing to the regime 'scratch'"),
        (replace(AFTER, weights="deit_tiny"), "weights 'deit_tiny' means nothing to the regime 'mae'"),
        (replace(BEFORE, source=""), "vit_micro mae pool pretrain .* names no source; pool, subset, fractals"),
        (replace(BEFORE, regime="scratch", source=""), "the regime 'scratch' has no pretraining; supervised, mae"),
        (replace(BEFORE, weights="deit_tiny"), "weights 'deit_tiny' means nothing to a pretraining"),
        (replace(BEFORE, source="subset"), "a subset needs a size; .*source pool is all of them"),
    ],
)
def test_a_regime_and_what_it_starts_from_go_together(run: Run, message: str) -> None:
    with pytest.raises(UserError, match=message):
        refuse(run)


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
    made = replace(BEFORE, **before)
    after = replace(AFTER, pretraining=run_id(made), **run)
    (field,) = [name for name in {**run, **before} if getattr(made, name) != getattr(after, name)]
    message = rf"the pretraining {run_id(made)} has {field} '?{getattr(made, field)}'?, and vit_micro mae N="
    facts = dict.fromkeys(("own", "mnist"), POOL["own"])
    with pytest.raises(UserError, match=message):
        checks.refuse([made, after], facts, allow_overlap=False)
    with pytest.raises(UserError, match=message):
        checks.refuse([after], facts, allow_overlap=False, earlier={run_id(made): made})


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
        facts = dict.fromkeys(("own", "mnist"), POOL["own"])
        assert checks.refuse([before, after], facts, allow_overlap=False) == []


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
        refuse(replace(ONE, intervention=intervention))
    refuse(replace(ONE, intervention="permute_patches:7", image_size=28))


# --- warnings --------------------------------------------------------------------------------------------------------


def test_few_labels_a_class_are_warned_of_once() -> None:
    (line,) = checks.warnings([*sized(5, 10, 14, 15), *sized(10)], POOL, Rates())
    assert line.startswith("photos: N = 5, 10, 14 are under 5 images a class")


def test_a_patch_grid_under_four_by_four_is_warned_of() -> None:
    (line,) = checks.warnings([replace(ONE, patch=17), replace(ONE, patch=16)], POOL, Rates())
    assert line.startswith("vit_micro: patch 17 makes 3x3 tokens of 64 px")
    (line,) = checks.warnings([replace(ONE, image_size=58), replace(ONE, image_size=56)], POOL, Rates())
    assert line.startswith("vit_micro: patch 29 makes 2x2 tokens of 58 px")  # nothing between 2 and 29 divides 58


def test_a_rate_outside_of_the_tuned_range_is_warned_of() -> None:
    known = Rates(rows=[{"backbone": "vit_micro", "trials": [{"learning_rate": 1e-3}, {"learning_rate": 3e-3}]}])
    runs = [replace(ONE, learning_rate=rate) for rate in (1e-3, 3e-3, 4e-3)]
    assert checks.warnings(runs, POOL, known) == [
        "vit_micro: learning rate 0.004 is outside of the tuned range, 0.001 to 0.003"
    ]


def test_a_chosen_rate_at_the_edge_of_its_grid_is_told() -> None:
    def row(backbone: str, size: int, chosen: float, **more: str) -> dict[str, object]:
        trials = [{"learning_rate": rate, "top1": 0.5} for rate in (1e-3, 3e-3, 1e-2)]
        cell = {"backbone": backbone, "regime": "scratch", "recipe": "plain", "size": size, **more}
        return {**cell, "learning_rate": chosen, "trials": trials}

    rows = [row("vit_micro", 100, 3e-3), row("resnet_micro", 100, 1e-2), row("resnet_micro", 3000, 1e-2)]
    assert checks.edges(rows) == [
        "the largest learning rate that was tried won, and a better one may lie beyond: "
        "resnet_micro scratch at N = 100 and 3000"
    ]
    (line,) = checks.edges([row("vit_micro", 100, 1e-3, recipe="strong", intervention="permute_pixels")])
    assert line.startswith("the smallest")
    assert line.endswith("vit_micro scratch strong permute_pixels at N = 100")
    assert checks.edges([{**row("vit_micro", 100, 1e-3), "trials": []}]) == []


def test_datasets_that_are_not_at_hand_are_told_sources_too(tmp_path: Path) -> None:
    runs = [replace(ONE, dataset="cifar10"), replace(ONE, dataset="fashion_mnist_12k", source="tiny_imagenet")]
    lines = checks.absent(runs, str(tmp_path))
    assert [line.split(":")[0] for line in lines] == [f"{n} is not in {tmp_path}" for n in ("cifar10", "tiny_imagenet")]
    (tmp_path / "cifar-10-batches-py").mkdir()
    assert len(checks.absent(runs, str(tmp_path))) == 1


def test_a_slip_in_a_joined_backbones_name_is_told() -> None:
    (line,) = checks.misspelt(["resnet_mirco", "resnet18", "convnext_tiny", "my.module:resnet_mirco"])
    assert line.startswith("resnet_mirco is no backbone of the lab's (did you mean 'resnet_micro'?)")


def test_the_hold_out_is_what_tuning_must_leave_alone() -> None:
    assert POOL["own"].largest_tuned == 96  # 120 less a fifth
    assert Facts(name="big", counts=(50_000,), side=32).largest_tuned == 49_000

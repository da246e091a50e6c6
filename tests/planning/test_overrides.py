"""Test overrides of an experiment's runs, and the new ids of the pretrainings that they name."""

from dataclasses import replace

import pytest

from bias_lab.definition import TUNED, Run, grid, recipe, run_id
from bias_lab.errors import UserError
from bias_lab.planning import overrides
from bias_lab.planning.checks import DatasetSummary

ONE = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100, samples_seen=640)


def pretraining(**changes: object) -> Run:
    return replace(ONE, task="pretrain", regime="mae", source="pool", size=0, **changes)  # type: ignore[arg-type]


def after(before: Run, **changes: object) -> Run:
    return replace(ONE, regime="mae", source=before.source, pretraining=run_id(before), **changes)  # type: ignore[arg-type]


def test_a_changed_pretraining_is_named_by_its_new_id() -> None:
    before = pretraining()
    runs = overrides.on_data([after(before), before], "folder:abc", 64)
    moved = next(run for run in runs if run.task == "pretrain")
    assert moved.dataset == "folder:abc"
    assert run_id(moved) != run_id(before)
    assert [run.pretraining for run in runs if run.task == "classify"] == [run_id(moved)]


def test_a_pretraining_that_is_not_in_the_plan_keeps_its_name() -> None:
    (run,) = overrides.on_data([after(pretraining())], "folder:abc", 64)
    assert run.pretraining == run_id(pretraining())


def test_two_datasets_become_one_folder_and_equal_runs_one() -> None:
    runs = overrides.on_data([ONE, replace(ONE, dataset="cifar10")], "folder:abc", 32)
    assert len(runs) == 1
    assert (runs[0].image_size, runs[0].drop_duplicates) == (32, True)


def test_other_data_choose_the_patch_anew_but_not_one_that_was_typed() -> None:
    given = replace(ONE, patch=16, window=7)
    (anew,) = overrides.on_data([given], "folder:abc", 96)
    assert (anew.patch, anew.window) == (None, None)
    (kept,) = overrides.on_data([given], "folder:abc", 96, typed=("patch",))
    assert (kept.patch, kept.window) == (16, None)


def test_other_data_at_the_size_of_an_experiment_keep_its_patches() -> None:
    given = replace(ONE, image_size=96, patch=16)
    assert [run.patch for run in overrides.on_data([given], "folder:abc", 96)] == [16]
    assert [run.patch for run in overrides.on_data([given], "folder:abc", 64)] == [None]
    assert [run.patch for run in overrides.on_data([replace(given, image_size=None)], "folder:abc", None)] == [None]


def test_other_data_keep_the_patches_that_an_experiment_compares() -> None:
    both = [replace(ONE, patch=16, window=7), replace(ONE, patch=8, window=7)]
    kept = overrides.on_data(both, "folder:abc", 96)
    assert [(run.patch, run.window) for run in kept] == [(16, None), (8, None)]


def test_a_recipe_for_all_leaves_pretrainings_alone_and_keeps_their_ids() -> None:
    before = pretraining()
    runs = overrides.with_recipe([before, after(before)], "strong")
    assert runs[0] == before
    assert runs[1].recipe == "strong"
    assert runs[1].mixup == recipe("strong")["mixup"]


def test_plain_takes_a_strong_cell_back_to_the_defaults() -> None:
    assert overrides.with_recipe([replace(ONE, **recipe("strong"))], "plain") == [ONE]


def test_set_names_the_recipe_after_what_changed() -> None:
    (run,) = overrides.with_fields([ONE], {"mixup": 0.2, "batch_size": 16})
    assert (run.mixup, run.batch_size) == (0.2, 16)
    assert run.recipe == "plain+batch_size=16+mixup=0.2"


def test_set_to_the_value_it_had_changes_nothing() -> None:
    assert overrides.with_fields([ONE], {"mixup": 0.0}) == [ONE]


def test_set_of_a_field_with_a_column_of_its_own_is_not_in_the_name() -> None:
    (run,) = overrides.with_fields([ONE], {"intervention": "permute_pixels", "budget": 2.0, "priors": "mean_pooling"})
    assert run.recipe == "plain"


@pytest.mark.parametrize(
    ("field", "way_out"),
    [
        ("size", "--sizes"),
        ("backbone", "--backbone"),
        ("task", "experiment"),
        ("source", "--source of `bias-lab train`, or .* the experiment file"),  # a pretraining's, which stays as it is
        ("mask_ratio", "experiment"),
    ],
)
def test_set_refuses_what_has_a_flag_or_follows(field: str, way_out: str) -> None:
    with pytest.raises(UserError, match=way_out):
        overrides.with_fields([ONE], {field: "x"})


# --- join ------------------------------------------------------------------------------------------------------------


def test_fields_about_weights_reach_the_runs_that_start_from_weights() -> None:
    scratch = replace(ONE, learning_rate=1e-3)
    start = replace(scratch, regime="weights", weights="resnet18", source="resnet18")
    fields = {"allow_partial_weights": True, "pixel_mean": "0.5", "pixel_std": "0.25"}
    assert overrides.started([scratch, start], fields) == [scratch, replace(start, **fields)]
    assert overrides.started([scratch], {}) == [scratch]
    with pytest.raises(UserError, match=r"--mean and --std: no run starts from weights; .*--weights"):
        overrides.started([scratch], {"pixel_mean": "0.5", "pixel_std": "0.25"})


def test_a_backbone_joins_every_distinct_scratch_cell_beside_its_first_run() -> None:
    before = pretraining()
    cells = grid(ONE, backbone=("vit_micro", "resnet_micro"), draw=(0, 1))
    tuning = replace(ONE, task="tune", learning_rate=1e-3)
    runs = [*cells, before, after(before), replace(ONE, budget=3.0), replace(ONE, **recipe("strong")), tuning]
    refused = {"mine:net": ("mae",)}
    mine = [run for run in overrides.join(runs, {"mine:net": "beef"}, refused) if run.backbone == "mine:net"]
    assert [(run.draw, run.budget, run.recipe) for run in mine] == [
        (0, 1, "plain"),
        (1, 1, "plain"),
        (0, 3, "plain"),
        (0, 1, "strong"),
    ]
    assert {run.backbone_source for run in mine} == {"beef"}
    joined = overrides.join(runs, {"mine:net": "beef"}, refused)
    assert joined[1] == mine[0]
    assert [run for run in joined if run.backbone != "mine:net"] == runs  # finished runs keep their ids


def test_a_backbone_joins_the_pretrained_cells_that_it_can_take_with_a_pretraining_of_its_own() -> None:
    runs = []
    for regime in ("mae", "dino"):
        before = pretraining(seed=1, patch=7)
        before = replace(before, regime=regime)
        runs += [before, replace(after(before), regime=regime, learning_rate=1e-2)]
    joined = overrides.join(runs, {"mine:net": "beef"}, {"mine:net": {"mae"}})
    mine = [run for run in joined if run.backbone == "mine:net"]
    assert [(run.task, run.regime, run.seed, run.patch) for run in mine] == [
        ("pretrain", "dino", 1, None),
        ("classify", "dino", ONE.seed, None),
    ]
    assert mine[1].pretraining == run_id(mine[0])
    assert mine[1].learning_rate is None
    assert [run for run in joined if run.backbone != "mine:net"] == runs


def test_a_method_joins_what_is_fine_tuned_without_a_pretraining() -> None:
    before = pretraining()
    cells = grid(ONE, draw=(0, 1))
    probe = replace(ONE, protocol="linear_probe")
    tuning = replace(ONE, task="tune", learning_rate=1e-3)
    runs = [*cells, before, after(before), probe, tuning]
    joined = overrides.join_methods(runs, {"mine:Loss": "beef"})
    assert [run for run in joined if not run.method] == runs
    assert [(run.draw, run.method_source, run.learning_rate) for run in joined if run.method] == [
        (0, "beef", None),
        (1, "beef", None),
    ]
    with pytest.raises(UserError, match="mine:Loss can't be added"):
        overrides.join_methods([probe], {"mine:Loss": "beef"})


def test_what_belongs_to_another_backbone_is_not_inherited() -> None:
    runs = overrides.join([replace(ONE, patch=7, priors="mean_pooling", learning_rate=1e-2)], {"resnet18": ""})
    assert (runs[1].patch, runs[1].priors, runs[1].learning_rate) == (None, "", None)


def test_an_experiment_without_scratch_cells_has_no_place_for_it() -> None:
    with pytest.raises(UserError, match="no cell that it can take"):
        overrides.join([pretraining()], {"resnet18": ""})


# --- sizes, draws, seeds ---------------------------------------------------------------------------------------------

PAIRS = [replace(ONE, draw=k, seed=k) for k in range(3)]


def pairs_of(runs: list[Run]) -> list[tuple[int, int]]:
    return [(run.draw, run.seed) for run in runs]


def test_nothing_typed_changes_nothing() -> None:
    assert overrides.override(PAIRS) == PAIRS


def test_zero_is_a_value() -> None:
    assert pairs_of(overrides.override(PAIRS, draws=(0,), seeds=(0,))) == [(0, 0)]
    assert pairs_of(overrides.override(PAIRS, seeds=(0,))) == [(0, 0)]


def test_draws_and_seeds_typed_are_a_product() -> None:
    assert pairs_of(overrides.override(PAIRS, draws=(0, 1), seeds=(5, 6))) == [(0, 5), (0, 6), (1, 5), (1, 6)]


def test_paired_replicates_stay_pairs_and_keep_those_that_were_there() -> None:
    more = overrides.override(PAIRS, draws=(0, 1, 2, 3))
    assert set(pairs_of(more)) == {(0, 0), (1, 1), (2, 2), (3, 0)}
    assert set(PAIRS) < set(more)


def test_a_product_of_draws_and_seeds_stays_a_product() -> None:
    runs = list(grid(ONE, draw=(0, 1), seed=(0, 1)))
    assert set(pairs_of(overrides.override(runs, seeds=(7,)))) == {(0, 7), (1, 7)}


def test_a_new_size_takes_its_budget_from_the_nearest_in_log() -> None:
    runs = [ONE, replace(ONE, size=10_000, samples_seen=9000)]
    changed = overrides.override(runs, sizes=(90, 1001))
    assert [(run.size, run.samples_seen) for run in changed] == [(90, 640), (1001, 9000)]


def test_every_cell_gets_the_typed_sizes_and_the_order_is_the_experiments() -> None:
    runs = [*grid(ONE, backbone=("vit_micro", "resnet_micro")), replace(ONE, budget=3.0)]
    changed = overrides.override(runs, sizes=(20, 50))
    assert [(run.backbone, run.budget, run.size) for run in changed] == [
        ("vit_micro", 1, 20),
        ("vit_micro", 1, 50),
        ("resnet_micro", 1, 20),
        ("resnet_micro", 1, 50),
        ("vit_micro", 3, 20),
        ("vit_micro", 3, 50),
    ]


def test_a_shared_pretraining_stays_shared() -> None:
    before = pretraining()
    runs = [before, *(after(before, draw=k, seed=k) for k in range(2))]
    changed = overrides.override(runs, seeds=(5, 6))
    assert [run for run in changed if run.task == "pretrain"] == [before]
    assert {run.pretraining for run in changed if run.task == "classify"} == {run_id(before)}


def test_one_pretraining_a_seed_follows_the_seeds() -> None:
    def both(*seeds: int) -> list[Run]:
        return [run for seed in seeds for run in (pretraining(seed=seed), after(pretraining(seed=seed), seed=seed))]

    assert overrides.override(both(0, 1), seeds=(5, 6)) == both(5, 6)


def test_a_pretraining_on_the_subset_follows_the_size() -> None:
    before = replace(pretraining(), source="subset", size=100)
    changed = overrides.override([before, after(before)], sizes=(50,))
    assert [run.size for run in changed] == [50, 50]
    assert changed[1].pretraining == run_id(changed[0])


def test_a_manifest_is_one_draw_and_replicates_become_seeds() -> None:
    changed = overrides.to_manifest([replace(ONE, draw=k) for k in range(3)], "abcd")
    assert pairs_of(changed) == [(0, 0), (0, 1), (0, 2)]
    assert {run.manifest for run in changed} == {"abcd"}


def test_a_pretraining_is_never_after_those_that_wait_for_it() -> None:
    before = pretraining()
    assert overrides.in_order([ONE, after(before), before]) == [ONE, before, after(before)]
    assert overrides.in_order([before, ONE, after(before)]) == [before, ONE, after(before)]


def test_controls_that_differ_in_images_seen_keep_their_runs_at_every_typed_size() -> None:
    long, none = pretraining(samples_seen=40_000), pretraining(samples_seen=0)
    longer = replace(ONE, samples_seen=41_000)
    runs = [ONE, long, after(long), none, after(none), longer]
    changed = overrides.override(runs, sizes=(50, 200))
    assert sorted((run.size, run.samples_seen) for run in changed if run.regime == "scratch") == [
        (50, 640), (50, 41_000), (200, 640), (200, 41_000),
    ]  # fmt: skip
    starts = {(run.size, run.pretraining) for run in changed if run.task == "classify" and run.pretraining}
    assert starts == {(size, run_id(before)) for size in (50, 200) for before in (long, none)}
    assert {run_id(run) for run in changed if run.task == "pretrain"} == {run_id(long), run_id(none)}


def test_the_fewest_images_at_one_size_belong_with_the_fewest_at_another() -> None:
    runs = [replace(ONE, size=size, samples_seen=seen) for size, seen in
            ((100, 640), (100, 5640), (1000, 6400), (1000, 11_400))]  # fmt: skip
    changed = overrides.override(runs, sizes=(90, 1100))
    assert {(run.size, run.samples_seen) for run in changed} == {
        (90, 640), (90, 5640), (1100, 6400), (1100, 11_400),
    }  # fmt: skip


@pytest.mark.parametrize(("pool", "blocks"), [((30, 30), 3), ((20, 20), 0), ((58, 2), 0)])
def test_draws_overlap_where_the_pool_is_too_small_for_disjoint_ones_and_that_is_printed(
    pool: tuple[int, ...], blocks: int
) -> None:
    runs = grid(replace(ONE, size=20, blocks=3), draw=range(3))
    changed, lines = overrides.fit_blocks(runs, {ONE.dataset: DatasetSummary(name="photos", counts=pool, side=28)})
    assert [(run.draw, run.blocks) for run in changed] == [(draw, blocks) for draw in range(3)]
    assert lines == (
        []
        if blocks
        else [f"N = 20: 3 disjoint draws don't fit the {sum(pool)} training images of photos, so draws overlap"]
    )


def test_a_joined_backbone_takes_no_cell_of_a_control() -> None:
    runs = [replace(ONE, protocol="linear_probe"), replace(ONE, backbone="pixels", protocol="knn")]
    joined = overrides.join(runs, {"mine:net": "x"})
    assert [(run.backbone, run.protocol) for run in joined if run.backbone == "mine:net"] == [
        ("mine:net", "linear_probe")
    ]


def test_a_recipe_that_the_hold_out_chooses_is_not_changed_before_it_is_chosen() -> None:
    run = Run(dataset="mnist", backbone="vit_micro", size=100, **recipe(TUNED), samples_seen=None)
    with pytest.raises(UserError, match="--set mixup=… changes a recipe, .*; name the one to change: --recipe"):
        overrides.with_fields([run], {"mixup": 0.2})
    assert overrides.with_fields(overrides.with_recipe([run], "plain"), {"mixup": 0.2})[0].recipe == "plain+mixup=0.2"

"""Test runs as plain values: pinned ids, JSON both ways, and grids that check their names."""

from dataclasses import FrozenInstanceError, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bias_lab.definition import (
    FIELDS,
    RECIPES,
    Experiment,
    Run,
    choose_profile,
    from_json,
    grid,
    levels,
    pretrains,
    recipe,
    run_id,
    steps,
    to_json,
)
from bias_lab.errors import UserError

ONE = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100)

RUNS = st.builds(
    Run,
    dataset=st.sampled_from(["fashion_mnist_12k", "folder:ab12"]),
    backbone=st.sampled_from(["vit_micro", "my.module:factory"]),
    size=st.integers(1, 10**6),
    draw=st.integers(0, 2000),
    seed=st.integers(0, 2000),
    learning_rate=st.none() | st.floats(1e-6, 1, allow_nan=False),
    mixup=st.floats(0, 2, allow_nan=False),
    budget=st.sampled_from([1.0, 3.0, 0.5]),
    flip=st.booleans(),
    patch=st.none() | st.integers(1, 16),
)


@given(RUNS)
def test_json_both_ways_keeps_the_run_and_its_id(run: Run) -> None:
    again = from_json(to_json(run))
    assert again == run
    assert run_id(again) == run_id(run)


def test_ids_are_pinned() -> None:
    # golden: a change here orphans every finished run of every user
    assert run_id(ONE) == "80389acc4cc6"
    assert run_id(replace(ONE, seed=1, budget=3.0, learning_rate=1e-3)) == "13cfb3b88149"


def test_fields_at_their_default_do_not_enter_the_id() -> None:
    assert to_json(ONE) == {"dataset": "fashion_mnist_12k", "backbone": "vit_micro", "size": 100}
    assert run_id(replace(ONE, draw=0, mixup=0.0)) == run_id(ONE)


NAMED = {  # another value of a field that does not take any text
    "precision": "bf16",
    "optimizer": "muon",
    "teacher_schedule": "steps",
    "priors": "mean_pooling",
    "pixel_mean": "0.5",
    "pixel_std": "0.5",
}


def test_every_field_enters_the_id() -> None:
    other = {int: 7, float: 0.5, bool: None, str: "x"}
    for field in fields(Run):
        value = getattr(ONE, field.name)
        if isinstance(value, bool):
            changed = not value
        elif field.name == "task":
            changed = "tune"
        elif field.name in NAMED:
            changed = NAMED[field.name]
        elif field.name == "imbalance":
            changed = 10.0
        elif value is None:
            changed = "s" if "str" in str(field.type) else 8
        else:
            changed = other[type(value)]
        assert run_id(replace(ONE, **{field.name: changed})) != run_id(ONE), field.name


@pytest.mark.parametrize("text", ["0.5,0.5", "red", "1.5,0.5,0.5", "nan", "0.5,,0.5"])
def test_a_mean_is_a_value_for_each_channel(text: str) -> None:
    assert levels("0.485,0.456,0.406") == (0.485, 0.456, 0.406)
    assert levels("0") == (0.0,)
    with pytest.raises(UserError, match="is not a value from 0 to 1 for each channel"):
        replace(ONE, pixel_mean=text)


def test_a_standard_deviation_is_positive() -> None:
    with pytest.raises(UserError, match=r"the standard deviation 0.5,0,0.5 is not positive"):
        replace(ONE, pixel_std="0.5,0,0.5")


def test_one_and_one_point_nought_are_one_run() -> None:
    assert run_id(from_json({**to_json(ONE), "budget": 3})) == run_id(replace(ONE, budget=3.0))


def test_a_manifest_goes_with_images_whose_duplicates_left_when_they_were_indexed() -> None:
    for own in ("folder:ab12", "table:ab12"):
        assert replace(ONE, dataset=own, manifest="beef", drop_duplicates=True).manifest
    with pytest.raises(UserError, match="drop_duplicates"):
        replace(ONE, dataset="shapes:cue=texture", manifest="beef", drop_duplicates=True)


def test_a_run_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        ONE.size = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(size=-1), "size -1 is negative"),
        (dict(size=0), "needs a size"),
        (dict(task="classfy"), "did you mean 'classify'"),
        (dict(samples_seen=0), "samples_seen 0 is below 1"),
        (dict(mask_ratio=1.0), r"outside \[0, 1\)"),
        (dict(budget=0.0), "not positive"),
        (dict(learning_rate=0.0), "not positive"),
        (dict(learning_rate=float("nan")), "not positive"),
        (dict(label_noise=1.0), "label_noise"),
        (dict(imbalance=0.5), "imbalance"),
        (dict(manifest="beef", balanced=True), "leave balanced and imbalance out"),
        (dict(manifest="beef", imbalance=10.0), "leave balanced and imbalance out"),
        (dict(manifest="beef", drop_duplicates=True), "a manifest numbers all images of fashion_mnist_12k"),
        (dict(drop_path=1.0), r"drop_path 1.0 is outside \[0, 1\)"),
        (dict(label_smoothing=2.0), "label_smoothing 2.0"),
        (dict(ema=1.0), "ema 1.0"),
        (dict(warmup=3.0), r"warmup 3.0 is outside \[0, 1\]"),
        (dict(erasing=2.0), "erasing 2.0"),
        (dict(resized_crop=1.5), "resized_crop 1.5"),
        (dict(crop=-1), "crop -1 is negative"),
        (dict(mixup=float("nan")), "mixup nan"),
        (dict(weight_decay=-0.1), "weight_decay -0.1 is negative"),
        (dict(randaugment=31), "randaugment 31 is outside 0 to 30"),
        (dict(layer_decay=0.0), r"layer_decay 0.0 is outside \(0, 1\]"),
        (dict(precision="fp16"), "unknown precision 'fp16'"),
        (dict(priors="mean_poling"), "unknown prior 'mean_poling'; did you mean 'mean_pooling'"),
        (dict(priors="sincos_positions+mean_pooling"), r"not sorted; write mean_pooling\+sincos_positions"),
    ],
)
def test_impossible_values_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        replace(ONE, **changes)


def test_grid_is_the_product_in_order() -> None:
    runs = grid(ONE, size=(10, 20), seed=(0, 1))
    assert [(run.size, run.seed) for run in runs] == [(10, 0), (10, 1), (20, 0), (20, 1)]


def test_grid_names_a_misspelt_axis_and_a_bare_value() -> None:
    with pytest.raises(UserError, match="unknown field 'szie'; did you mean 'size'"):
        grid(ONE, szie=(1,))
    with pytest.raises(UserError, match="is one value"):
        grid(ONE, size=100)
    with pytest.raises(UserError, match="is one value"):
        grid(ONE, backbone="vit_micro")


def test_the_axis_replicate_sets_draw_and_seed_in_its_place_of_the_order() -> None:
    runs = grid(ONE, size=(10, 20), replicate=((0, 3), (1, 4)), backbone=("vit_micro", "resnet_micro"))
    assert [(run.size, run.draw, run.seed, run.backbone[:3]) for run in runs] == [
        (10, 0, 3, "vit"), (10, 0, 3, "res"), (10, 1, 4, "vit"), (10, 1, 4, "res"),
        (20, 0, 3, "vit"), (20, 0, 3, "res"), (20, 1, 4, "vit"), (20, 1, 4, "res"),
    ]  # fmt: skip


@pytest.mark.parametrize("values", [(0, 1), ((0,), (1,)), ("00", "11")])
def test_the_axis_replicate_holds_pairs(values: tuple) -> None:
    with pytest.raises(UserError, match=r"is not a pair \(draw, seed\)"):
        grid(ONE, replicate=values)


def test_replicate_and_draw_are_not_both_axes() -> None:
    with pytest.raises(UserError, match="the axis replicate sets draw and seed"):
        grid(ONE, replicate=((0, 0),), draw=(0, 1))
    with pytest.raises(UserError, match="unknown field 'replicates'; did you mean 'replicate'"):
        grid(ONE, replicates=((0, 0),))


def test_an_unknown_profile_gets_the_nearest() -> None:
    assert choose_profile({"smoke": 1, "laptop": 2}, "laptop") == 2
    with pytest.raises(UserError, match="unknown profile 'labtop'; did you mean 'laptop'"):
        choose_profile({"smoke": 1, "laptop": 2}, "labtop")


def test_a_pretraining_is_evaluated_on_nothing() -> None:
    assert pretrains(Run(dataset="d", backbone="b", task="pretrain"))
    assert not pretrains(ONE)
    assert not pretrains(replace(ONE, task="tune"))


def test_two_equal_runs_are_an_error() -> None:
    with pytest.raises(UserError, match="two equal runs"):
        Experiment(question="?", runs=(ONE, replace(ONE)))


def test_from_json_refuses_what_it_does_not_know() -> None:
    with pytest.raises(UserError, match="did you mean 'backbone'"):
        from_json({"dataset": "d", "bakbone": "b"})
    with pytest.raises(UserError, match="lacks backbone"):
        from_json({"dataset": "d"})
    with pytest.raises(UserError, match="not of type int"):
        from_json({"dataset": "d", "backbone": "b", "size": "100"})


def test_recipes_set_fields_of_the_run() -> None:
    assert recipe("plain") == {"recipe": "plain"}
    for name, changes in RECIPES.items():
        assert set(changes) <= set(FIELDS)
        assert replace(ONE, **recipe(name)).recipe == name
    with pytest.raises(UserError, match="did you mean 'strong'"):
        recipe("stong")


def test_steps_round_up_to_whole_batches() -> None:
    assert steps(replace(ONE, samples_seen=100, batch_size=32)) == 4
    assert steps(replace(ONE, samples_seen=96, batch_size=32)) == 3
    assert steps(replace(ONE, samples_seen=96, batch_size=32, budget=3.0)) == 9


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(draw=3), "draw 3 is none of 3 blocks; 0 to 2"),
        (dict(manifest="ab"), "a manifest names its images itself; leave blocks out"),
        (dict(task="pretrain", size=0), "a run without a size reads no block; leave blocks out"),
        (dict(blocks=-1), "blocks -1 is negative"),
    ],
)
def test_blocks_that_make_no_sense_are_refused(changes: dict, words: str) -> None:
    with pytest.raises(UserError, match=words):
        replace(ONE, **{"size": 100, "blocks": 3, **changes})
    assert run_id(replace(ONE, blocks=0)) == run_id(ONE)
    assert len({run_id(replace(ONE, size=100, blocks=3, draw=draw)) for draw in range(3)}) == 3


def test_a_number_that_is_given_as_text_is_named() -> None:
    with pytest.raises(UserError, match="size is the text '20'; it must be a number"):
        Run(dataset="mnist", backbone="vit_micro", size="20")  # type: ignore[arg-type]

"""Runs as plain values: ids that are pinned, JSON both ways, grids that check their names."""

from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bias_lab.definition import (
    FIELDS,
    RECIPES,
    Experiment,
    Run,
    Settings,
    as_dict,
    from_json,
    grid,
    label,
    parse_field,
    read_experiment,
    recipe,
    run_id,
    steps,
    to_json,
)
from bias_lab.errors import UserError

ONE = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100)
EXPERIMENTS = Path(__file__).parent.parent / "experiments"

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


def test_every_field_enters_the_id() -> None:
    other = {int: 7, float: 0.5, bool: None, str: "x"}
    for field in fields(Run):
        value = getattr(ONE, field.name)
        if isinstance(value, bool):
            changed = not value
        elif field.name == "task":
            changed = "tune"
        elif field.name == "precision":
            changed = "bf16"
        elif field.name == "imbalance":
            changed = 10.0
        elif value is None:
            changed = "s" if "str" in str(field.type) else 8
        else:
            changed = other[type(value)]
        assert run_id(replace(ONE, **{field.name: changed})) != run_id(ONE), field.name


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
    ("changes", "said"),
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
        (dict(manifest="beef", drop_duplicates=True), "a manifest counts all images of fashion_mnist_12k"),
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
    ],
)
def test_impossible_values_are_refused(changes: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
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


def test_two_equal_runs_are_an_error() -> None:
    with pytest.raises(UserError, match="two equal runs"):
        Experiment(question="?", runs=(ONE, replace(ONE)))


def test_from_json_refuses_what_it_does_not_know() -> None:
    with pytest.raises(UserError, match="did you mean 'backbone'"):
        from_json({"dataset": "d", "bakbone": "b"})
    with pytest.raises(UserError, match="without backbone"):
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
    ("text", "expected"),
    [
        ("mixup=0.2", ("mixup", 0.2)),
        ("batch_size=8", ("batch_size", 8)),
        ("flip=false", ("flip", False)),
        ("patch=none", ("patch", None)),
        ("patch=7", ("patch", 7)),
        ("learning_rate=1e-3", ("learning_rate", 1e-3)),
        ("intervention=permute_pixels", ("intervention", "permute_pixels")),
        ("seed=0", ("seed", 0)),
    ],
)
def test_fields_from_the_command_line(text: str, expected: tuple) -> None:
    assert parse_field(text) == expected


@pytest.mark.parametrize("text", ["mixup", "mixpu=1", "batch_size=x", "flip=maybe", "mixup=nan", "batch_size=1.5"])
def test_fields_that_cannot_be_read_are_one_line(text: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_field(text)
    assert "class" not in str(caught.value)


def test_label_tells_a_run_from_its_neighbours() -> None:
    assert label(ONE) == "vit_micro scratch N=100 draw 0 seed 0"
    assert "3x budget" in label(replace(ONE, budget=3.0))
    assert "strong" in label(replace(ONE, **recipe("strong")))


@pytest.mark.parametrize("profile", ["smoke", "laptop", "full"])
def test_the_main_experiment_is_paired_and_matched(profile: str) -> None:
    runs = [run for run in read_experiment(EXPERIMENTS / "small_data.py", profile).runs if run.task == "classify"]
    for budget, recipe_, dataset in {(run.budget, run.recipe, run.dataset) for run in runs}:
        arm = [run for run in runs if (run.budget, run.recipe, run.dataset) == (budget, recipe_, dataset)]
        for size in {run.size for run in arm}:
            here = [run for run in arm if run.size == size]
            assert len({(run.samples_seen, run.batch_size) for run in here}) == 1, "equal images seen at a size"
            replicates = {
                name: {(r.draw, r.seed) for r in here if r.backbone == name} for name in {r.backbone for r in here}
            }
            assert len({frozenset(pairs) for pairs in replicates.values()}) == 1, (
                "the same replicates for every backbone"
            )
    assert len({run.size for run in runs}) >= {"smoke": 2, "laptop": 4, "full": 8}[profile]
    assert len({(run.draw, run.seed) for run in runs}) == {"smoke": 1, "laptop": 3, "full": 9}[profile]


def test_tuning_uses_a_grid_for_all_and_no_draw_of_the_sweep() -> None:
    sweep = read_experiment(EXPERIMENTS / "small_data.py", "laptop").runs
    trials = [run for run in read_experiment(EXPERIMENTS / "tuning.py", "laptop").runs if run.task == "tune"]
    assert {run.backbone for run in trials} == {run.backbone for run in sweep}
    assert {run.draw for run in trials} | {run.seed for run in trials} == {1000}
    arms: dict[Run, list[float | None]] = {}
    for run in trials:
        arms.setdefault(replace(run, learning_rate=None), []).append(run.learning_rate)
    assert all(sorted(tried) == [3e-4, 1e-3, 3e-3, 1e-2] for tried in arms.values())


def test_an_experiment_file_that_is_not_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean '.*small_data.py'"):
        read_experiment(EXPERIMENTS / "smal_data.py", "laptop")
    with pytest.raises(UserError, match="did you mean 'laptop'"):
        read_experiment(EXPERIMENTS / "small_data.py", "labtop")
    empty = tmp_path / "empty.py"
    empty.write_text("x = 1\n")
    with pytest.raises(UserError, match="defines no experiment"):
        read_experiment(empty, "laptop")
    empty.write_text("def experiment(profile):\n    return 3\n")
    with pytest.raises(UserError, match="gave int"):
        read_experiment(empty, "laptop")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\ndef experiment(profile:\n", "line 2: '.' was never closed"),
        ("x = 1\ny = nothing\n", "line 2: NameError: name 'nothing' is not defined"),
        ("def experiment(profile):\n    return {}[profile]\n", "line 2: KeyError: 'laptop'"),
        ("import no_such_thing\n", "line 1: ModuleNotFoundError: No module named 'no_such_thing'"),
        (
            "from bias_lab.definition import Run, grid\ngrid(Run(dataset='a', backbone='b', size=1), szie=(1,))\n",
            "szie",
        ),
    ],
)
def test_a_mistake_in_an_experiment_file_is_one_line_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(UserError, match=said) as raised:
        read_experiment(path, "laptop")
    assert "\n" not in str(raised.value)


def test_a_mistake_in_a_module_that_it_imports_is_told_with_that_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_broken_models.py").write_text("x = 1\ny = (\n")
    (tmp_path / "mine.py").write_text("\n\n\nimport my_broken_models\n")
    with pytest.raises(UserError, match="my_broken_models.py, line 2: '.' was never closed"):
        read_experiment(tmp_path / "mine.py", "laptop")


def test_settings_go_to_another_process_as_plain_values() -> None:
    assert Settings(**as_dict(Settings(workers=3))) == Settings(workers=3)

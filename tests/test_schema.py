"""One row per column: types, roles, words, and what is derived from them."""

from dataclasses import fields, replace

import pytest

from bias_lab import schema
from bias_lab.definition import Run, run_id

RUN = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100)
OTHER = {  # another value of every field that a study may vary
    "dataset": "mnist", "backbone": "resnet_micro", "backbone_source": "0123456789ab", "size": 300, "image_size": 32,
    "regime": "weights", "protocol": "knn", "source": "pool", "pretraining": "0123456789ab", "weights": "resnet18",
    "intervention": "permute_pixels", "budget": 3.0, "balanced": True, "label_noise": 0.2, "imbalance": 10.0,
    "manifest": "0123456789ab", "drop_duplicates": True, "recipe": "strong", "samples_seen": 32_000, "batch_size": 64,
    "learning_rate": 1e-3, "weight_decay": 0.1, "warmup": 0.2, "label_smoothing": 0.1, "flip": False, "crop": 4,
    "resized_crop": 0.3, "trivial_augment": True, "randaugment": 9, "colour_jitter": 0.4, "erasing": 0.25,
    "mixup": 0.2, "cutmix": 1.0, "repeated_augmentation": 3, "clip": 0.0, "ema": 0.99, "precision": "bf16",
    "drop_path": 0.1, "layer_decay": 0.75, "mask_ratio": 0.6, "patch": 7, "window": 4, "stem": "stock",
    "task": "tune", "draw": 1, "seed": 1, "monitor": 5, "blocks": 4,
    "optimizer": "muon", "priors": "sincos_positions", "teacher_schedule": "steps",
    "allow_partial_weights": True, "pixel_mean": "0.5", "pixel_std": "0.5",
    "method": "mine:Loss", "method_source": "0123456789ab", "image_width": 40, "head": "matched",
}  # fmt: skip


def test_every_field_of_a_run_is_a_column_and_every_column_is_described_once() -> None:
    assert {field.name for field in fields(Run)} <= set(schema.COLUMNS)
    assert set(OTHER) == {field.name for field in fields(Run)}
    described = [column.name for column in schema.DESCRIBED]
    assert len(described) == len(set(described))
    assert list(schema.COLUMNS)[: len(schema.REQUIRED)] == schema.REQUIRED
    assert len(schema.REQUIRED) == len(set(schema.REQUIRED)) == 41


def test_every_column_has_a_type_words_and_a_unit_where_it_is_a_number() -> None:
    for name, column in schema.COLUMNS.items():
        assert column.name == name
        assert column.kind in schema.PANDAS
        assert column.words == column.words.strip() != ""
        assert column.kind in ("whole", "real") or not column.unit, name


def test_a_new_field_of_a_run_is_an_axis_without_a_row_of_its_own() -> None:
    assert (schema.kind_of("float"), schema.kind_of("int | None"), schema.kind_of("str")) == (
        "real",
        "whole",
        "text",
    )
    assert schema.kind_of("<class 'bool'>") == "flag"


def test_axes_are_what_may_vary_within_a_cell() -> None:
    allowed = {field.name for field in fields(Run)} - {"task", "draw", "seed", "blocks", "monitor", "pretraining"}
    assert set(schema.AXES) == allowed - set(schema.CELL)
    assert schema.AXES[:3] == ("recipe", "intervention", "budget")


@pytest.mark.parametrize("name", sorted(set(OTHER)))
def test_labels_tell_two_runs_apart_in_any_field(name: str) -> None:
    runs = (RUN, replace(RUN, **{name: OTHER[name]}))
    words = schema.labels(runs)
    assert list(words) == [run_id(run) for run in runs]
    assert len(set(words.values())) == 2


def test_labels_name_the_field_in_which_two_pretrainings_differ() -> None:
    before = replace(RUN, task="pretrain", regime="mae", source="pool", size=0)
    other = replace(before, mask_ratio=0.6)
    after = [replace(RUN, regime="mae", source="pool", pretraining=run_id(run)) for run in (before, other)]
    words = schema.labels([before, other, *after])
    assert words[run_id(after[1])] == "vit_micro mae N=100 draw 0 seed 0 (a pretraining with mask ratio 0.6)"
    assert len(set(words.values())) == 4
    elsewhere = replace(before, source="fractals")
    sources = [
        before,
        elsewhere,
        *(replace(after[0], source=one.source, pretraining=run_id(one)) for one in (before, elsewhere)),
    ]
    told = schema.labels(sources)[run_id(sources[3])]
    assert (
        told == "vit_micro mae N=100 draw 0 seed 0 (source of the pretraining fractals)"
    )  # which both runs have: once
    alone = schema.labels(after)  # the pretrainings are in another plan
    assert set(alone.values()) == {
        f"vit_micro mae N=100 draw 0 seed 0 (pretraining {run.pretraining})" for run in after
    }


def test_a_label_is_short_where_nothing_is_unusual() -> None:
    assert schema.label(RUN) == "vit_micro scratch N=100 draw 0 seed 0"
    noisy = replace(RUN, label_noise=0.2, patch=7, recipe="strong", budget=3.0)
    assert schema.label(noisy) == "vit_micro scratch N=100 strong 3x budget label noise 0.2 patch 7 px draw 0 seed 0"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("label_noise", 0.2, "label noise 0.2"),
        ("flip", False, "no horizontal flips"),
        ("trivial_augment", True, "TrivialAugment"),
        ("patch", 4, "patch 4 px"),
        ("patch", None, "default patch"),
        ("budget", 3.0, "budget 3x"),
        ("samples_seen", 16_000, "images seen 16,000"),
        ("pretraining_mask_ratio", 0.6, "a pretraining with mask ratio 0.6"),
        ("pretraining_samples_seen", 0, "a pretraining of zero steps"),
        ("pretraining_samples_seen", 40_000, "a pretraining of 40,000 images"),
    ],
)
def test_a_value_in_words(name: str, value: object, words: str) -> None:
    assert schema.phrase(name, value) == words


def test_a_label_on_own_data_names_the_duplicates_only_where_they_tell_runs_apart() -> None:
    own = Run(dataset="folder:abc", backbone="vit_micro", size=100, drop_duplicates=True)
    assert "duplicates" not in schema.label(own)
    words = schema.labels([own, replace(own, drop_duplicates=False)])
    assert len(set(words.values())) == 2
    assert all("duplicates left out" in text for text in words.values())

"""Any field of a run can be an axis. Statistics compare runs along it, and hold it at its reference elsewhere."""

from dataclasses import fields
from typing import Any

import pandas as pd
import pytest

from bias_lab import schema
from bias_lab.definition import Run, run_id
from bias_lab.errors import UserError
from bias_lab.statistics import (
    arms,
    axes,
    comparable,
    effects,
    gains,
    gaps,
    likewise,
    moved,
    recovery,
    reference,
    removed,
    select_condition,
    values,
    variance_shares,
)
from bias_lab.statistics.conditions import is_control
from tests.planted import CNNS, row, rows, table

PAIR = ("vit_micro", "resnet_micro")
TWO = [(0, 0), (1, 1)]
APART = (
    *schema.CELL,
    *schema.REPLICATE,
    "task",
    "monitor",
    "pretraining",
    "blocks",
    "image_width",
)  # columns that are no axis of any study
OTHER = dict(intervention="permute_pixels", recipe="strong", precision="bf16", imbalance=2.0, layer_decay=0.5)
OTHER |= dict(repeated_augmentation=2, samples_seen=32_000, batch_size=64, budget=3.0, learning_rate=0.003)


def other(name: str) -> Any:
    """Return a value of a field that is not its default."""
    column, default = schema.COLUMNS[name], schema.DEFAULTS[name]
    known = {"optimizer": "muon", "teacher_schedule": "steps", "priors": "mean_pooling"}  # fields of few words
    known |= {"pixel_mean": "0.5", "pixel_std": "0.25"}
    by_kind = {"flag": not default, "whole": 3, "real": 0.25, "text": known.get(name, "another")}
    return OTHER.get(name, by_kind[column.kind])


def study(**kind: Any) -> list[dict[str, Any]]:
    return rows(lambda run: 0.6, backbones=PAIR, sizes=(100, 300), replicates=TWO, **kind)


@pytest.mark.parametrize("name", ["intervention", "priors", "optimizer", "imbalance", "batch_size", "precision"])
def test_a_missing_value_is_the_default_and_no_value_of_its_own(name: str) -> None:
    """Tables of older versions lack what had one value then, and may come first or last when tables are joined."""
    data = table(study())
    for missing in (data["draw"] == 0, data["draw"] == 1):
        assert axes(data.assign(**{name: data[name].mask(missing)})) == []
    with_two = data.assign(**{name: data[name].mask(data["draw"] == 0, other(name))})
    assert axes(with_two.assign(**{name: with_two[name].mask(data["draw"] == 1)})) == [name]


@pytest.mark.parametrize("name", [field.name for field in fields(Run) if field.name not in APART])
def test_any_field_alone_is_an_axis(name: str) -> None:
    plain, varied = study(), study(**{name: other(name)}, seed=1)
    default = {"learning_rate": 0.001}.get(name, "" if schema.DEFAULTS[name] is None else schema.DEFAULTS[name])
    data = table([*plain, *varied])
    assert axes(data) == [name]
    assert values(data, name) == [default, other(name)]
    assert comparable(data)["run_id"].tolist() == [one["run_id"] for one in plain]
    assert comparable(data, where={name: other(name)})["run_id"].tolist() == [one["run_id"] for one in varied]
    change = moved(data, axis=name).set_index(["backbone", "size"])
    assert len(change) == 4
    assert set(change["value"]) == {other(name)}
    assert change[["low", "high"]].notna().all(axis=None)
    result = arms(data, axis=name)
    assert result[["value", "size"]].to_numpy().tolist() == [[v, n] for v in (default, other(name)) for n in (100, 300)]
    assert result[["low", "high"]].notna().all(axis=None)
    assert result["gone_low"].notna().tolist() == [False, False, True, True]
    assert effects(data, along=[name]).set_index("factor").loc[name, "levels"] == 2


def pretrained(ratio: float, seed: int, backbone: str = "vit_micro") -> list[dict[str, Any]]:
    """Return runs that start from a pretraining of their own replicate, and the pretrainings."""
    start = dict(regime="mae", source="pool")
    planted = []
    for draw, which in TWO:
        first = Run(dataset="fashion_mnist_12k", backbone=backbone, task="pretrain", draw=draw, seed=which,
                    mask_ratio=ratio, **start)  # fmt: skip
        planted += [row(first, top1=None)]
        planted += rows(lambda run: 0.7, backbones=[backbone], sizes=(100, 300), replicates=[(draw, which)],
                        seed=seed + draw, pretraining=run_id(first), **start)  # fmt: skip
    return planted


def test_a_field_of_the_pretraining_is_an_axis_of_the_runs_that_have_one() -> None:
    data = table([*study(), *pretrained(0.75, 1), *pretrained(0.5, 3)])
    axis = "pretraining_mask_ratio"
    assert axes(data) == [axis]
    assert values(data, axis) == [0.75, 0.5]
    kept = comparable(data, scratch=False)
    assert len(kept) == 8 + 4  # those from scratch, and the pretrained ones of the reference
    assert set(kept[axis].dropna()) == {0.75}
    change = moved(data, axis=axis)
    assert change[["value", "backbone", "regime", "source", "size"]].to_numpy().tolist() == [
        [0.5, "vit_micro", "mae", "pool", 100],
        [0.5, "vit_micro", "mae", "pool", 300],
    ]
    assert change[["low", "high"]].notna().all(axis=None)
    result = arms(data, axis=axis)  # the ViT after MAE against the CNN from scratch
    assert result[["value", "regime", "size"]].to_numpy().tolist() == [
        [ratio, "mae", size] for ratio in (0.75, 0.5) for size in (100, 300)
    ]
    assert result["shortfall"].to_numpy() == pytest.approx(-0.1, abs=0.03)
    assert result["gone_low"].notna().tolist() == [False, False, True, True]


def test_one_pretraining_a_replicate_is_no_axis_with_its_rows_or_without() -> None:
    data = table([*study(), *pretrained(0.75, 1)])
    assert axes(data) == axes(data[data["task"] == "classify"]) == []


def test_a_recipe_s_name_stands_for_its_fields() -> None:
    data = table([*study(), *study(recipe="strong", mixup=0.2, label_smoothing=0.1, seed=1)])
    assert axes(data) == ["recipe"]


def test_two_axes_cross_and_each_is_held_at_its_reference() -> None:
    grid = [dict(label_noise=noise, mixup=mixup) for noise in (0.0, 0.2) for mixup in (0.0, 0.5)]
    data = table([one for kind in grid for one in study(**kind)])
    assert axes(data) == ["label_noise", "mixup"]
    assert len(comparable(data)) == 8
    assert len(select_condition(data, free=["mixup"])) == 16
    assert set(moved(data, axis="mixup", where={"label_noise": 0.2})["n"]) == {2}


@pytest.mark.parametrize(
    "arm", [dict(head="matched"), dict(priors="mean_pooling"), dict(method="mine:Method"), dict(optimizer="muon")]
)
def test_arms_with_learning_rates_of_their_own_differ_along_their_own_axis(arm: dict[str, Any]) -> None:
    """Each arm of a backbone is tuned for itself, at some sizes to another rate, at some to the same."""
    plain = [one | {"learning_rate": 0.01} for one in study()]
    other = [one | {"learning_rate": 0.01 if one["size"] == 300 else 0.03} for one in study(**arm)]
    data = table([*plain, *other])
    (name,) = arm
    assert axes(data) == [name]
    assert sorted(comparable(data)["run_id"]) == sorted(one["run_id"] for one in plain)
    assert set(moved(data, axis=name)["size"]) == {100, 300}


def test_what_follows_from_the_backbone_is_no_axis_and_hides_no_backbone() -> None:
    """Learning rates are tuned for each backbone, and a CNN has no patch."""
    tuned = [one | {"learning_rate": 0.01 if one["backbone"] == "vit_micro" else 0.002} for one in study()]
    assert axes(table(tuned)) == []
    extra = [one | {"run_id": "x", "learning_rate": 0.3} for one in tuned if one["backbone"] == "vit_micro"][:1]
    data = table([*tuned, *extra])
    assert axes(data) == ["learning_rate"]
    assert sorted(comparable(data)["run_id"]) == sorted(one["run_id"] for one in tuned)
    patches = [one | {"patch": patch} for patch in (4, 2) for one in study() if one["backbone"] == "vit_micro"]
    cnn = [one for one in study() if one["backbone"] != "vit_micro"]
    swept = table([*patches, *cnn])
    assert (axes(swept), values(swept, "patch")) == (["patch"], [4, 2])
    assert arms(swept, axis="patch")["value"].tolist() == [4, 4, 2, 2]
    assert set(moved(swept, axis="patch")["backbone"]) == {"vit_micro"}


def test_a_study_that_is_half_done_compares_no_two_conditions() -> None:
    """Only the ViT's plain runs and the CNN's permuted runs have finished so far."""
    vit = [one for one in study() if one["backbone"] == "vit_micro"]
    cnn = [one for one in study(intervention="permute_pixels") if one["backbone"] != "vit_micro"]
    assert gaps(table([*vit, *cnn])).empty


def test_a_missing_value_is_the_default() -> None:
    """Tables of earlier versions lack the fields that came later."""
    data = table([*study(label_noise=0.2), *study()])
    old = data.assign(label_noise=data["label_noise"].where(data["label_noise"] > 0))
    assert values(old, "label_noise") == values(data, "label_noise") == [0.0, 0.2]
    assert len(comparable(old)) == 8


def test_the_reference_is_the_most_frequent_value_where_no_run_has_the_default() -> None:
    data = table([*study(label_noise=0.2), *study(label_noise=0.4)[:3]])
    assert reference(data, "label_noise") == 0.2
    assert reference(data, "mixup") == 0.0


def test_names_that_are_no_axis_and_columns_that_are_not_there() -> None:
    with pytest.raises(UserError, match="'label_nois'; did you mean 'label_noise'"):
        moved(table(study()), axis="label_nois")
    assert arms(table(study()), axis="label_noise").empty
    with pytest.raises(UserError, match="no column 'label_nois'"):
        comparable(table(study()), where={"label_nois": 0.2})


CONTROLS = {"protocol": "linear_probe"}


def with_controls(**options: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of a study, and those of its controls: pixels, an MLP, and untrained backbones read out."""
    study = rows(lambda run: 0.5 if run.backbone == "vit_micro" else 0.7, sizes=(100, 300), **options)
    others = rows(lambda run: 0.9, backbones=["pixels"], sizes=(100, 300), **CONTROLS, **options)
    others += rows(lambda run: 0.4, backbones=["vit_micro", "resnet_micro"], sizes=(100, 300), **CONTROLS, **options)
    others += rows(lambda run: 0.6, backbones=["mlp_micro"], sizes=(100, 300), **options)
    for one in others:  # a readout sees its labelled images once
        one["samples_seen"] = one["size"] if one["protocol"] == "linear_probe" else one["samples_seen"]
    return study, others


def test_controls_are_told_from_starts_and_members() -> None:
    study, others = with_controls()
    assert not is_control(table(study)).any()
    assert is_control(table(others)).all()
    after = rows(lambda run: 0.6, backbones=["vit_micro"], regime="mae", source="pool", protocol="linear_probe")
    assert not is_control(table(after)).any()
    guests = rows(lambda run: 0.6, backbones=["mine:net", "convnext_tiny"])
    assert not is_control(table(guests)).any()


@pytest.mark.parametrize("statistic", [gaps, recovery, gains, likewise, effects, removed, variance_shares])
def test_a_statistic_of_trained_backbones_is_the_same_beside_controls(statistic: Any) -> None:
    study, others = with_controls(noise=0.02)
    begun = rows(
        lambda run: 0.6, backbones=["vit_micro", "resnet_micro"], sizes=(100, 300), regime="dino", source="pool"
    )
    pd.testing.assert_frame_equal(statistic(table([*study, *begun, *others])), statistic(table([*study, *begun])))


def test_controls_have_no_say_in_the_usual_number_of_images_seen() -> None:
    """Of two budgets of the same cells the smaller is the usual one, though the larger one has more replicates."""
    study, others = with_controls()
    replicates = [*[(k, k) for k in range(3)], (3, 3)]
    twice = rows(lambda run: 0.99, sizes=(100, 300), replicates=replicates, samples_seen=32_000)
    more = [one | {"samples_seen": one["size"]} for one in rows(lambda run: 0.4, backbones=CNNS, **CONTROLS)]
    kept = comparable(table([*study, *twice, *others, *more]))
    trained = kept[kept["backbone"] != "mlp_micro"]
    assert sorted(trained["run_id"]) == sorted(one["run_id"] for one in study)


def test_a_backbone_with_a_prior_never_stands_for_the_plain_one() -> None:
    """Also where the plain one has not been run: then there is nothing to compare unless the prior is named."""
    cnns = rows(lambda run: 0.7, backbones=CNNS, sizes=(100, 300))
    vits = [rows(lambda run: 0.5, backbones=["vit_micro"], sizes=(100,)),
            rows(lambda run: 0.6, backbones=["vit_micro"], sizes=(100, 300), priors="mean_pooling")]  # fmt: skip
    whole = table([*cnns, *vits[0], *vits[1]])
    assert axes(whole) == ["priors"]
    assert gaps(whole)["size"].tolist() == [100]
    assert gaps(whole)["shortfall"].to_numpy() == pytest.approx(0.2, abs=0.02)
    assert gaps(table([*cnns, *vits[1]])).empty
    named = gaps(whole, where={"priors": "mean_pooling"})  # a CNN, which can't have it, is compared as it is
    assert named["size"].tolist() == [100, 300]
    assert named["shortfall"].to_numpy() == pytest.approx(0.1, abs=0.02)

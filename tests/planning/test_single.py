"""Test the definition of one run from flags."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from bias_lab import ledger
from bias_lab.definition import Run, recipe, run_id, to_json
from bias_lab.errors import UserError
from bias_lab.planning import learning_rates, plan, single

BEFORE = Run(dataset="fashion_mnist_12k", backbone="vit_micro", task="pretrain", regime="mae", source="pool")


def make(folder: Path, *, like: Run | None = None, recipe_name: str = "", fields: Any = None, **typed: Any) -> Run:
    runs, _ = single.definition(typed, like=like, recipe_name=recipe_name, fields=fields or {}, folder=folder)
    return runs[-1]


def test_identity_from_flags_and_the_rest_from_set(tmp_path: Path) -> None:
    run = make(tmp_path, backbone="vit_micro", size=100, draw=0, seed=0, fields={"mixup": 0.2}, recipe_name="strong")
    expected = replace(Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100), **recipe("strong"))
    assert run == expected  # strong has this mixup already
    assert make(tmp_path, backbone="vit_micro", size=100, fields={"mixup": 0.3}).recipe == "plain+mixup=0.3"


def test_what_is_missing_is_asked_for(tmp_path: Path) -> None:
    assert make(tmp_path, size=100).backbone == "vit_micro"  # the backbone that the lab is about
    with pytest.raises(UserError, match="no number of labelled images is named"):
        make(tmp_path, backbone="vit_micro")


def test_priors_are_typed_in_any_order_and_come_with_a_pretraining(tmp_path: Path) -> None:
    run = make(tmp_path, backbone="vit_micro", size=100, priors=["sincos_positions", "mean_pooling"])
    assert run.priors == "mean_pooling+sincos_positions"
    with pytest.raises(UserError, match="unknown prior 'sincos_position'; did you mean 'sincos_positions'"):
        make(tmp_path, backbone="vit_micro", size=100, priors=["sincos_position"])
    before = replace(BEFORE, priors="mean_pooling")
    here = ledger.run_folder(tmp_path, run_id(before))
    ledger.write_json(here / ledger.RUN, to_json(before))
    ledger.write_json(here / ledger.RESULT, {})
    assert make(tmp_path, backbone="vit_micro", size=100, pretraining=run_id(before)).priors == "mean_pooling"


def test_a_field_with_a_flag_is_not_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"use --size$"):
        make(tmp_path, backbone="vit_micro", size=100, fields={"size": 5})


def test_a_run_like_another_is_the_same_run_unless_changed(tmp_path: Path) -> None:
    run = replace(BEFORE, task="classify", regime="scratch", source="", size=50, samples_seen=999, learning_rate=1e-3)
    assert make(tmp_path, like=run) == run
    assert make(tmp_path, like=run, seed=4) == replace(run, seed=4)
    assert make(tmp_path, like=run, seed=0) == run


def test_a_run_to_settle_has_an_open_recipe_rate_and_budget(tmp_path: Path) -> None:
    run = make(tmp_path, backbone="vit_micro", size=100, settle=True)
    assert (run.recipe, run.learning_rate, run.samples_seen) == ("tuned", None, None)
    named = make(tmp_path, backbone="vit_micro", size=100, settle=True, recipe_name="strong")
    assert (named.recipe, named.mixup, named.samples_seen) == ("strong", 0.2, None)
    like = replace(run, recipe="plain", learning_rate=1e-3, samples_seen=999)
    assert make(tmp_path, like=like, settle=True) == run


@pytest.mark.parametrize(
    ("typed", "fields", "message"),
    [
        (dict(protocol="linear_probe"), {}, "the protocol 'linear_probe' has none to find"),
        (dict(task="pretrain"), {}, "a pretraining has none to find"),
        ({}, {"samples_seen": 100}, "--settle and --set samples_seen=… exclude each other"),
        (dict(tune=False), {}, "--settle and --no-tune exclude each other"),
    ],
)
def test_what_has_no_budget_to_find_is_not_settled(
    typed: dict[str, Any], fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        make(tmp_path, backbone="vit_micro", size=100, settle=True, fields=fields, **typed)


def test_a_pretraining_is_named_by_id_and_gives_regime_and_source(tmp_path: Path) -> None:
    name = run_id(BEFORE)
    here = ledger.run_folder(tmp_path, name)
    ledger.write_json(here / ledger.RUN, to_json(BEFORE))
    with pytest.raises(UserError, match="is not finished"):
        make(tmp_path, backbone="vit_micro", size=100, pretraining=name[:6])
    ledger.write_json(here / ledger.RESULT, {})
    run = make(tmp_path, backbone="vit_micro", size=100, pretraining=name[:6])
    assert (run.pretraining, run.regime, run.source) == (name, "mae", "pool")
    with pytest.raises(UserError, match="is of vit_micro, not of swin_micro"):
        make(tmp_path, backbone="swin_micro", size=100, pretraining=name)


@pytest.mark.parametrize(
    ("before", "typed", "message"),
    [
        (dict(dataset="mnist"), {}, "has dataset 'mnist', and vit_micro mae N=100 .* has 'fashion_mnist_12k'"),
        (dict(source="subset", size=50), {}, "has size 50, and vit_micro mae N=100 .* has 100"),
        (dict(source="subset", size=100), dict(draw=3), "has draw 0, and vit_micro mae N=100 .* has 3"),
        ({}, dict(regime="simmim"), "has regime 'mae', and vit_micro simmim"),
    ],
)
def test_a_pretraining_of_other_images_is_refused_when_planned(
    before: dict[str, Any], typed: dict[str, Any], message: str, tmp_path: Path
) -> None:
    pretraining = replace(BEFORE, **before)
    here = ledger.run_folder(tmp_path, run_id(pretraining))
    ledger.write_json(here / ledger.RUN, to_json(pretraining))
    ledger.write_json(here / ledger.RESULT, {})
    run = make(tmp_path, backbone="vit_micro", size=100, pretraining=run_id(pretraining), **typed)
    study = single.experiment((replace(run, learning_rate=1e-3),), ())
    with pytest.raises(UserError, match=f"the pretraining {run_id(pretraining)} {message}"):
        plan.arrange(study, "train", "single runs", tmp_path, plan.Request(), learning_rates.Rates())


def test_simmim_hides_what_its_paper_does_unless_told(tmp_path: Path) -> None:
    typed = dict(backbone="resnet_micro", task="pretrain", regime="simmim")
    run = make(tmp_path, **typed)
    assert (run.mask_ratio, run.recipe) == (0.6, "plain")
    typed_share = make(tmp_path, **typed, fields={"mask_ratio": 0.75})
    assert (typed_share.mask_ratio, typed_share.recipe) == (0.75, "plain+mask_ratio=0.75")
    assert make(tmp_path, like=typed_share) == typed_share
    assert make(tmp_path, like=BEFORE, regime="simmim").mask_ratio == 0.6
    assert make(tmp_path, backbone="vit_micro", task="pretrain").mask_ratio == 0.75  # MAE's


def test_a_labelled_run_hides_nothing_and_has_no_source_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mask_ratio=… belongs to a pretraining by mae or simmim"):
        make(tmp_path, backbone="vit_micro", size=100, fields={"mask_ratio": 0.3})
    with pytest.raises(UserError, match="--set source=… changes what the run is; use --source$"):
        make(tmp_path, backbone="vit_micro", size=100, fields={"source": "cifar10"})


def both(folder: Path, **typed: Any) -> tuple[Run, ...]:
    return single.definition(typed, like=None, recipe_name="", fields={}, folder=folder)[0]


def test_a_run_of_a_regime_that_pretrains_brings_its_pretraining_along(tmp_path: Path) -> None:
    before, run = both(tmp_path, size=100, regime="mae", seed=2)
    assert before == replace(BEFORE, samples_seen=40_000, batch_size=128, seed=2)
    assert (run.pretraining, run.regime, run.source, run.size) == (run_id(before), "mae", "pool", 100)
    (line,) = single.lines((before, run), tmp_path)
    assert line.startswith(f"pretraining first: {run_id(before)}, MAE of vit_micro on pool, 40,000 images seen")
    assert both(tmp_path, size=100, regime="mae", seed=2) == (before, run)  # the same ids each time
    assert single.lines((run,), tmp_path) == []
    assert both(tmp_path, size=100, regime="mae", source="subset", draw=3)[0].draw == 3
    assert both(tmp_path, size=100, regime="formula")[0].source == "fractals"
    with pytest.raises(
        UserError, match="'supervised' pretrains on a labelled dataset, and none is named; add --source"
    ):
        both(tmp_path, size=100, regime="supervised")


def test_the_only_finished_pretraining_that_fits_is_used_again(tmp_path: Path) -> None:
    def finished(run: Run) -> Run:
        here = ledger.run_folder(tmp_path, run_id(run))
        ledger.write_json(here / ledger.RUN, to_json(run))
        ledger.write_json(here / ledger.RESULT, {})
        return run

    finished(replace(BEFORE, backbone="swin_micro"))
    mine = finished(BEFORE)
    runs = both(tmp_path, size=100, regime="mae")
    assert runs[0] == mine
    assert single.lines(runs, tmp_path)[0].endswith(f"which is finished in {tmp_path}")
    finished(replace(BEFORE, seed=5))
    assert both(tmp_path, size=100, regime="mae")[0].samples_seen == 40_000  # two fit, so neither is taken


def test_a_pretraining_from_flags(tmp_path: Path) -> None:
    assert make(tmp_path, backbone="vit_micro", task="pretrain") == BEFORE


def test_weights_by_name_and_by_file(tmp_path: Path) -> None:
    run = make(tmp_path, backbone="vit_tiny_patch16_224", size=100, weights="deit_tiny_patch16_224")
    assert (run.weights, run.regime, run.source) == ("deit_tiny_patch16_224", "weights", "deit_tiny_patch16_224")
    file = tmp_path / "w.safetensors"
    save_file({"a": np.zeros(1)}, file)
    typed = {"backbone": "vit_micro", "size": 100, "weights": str(file)}
    runs, places = single.definition(typed, like=None, recipe_name="", fields={}, folder=tmp_path)
    assert runs[0].weights.startswith("file:")
    assert places == {runs[0].weights: {"path": str(file)}}
    save_file({"a": np.ones(1)}, file)
    again, _ = single.definition(typed, like=None, recipe_name="", fields={}, folder=tmp_path)
    assert run_id(again[0]) != run_id(runs[0])  # the content is part of the run
    file.unlink()
    with pytest.raises(UserError, match="no weights file"):
        make(tmp_path, **typed)
    with pytest.raises(UserError, match="--weights begins with .*, and --regime mae with a pretraining; leave one of"):
        make(tmp_path, **typed, regime="mae")


def test_a_damaged_weights_file_is_named_before_a_learning_rate_is_missed(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"one")
    with pytest.raises(UserError, match=r"w.safetensors is not a whole .safetensors file"):
        make(tmp_path, backbone="vit_micro", size=100, weights=str(file))


def test_fields_about_weights_have_flags(tmp_path: Path) -> None:
    for field, flag in (
        ("pixel_mean", "--mean"),
        ("pixel_std", "--std"),
        ("allow_partial_weights", "--allow-partial-w"),
    ):
        with pytest.raises(UserError, match=rf"--set {field}=… changes what the run is; use {flag}"):
            make(tmp_path, backbone="vit_micro", size=100, fields={field: "0.5"})


def test_a_run_that_waits_for_a_pretraining_brings_it_along(tmp_path: Path) -> None:
    run = replace(BEFORE, task="classify", size=100, pretraining=run_id(BEFORE), learning_rate=1e-3)
    for one in (BEFORE, run):
        ledger.write_json(ledger.run_folder(tmp_path, run_id(one)) / ledger.RUN, to_json(one))
    again, before, places = single.like(run_id(run), tmp_path)
    assert (again, before, places) == (run, (BEFORE,), {})
    assert single.experiment((again,), before).runs == (BEFORE, run)
    scratch = replace(run, pretraining="", regime="scratch")
    assert single.experiment((scratch,), before).runs == (scratch,)


def test_a_folder_without_classes_is_a_source_by_its_content(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for k in range(3):
        Image.new("RGB", (20, 20), (k, 90, 10)).save(photos / f"{k}.png")
    typed = {"backbone": "resnet_micro", "task": "pretrain", "regime": "simmim", "source": str(photos)}
    (run,), places = single.definition(typed, like=None, recipe_name="", fields={}, folder=tmp_path)
    assert run.source.startswith("folder:")
    assert places[run.source]["path"] == str(photos)
    (photos / "bad.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"bad\.png"):
        make(tmp_path, **typed)
    assert make(tmp_path, **typed, skip_bad_images=True).source == run.source
    (photos / "bad.png").unlink()
    pool = tmp_path / "pool"
    photos.rename(pool)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert make(tmp_path, **{**typed, "source": "pool"}).source == "pool"  # not the folder that is called so
    pool.rename(photos)
    (photos / "0.png").unlink()
    (changed,), _ = single.definition(typed, like=None, recipe_name="", fields={}, folder=tmp_path)
    assert changed.source != run.source


def test_a_folder_of_class_folders_is_a_source_with_labels_for_a_regime_that_learns_from_them(tmp_path: Path) -> None:
    for k in range(6):
        file = tmp_path / "photos" / "ab"[k % 2] / f"{k}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), (k, 90, 10)).save(file)
    typed = {"backbone": "resnet_micro", "task": "pretrain", "source": str(tmp_path / "photos")}
    (run,), places = single.definition(
        {**typed, "regime": "supervised"}, like=None, recipe_name="", fields={}, folder=tmp_path
    )
    assert places[run.source]["classes"] == ["a", "b"]
    (other,), unlabelled = single.definition(
        {**typed, "regime": "simmim"}, like=None, recipe_name="", fields={}, folder=tmp_path
    )
    assert unlabelled[other.source]["classes"] == ["image"]
    assert run.source != other.source

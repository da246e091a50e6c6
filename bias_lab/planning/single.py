"""One run from flags, for `bias-lab train`: its identity as flags, the rest by --set, or another run's definition."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bias_lab import catalogue, ledger
from bias_lab.definition import Experiment, Run, recipe, run_id
from bias_lab.errors import UserError, unknown
from bias_lab.execution import status
from bias_lab.planning import overrides, own

MASKED = 0.6  # share that SimMIM hides where none is named, as in its paper; a run's own default is MAE's
# flags of `bias-lab train` that are a run's fields
IDENTITY = "dataset backbone task size image_size draw seed regime protocol source".split()


def definition(
    typed: Mapping[str, Any], *, like: Run | None, recipe_name: str, fields: Mapping[str, Any], folder: Path
) -> tuple[tuple[Run, ...], dict[str, Any]]:
    """The runs to carry out, a pretraining that it starts from first, and where a weights file lies (for places.json).

    typed: flag → value, those that were typed. like: the run to start from. folder: where its pretraining is looked
    for. Raises UserError for what is missing or does not fit together.
    """
    identity = {name: typed[name] for name in IDENTITY if name in typed}
    values: dict[str, Any] = {"dataset": "fashion_mnist_12k", **identity}
    if like is None:
        if "backbone" not in values:
            raise UserError("bias-lab train: which backbone?", "for example --backbone vit_micro", "bias-lab backbones")
        pretrains = values.get("task") == "pretrain"
        if not pretrains and "size" not in values:
            raise UserError("bias-lab train: how many labelled images?", "for example --size 1000")
        run = Run(**({"regime": "mae", "source": "pool"} if pretrains else {}) | values)
    else:
        run = replace(like, **identity)
    if recipe_name:
        run = replace(run, **recipe(recipe_name))
    run = replace(run, backbone_source=own.source(run.backbone) if catalogue.is_own(run.backbone) else "")
    for name in fields:
        if name in overrides.FLAGS:
            flag = f"--{name.replace('_', '-')}"
            raise UserError(f"--set {name}=… would change what is asked", remedy=f"use {flag}")
    if "mask_ratio" in fields and (run.task != "pretrain" or run.regime not in ("mae", "simmim")):
        raise UserError(
            "--set mask_ratio=… is of a pretraining by mae or simmim", remedy="--task pretrain --regime mae"
        )
    if run.task == "pretrain" and run.regime == "simmim" and (like is None or like.regime != "simmim"):
        run = replace(run, mask_ratio=MASKED)
    run = overrides.changed(run, fields) if fields else run
    places: dict[str, Any] = {}
    if "source" in typed:
        run, places = _from_folder(run, folder, skip_bad=bool(typed.get("skip_bad_images")))
    if "weights" in typed:
        run, more = _from_weights(run, typed["weights"], regime_typed="regime" in typed)
        places |= more
    if "pretraining" in typed:
        run = _from_pretraining(run, typed["pretraining"], folder, regime_typed="regime" in typed)
    if run.regime not in catalogue.REGIMES:
        raise unknown("regime", run.regime, catalogue.REGIMES)
    if run.task == "classify" and run.regime not in ("scratch", "weights") and not run.pretraining:
        raise UserError(
            f"a run of regime '{run.regime}' starts from a pretraining",
            remedy=f"--pretraining RUN, made by: bias-lab train --task pretrain --regime {run.regime}",
        )
    return (run,), places


def _from_weights(run: Run, name: str, *, regime_typed: bool) -> tuple[Run, dict[str, Any]]:
    """The run with its starting weights: a timm name, or a file, whose content is part of the run."""
    name, place = own.weights(name)
    regime = run.regime if regime_typed else "weights"
    return replace(run, weights=name, regime=regime, source=run.source or name), {name: place} if place else {}


def _from_folder(run: Run, folder: Path, *, skip_bad: bool) -> tuple[Run, dict[str, Any]]:
    """The run with its source; of a folder of images without classes, the content is part of the run."""
    identity, place = own.images(run.source, folder=folder, image_size=run.image_size, skip_bad=skip_bad)
    return replace(run, source=identity), {identity: place} if place else {}


def _from_pretraining(run: Run, name: str, folder: Path, *, regime_typed: bool) -> Run:
    where, full = status.find(name, folder)
    before = ledger.read_run(where, full)
    if before.task != "pretrain":
        raise UserError(f"{full} is not a pretraining", f"its task is '{before.task}'")
    if ledger.state(where, full) != "finished":
        raise UserError(f"the pretraining {full} is not finished", remedy="run it again first")
    if before.backbone != run.backbone:
        raise UserError(f"the pretraining {full} is of {before.backbone}, not of {run.backbone}")
    regime = run.regime if regime_typed else before.regime
    return replace(run, pretraining=full, regime=regime, source=before.source)


def like(name: str, folder: Path | None) -> tuple[Run, tuple[Run, ...], dict[str, Any]]:
    """A run that was made before, the pretraining that it names, and the places of its folder."""
    where, full = status.find(name, folder)
    told = status.definition(where, full)
    before = (status.definition(where, told.pretraining),) if told.pretraining else ()
    path = where / ledger.PLACES
    return told, before, ledger.read_json(path) if path.is_file() else {}


def experiment(runs: tuple[Run, ...], before: tuple[Run, ...]) -> Experiment:
    """A single run as an experiment, with the pretraining that it waits for."""
    named = {run.pretraining for run in runs}
    return Experiment(question="", runs=(*(run for run in before if run_id(run) in named), *runs))

"""Define one run for `bias-lab train`: from flags and --set, or like another run."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bias_lab import catalogue, ledger
from bias_lab.definition import DEFAULTS, TUNED, Experiment, Run, images_seen, pretrains, recipe, run_id
from bias_lab.errors import UserError, unknown
from bias_lab.planning import find_run, overrides, own, typed_values

# flags of `bias-lab train` that are fields of a run
IDENTITY = "dataset backbone task size image_size draw seed regime protocol priors method source".split()
DATASET, BACKBONE = "fashion_mnist_12k", "vit_micro"  # if none is typed
PRETRAINING = {"samples_seen": 40_000, "batch_size": 128}  # of a pretraining that a labelled run brings along
PRETRAINS = next(task.name for task in catalogue.TASKS.values() if task.pretrains)
SHARED = ("dataset", "backbone", "backbone_source", "regime", "image_size", "priors", "patch", "window", "stem")
FIRST = {"regime": "mae", "source": catalogue.POOL}  # of a pretraining, if they are not typed


def definition(
    typed: Mapping[str, Any], *, like: Run | None, recipe_name: str, fields: Mapping[str, Any], folder: Path
) -> tuple[tuple[Run, ...], dict[str, Any]]:
    """Return the run, after the pretraining that it brings along, and the places of weights file and source.

    A run of a regime that pretrains, without a pretraining, starts from one that is finished in the folder, or brings
    one of its own along.

    typed: flag → value of all flags that were typed. like: the run to start from. fields: of --set. folder: where the
    pretraining is searched. Raises UserError for what is missing and for what does not fit together.
    """
    run = _identity(typed, like)
    if recipe_name:
        run = replace(run, **recipe(recipe_name))
    run = replace(run, backbone_source=own.source_of(run.backbone))
    run = replace(run, method_source=own.source(run.method, kind="method") if run.method else "")
    run = _with_fields(run, like, fields)
    if typed.get("settle"):
        run = _to_settle(run, recipe_name, typed, fields)
    places: dict[str, Any] = {}
    if "source" in typed:
        skip_bad = bool(typed.get("skip_bad_images"))
        labelled = run.regime in catalogue.REGIMES and catalogue.REGIMES[run.regime].labels
        side = run.image_size
        source, place = own.images(
            typed["source"], folder=folder, image_size=side, skip_bad=skip_bad, labelled=labelled
        )
        run, places = replace(run, source=source), {source: place} if place else {}
    weights = typed.get("weights")
    if weights is not None:
        if (regime := catalogue.REGIMES.get(typed.get("regime", ""))) is not None and regime.module:
            what = f"--weights begins with the weights of a file, and --regime {typed['regime']} with a pretraining"
            raise UserError(what, remedy="leave one of them out")
        name, place = own.weights(weights)
        run = replace(run, weights=name, regime=typed.get("regime", "weights"), source=run.source or name)
        places |= {name: place} if place else {}
    if "pretraining" in typed:
        run = _from_pretraining(run, typed, folder)
    if catalogue.REGIMES[run.regime].module and not pretrains(run) and not run.pretraining:
        before = _pretraining_of(run, folder)
        run = replace(run, pretraining=run_id(before), source=before.source)
        return (before, run), places
    return (run,), places


def _pretraining_of(run: Run, folder: Path) -> Run:
    """Return the pretraining of a labelled run: the only one in the folder that fits, else one of its own.

    Its own has the run's seed, 40,000 images seen in batches of 128, and the defaults of its regime. Raises UserError
    if the regime learns from labels and no source is typed.
    """
    regime = catalogue.REGIMES[run.regime]
    source = run.source or next(iter(regime.sources), "" if regime.labels else catalogue.POOL)
    if not source:
        what = f"the regime '{run.regime}' pretrains on a labelled dataset, and none is named"
        raise UserError(what, remedy="add --source, the name of a dataset or a folder of class folders")
    subset = {"size": run.size, "draw": run.draw, "blocks": run.blocks} if source == catalogue.SUBSET else {}
    same = {name: getattr(run, name) for name in SHARED}
    values = {**regime.fields, **PRETRAINING, **same, **subset, "source": source, "seed": run.seed}
    before = Run(task=PRETRAINS, **values)
    if ledger.state(folder, run_id(before)) == "finished":
        return before
    fits = {**same, **subset, "source": source}
    found = [one for one in _finished_pretrainings(folder) if all(getattr(one, n) == v for n, v in fits.items())]
    return found[0] if len(found) == 1 else before


def _finished_pretrainings(folder: Path) -> list[Run]:
    """Return the finished pretrainings of a folder."""
    names = sorted(path.parent.name for path in folder.glob(f"runs/*/{ledger.RESULT}"))
    return [run for name in names if pretrains(run := ledger.read_run(folder, name))]


def lines(runs: tuple[Run, ...], folder: Path) -> list[str]:
    """Return a line on the pretraining that a run brings along, none if it brings none."""
    if len(runs) < 2:
        return []
    before = runs[0]
    regime = catalogue.REGIMES[before.regime].words
    what = f"{run_id(before)}, {regime} of {before.backbone} on {before.source or catalogue.POOL}"
    if ledger.state(folder, run_id(before)) == "finished":
        return [f"pretraining: {what}, which is finished in {folder}"]
    seen = f"{round(images_seen(before)):,} images seen"
    return [f"pretraining first: {what}, {seen}; to start from another, give --pretraining RUN"]


def _identity(typed: Mapping[str, Any], like: Run | None) -> Run:
    """Return the run that the flags name, with every other field at its default or as in `like`."""
    identity = {name: typed[name] for name in IDENTITY if name in typed}
    if "priors" in identity:
        identity["priors"] = catalogue.join_priors(identity["priors"])
    for name, names in (("task", catalogue.TASKS), ("regime", catalogue.REGIMES)):
        if name in identity and identity[name] not in names:
            raise unknown(name, identity[name], names)
    if like is not None:
        return replace(like, **identity)
    task = catalogue.TASKS[identity.get("task", DEFAULTS["task"])]
    if task.labelled and "size" not in identity:
        raise UserError("bias-lab train: no number of labelled images is named", "for example --size 1000")
    return Run(**{"dataset": DATASET, "backbone": BACKBONE, **(FIRST if task.pretrains else {}), **identity})


def _to_settle(run: Run, recipe_name: str, typed: Mapping[str, Any], fields: Mapping[str, Any]) -> Run:
    """Return the run with open learning rate and budget, and an open recipe unless one is named or changed."""
    if pretrains(run) or not catalogue.PROTOCOLS[run.protocol].needs_learning_rate:
        what = "a pretraining" if pretrains(run) else f"the protocol '{run.protocol}'"
        raise UserError(f"--settle finds a training budget, and {what} has none to find", remedy="leave --settle out")
    given = [name for name in ("samples_seen", "learning_rate", "budget") if name in fields]
    is_tuned = typed.get("tune")
    if given or is_tuned is False:
        other = f"--set {given[0]}=…" if given else "--no-tune"
        raise UserError(f"--settle and {other} exclude each other", remedy="leave one of them out")
    is_changed = bool(fields) and run.recipe != DEFAULTS["recipe"]  # by a field of --set, such as mixup
    named = {} if recipe_name or is_changed else recipe(TUNED)
    return replace(run, samples_seen=None, learning_rate=None, budget=1.0, **named)


def _with_fields(run: Run, like: Run | None, fields: Mapping[str, Any]) -> Run:
    """Return the run with the fields of --set, and with the regime's own defaults for the fields that only it reads."""
    own_fields = catalogue.REGIMES[run.regime].fields if pretrains(run) else {}
    for name in fields:
        if name in overrides.FLAGS:
            raise UserError(f"--set {name}=… changes what the run is", remedy=f"use {_flag(name)}")
        regimes = [row.name for row in catalogue.REGIMES.values() if name in row.fields]
        if regimes and name not in own_fields:
            what = f"--set {name}=… belongs to a pretraining by {' or '.join(regimes)}"
            raise UserError(what, remedy=f"add --task pretrain --regime {regimes[0]}")
    if like is None or like.regime != run.regime:
        run = replace(run, **{name: value for name, value in own_fields.items() if value != DEFAULTS[name]})
    return typed_values.with_values(run, fields) if fields else run


def _flag(name: str) -> str:
    """Return the flag of `bias-lab train` that sets a field."""
    return overrides.FLAGS[name] if name.startswith("pixel_") else f"--{name.replace('_', '-')}"


def _from_pretraining(run: Run, typed: Mapping[str, Any], folder: Path) -> Run:
    """Return the run that starts from the typed pretraining, and has its priors unless others are typed.

    Raises UserError if the pretraining can't be used.
    """
    where, name = find_run.find(typed["pretraining"], folder)
    before = ledger.read_run(where, name)
    if not pretrains(before):
        raise UserError(f"{name} is not a pretraining", f"its task is '{before.task}'")
    if ledger.state(where, name) != "finished":
        raise UserError(f"the pretraining {name} is not finished", remedy="run it again first")
    if before.backbone != run.backbone:
        raise UserError(f"the pretraining {name} is of {before.backbone}, not of {run.backbone}")
    regime = typed.get("regime", before.regime)
    run = replace(run, method=before.method, method_source=before.method_source)
    return replace(run, pretraining=name, regime=regime, source=before.source, priors=run.priors or before.priors)


def like(name: str, folder: Path | None) -> tuple[Run, tuple[Run, ...], dict[str, Any]]:
    """Return the run of that id, the pretraining that it names (a tuple, perhaps empty), and its folder's places."""
    where, full = find_run.find(name, folder)
    run = find_run.definition(where, full)
    before = (find_run.definition(where, run.pretraining),) if run.pretraining else ()
    path = where / ledger.PLACES
    return run, before, ledger.read_json(path) if path.is_file() else {}


def experiment(runs: tuple[Run, ...], before: tuple[Run, ...]) -> Experiment:
    """Return single runs as an experiment, with those of the pretrainings `before` that they name."""
    named = {run.pretraining for run in runs}
    return Experiment(question="", runs=(*(run for run in before if run_id(run) in named), *runs))

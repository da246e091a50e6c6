"""An experiment and what the command line asks of it → the runs, in order. Pure but for reading files; no torch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bias_lab import __version__, catalogue, ledger
from bias_lab.definition import Experiment, Run, label, read_experiment, run_id, to_json
from bias_lab.errors import UserError, unknown
from bias_lab.planning import checks, learning_rates, overrides, own
from bias_lab.planning.checks import Facts
from bias_lab.planning.learning_rates import Rates

FAMILIES = ("cnn", "transformer", "hybrid", "other")


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """A user's own images as planning sees them: their identity and facts, and where they lie (for places.json)."""

    dataset: str  # `folder:<fingerprint>`, `table:<fingerprint>`
    facts: Facts
    place: Mapping[str, Any]
    image_size: int = 64
    notes: tuple[str, ...] = ()  # what was found in it, for the user


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the command line asks of an experiment; an empty one runs it as it stands."""

    sizes: tuple[int, ...] | None = None
    draws: tuple[int, ...] | None = None
    seeds: tuple[int, ...] | None = None
    backbones: tuple[str, ...] = ()  # to join, as typed
    family: str = ""  # of the joined ones
    data: Data | None = None
    image_size: int | None = None  # of a dataset by name
    manifest: str = ""  # its content hash
    manifest_length: int = 0
    recipe: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    typed: tuple[str, ...] = ()  # fields that a single run was given by hand, which other data must not undo
    places: Mapping[str, Any] = field(default_factory=dict)  # of weights files, manifests, earlier data
    tune: bool | None = None  # True: all; False: nobody; None: joined backbones
    allow_overlap: bool = False
    skip_bad_images: bool = False  # of a folder to pretrain on


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The runs of a sweep, in the order in which they are begun. While there are trials, some rates are open."""

    name: str
    profile: str
    question: str
    note: str
    runs: tuple[Run, ...]
    trials: tuple[Run, ...]  # tuning runs that must finish before the rest is known
    families: Mapping[str, str]  # of joined backbones
    places: Mapping[str, Any]  # dataset or weights → where they lie
    notes: tuple[str, ...]  # lines for the user
    warnings: tuple[str, ...]
    tuned: tuple[Mapping[str, Any], ...] = ()  # rows of the tuning table that gave these runs their rates

    def all(self) -> tuple[Run, ...]:
        return self.trials + self.runs


def make(path: Path, profile: str, folder: Path, request: Request) -> Plan:
    """The plan of an experiment file's profile. Learning rates come from FOLDER/tuned.json and the file's neighbour.

    Raises UserError for everything that the catalogue can refuse.
    """
    experiment = read_experiment(path, profile)
    tables = learning_rates.read(folder / ledger.TUNED, path.parent / ledger.TUNED)
    return arrange(experiment, path.stem, profile, folder, request, tables)


def arrange(experiment: Experiment, name: str, profile: str, folder: Path, request: Request, tables: Rates) -> Plan:
    """The plan of an experiment, given tuned learning rates. folder: the sweep's, where earlier pretrainings lie."""
    joined = {backbone: _source(backbone) for backbone in request.backbones}
    if request.family and request.family not in FAMILIES:
        raise unknown("family", request.family, FAMILIES)
    if request.family and not joined:
        raise UserError("--family says what a joined backbone is, and none joins", remedy="--backbone NAME")
    runs, places = _identified(_reshaped(experiment.runs, request, joined), folder, request.skip_bad_images)
    data = request.data
    facts = checks.known(runs, {data.dataset: data.facts} if data else {})
    runs, notes = checks.fit_sizes(runs, _bounded(facts, request), typed=request.sizes is not None)
    runs = _wanted(runs, experiment)
    overlaps = checks.refuse(runs, facts, allow_overlap=request.allow_overlap, earlier=_pretrained(runs, folder))
    warned = [*overlaps, *checks.misspelt(joined), *checks.warnings(runs, facts, tables)]
    runs, trials, more = settle(runs, facts, tables, joined, tune=request.tune)
    used = learning_rates.used(runs, tables)
    warned += checks.edges(used)
    families = dict.fromkeys(joined, request.family or "other")  # a guest, also where its name is timm's
    return Plan(
        name=name,
        profile=profile,
        question=experiment.question,
        note=experiment.note,
        runs=tuple(overrides.arrange(runs)),
        trials=tuple(trials),
        families=families,
        places={**places, **request.places, **({data.dataset: dict(data.place)} if data else {})},
        notes=(*(data.notes if data else ()), *notes, *more),
        warnings=tuple(warned),
        tuned=tuple(used),
    )


def _reshaped(runs: Sequence[Run], request: Request, joined: Mapping[str, str]) -> list[Run]:
    made = list(runs)
    if request.image_size and not request.data:
        made = overrides.rewrite(made, lambda run: replace(run, image_size=_side(run.dataset, request.image_size)))
    if request.data:
        made = overrides.on_data(made, request.data.dataset, request.data.image_size, typed=request.typed)
    if request.recipe:
        made = overrides.with_recipe(made, request.recipe)
    if request.fields:
        made = overrides.with_fields(made, request.fields)
    made = overrides.override(made, sizes=request.sizes, draws=request.draws, seeds=request.seeds)
    if request.manifest:
        made = overrides.to_manifest(made, request.manifest)
    return overrides.join(made, joined) if joined else made


def _identified(runs: Sequence[Run], folder: Path, skip_bad: bool) -> tuple[list[Run], dict[str, Any]]:
    """Weights and sources that an experiment names by their place take the hash of its content; and where they lie."""
    files = {run.weights for run in runs if run.weights and not run.weights.startswith("file:")}
    weights = {name: own.weights(name) for name in files}
    looked_at = {run.source: run.image_size for run in runs if run.regime not in ("scratch", "weights")}
    sources = {
        name: own.images(name, folder=folder, image_size=side, skip_bad=skip_bad) for name, side in looked_at.items()
    }
    named = [*weights.items(), *sources.items()]
    if all(identity == name for name, (identity, _) in named):
        return list(runs), {}
    places = {identity: place for _, (identity, place) in named if place}

    def change(run: Run) -> Run:
        held, source = weights.get(run.weights, (run.weights,))[0], sources.get(run.source, (run.source,))[0]
        return replace(run, weights=held, source=source)

    return overrides.rewrite(runs, change), places


def _pretrained(runs: Sequence[Run], folder: Path) -> dict[str, Run]:
    """The pretrainings of this folder that runs name."""
    named = {run.pretraining for run in runs if run.pretraining}
    known = [name for name in named if (ledger.run_folder(folder, name) / ledger.RUN).is_file()]
    return {name: ledger.read_run(folder, name) for name in known}


def _bounded(facts: Mapping[str, Facts], request: Request) -> Mapping[str, Facts]:
    """With a manifest, its length is the pool that sizes must fit."""
    if not request.manifest_length:
        return facts
    return {
        name: replace(
            about, name=f"{about.name} in the manifest", counts=_shrunk(about.counts, request.manifest_length)
        )
        for name, about in facts.items()
    }


def _shrunk(counts: tuple[int, ...], total: int) -> tuple[int, ...]:
    share, rest = divmod(total, max(len(counts), 1))
    return tuple(share + (place < rest) for place in range(len(counts)))


def _side(dataset: str, typed: int | None) -> int | None:
    """The typed side, None if it is the dataset's own: one size, one run_id."""
    row = catalogue.DATASETS.get(dataset)
    return None if row and row.image_size == typed else typed


def _wanted(runs: Sequence[Run], experiment: Experiment) -> list[Run]:
    """Without pretrainings that nobody waits for any more; those that nobody ever named stand for themselves."""
    if not any(run.pretraining for run in experiment.runs):
        return list(runs)
    waited = {run.pretraining for run in runs}
    return [run for run in runs if run.task != "pretrain" or run_id(run) in waited]


def _source(backbone: str) -> str:
    return own.source(backbone) if catalogue.is_own(backbone) else ""


# --- learning rates --------------------------------------------------------------------------------------------------


def settle(
    runs: Sequence[Run], facts: Mapping[str, Facts], tables: Rates, joined: Mapping[str, str], *, tune: bool | None
) -> tuple[list[Run], list[Run], list[str]]:
    """Runs with their learning rates, the trials that those still open need, and lines that say what was borrowed.

    tune: True, every cell without a rate of its own dataset is tuned; None, joined backbones are; False, nobody is.
    """
    found: dict[tuple[Any, ...], float | None] = {}
    borrowed: dict[str, dict[str, None]] = {}

    def rate_of(run: Run) -> float | None:
        key = (run.dataset, run.backbone, run.backbone_source, run.recipe, run.regime, run.intervention, run.size)
        if key not in found:
            row = tables.row(run, own_data=tune is True)
            if row is not None:
                found[key] = float(row["learning_rate"])
            elif tune is True or (tune is None and run.backbone in joined):
                found[key] = None  # to be tuned
            elif tune is False:
                found[key], whose = learning_rates.borrow(run, tables)
                borrowed.setdefault(f"learning rate {found[key]:g}, {whose}", {})[
                    f"{run.backbone} {cell_words(run)}"
                ] = None
            else:
                found[key] = learning_rates.resolve(run, tables).learning_rate
        return found[key]

    open_runs: list[Run] = []

    def change(run: Run) -> Run:
        if not learning_rates.needs_rate(run):
            return run
        rate = rate_of(run)
        if rate is None:
            open_runs.append(run)
            return run
        return replace(run, learning_rate=rate)

    settled = overrides.rewrite(runs, change)
    by_dataset: dict[str, list[Run]] = {}
    for run in open_runs:
        by_dataset.setdefault(run.dataset, []).append(run)
    trials = [
        trial
        for dataset, group in by_dataset.items()
        for trial in learning_rates.trials(group, tables, largest=facts[dataset].largest_tuned)
    ]
    return settled, trials, [f"not tuned ({rate}): {', '.join(cells)}" for rate, cells in borrowed.items()]


def cell_words(run: Run) -> str:
    """`scratch`, `mae strong`: what a learning rate depends on beside the backbone."""
    return " ".join(
        part for part in (run.regime, run.recipe if run.recipe != "plain" else "", run.intervention) if part
    )


# --- what the folder keeps of it -------------------------------------------------------------------------------------


def write(plan: Plan, folder: Path, command: str, *, keep: bool = False) -> None:
    """`experiment.json`: the plan, a run a line. Runs of earlier plans that are finished here stay listed.

    keep: those that were begun and are not finished stay too (a folder of single runs).
    """
    entries: list[dict[str, Any]] = [
        {
            "run_id": run_id(run),
            "family": plan.families.get(run.backbone, catalogue.family(run.backbone)),
            "run": to_json(run),
        }
        for run in plan.all()
    ]
    there = {entry["run_id"] for entry in entries}
    entries += [{**entry, "earlier": True} for entry in _earlier(folder, keep=keep) if entry["run_id"] not in there]
    head: dict[str, Any] = {
        "experiment": plan.name,
        "question": plan.question,
        "note": plan.note,
        "profile": plan.profile,
        "command": command,
        "version": __version__,
    }
    if plan.tuned:
        head["tuned"] = {"rows": list(plan.tuned)}
    lines = ",\n".join(json.dumps(entry, sort_keys=True, ensure_ascii=False) for entry in entries)
    start = json.dumps(head, indent=1, ensure_ascii=False).removesuffix("\n}")
    ledger.write_bytes(folder / ledger.EXPERIMENT, f'{start},\n "runs": [\n{lines}\n]}}\n'.encode())


def write_places(plan: Plan, folder: Path) -> None:
    """`places.json`: where the user's data and weights lie, which workers need and no run holds."""
    if plan.places:
        path = folder / ledger.PLACES
        old = ledger.read_json(path) if path.is_file() else {}
        ledger.write_json(path, {**old, **plan.places})


def _earlier(folder: Path, *, keep: bool) -> list[dict[str, Any]]:
    path = folder / ledger.EXPERIMENT
    if not path.is_file():
        return []
    entries: list[dict[str, Any]] = ledger.read_json(path)["runs"]
    wanted = {"finished", "failed", "diverged", "started"} if keep else {"finished"}
    return [entry for entry in entries if ledger.state(folder, entry["run_id"]) in wanted]


def open_rates(plan: Plan) -> list[str]:
    """Runs whose learning rate is still open, in words (for a dry run)."""
    return [label(run) for run in plan.runs if learning_rates.needs_rate(run)]

"""Make the plan of an experiment: its runs as the command line asks, in order. No torch."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bias_lab import __version__, catalogue, ledger
from bias_lab.definition import Experiment, Ladder, Run, from_json, pretrains, run_id, to_json
from bias_lab.errors import UserError, check_regular, unknown
from bias_lab.planning import checks, experiment_files, ladder, learning_rates, overrides, own, settle
from bias_lab.planning.checks import DatasetSummary
from bias_lab.planning.learning_rates import Rates

FAMILIES = ("cnn", "transformer", "hybrid", "other")


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """A user's own images: their identity, a summary, and their place (for places.json)."""

    dataset: str  # `folder:<fingerprint>`, `table:<fingerprint>`
    summary: DatasetSummary
    place: Mapping[str, Any]
    image_size: int = 64
    notes: tuple[str, ...] = ()  # lines for the user


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the command line asks of an experiment. An empty request runs it unchanged."""

    sizes: tuple[int, ...] | None = None
    draws: tuple[int, ...] | None = None
    seeds: tuple[int, ...] | None = None
    backbones: tuple[str, ...] = ()  # to join, as typed
    weights: str = ""  # that the joined ones start from, in further cells
    family: str = ""  # of the joined ones
    methods: tuple[str, ...] = ()  # to join, as typed
    data: Data | None = None
    image_size: int | None = None  # of a dataset by name
    manifest: str = ""  # its content hash
    manifest_length: int = 0
    recipe: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    start: Mapping[str, Any] = field(default_factory=dict)  # fields about weights, for the runs that start from some
    single: bool = False  # one run of `bias-lab train`, whose flag is --size
    typed: tuple[str, ...] = ()  # fields of a single run that the user set, which other data must keep
    places: Mapping[str, Any] = field(default_factory=dict)  # of weights files, manifests, earlier data
    tune: bool | None = None  # tune all (True), nothing (False), or joined backbones (None)
    allow_overlap: bool = False
    skip_bad: bool = False  # leave out unreadable images of a source


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The runs of a sweep, in the order in which they are begun, and the trials that fill in their open values."""

    name: str
    profile: str
    question: str
    note: str
    runs: tuple[Run, ...]
    trials: tuple[Run, ...]  # tuning runs that are finished or come next. More may follow from what they show
    families: Mapping[str, str]  # of joined backbones
    places: Mapping[str, Any]  # dataset or weights → where they are
    notes: tuple[str, ...]  # lines for the user
    warnings: tuple[str, ...]
    tuned: tuple[Mapping[str, Any], ...] = ()  # rows of the tuning table that gave these runs their values
    evidence: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # run_id → its columns from the plan
    pending: frozenset[Run] = frozenset()  # runs whose open values the trials will fill in
    searched: tuple[tuple[Run, ...], ...] = ()  # cells of the trials, each under its recipes
    ladders: tuple[Ladder, ...] = ()  # how each of them is searched

    def all(self) -> tuple[Run, ...]:
        return self.trials + self.runs


def make(path: Path, profile: str, folder: Path, request: Request) -> Plan:
    """Return the plan of one profile of an experiment file. folder: the sweep's.

    Learning rates come from FOLDER/tuned.json, then from the tuned.json beside the file or, without one, the package's.
    Raises UserError for every mistake that the catalogue can find.
    """
    path = experiment_files.find(path)
    experiment = experiment_files.read(path, profile)
    return arrange(experiment, path.stem, profile, folder, request, rates(folder, path.parent))


def rates(folder: Path, beside: Path | None = None) -> Rates:
    """Return the tuned learning rates of a sweep's folder, then those in `beside` or, without any, the package's."""
    own_table = beside / ledger.TUNED if beside else None
    if own_table:
        check_regular(own_table)
    shipped = own_table if own_table and own_table.is_file() else experiment_files.tuned()
    return learning_rates.read(folder / ledger.TUNED, shipped)


def arrange(experiment: Experiment, name: str, profile: str, folder: Path, request: Request, tables: Rates) -> Plan:
    """Return the plan of an experiment, given tuned learning rates. folder: the sweep's, with earlier pretrainings."""
    checks.check_names(experiment.runs)
    joined = {backbone: own.source_of(backbone) for backbone in request.backbones}
    if request.family and request.family not in FAMILIES:
        raise unknown("family", request.family, FAMILIES)
    if request.family and not joined:
        raise UserError("--family is given without an added backbone", remedy="add --backbone NAME")
    refused = _refused(experiment.runs, request)
    asked = _requested(experiment.runs, request, joined, refused)
    runs, places = _identified(asked, folder, skip_bad=request.skip_bad)
    data = request.data
    summaries = checks.summaries(runs, {data.dataset: data.summary} if data else {})
    runs, overlapping = (runs, []) if "blocks" in request.fields else overrides.fit_blocks(runs, summaries)
    runs, notes = _fitted(runs, summaries, request)
    runs = _needed(runs, experiment)
    earlier = _pretrained(runs, folder)
    overlaps = checks.check_runs(runs, summaries, allow_overlap=request.allow_overlap, earlier=earlier)
    warned = [*overlaps, *checks.misspelt(joined), *checks.warnings(runs, summaries, tables)]
    largest = {dataset: summary.largest_tuned for dataset, summary in summaries.items()}
    filled = settle.settle(runs, tables, largest, joined, tune=request.tune)
    ladders = _ladders(experiment, filled.cells, tables)
    read = ladder.reader(folder)
    searches = [ladder.explore(cell, how, read) for cell, how in zip(filled.cells, ladders, strict=True)]
    trials = [trial for cell in searches for search in cell for trial in search.asked]
    checks.check_holdout([*filled.runs, *trials], summaries, manifest_length=request.manifest_length)
    return Plan(
        name=name,
        profile=profile,
        question=experiment.question,
        note=experiment.note,
        runs=tuple(overrides.in_order(filled.runs)),
        trials=tuple(trials),
        families=dict.fromkeys(joined, request.family or "other"),  # also of a joined backbone that the lab has
        places={**places, **request.places, **({data.dataset: dict(data.place)} if data else {})},
        notes=(
            *(data.notes if data else ()),
            *(f"left out: {regime} of {name}: {why}" for name, by in refused.items() for regime, why in by.items()),
            *_source_notes({**places, **request.places}),
            *overlapping,
            *notes,
            *filled.notes,
        ),
        warnings=(*warned, *checks.at_grid_edge(filled.used)),
        tuned=tuple(filled.used),
        evidence=filled.evidence,
        pending=frozenset(filled.pending),
        searched=tuple(filled.cells),
        ladders=ladders,
    )


def _ladders(experiment: Experiment, cells: Sequence[settle.Cell], tables: Rates) -> tuple[Ladder, ...]:
    """Return how each cell is searched: on the ladder of its dataset or the experiment's, with the table's grid."""
    planned = [experiment.ladders.get(cell[0].dataset, experiment.ladder) for cell in cells]
    return tuple(replace(one, rates=tables.grid() or one.rates) for one in planned)


def _refused(runs: Sequence[Run], request: Request) -> dict[str, dict[str, str]]:
    """Return joined backbone → the regimes of the runs' pretrainings that it can't take, and why."""
    first = next((run for run in runs if run.pretraining), None)
    if first is None:
        return {}
    side, channels = request.image_size or first.image_size, 3
    if request.data:
        side, channels = request.data.image_size, int(request.data.place.get("channels", channels))
    elif first.dataset in catalogue.DATASETS:
        row = catalogue.DATASETS[first.dataset]
        side, channels = side or row.image_size, row.channels
    regimes = {run.regime for run in runs if run.pretraining}
    why = {name: own.refusals(name, image_size=side or 64, channels=channels) for name in request.backbones}
    return {name: {r: reason for r, reason in reasons.items() if r in regimes} for name, reasons in why.items()}


def _requested(
    runs: Sequence[Run],
    request: Request,
    joined: Mapping[str, str],
    refused: Mapping[str, Mapping[str, str]],
) -> list[Run]:
    """Return the runs with all overrides of the request."""
    changed = list(runs)
    if request.image_size and not request.data:
        changed = overrides.rewrite(
            changed, lambda run: replace(run, image_size=_side(run.dataset, request.image_size))
        )
    if request.data:
        changed = overrides.on_data(changed, request.data.dataset, request.data.image_size, typed=request.typed)
    if request.recipe:
        changed = overrides.with_recipe(changed, request.recipe)
    if request.fields:
        changed = overrides.with_fields(changed, request.fields)
    changed = overrides.override(changed, sizes=request.sizes, draws=request.draws, seeds=request.seeds)
    if request.manifest:
        changed = overrides.to_manifest(changed, request.manifest)
    changed = overrides.join(changed, joined, refused) if joined else changed
    if request.weights:
        changed = own.from_weights(changed, joined, request.weights)
    if request.start:
        changed = overrides.started(changed, request.start)
    methods = {name: own.source(name, kind="method") for name in request.methods}
    return overrides.join_methods(changed, methods) if methods else changed


def _identified(runs: Sequence[Run], folder: Path, *, skip_bad: bool) -> tuple[list[Run], dict[str, Any]]:
    """Return the runs with the hash of the content instead of the path of weights and sources, and the paths."""
    files = {run.weights for run in runs if run.weights and not run.weights.startswith("file:")}
    weights = {name: own.weights(name) for name in files}
    rows = catalogue.REGIMES
    sides = {(run.source, rows[run.regime].labels): run.image_size for run in runs if rows[run.regime].module}
    sources = {
        (name, labelled): own.images(name, folder=folder, image_size=side, skip_bad=skip_bad, labelled=labelled)
        for (name, labelled), side in sides.items()
    }
    named = [*weights.items(), *((name, found) for (name, _), found in sources.items())]
    if all(identity == name for name, (identity, _) in named):
        return list(runs), {}
    places = {identity: place for _, (identity, place) in named if place}

    def change(run: Run) -> Run:
        held = weights.get(run.weights, (run.weights,))[0]
        source = sources.get((run.source, rows[run.regime].labels), (run.source,))[0]
        return replace(run, weights=held, source=source)

    return overrides.rewrite(runs, change), places


def _source_notes(places: Mapping[str, Any]) -> list[str]:
    """Return what was said when folders to pretrain on were listed."""
    return [f"{place['path']}: {line}" for place in places.values() for line in place.get("notes", ())]


def _pretrained(runs: Sequence[Run], folder: Path) -> dict[str, Run]:
    """Return run_id → the pretrainings that runs name and that the folder has."""
    named = {run.pretraining for run in runs if run.pretraining}
    known = [name for name in named if (ledger.run_folder(folder, name) / ledger.RUN).is_file()]
    return {name: ledger.read_run(folder, name) for name in known}


def _fitted(runs: list[Run], summaries: Mapping[str, DatasetSummary], request: Request) -> tuple[list[Run], list[str]]:
    """Return the runs whose size their pool or manifest can give, and a line for each size that is left out."""
    typed = request.sizes is not None
    return checks.fit_sizes(runs, _bounded(summaries, request), typed=typed, single=request.single)


def _bounded(summaries: Mapping[str, DatasetSummary], request: Request) -> Mapping[str, DatasetSummary]:
    """Return the summaries that sizes must fit: with a manifest, a pool of its length with equal class counts."""

    def shortened(summary: DatasetSummary) -> DatasetSummary:
        share, rest = divmod(request.manifest_length, max(summary.classes, 1))
        counts = tuple(share + (place < rest) for place in range(summary.classes))
        return replace(summary, name=f"{summary.name} in the manifest", counts=counts)

    if not request.manifest_length:
        return summaries
    return {name: shortened(summary) for name, summary in summaries.items()}


def _side(dataset: str, typed: int | None) -> int | None:
    """Return the typed side, or None if it is the dataset's own, so that one size has one run_id."""
    row = catalogue.DATASETS.get(dataset)
    return None if row and row.image_size == typed else typed


def _needed(runs: Sequence[Run], experiment: Experiment) -> list[Run]:
    """Return the runs without pretrainings that no run names any more.

    An experiment in which no run names a pretraining is about its pretrainings, so all of them stay.
    """
    if not any(run.pretraining for run in experiment.runs):
        return list(runs)
    named = {run.pretraining for run in runs}
    return [run for run in runs if not pretrains(run) or run_id(run) in named]


# --- the sweep's folder ----------------------------------------------------------------------------------------------


def write(plan: Plan, folder: Path, command: str, *, keep: bool = False) -> None:
    """Write `experiment.json`: the plan, one line for each run, and the finished runs of earlier plans.

    keep: runs of earlier plans that were begun stay too (a folder of single runs).
    """
    entries = listed(plan, folder, keep=keep)
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


def listed(plan: Plan, folder: Path, *, keep: bool = False) -> list[dict[str, Any]]:
    """Return an entry for each run of the folder: those of the plan, and the finished ones of earlier plans.

    Their number is the total of the sweep, wherever one is printed. keep: as for `write`.
    """
    entries: list[dict[str, Any]] = [
        {
            "run_id": run_id(run),
            "family": plan.families.get(run.backbone, catalogue.family(run.backbone)),
            "run": to_json(run),
            **plan.evidence.get(run_id(run), {}),
        }
        for run in plan.all()
    ]
    planned = {entry["run_id"] for entry in entries}
    earlier = [entry for entry in _earlier(folder, keep=keep) if entry["run_id"] not in planned]
    return entries + [{**entry, "earlier": True} for entry in earlier]


def write_places(plan: Plan, folder: Path) -> None:
    """Write `places.json`: where the user's data and weights are. Workers need it, and no run holds it."""
    if plan.places:
        path = folder / ledger.PLACES
        old = ledger.read_json(path) if path.is_file() else {}
        ledger.write_json(path, {**old, **plan.places})


def _earlier(folder: Path, *, keep: bool) -> list[dict[str, Any]]:
    """Return the entries of the plan in the folder whose runs have got far enough to stay listed.

    A failed trial stays, since the values that the plan took from its search have left it out.
    """
    path = folder / ledger.EXPERIMENT
    if not path.is_file():
        return []
    entries: list[dict[str, Any]] = ledger.read_json(path)["runs"]
    begun = {"finished", "failed", "diverged", "started"}

    def wanted(entry: Mapping[str, Any]) -> set[str]:
        if keep:
            return begun
        return begun - {"started"} if ladder.is_trial(from_json(entry["run"])) else {"finished"}

    return [entry for entry in entries if ledger.state(folder, entry["run_id"]) in wanted(entry)]

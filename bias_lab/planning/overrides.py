"""Change an experiment's runs as the command line asks: sizes, draws, seeds, data, recipe, more backbones.

A run names its pretraining by id, and the id changes with any field. So every change goes through `rewrite`, which
updates the ids. All functions are pure. They return runs in the experiment's order, equal runs once.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from bias_lab import catalogue
from bias_lab.data import subsets
from bias_lab.definition import DEFAULTS, RECIPES, Run, pretrains, recipe, run_id
from bias_lab.errors import UserError
from bias_lab.planning import typed_values
from bias_lab.planning.checks import DatasetSummary

# fields that `--set` does not change, and how to change them
FLAGS = {
    "dataset": "--data, or a dataset's name in `bias-lab train`",
    "backbone": "--backbone",
    "method": "--method",
    "size": "--sizes",
    "draw": "--draws",
    "seed": "--seeds",
    "image_size": "--image-size",
    "recipe": "--recipe",
    "manifest": "--manifest",
    "weights": "--weights",
    "allow_partial_weights": "--allow-partial-weights",
    "pixel_mean": "--mean",
    "pixel_std": "--std",
    "source": "--source of `bias-lab train`, or write it into the experiment file",
}
# fields that can't be set on a whole experiment: they follow from others, or `--set` does not reach pretrainings
DERIVED = {"task", "backbone_source", "method_source", "pretraining", "regime"}
DERIVED |= {name for row in catalogue.REGIMES.values() for name in row.fields}


def rewrite(runs: Iterable[Run], change: Callable[[Run], Run]) -> list[Run]:
    """Return every run after `change`, with the new id of its pretraining. Equal results become one."""
    runs = list(runs)
    pretrainings = {run_id(run): run for run in runs if pretrains(run)}
    renamed: dict[str, Run] = {}

    def renew(old: str) -> str:
        if old not in pretrainings:
            return old  # an earlier pretraining, which is not among these runs
        if old not in renamed:
            renamed[old] = move(pretrainings[old])
        return run_id(renamed[old])

    def move(run: Run) -> Run:
        if run.pretraining and (name := renew(run.pretraining)) != run.pretraining:
            run = replace(run, pretraining=name)
        return change(run)

    return list(dict.fromkeys(move(run) for run in runs))


def rewrite_labelled(runs: Iterable[Run], change: Callable[[Run], Run]) -> list[Run]:
    """Return the runs with `change` applied to those that train on labelled images. Pretrainings stay as they are."""
    return rewrite(runs, lambda run: run if pretrains(run) else change(run))


def on_data(runs: Iterable[Run], dataset: str, image_size: int | None, *, typed: Collection[str] = ()) -> list[Run]:
    """Return the runs on other images: a user's data instead of the experiment's datasets.

    Patch, window and stem are chosen anew for another image size. Kept are those that the user set (`typed`), and those
    in which the runs of one backbone differ, since the experiment is about them. A run that names its image size keeps
    its own at that size.
    """
    runs = list(runs)
    anew: dict[str, Any] = {n: None for n in ("patch", "window", "stem") if n not in typed and not _is_axis(runs, n)}

    def move(run: Run) -> Run:
        of_size = anew if image_size is None or run.image_size != image_size else {}
        return replace(run, dataset=dataset, image_size=image_size, drop_duplicates=True, **of_size)

    return rewrite(runs, move)


def _is_axis(runs: Sequence[Run], name: str) -> bool:
    """Return whether runs of one backbone differ in a field."""
    return len({(run.backbone, getattr(run, name)) for run in runs}) > len({run.backbone for run in runs})


def with_recipe(runs: Iterable[Run], name: str) -> list[Run]:
    """Return the runs with every labelled training under one recipe."""
    values = {field: DEFAULTS[field] for fields in RECIPES.values() for field in fields} | recipe(name)
    return rewrite_labelled(runs, lambda run: replace(run, **values))


def with_fields(runs: Iterable[Run], values: Mapping[str, Any]) -> list[Run]:
    """Return the runs with `--set FIELD=VALUE` on every labelled training, named after it: `plain+mixup=0.2`.

    Raises UserError for a field that has a flag of its own, or that follows from others.
    """
    for name in values:
        if name in FLAGS:
            raise UserError(f"--set {name}=… changes the question of the experiment", remedy=f"use {FLAGS[name]}")
        if name in DERIVED:
            what = f"--set {name}=… can't be set on a whole experiment"
            raise UserError(what, remedy="write it into the experiment file")
    return rewrite_labelled(runs, lambda run: typed_values.with_values(run, values))


def started(runs: Iterable[Run], fields: Mapping[str, Any]) -> list[Run]:
    """Return the runs with fields about weights, such as their normalisation, on every run that starts from weights.

    Raises UserError if no run does.
    """
    runs = list(runs)
    if fields and not any(run.weights for run in runs):
        given = " and ".join(FLAGS[name] for name in fields)
        raise UserError(f"{given}: no run starts from weights", remedy="leave it out, or name weights with --weights")
    return rewrite(runs, lambda run: replace(run, **fields) if run.weights else run)


def join(
    runs: Sequence[Run], backbones: Mapping[str, str], refused: Mapping[str, Collection[str]] = MappingProxyType({})
) -> list[Run]:
    """Return the runs and, after each distinct one that random weights or a pretraining starts, the same with others.

    backbones: name → hash of its source. refused: name → the regimes that it can't take, which are left out. The
    learning rate of the new runs is open, and so are patch, window and stem. A pretraining keeps its learning rate.
    """
    joined: dict[Run, None] = {}
    pretrainings = {run_id(run): run for run in runs if pretrains(run)}

    def other(run: Run, name: str) -> Run:
        bare = replace(run, patch=None, window=None, stem=None, priors="", backbone=name)
        return replace(bare, backbone_source=backbones[name])

    for run in runs:
        joined[run] = None
        starts, before = catalogue.REGIMES[run.regime].starts_from, pretrainings.get(run.pretraining)
        is_open = catalogue.TASKS[run.task].evaluated_on == "test" and not catalogue.traits(run.backbone).control
        if not is_open or (starts and before is None):
            continue
        for name in backbones:
            new = replace(other(run, name), learning_rate=None)
            if before is None:
                joined[new] = None
            elif run.regime not in refused.get(name, ()):
                first = other(before, name)
                joined |= dict.fromkeys((first, replace(new, pretraining=run_id(first))))
    if backbones and len(joined) == len(runs):
        absent = [name for name in backbones if not any(run.backbone == name for run in runs)]
        if absent:
            raise UserError(f"{absent[0]} can't be added, since the experiment has no cell that it can take")
    return list(joined)


def join_methods(runs: Sequence[Run], methods: Mapping[str, str]) -> list[Run]:
    """Return the runs and, after each that trains on labelled images without a pretraining, the same by each method.

    methods: `module:Class` or `module:loss` → hash of its source. The learning rate of the new runs is open.
    Raises UserError if no run has a place for them.
    """
    joined: dict[Run, None] = {}
    for run in runs:
        joined[run] = None
        trains = catalogue.TASKS[run.task].evaluated_on == "test" and catalogue.PROTOCOLS[run.protocol].trains
        if trains and not run.pretraining:
            bare = replace(run, learning_rate=None)
            joined.update(dict.fromkeys(replace(bare, method=n, method_source=hash_) for n, hash_ in methods.items()))
    if methods and len(joined) == len(runs):
        what = f"{next(iter(methods))} can't be added, since the experiment fine-tunes nothing without a pretraining"
        raise UserError(what, remedy="name it in `method` of the experiment file's pretrainings")
    return list(joined)


def fit_blocks(runs: Sequence[Run], data: Mapping[str, DatasetSummary]) -> tuple[list[Run], list[str]]:
    """Return the runs with draws of the whole pool where it is too small for disjoint ones, and a line for each size.

    A size changes as a whole, with its pretrainings on a subset, so that all backbones still share their draws.
    """
    apart: dict[tuple[str, int, int], str] = {}
    for dataset, blocks, size in dict.fromkeys((run.dataset, run.blocks, run.size) for run in runs if run.blocks):
        counts, name = list(data[dataset].counts), data[dataset].name
        if counts and (min(counts) < blocks or size > sum(subsets.block_counts(counts, blocks, blocks - 1))):
            what = f"N = {size}: {blocks} disjoint draws don't fit the {sum(counts):,} training images of {name}"
            apart[dataset, blocks, size] = f"{what}, so draws overlap"
    if not apart:
        return list(runs), []

    def change(run: Run) -> Run:
        return replace(run, blocks=0) if (run.dataset, run.blocks, run.size) in apart else run

    return rewrite(runs, change), list(apart.values())


def to_manifest(runs: Iterable[Run], digest: str) -> list[Run]:
    """Return the runs on a manifest's images. A manifest is one draw, so replicates become seeds 0, 1, 2 …"""
    runs = list(runs)
    pairs = dict.fromkeys((run.draw, run.seed) for run in runs if not pretrains(run))
    seeds = {pair: number for number, pair in enumerate(pairs)}

    def change(run: Run) -> Run:
        if pretrains(run):
            return replace(run, manifest=digest, blocks=0) if run.source == catalogue.SUBSET else run
        return replace(run, manifest=digest, draw=0, blocks=0, seed=seeds[run.draw, run.seed])

    return rewrite(runs, change)


# --- sizes, draws, seeds ---------------------------------------------------------------------------------------------


def override(
    runs: Sequence[Run],
    *,
    sizes: tuple[int, ...] | None = None,
    draws: tuple[int, ...] | None = None,
    seeds: tuple[int, ...] | None = None,
) -> list[Run]:
    """Return the runs with the typed sizes, draws and seeds instead of the profile's, in every cell.

    A new size gets the images seen of its cell's nearest size in log N. Runs of a size that differ in the images seen,
    before the first label or after it, stay apart: the fewest at one size belong with the fewest at another.

    If draws and seeds are typed, every draw is combined with every seed. If one of them is typed, it is combined with
    the experiment's other one in the same way as in the experiment: as a product, or as pairs whose other half repeats.
    A pretraining changes with the runs that name it where the experiment's does, for example one for each seed.
    """
    if sizes is None and draws is None and seeds is None:
        return list(runs)
    pretrainings = {run_id(run): run for run in runs if pretrains(run)}
    named = {run.pretraining for run in runs}
    cells: dict[tuple[Run, Run | None, int | None], list[tuple[int, Run]]] = {}
    for place, run in enumerate(runs):
        if pretrains(run) and run_id(run) in named:
            continue  # added below, with the runs that name it
        before = pretrainings.get(run.pretraining)
        seen_before = before.samples_seen if before and not before.size else 0
        cells.setdefault((_cell(run), before and _cell(before), seen_before), []).append((place, run))
    placed: list[tuple[int, list[Run]]] = []
    for cell in (part for whole in cells.values() for part in _by_budget(whole)):
        follow = _followed([run for _, run in cell], pretrainings)
        for size, (draw, seed) in itertools.product(
            _sizes([run for _, run in cell], sizes), _pairs([run for _, run in cell], draws, seeds)
        ):
            place, model = _template(cell, size, draw, seed)
            new = replace(model, size=size, draw=draw, seed=seed)
            before = pretrainings.get(model.pretraining)
            if before is None:
                placed.append((place, [new]))
                continue
            before = replace(before, **{name: getattr(new, name) for name in follow})
            placed.append((place, [before, replace(new, pretraining=run_id(before))]))
    placed.sort(key=lambda item: item[0])
    return list(dict.fromkeys(run for _, pair in placed for run in pair))


def _cell(run: Run) -> Run:
    """Return what is the same in all runs of a cell: a run without size, draw, seed and images seen."""
    rate = (
        run.learning_rate if catalogue.TASKS[run.task].evaluated_on == "holdout" else None
    )  # a trial's rate is an axis
    size = 1 if run.size else 0
    seen = None if run.samples_seen is None else 1  # an open budget is another cell than one that is given
    return replace(run, size=size, draw=0, seed=0, samples_seen=seen, learning_rate=rate, pretraining="")


def _by_budget(cell: Sequence[tuple[int, Run]]) -> list[list[tuple[int, Run]]]:
    """Return the runs of a cell by the place of their images seen among those of their size, the fewest first."""
    seen: dict[int, list[int]] = defaultdict(list)
    for number, size in sorted({(run.samples_seen or 0, run.size) for _, run in cell}):
        seen[size].append(number)
    parts: dict[int, list[tuple[int, Run]]] = defaultdict(list)
    for place, run in cell:
        parts[seen[run.size].index(run.samples_seen or 0)].append((place, run))
    return list(parts.values())


def _sizes(cell: Sequence[Run], sizes: tuple[int, ...] | None) -> list[int]:
    if sizes is None or not cell[0].size:
        return list(dict.fromkeys(run.size for run in cell))
    return list(sizes)


def _pairs(cell: Sequence[Run], draws: tuple[int, ...] | None, seeds: tuple[int, ...] | None) -> list[tuple[int, int]]:
    """Return the pairs (draw, seed) of a cell, with the typed draws and seeds."""
    had = list(dict.fromkeys((run.draw, run.seed) for run in cell))
    if draws is None and seeds is None:
        return had
    if draws is not None and seeds is not None:
        return list(itertools.product(draws, seeds))
    old_draws, old_seeds = (list(dict.fromkeys(values)) for values in zip(*had, strict=True))
    if len(had) == len(old_draws) * len(old_seeds):
        return list(itertools.product(draws or old_draws, seeds or old_seeds))
    if draws is not None:  # the experiment has pairs: (0, 0), (1, 1), …
        return list(zip(draws, itertools.cycle(seed for _, seed in had)))
    return list(zip(itertools.cycle(draw for draw, _ in had), seeds or ()))


def _template(cell: Sequence[tuple[int, Run]], size: int, draw: int, seed: int) -> tuple[int, Run]:
    """Return the run of a cell that a new run is copied from, and its place: nearest size, then same draw and seed."""

    def distance(item: tuple[int, Run]) -> tuple[float, bool]:
        run = item[1]
        away = abs(math.log(run.size / size)) if size and run.size else 0.0
        return away, (run.draw, run.seed) != (draw, seed)

    return min(cell, key=distance)


def _followed(cell: Sequence[Run], pretrainings: Mapping[str, Run]) -> list[str]:
    """Return those of size, draw and seed that are the same in a cell's runs and in their pretrainings.

    With one replicate, a common pretraining and one for each seed look alike. Then the seed counts as the same.
    """
    pairs = [(run, pretrainings[run.pretraining]) for run in cell if run.pretraining in pretrainings]
    if not pairs:
        return []
    follow = []
    for name in ("size", "draw", "seed"):
        equal = all(getattr(run, name) == getattr(before, name) for run, before in pairs)
        telling = (
            len({getattr(run, name) for run, _ in pairs}) > 1
            or name == "seed"
            or pairs[0][1].source == catalogue.SUBSET
        )
        if equal and telling:
            follow.append(name)
    return follow


def in_order(runs: Iterable[Run]) -> list[Run]:
    """Return the runs in the experiment's order, with each pretraining before the first run that names it."""
    runs = list(runs)
    pretrainings = {run_id(run): run for run in runs if pretrains(run)}
    placed: dict[Run, None] = {}

    def place(run: Run) -> None:
        before = pretrainings.get(run.pretraining)
        if before is not None and before not in placed:
            place(before)
        placed.setdefault(run)

    for run in runs:
        place(run)
    return list(placed)

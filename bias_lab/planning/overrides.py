"""An experiment's runs, changed as the command line asks: other sizes, draws, seeds, data, recipe, more backbones.

Runs name their pretraining by id, and an id changes with any field; so every change here goes through `rewrite`, which
renames. All functions are pure: runs in, runs out, in the experiment's order, equal runs once.
"""

import itertools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bias_lab.definition import RECIPES, Run, recipe, run_id
from bias_lab.errors import UserError

# fields that say what is asked; `--set` leaves them to their own flags or, where the table has a column, sets them bare
FLAGS = {
    "dataset": "--data, or a dataset's name in `bias-lab train`",
    "backbone": "--backbone",
    "size": "--sizes",
    "draw": "--draws",
    "seed": "--seeds",
    "image_size": "--image-size",
    "recipe": "--recipe",
    "manifest": "--manifest",
    "weights": "--weights of `bias-lab train`",
    "source": "--source of `bias-lab train`, or write it into the experiment file",
}
# not to be set by hand on a grid of runs; `mask_ratio` is a pretraining's, which `--set` leaves as it is
DERIVED = ("task", "backbone_source", "pretraining", "regime", "mask_ratio")
COLUMNED = ("intervention", "budget", "protocol")  # shown in a column of their own, not in the recipe's name


def rewrite(runs: Iterable[Run], change: Callable[[Run], Run]) -> list[Run]:
    """Every run changed; whoever names a pretraining that changed names its new id. Equal results become one."""
    runs = list(runs)
    pretrainings = {run_id(run): run for run in runs if run.task == "pretrain"}
    renamed: dict[str, Run] = {}

    def renew(old: str) -> str:
        if old not in pretrainings:
            return old  # finished earlier, under an id of its own
        if old not in renamed:
            renamed[old] = move(pretrainings[old])
        return run_id(renamed[old])

    def move(run: Run) -> Run:
        if run.pretraining:
            named = renew(run.pretraining)
            if named != run.pretraining:
                run = replace(run, pretraining=named)
        return change(run)

    return list(dict.fromkeys(move(run) for run in runs))


def on_data(runs: Iterable[Run], dataset: str, image_size: int | None, *, typed: Collection[str] = ()) -> list[Run]:
    """The same study on other images: a user's folder takes the place of the experiment's datasets.

    Patch, window and stem were the experiment's images' and are chosen anew, but for those that the user typed.
    """
    anew: dict[str, Any] = dict.fromkeys({"patch", "window", "stem"} - set(typed))
    return rewrite(runs, lambda run: replace(run, dataset=dataset, image_size=image_size, drop_duplicates=True, **anew))


def with_recipe(runs: Iterable[Run], name: str) -> list[Run]:
    """Every labelled training under one recipe; pretrainings keep theirs."""
    if name == "plain":
        values = {field: Run.__dataclass_fields__[field].default for strong in RECIPES.values() for field in strong}
        values = {**values, "recipe": "plain"}
    else:
        values = recipe(name)
    return rewrite(runs, lambda run: run if run.task == "pretrain" else replace(run, **values))


def with_fields(runs: Iterable[Run], values: Mapping[str, Any]) -> list[Run]:
    """`--set FIELD=VALUE` on every labelled training. The recipe's name says what was changed: `plain+mixup=0.2`.

    Raises UserError for a field that has a flag of its own, or that follows from others.
    """
    for name in values:
        if name in FLAGS:
            raise UserError(f"--set {name}=… would change what is asked", remedy=f"use {FLAGS[name]}")
        if name in DERIVED:
            raise UserError(
                f"--set {name}=… can't be set on a whole experiment", remedy="write it into the experiment file"
            )
    return rewrite(runs, lambda run: run if run.task == "pretrain" else changed(run, values))


def changed(run: Run, values: Mapping[str, Any]) -> Run:
    """One run with fields set, and named after them."""
    named = sorted(name for name in values if name not in COLUMNED and getattr(run, name) != values[name])
    suffix = "".join(f"+{name}={values[name]}" for name in named)
    return replace(run, **{**values, "recipe": run.recipe + suffix})


def join(runs: Sequence[Run], backbones: Mapping[str, str]) -> list[Run]:
    """More backbones (name → hash of its source) in every distinct scratch cell, each beside the first run of its cell.

    Their learning rates are open, as is what belongs to another backbone (patch, window, stem).
    """
    joined: dict[Run, None] = {}
    for run in runs:
        joined[run] = None
        if run.regime != "scratch" or run.task != "classify":
            continue
        for name, source in backbones.items():
            mine = replace(
                run, backbone=name, backbone_source=source, patch=None, window=None, stem=None, learning_rate=None
            )
            joined[mine] = None
    if backbones and len(joined) == len(runs):
        missing = [name for name in backbones if not any(run.backbone == name for run in runs)]
        if missing:
            raise UserError(f"{missing[0]} has no cell to join: the experiment trains nothing from scratch")
    return list(joined)


def to_manifest(runs: Iterable[Run], digest: str) -> list[Run]:
    """A manifest is one draw: replicates become seeds 0, 1, 2 …"""
    runs = list(runs)
    pairs = list(dict.fromkeys((run.draw, run.seed) for run in runs if run.task != "pretrain"))
    seeds = {pair: number for number, pair in enumerate(pairs)}

    def change(run: Run) -> Run:
        if run.task == "pretrain":
            return replace(run, manifest=digest) if run.source == "subset" else run
        return replace(run, manifest=digest, draw=0, seed=seeds[run.draw, run.seed])

    return rewrite(runs, change)


# --- sizes, draws, seeds ---------------------------------------------------------------------------------------------


def override(
    runs: Sequence[Run],
    *,
    sizes: tuple[int, ...] | None = None,
    draws: tuple[int, ...] | None = None,
    seeds: tuple[int, ...] | None = None,
) -> list[Run]:
    """Typed sizes, draws and seeds take the place of the profile's, in every cell.

    A new size takes its budget from the nearest size of its cell (in log N). Draws and seeds both typed: every draw
    with every seed. One of them typed: combined with the experiment's other as the experiment combines them (a product,
    or pairs, whose other half is then reused in turn). A pretraining follows where the experiment's did (one a seed).
    """
    if sizes is None and draws is None and seeds is None:
        return list(runs)
    pretrainings = {run_id(run): run for run in runs if run.task == "pretrain"}
    named = {run.pretraining for run in runs}
    cells: dict[tuple[Run, Run | None], list[tuple[int, Run]]] = {}
    for place, run in enumerate(runs):
        if run.task == "pretrain" and run_id(run) in named:
            continue  # comes along with whoever names it
        before = pretrainings.get(run.pretraining)
        cells.setdefault((_cell(run), before and _cell(before)), []).append((place, run))
    made: list[tuple[int, list[Run]]] = []
    for cell in cells.values():
        follow = _followed([run for _, run in cell], pretrainings)
        for size, (draw, seed) in itertools.product(
            _sizes([run for _, run in cell], sizes), _pairs([run for _, run in cell], draws, seeds)
        ):
            place, model = _template(cell, size, draw, seed)
            new = replace(model, size=size, draw=draw, seed=seed)
            before = pretrainings.get(model.pretraining)
            if before is None:
                made.append((place, [new]))
                continue
            before = replace(before, **{name: getattr(new, name) for name in follow})
            made.append((place, [before, replace(new, pretraining=run_id(before))]))
    made.sort(key=lambda item: item[0])
    return list(dict.fromkeys(run for _, pair in made for run in pair))


def _cell(run: Run) -> Run:
    """What stays the same while size, draw and seed vary (the budget goes with the size)."""
    rate = run.learning_rate if run.task == "tune" else None
    size = 1 if run.size else 0
    return replace(run, size=size, draw=0, seed=0, samples_seen=1, learning_rate=rate, pretraining="")


def _sizes(cell: Sequence[Run], sizes: tuple[int, ...] | None) -> list[int]:
    if sizes is None or not cell[0].size:
        return list(dict.fromkeys(run.size for run in cell))
    return list(sizes)


def _pairs(cell: Sequence[Run], draws: tuple[int, ...] | None, seeds: tuple[int, ...] | None) -> list[tuple[int, int]]:
    had = list(dict.fromkeys((run.draw, run.seed) for run in cell))
    if draws is None and seeds is None:
        return had
    if draws is not None and seeds is not None:
        return list(itertools.product(draws, seeds))
    old_draws, old_seeds = (list(dict.fromkeys(values)) for values in zip(*had, strict=True))
    if len(had) == len(old_draws) * len(old_seeds):
        return list(itertools.product(draws or old_draws, seeds or old_seeds))
    if draws is not None:  # the experiment pairs them: (0, 0), (1, 1), …
        return list(zip(draws, itertools.cycle(seed for _, seed in had)))
    return list(zip(itertools.cycle(draw for draw, _ in had), seeds or ()))


def _template(cell: Sequence[tuple[int, Run]], size: int, draw: int, seed: int) -> tuple[int, Run]:
    """The run of the cell that a new one is modelled on, and its place: nearest size, then the same draw and seed."""

    def distance(item: tuple[int, Run]) -> tuple[float, bool]:
        run = item[1]
        away = abs(math.log(run.size / size)) if size and run.size else 0.0
        return away, (run.draw, run.seed) != (draw, seed)

    return min(cell, key=distance)


def _followed(cell: Sequence[Run], pretrainings: Mapping[str, Run]) -> list[str]:
    """The fields in which the cell's pretrainings go with its runs: the seed, and what a subset is made of.

    A single replicate can't tell whether its pretraining is shared; then the seed follows (one pretraining a seed).
    """
    pairs = [(run, pretrainings[run.pretraining]) for run in cell if run.pretraining in pretrainings]
    if not pairs:
        return []
    follow = []
    for name in ("size", "draw", "seed"):
        equal = all(getattr(run, name) == getattr(before, name) for run, before in pairs)
        telling = len({getattr(run, name) for run, _ in pairs}) > 1 or name == "seed" or pairs[0][1].source == "subset"
        if equal and telling:
            follow.append(name)
    return follow


def arrange(runs: Iterable[Run]) -> list[Run]:
    """The experiment's order, but a pretraining never after the first run that waits for it. Equal runs once."""
    runs = list(runs)
    pretrainings = {run_id(run): run for run in runs if run.task == "pretrain"}
    placed: dict[Run, None] = {}

    def place(run: Run) -> None:
        before = pretrainings.get(run.pretraining)
        if before is not None and before not in placed:
            place(before)
        placed.setdefault(run)

    for run in runs:
        place(run)
    return list(placed)

"""What planning refuses or warns of, from the catalogue alone: sizes, regimes, overlaps, grids. No torch, no pixels."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from bias_lab import catalogue
from bias_lab.definition import Run, label, run_id
from bias_lab.errors import UserError, unknown
from bias_lab.planning.learning_rates import Rates

FEW = 5  # labelled images a class, under which a size is warned of
GRID = 4  # patches a side, under which a patch is warned of
SUBSET = ("size", "draw", "manifest", "balanced", "imbalance", "drop_duplicates")  # what a run's subset is made of
STARTS = {  # what a regime starts from → where it comes from
    "pretraining": "--pretraining RUN of `bias-lab train`; in an experiment file run_id(…) of the pretraining",
    "weights": "a timm name or a file: --weights of `bias-lab train`, or the field of an experiment file",
    "source": "pool, subset, fractals, a dataset, or a folder of images",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What planning must know of a dataset. counts: training images of each class; side: pixels."""

    name: str  # as the user knows it
    counts: tuple[int, ...]
    side: int
    made_from: tuple[str, ...] = ()
    own_holdout: bool = False  # a val/ beside test/

    @property
    def pool(self) -> int:
        return sum(self.counts)

    @property
    def classes(self) -> int:
        return len(self.counts)

    @property
    def largest_tuned(self) -> int:
        """The largest subset that leaves the hold-out alone."""
        from bias_lab.data.subsets import holdout_size

        return self.pool if self.own_holdout else self.pool - holdout_size(self.pool)


def known(runs: Iterable[Run], own: Mapping[str, Facts]) -> dict[str, Facts]:
    """Facts of every dataset that the runs name. own: a user's data. Raises UserError for a name that nobody knows."""
    facts = dict(own)
    for name in dict.fromkeys(run.dataset for run in runs):
        if name not in facts:
            row = catalogue.dataset(name)
            facts[name] = Facts(name=name, counts=row.class_counts, side=row.image_size, made_from=row.made_from)
    return facts


def fit_sizes(runs: Iterable[Run], facts: Mapping[str, Facts], *, typed: bool) -> tuple[list[Run], list[str]]:
    """Runs whose size the pool can give, and a line for each size of a profile that was left out.

    typed: the user typed the sizes; then one that doesn't fit raises UserError. It also does if none is left.
    """
    from bias_lab.data.subsets import smallest_size

    runs = list(runs)
    bounds: dict[str, tuple[int, int]] = {}
    out: dict[str, dict[int, str]] = defaultdict(dict)
    for dataset, size in dict.fromkeys((run.dataset, run.size) for run in runs if run.size):
        about = facts[dataset]
        if not about.pool or size * min(about.counts) >= about.pool >= size:
            continue  # within one of its share, every class has an image
        if dataset not in bounds:
            bounds[dataset] = (smallest_size(list(about.counts)), about.pool)
        low, high = bounds[dataset]
        if low <= size <= high:
            continue
        if size > high:
            why = f"size {size} exceeds the {high} training images of {about.name}"
        elif size < about.classes:
            why = f"size {size} is below the {about.classes} classes of {about.name}"
        else:
            why = f"size {size} leaves a class of {about.name} without an image"
        if typed:
            raise UserError(why, f"{low} to {high} work" if low < high else f"{high} works")
        out[dataset][size] = why
    kept = [run for run in runs if run.size not in out[run.dataset]]
    if runs and not any(run.size for run in kept) and any(run.size for run in runs):
        dataset = next(iter(out))
        low, high = bounds[dataset]
        raise UserError(
            f"no size of this profile fits {facts[dataset].name}: {', '.join(map(str, sorted(out[dataset])))}",
            f"{low} to {high}; the largest that works is {high}",
            f"--sizes {max(low, high // 10)},{high}" if high // 10 > low else f"--sizes {high}",
        )
    return kept, [f"left out: {why}" for by_size in out.values() for _, why in sorted(by_size.items())]


def refuse(
    runs: Iterable[Run],
    facts: Mapping[str, Facts],
    *,
    allow_overlap: bool,
    earlier: Mapping[str, Run] = MappingProxyType({}),
) -> list[str]:
    """Raises UserError for what can't be run: a regime that a backbone can't take, a leak that the catalogue sees.

    So are a regime without what it starts from, and a pretraining that is not what its run says. earlier: run_id →
    pretrainings that are not among the runs. Returns a line for each leak that was allowed.
    """
    runs = list(runs)
    allowed: dict[str, None] = {}
    cells = dict.fromkeys((r.backbone, r.regime, r.protocol, r.dataset, r.source, r.weights) for r in runs)
    for backbone, regime, protocol, dataset, source, weights in cells:
        catalogue.check_regime(backbone, regime)
        if catalogue.REGIMES[regime].module:
            catalogue.check_source(regime, source)
        if protocol not in catalogue.PROTOCOLS:
            raise unknown("protocol", protocol, catalogue.PROTOCOLS)
        overlap = shared_origin(facts[dataset], source, weights)
        if overlap:
            allowed[f"{weights or source} has seen images of {facts[dataset].name}: {overlap}"] = None
        if overlap and not allow_overlap:
            raise UserError(
                next(iter(allowed)), remedy="choose another source, or add --allow-overlap, which the table then shows"
            )
    for dataset, image_size, intervention in dict.fromkeys((r.dataset, r.image_size, r.intervention) for r in runs):
        catalogue.check_intervention(intervention, image_size or facts[dataset].side)
    pretrainings = {**earlier, **{run_id(run): run for run in runs if run.task == "pretrain"}}
    for run in runs:
        check_start(run)
        if run.pretraining in pretrainings:
            check_pretraining(run, pretrainings[run.pretraining])
    return list(allowed)


def check_start(run: Run) -> None:
    """Raises UserError where a run's regime and what it starts from don't go together."""
    row, pretrains = catalogue.REGIMES[run.regime], run.task == "pretrain"
    trained = bool(row.module) and not pretrains
    wanted = {"pretraining": trained, "weights": run.regime == "weights", "source": bool(row.module)}
    if pretrains and not row.module:
        able = ", ".join(name for name, other in catalogue.REGIMES.items() if other.module)
        raise UserError(f"{label(run)}: the regime '{run.regime}' has no pretraining", f"{able} have one")
    for name, needed in wanted.items():
        given = getattr(run, name)
        if needed and not given:
            raise UserError(f"{label(run)} names no {name}", remedy=STARTS[name])
        if given and not needed and (name, run.regime) != ("source", "weights"):
            what = "a pretraining" if pretrains else f"the regime '{run.regime}'"
            raise UserError(
                f"{label(run)}: {name} '{given}' means nothing to {what}",
                remedy="leave it out, or name the regime that it belongs to",
            )
    if run.source == "subset" and not run.size:
        raise UserError(
            f"{label(run)}: a subset needs a size", "the number of its images", "source pool is all of them"
        )


def check_pretraining(run: Run, before: Run) -> None:
    """Raises UserError if a run names a pretraining that is not what the run's row would say of it.

    Its source was held against the test images of its own dataset alone; only fractals are nobody's images.
    """
    same = ["backbone", "regime", "source"]
    if before.source != catalogue.FRACTALS:
        same.append("dataset")
    if before.source == "subset":
        same += [name for name in SUBSET if name != "draw" or not run.manifest]
    for name in same:
        mine, its = getattr(run, name), getattr(before, name)
        if mine != its:
            raise UserError(
                f"the pretraining {run.pretraining} has {name} {its!r}, and {label(run)} has {mine!r}",
                remedy="a pretraining of the run's own, by bias-lab train --task pretrain",
            )


def shared_origin(target: Facts, source: str, weights: str) -> str:
    """Why a source or weights may hold the target's test images; empty if the catalogue knows no reason.

    Hashes can't see an image after resizing; `made_from` can (DESIGN 3.3). Weights count as ImageNet's: timm's are, and
    a file does not say what it was trained on.
    """
    if weights and "imagenet" in target.made_from:
        return f"{target.name} is made from imagenet, and so are these weights, or may be"
    if source in ("", "pool", "subset") or source not in catalogue.DATASETS or source == target.name:
        return f"{source} is the target itself" if source and source == target.name else ""
    theirs = {source, *catalogue.DATASETS[source].made_from}
    common = sorted(theirs & {target.name, *target.made_from})
    return f"both are made from {common[0]}" if common else ""


def absent(runs: Iterable[Run], data_root: str | None) -> list[str]:
    """A line for each dataset by name that the runs need and that does not lie where datasets are looked for."""
    from bias_lab.data.readers import pixel_store

    named = dict.fromkeys(name for run in runs for name in (run.dataset, run.source))
    root = pixel_store.data_root(data_root)
    return [
        f"{name} is not in {root}: it will be downloaded if it can be; else fetch {row.fetch}, "
        "or say where it lies with --data-root"
        for name in named
        if (row := catalogue.DATASETS.get(name))
        and row.places
        and not any((root / place).is_dir() for place in row.places)
    ]


def warnings(runs: Iterable[Run], facts: Mapping[str, Facts], rates: Rates) -> list[str]:
    """What is likely to waste hours: too few labels a class, a patch grid too coarse, a rate that nobody tried."""
    few: dict[str, set[int]] = defaultdict(set)
    lines: dict[str, None] = {}
    cells = dict.fromkeys(
        (r.dataset, r.size, r.backbone, r.image_size, r.patch, r.learning_rate if r.task == "classify" else None)
        for r in runs
    )
    spreads: dict[str, tuple[float, float] | None] = {}
    for dataset, size, backbone, image_size, patch, rate in cells:
        about = facts[dataset]
        if 0 < size < FEW * about.classes:
            few[dataset].add(size)
        side = image_size or about.side
        row = catalogue.BACKBONES.get(backbone)
        if patch is None and row is not None and row.patch is not None:
            patch = catalogue.choose_patch(side, row.image_size, row.patch, row.halvings)
        if patch and side // patch < GRID:
            grid = side // patch
            lines[
                f"{backbone}: patch {patch} makes {grid}x{grid} tokens of {side} px; under {GRID}x{GRID} it sees little"
            ] = None
        if rate is not None:
            if backbone not in spreads:
                spreads[backbone] = rates.spread(backbone)
            spread = spreads[backbone]
            if spread and not spread[0] <= rate <= spread[1]:
                lines[
                    f"{backbone}: learning rate {rate:g} is outside of the tuned range, {spread[0]:g} to {spread[1]:g}"
                ] = None
    sparse = [
        f"{facts[dataset].name}: N = {', '.join(map(str, sorted(sizes)))} "
        f"{'is' if len(sizes) == 1 else 'are'} under {FEW} images a class; expect wide intervals"
        for dataset, sizes in few.items()
    ]
    return [*sparse, *lines]


def misspelt(backbones: Iterable[str]) -> list[str]:
    """Names that are not the lab's but nearly so; a worker will look for them among timm's."""
    return [
        f"{name} is no backbone of the lab's (did you mean '{near}'?); it is looked for among timm's"
        for name in backbones
        if (near := catalogue.nearest(name))
    ]


def edges(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Tuned rates in use that are the smallest or the largest that was tried, in at most two lines."""
    found: dict[str, dict[str, list[str]]] = {"smallest": defaultdict(list), "largest": defaultdict(list)}
    for row in rows:
        tried = sorted(float(trial["learning_rate"]) for trial in row.get("trials", ()))
        if len(tried) < 2 or row["learning_rate"] not in (tried[0], tried[-1]):
            continue
        words = (row["backbone"], row["regime"], "" if row["recipe"] == "plain" else row["recipe"])
        cell = " ".join(filter(None, (*words, row.get("intervention", ""))))
        found["smallest" if row["learning_rate"] == tried[0] else "largest"][cell].append(str(row["size"]))
    return [
        f"the {end} learning rate that was tried won, and a better one may lie beyond: "
        + ", ".join(f"{cell} at N = {' and '.join(sizes)}" for cell, sizes in cells.items())
        for end, cells in found.items()
        if cells
    ]

"""Check what planning can check from the catalogue alone: sizes, regimes, overlaps, grids. No torch, no pixels."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from bias_lab import catalogue, tuning
from bias_lab.data import subsets
from bias_lab.definition import Run, levels, pretrains, run_id
from bias_lab.errors import UserError, unknown
from bias_lab.planning.learning_rates import Rates
from bias_lab.schema import label

FEW = 5  # labelled images a class. A size below gets a warning
GRID = 4  # patches a side. A patch that gives fewer gets a warning
# The fields that determine a subset.
SUBSET = ("size", "draw", "blocks", "manifest", "balanced", "imbalance", "drop_duplicates")
STARTS = {  # field that a regime may need → where its value comes from
    "pretraining": "give --pretraining RUN to `bias-lab train`, or in an experiment file run_id(…) of the pretraining",
    "weights": "give a timm name or a file with --weights, or in the field of an experiment file",
    "source": "give pool, subset, fractals, a dataset, or a folder of images",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSummary:
    """What planning needs of a dataset. counts: training images of each class, with masks of all. side: pixels."""

    name: str  # as the user knows it
    counts: tuple[int, ...]
    side: int
    own_holdout: bool = False  # a val/ beside test/
    names: tuple[str, ...] = ()  # of the classes, for messages
    has_masks: bool = False

    @property
    def pool(self) -> int:
        return sum(self.counts)

    @property
    def classes(self) -> int:
        return len(self.counts)

    @property
    def largest_tuned(self) -> int:
        """The largest subset that leaves the hold-out alone."""
        return self.pool if self.own_holdout else self.pool - subsets.holdout_size(self.pool)

    def smallest_block(self, blocks: int) -> "DatasetSummary":
        """Return the summary of the smallest of so many blocks of the pool, of the pool itself for 0.

        Raises UserError if a block would lack a class.
        """
        if not blocks:
            return self
        counts = tuple(subsets.block_counts(list(self.counts), blocks, blocks - 1, self.names))
        return replace(self, name=f"one of {blocks} blocks of {self.name}", counts=counts)


def summaries(runs: Iterable[Run], own: Mapping[str, DatasetSummary]) -> dict[str, DatasetSummary]:
    """Return `Run.dataset` → summary, of the user's `own` data and of the catalogue.

    Raises UserError for a name that neither has.
    """
    by_name = dict(own)
    for name in dict.fromkeys(run.dataset for run in runs):
        if name not in by_name:
            row = catalogue.dataset(name)
            counts, names = (row.class_counts, row.class_names) if row.masks is None else ((row.pool,), ())
            by_name[name] = DatasetSummary(
                name=name, counts=counts, side=row.image_size, names=names, has_masks=row.masks is not None
            )
    return by_name


def fit_sizes(
    runs: Iterable[Run], data: Mapping[str, DatasetSummary], *, typed: bool, single: bool = False
) -> tuple[list[Run], list[str]]:
    """Return the runs whose size their pool can give, and a line for each size of the profile that is left out.

    Of blocks the smallest must give the size, so that all draws of a size stay or go. typed: the user typed the sizes.
    single: of one run with its own flag. Raises UserError for a typed size that does not fit, and if none is left.
    """
    runs = list(runs)
    bounds: dict[tuple[str, int], tuple[int, int]] = {}
    out: dict[tuple[str, int], dict[int, str]] = defaultdict(dict)
    for dataset, blocks, size in dict.fromkeys((run.dataset, run.blocks, run.size) for run in runs if run.size):
        pool, summary = (dataset, blocks), data[dataset].smallest_block(blocks)
        if not summary.pool or size * min(summary.counts) >= summary.pool >= size:
            continue  # every class is within one image of its share, so it has one
        if pool not in bounds:
            bounds[pool] = (subsets.smallest_size(list(summary.counts)), summary.pool)
        low, high = bounds[pool]
        if low <= size <= high:
            continue
        if size > high:
            why = f"size {size} exceeds the {high} training images of {summary.name}"
        elif size < summary.classes:
            why = f"size {size} is below the {summary.classes} classes of {summary.name}"
        else:
            empty = subsets.left_out(list(summary.counts), size)
            why = f"size {size} leaves {subsets.name_of(empty, summary.names)} of {summary.name} without an image"
        if typed:
            raise UserError(why, f"{low} to {high} work" if low < high else f"{high} works")
        out[pool][size] = why
    kept = [run for run in runs if run.size not in out[run.dataset, run.blocks]]
    if runs and not any(run.size for run in kept) and any(run.size for run in runs):
        pool = next(pool for pool, sizes in out.items() if sizes)
        low, high = bounds[pool]
        why = next(iter(out[pool].values()))
        if len(out[pool]) > 1:
            block, sizes = data[pool[0]].smallest_block(pool[1]).name, ", ".join(map(str, sorted(out[pool])))
            why = f"no size of this profile fits {block}: {sizes}"
        works = f"sizes from {low} to {high} work" if low < high else f"size {high} works"
        first = f"{max(low, high // 10)}," if high // 10 > low else ""
        flag = f"--size {high if max(out[pool]) > low else low}" if single else f"--sizes {first}{high}"
        raise UserError(why, works, f"add {flag}")
    return kept, [f"left out: {why}" for by_size in out.values() for _, why in sorted(by_size.items())]


def check_holdout(runs: Iterable[Run], data: Mapping[str, DatasetSummary], *, manifest_length: int = 0) -> None:
    """Raise UserError for a run that is evaluated on the hold-out, and whose labelled images reach into it.

    manifest_length: images of the manifest, if runs have one. Their hold-out is taken from the other images.
    """
    largest: dict[tuple[Any, ...], int] = {}
    for run in runs:
        task, summary = catalogue.TASKS[run.task], data[run.dataset]
        if not task.labelled or summary.own_holdout or not (task.evaluated_on == "holdout" or run.monitor):
            continue
        cell = (run.dataset, run.size, run.balanced, run.imbalance, run.blocks, run.blocks and run.draw)
        if cell not in largest:
            largest[cell] = subsets.largest_tuned(run, list(summary.counts))
        works = run.size if run.manifest and manifest_length < summary.pool else largest[cell]
        if works < run.size:
            raise UserError(
                f"{label(run)}: size {run.size} reaches into the hold-out of {summary.name}",
                f"the largest size that works is {works}" if works else "its pool is too small to have one",
            )


def check_names(runs: Iterable[Run]) -> None:
    """Raise UserError for a regime or a protocol that the catalogue does not have."""
    for kind, names in (("regime", catalogue.REGIMES), ("protocol", catalogue.PROTOCOLS)):
        for name in dict.fromkeys(getattr(run, kind) for run in runs):
            if name not in names:
                raise unknown(kind, name, names)


def check_runs(
    runs: Iterable[Run],
    data: Mapping[str, DatasetSummary],
    *,
    allow_overlap: bool,
    earlier: Mapping[str, Run] = MappingProxyType({}),
) -> list[str]:
    """Raise UserError for a run that can't be done, and return a line for each overlap that was allowed.

    Checks regimes, protocols and priors against backbones, regimes against what they start from, interventions, and
    images that the source and the test split have in common. earlier: run_id → pretrainings outside of the runs.
    """
    runs = list(runs)
    allowed: dict[str, None] = {}
    check_names(runs)
    check_backbones(runs)
    cells = dict.fromkeys((r.backbone, r.regime, r.dataset, r.source, r.weights) for r in runs)
    for backbone, regime, dataset, source, weights in cells:
        catalogue.check_regime(backbone, regime)
        if catalogue.REGIMES[regime].module:
            catalogue.check_source(regime, source)
        if why := overlap(dataset, source, weights):
            line = f"{weights or source} may hold test images of {data[dataset].name}: {why}"
            if not allow_overlap:
                remedy = "choose another source, or add --allow-overlap, which the table then shows"
                raise UserError(line, remedy=remedy)
            allowed[line] = None
    for dataset, image_size, intervention in dict.fromkeys((r.dataset, r.image_size, r.intervention) for r in runs):
        catalogue.check_intervention(intervention, image_size or data[dataset].side)
    pretrainings = {**earlier, **{run_id(run): run for run in runs if pretrains(run)}}
    for run in runs:
        settings = {name: getattr(run, name) for name in catalogue.REFUSED}
        catalogue.check_masks(run.task, data[run.dataset].name, data[run.dataset].has_masks, settings)
        check_start(run)
        if run.pretraining in pretrainings:
            check_pretraining(run, pretrainings[run.pretraining])
    return list(allowed)


def check_backbones(runs: Iterable[Run]) -> None:
    """Raise UserError for a backbone that can't be used by a run's protocol, or that can't take its priors."""
    runs = list(runs)
    for backbone, protocol in dict.fromkeys((run.backbone, run.protocol) for run in runs if not pretrains(run)):
        catalogue.check_protocol(backbone, protocol)
    for parts in dict.fromkeys((run.task, run.backbone, run.protocol, run.head) for run in runs):
        catalogue.check_task(*parts)
    for backbone, priors, weights in dict.fromkeys((run.backbone, run.priors, run.weights) for run in runs):
        catalogue.check_priors(backbone, priors)
        if priors and weights:
            what = (
                f"{backbone} can't start from weights {weights} with the priors {priors}, which they were made without"
            )
            raise UserError(what, remedy="leave the priors or the weights out")


def check_start(run: Run) -> None:
    """Raise UserError if a run lacks what its regime starts from, or names something that the regime does not use."""
    row, first = catalogue.REGIMES[run.regime], pretrains(run)
    if first and not row.module:
        able = ", ".join(name for name, other in catalogue.REGIMES.items() if other.module)
        raise UserError(f"{label(run)}: the regime '{run.regime}' has no pretraining", f"{able} have one")
    needed = {"source"} if row.module else set()
    optional = {"source"} if row.starts_from and not row.module else set()
    if row.starts_from and not first:
        needed.add(row.starts_from)
    for name, remedy in STARTS.items():
        value = getattr(run, name)
        if name in needed and not value:
            raise UserError(f"{label(run)} names no {name}", remedy=remedy)
        if value and name not in needed | optional:
            what = "a pretraining" if first else f"the regime '{run.regime}'"
            remedy = "leave it out, or name the regime that it belongs to"
            raise UserError(f"{label(run)}: {what} does not use {name} '{value}'", remedy=remedy)
    check_normalisation(run)
    if run.source == catalogue.SUBSET and not run.size:
        what, way = f"{label(run)}: a subset needs a size", "for all images, use the source pool"
        raise UserError(what, "the number of its images", way)


def check_normalisation(run: Run) -> None:
    """Raise UserError for a mean without a standard deviation, and for what belongs to weights on a run without any."""
    mean, std = run.pixel_mean, run.pixel_std
    if bool(mean) != bool(std):
        what = f"a normalisation has a mean and a standard deviation, and {label(run)} has one of them"
        raise UserError(what, remedy="give both --mean and --std")
    if mean and len(levels(mean)) != len(levels(std)):
        raise UserError(f"the mean {mean} and the standard deviation {std} differ in their numbers of channels")
    if not run.weights and (run.allow_partial_weights or mean):
        given = "a normalisation of weights" if mean else "allow_partial_weights"
        raise UserError(f"{label(run)} has {given} and no weights", remedy="leave it out, or add --weights")


def check_pretraining(run: Run, before: Run) -> None:
    """Raise UserError if a run's pretraining does not have the backbone, regime and images that the run names.

    The source of a pretraining was compared with the test images of its own dataset alone. Drawn fractals are no
    dataset's images, so only with them may the dataset differ.
    """
    same = ["backbone", "priors", "regime", "source", "method"]
    if before.source != catalogue.FRACTALS:
        same.append("dataset")
    if before.source == catalogue.SUBSET:
        same += [name for name in SUBSET if name != "draw" or not run.manifest]
    for name in same:
        mine, its = getattr(run, name), getattr(before, name)
        if mine != its:
            raise UserError(
                f"the pretraining {run.pretraining} has {name} {its!r}, and {label(run)} has {mine!r}",
                remedy="make a pretraining for the run: bias-lab train --task pretrain",
            )


def overlap(dataset: str, source: str, weights: str) -> str:
    """Return why a source or weights may hold the dataset's test images, empty if the catalogue has no reason.

    All weights count as ImageNet's: timm's mostly are, and a file does not say what it was trained on.
    """
    if weights and catalogue.common_origin(dataset, "imagenet"):
        return f"{dataset} is made from imagenet, and so may these weights be"
    if source == dataset:
        return f"{source} is the target itself"
    common = catalogue.common_origin(dataset, source)
    return f"both are made from {common}" if common else ""


def absent(runs: Iterable[Run], data_root: str | None) -> list[str]:
    """Return a line for each dataset by name that the runs need and that is not in the folder of datasets."""
    from bias_lab.data.readers import pixel_store

    named = dict.fromkeys(name for run in runs for name in (run.dataset, run.source))
    root = pixel_store.data_root(data_root)
    return [
        f"{name} is not in {root}: it will be downloaded if that is possible. "
        f"Otherwise fetch {row.fetch}, or name its folder with --data-root"
        for name in named
        if (row := catalogue.DATASETS.get(name))
        and row.places
        and not any((root / place).is_dir() for place in row.places)
    ]


def warnings(runs: Iterable[Run], data: Mapping[str, DatasetSummary], rates: Rates) -> list[str]:
    """Return a line for each setting that may waste hours: few labels a class, few patches, an untried rate."""
    few: dict[str, set[int]] = defaultdict(set)
    lines: dict[str, None] = {}
    cells = dict.fromkeys((r.dataset, r.size, r.backbone, r.image_size, r.patch, _tested_rate(r)) for r in runs)
    tried = {backbone: rates.tried(backbone) for backbone in {cell[2] for cell in cells}}
    for dataset, size, backbone, image_size, patch, rate in cells:
        summary = data[dataset]
        if 0 < size < FEW * summary.classes:
            few[dataset].add(size)
        side = image_size or summary.side
        row = catalogue.BACKBONES.get(backbone)
        if patch is None and row is not None and row.patch is not None:
            patch = catalogue.choose_patch(side, row.image_size, row.patch, row.halvings)
        if patch and (grid := side // patch) < GRID:
            line = f"{backbone}: patch {patch} cuts {side} px into {grid}x{grid} tokens, fewer than {GRID}x{GRID}"
            lines[line] = None
        bounds = tried[backbone]
        if rate is not None and bounds and not bounds[0] <= rate <= bounds[1]:
            line = f"{backbone}: learning rate {rate:g} is outside the tuned range, {bounds[0]:g} to {bounds[1]:g}"
            lines[line] = None
    sparse = [
        f"{data[dataset].name}: N = {', '.join(map(str, sorted(sizes)))} "
        f"{'is' if len(sizes) == 1 else 'are'} under {FEW} images a class; expect wide intervals"
        for dataset, sizes in few.items()
    ]
    return [*sparse, *lines]


def _tested_rate(run: Run) -> float | None:
    """Return the learning rate of a run that is evaluated on the test split, or None."""
    return run.learning_rate if catalogue.TASKS[run.task].evaluated_on == "test" else None


def misspelt(backbones: Iterable[str]) -> list[str]:
    """Return a line for each name that is close to one of the lab's. A worker will try it as timm's."""
    return [
        f"{name} is not one of the lab's backbones (did you mean '{near}'?); it will be looked up in timm"
        for name in backbones
        if (near := catalogue.nearest(name))
    ]


def at_grid_edge(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a line for the smallest and for the largest learning rate of a grid, if tuning chose it.

    rows: of the tuning table, those in use.
    """
    at: dict[str, dict[str, list[str]]] = {"smallest": defaultdict(list), "largest": defaultdict(list)}
    for row in rows:
        if edge := tuning.at_grid_edge(row):
            at[edge][tuning.words(row)].append(str(row["size"]))
    return [
        f"the best learning rate was the {edge} of the grid, so a better one may lie beyond: "
        + ", ".join(f"{arm} at N = {' and '.join(sizes)}" for arm, sizes in arms.items())
        for edge, arms in at.items()
        if arms
    ]

"""Say what a reader must bear in mind, only where the data call for it: each caution is a function of the table."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pandas as pd

from bias_lab import catalogue, schema, statistics, tuning
from bias_lab.report.evidence import parts
from bias_lab.report.figures.chart import percent
from bias_lab.report.sentences import capital, listed, sizes_in_words, start_words
from bias_lab.statistics import ALPHA, CEILING
from bias_lab.statistics import replicates as rep
from bias_lab.statistics.conditions import PRETRAINS, is_from_scratch

FALLING = -0.01  # relative change of the training loss over the last quarter of training
UNFITTED = 0.9  # accuracy on its own training images
LESS_FITTED = 0.5  # of the shortfall: a larger lag in training accuracy is reported
WORTH = 0.02  # a shortfall below this is too small to speak of its causes
ALIKE = 2.0  # parameters: largest over smallest


def cautions(view: pd.DataFrame, tuned: Mapping[str, Any], *, path_alone: bool = False) -> list[str]:
    """Return sentences on the runs of one dataset at the reference condition, the most serious first.

    view: one of `findings.split`. tuned: the tuning table, with `rows`. path_alone: whether the runs only show
    that everything works, so that leaks alone are told.
    """
    rows = statistics.comparable(view, scratch=False)
    scratch = rows[is_from_scratch(rows)]
    begun = overlaps(rows) + untrained(view)
    if path_alone or not len(scratch):
        return begun
    checks: tuple[Callable[[pd.DataFrame], list[str]], ...] = (
        replicates, lost, membership, collapsed, less_fitted, under_trained, budgets, ceiling, parameters, test_images,
        origins,
    )  # fmt: skip
    present = parts.present(view)
    told = []
    for check in checks:
        rows = scratch[scratch["size"].isin(claimed(view))] if check is less_fitted else scratch
        at_equal = len(present) > 1 and check in (less_fitted, under_trained, ceiling)  # settled cells have own budgets
        told += [f"At equal images {text[:1].lower()}{text[1:]}" if at_equal else text for text in check(rows)]
    if len(present) > 1:
        settled = statistics.comparable(view, comparison="settled")
        again = [text for check in (replicates, lost, collapsed, ceiling, test_images) for text in check(settled)]
        told += [f"Among settled cells: {text}" for text in again if text not in told]
    told += lost_after(statistics.comparable(view, scratch=False))
    searched = [row for row in tuned.get("rows", []) if row["backbone"] in set(scratch["backbone"])]
    return begun + told + grid_edges(searched) + untuned_sizes(scratch, searched) + first_rungs(searched)


def claimed(view: pd.DataFrame) -> list[int]:
    """Return the sizes at which the report claims a shortfall of plain ViT."""
    gaps = statistics.answer(view, without=statistics.unsound(view)).gaps
    return [int(size) for size in gaps.loc[(gaps["p_holm"] <= ALPHA) & (gaps["shortfall"] > 0), "size"]]


# --- leaks that were allowed -----------------------------------------------------------------------------------------


def overlaps(rows: pd.DataFrame) -> list[str]:
    """Return the starts that saw images of the dataset, as far as the catalogue knows (`--allow-overlap`)."""
    sentences = []
    for (dataset, regime, source), _ in rows[~is_from_scratch(rows)].groupby(["dataset", "regime", "source"]):
        row = catalogue.REGIMES.get(str(regime))
        if row is None or not row.starts_from or source in catalogue.TARGET_SOURCES:
            continue
        common = catalogue.common_origin(str(dataset), str(source) if row.module else "imagenet")
        if common:
            sentences.append(
                f"Overlap allowed: {start_words(regime, source=source)} and {dataset} share images of {common}. Test "
                "images may be among them, and accuracies too high by an unknown amount."
            )
    return sentences


def overlaps_by_hash(table: pd.DataFrame) -> list[str]:
    """Return the pretrainings whose source holds test images, by the hash of their pixels."""
    if "source_overlap" not in table:
        return []
    rows = table[table["task"].isin(PRETRAINS) & (table["source_overlap"].fillna(0) > 0)]
    return list(
        dict.fromkeys(
            f"Overlap allowed: {row['source']}, the source of {row['backbone']}'s pretraining ({row['regime']}), holds "
            f"{int(row['source_overlap']):,} test images of {row['dataset']}. Runs that start from it score too high."
            for row in rows.to_dict("records")
        )
    )


def untrained(view: pd.DataFrame) -> list[str]:
    """Return the methods whose pretraining ended near its chance level."""
    starts = statistics.untrained_starts(view)
    return [
        f"{capital(start_words(regime))} did not train {listed(list(part['backbone']))} (on "
        f"{listed(sorted(set(part['source'])))}): its loss ended near a level that needs no learning, or its encoder "
        f"is mostly its random start. {int(part['runs'].sum())} of {int(part['of'].sum())} runs start from such a "
        "pretraining, and say nothing about the method."
        for regime, part in starts.groupby("regime", sort=False)
    ]


# --- cells from scratch ----------------------------------------------------------------------------------------------


def replicates(scratch: pd.DataFrame) -> list[str]:
    """Return whether there are too few replicates for the claim."""
    paired = rep.pairs(statistics.select(scratch, "vit"), statistics.select(scratch, "cnn"))
    counts = paired.groupby("size").size()
    if not len(counts):
        return []
    sentences = []
    if (counts == 1).any():
        sizes = sizes_in_words(counts.index[counts == 1])
        sentences.append(f"There is only one replicate at {sizes}, which gives no interval and so no claim.")
    draws = paired.groupby("size")["draw"].nunique()
    if alone := draws.index[(draws == 1) & (counts > 1)].tolist():
        where = (f" at {sizes_in_words(alone)}", " there") if len(alone) < len(draws) else ("", "")
        what = f"Replicates share one draw of images{where[0]}, so intervals{where[1]} hold for those images alone"
        sentences.append(f"{what}.")
    if (draws == 2).any() and draws[draws > 1].min() == 2:
        sentences.append("Some size has only two draws, so an interval excludes 0 only for very large differences.")
    return sentences


def lost(scratch: pd.DataFrame) -> list[str]:
    """Return the cells that lack replicates which other backbones have, so that the pairing goes without those."""
    rows = pd.concat([statistics.select(scratch, name) for name in ("vit", "cnn")])
    sentences = []
    for size, part in rows.groupby("size"):
        there = {str(name): set(zip(own["draw"], own["seed"], strict=True)) for name, own in part.groupby("backbone")}
        every, whole = set.union(*there.values()), set.intersection(*there.values())
        lacking = [f"{name} lacks {len(every - own)}" for name, own in there.items() if every - own]
        several = part.loc[part["family"] == "cnn", "backbone"].nunique() > 1
        compared = "A comparison with the mean of these CNNs" if several else "The comparison there"
        if lacking:
            sentences.append(
                f"Of {len(every)} replicates at N = {int(str(size)):,}, {listed(lacking)}, which were not run "
                f"or diverged. {compared} rests on the {len(whole)} that every backbone has."
            )
    return sentences


def lost_after(rows: pd.DataFrame) -> list[str]:
    """Return the starts of plain ViT that lack replicates which it has from scratch. rows: of every start."""
    vit = statistics.select(rows, "vit")
    is_scratch = is_from_scratch(vit)
    sentences = []
    for (regime, protocol, source, size), part in vit[~is_scratch].groupby([*schema.START, "size"]):
        replicates = [
            set(zip(own["draw"], own["seed"], strict=True))
            for own in (vit[is_scratch & vit["size"].eq(int(str(size)))], part)
        ]
        if replicates[0] - replicates[1]:
            start = start_words(regime, protocol, source)
            sentences.append(
                f"Of {len(replicates[0])} replicates of plain ViT from scratch at N = {int(str(size)):,}, "
                f"{len(replicates[0] & replicates[1])} have one after {start}. What it recovers rests on these."
            )
    return sentences


def membership(scratch: pd.DataFrame) -> list[str]:
    """Return whether the CNN family has one member, or not the same members at every size."""
    groups = statistics.select(scratch, "cnn").groupby("size")["backbone"]
    members = {size: sorted(set(names)) for size, names in groups}
    every = {tuple(names) for names in members.values()}
    if len(every) == 1 and len(only := next(iter(every))) == 1:
        return [f"{only[0]} is the only CNN here, so these numbers are not a mean over several CNNs."]
    if len(every) < 2:
        return []
    fewest = min(members.values(), key=len)
    sizes = sizes_in_words(size for size, names in members.items() if names == fewest)
    return [f"The CNN family consists of {listed(fewest)} alone at {sizes}, so its mean is over fewer backbones there."]


def collapsed(scratch: pd.DataFrame) -> list[str]:
    """Return the backbones whose runs collapsed."""
    if "collapsed" not in scratch:
        return []
    runs = scratch.groupby("backbone")["collapsed"].agg(lambda flags: int(flags.fillna(False).astype(bool).sum()))
    names = [f"{name} ({n} of {int((scratch['backbone'] == name).sum())})" for name, n in runs.items() if n]
    if not names:
        return []
    return [f"Collapsed runs, which predict one class or have dead features, stay in all means: {listed(names)}."]


def less_fitted(scratch: pd.DataFrame) -> list[str]:
    """Return the sizes at which the ViT lags on its own training images too, which more steps may change."""
    if "train_top1" not in scratch:
        return []
    vit, cnn = (
        statistics.select(scratch, name).groupby("size")[["train_top1", "top1"]].mean() for name in ("vit", "cnn")
    )
    both = vit.add_suffix("_vit").join(cnn.add_suffix("_cnn"), how="inner")
    gap, lag = both["top1_cnn"] - both["top1_vit"], both["train_top1_cnn"] - both["train_top1_vit"]
    lagging = both[(gap > WORTH) & (lag > LESS_FITTED * gap)]
    if not len(lagging):
        return []
    size = int(str(lag[lagging.index].idxmax()))
    ours, theirs = (percent(float(lagging[f"train_top1_{name}"][size]), 0) for name in ("vit", "cnn"))
    where = f" at {size:,}" if len(lagging) > 1 else ""
    return [
        f"Plain ViT is less accurate on its own training images than the CNNs at {sizes_in_words(lagging.index)}: "
        f"{ours} % against {theirs} %{where}. So half of the shortfall there, or more, may come from fitting within "
        "this budget rather than from generalising from few labels."
    ]


def under_trained(scratch: pd.DataFrame) -> list[str]:
    """Return the cells whose loss still fell and whose training images were not fitted, so that more steps may help."""
    if not {"loss_slope", "train_top1"} <= set(scratch.columns):
        return []
    cells = scratch.groupby(["backbone", "size"], as_index=False)[["loss_slope", "train_top1"]].mean()
    short = cells[(cells["loss_slope"] < FALLING) & (cells["train_top1"] < UNFITTED)]
    names = [
        f"{name} at {sizes_in_words(part['size'])} ({percent(float(part['train_top1'].min()), 0)} %)"
        for name, part in sorted(short.groupby("backbone"), key=lambda cell: cell[1]["train_top1"].min())
    ]
    if not names:
        return []
    return [
        f"From scratch, the training loss still fell at the end of this budget for {listed(names)}. The brackets give "
        "the mean accuracy on the training images, at the size where it is lowest. More steps may help there. "
        "Elsewhere a flat loss shows little, since the learning rate ends near 0."
    ]


def budgets(scratch: pd.DataFrame) -> list[str]:
    """Return the sizes at which backbones did not see equally many images."""
    if "samples_seen" not in scratch:
        return []
    shared = scratch[scratch["comparison"] != "settled"] if "comparison" in scratch else scratch  # else by design
    counts = shared.groupby("size")["samples_seen"].nunique()
    uneven = counts.index[counts > 1]
    if not len(uneven):
        return []
    return [f"Backbones did not see equally many images at {sizes_in_words(uneven)}, so their budgets are not equal."]


def ceiling(scratch: pd.DataFrame) -> list[str]:
    """Return the sizes at which both groups are so close to 100 % that they can hardly differ."""
    cells = [statistics.select(scratch, name).groupby(["size", "backbone"])["top1"].mean() for name in ("vit", "cnn")]
    means = [one.groupby("size").mean() for one in cells]
    high = [size for size in means[0].index.intersection(means[1].index) if min(m[size] for m in means) >= CEILING]
    sizes = [int(str(size)) for size in high]
    if not sizes:
        return []
    return [f"Both sides are above {percent(CEILING, 0)} % at {sizes_in_words(sizes)}, so they can hardly differ."]


def parameters(scratch: pd.DataFrame) -> list[str]:
    """Return whether the models compared differ in size."""
    if "parameters" not in scratch:
        return []
    count = scratch.groupby("backbone")["parameters"].max().dropna().astype(float)
    main = {name for group in ("vit", "cnn") for name in statistics.select(scratch, group)["backbone"].unique()}
    of = count[count.index.isin(main)]
    if len(of) < 2 or of.max() / of.min() <= ALIKE:
        return []
    ends = f"{of.idxmin()} has {of.min() / 1e6:.2f} M, and {of.idxmax()} has {of.max() / 1e6:.2f} M"
    return [f"The models differ {of.max() / of.min():.1f}-fold in parameters: {ends}."]


def test_images(scratch: pd.DataFrame) -> list[str]:
    """Return whether predictions per test image are missing."""
    counted = {catalogue.TASKS[str(task)].counted for task in scratch["task"].unique()}
    if all(name in scratch and scratch[name].notna().all() for name in counted):
        return []
    return ["Some runs have no predictions of each test image, so some intervals hold for this test set alone."]


def origins(scratch: pd.DataFrame) -> list[str]:
    """Return whether finished runs come from several codes, kinds of machine, or states of the data."""
    sentences = []
    for column, words in (("commit", "commits of the lab's code"), ("device", "kinds of device")):
        names = [name for name in scratch[column].unique() if name] if column in scratch else []
        if len(names) > 1:
            sentences.append(f"Runs come from {len(names)} {words}: see Provenance.")
    if "dataset_fingerprint" in scratch and scratch["dataset_fingerprint"].replace("", None).nunique() > 1:
        sentences.append("The data changed between runs, which have several fingerprints: see Provenance.")
    return sentences


def grid_edges(tuned: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the tuned learning rates at an edge of the grid, where a better one may lie outside."""
    names = cells(filter(tuning.at_grid_edge, tuned))
    text = f"The best learning rate was at an edge of the grid for {names}, so a better one may lie outside."
    return [text] if names else []


def untuned_sizes(scratch: pd.DataFrame, tuned: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the sizes at which nothing was tuned, none for a table without a tuned row."""
    known = {int(row["size"]) for row in tuned}
    others = sorted(set(scratch["size"]) - known) if known else []
    return [f"Runs at {sizes_in_words(others)} take the learning rate of the nearest tuned size."] if others else []


def first_rungs(tuned: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the settled budgets that were the smallest of their search, where less training may be better."""
    names = cells(row for row in tuned if row.get("settled") and tuning.at_first_rung(row))
    text = f"The best budget was the smallest that was tried for {names}, so less training may be better."
    return [text] if names else []


def cells(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return tuned cells in words, each with its sizes, and '' without any."""
    found: dict[str, set[int]] = {}
    for row in rows:
        words = [part for part in tuning.parts(row) if part != schema.DEFAULTS["regime"]]
        found.setdefault(" + ".join(words), set()).add(int(row["size"]))
    return listed([f"{name} ({sizes_in_words(sorted(at))})" for name, at in found.items()]) if found else ""

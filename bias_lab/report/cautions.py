"""What a reader must bear in mind, said only where the data call for it: each caution is a function of the table."""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from bias_lab import catalogue
from bias_lab.report.figures import percent
from bias_lab.statistics import replicates as rep
from bias_lab.statistics.gaps import listed

FALLING = -0.01  # relative change of the training loss over the last quarter of training
UNFITTED = 0.9  # accuracy on its own training images
LESS_FITTED = 0.5  # of the shortfall: so much less of its own training images right
WORTH = 0.02  # a shortfall too small to speak of its causes
CEILING = 0.97
ALIKE = 2.0  # parameters: largest over smallest


def cautions(view: pd.DataFrame, tuned: Mapping[str, Any]) -> list[str]:
    """Sentences on one dataset's runs of the main recipe (`findings.split`), most serious first."""
    rows = rep.comparable(view, scratch=False)
    scratch = rows[(rows["regime"] == "scratch") & (rows["protocol"] == "finetune")]
    if not len(scratch):
        return overlaps(rows)
    checks: tuple[Callable[[pd.DataFrame], list[str]], ...] = (
        replicates, membership, collapsed, less_fitted, under_trained, budgets, ceiling, parameters, test_images,
        origins,
    )  # fmt: skip
    return overlaps(rows) + [told for check in checks for told in check(scratch)] + edges(scratch, tuned)


def overlaps(rows: pd.DataFrame) -> list[str]:
    """Starts that have seen images of the dataset, as far as the catalogue knows: --allow-overlap let them pass."""
    if "source" not in rows:
        return []
    told = []
    for dataset, part in rows[rows["regime"] != "scratch"].groupby("dataset"):
        made_from = set(catalogue.DATASETS[str(dataset)].made_from) if dataset in catalogue.DATASETS else set()
        for (regime, source), _ in part.groupby(["regime", part["source"].fillna("")]):
            theirs = {"imagenet"} if regime == "weights" else {str(source), *_made_from(str(source))}
            common = sorted(theirs & {str(dataset), *made_from}) if source not in ("pool", "subset") else []
            if common:
                told.append(
                    f"Overlap allowed: {regime} ({source}) and {dataset} share images of {common[0]}; test images may "
                    "be among them, and accuracies too high by an unknown amount."
                )
    return told


def _made_from(source: str) -> tuple[str, ...]:
    return catalogue.DATASETS[source].made_from if source in catalogue.DATASETS else ()


def replicates(scratch: pd.DataFrame) -> list[str]:
    """Too few replicates for the claim."""
    paired = rep.pairs(rep.select(scratch, "vit"), rep.select(scratch, "cnn"))
    counts = paired.groupby("size").size()
    if not len(counts):
        return []
    single = [f"{size:,}" for size, n in zip(counts.index.astype(int), counts, strict=True) if n == 1]
    told = [f"One replicate alone at N = {listed(single)}: no interval, no claim."] if single else []
    draws = paired.groupby("size")["draw"].nunique()
    if (draws == 1).any() and counts.max() > 1:
        told.append("Replicates share one draw of images: intervals speak of seeds on those images alone.")
    few = int(draws[draws > 1].min()) if (draws > 1).any() else 0
    if few == 2:
        told.append("Two draws at some size: an interval over two is too wide to show any but the largest differences.")
    return told


def membership(scratch: pd.DataFrame) -> list[str]:
    """A family that has not the same members at every size."""
    groups = rep.select(scratch, "cnn").groupby("size")["backbone"]
    members = {size: sorted(set(names)) for size, names in groups}
    if members and max(map(len, members.values())) == 1 and len({names[0] for names in members.values()}) == 1:
        return [f"{next(iter(members.values()))[0]} is the only CNN here: no family mean is behind these numbers."]
    if len({tuple(names) for names in members.values()}) < 2:
        return []
    fewest = min(members.values(), key=len)
    sizes = [f"{int(str(size)):,}" for size, names in members.items() if names == fewest]
    return [f"The CNN family is {listed(fewest)} alone at N = {listed(sizes)}: its mean is of fewer backbones there."]


def collapsed(scratch: pd.DataFrame) -> list[str]:
    if "collapsed" not in scratch:
        return []
    dead = scratch[scratch["collapsed"].fillna(False).astype(bool)]
    told = [
        f"{name} ({n} of {int((scratch['backbone'] == name).sum())})"
        for name, n in dead.groupby("backbone").size().items()
    ]
    if not told:
        return []
    return [f"Collapsed runs, predicting one class or with dead features, stay in all means: {listed(told)}."]


def budgets(scratch: pd.DataFrame) -> list[str]:
    """Images seen that are not the same for all backbones at a size."""
    if "samples_seen" not in scratch:
        return []
    seen = scratch.groupby("size")["samples_seen"].nunique()
    uneven = [f"{size:,}" for size, n in seen.items() if n > 1]
    return (
        [f"Backbones did not see equally many images at N = {listed(uneven)}: the comparison is not of equals."]
        if uneven
        else []
    )


def under_trained(scratch: pd.DataFrame) -> list[str]:
    """Loss still falling, or training images not yet fitted: more steps might change the numbers."""
    if not {"loss_slope", "train_top1"} <= set(scratch.columns):
        return []
    cells = scratch.groupby(["backbone", "size"], as_index=False)[["loss_slope", "train_top1"]].mean()
    short = cells[(cells["loss_slope"] < FALLING) & (cells["train_top1"] < UNFITTED)]
    told = []
    for name, part in sorted(short.groupby("backbone"), key=lambda found: found[1]["train_top1"].min()):
        sizes = listed([f"{size:,}" for size in part["size"]])
        told.append(f"{name} at N = {sizes} ({percent(float(part['train_top1'].min()), 0)} %)")
    if not told:
        return []
    return [
        "Under-trained at this budget, the loss still falling (in brackets, the least share of its own training images "
        f"that it gets right): {'; '.join(told)}. More steps may help."
    ]


def less_fitted(scratch: pd.DataFrame) -> list[str]:
    """Sizes at which the ViT lags on its own training images too: under-fitting, which more steps may mend."""
    if "train_top1" not in scratch:
        return []
    vit, cnn = (rep.select(scratch, name).groupby("size")[["train_top1", "top1"]].mean() for name in ("vit", "cnn"))
    both = vit.add_suffix("_vit").join(cnn.add_suffix("_cnn"), how="inner")
    gap, lag = both["top1_cnn"] - both["top1_vit"], both["train_top1_cnn"] - both["train_top1_vit"]
    lagging = both[(gap > WORTH) & (lag > LESS_FITTED * gap)]
    if not len(lagging):
        return []
    size, row = next(iter(lagging.loc[[(lag[lagging.index]).idxmax()]].iterrows()))
    sizes = listed([f"{n:,}" for n in lagging.index])
    return [
        f"At N = {sizes} plain ViT gets fewer of its own training images right than the CNNs "
        f"({percent(row['train_top1_vit'], 0)} against {percent(row['train_top1_cnn'], 0)} % at {size:,}): there the "
        "shortfall is of fitting within this budget as much as of generalising from few labels."
    ]


def ceiling(scratch: pd.DataFrame) -> list[str]:
    """Groups so close to 100 % that a difference has no room."""
    means = [rep.select(scratch, name).groupby("size")["top1"].mean() for name in ("vit", "cnn")]
    sizes = [
        f"{size:,}" for size in means[0].index.intersection(means[1].index) if min(m[size] for m in means) > CEILING
    ]
    return (
        [f"Ceiling: both sides are above {percent(CEILING, 0)} % at N = {listed(sizes)}; no difference has room there."]
        if sizes
        else []
    )


def parameters(scratch: pd.DataFrame) -> list[str]:
    """Models compared that are not of like size."""
    if "parameters" not in scratch:
        return []
    count = scratch.groupby("backbone")["parameters"].max().dropna().astype(float)
    main = {name for group in ("vit", "cnn") for name in rep.select(scratch, group)["backbone"].unique()}
    of = count[count.index.isin(main)]
    if len(of) < 2 or of.max() / of.min() <= ALIKE:
        return []
    ratio = of.max() / of.min()
    ends = f"{of.idxmin()} {of.min() / 1e6:.2f} M, {of.idxmax()} {of.max() / 1e6:.2f} M"
    return [f"Models differ {ratio:.1f}-fold in parameters ({ends})."]


def test_images(scratch: pd.DataFrame) -> list[str]:
    if "correct" in scratch and scratch["correct"].notna().all():
        return []
    return ["Predictions per test image are not all at hand: some intervals hold for this test set alone."]


def origins(scratch: pd.DataFrame) -> list[str]:
    """Finished runs that don't come from one code, one kind of machine, one state of the data."""
    told = []
    for column, what in (("commit", "commits of the lab's code"), ("device", "kinds of device")):
        names = [name for name in scratch[column].unique() if name] if column in scratch else []
        if len(names) > 1:
            told.append(f"Runs come from {len(names)} {what}: see Provenance.")
    if "dataset_fingerprint" in scratch and scratch["dataset_fingerprint"].replace("", None).nunique() > 1:
        told.append("The data changed between runs (several fingerprints): see Provenance.")
    return told


def edges(scratch: pd.DataFrame, tuned: Mapping[str, Any]) -> list[str]:
    """Tuned learning rates at the end of the grid: a better one may lie outside."""
    at: dict[str, list[int]] = {}
    for row in tuned.get("rows", []):
        tried = sorted(float(t["learning_rate"]) for t in row.get("trials", []))
        if (
            len(tried) > 1
            and row["learning_rate"] in (tried[0], tried[-1])
            and row["backbone"] in set(scratch["backbone"])
        ):
            name = row["backbone"] + ("" if row["regime"] == "scratch" else f" + {row['regime']}")
            at.setdefault(name, []).append(int(row["size"]))
    if not at:
        return []
    told = [f"{name} (N = {listed([f'{size:,}' for size in sorted(set(sizes))])})" for name, sizes in at.items()]
    return [f"The best learning rate stood at the end of the grid for {'; '.join(told)}: a better one may lie outside."]

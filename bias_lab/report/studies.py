"""What the report says of studies other than CNN against ViT from scratch: the parts that appear where the runs are.

Interventions (is the lead made of locality?), starts (what does a pretraining or what do weights give, and is a
shortfall left?), pairs where no plain ViT was run, and curves over epochs on the hold-out.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bias_lab import statistics
from bias_lab.report import figures, tables
from bias_lab.report.figures import span
from bias_lab.report.pages import Section, Table, number, points, whole, word
from bias_lab.statistics import intervals
from bias_lab.statistics import replicates as rep
from bias_lab.statistics.contrasts import matched
from bias_lab.statistics.gaps import ALPHA, between, claims, listed, method_of
from bias_lab.statistics.gaps import points as told_points

SPELT = {"mae": "MAE", "simmim": "SimMIM", "dino": "DINO", "weights": "starting from weights"}
LAST = 2 / 3  # the share of the epochs after which a curve is averaged


def spelt(regime: str) -> str:
    """A regime at the beginning of a sentence."""
    return SPELT.get(regime, regime.capitalize())


# --- images with something taken away ---------------------------------------------------------------------------------


def arm(intervention: str) -> str:
    """An intervention in words: 'patches of 4 pixels permuted'."""
    name, _, value = intervention.partition(":")
    known = {
        "": "as they are",
        "permute_pixels": "pixels permuted",
        "permute_patches": f"patches of {value or 4} pixels permuted",
        "shuffle_patches": f"patches of {value or 4} pixels shuffled",
    }
    return known.get(name, intervention.replace("_", " "))


def taken_away(view: pd.DataFrame, slug: str) -> tuple[list[Section], list[str], str]:
    """The section on interventions, its sentences for the top of the report, and over what these were corrected."""
    found = statistics.arms(view)
    names = statistics.moved(view)
    if not len(names):
        return [], [], ""
    by_arm = {name: rep.comparable(view, intervention=name) for name in ["", *names["intervention"].unique()]}
    charts = [figures.by_arm({arm(name): rows for name, rows in by_arm.items()}, prefix=slug)]
    lines = [(arm(str(name)), part) for name, part in found.groupby("intervention", sort=False)]
    charts += [figures.shortfall_by_arm(lines, prefix=slug)] if len(found) else []
    made = (tables.arms(found.assign(arm=found["intervention"].map(arm))),
            tables.moved(names.assign(arm=names["intervention"].map(arm))))  # fmt: skip
    section = Section(
        name="arms", title="With something taken away", text=moved_told(names), charts=tuple(charts), tables=made
    )
    tested = int(found["p"].notna().sum())
    family = f"With something taken away: Holm-corrected over {tested} comparisons, every arm at every size."
    return [section], arms_told(found), family if tested > 1 else ""


def arms_told(found: pd.DataFrame) -> list[str]:
    """'With pixels permuted, no difference … is shown: 0.4 points at N = 100 (…)'."""
    told = []
    for name, part in found[found["intervention"] != ""].groupby("intervention", sort=False):
        shown, untested = part["p_holm"] <= ALPHA, part["p"].isna()
        parts = []
        for title, rows in (
            ("the CNNs still lead plain ViT, by", part[shown & (part["shortfall"] > 0)]),
            ("plain ViT leads the CNNs:", part[shown & (part["shortfall"] < 0)]),
            ("no difference between plain ViT and the CNNs is shown:", part[~shown & ~untested]),
            ("one replicate alone, so nothing is claimed: the CNNs minus plain ViT is", part[untested]),
        ):
            if len(rows):
                parts.append(f"{title} {_amounts(rows, 'shortfall')}")
        told.append(f"With {arm(str(name))}, {'; '.join(parts)}.")
    return told


def moved_told(names: pd.DataFrame) -> tuple[str, ...]:
    """'Accuracy with pixels permuted moves against the images as they are: resnet_micro by −34.0 points …'."""
    told = []
    for name, part in names.groupby("intervention", sort=False):
        each = [f"{backbone} by {_amounts(rows, 'change')}" for backbone, rows in part.groupby("backbone", sort=False)]
        told.append(f"Accuracy with {arm(str(name))} moves against the images as they are: {'; '.join(each)}.")
    return tuple(told)


def _amounts(rows: pd.DataFrame, column: str) -> str:
    """'−12.3 points at N = 100 (95 % interval −14.7 to −9.8, n = 4) and …': the ends of many sizes."""
    every = rows.to_dict("records")
    return listed([_amount(row, column) for row in (every if len(every) < 3 else [every[0], every[-1]])])


def _amount(row: Mapping[Any, Any], column: str, more: str = "") -> str:
    wide = row["low_any"] == row["low_any"]
    low, high = (row["low_any"], row["high_any"]) if wide else (row["low"], row["high"])
    off = (low > 0 or high < 0) and row["p_holm"] > ALPHA  # the interval is of this row alone, the claim of all
    kind = "uncorrected 95 % interval" if off else "95 % interval"
    inside = f"{kind} {span(low, high)}, n = {row['n']}" if low == low else f"n = {row['n']}, no interval"
    return f"{told_points(row[column])} points at N = {row['size']:,} ({inside}{more})"


# --- starts -----------------------------------------------------------------------------------------------------------


def starts(table: pd.DataFrame, view: pd.DataFrame) -> tuple[tuple[Table, ...], list[str]]:
    """Tables of what each start gives and leaves, and sentences on what is left where both sides start alike."""
    before = table[table["task"] == "pretrain"]
    for column in ("dataset", "image_size"):  # a start at another size in pixels is another start
        before = before[before[column].isin(view[column])]
    gained = statistics.gains(pd.concat([view, before]))
    alike = statistics.likewise(view)
    made = []
    if len(gained):
        made.append(tables.gains(gained))
    if len(alike):
        made.append(tables.likewise(alike))
    return tuple(made), left_told(alike)


def won_back(won: pd.DataFrame) -> list[str]:
    """'MAE on the pool wins back 83 % of it at N = 1,000 (95 % interval 70 to 110 %)', the ends of many sizes.

    Where the shortfall can't be told from 0 a share of it means nothing, and none is told.
    """
    settled = won[won["recovery"].notna() & (won["low"].abs() < math.inf)]
    starts = settled.groupby(["regime", "protocol", "source"], sort=False)
    if starts.ngroups > 2:
        return _won_by_size(settled)
    told = []
    for (regime, protocol, source), part in starts:
        rows = part.to_dict("records")
        ends = [
            f"{100 * row['recovery']:.0f} % of it at N = {row['size']:,} (95 % interval "
            f"{tables.percents(row['low'], row['high']).text})"
            for row in (rows if len(rows) < 3 else [rows[0], rows[-1]])
        ]
        how = tables.regime_told(spelt(str(regime)), str(protocol), str(source))
        told.append(f"{how[0].upper()}{how[1:]} wins back {listed(ends)}.")
    return told


def _won_by_size(settled: pd.DataFrame) -> list[str]:
    """'Won back of it at N = 100: MAE (on pool) 83 % (70 to 110 %), DINO …': many starts, best first."""
    told = []
    for size in sorted({settled["size"].min(), settled["size"].max()}):
        part = settled[settled["size"] == size].sort_values("recovery", ascending=False)
        each = [
            f"{_start(r)} {100 * r['recovery']:.0f} % ({tables.percents(r['low'], r['high']).text})".replace("-", "−")
            for r in part.to_dict("records")
        ]
        told.append(f"Won back of it at N = {size:,} (95 % intervals in brackets): {listed(each)}.")
    return told


def _within(regime: object) -> str:
    """A regime within a sentence, after 'after': 'MAE', 'weights'."""
    return SPELT.get(str(regime), str(regime)).removeprefix("starting from ")


def _start(row: Mapping[Any, Any]) -> str:
    """A start within a sentence: 'MAE (on pool)'."""
    regime = str(row["regime"])
    return tables.regime_told(SPELT.get(regime, regime), str(row["protocol"]), str(row["source"]))


def left_told(alike: pd.DataFrame) -> list[str]:
    """'Where both start from weights, the CNNs' lead over plain ViT is 2.1 points at N = 500 (…: 16 % of …)'."""
    told = []
    for (regime, protocol, source), part in alike.groupby(["regime", "protocol", "source"], sort=False):
        how = tables.regime_told(_within(regime), str(protocol), str(source))
        rows = part.to_dict("records")
        left = []
        for row in rows if len(rows) < 3 else [rows[0], rows[-1]]:
            share = tables.percents(row["left_low"], row["left_high"]).text
            of = f"; {100 * row['left']:.0f} % of that from scratch, {share}".replace("-", "−")
            left.append(_amount(row, "shortfall", "" if share in ("–", "unbounded") else of))
        told.append(f"Where both start from {how}, the CNNs' lead over plain ViT is {listed(left)}.")
    return told


# --- pairs where no plain ViT was run ---------------------------------------------------------------------------------


def pairwise(view: pd.DataFrame) -> tuple[tuple[str, str], tuple[Table, ...]]:
    """((finding, method), tables) of each backbone against the CNNs, start by start: for a study without plain ViT.

    Holm-corrected over all pairs, starts and sizes. Empty where there are no CNNs, or nothing beside them.
    """
    rows = rep.comparable(view, scratch=False)
    cnn = rep.select(rows, "cnn")
    members = sorted(cnn["backbone"].unique())
    reference = members[0] if len(members) == 1 else "the CNN family"
    found: list[tuple[str, str, pd.DataFrame]] = []
    for (regime, protocol), part in rows.groupby(["regime", "protocol"], sort=False):
        theirs, many = part[part.index.isin(cnn.index)], part["source"].nunique() > 1 and regime != "weights"
        for name, ours in part[~part.index.isin(cnn.index)].groupby("backbone"):
            for source, one, other in matched(ours, theirs, str(regime)):
                how = tables.regime_told(_within(regime), str(protocol), source if many else "")
                found.append((how, str(name), between(one, other)))
    found = [(how, name, part) for how, name, part in found if len(part)]
    if not found:
        return ("", ""), ()
    adjusted = intervals.holm(np.concatenate([part["p"].to_numpy(dtype=float) for _, _, part in found]))
    parts, at = [], 0
    for how, name, part in found:
        corrected = part.assign(p_holm=adjusted[at : at + len(part)])
        at += len(part)
        said = " ".join(claims(corrected, (name, reference)))
        parts.append(said if how == "scratch" else f"After {how}, " + said.replace("No ", "no ", 1))
    every = pd.concat([part for _, _, part in found], ignore_index=True)
    labelled = [(reference, f"{name} ({how})", part) for how, name, part in found]
    method = f"{method_of(every, 'comparisons')}." if every["p"].notna().any() else ""
    return (" ".join(parts), method), (tables.pairs(labelled, "Pair by pair, start by start"),)


# --- curves over epochs -----------------------------------------------------------------------------------------------


def over_epochs(view: pd.DataFrame, curves: Mapping[str, Any], slug: str) -> list[Section]:
    """The hold-out over the epochs, where runs were watched: a figure, and the last third beside the test at the end.

    curves: run_id → [steps, accuracies on the hold-out], as `collect` gives them.
    """
    known = view[view["run_id"].isin(curves) & (view["budget"] == 1) & (view["intervention"].fillna("") == "")]
    if not len(known):
        return []
    made = pd.concat([_epochs(row, curves[str(row["run_id"])]) for row in known.to_dict("records")], ignore_index=True)
    made = made.assign(source=made["source"].fillna(""))
    cells = ["backbone", "family", "architecture", "regime", "protocol", "source", "size"]
    charts = tuple(
        figures.epochs(part, prefix=slug, tail=f"-{size}" if made["size"].nunique() > 1 else "", size=int(str(size)))
        for size, part in made.groupby("size")
    )
    rows = []
    for key, part in made[made["epoch"] > LAST * made["epochs"]].groupby(cells):
        backbone, _, _, regime, protocol, source, size = key
        runs = part.groupby(["draw", "seed"]).agg(mean=("top1", "mean"), least=("top1", "min"), most=("top1", "max"))
        of = intervals.mean(rep.units(runs[["mean"]])["mean"].to_numpy(dtype=float))
        cell = known[(known["backbone"] == backbone) & (known["regime"] == regime) & (known["size"] == size)]
        cell = cell[cell["source"].fillna("") == source]
        test = intervals.mean(
            rep.units(cell[cell["protocol"] == protocol].set_index(["draw", "seed"])[["top1"]])["top1"].to_numpy(float)
        )
        shown = str(source) if figures.several(known, backbone, regime) else ""
        how = tables.regime_told(str(regime), str(protocol), shown)
        rows.append(
            (word(backbone), word(how), whole(size), points(of.value), tables.possible(of.low, of.high),
             points((runs["most"] - runs["least"]).mean()), points(test.value), tables.possible(test.low, test.high),
             number(test.value - of.value, "{:+.1f}", scale=100), whole(len(runs)))
        )  # fmt: skip
    columns = (
        ("backbone", ""), ("regime", ""), ("N", "labelled training images"),
        ("hold-out, last third, %", "mean over the last third of the epochs, then over replicates"),
        ("95 % interval", "Student's t over replicates"),
        ("swing", "highest minus lowest epoch within that third, points, mean over replicates"),
        ("test at the end, %", "read once, after the last step"),
        ("95 % interval of it", "Student's t over replicates"), ("test minus hold-out", "points"), ("n", "replicates"),
    )  # fmt: skip
    note = "Curves are of the hold-out, which nothing is chosen by; the test images are read once, after the last step."
    end = Table(title="The last third of the epochs, and the test", columns=columns, rows=tuple(rows), note=note)
    return [Section(name="epochs", title="Over the epochs, on the hold-out", charts=charts, tables=(end,))]


def _epochs(row: Mapping[Any, Any], curve: Any) -> pd.DataFrame:
    """A run's curve over epochs: steps turned by the images seen and the number of labelled ones."""
    steps, accuracies = curve
    whole_run = float(row["samples_seen"]) / float(row["size"])
    named = {name: row[name] for name in "backbone family architecture regime protocol source size draw seed".split()}
    epochs = [step / float(row["steps"]) * whole_run for step in steps]
    return pd.DataFrame({"epoch": epochs, "top1": accuracies, "epochs": whole_run}).assign(**named)


# --- leaks that were let pass -----------------------------------------------------------------------------------------


def overlapped(table: pd.DataFrame, overlap: Mapping[str, Any]) -> list[str]:
    """Pretrainings whose source holds test images, by the hash of their pixels. overlap: run_id → how many."""
    told = []
    for row in table[table["run_id"].isin(overlap)].to_dict("records"):
        told.append(
            f"Overlap allowed: {row['source']}, the source of {row['backbone']}'s pretraining ({row['regime']}), holds "
            f"{overlap[str(row['run_id'])]:,} test images of {row['dataset']}: what starts from it scores too high."
        )
    return list(dict.fromkeys(told))

"""The shortfall: how far one group of backbones lies below another at each size, and what may be said about it."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from bias_lab.statistics import curves, intervals
from bias_lab.statistics import replicates as rep

ALPHA = 0.05
SHORTFALL = ["size", "shortfall", "low", "high", "low_any", "high_any", "n"]
_CHUNK = 2048  # rows of `correct` unpacked at a time: bounds the memory at any number of runs


def shortfall(table: pd.DataFrame, *, of: str = "vit", against: str = "cnn") -> pd.DataFrame:
    """Δ(N): mean accuracy of `against` minus that of `of` at each size, paired over replicates.

    of, against: a backbone, an architecture or a family; a group is averaged over its backbones within a replicate.
    Columns size, shortfall, low, high, low_any, high_any, n, all differences as fractions, intervals of 95 %:
    `low, high` by Student's t over replicates, on this test set (over draws where a draw has several seeds); `low_any,
    high_any` with the sampling of test images too, all models resampled on the same images (column `correct`; NaN
    without it). n counts pairs; n = 1 gives NaN. Runs that collapsed stay in.
    Raises UserError for a table that mixes datasets, image sizes or recipes, lacks a column, or holds percents.
    """
    return gaps(table, of=of, against=against).loc[:, SHORTFALL]


def gaps(table: pd.DataFrame, *, of: str = "vit", against: str = "cnn") -> pd.DataFrame:
    """`shortfall`, and what stands behind it.

    Further columns: units (independent values: draws, or seeds of one draw), unit, sd (of a unit), test_se (from the
    sampling of test images), collapsed (runs among them), p (two-sided; with test images where known), p_holm (over
    sizes), p_permutation (sign flips of units), p_smallest (the least that this many units can reach).
    """
    rows = rep.comparable(table)
    for name in (of, against):
        rep.select(table, name)  # a name that even failed rows don't carry is a misspelling
    found = between(rep.select(rows, of), rep.select(rows, against))
    if len(found) and found["test_se"].isna().all() and (found["n"] > 1).any():
        rep.say_once("no predictions per test image (column 'correct'): intervals hold on this test set alone")
    return found


def between(ours: pd.DataFrame, theirs: pd.DataFrame) -> pd.DataFrame:
    """`gaps` of any two sets of comparable rows: theirs − ours at each size that both have."""
    paired = rep.pairs(ours, theirs)
    at = [dict(tuple(rows.groupby("size"))) for rows in (ours, theirs)]
    made = [_gap(size, part, at[0][size], at[1][size]) for size, part in paired.groupby("size")]
    columns = [*SHORTFALL, "units", "unit", "sd", "test_se", "collapsed", "p", "p_permutation", "p_smallest"]
    result = pd.DataFrame(made, columns=columns)
    return result.assign(p_holm=intervals.holm(result["p"].to_numpy(dtype=float)))


def _gap(size: Any, paired: pd.DataFrame, ours: pd.DataFrame, theirs: pd.DataFrame) -> dict[str, Any]:
    unit = rep.unit_of(paired)
    values = paired.groupby(unit)["difference"].mean().to_numpy(dtype=float)
    of = intervals.mean(values)
    used = [_used(part, paired) for part in (ours, theirs)]
    test_se, images = _test_noise(used[0], used[1], paired, unit)
    half = intervals.both_noises(of, test_se)
    permutation, smallest = intervals.sign_flips(values)
    return {
        "size": int(size), "shortfall": of.value, "low": of.low, "high": of.high,
        "low_any": of.value - half, "high_any": of.value + half, "n": len(paired), "units": of.k, "unit": unit,
        "sd": of.sd, "test_se": test_se, "collapsed": sum(_collapsed(part) for part in used),
        "p": intervals.p_value(of, test_se, 1 / images if images else 0.0),
        "p_permutation": permutation, "p_smallest": smallest,
    }  # fmt: skip


def _used(rows: pd.DataFrame, paired: pd.DataFrame) -> pd.DataFrame:
    """The runs behind the pairs of one size, each with its pair's weight in its group's mean."""
    here = rows
    if len(rows) != len(paired) * rows["backbone"].nunique():
        whole = pd.MultiIndex.from_frame(paired[["draw", "seed"]])
        here = rows[pd.MultiIndex.from_frame(rows[["draw", "seed"]]).isin(whole)]
    return here.assign(weight=1.0 / max(1, here["backbone"].nunique()))


def _collapsed(rows: pd.DataFrame) -> int:
    return int(rows["collapsed"].fillna(False).astype(bool).sum()) if "collapsed" in rows else 0


def _test_noise(ours: pd.DataFrame, theirs: pd.DataFrame, paired: pd.DataFrame, unit: str) -> tuple[float, int]:
    """Standard error from the sampling of test images, and their number; (NaN, 0) where it can't be known."""
    if not {"correct", "test_images"} <= set(ours.columns):
        return math.nan, 0
    images = {*theirs["test_images"], *ours["test_images"]}
    if len(images) != 1 or pd.isna(next(iter(images))):
        return math.nan, 0
    T = int(images.pop())
    if ours["correct"].isna().any() or theirs["correct"].isna().any() or paired[unit].nunique() < 2:
        return math.nan, T
    runs = pd.concat([theirs.assign(sign=1.0), ours.assign(sign=-1.0)], ignore_index=True)
    width = (T + 7) // 8
    if any(len(bits) != width for bits in runs["correct"]):
        return math.nan, T
    names = {name: place for place, name in enumerate(sorted(paired[unit].unique()))}
    of_unit = runs[unit].map(names).to_numpy(dtype=np.intp)
    a_unit = np.bincount(paired[unit].map(names).to_numpy(dtype=np.intp))  # pairs in each unit
    weight = (runs["sign"] * runs["weight"]).to_numpy(dtype=float) / a_unit[of_unit]
    bits = runs["correct"].to_numpy()
    difference = np.zeros((len(names), T))
    for start in range(0, len(runs), _CHUNK):
        part = slice(start, start + _CHUNK)
        right = np.unpackbits(np.frombuffer(b"".join(bits[part]), np.uint8).reshape(-1, width), axis=1, count=T)
        here = (of_unit[part], np.arange(len(right)))
        difference += csr_array((weight[part], here), shape=(len(names), len(right))) @ right.astype(np.float64)
    return intervals.image_noise(difference), T


# --- the answer -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """What the table says about the question. sizes: those at which the verdict's claim is made.

    verdict: `shortfall` (shown at `sizes`), `crossover` (a shortfall at `sizes`, a lead at larger ones), `lead` (`of`
    is ahead at `sizes`, behind at none), `none` (no difference is shown at any size), `unknown` (too few replicates).
    text: finding and method in words.
    """

    verdict: str
    sizes: tuple[int, ...]
    text: str
    finding: str = ""
    method: str = ""


NAMES = {
    "vit": "plain ViT", "cnn": "the CNN family", "resnet": "ResNet", "hybrid": "the hybrids", "swin": "Swin",
    "transformer": "the transformers",
}  # fmt: skip


def answer(table: pd.DataFrame, *, of: str = "vit", against: str = "cnn") -> Answer:
    """The sentence at the top of the report: claims Holm-corrected over sizes, so that at most 1 null table in 20 errs.

    A size is claimed if its Holm-adjusted p is at most 0.05; p includes the sampling of test images where it is known.
    """
    found = gaps(table, of=of, against=against)
    names = (NAMES.get(of, of), NAMES.get(against, against))
    if not len(found):
        return _unknown(f"No pair of finished runs of {names[0]} and {names[1]} yet: nothing can be said.")
    if found["p"].isna().all():
        told = "; ".join(f"{points(row['shortfall'])} points at N = {row['size']:,}" for row in _records(found))
        return _unknown(
            f"One replicate a size gives no interval, so nothing is claimed: {names[1]} minus {names[0]} is {told}."
        )
    claimed = found["p_holm"] <= ALPHA
    below, above = found[claimed & (found["shortfall"] > 0)], found[claimed & (found["shortfall"] < 0)]
    verdict = "none"
    if len(below):
        verdict = "crossover" if len(above) and above["size"].min() > below["size"].max() else "shortfall"
    elif len(above):
        verdict = "lead"
    parts = claims(found, names)
    if (verdict in ("crossover", "shortfall") and not claimed.iloc[-1]) or verdict == "crossover":
        parts.append(_meeting(curves.crossover(table, of=of, against=against)))
    finding, method = " ".join(part for part in parts if part), method_of(found)
    sizes = below if len(below) else above
    return Answer(verdict, tuple(int(size) for size in sizes["size"]), f"{finding} ({method})", finding, f"{method}.")


def claims(found: pd.DataFrame, names: tuple[str, str]) -> list[str]:
    """Sentences on the rows of one pair, by size: what is claimed (p_holm at most 0.05), and what is not shown."""
    claimed = found["p_holm"] <= ALPHA
    below, above = found[claimed & (found["shortfall"] > 0)], found[claimed & (found["shortfall"] < 0)]
    parts = [_claim(below, names, "falls short of"), _claim(above, names, "is ahead of")]
    parts.append(_rest(found[~claimed], names, alone=not claimed.any()))
    return [part for part in parts if part]


def _unknown(text: str) -> Answer:
    text = text[0].upper() + text[1:]
    return Answer("unknown", (), text, text)


def _records(found: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in found.to_dict("records")]


def points(fraction: float) -> str:
    """A difference in points of accuracy: 0.1234 → '12.3'."""
    return f"{100 * fraction:.1f}".replace("-", "−")


def _claim(rows: pd.DataFrame, names: tuple[str, str], verb: str) -> str:
    """'X falls short of Y at N = …: by 16.6 points at 100 (95 % interval …, n = 5) and …': the ends of many sizes."""
    if not len(rows):
        return ""
    sizes = [f"{size:,}" for size in rows["size"]]
    shown = _records(rows)
    who = names[0][0].upper() + names[0][1:] if names[0] in NAMES.values() else names[0]
    if len(shown) == 1:
        return f"{who} {verb} {names[1]} at N = {sizes[0]} by {_amount(shown[0], at=False)}."
    told = [_amount(row) for row in (shown if len(shown) < 3 else [shown[0], shown[-1]])]
    return f"{who} {verb} {names[1]} at N = {listed(sizes)}: by {listed(told)}."


def _amount(row: dict[str, Any], *, at: bool = True) -> str:
    ends = (row["low"], row["high"]) if math.isnan(row["low_any"]) else (row["low_any"], row["high_any"])
    low, high = sorted((abs(ends[0]), abs(ends[1]))) if ends[0] * ends[1] >= 0 else sorted(ends)
    told = f"{points(abs(row['shortfall']))} points" + (f" at {row['size']:,}" if at else "")
    return f"{told} (95 % interval {points(low)} to {points(high)}, n = {row['n']})"


def listed(words: list[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def _rest(rows: pd.DataFrame, names: tuple[str, str], *, alone: bool) -> str:
    seen, single = rows[rows["p"].notna()], rows[rows["p"].isna()]
    parts = []
    if len(seen):
        low, high = seen["low_any"].fillna(seen["low"]).min(), seen["high_any"].fillna(seen["high"]).max()
        alone_off = ((seen["low_any"].fillna(seen["low"]) > 0) | (seen["high_any"].fillna(seen["high"]) < 0)).any()
        uncorrected = ", not corrected for the number of comparisons," if alone_off else ""
        bounds = f"95 % intervals there{uncorrected} reach from {points(low)} to {points(high)} points"
        what = f"between {names[0]} and {names[1]} " if alone else ""
        parts.append(f"No difference {what}is shown at N = {listed([f'{n:,}' for n in seen['size']])} ({bounds}).")
    if len(single):
        parts.append(f"One replicate alone at N = {listed([f'{n:,}' for n in single['size']])}: no interval, no claim.")
    return " ".join(parts)


def _meeting(where: pd.DataFrame) -> str:
    row = _records(where)[0]
    return "" if row["bound"] else f"The mean curves meet at {row['text']}."


def method_of(found: pd.DataFrame, what: str = "sizes") -> str:
    """How the rows of `gaps` were tested, in words. what: that the correction runs over."""
    tested = found[found["p"].notna()]
    correction = "" if len(tested) == 1 else f", Holm-corrected over {len(tested)} {what}"
    noise = " and test images" if tested["test_se"].notna().all() else ", on this test set"
    fewest = _records(tested.sort_values("units"))[0]
    reach = f"sign flips of {fewest['units']} {fewest['unit']}s can't reach a p below {fewest['p_smallest']:.3g}"
    return f"Student's t over replicates{noise}{correction}; {reach}"

"""Split the shortfall of a segmentation into what the encoders and what the heads contribute.

Each side has its own head, such as a linear head for plain ViT and a U-Net for a CNN. The shortfall with own heads is
then a difference of encoders and of heads at once. Runs in which both sides have one common decoder tell the two apart:

    shortfall      = M(CNN, own head) - M(ViT, own head)
    encoder effect = M(CNN, common head) - M(ViT, common head)
    head effect    = shortfall - encoder effect
                   = [M(CNN, own) - M(CNN, common)] - [M(ViT, own) - M(ViT, common)]

The head effect is how much more a CNN gains from its own head than ViT gains from its own. The encoder effect is that
under the common head. A split that favours neither order (Shapley's) would need each encoder with the other's own head.
A plain ViT can't have a U-Net, so that split is not identified, and what encoder and head do only together is in the
head effect.
"""

import math

import numpy as np
import pandas as pd

from bias_lab.statistics import images, intervals
from bias_lab.statistics import replicates as rep
from bias_lab.statistics.conditions import METRIC, Where, has, values
from bias_lab.statistics.intervals import Vector

HEAD = "head"
OWN = ""  # value of the column for the backbone's own head
PARTS = ("shortfall", "encoder", "head")
ENDS = ("", "_low", "_high", "_low_any", "_high_any", "_p")
HEADS = [
    "common", "size", *(f"{part}{end}" for part in PARTS for end in ENDS),
    "share", "share_low", "share_high", "of_own", "of_common", "against_own", "against_common", "n", "units", "unit",
]  # fmt: skip


def heads(
    table: pd.DataFrame,
    *,
    of: str = "vit",
    against: str = "cnn",
    metric: str = METRIC,
    where: Where = None,
    comparison: str = "",
) -> pd.DataFrame:
    """Return the shortfall with own heads, and its encoder effect and head effect, for each common head and size.

    table: a results table. of, against: a backbone, an architecture or a family. metric: `miou` for runs with masks.
    where, comparison: as in `select_condition`. Errors are those of `shortfall`.
    Returns a row for each head that both sides have (common) and each size, from replicates (draw, seed) in which both
    sides have their own head and the common one. For shortfall, encoder and head: the mean difference in the metric's
    unit, `_low, _high` (95 %, Student's t over replicates on this test set), `_low_any, _high_any` (with the sampling
    of test images, or of groups of them that depend on one another, NaN where it is unknown), `_p` (two-sided, with
    that sampling where it is known, not corrected for several sizes). All models are resampled on the same images, so
    what the four share cancels. share: encoder effect / shortfall, with Fieller's interval that includes both noises.
    It is NaN where the shortfall can't be told from 0. of_own, of_common, against_own, against_common: mean metrics. n:
    replicates. units, unit: the independent ones, draws, or seeds of one draw.
    """
    there = [str(value) for value in values(table, HEAD, comparison) if value != OWN]
    own = _sides(table, OWN, of, against, metric, where, comparison)
    records = []
    for common in there:
        sides = (*own, *_sides(table, common, of, against, metric, where, comparison))
        records += [{"common": common, **row} for row in _by_size(sides, metric)]
    return pd.DataFrame(records, columns=HEADS)


def _sides(
    table: pd.DataFrame, head: str, of: str, against: str, metric: str, where: Where, comparison: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of both sides with one head and no other."""
    rows = rep.comparable(table, where={**(where or {}), HEAD: head}, metric=metric, comparison=comparison)
    rows = rows[has(rows, HEAD, head)]
    return rep.select(rows, of), rep.select(rows, against)


def _by_size(sides: tuple[pd.DataFrame, ...], metric: str) -> list[dict[str, float | str | int]]:
    """Return a row for each size. sides: of and against with their own heads, then both with the common head."""
    means = [rep.averaged(rows, metric).rename(columns={metric: str(place)}) for place, rows in enumerate(sides)]
    joined = means[0]
    for other in means[1:]:
        joined = joined.merge(other, on=rep.KEY)
    by_size = [images.by_size(rows) for rows in sides]
    return [
        {"size": int(str(size)), **_at(part, [side[int(str(size))] for side in by_size], metric)}
        for size, part in joined.groupby("size")
    ]


def _at(replicates: pd.DataFrame, rows: list[images.Columns], metric: str) -> dict[str, float | str | int]:
    """Return the numbers of one size.

    replicates: draw, seed, and the means of the four sides as columns 0 to 3. rows: their runs at this size.
    """
    of_own, against_own, of_common, against_common = (replicates[str(place)] for place in range(4))
    differences = {"shortfall": against_own - of_own, "encoder": against_common - of_common}
    differences["head"] = differences["shortfall"] - differences["encoder"]
    named = replicates.assign(**differences)
    vectors = {name: rep.independent(named, name)[replicates["size"].iloc[0]] for name in PARTS}
    pairs = {name: replicates[name].to_numpy() for name in ("draw", "seed")}
    used = [images.used(one, pairs) for one in rows]
    own, T = images.difference(used[0], used[1], pairs, metric)
    common, _ = images.difference(used[2], used[3], pairs, metric)
    noise: dict[str, Vector] = {}
    if own is not None and common is not None and own.shape == common.shape:
        noise = {"shortfall": own, "encoder": common, "head": own - common}
    found: dict[str, float | str | int] = {}
    for name in PARTS:
        found |= _numbers(name, vectors[name], noise.get(name), T)
    share = _share(vectors, noise)
    ends = (share.value, share.low, share.high) if math.isfinite(share.low) else (math.nan,) * 3
    levels = dict(of_own=of_own, of_common=of_common, against_own=against_own, against_common=against_common)
    return {
        **found,
        **dict(zip(("share", "share_low", "share_high"), ends, strict=True)),
        **{name: float(level.mean()) for name, level in levels.items()},
        "n": len(replicates),
        "units": len(vectors["head"]),
        "unit": rep.unit_of(replicates),
    }


def _numbers(name: str, vector: Vector, noise: Vector | None, T: int) -> dict[str, float]:
    """Return a mean with both intervals and its p. vector: (units,). noise: (units, images) whose mean is the same."""
    of = intervals.mean(vector)
    test_se = math.nan if noise is None else intervals.image_noise(noise)
    half = intervals.both_noises(of, test_se)
    p = intervals.p_value(of, test_se, 1 / T if T else 0.0)
    ends = {"": of.value, "_low": of.low, "_high": of.high, "_low_any": of.value - half, "_high_any": of.value + half}
    return {f"{name}{end}": value for end, value in {**ends, "_p": p}.items()}


def _share(vectors: dict[str, Vector], noise: dict[str, Vector]) -> intervals.Ratio:
    shared = intervals.image_covariance(noise["encoder"], noise["shortfall"]) if noise else None
    if shared is not None and np.isnan(shared).any():
        shared = None
    return intervals.ratio(vectors["encoder"], vectors["shortfall"], shared=shared)

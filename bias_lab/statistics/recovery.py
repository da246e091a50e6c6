"""How much of the shortfall a start recovers, or a backbone of the user's own removes."""

import math
from typing import Any

import pandas as pd

from bias_lab import schema
from bias_lab.statistics import images, intervals
from bias_lab.statistics import replicates as rep
from bias_lab.statistics.conditions import METRIC, UNTRAINED, Where, is_control, is_from_scratch

Sides = tuple[pd.DataFrame, pd.DataFrame]  # rows of two groups
RECOVERY = [*schema.START, "size", "recovery", "low", "high", "gain", "shortfall", "n", "shared", "untrained"]
_UNTRAINED_STARTS = ["backbone", "regime", "source", "runs", "of"]
REMOVED = ["backbone", "size", "share", "low", "high", "gain", "shortfall", "n"]


def recovery(
    table: pd.DataFrame,
    *,
    of: str = "vit",
    against: str = "cnn",
    metric: str = METRIC,
    where: Where = None,
    comparison: str = "",
) -> pd.DataFrame:
    """Return the share of the shortfall that each start recovers: (of after the start − of) / (against − of).

    Arguments and errors are those of `shortfall`. Returns regime, protocol, source, size, recovery, low, high, gain,
    shortfall (means, in the metric's unit), n (replicates). Numerator and denominator are means over the same
    replicates. `low, high` is Fieller's 95 % interval of their ratio, which includes the sampling of test images where
    it is known and is infinite where the shortfall can't be told from 0. 1 means that the start closes the gap.
    recovery is NaN where there is no shortfall to recover. shared: whether replicates share a pretraining, so that the
    interval is given that one. untrained: whether a pretraining ended near its chance level, so that the row says
    nothing about the regime.
    """
    rows = rep.comparable(table, scratch=False, where=where, comparison=comparison, metric=metric)
    scratch = is_from_scratch(rows)
    base, reference = (rep.select(rows[scratch], name) for name in (of, against))
    ours = rep.select(rows[~scratch & ~is_control(rows)], of)
    records = []
    for start, part in ours.groupby(list(schema.START)):
        shared, untrained = rep.shared_sizes(part), untrained_sizes(part)
        records += [
            (*start, *share, share[0] in shared, share[0] in untrained)
            for share in shares((base, part), (base, reference), metric)
        ]
    return pd.DataFrame(records, columns=RECOVERY)


def removed(
    table: pd.DataFrame,
    *,
    of: str = "vit",
    against: str = "cnn",
    metric: str = METRIC,
    where: Where = None,
    comparison: str = "",
) -> pd.DataFrame:
    """Return the share of the shortfall that each own backbone removes: (own − of) / (against − of), from scratch.

    Arguments and errors are those of `shortfall`. Returns a row for each backbone of the user's (see `replicates.own`)
    and size: backbone, size, share, low, high, gain, shortfall, n, as in `recovery`.
    """
    rows = rep.comparable(table, where=where, comparison=comparison, metric=metric)
    base, reference = rep.select(rows, of), rep.select(rows, against)
    records = []
    for name in sorted(rep.own(rows) - {*base["backbone"], *reference["backbone"]}):
        after = rows[rows["backbone"] == name]
        records += [(name, *share) for share in shares((base, after), (base, reference), metric)]
    return pd.DataFrame(records, columns=REMOVED)


def shares(gain: Sides, gap: Sides, metric: str = METRIC) -> list[tuple[Any, ...]]:
    """Return (size, share, low, high, gain, gap, n) for the sizes and replicates that all sides have.

    gain, gap: (of, against), comparable rows. share is mean(gain) / mean(gap), each against − of. Its interval includes
    the sampling of test images where it is known.
    """
    sides = (*gain, *gap)
    frames = [rep.wide(side, metric) for side in sides]
    runs = [images.by_size(side) for side in sides]
    records: list[tuple[Any, ...]] = []
    for size in sorted(set.intersection(*(set(frame.columns) for frame in frames))):
        part = pd.concat({place: frame[size] for place, frame in enumerate(frames)}, axis=1).dropna()
        if not len(part):
            continue
        unit = rep.units(part)
        top, bottom = ((unit[k + 1] - unit[k]).to_numpy(dtype=float) for k in (0, 2))
        pairs = {name: part.index.get_level_values(name).to_numpy() for name in schema.REPLICATE}
        ratio = intervals.ratio(top, bottom, shared=_shared([side[int(size)] for side in runs], pairs, metric))
        share = (ratio.value, ratio.low, ratio.high) if bottom.mean() > 0 else (math.nan, math.nan, math.nan)
        records.append((int(size), *share, float(top.mean()), float(bottom.mean()), len(part)))
    return records


def _shared(runs: list[dict[str, Any]], pairs: images.Columns, metric: str) -> intervals.Vector | None:
    """Return the covariance of gain and gap from the sampling of test images, None where it is unknown.

    runs: the two sides of the gain, then the two of the gap.
    """
    used = [images.used(side, pairs) for side in runs]
    right = [images.difference(used[k], used[k + 1], pairs, metric)[0] for k in range(0, len(used), 2)]
    known = [one for one in right if one is not None]
    return intervals.image_covariance(*known) if len(known) == 2 and known[0].shape == known[1].shape else None


def untrained_sizes(rows: pd.DataFrame) -> set[int]:
    """Return the sizes at which a run starts from a pretraining near its chance level (see `with_pretraining`)."""
    return set() if UNTRAINED not in rows else {int(size) for size in rows.loc[rows[UNTRAINED].astype(bool), "size"]}


def untrained_starts(view: pd.DataFrame, *, comparison: str = "") -> pd.DataFrame:
    """Return the starts whose pretraining ended near its chance level, at the reference condition.

    view: a results table, or one of its views after `with_pretraining`. comparison: as in `select_condition`. Returns
    backbone, regime, source, runs (how many start from such a pretraining), of (how many start alike).
    """
    rows = rep.comparable(view, scratch=False, comparison=comparison)
    begun = rows[~is_from_scratch(rows)]
    if UNTRAINED not in begun or not len(begun):
        return pd.DataFrame({name: [] for name in _UNTRAINED_STARTS})
    cells = begun.groupby(["backbone", "regime", "source"])[UNTRAINED].agg(["sum", "size"]).reset_index()
    named: pd.DataFrame = cells[cells["sum"] > 0].rename(columns={"sum": "runs", "size": "of"})
    return named[_UNTRAINED_STARTS].reset_index(drop=True)

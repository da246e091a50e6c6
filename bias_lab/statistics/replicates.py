"""Turn a table of runs into paired replicates: which rows may be compared, and which values are independent.

A replicate is one (draw, seed). Seeds that share a draw share their labelled images, so they are not independent. Where
a draw has several seeds, they are averaged first and the interval is over draws. Where there is one draw, the interval
is over its seeds and holds for that draw alone. With one seed a draw, both are the paired Student's t over replicates.
"""

import difflib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bias_lab import catalogue, schema
from bias_lab.errors import UserError, unknown
from bias_lab.statistics.conditions import METRIC, Where, is_from_scratch, select_condition
from bias_lab.statistics.intervals import Vector

KEY = ["size", *schema.REPLICATE]
_NEEDED = ("task", "status", *schema.CELL, "architecture", "family", *schema.REPLICATE)


def check(table: pd.DataFrame, metric: str = METRIC) -> None:
    """Raise UserError for a column that is missing (with the nearest one), an unknown metric, or a bad fraction."""
    known = schema.named("metric", kind="real")
    if metric not in known:
        raise unknown("metric", metric, known)
    for column in (*_NEEDED, metric):
        if column not in table.columns:
            near = difflib.get_close_matches(column, map(str, table.columns), n=1, cutoff=0.5)
            hint = f"rename '{near[0]}'?" if near else "columns are those that `bias_lab.open_results` gives"
            raise UserError(f"the table has no column '{column}'", hint)
    for column in schema.FRACTIONS:
        if column not in table.columns:
            continue
        if not pd.api.types.is_numeric_dtype(table[column]):
            raise UserError(f"column '{column}' holds no numbers", "accuracies are fractions in [0, 1]")
        values = table[column].to_numpy(dtype=float, na_value=np.nan)
        wrong = np.flatnonzero((values < 0) | (values > 1))
        if len(wrong):
            percent = "divide by 100: 0.87, not 87" if values[wrong[0]] > 1 else ""
            raise UserError(
                f"{column} holds {values[wrong[0]]:g} in {len(wrong)} of {len(table)} rows",
                "accuracies are fractions in [0, 1]",
                percent,
            )


def comparable(
    table: pd.DataFrame, *, scratch: bool = True, where: Where = None, metric: str = METRIC, comparison: str = ""
) -> pd.DataFrame:
    """Return the rows that a shortfall may use: those of one condition that have the metric.

    table: a results table. scratch: whether to keep only runs from scratch, else every regime and protocol is kept.
    where: column → value, a condition as in `select_condition`. comparison: as there.
    Returns the table's columns, as `light` gives them.
    Raises UserError where more than one dataset or image size is left, naming the filter, and where two runs stand for
    one replicate of a cell.
    """
    check(table, metric)
    rows = select_condition(table, where, comparison=comparison)
    rows = rows[rows[metric].notna()]
    rows = light(rows[is_from_scratch(rows)] if scratch else rows)
    check_one_dataset(rows)
    rows = rows.assign(source=rows["source"].fillna(""))
    _check_one_run_each(rows)
    return rows


def check_one_dataset(rows: pd.DataFrame) -> None:
    """Raise UserError, naming the filter, where rows are of more than one dataset or image size."""
    for column in schema.CELL[:2]:
        values = sorted(map(str, rows[column].unique()))
        if len(values) > 1:
            example = values[0] if schema.COLUMNS[column].kind == "whole" else f"'{values[0]}'"
            raise UserError(
                f"the table holds {len(values)} values of {column}: {', '.join(values[:6])}",
                "a statistic compares runs that share it",
                f"filter first: table[table['{column}'] == {example}]",
            )


def light(table: pd.DataFrame) -> pd.DataFrame:
    """Return the same table with numpy's own types and without attrs, which makes it cheaper to cut up many times."""
    converted = {}
    for name in table.columns:
        kind = table[name].dtype
        if isinstance(kind, pd.StringDtype):
            converted[name] = table[name].astype(object)
        elif isinstance(kind, pd.Int64Dtype):
            converted[name] = table[name].astype("float64" if table[name].isna().any() else "int64")
        elif isinstance(kind, pd.BooleanDtype):
            converted[name] = table[name].fillna(False).astype(bool)
    result = table.assign(**converted)
    result.attrs = {}
    return result


def _check_one_run_each(rows: pd.DataFrame) -> None:
    key = [*schema.CELL, *schema.REPLICATE]
    twice = rows.duplicated(key, keep=False)
    if not twice.any():
        return
    pair = rows[twice].sort_values(key, kind="stable").iloc[:2]
    differ = [c for c in schema.COLUMNS if c in pair and pair[c].astype(str).nunique() > 1]
    kinds = {role: [c for c in differ if c != "run_id" and schema.COLUMNS[c].role == role] for role in _ROLES}
    named = next((names for names in kinds.values() if names), [])
    one = pair.iloc[0]
    raise UserError(
        f"two runs of {one['backbone']} at N={one['size']}, draw {one['draw']}, seed {one['seed']}",
        f"they differ in {', '.join(named[:3]) or 'nothing that the table shows'}",
        "filter the table to one of them",
    )


_ROLES = ("axis", "recipe", "identity", "fact")  # where to look for what tells two runs apart


def own(rows: pd.DataFrame) -> set[str]:
    """Return the user's own backbones: `module:factory`, family `other`, and names that joined the catalogue's.

    Controls of the lab (`catalogue.Architecture.control`) are none, though their family is `other`. A name that the
    catalogue does not list (timm's) is a guest beside listed ones. Where no name is listed, as in a study of published
    models, none is a guest.
    """
    names = {name for name in rows["backbone"].unique() if not catalogue.traits(name).control}
    guests = {name for name in names if catalogue.is_own(name)}
    guests |= names & set(rows.loc[rows["family"] == "other", "backbone"])
    listed = names & set(catalogue.BACKBONES)
    return guests | (names - listed if listed else set())


def select(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the rows of a backbone, an architecture or a family, in that order of precedence.

    A user's own backbones belong to no architecture or family: they are compared by name, and so is a variant of a
    backbone beside others of its architecture. Controls belong to no family.
    A known name without rows gives an empty table. Raises UserError for a name that neither the table nor the catalogue
    has.
    """
    if (rows["backbone"] == name).any():
        return rows[rows["backbone"] == name]
    for column in ("architecture", "family"):
        hit = rows[column] == name
        if hit.any():
            return _members(rows[hit], column, name)
    known = {*rows["backbone"], *rows["architecture"], *rows["family"], *catalogue.BACKBONES}
    known |= {*catalogue.FAMILIES, *catalogue.FAMILIES.values(), "other"}
    if name not in known:
        raise unknown("backbone, architecture or family", name, known)
    return rows.iloc[:0]


def _members(rows: pd.DataFrame, column: str, name: str) -> pd.DataFrame:
    """Return the rows of an architecture or a family without those that only share its name.

    Those are guests, controls, and variants of a backbone (`catalogue.Backbone.variant`) beside other members.
    """
    left_out = set() if name == "other" else own(rows)
    variants = {one for one in set(rows["backbone"]) & set(catalogue.BACKBONES) if catalogue.BACKBONES[one].variant}
    left_out |= variants if set(rows["backbone"]) - variants else set()
    if column == "family":
        left_out |= {backbone for backbone in rows["backbone"].unique() if catalogue.traits(backbone).control}
    return rows[~rows["backbone"].isin(left_out)]


def averaged(rows: pd.DataFrame, metric: str = METRIC) -> pd.DataFrame:
    """Return the mean of a metric over a group's backbones within each replicate: size, draw, seed and the metric.

    At each size the group is the backbones that have rows there. A replicate that lacks one of them is left out.
    """
    wanted = rows.groupby("size")["backbone"].nunique()
    cells = rows.groupby(KEY, as_index=False).agg(**{metric: (metric, "mean"), "members": ("backbone", "nunique")})
    whole = cells["members"].to_numpy() == cells["size"].map(wanted).to_numpy()
    kept: pd.DataFrame = cells.loc[whole, [*KEY, metric]]
    return kept


def wide(rows: pd.DataFrame, metric: str = METRIC) -> pd.DataFrame:
    """Return the mean of a metric over a group: index (draw, seed), a column a size, NaN in incomplete replicates."""
    means = averaged(rows, metric)
    return means.pivot(index=list(schema.REPLICATE), columns="size", values=metric).astype(float)


def pairs(of: pd.DataFrame, against: pd.DataFrame, metric: str = METRIC) -> pd.DataFrame:
    """Return size, draw, seed and difference = against − of, for replicates that are complete on both sides."""
    joined = averaged(against, metric).merge(averaged(of, metric), on=KEY, suffixes=("_against", "_of"))
    return joined[KEY].assign(difference=(joined[f"{metric}_against"] - joined[f"{metric}_of"]).to_numpy())


def unit_of(replicates: Mapping[str, Any] | pd.DataFrame) -> str:
    """Return what is independent among these replicates: `draw`, or `seed` where there is only one draw."""
    return "draw" if len(set(replicates["draw"])) > 1 else "seed"


def shared_sizes(rows: pd.DataFrame) -> set[int]:
    """Return the sizes at which one pretraining serves several independent replicates of a backbone.

    Replicates that share a pretraining vary less than pretrainings do, so intervals hold for that one alone. Where
    the pretraining is not named, as in older tables, all replicates of a start shared one.
    """
    rows = _with_unnamed(rows)
    if "pretraining" not in rows or not (begun := rows["pretraining"].ne("")).any():
        return set()
    shared = set()
    for (size, _), part in rows[begun].groupby(["size", "backbone"]):
        if (part.groupby("pretraining")[unit_of(part)].nunique() > 1).any():
            shared.add(int(str(size)))
    return shared


def lone_sizes(rows: pd.DataFrame) -> list[int]:
    """Return the sizes at which several seeds share one draw, where other sizes have several draws."""
    counts = rows.groupby("size")[list(schema.REPLICATE)].nunique()
    lone = counts[(counts["draw"] == 1) & (counts["seed"] > 1)]
    return [int(size) for size in lone.index] if (counts["draw"] > 1).any() else []


def _with_unnamed(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows in which a start after a pretraining that is not named has one name for all."""
    if "regime" not in rows:
        return rows
    named = rows["pretraining"].fillna("") if "pretraining" in rows else pd.Series("", index=rows.index)
    begins = rows["regime"].map(lambda regime: regime in catalogue.REGIMES and bool(catalogue.REGIMES[regime].module))
    return rows.assign(pretraining=named.where(named.ne("") | ~begins.astype(bool), rows["regime"]))


def common_images(rows: pd.DataFrame, pool: int | None) -> pd.DataFrame:
    """Return the share of training images that two draws are expected to have in common, at each size with several.

    rows: comparable rows. pool: training images of the dataset, None if unknown. Returns size, draws (how many), share:
    0 for draws that are disjoint blocks, else size / pool, NaN if the pool is unknown. Within a class of m images, of
    which each draw takes n at random, an image of one draw is in the other with probability n / m, and classes are
    taken in proportion to the pool. At 1 all draws have the whole pool.
    """
    records = []
    for size, part in rows.groupby("size"):
        count = part["draw"].nunique()
        if count > 1:
            is_apart = "blocks" in part and bool((part["blocks"].fillna(0) > 0).all())
            share = math.nan if pool is None else min(1.0, int(str(size)) / pool)
            records.append((int(str(size)), count, 0.0 if is_apart else share))
    return pd.DataFrame(records, columns=["size", "draws", "share"])


def independent(paired: pd.DataFrame, column: str = "difference") -> dict[Any, Vector]:
    """Return size → the independent values of a column of replicates, (units,): seeds of one draw are averaged."""
    arrays = {name: paired[name].to_numpy() for name in (*schema.REPLICATE, column)}
    means = {}
    for size, places in paired.groupby("size").indices.items():
        here = {name: array[places] for name, array in arrays.items()}
        codes = np.unique(here[unit_of(here)], return_inverse=True)[1]
        means[size] = np.bincount(codes, weights=here[column]) / np.bincount(codes)
    return means


def units(frame: pd.DataFrame) -> pd.DataFrame:
    """Return independent values from replicates (index draw, seed): rows with NaN go, seeds of a draw are averaged."""
    whole = frame.dropna()
    level = "draw" if not len(whole) or whole.index.get_level_values("draw").nunique() > 1 else "seed"
    return whole.groupby(level=level).mean()

"""From a table of runs to paired replicates: which rows may be compared, and what counts as one independent value.

A replicate is one (draw, seed). Seeds that share a draw share their labelled images, so they are not independent:
where a draw has several seeds, they are averaged first and the interval is over draws; where there is one draw, it is
over its seeds, and speaks of that draw alone. With one seed a draw both are the paired Student's t over replicates.
"""

import difflib
import logging
from collections.abc import Iterable
from functools import cache

import numpy as np
import pandas as pd

from bias_lab import catalogue
from bias_lab.errors import UserError, unknown

NEEDED = (
    "task status dataset image_size recipe intervention budget regime protocol backbone architecture family "
    "size draw seed top1"
).split()
_FRACTIONS = ("top1", "top5", "train_top1", "macro_f1")
KEY = ["size", "draw", "seed"]


def check(table: pd.DataFrame, columns: Iterable[str] = NEEDED) -> None:
    """Raises UserError for a column that is not there (with the nearest one), or an accuracy that is no fraction."""
    for column in columns:
        if column not in table.columns:
            near = difflib.get_close_matches(column, map(str, table.columns), n=1, cutoff=0.5)
            hint = f"rename '{near[0]}'?" if near else "columns are those of DESIGN 3.1, as `collect` gives them"
            raise UserError(f"the table has no column '{column}'", hint)
    for column in _FRACTIONS:
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


def comparable(table: pd.DataFrame, *, scratch: bool = True, intervention: str = "") -> pd.DataFrame:
    """The rows that a shortfall may use: finished, `finetune`, budget 1, no intervention (or this one), from scratch.

    scratch=False keeps every regime and protocol. Raises UserError where more than one dataset, image size or recipe is
    left, naming the filter; or where two runs stand for one replicate of a backbone.
    """
    check(table)
    arm = table["intervention"].fillna("") == intervention
    kept = (table["status"] == "finished") & (table["task"] == "classify") & (table["budget"] == 1) & arm
    kept &= table["top1"].notna()
    if scratch:
        kept &= (table["regime"] == "scratch") & (table["protocol"] == "finetune")
    rows = light(table)[kept.fillna(False).astype(bool).to_numpy()]
    for column in ("dataset", "image_size", "recipe"):
        values = sorted(map(str, rows[column].unique()))
        if len(values) > 1:
            example = values[0] if column == "image_size" else f"'{values[0]}'"
            raise UserError(
                f"the table holds {len(values)} values of {column}: {', '.join(values[:6])}",
                "a shortfall compares runs that share it",
                f"filter first: table[table['{column}'] == {example}]",
            )
    rows = rows.assign(source=rows["source"].fillna("") if "source" in rows else "")
    _one_run_each(rows, ["backbone", "regime", "protocol", "source", *KEY])
    return rows


def light(table: pd.DataFrame) -> pd.DataFrame:
    """The same table, cheaper to cut up many times: numpy's own types, no attrs (pandas copies them at every step)."""
    made = table.copy(deep=False)
    made.attrs = {}
    for name in made.columns:
        kind = made[name].dtype
        if isinstance(kind, pd.StringDtype):
            made[name] = made[name].astype(object)
        elif isinstance(kind, pd.Int64Dtype):
            made[name] = made[name].astype("float64" if made[name].isna().any() else "int64")
        elif isinstance(kind, pd.BooleanDtype):
            made[name] = made[name].fillna(False).astype(bool)
    return made


def _one_run_each(rows: pd.DataFrame, key: list[str]) -> None:
    twice = rows.duplicated(key, keep=False)
    if not twice.any():
        return
    pair = rows[twice].sort_values(key, kind="stable").iloc[:2]
    simple = [c for c in pair.columns if c not in {"run_id", "correct", "top1"}]
    differ = [c for c in simple if str(pair[c].iloc[0]) != str(pair[c].iloc[1])]
    told = [
        c for c in differ if c in {"learning_rate", "samples_seen", "experiment", "parameters", "dataset_fingerprint"}
    ]
    one = pair.iloc[0]
    raise UserError(
        f"two runs of {one['backbone']} at N={one['size']}, draw {one['draw']}, seed {one['seed']}",
        f"they differ in {', '.join(told or differ[:3]) or 'nothing that the table shows'}",
        "filter the table to one of them",
    )


def own(rows: pd.DataFrame) -> set[str]:
    """The user's own backbones among these: `module:factory`, family `other`, and names that joined the catalogue's.

    A name that the catalogue has no row for (timm's) stands beside the lab's as a guest; where no name has a row, as in
    a study of published models, none is a guest.
    """
    names = set(rows["backbone"].unique())
    guests = {name for name in names if catalogue.is_own(name)}
    guests |= set(rows.loc[rows["family"] == "other", "backbone"].unique())
    listed = names & set(catalogue.BACKBONES)
    return guests | (names - listed if listed else set())


def select(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows of a backbone, an architecture or a family, in that order of precedence.

    A user's own backbones belong to no architecture or family: they are compared by name. Raises UserError for a name
    that neither the table nor the catalogue knows; a known one without rows gives an empty table.
    """
    if (rows["backbone"] == name).any():
        return rows[rows["backbone"] == name]
    for column in ("architecture", "family"):
        hit = rows[column] == name
        if hit.any():
            return rows[hit & ~rows["backbone"].isin(own(rows[hit]))] if name != "other" else rows[hit]
    known = {*rows["backbone"], *rows["architecture"], *rows["family"], *catalogue.BACKBONES}
    known |= {*catalogue.FAMILIES, *catalogue.FAMILIES.values(), "other"}
    if name not in known:
        raise unknown("backbone, architecture or family", name, known)
    return rows.iloc[:0]


def averaged(rows: pd.DataFrame) -> pd.DataFrame:
    """size, draw, seed, top1: the mean over a group's backbones within each replicate.

    At each size the group is the backbones that have rows there; a replicate that lacks one of them is left out.
    """
    wanted = rows.groupby("size")["backbone"].nunique()
    cells = rows.groupby(KEY, as_index=False).agg(top1=("top1", "mean"), members=("backbone", "nunique"))
    whole = cells["members"].to_numpy() == cells["size"].map(wanted).to_numpy()
    kept: pd.DataFrame = cells.loc[whole, [*KEY, "top1"]]
    return kept


def wide(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy of a group: index (draw, seed), a column a size, NaN where a replicate is not whole."""
    return averaged(rows).pivot(index=["draw", "seed"], columns="size", values="top1").astype(float)


def pairs(of: pd.DataFrame, against: pd.DataFrame) -> pd.DataFrame:
    """size, draw, seed, difference: against − of, for replicates that both have whole."""
    joined = averaged(against).merge(averaged(of), on=KEY, suffixes=("_against", "_of"))
    return joined[KEY].assign(difference=joined["top1_against"].to_numpy() - joined["top1_of"].to_numpy())


def unit_of(index: pd.DataFrame) -> str:
    """What is independent among these replicates: `draw`, or `seed` where there is but one draw."""
    return "draw" if index["draw"].nunique() > 1 else "seed"


def units(frame: pd.DataFrame) -> pd.DataFrame:
    """Replicates (index draw, seed) → independent values: rows with NaN left out, seeds of one draw averaged."""
    whole = frame.dropna()
    level = "draw" if not len(whole) or whole.index.get_level_values("draw").nunique() > 1 else "seed"
    return whole.groupby(level=level).mean()


@cache
def say_once(message: str) -> None:
    """A remark on the data that is worth one line a process, not one a call."""
    logging.getLogger("bias_lab.statistics").warning(message)

"""Tell the two comparisons of a table apart: at equal images, and settled. Choose the recipe of a settled cell.

The column `comparison` holds the words of the comparisons that a run serves, joined by `+`. It is empty for runs
without a training budget of their own (controls such as a linear classifier on pixels), which belong to both.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bias_lab import schema
from bias_lab.definition import RECIPES
from bias_lab.errors import unknown

COLUMN = "comparison"
EQUAL, SETTLED = "equal", "settled"
COMPARISONS = (EQUAL, SETTLED)
RECIPE, OPTIMIZER = "recipe", "optimizer"
_FIELDS = dict.fromkeys(field for fields in RECIPES.values() for field in fields)
TUNED = (RECIPE, "samples_seen", "learning_rate", *(n for n in _FIELDS if n not in (RECIPE, OPTIMIZER)))  # by tuning


def serves(rows: pd.DataFrame, comparison: str) -> NDArray[np.bool_]:
    """Return which rows serve a comparison by name, (rows,). Those that belong to both are not among them."""
    if COLUMN not in rows:
        return np.zeros(len(rows), dtype=bool)
    codes, words = pd.factorize(rows[COLUMN].astype("object").fillna(""))  # few words, many rows
    found = np.array([comparison in str(word).split("+") for word in words], dtype=bool)
    of_row: NDArray[np.bool_] = found[codes]
    return of_row


def compared(rows: pd.DataFrame, comparison: str = "") -> tuple[pd.DataFrame, str]:
    """Return the rows that a comparison may use, and its name.

    rows: of a results table. comparison: `equal`, `settled`, or '' for `equal` where any row serves it, else for
    `settled`, else for all rows (its name is then ''). Rows whose column `comparison` is empty belong to both.
    Raises UserError for another word.

    >>> rows = pd.DataFrame({"comparison": ["equal", "settled", "equal+settled", ""]})
    >>> compared(rows)[0].index.tolist(), compared(rows, "settled")[0].index.tolist()
    ([0, 2, 3], [1, 2, 3])
    """
    if comparison not in ("", *COMPARISONS):
        raise unknown("comparison", comparison, COMPARISONS)
    name = comparison or next((one for one in COMPARISONS if serves(rows, one).any()), "")
    if not name:
        return rows, ""
    others = [one for one in COMPARISONS if one != name]
    left_out = np.logical_or.reduce([serves(rows, one) for one in others]) & ~serves(rows, name)
    return rows[~left_out], name


def of_optimizers(rows: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the rows by which optimizers may be compared, and the recipes that they are confined to, if they are.

    Settled cells stay where every optimizer has their recipe, so that no two optimizers are compared under two recipes.
    Where they have no recipe in common, all rows stay. Other rows stay as well.
    """
    among = serves(rows, SETTLED)
    if not among.any() or not {RECIPE, OPTIMIZER} <= set(rows.columns):
        return rows, ()
    sets = [set(part[RECIPE]) for _, part in rows[among].groupby(OPTIMIZER)]
    common = set.intersection(*sets)
    if not common or common == set.union(*sets):
        return rows, ()
    return rows[~among | rows[RECIPE].isin(list(common)).to_numpy(dtype=bool)], tuple(sorted(map(str, common)))


def reference_optimizer(rows: pd.DataFrame, is_headline: NDArray[np.bool_], default: str) -> str:
    """Return the optimizer under which the fewest cells of a headline are unsettled.

    rows: of trained backbones, with their optimizers. is_headline: which of them are of a plain ViT or a CNN as it is.
    Cells are settled ones, each with the recipe that it prefers, that all optimizers have. Of several such optimizers
    it is the one that most cells have, then the one with the best hold-out accuracy of those cells, then the default.
    Without settled cells it is the one that most cells have.
    """
    if rows[OPTIMIZER].nunique() == 1:
        return str(rows[OPTIMIZER].iloc[0])
    headline = preferred(rows[serves(rows, SETTLED) & is_headline])
    cells = headline if len(headline) else rows
    names = [name for name in schema.CELL if name in cells]
    is_open = ~cells["settled"].fillna(False).astype(bool) if "settled" in cells else True
    table = cells[[*names, OPTIMIZER]].assign(open=is_open)
    table["top1"] = cells["holdout_top1"].astype(float) if "holdout_top1" in cells else np.nan
    by_cell = table.groupby([*names, OPTIMIZER], as_index=False, dropna=False)
    each = by_cell.agg(open=("open", "any"), top1=("top1", "mean"))
    is_common = each.groupby(names, dropna=False)[OPTIMIZER].transform("size") == each[OPTIMIZER].nunique()
    shared = each.assign(open=each["open"] & is_common, top1=each["top1"].where(is_common)).groupby(OPTIMIZER)
    found = pd.DataFrame({"open": shared["open"].sum(), "cells": shared.size(), "top1": shared["top1"].mean()})
    found["is_default"] = found.index == default
    order = ["open", "cells", "top1", "is_default"]
    return str(found.sort_values(order, ascending=[True, False, False, False], kind="stable").index[0])


def preferred(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows without those of settled cells whose recipe the hold-out preferred less.

    A cell is what all columns tell apart that tuning does not choose. Of its recipes the one with the highest mean
    `holdout_top1` is kept, of equal ones the first. A recipe without that number is kept where no other has one.
    """
    if RECIPE not in rows or "holdout_top1" not in rows or not (among := serves(rows, SETTLED)).any():
        return rows
    places = np.flatnonzero(among)
    part = rows.iloc[places]
    axes = [name for name in schema.AXES if name in part and name not in TUNED]
    before = [str(name) for name in part.columns if str(name).startswith("pretraining_")]
    names = [name for name in (*schema.CELL, *axes, *before) if name in part]
    text = part[names].astype("object").astype(str)
    cell = pd.factorize(pd.MultiIndex.from_frame(text))[0] if names else np.zeros(len(part), dtype=int)
    found = part["holdout_top1"].to_numpy(dtype=float, na_value=np.nan)
    scores = pd.DataFrame({"cell": cell, "recipe": part[RECIPE].to_numpy(), "top1": found})
    means = scores.groupby(["cell", "recipe"], sort=False)["top1"].mean().fillna(-np.inf).reset_index()
    best = means.loc[means.groupby("cell")["top1"].idxmax()].set_index("cell")["recipe"]
    kept = np.ones(len(rows), dtype=bool)
    kept[places] = scores["recipe"].to_numpy() == scores["cell"].map(best).to_numpy()
    return rows[kept]


def with_recipe(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows whose column of the recipe is empty for those without a training budget, or gone if all have one."""
    if not {RECIPE, COLUMN} <= set(rows.columns):
        return rows.drop(columns=RECIPE, errors="ignore")
    trained = rows[COLUMN].fillna("") != ""
    if rows.loc[trained, RECIPE].nunique() < 2:
        return rows.drop(columns=RECIPE)
    return rows.assign(**{RECIPE: rows[RECIPE].where(trained, "")})

"""Find out what tells the runs of a study apart, and select the runs of one condition.

Every table tells apart dataset, image size, backbone, start and size (`schema.CELL`). Any other field of a run, or of
the pretraining that it starts from, is an *axis* of the study where it varies within a cell. A *condition* is one
value of each axis; the *reference* condition has the value of each axis that a run has by default.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from bias_lab import schema
from bias_lab.catalogue import TASKS

BEFORE = "pretraining_"  # begins the name of a column that holds a field of the pretraining
TESTED = tuple(name for name, task in TASKS.items() if task.judged_on == "test")
_OF_A_PRETRAINING = tuple(n for n, c in schema.COLUMNS.items() if c.role in ("axis", "recipe") and n not in schema.CELL)


def finished(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of finished runs that were evaluated on the test images."""
    done = (table["status"] == "finished") & table["task"].isin(TESTED)
    return table[done.fillna(False).astype(bool).to_numpy()]


def is_from_scratch(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Return which rows were trained from random weights, all of the backbone: the default start."""
    return (rows["regime"] == schema.DEFAULTS["regime"]) & (rows["protocol"] == schema.DEFAULTS["protocol"])


def with_pretraining(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with a column `pretraining_FIELD` for each field in which its pretrainings differ.

    A pretraining without a row of its own is told by its run_id, in the column `pretraining_run_id`.
    """
    if "pretraining" not in table or not (table["pretraining"].fillna("") != "").any():
        return table
    named = table["pretraining"].fillna("")
    rows = table[table["run_id"].isin(set(named) - {""})].drop_duplicates("run_id").set_index("run_id")
    columns: dict[str, Any] = {}
    for name in _OF_A_PRETRAINING:
        if name in rows and rows[name].astype(str).nunique() > 1:
            columns[BEFORE + name] = named.map(rows[name])
    unknown = named.where(~named.isin(set(rows.index)), "")
    if (unknown != "").any():
        columns[BEFORE + "run_id"] = unknown
    return table.assign(**columns) if columns else table


def axes(table: pd.DataFrame) -> list[str]:
    """Return the columns in which finished runs of one cell differ, the usual ones (`schema.AXES`) first.

    table: a results table. A column that differs only together with an earlier axis is none: a recipe's name stands for
    its fields. Values that are missing, as in tables of earlier versions, count as one value.
    """
    rows = finished(with_pretraining(table))
    cell = [name for name in schema.CELL if name in rows]
    names = [name for name in schema.AXES if name in rows]
    names += [str(name) for name in rows.columns if str(name).startswith(BEFORE)]
    keys = {name: _codes(rows[name]) for name in [*cell, *names]}
    varying = [name for name in names if keys[name].nunique() > 1]
    axes_found: list[str] = []
    for name in varying:
        groups = pd.DataFrame({key: keys[key] for key in [*cell, *axes_found]})
        if (keys[name].groupby([groups[key] for key in groups]).nunique() > 1).any():
            axes_found.append(name)
    return axes_found


def _codes(values: "pd.Series[Any]") -> "pd.Series[int]":
    return pd.Series(pd.factorize(values.astype("object").where(values.notna(), ""))[0], index=values.index)


def values(table: pd.DataFrame, axis: str) -> list[Any]:
    """Return the values of an axis among finished runs: the reference first, then in the order of the table."""
    rows = finished(with_pretraining(table))
    if axis not in rows:
        return []
    given = rows[axis].astype("object").where(rows[axis].notna(), "")
    first = reference(table, axis)
    return [first, *(value for value in given.unique() if value != first)]


def reference(table: pd.DataFrame, axis: str) -> Any:
    """Return an axis's value by default where finished runs have it, else the most frequent one."""
    rows = finished(with_pretraining(table))
    default = schema.DEFAULTS.get(axis.removeprefix(BEFORE))
    default = "" if default is None else default
    if axis not in rows:
        return default
    given = rows[axis].astype("object").where(rows[axis].notna(), "")
    if (given == default).any() or not len(given):
        return default
    return given.value_counts().index[0]


def select_condition(table: pd.DataFrame, where: Mapping[str, Any] | None = None) -> pd.DataFrame:
    """Return the finished, tested rows of one condition: the reference value of every axis, but those in `where`.

    table: a results table. where: axis → value; an axis that is named keeps that value alone.
    """
    rows = finished(with_pretraining(table))
    wanted = {axis: reference(table, axis) for axis in axes(table)} | dict(where or {})
    for axis, value in wanted.items():
        if axis in rows:
            given = rows[axis].astype("object").where(rows[axis].notna(), "")
            rows = rows[(given == ("" if value is None else value)).to_numpy()]
    return rows

"""Find out what tells the runs of a study apart, and select the runs of one condition.

Every table tells apart dataset, image size, backbone, start and size (`schema.CELL`). Any other field of a run, or of
the pretraining that it starts from, is an *axis* of the study where it varies. A *condition* is one value of each axis.
The *reference* condition has the value that a run has by default.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bias_lab import schema
from bias_lab.catalogue import PROTOCOLS, REGIMES, TASKS, traits
from bias_lab.errors import UserError, unknown
from bias_lab.statistics.comparisons import OPTIMIZER, RECIPE, SETTLED, TUNED, compared, preferred, reference_optimizer

BEFORE = "pretraining_"  # begins the name of a column that holds a field of the pretraining
UNTRAINED = "untrained_start"  # a column that marks runs from a pretraining near its chance level
SEEN = "samples_seen"
TESTED = tuple(name for name, task in TASKS.items() if task.evaluated_on == "test")
PRETRAINS = tuple(name for name, task in TASKS.items() if not task.evaluated_on)
_OF_A_PRETRAINING = tuple(n for n, c in schema.COLUMNS.items() if c.role in ("axis", "recipe") and n not in schema.CELL)
# All cells of a study agree in these unless the study is about them (see `axes`).
_COMMON = tuple(
    name
    for name in schema.AXES
    if schema.COLUMNS[name].role == "axis"
    and (name in ("intervention", "manifest") or schema.DEFAULTS.get(name) not in (None, ""))
)
# A row without such a field is what an option of a backbone is compared with, so no row with one ever stands for it.
_OPTIONS = ("priors", "head")
# A row with another value of it is never part of a condition, because the usual one is a choice like the others.
_STRICT = ("head",)
METRIC = "top1"  # by default (the column `correct` holds which test images it counts as right)
Codes = NDArray[np.intp]
Where = Mapping[str, Any] | None  # column → value: the condition that a statistic is about


def finished(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of finished runs that were evaluated on the test images."""
    return table[((table["status"] == "finished") & table["task"].isin(TESTED)).to_numpy(dtype=bool, na_value=False)]


def is_from_scratch(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Return which rows were trained from random weights, all of the backbone: the default start."""
    default: pd.Series[bool] = rows["regime"].eq(schema.DEFAULTS["regime"])
    default &= rows["protocol"].eq(schema.DEFAULTS["protocol"])
    return default


def is_control(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Return which rows are controls: a control of the catalogue, or an untrained backbone whose features are read out.

    They say what the other numbers are worth. They are no starts, and members of no family that is compared.
    """
    by_name = {name: traits(str(name)).control for name in rows["backbone"].unique()}
    controls: pd.Series[bool] = rows["backbone"].map(by_name).astype(bool)
    random = [name for name, regime in REGIMES.items() if not regime.starts_from]
    frozen = [name for name, protocol in PROTOCOLS.items() if not protocol.trains]
    return controls | (rows["regime"].isin(random) & rows["protocol"].isin(frozen)).astype(bool)


def with_pretraining(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with a column `pretraining_FIELD` for each field in which its pretrainings differ.

    The fields are read from the rows of the pretraining runs, so call this before those rows are filtered out. Runs
    without a pretraining in the table have no value. Columns that an earlier call added are kept. If a pretraining is
    near its chance level, a flag `untrained_start` marks the runs that start from it.
    """
    if "pretraining" not in table:
        return table
    rows = table[table["task"].isin(PRETRAINS) & table["run_id"].isin(table["pretraining"].dropna().unique())]
    rows = rows.drop_duplicates("run_id").set_index("run_id")
    columns = {}
    for name in _OF_A_PRETRAINING:
        if name in rows and len(np.unique(_codes(rows, name))) > 1:
            columns[BEFORE + name] = table["pretraining"].map(given(rows, name))
    if "untrained" in rows and (untrained := rows["untrained"].fillna(False).astype(bool)).any():
        columns[UNTRAINED] = table["pretraining"].isin(rows.index[untrained])
    return table.assign(**columns) if columns else table


def axes(table: pd.DataFrame, comparison: str = "") -> list[str]:
    """Return the columns that tell apart finished runs of one cell, the usual ones (`schema.AXES`) first.

    A column that differs only together with an earlier axis is none: a recipe's name stands for its fields. What all
    cells share by default (an intervention, label noise) is an axis wherever it varies, so that a study that is half
    done compares no two conditions. What follows from the backbone or start (a patch, a tuned learning rate) is an axis
    where it varies within a cell. A missing value counts as the default, because older tables lack newer fields.
    comparison: as in `select_condition`. Two comparisons in one table are no axis.

    >>> from bias_lab.results import typed
    >>> runs = dict(status="finished", task="classify", backbone="vit_micro", size=100, label_noise=[0.0, 0.2])
    >>> axes(typed(pd.DataFrame(runs)))
    ['label_noise']
    """
    return _study(table, comparison).axes


def values(table: pd.DataFrame, axis: str, comparison: str = "") -> list[Any]:
    """Return the values of an axis among finished runs: the reference first, then in the order of the table.

    Cells that do not vary along the axis (those from scratch along a field of the pretraining) are left out.
    """
    study = _study(table, comparison)
    if axis not in study.rows:
        return []
    first = study.reference(axis)
    return [first, *(value for value in study.varying(axis).unique() if value != first)]


def reference(table: pd.DataFrame, axis: str, comparison: str = "") -> Any:
    """Return an axis's value by default where finished runs have it, else the most frequent one.

    Of optimizers the reference is the one under which the fewest settled cells are unsettled, of several such the one
    that most cells have, then the one whose cells have the best hold-out accuracy, whatever the default is.
    """
    return _study(table, comparison).reference(axis)


def has(rows: pd.DataFrame, axis: str, value: Any) -> "pd.Series[bool]":
    """Return which rows have this value of an axis. A missing value counts as the default."""
    same: pd.Series[bool] = given(rows, axis) == (_missing(axis) if value is None else value)
    return same


def check_axis(axis: str) -> None:
    """Raise UserError, with the nearest name, for what can be no axis of any study."""
    known = (*schema.AXES, *(BEFORE + name for name in _OF_A_PRETRAINING))
    if axis not in known:
        raise unknown("axis", axis, known)


def select_condition(
    table: pd.DataFrame, where: Where = None, free: Collection[str] = (), *, comparison: str = ""
) -> pd.DataFrame:
    """Return the finished, tested rows of one condition: the reference value of every axis, but those in `where`.

    table: a results table. where: column → the only value that it keeps. free: axes that keep all their values.
    comparison: `equal` (images seen), `settled`, or '' for the first of these that the table holds (see `compared`).
    Of the recipes of a settled cell, the one with the best hold-out accuracy is kept (see `preferred`), unless `where`
    or `free` holds the recipe.
    A cell without an axis belongs to every condition along it (a CNN has no patch), and one that lacks the reference
    value of what follows from the backbone or start keeps its most frequent value.
    Raises UserError for a column in `where` that the table lacks, and for an unknown comparison.
    """
    wanted = dict(where or {})
    study = _study(table, comparison, chosen=RECIPE not in (*free, *wanted))
    kept = np.ones(len(study.rows), dtype=bool)
    for axis in [*study.axes, *(name for name in wanted if name not in study.axes)]:
        if axis not in study.rows:
            raise UserError(f"the table has no column '{axis}'", f"axes that vary: {', '.join(study.axes) or 'none'}")
        if axis not in free:
            kept &= study.matches(axis, wanted[axis]) if axis in wanted else study.is_reference(axis)
    return study.rows[kept]


class _Study(NamedTuple):
    """Finished rows, their axes, and for each axis the number of the group within which it was found to vary.

    optimizer: the reference of its axis, which is that of all comparisons of the table ('' where nothing trains).
    """

    rows: pd.DataFrame
    axes: list[str]
    groups: dict[str, Codes]
    optimizer: str

    def varying(self, axis: str) -> "pd.Series[Any]":
        """Return an axis's values in the rows of groups that vary along it, or in all rows if none does."""
        values = given(self.rows, axis)
        if axis not in self.axes:
            return values
        return values[self._varies(axis)]

    def _varies(self, axis: str) -> NDArray[np.bool_]:
        group, codes = self.groups[axis], _codes(self.rows, axis)
        first = np.zeros(group.max() + 1, dtype=np.intp)
        first[group[::-1]] = codes[::-1]  # each group's first value
        varies = np.zeros(len(first), dtype=bool)
        varies[group[codes != first[group]]] = True
        of_row: NDArray[np.bool_] = varies[group]
        return of_row

    def reference(self, axis: str) -> Any:
        if axis not in self.rows:
            return _missing(axis)
        default, values = _missing(axis), self.varying(axis)
        if axis == OPTIMIZER and self.optimizer:
            return self.optimizer
        if axis == BEFORE + SEEN and (values != 0).any():
            values = values[values != 0]  # a pretraining of zero steps is a control
        if not len(values) or (values == default).any():
            return default
        return values.value_counts().index[0]

    def matches(self, axis: str, value: Any) -> NDArray[np.bool_]:
        """Return which rows have this value, or have no value in a group that does not vary along the axis."""
        right = has(self.rows, axis, value).to_numpy(dtype=bool, copy=True)
        if axis in self.axes and axis not in (*_COMMON, *_STRICT):
            right |= (given(self.rows, axis) == "").to_numpy(dtype=bool) & ~self._varies(axis)
        return right

    def is_reference(self, axis: str) -> NDArray[np.bool_]:
        """Return which rows have the reference value, or their group's most frequent one where the group lacks it.

        The reference number of images seen is that of a size (see `_is_usual`).
        """
        right = has(self.rows, axis, self.reference(axis)).to_numpy(dtype=bool, copy=True)
        right = _is_usual(self.rows) if axis == SEEN else right
        group = self.groups[axis]
        lacking = ~np.isin(group, group[right])
        if axis in (*_COMMON, *_OPTIONS) or not lacking.any():
            return right
        pairs = pd.DataFrame({"group": group[lacking], "code": _codes(self.rows, axis)[lacking]})
        counts = pairs.value_counts(sort=False).reset_index().sort_values("count", ascending=False, kind="stable")
        mode = counts.drop_duplicates("group").set_index("group")["code"]
        right[lacking] = pairs["code"].to_numpy() == pairs["group"].map(mode).to_numpy()
        return right


def _is_usual(rows: pd.DataFrame) -> NDArray[np.bool_]:
    """Return which rows saw as many images as most backbones and starts of their size did, the fewest of several such.

    So a control that saw more (as many as a pretraining and its fine-tuning together) is never the reference. Backbones
    that are read out without training have no budget, so they do not count where others have one.
    """
    place = [name for name in (*schema.CELL[:2], "size") if name in rows]
    counted = rows[_trains(rows)]
    seen = counted[[*place, "backbone", *schema.START, SEEN]].assign(**{SEEN: counted[SEEN].astype(float)})
    seen = seen.drop_duplicates()
    cells = seen.groupby([*place, SEEN], dropna=False).size().rename("cells").reset_index()
    usual = cells.sort_values(["cells", SEEN], ascending=[False, True], kind="stable").drop_duplicates(place)
    joined = rows[place].merge(usual, on=place, how="left")
    right: NDArray[np.bool_] = joined[SEEN].to_numpy(dtype=float) == rows[SEEN].to_numpy(dtype=float, na_value=np.nan)
    return right


def _study(table: pd.DataFrame, comparison: str = "", *, chosen: bool = False) -> _Study:
    """Return the study of one comparison. chosen: whether each settled cell has the recipe that it prefers alone.

    What tuning finds (the recipe, its fields, and the images seen) differs between settled cells, so it is an axis only
    where it varies within one cell. So does the learning rate between arms of one backbone, in every comparison.
    """
    every = finished(with_pretraining(table))
    rows, found = compared(every, comparison)
    names = [name for name in schema.AXES if name in rows]
    names += [str(name) for name in rows.columns if str(name).startswith(BEFORE)]
    tuned = TUNED if found == SETTLED else ()
    # each arm has a rate of its own, so the axis is what else tells arms apart, where anything does
    last = (*tuned, "learning_rate")
    names = [*(name for name in names if name not in last), *(name for name in names if name in last)]
    rows = preferred(rows) if tuned and chosen else rows
    whole = _combined(_codes(rows, name) for name in schema.CELL[:2] if name in rows)  # one dataset, one image size
    cell = _combined([whole, *(_codes(rows, name) for name in schema.CELL[2:] if name in rows)])
    axes: list[str] = []
    groups: dict[str, Codes] = {}
    for name in names:
        codes = _codes(rows, name)
        if not len(codes) or codes.max() == 0:
            continue
        is_common = name in _COMMON and name not in tuned
        within = whole if is_common or name in _OPTIONS else cell  # where it must vary to be an axis
        if _combined([within, codes]).max() > within.max():
            axes.append(name)
            groups[name] = whole if is_common else cell
            whole, cell = _combined([whole, codes]), _combined([cell, codes])
    return _Study(rows, axes, groups, _reference_optimizer(every))


def _reference_optimizer(rows: pd.DataFrame) -> str:
    """Return the reference optimizer of a table's finished rows (`reference_optimizer`), '' where nothing trains."""
    if OPTIMIZER not in rows:
        return ""
    trains = _trains(rows)
    named = given(rows, OPTIMIZER)[trains]
    if named.nunique() < 2:  # most tables; the others need a copy
        return "".join(named.iloc[:1])
    trained = rows[trains].assign(**{OPTIMIZER: named})
    return reference_optimizer(trained, _is_of_a_headline(trained), _missing(OPTIMIZER))


def _is_of_a_headline(rows: pd.DataFrame) -> NDArray[np.bool_]:
    """Return which rows are of a plain ViT or a CNN as it is, from scratch, on images as they are, (rows,)."""
    kept = (is_from_scratch(rows) & ~is_control(rows)).to_numpy(dtype=bool, copy=True)
    groups = pd.Series(False, index=rows.index)
    for column, name in (("architecture", "vit"), ("family", "cnn")):
        groups |= rows[column].eq(name).fillna(False) if column in rows else False
    for name in ("priors", "head", "intervention", "method"):
        kept &= has(rows, name, None).to_numpy(dtype=bool) if name in rows else True
    return kept & groups.to_numpy(dtype=bool)


def _trains(rows: pd.DataFrame) -> NDArray[np.bool_]:
    """Return which rows train their backbone, (rows,): all of them where none does."""
    if "protocol" not in rows:
        return np.ones(len(rows), dtype=bool)
    without = [name for name, protocol in PROTOCOLS.items() if not protocol.trains]
    trains = ~rows["protocol"].isin(without).to_numpy(dtype=bool)
    return trains if trains.any() else np.ones(len(rows), dtype=bool)


def _missing(axis: str) -> Any:
    """Return what a missing value stands for: the default of a field of `Run`, or '' if it has none."""
    default = schema.DEFAULTS.get(axis.removeprefix(BEFORE))
    return "" if default is None else default


def _filled(rows: pd.DataFrame, axis: str) -> "pd.Series[Any]":
    return rows[axis].fillna(_missing(axis)) if _fills(axis) else rows[axis]


def _fills(axis: str) -> bool:
    """Return whether a missing value stands for one: not so for a field of the pretraining, which a run may lack."""
    column = schema.COLUMNS.get(axis)
    return column is not None and (schema.DEFAULTS.get(axis) is not None or column.kind == "text")


def given(rows: pd.DataFrame, axis: str) -> "pd.Series[Any]":
    """Return an axis's values as Python objects. A missing one is the default, or '' if there is none."""
    filled = _filled(rows, axis)
    return filled.astype("object").where(filled.notna(), "")


def _codes(rows: pd.DataFrame, axis: str) -> Codes:
    """Return a number for each value, in the order of the table. A missing value is the default where it has one."""
    codes, values = pd.factorize(rows[axis])
    missing = codes < 0
    if not missing.any():
        return codes
    same = [number for number, value in enumerate(values) if value == _missing(axis)] if _fills(axis) else []
    return pd.factorize(np.where(missing, same[0] if same else len(values), codes))[0]


def _combined(parts: Iterable[Codes]) -> Codes:
    """Return a number for each combination of numbers."""
    first, *others = parts
    for codes in others:
        first = pd.factorize(first * (codes.max(initial=0) + 1) + codes)[0]
    return first

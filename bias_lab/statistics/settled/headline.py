"""The numbers behind a headline, and why there may be none: settled shortfall, equal images, controls, chance."""

import math
from typing import NamedTuple

import pandas as pd

from bias_lab import catalogue, schema
from bias_lab.statistics import conditions
from bias_lab.statistics import replicates as rep
from bias_lab.statistics.comparisons import EQUAL, OPTIMIZER, RECIPE, SETTLED, compared, of_optimizers, serves
from bias_lab.statistics.conditions import METRIC, Where
from bias_lab.statistics.gaps import between, gaps
from bias_lab.statistics.settled.chance import chance
from bias_lab.statistics.settled.decomposition import decomposition
from bias_lab.statistics.settled.sound import Flags, broken, majority_of, unsettled, unsound

OF_A_BROKEN_CNN = ("unsettled", "collapsed", "at_chance", "at_majority")  # beside it, a control says nothing
NEAR = 0.02  # a control within this of a group is as good as the group
BLOCKING = (  # flags that forbid a headline
    "absent",
    "unsettled",
    "collapsed",
    "at_chance",
    "at_majority",
    "no_interval",
    "ceiling",
)
_NAN = math.nan


class Gap(NamedTuple):
    """A difference `against` minus `of` in the metric's unit, its intervals as in `gaps`, and pairs (NaN and 0: none).

    best_low, best_high: the interval with test images where it is known, else that over replicates alone.
    """

    value: float = _NAN
    low: float = _NAN
    high: float = _NAN
    low_any: float = _NAN
    high_any: float = _NAN
    p_holm: float = _NAN
    n: int = 0

    @property
    def best_low(self) -> float:
        return self.low if math.isnan(self.low_any) else self.low_any

    @property
    def best_high(self) -> float:
        return self.high if math.isnan(self.high_any) else self.high_any


class AtSize(NamedTuple):
    """The numbers of one size. Accuracies and differences are fractions.

    size: labelled images. against: the group that is compared, the family where every member of it is settled at
    this size and there are several, else the narrower group. members: its backbones. flags: why there is no
    headline (`BLOCKING`), each with the backbones concerned, and `control_as_good`, which forbids none. settled:
    the shortfall between settled cells. of, against_top1: mean accuracies there. equal: the shortfall at equal
    images, unknown where another optimizer trained its runs. training, training_low, training_high: the training
    part of `equal`; share: of it in `equal`, NaN where it is not determined. of_train, against_train: training
    accuracies at equal images. control: mean accuracy of the linear control, lead: `against` minus the control,
    control_near: whether the control is within `NEAR` of `against`: `shown`, `likely` (its mean is), `open` (the
    interval does not exclude it), `no`, or '' without a control. chance: see `statistics.chance`. majority: share
    of the largest class, NaN if unknown. by_recipe, by_optimizer: the settled shortfall under each.
    optimizer_recipes: the recipes that `by_optimizer` is confined to, if it is (`comparisons.of_optimizers`).
    equal_flags: why nothing is claimed at equal images (`sound.unsound`).
    """

    size: int
    against: str
    members: tuple[str, ...]
    flags: dict[str, tuple[str, ...]]
    settled: Gap
    of: float
    against_top1: float
    equal: Gap
    training: float
    training_low: float
    training_high: float
    share: float
    of_train: float
    against_train: float
    control: float
    lead: Gap
    control_near: str
    chance: float
    majority: float
    by_recipe: dict[str, Gap]
    by_optimizer: dict[str, Gap]
    optimizer_recipes: tuple[str, ...]
    equal_flags: Flags

    @property
    def is_open(self) -> bool:
        """Return whether nothing forbids a headline at this size."""
        return not any(flag in self.flags for flag in BLOCKING)


class Headline(NamedTuple):
    """The numbers of a headline. of, against: the groups asked for. sizes: a row a size, the smallest first."""

    of: str
    against: str
    sizes: tuple[AtSize, ...]

    @property
    def open_sizes(self) -> tuple[AtSize, ...]:
        """Return the sizes that a headline may speak of."""
        return tuple(one for one in self.sizes if one.is_open)


def headline(
    table: pd.DataFrame,
    *,
    of: str = "vit",
    against: str = "resnet",
    family: str = "cnn",
    metric: str = METRIC,
    train: str = "",
    where: Where = None,
    majority: float | None = None,
) -> Headline:
    """Return every number that a headline may hold, and per size what forbids one. Pure; it makes no sentence.

    table: a results table of one dataset and image size. of, against: backbones or architectures. family: compared in
    the place of `against` where all its backbones in the table are settled. train: the metric on the training images.
    majority: share of the largest class among test images. By default it is what runs recorded, or else that of the
    catalogue, if it is known there. where: as in `select_condition`. Errors are those of `shortfall`.
    Flags: `absent` (a group without settled runs), `unsettled` (cells that are not settled), those of `sound.broken`
    among settled runs, `no_interval` (fewer than two independent pairs), `control_as_good` (the linear control is
    within `NEAR` of `against`, or ahead, by its mean, and `against` itself is sound).
    """
    rep.check(table, metric)
    found = conditions.finished(table)
    base = rep.comparable(table, where=where, metric=metric)
    every = rep.comparable(table, where=where, metric=metric, comparison=SETTLED)
    every = every[serves(every, SETTLED)]
    sizes = sorted({int(n) for rows in (base, every) for side in (of, against) for n in rep.select(rows, side)["size"]})
    ask = _Ask(of, metric, where)
    tables = {name: _tables(table, ask, name, (base, every), train) for name in (against, family)}
    largest = majority_of(found) if majority is None else majority
    if not _same_optimizer(base, every, of, family):
        none = {name: one.equal.iloc[:0] for name, one in tables.items()}
        tables = {name: one._replace(equal=none[name], parts=none[name]) for name, one in tables.items()}
    rows = []
    for size in sizes:
        here, planned = every[every["size"] == size], base[base["size"] == size]
        name = family if _is_whole(rep.select(planned, family), rep.select(here, family), against) else against
        rows.append(_at(size, (of, name), here, tables[name], metric, chance(found), largest))
    return Headline(of, against, tuple(rows))


class _Tables(NamedTuple):
    """The statistics of one group: `gaps`, `decomposition`, under each recipe and optimizer, the control, `unsound`.

    control, control_equal: against settled cells, and against those at equal images.
    """

    settled: pd.DataFrame | None
    equal: pd.DataFrame
    parts: pd.DataFrame
    alone: dict[str, dict[str, pd.DataFrame]]
    optimizer_recipes: tuple[str, ...]
    control: tuple[pd.DataFrame, pd.DataFrame]
    control_equal: tuple[pd.DataFrame, pd.DataFrame]
    unsound: dict[int, Flags]


def _tables(
    table: pd.DataFrame, ask: "_Ask", against: str, rows: tuple[pd.DataFrame, pd.DataFrame], train: str
) -> _Tables:
    """Return the statistics of one group. rows: the comparable ones at equal images, and the settled ones."""
    settled_of = compared(table, SETTLED)[0]
    settled_of = settled_of[serves(settled_of, SETTLED)]
    by_optimizer, confined = of_optimizers(settled_of)
    choices = {RECIPE: settled_of, OPTIMIZER: by_optimizer}
    of, metric, where = ask
    base, every = rows
    return _Tables(
        settled=ask.shortfall(settled_of, against) if len(every) else None,
        equal=gaps(table, of=of, against=against, metric=metric, where=where, comparison=EQUAL),
        parts=decomposition(table, of=of, against=against, metric=metric, train=train, where=where, comparison=EQUAL),
        alone={axis: ask.alone(known, axis, against) for axis, known in choices.items()},
        optimizer_recipes=confined,
        control=_leads(table, every, against, metric, where, SETTLED),
        control_equal=_leads(table, base, against, metric, where, EQUAL),
        unsound=unsound(table, of=of, against=against, metric=metric, where=where, comparison=EQUAL),
    )


class _Ask(NamedTuple):
    """What every comparison of settled cells has in common."""

    of: str
    metric: str
    where: Where

    def shortfall(self, table: pd.DataFrame, against: str, more: Where = None) -> pd.DataFrame:
        """Return the rows of `gaps`. more: further entries of the condition."""
        where = {**(self.where or {}), **(more or {})}
        return gaps(table, of=self.of, against=against, metric=self.metric, where=where, comparison=SETTLED)

    def alone(self, table: pd.DataFrame, axis: str, against: str) -> dict[str, pd.DataFrame]:
        """Return value → the rows of `gaps` under it that allow a claim, for an axis that settled cells vary along."""
        values = conditions.values(table, axis, SETTLED) if len(table) and axis not in (self.where or {}) else []
        found = {}
        for value in values if len(values) > 1 else ():
            rows = self.shortfall(table, against, {axis: value})
            where = {**(self.where or {}), axis: value}
            flagged = unsound(table, of=self.of, against=against, metric=self.metric, where=where, comparison=SETTLED)
            found[str(value)] = rows[~rows["size"].isin(list(flagged))]
        return found


def _leads(
    table: pd.DataFrame, cells: pd.DataFrame, against: str, metric: str, where: Where, comparison: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of the linear control, and the rows of `gaps` of `against` over it.

    cells: those of the comparison. The control is a backbone without weights to learn that is read out by a protocol
    that trains on all labels.
    """
    every = rep.comparable(table, scratch=False, where=where, metric=metric, comparison=comparison)
    still = [name for name in every["backbone"].unique() if not catalogue.traits(name).learns]
    linear = [name for name, row in catalogue.PROTOCOLS.items() if row.stores_classifier and not row.trains]
    control = every[every["backbone"].isin(still) & every["protocol"].isin(linear)]
    return control, between(control, rep.select(cells, against), metric)


def _same_optimizer(equal: pd.DataFrame, settled: pd.DataFrame, of: str, family: str) -> bool:
    """Return whether runs at equal images may stand beside settled ones: one optimizer trained all of them."""
    if not len(settled) or not len(equal) or OPTIMIZER not in equal:
        return True
    used = [
        set(rep.select(rows, side).loc[:, OPTIMIZER].dropna()) for rows in (equal, settled) for side in (of, family)
    ]
    return len(set.union(*used)) <= 1


def _is_whole(planned: pd.DataFrame, settled: pd.DataFrame, against: str) -> bool:
    """Return whether a family has several backbones at a size, and all of them are settled in the same replicates."""
    names = set(planned["backbone"]) | set(settled["backbone"])
    if len(names) < 2 or set(settled["backbone"]) != names or len(unsettled(settled)):
        return False
    counts = {
        str(name): set(part[list(schema.REPLICATE)].itertuples(index=False, name=None))
        for name, part in settled.groupby("backbone")
    }
    pair = next((keys for name, keys in counts.items() if against in (name, catalogue.architecture(name))), None)
    return pair is not None and all(keys >= pair for keys in counts.values())


def _at(
    size: int, groups: tuple[str, str], here: pd.DataFrame, tables: _Tables, metric: str, level: float, majority: float
) -> AtSize:
    """Return the numbers of one size. groups: `of` and `against`. here: the settled rows there of all backbones."""
    of, against = groups
    sides = {name: rep.select(here, name) for name in groups}
    rows = pd.concat(sides.values())
    gap = _gap(tables.settled, size)
    levels = {
        name: float(part.groupby("backbone")[metric].mean().mean()) if len(part) else _NAN
        for name, part in sides.items()
    }
    equal = tables.parts[tables.parts["size"] == size]
    whole = len(equal) and int(equal.iloc[0]["n"]) == _gap(tables.equal, size).n  # else some lack a training accuracy
    part = equal.iloc[0] if whole else pd.Series(dtype=float)
    control, leads = tables.control if _gap(tables.control[1], size).n else tables.control_equal
    linear = control.loc[control["size"] == size, metric]
    lead = _gap(leads, size)
    near = _near(lead)
    flags = {
        "absent": tuple(name for name, side in sides.items() if not len(side)),
        "unsettled": unsettled(rows),
        "no_interval": (of, against) if math.isnan(gap.low) else (),
        **broken(sides, metric, level, majority),
    }
    theirs = {against, *map(str, sides[against]["backbone"].unique())}
    of_lead = flags if _gap(tables.control[1], size).n else tables.unsound.get(size, {})
    is_broken = any(theirs & set(names) for flag, names in of_lead.items() if flag in OF_A_BROKEN_CNN)
    flags["control_as_good"] = (against,) if near in ("shown", "likely") and not is_broken else ()
    return AtSize(
        size=size,
        against=against,
        members=tuple(sorted(map(str, sides[against]["backbone"].unique()))),
        flags={name: tuple(map(str, whose)) for name, whose in flags.items() if whose},
        settled=gap,
        of=levels[of],
        against_top1=levels[against],
        equal=_gap(tables.equal, size),
        **{name: float(part.get(name, _NAN)) for name in _OF_EQUAL},
        control=float(linear.mean()) if len(linear) else _NAN,
        lead=lead,
        control_near=near,
        chance=level,
        majority=majority,
        by_recipe={value: _gap(one, size) for value, one in tables.alone[RECIPE].items()},
        by_optimizer={value: _gap(one, size) for value, one in tables.alone[OPTIMIZER].items()},
        optimizer_recipes=tables.optimizer_recipes,
        equal_flags=tables.unsound.get(size, {}),
    )


_OF_GAPS = ("shortfall", "low", "high", "low_any", "high_any", "p_holm")
_OF_EQUAL = ("training", "training_low", "training_high", "share", "of_train", "against_train")


def _gap(rows: pd.DataFrame | None, size: int) -> Gap:
    """Return one size of `gaps` or `decomposition`."""
    here = None if rows is None else rows[rows["size"] == size]
    if here is None or not len(here):
        return Gap()
    row = here.iloc[0]
    value, low, high, low_any, high_any, p = (float(row.get(name, _NAN)) for name in _OF_GAPS)
    return Gap(value, low, high, low_any, high_any, p, int(row["n"]))


def _near(lead: Gap) -> str:
    if math.isnan(lead.value):
        return ""
    if lead.value <= NEAR:
        return "shown" if lead.best_high <= NEAR else "likely"
    return "no" if lead.best_low > NEAR else "open"

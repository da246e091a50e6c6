"""What accuracy varies with: axes, family, backbone, regime, draw and seed, each beside all the others."""

import math
from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import fdtrc, ncfdtr

from bias_lab import schema
from bias_lab.statistics import conditions
from bias_lab.statistics import replicates as rep
from bias_lab.statistics.conditions import METRIC, Where
from bias_lab.statistics.intervals import Vector

EFFECTS = ["factor", "levels", "range", "best", "worst", "share", "low", "high", "p", "df", "n"]
_MOST_LEVELS = 500  # of a factor: the share of one with more is left to `variance_shares`
_LARGEST_F = 1e6  # above it, numbers of the noncentral F are lost to rounding


def effects(
    table: pd.DataFrame,
    *,
    along: Collection[str] = ("recipe",),
    metric: str = METRIC,
    where: Where = None,
    comparison: str = "",
) -> pd.DataFrame:
    """Return the shares of axes, family, backbone (within its family), regime, draw and seed in a metric's variance.

    table: a results table. along: the axes (`axes`) that are factors. The others are held at their reference value.
    metric, where, comparison: as in `shortfall`. The linear model on all finished rows but the controls is metric ~
    size + factors. It has no interactions (they are in the rest). Each factor is tested beside all others (type II),
    which is fair in a table that is not balanced, and against the rest. A family is tested against the backbones within
    families, since another study would take others.
    Returns factor, levels, range (largest difference between its levels' effects, in the metric's unit; of backbones
    within one family), best, worst (those two levels), share, low, high, p (of the F test), df, n (rows). share is
    λ / (λ + n) of the variance that the others do not explain, and for a family of the variance between the effects of
    backbones (n is then their number); `low, high` its 95 % interval from the noncentral F distribution (Steiger 2004,
    Psychological Methods 9:164). Where each draw has one seed, the two are one factor. A factor with one level, with
    more than 500, or that can't be told from the others is left out, and so is a family where each has one backbone.
    Raises UserError for a table that mixes datasets or image sizes, lacks a column, or holds percents.
    """
    rep.check(table, metric)
    rows = conditions.select_condition(table, where, free=along, comparison=comparison)
    rows = rows[rows[metric].notna() & ~conditions.is_control(rows)]
    rep.check_one_dataset(rows)
    if len(rows) < 3:
        return pd.DataFrame([], columns=EFFECTS)
    model = _Model(_factors(rows, along), rows[metric].to_numpy(dtype=float))
    families = dict(zip(rows["backbone"], rows["family"], strict=True)) if "family" in model.names else {}
    records = [
        (name, model.levels(name), *tested, len(rows))
        for name in model.names
        if name != "size" and (tested := _tested(model, name, families))
    ]
    return pd.DataFrame(records, columns=EFFECTS).sort_values("share", ascending=False, ignore_index=True)


def _tested(model: "_Model", name: str, families: Mapping[str, str]) -> tuple[float | str, ...]:
    """Return range, best, worst, share, low, high, p and df of a factor, or nothing where others stand for it.

    families: backbone → family, empty where nothing tells a family from its backbone.
    """
    others = [n for n in model.names if n != name and (name, n) != ("family", "backbone")]
    (less, less_df), (more, more_df), (rest, rest_df) = (model.rest(n) for n in (others, [*others, name], model.names))
    if less_df == more_df or rest_df < 1:
        return ()
    if name == "family":
        return _between_backbones(model, others, families)
    ends = model.extremes(name, [*others, name], families if name == "backbone" else {})
    # sums of squares below this are rounding: accuracies are counted in thousandths
    return (*ends, *_test(less - more, less_df - more_df, rest, rest_df, model.size, 1e-12 * model.size))


def _between_backbones(model: "_Model", others: list[str], families: Mapping[str, str]) -> tuple[float | str, ...]:
    """Return what `_tested` does, of the family: one-way ANOVA over backbones, each with its effect beside the others.

    Backbones are a random sample of their family, so the backbones are the independent values, however many runs each
    of them has. The F test is exact where all backbones have equally many runs, or where their runs scatter little.
    """
    if "backbone" not in model.names:
        return ()
    effect = model.effects("backbone", [*others, "backbone"])
    if model.rest(others)[1] - model.rest([*others, "backbone"])[1] < len(effect) - 1:
        return ()  # another factor stands for a backbone
    grouped = pd.Series(effect).groupby([families[name] for name in effect])
    means, counts = grouped.mean(), grouped.size()
    within = float(((pd.Series(effect) - grouped.transform("mean")) ** 2).sum())
    between = float((counts * (means - float(np.mean(list(effect.values())))) ** 2).sum())
    ends = float(means.max() - means.min()), str(means.idxmax()), str(means.idxmin())
    return (*ends, *_test(between, len(means) - 1, within, len(effect) - len(means), len(effect), 1e-12 * len(effect)))


def _test(square: float, df: int, rest: float, rest_df: int, n: int, nothing: float) -> tuple[float, ...]:
    """Return share, low, high, p and df of a sum of squares against another. nothing: a sum below it is rounding."""
    by_chance = math.inf if square > nothing else 0.0
    f = (max(square, 0.0) / df) / (rest / rest_df) if rest > nothing else by_chance  # rounding leaves -1e-14
    p = float(fdtrc(df, rest_df, f)) if math.isfinite(f) else 0.0
    return (*variance_share(f, df, rest_df, n), p, df)


def _factors(rows: pd.DataFrame, along: Collection[str]) -> pd.DataFrame:
    """Return the factors with more than one level, size first. Draw and seed are one if each draw has one seed."""
    usual = schema.DEFAULTS["protocol"]
    regime = rows["regime"].astype(str) + rows["protocol"].map(lambda p: "" if p == usual else f", {p}")
    axes = {name: conditions.given(rows, name).astype(str) for name in along if name in rows}
    factors = rows[["size", *axes, "family", "backbone", "regime", *schema.REPLICATE]].assign(regime=regime, **axes)
    if factors["backbone"].nunique() == factors["family"].nunique():  # nothing tells a family from its backbone
        factors = factors.drop(columns="family")
    if rows.groupby("draw")["seed"].nunique().max() == 1:
        factors = factors.drop(columns="seed").rename(columns={"draw": "draw and seed"})
    return factors[[n for n in factors if n == "size" or 1 < factors[n].nunique() <= _MOST_LEVELS]]


class _Model:
    """Fits least squares to indicator columns through their Gram matrix, whose size does not depend on the rows."""

    def __init__(self, factors: pd.DataFrame, y: Vector) -> None:
        from scipy.sparse import csr_array, hstack

        self.names = list(factors.columns)
        self.y = y - y.mean()
        self._levels: dict[str, list[str]] = {}
        self._columns: dict[str, list[int]] = {}
        blocks, start = [csr_array(np.ones((len(y), 1)))], 1
        for name in self.names:
            codes, levels = pd.factorize(factors[name], sort=True)
            self._levels[name] = [str(level) for level in levels]
            self._columns[name] = list(range(start, start + len(levels)))
            start += len(levels)
            blocks.append(csr_array((np.ones(len(y)), (np.arange(len(y)), codes)), shape=(len(y), len(levels))))
        design = hstack(blocks, format="csr")
        self._gram: Vector = (design.T @ design).toarray()
        self._moments: Vector = np.asarray(design.T @ self.y)
        self.size = len(y)

    def levels(self, name: str) -> int:
        return len(self._levels[name])

    def _solve(self, names: list[str]) -> tuple[list[int], Vector, int]:
        """Return columns, least-norm coefficients and rank."""
        columns = [0, *(c for name in names for c in self._columns[name])]
        values, vectors = np.linalg.eigh(self._gram[np.ix_(columns, columns)])
        kept = values > values[-1] * 1e-10
        vectors, values = vectors[:, kept], values[kept]
        return columns, vectors @ ((vectors.T @ self._moments[columns]) / values), int(kept.sum())

    def effects(self, name: str, names: list[str]) -> dict[str, float]:
        """Return level → its effect in the model with these factors. Only their differences mean something."""
        columns, coefficients, _ = self._solve(names)
        effect = dict(zip(columns, coefficients, strict=True))
        return {lvl: float(effect[c]) for c, lvl in zip(self._columns[name], self._levels[name], strict=True)}

    def rest(self, names: list[str]) -> tuple[float, int]:
        """Return the residual sum of squares and its degrees of freedom, with these factors in the model."""
        columns, coefficients, rank = self._solve(names)
        left = float(self.y @ self.y) - float(coefficients @ self._moments[columns])
        return max(0.0, left), len(self.y) - rank

    def extremes(self, name: str, names: list[str], groups: Mapping[str, str]) -> tuple[float, str, str]:
        """Return the largest difference between two levels' effects (within one group, if given), and the two."""
        grouped: dict[str, list[tuple[float, str]]] = {}
        for level, value in self.effects(name, names).items():
            grouped.setdefault(groups.get(level, ""), []).append((value, level))
        best, worst = max(((max(g), min(g)) for g in grouped.values()), key=lambda ends: ends[0][0] - ends[1][0])
        return best[0] - worst[0], best[1], worst[1]


def variance_share(f: float, df: int, rest_df: int, n: int) -> tuple[float, float, float]:
    """Return λ / (λ + n), from the unbiased λ or 0, and the interval that inverts the noncentral F.

    Above `_LARGEST_F` the share is 1 without an interval, since the noncentral F has no value there.
    """
    if not f < _LARGEST_F:
        return 1.0, math.nan, math.nan
    estimate = max(0.0, f * df * (rest_df - 2) / rest_df - df) if rest_df > 2 else max(0.0, f * df - df)
    low, high = (_noncentrality(f, df, rest_df, tail) for tail in (0.975, 0.025))
    return estimate / (estimate + n), low / (low + n), high / (high + n)


def _noncentrality(f: float, df: int, rest_df: int, tail: float) -> float:
    """Return the λ under which an F as small as this has probability `tail`; 0 where even λ = 0 gives less."""

    def excess(value: float) -> float:
        below = float(ncfdtr(df, rest_df, value, f))
        if math.isnan(below):  # scipy has no value far out in a tail, where it is 0 or 1
            below = float(value < f * df)
        return below - tail

    if float(ncfdtr(df, rest_df, 1e-12, f)) <= tail:
        return 0.0
    top = max(10.0, 4 * f * df)
    while excess(top) > 0:
        top *= 2
    return float(brentq(excess, 1e-12, top, xtol=1e-9, rtol=1e-9))

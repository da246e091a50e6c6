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


def effects(
    table: pd.DataFrame, *, along: Collection[str] = ("recipe",), metric: str = METRIC, where: Where = None
) -> pd.DataFrame:
    """Return the shares of axes, family, backbone (within its family), regime, draw and seed in a metric's variance.

    table: a results table. along: the axes (`axes`) that are factors. The others are held at their reference value.
    metric, where: as in `shortfall`. A linear model on all finished rows: metric ~ size + factors, without interactions
    (they are in the rest). Each factor is tested beside all others (type II), which is fair in an unbalanced table, and
    against the rest. A family is tested against the backbones within families, since another study would take others.
    Returns factor, levels, range (largest difference between its levels' effects, in the metric's unit; of backbones
    within one family), best, worst (those two levels), share, low, high, p (of the F test), df, n (rows). share is
    λ / (λ + n) of the variance that the others do not explain, and for a family of the variance between the means of
    backbones (n is then their number); `low, high` its 95 % interval from the noncentral F distribution (Steiger 2004,
    Psychological Methods 9:164). Where each draw has one seed, the two are one factor. A factor with one level, with
    more than 500, or that can't be told from the others is left out, and so is a family where each has one backbone.
    Raises UserError for a table that mixes datasets or image sizes, lacks a column, or holds percents.
    """
    rep.check(table, metric)
    rows = conditions.select_condition(table, where, free=along)
    rows = rows[rows[metric].notna()]
    rep.check_one_dataset(rows)
    if len(rows) < 3:
        return pd.DataFrame([], columns=EFFECTS)
    model = _Model(_factors(rows, along), rows[metric].to_numpy(dtype=float))
    noise = model.rest(model.names)
    families = dict(zip(rows["backbone"], rows["family"], strict=True))
    records = []
    for name in model.names:
        if name == "size" or noise[1] < 1:
            continue
        others = [n for n in model.names if n != name and (name, n) != ("family", "backbone")]
        less, less_df = model.rest(others)
        more, more_df = model.rest([*others, name])
        df, square, against, values = less_df - more_df, less - more, noise, float(len(rows))
        if name == "family":
            if "backbone" not in model.names or more_df == noise[1]:
                continue
            against, values = _between_backbones(model, others, df)
        if df < 1:
            continue
        nothing = 1e-12 * len(rows)  # a sum of squares below this is rounding: accuracies are counted in thousandths
        by_chance = math.inf if square > nothing else 0.0
        f = (square / df) / (against[0] / against[1]) if against[0] > nothing else by_chance
        share = _variance_share(f, df, against[1], values)
        ends = model.extremes(name, [*others, name], families if name == "backbone" and "family" in model.names else {})
        p = float(fdtrc(df, against[1], max(f, 0.0))) if math.isfinite(f) else 0.0
        records.append((name, model.levels(name), *ends, *share, p, df, len(rows)))
    return pd.DataFrame(records, columns=EFFECTS).sort_values("share", ascending=False, ignore_index=True)


def _between_backbones(model: "_Model", others: list[str], df: int) -> tuple[tuple[float, float], float]:
    """Return what a family is tested against: (sum of squares, degrees of freedom), and how many backbones that is.

    Backbones are a random sample of their family. The mean square that has the same expectation as the family's, where
    families do not differ, is w · MS(backbone within family) + (1 − w) · MS(rest), with Satterthwaite's degrees of
    freedom. In a table where all backbones have equally many rows, w = 1 and the F test is exact.
    """
    (less, less_df), (more, more_df) = model.rest([*others, "family"]), model.rest(model.names)
    ours, rest_df = (less - more) / (less_df - more_df), max(1, more_df)
    rows = model.rows_of("backbone", [*others, "family"], others) / df  # that a backbone adds to the family's square
    weight = rows / (model.rows_of("backbone", model.names, [*others, "family"]) / (less_df - more_df))
    parts = weight * ours, (1 - weight) * more / rest_df
    square = sum(parts) if weight <= 1 else max(sum(parts), ours)
    if square <= 0:
        return (0.0, float(less_df - more_df)), model.size / rows
    freedom = square**2 / (parts[0] ** 2 / (less_df - more_df) + parts[1] ** 2 / rest_df)
    return (square * freedom, freedom), model.size / rows


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

    def rows_of(self, name: str, names: list[str], less: list[str]) -> float:
        """Return tr(Z'(P − Q)Z): Z indicates a factor's levels, P and Q project on the models with names and less."""
        there = self._columns[name]

        def projected(terms: list[str]) -> float:
            columns, vectors, values = self._basis(terms)
            return float((((vectors.T @ self._gram[np.ix_(columns, there)]) ** 2).sum(axis=1) / values).sum())

        return projected(names) - projected(less)

    def levels(self, name: str) -> int:
        return len(self._levels[name])

    def _basis(self, names: list[str]) -> tuple[list[int], Vector, Vector]:
        """Return the columns of these factors, and the eigenvectors and values of their Gram matrix that are not 0."""
        columns = [0, *(c for name in names for c in self._columns[name])]
        values, vectors = np.linalg.eigh(self._gram[np.ix_(columns, columns)])
        kept = values > values[-1] * 1e-10
        return columns, vectors[:, kept], values[kept]

    def _solve(self, names: list[str]) -> tuple[list[int], Vector, int]:
        """Return columns, least-norm coefficients and rank."""
        columns, vectors, values = self._basis(names)
        return columns, vectors @ ((vectors.T @ self._moments[columns]) / values), len(values)

    def rest(self, names: list[str]) -> tuple[float, int]:
        """Return the residual sum of squares and its degrees of freedom, with these factors in the model."""
        columns, coefficients, rank = self._solve(names)
        left = float(self.y @ self.y) - float(coefficients @ self._moments[columns])
        return max(0.0, left), len(self.y) - rank

    def extremes(self, name: str, names: list[str], groups: Mapping[str, str]) -> tuple[float, str, str]:
        """Return the largest difference between two levels' effects (within one group, if given), and the two."""
        columns, coefficients, _ = self._solve(names)
        effect = dict(zip(columns, coefficients, strict=True))
        named = [(float(effect[c]), level) for c, level in zip(self._columns[name], self._levels[name], strict=True)]
        grouped: dict[str, list[tuple[float, str]]] = {}
        for value, level in named:
            grouped.setdefault(groups.get(level, ""), []).append((value, level))
        best, worst = max(((max(g), min(g)) for g in grouped.values()), key=lambda ends: ends[0][0] - ends[1][0])
        return best[0] - worst[0], best[1], worst[1]


def _variance_share(f: float, df: int, rest_df: float, n: float) -> tuple[float, float, float]:
    """Return λ / (λ + n), from the unbiased λ or 0, and the interval that inverts the noncentral F."""
    if not math.isfinite(f):
        return 1.0, math.nan, math.nan
    estimate = max(0.0, f * df * (rest_df - 2) / rest_df - df) if rest_df > 2 else max(0.0, f * df - df)
    low, high = (_noncentrality(f, df, rest_df, tail) for tail in (0.975, 0.025))
    return estimate / (estimate + n), low / (low + n), high / (high + n)


def _noncentrality(f: float, df: int, rest_df: float, tail: float) -> float:
    """Return the λ under which an F as small as this has probability `tail`; 0 where even λ = 0 gives less."""

    def excess(value: float) -> float:
        return float(ncfdtr(df, rest_df, value, f)) - tail

    if float(ncfdtr(df, rest_df, 1e-12, f)) <= tail:
        return 0.0
    top = max(10.0, 4 * f * df)
    while excess(top) > 0:
        top *= 2
    return float(brentq(excess, 1e-12, top, xtol=1e-9, rtol=1e-9))

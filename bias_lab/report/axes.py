"""Report what an axis of a study changes: a budget, a recipe, an intervention, or any other field of a run.

One section an axis: a figure with a line pattern for each value, the shortfall at each value, how far the accuracy of
each backbone moves, and sentences with the difference and its interval.
"""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import pandas as pd

from bias_lab import catalogue, schema, statistics
from bias_lab.report import tables
from bias_lab.report.evidence import claims
from bias_lab.report.figures import charts
from bias_lab.report.figures.chart import Chart, percent, span
from bias_lab.report.pages import Section, Table
from bias_lab.report.sentences import (
    capital,
    ends,
    interval,
    is_identical,
    listed,
    sizes_in_words,
    start_words,
    value_words,
)
from bias_lab.statistics import ALPHA
from bias_lab.statistics.conditions import has, is_from_scratch

CELL = ["backbone", *schema.START, "size"]
MOST_AT_THE_TOP = 3  # values of an axis whose sentences stand at the top of the report too


class AxisFindings(NamedTuple):
    """What the report says of one axis. top: its sentences for the top of the report, empty for a mere check."""

    section: Section
    top: list[str]
    method: str


def findings_of(view: pd.DataFrame, axis: str, slug: str = "") -> AxisFindings:
    """Return an axis's section, what stands of it at the top of the report, and how that was tested.

    view: finished runs of one dataset and image size (`findings.split`). slug: the prefix of figure names.
    A study is about an axis if all of its cells vary along it, and then its sentences stand at the top. If some cells
    alone have another value, they are compared with the same cells at the reference, in the section alone.
    """
    text: list[str] = []
    drawn: list[Chart] = []
    shown: list[Table] = []
    top, method = [], ""
    words = schema.axis_words(axis)
    for is_whole, values, rows in _compared(view, axis):
        arms, moved = statistics.arms(rows, axis=axis), statistics.moved(rows, axis=axis)
        tail = f"-{len(drawn)}" if drawn else ""
        drawn += _charts(rows, axis, arms, moved, slug, tail)
        shown += [tables.arms(axis, arms)] if len(arms) else []
        shown += [tables.moved(axis, moved)] if len(moved) else []
        sound, unsaid = sound_arms(arms, rows, axis)
        lead, change = lead_by_value(axis, sound), change_of_lead(axis, sound)
        members = listed(sorted(rows["backbone"].unique()))
        compared = [] if is_whole else [f"This compares {members}, which have runs with each of the values."]
        text += [" ".join(each) for each in (compared, lead, change, unsaid) if each]
        text += changes(axis, moved)
        tested = int(arms["p"].notna().sum())
        if is_whole and len(values) <= MOST_AT_THE_TOP:
            top = [*lead, *unsaid]
            method = f"Claims by {words} are Holm-corrected over {tested} comparisons." if tested > 1 else ""
    title = f"Does the shortfall depend on the {words}?"
    part = Section(name=axis, title=title, text=tuple(text), charts=tuple(drawn), tables=tuple(shown))
    return AxisFindings(part, top, method)


def _compared(view: pd.DataFrame, axis: str) -> Iterable[tuple[bool, list[Any], pd.DataFrame]]:
    """Yield (whether all cells are there, values, rows): values whose cells are the same are compared together.

    rows: those of the view in cells that the reference and each of these values have.
    """
    reference, *others = statistics.values(view, axis)
    cells = {value: _cells(statistics.select_condition(view, {axis: value})) for value in (reference, *others)}
    groups: dict[frozenset[Any], list[Any]] = {}
    for value in others:
        groups.setdefault(frozenset(cells[value] & cells[reference]), []).append(value)
    key = pd.Series(list(view[CELL].itertuples(index=False, name=None)), index=view.index)
    for common, values in groups.items():
        is_other = pd.Series(False, index=view.index)
        for value in set(others) - set(values):
            is_other |= has(view, axis, value)
        if common:
            yield common == frozenset(cells[reference]), values, view[key.isin(common) & ~is_other]


def _cells(rows: pd.DataFrame) -> set[Any]:
    return set(rows[CELL].itertuples(index=False, name=None))


def _charts(
    part: pd.DataFrame, axis: str, arms: pd.DataFrame, moved: pd.DataFrame, slug: str, tail: str
) -> list[Chart]:
    """Return accuracy and shortfall by value. Runs are those from scratch, or else of each start that varies.

    A control is drawn too, where it has runs of its own with a value.
    """
    is_scratch = is_from_scratch(moved)
    varying = moved[is_scratch] if is_scratch.any() else moved
    cells = set(varying[["backbone", *schema.START]].itertuples(index=False, name=None))
    by_value = {}
    for value in statistics.values(part, axis):
        rows = statistics.comparable(part, scratch=False, where={axis: value})
        of_value = has(rows, axis, value)  # a control without a pretraining stands for no value of one
        there = [
            cell in cells or (is_own and catalogue.traits(str(cell[0])).control)
            for cell, is_own in zip(
                rows[["backbone", *schema.START]].itertuples(index=False, name=None), of_value, strict=True
            )
        ]
        by_value[value_words(axis, value)] = rows[there]
    lines = {value_words(axis, value): rows for value, rows in arms.groupby("value", sort=False)}
    return [
        charts.accuracy_by_value(axis, by_value, prefix=slug, tail=tail),
        *([charts.shortfall_by_value(axis, lines, prefix=slug, tail=tail)] if lines else []),
    ]


# --- sentences -------------------------------------------------------------------------------------------------------


def _with(axis: str, row: Any) -> str:
    """Return 'With label noise 0.2', or 'After MAE with label noise 0.2' where the start is not from scratch."""
    is_scratch = row["regime"] == schema.DEFAULTS["regime"] and row["protocol"] == schema.DEFAULTS["protocol"]
    start = "" if is_scratch else f"after {start_words(row['regime'], row['protocol'], row['source'])} "
    article = "the " if axis == "head" else ""  # 'With the matched decoder'
    return capital(f"{start}with {article}{value_words(axis, row['value'])}")


def sound_arms(arms: pd.DataFrame, rows: pd.DataFrame, axis: str) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows of `statistics.arms` that allow a claim, and sentences on the others.

    rows: what the arms were made from. Where the reference allows no claim at a size, no value does there.
    """
    is_sound, said = pd.Series(True, index=arms.index), []
    for place, (value, part) in enumerate(arms.groupby("value", sort=False)):
        flagged = statistics.unsound(rows, where={axis: value})
        here = part["size"].isin(list(flagged))
        if not here.any():
            continue
        is_sound &= ~(arms["size"].isin(list(flagged)) & (arms["value"].eq(value) | (place == 0)))
        why = claims.reasons(flagged, sorted({int(size) for size in part["size"]}))
        at = sizes_in_words(list(flagged))
        said.append(f"{_with(axis, part.iloc[0])}, nothing is claimed at {at}: {why}.")
    return arms[is_sound], said


def lead_by_value(axis: str, arms: pd.DataFrame) -> list[str]:
    """Return for each value of an axis whether the CNNs still lead plain ViT with it, and by how much.

    arms: rows of `statistics.arms`, those of the reference value first. The CNNs "still" lead where a change of a third
    of their lead is excluded.
    """
    sentences = []
    change = against_a_third(arms)
    for _, rows in arms.groupby(list(schema.START), sort=False):
        is_reference = rows["value"] == rows["value"].iloc[0]
        for _, part in rows[~is_reference].groupby("value", sort=False):
            with_it = _with(axis, part.iloc[0])
            shown, is_tested = part["p_holm"] <= ALPHA, part["p"].notna()
            leads, single = part[shown & (part["shortfall"] > 0)], part[~is_tested]
            still = "still " if len(leads) and (change[leads.index] == "less").all() else ""
            sentences += _at_sizes(leads, f"{with_it}, the CNNs {still}lead plain ViT", 1)
            sentences += _at_sizes(part[shown & (part["shortfall"] < 0)], f"{with_it}, plain ViT leads the CNNs", -1)
            level = f"{with_it}, no difference between plain ViT and the CNNs is shown"
            sentences += _at_sizes(part[~shown & is_tested], level, 0)
            if len(single):
                sizes = sizes_in_words(single["size"])
                sentences.append(f"{with_it}, nothing is claimed at {sizes}, since there is only one replicate.")
    return sentences


def _at_sizes(rows: pd.DataFrame, claim: str, sign: int) -> list[str]:
    """Return a claim, and the amounts at the smallest and the largest size. sign: −1 if the ViT leads, 0 if neither."""
    shown = ends(rows)
    amounts = [f"{percent((sign or 1) * row['shortfall'])} points{interval(row, mirrored=sign < 0)}" for row in shown]
    if len(shown) == 1:
        link = ", by" if sign else ": the CNNs minus plain ViT is"
        return [f"{claim} at N = {shown[0]['size']:,}{link} {amounts[0]}."]
    what = "the lead is" if sign else "the CNNs minus plain ViT is"
    amounts = [f"At {row['size']:,} labels {what} {text}." for row, text in zip(shown, amounts, strict=True)]
    return [f"{claim} at {sizes_in_words(rows['size'])}.", *amounts] if shown else []


def against_a_third(arms: pd.DataFrame) -> "pd.Series[str]":
    """Return how the change of the lead compares with a third of the lead at the reference, for each row of `arms`.

    'less' and 'more' where the interval of the change lies within or beyond a third, 'open' where it holds one, and ''
    for the reference, without an interval, and where no lead is shown at the reference.
    """
    key = [*schema.START, "size"]
    base = arms[(arms["value"] == arms["value"].iloc[0]) & (arms["p_holm"] <= ALPHA)] if len(arms) else arms
    third = arms[key].merge(base[[*key, "shortfall"]], on=key, how="left")["shortfall"].abs().to_numpy() / 3
    low, high = arms["gone_low"].to_numpy(dtype=float), arms["gone_high"].to_numpy(dtype=float)
    result = pd.Series("", index=arms.index, dtype=object)
    known = ~pd.isna(low + high + third)
    less, more = (low > -third) & (high < third), (low > third) | (high < -third)
    result[known & less], result[known & more], result[known & ~less & ~more] = "less", "more", "open"
    return result


_THIRD = {"more": " That is more than a third of the lead.", "open": ""}


def change_of_lead(axis: str, arms: pd.DataFrame) -> list[str]:
    """Return by how much each value of an axis changes the CNNs' lead, with the paired interval.

    arms: rows of `statistics.arms`. `gone` is the lead at the reference minus that at the value. The lead "does not
    change by a third" where the interval excludes a change of a third of it.
    """
    sentences = []
    reference = value_words(axis, arms["value"].iloc[0]) if len(arms) else ""
    compared = arms.assign(third=against_a_third(arms)).dropna(subset=["gone"])
    for _, part in compared.groupby(["value", *schema.START], sort=False):
        for place, row in enumerate(ends(part)):
            is_larger = row["gone"] < 0
            low, high = (-row["gone_high"], -row["gone_low"]) if is_larger else (row["gone_low"], row["gone_high"])
            inside = "one replicate, no interval" if math.isnan(low) else f"95 % CI {span(low, high)}"
            inside = "identical replicates, no interval" if is_identical(low, high) else inside
            amount = f"{percent(abs(row['gone']))} points {'larger' if is_larger else 'smaller'}"
            at = f"at {row['size']:,} labels"
            lead = f"{_with(axis, row)}, the CNNs' lead"
            if row["third"] == "less":
                first = f"{lead} does not change by a third {at}" if not place else f"{capital(at)} it does not"
                sentences.append(f"{first}: it is {amount} than with {reference} ({inside}).")
                continue
            first = f"{lead} is {amount} than with {reference} {at}" if not place else f"{capital(at)} it is {amount}"
            sentences.append(f"{first} ({inside}).{_THIRD.get(row['third'], '')}")
        if (part["third"] == "open").any():
            sentences.append("The data leave open whether the lead changes by a third or more.")
    return sentences


def changes(axis: str, moved: pd.DataFrame) -> list[str]:
    """Return a paragraph for each value of an axis: how far it moves the accuracy of each backbone.

    moved: rows of `statistics.moved`. Backbones for which no change is shown are named together at the end.
    """
    paragraphs = []
    for _, part in moved.groupby(["value", *schema.START], sort=False):
        with_it, shown = _with(axis, part.iloc[0]), part["p_holm"] <= ALPHA
        sentences: list[str] = []
        for backbone, rows in part[shown].groupby("backbone", sort=False):
            for row in ends(rows):
                falls = row["change"] < 0
                amount = f"{percent(abs(row['change']))} points{interval(row, mirrored=falls)}"
                verb = "falls" if falls else "rises"
                lead = "The" if sentences else f"{with_it}, the"
                sentences.append(f"{lead} accuracy of {backbone} {verb} by {amount} at {row['size']:,} labels.")
        level = part[~shown].groupby("backbone", sort=False)["size"]
        if len(level):
            names = listed([f"{backbone} at {sizes_in_words(sizes)}" for backbone, sizes in level])
            lead = "No" if sentences else f"{with_it}, no"
            sentences.append(f"{lead} change is shown in the accuracy of {names}.")
        paragraphs.append(" ".join(sentences))
    return paragraphs

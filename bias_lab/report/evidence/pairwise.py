"""Compare backbones pair by pair: with plain ViT, and with the CNNs where a study has no plain ViT."""

from collections.abc import Sequence

import pandas as pd

from bias_lab import schema, statistics
from bias_lab.report.evidence import parts
from bias_lab.report.pages import Table
from bias_lab.report.replicates import NOT_TRAINED, flags
from bias_lab.report.sentences import claims, compared, method, name_of, start_words
from bias_lab.report.tables import ANY, CI, PAIRS, SIZE, in_points, in_words, table_of
from bias_lab.statistics import intervals
from bias_lab.statistics.comparisons import SETTLED
from bias_lab.statistics.conditions import is_from_scratch

START = list(schema.START)


def of_view(view: pd.DataFrame) -> tuple[str, str, tuple[Table, ...]]:
    """Return the finding on one view of `findings.split`, how it was reached, and a table for each comparison.

    Settled cells come first. Everything is empty where there are no CNNs, or nothing beside them.
    """
    names = parts.present(view)
    found = [pairs(view, name) for name in names or ("",)]
    findings = [one for one, _, _ in found if one]
    methods = dict.fromkeys(how for _, how, _ in found if how)
    if len(methods) > 1:
        methods = dict.fromkeys(
            compared(how, parts.COMPARISONS[name]) for name, (_, how, _) in zip(names, found, strict=True) if how
        )
    return " ".join(findings), " ".join(methods), tuple(one for _, _, made in found for one in made)


def pairs(view: pd.DataFrame, comparison: str = "") -> tuple[str, str, tuple[Table, ...]]:
    """Return (finding, method, tables) of each backbone against the CNNs, start by start, in one comparison.

    Claims are Holm-corrected over all pairs, starts and sizes. Where settled cells are compared, none is made at a size
    at which a cell of the pair is not settled, or not sound.
    """
    rows = statistics.comparable(view, scratch=False, comparison=comparison)
    cnn = statistics.select(rows, "cnn")
    members = sorted(cnn["backbone"].unique())
    reference = members[0] if len(members) == 1 else name_of("cnn")
    several = len(parts.present(view)) > 1
    held = parts.COMPARISONS.get(comparison, "") if several else ""
    found: list[tuple[str, str, pd.DataFrame]] = []
    for (regime, protocol), part in rows.groupby(START[:2], sort=False):
        theirs, ours = part[part.index.isin(cnn.index)], part[~part.index.isin(cnn.index)]
        many = part["source"].nunique() > 1
        for name, own in ours.groupby("backbone"):
            for source, one, other in statistics.matched(own, theirs, str(regime)):
                how = "" if is_from_scratch(one).all() else start_words(regime, protocol, source if many else "")
                how += NOT_TRAINED if flags(one)["untrained"] else ""
                found.append((how, str(name), statistics.between(one, other)))
    if comparison == SETTLED:
        found = [(how, name, _sound(part, view, name)) for how, name, part in found]
    found = [(how, name, part) for how, name, part in found if len(part)]
    if not found:
        return "", "", ()
    every = pd.concat([part for _, _, part in found], ignore_index=True)
    every["p_holm"] = intervals.holm(every["p"].to_numpy(dtype=float))
    sentences, at = [], 0
    for how, name, part in found:
        text = " ".join(claims(every.iloc[at : at + len(part)], (name, reference)))
        text = f"After {how}, {text.replace('No ', 'no ', 1)}" if how else text
        if not how.endswith(NOT_TRAINED):  # which says nothing about the start
            sentences.append(compared(text, held))
        at += len(part)
    labelled = [(reference, f"{name} ({how or 'scratch'})", part) for how, name, part in found]
    title = ", ".join(filter(None, ("Pair by pair, start by start", held)))
    return " ".join(sentences), method(every, "comparisons"), (table(labelled, title),)


def _sound(gaps: pd.DataFrame, view: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the rows of a pair from scratch without the sizes that allow no claim about settled cells."""
    return gaps[~gaps["size"].isin(list(statistics.unsound(view, of=name, comparison=SETTLED)))]


def versus(scratch: pd.DataFrame) -> Table:
    """Return every backbone against plain ViT, and the CNNs' mean against each that is not of the family."""
    vit, cnn = statistics.select(scratch, "vit"), statistics.select(scratch, "cnn")
    compared = []
    for name, part in scratch.groupby("backbone"):
        if name not in set(vit["backbone"]) and len(vit):
            compared.append((str(name), "plain ViT", statistics.between(vit, part)))
    for name, part in scratch[~scratch["backbone"].isin({*vit["backbone"], *cnn["backbone"]})].groupby("backbone"):
        if len(cnn):
            compared.append(("CNN family", str(name), statistics.between(part, cnn)))
    note = (
        "These intervals are not corrected for the number of pairs: where the true difference is 0, one interval in "
        "twenty excludes it."
    )
    return table(compared, "Pair by pair, from scratch", note)


def table(frame: Sequence[tuple[str, str, pd.DataFrame]], title: str, note: str = "") -> Table:
    """Return the rows of `statistics.gaps` for several pairs: (first, second, first minus second)."""
    parts = [part.assign(difference=f"{first} minus {second}") for first, second, part in frame if len(part)]
    every = pd.concat(parts) if parts else pd.DataFrame()
    difference = in_points("shortfall", "points", "mean difference in accuracy")
    return table_of(title, every, in_words("difference"), SIZE, difference, CI, ANY, PAIRS, note=note)

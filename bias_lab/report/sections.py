"""Report one dataset at one image size: its sections, the sentences at the top, and how these were reached."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from bias_lab import schema, statistics
from bias_lab.report import axes, tables
from bias_lab.report.evidence import claims as claims_of
from bias_lab.report.evidence import head, pairwise
from bias_lab.report.evidence import parts as parts_of
from bias_lab.report.figures import charts
from bias_lab.report.figures.labels import several_sources, start_label
from bias_lab.report.pages import Section, Table, number, points, whole, word
from bias_lab.report.replicates import NOT_TRAINED, captioned, flags
from bias_lab.report.sentences import (
    ends,
    left_where_alike,
    meeting,
    method,
    recovered,
    removed,
    start_words,
)
from bias_lab.statistics.conditions import PRETRAINS, is_from_scratch

START = list(schema.START)
LAST = 2 / 3  # the share of the epochs after which a curve is averaged
MOST_ABOVE_TABLES = 4  # sentences on starts (if there are more, the table alone is shown)


def of_view(
    table: pd.DataFrame, view: pd.DataFrame, about: str, curves: Mapping[str, Any]
) -> tuple[str, str, list[Section]]:
    """Return the sentences on one view, how they were reached, and its sections.

    They are about runs at equal images where the view has any, else about settled cells.

    table: all rows of the study. view: one of `findings.split`. about: the view's name if there are several, else ''.
    curves: run_id → [steps, accuracies on the hold-out].
    """
    slug = slug_of(about)
    gaps, claims = statistics.gaps(view), claims_of.of_view(view)
    said, how = claims.sentences, method(claims.answer.gaps)
    pairs: tuple[Table, ...] = ()
    if gaps["p"].isna().all() and not len(statistics.select(view, "vit")):
        finding, pairs_method, pairs = pairwise.of_view(view)
        said, how = ([finding], pairs_method) if finding else (said, how)
    by_axis = [axes.findings_of(view, axis, slug) for axis in statistics.axes(view)]
    starts, left = starts_of(table, view)
    held = parts_of.held(view)
    recovery = statistics.recovery(view)
    top = [*said, *recovered(recovery[~head.is_unsound(view, recovery)])]
    if not claims.flagged:
        top += [*(left if len(left) <= 2 else []), *(text for one in by_axis for text in one.top)]
    figure, shortfall = _gap(view, gaps, slug, pairs, held)
    central = [one.section for one in by_axis if one.top]
    checks = [one.section for one in by_axis if not one.top]
    parts = [figure, *central, *over_epochs(view, curves, slug), shortfall]
    parts += [*_starts(view, starts, left), *checks, *_details(view)]
    tail = f": {about}" if about else ""
    both = len(parts_of.present(view)) > 1
    is_mixed = [part is shortfall and bool(pairs) for part in parts]  # it holds pairs of both comparisons
    parts = [
        replace(part, title=f"{part.title}, {held}") if both and held not in part.title and not mixed else part
        for part, mixed in zip(parts, is_mixed, strict=True)
    ]
    rows = statistics.comparable(view, scratch=False)
    titled = [
        replace(section, name=f"{slug}{section.name}", title=f"{section.title}{tail}",
                charts=tuple(captioned(chart, rows) for chart in section.charts))
        for section in parts
    ]  # fmt: skip
    return " ".join(top), " ".join(filter(None, [how, *(one.method for one in by_axis)])), titled


def slug_of(about: str) -> str:
    """Return the prefix of a view's sections and figures, '' for the only view."""
    return "".join(c if c.isalnum() else "-" for c in about) + "-" if about else ""


def _gap(
    view: pd.DataFrame, gaps: pd.DataFrame, slug: str, pairs: tuple[Table, ...], held: str
) -> tuple[Section, Section]:
    """Return the main figure and the shortfall, pair by pair where the view has no plain ViT. held: how compared."""
    rows = statistics.comparable(view, scratch=False)
    comparison = parts_of.default(view)
    lines = lines_of_starts(rows, parts_of.with_settled(gaps, rows) if comparison == "settled" else gaps)
    chart = charts.shortfall(lines, prefix=slug, comparison=comparison)
    tail = f", {held}" if held else ""
    return (
        Section(
            name="figure", title=f"Accuracy{tail}", charts=(charts.accuracy(rows, prefix=slug, comparison=comparison),)
        ),
        Section(
            name="shortfall",
            title=f"The shortfall{tail}" if len(gaps) or not pairs else "Pair by pair",
            charts=(chart,) if len(gaps) else (),
            tables=(tables.shortfall(gaps, f"The CNN family minus plain ViT, from scratch{tail}"), *pairs),
        ),
    )


def _starts(view: pd.DataFrame, starts: tuple[Table, ...], left: list[str]) -> list[Section]:
    """Return what each start and each of the user's own backbones recovers of the shortfall."""
    recovery, own = statistics.recovery(view), statistics.removed(view)
    by_regime = tables.shares(recovery, "Share of the shortfall that a regime recovers", "regime")
    by_own = tables.shares(own, "Share of the shortfall that it removes", "backbone")
    text = tuple(left if len(left) <= MOST_ABOVE_TABLES else ())
    return [
        Section(name="recovery", title="What recovers it", text=text, tables=(by_regime, *starts)),
        Section(name="own", title="Your own backbone", text=tuple(removed(own)), tables=(by_own,)),
    ]


def _details(view: pd.DataFrame) -> list[Section]:
    """Return labels, factors, replicates, and every backbone and cell."""
    rows = statistics.comparable(view, scratch=False)
    labels = (tables.efficiency(statistics.sample_efficiency(view)), tables.curves(statistics.learning_curve(view)))
    varies = (
        tables.factors(statistics.effects(view)),
        tables.variance(statistics.variance_shares(view)),
        tables.power(statistics.power(view)),
    )
    every = (
        tables.ranking(statistics.ranking(view)),
        pairwise.versus(rows[is_from_scratch(rows)]),
        tables.accuracies(rows),
    )
    sound = claims_of.sound(view)
    crossings = ends(statistics.crossover(sound)) if sound["size"].nunique() > 1 else []  # one size is no curve
    text = tuple(filter(None, [meeting(row) for row in crossings[:1]]))
    return [
        Section(name="labels", title="What it costs in labels", text=text, tables=labels),
        Section(name="made-of", title="What accuracy varies with", tables=varies),
        Section(name="cells", title="Every backbone, every cell", tables=every),
    ]


def lines_of_starts(rows: pd.DataFrame, gaps: pd.DataFrame) -> list[tuple[str, pd.DataFrame, str]]:
    """Return (regime, gaps, label) from scratch, then of plain ViT after each start, against the CNNs from scratch.

    rows: comparable rows of every start. gaps: `statistics.gaps` from scratch.
    """
    is_scratch = is_from_scratch(rows)
    reference, vit = statistics.select(rows[is_scratch], "cnn"), statistics.select(rows, "vit")
    lines = [(str(schema.DEFAULTS["regime"]), parts_of.with_recipes(gaps, rows[is_scratch], "cnn"), "ViT")]
    for (regime, protocol, source), part in vit[~is_scratch[vit.index]].groupby(START):
        shown = source if vit.loc[vit["regime"] == regime, "source"].nunique() > 1 else ""
        label = start_label("ViT", regime, protocol, shown)
        label += NOT_TRAINED if flags(part)["untrained"] else ""
        between = parts_of.with_recipes(statistics.between(part, reference), pd.concat([part, reference]), "cnn")
        lines.append((str(regime), between, label))
    return lines


# --- starts ----------------------------------------------------------------------------------------------------------

LOST = "Where a start costs the CNNs accuracy, that loss makes the points smaller, too."


def starts_of(table: pd.DataFrame, view: pd.DataFrame) -> tuple[tuple[Table, ...], list[str]]:
    """Return tables of what each start gains and leaves, and sentences on what is left where both sides start alike."""
    before = table[table["task"].isin(PRETRAINS)]
    for column in schema.CELL[:2]:  # a start at another size in pixels is another start
        before = before[before[column].isin(view[column])]
    gained, alike = statistics.gains(pd.concat([view, before])), statistics.likewise(view)
    shown = [tables.gains(gained)] if len(gained) else []
    is_worse = bool(((gained["family"] == "cnn") & (gained["gain"] < 0)).any())
    shown += [tables.likewise(alike, lost=LOST if is_worse else "")] if len(alike) else []
    return tuple(shown), left_where_alike(alike)


# --- epochs ----------------------------------------------------------------------------------------------------------


def over_epochs(view: pd.DataFrame, curves: Mapping[str, Any], slug: str) -> list[Section]:
    """Return the hold-out over the epochs where runs were monitored: a figure, and its last third beside the test.

    curves: run_id → [steps, accuracies on the hold-out].
    """
    rows = statistics.comparable(view, scratch=False)
    known = rows[rows["run_id"].isin(list(curves))]
    if not len(known):
        return []
    epochs = pd.concat([_epochs(row, curves[str(row["run_id"])]) for row in known.to_dict("records")])
    drawn = tuple(
        charts.epochs(part, prefix=slug, tail=f"-{size}" if epochs["size"].nunique() > 1 else "", size=int(str(size)))
        for size, part in epochs.groupby("size")
    )
    key = ["backbone", *START, "size"]
    by_cell = dict(tuple(known.groupby(key)))
    rows_of_table = []
    for cell, part in epochs[epochs["epoch"] > LAST * epochs["epochs"]].groupby(key):
        backbone, regime, protocol, source, size = cell
        runs = part.groupby(list(schema.REPLICATE))["top1"].agg(["mean", "min", "max"])
        of, test = charts.mean_of(runs.reset_index().rename(columns={"mean": "top1"})), charts.mean_of(by_cell[cell])
        shown = source if several_sources(known, backbone, regime) else ""
        rows_of_table.append(
            (
                word(backbone), word(start_words(regime, protocol, shown)), whole(size), points(of.value),
                tables.between(of.low, of.high), points((runs["max"] - runs["min"]).mean()), points(test.value),
                tables.between(test.low, test.high), number(test.value - of.value, "{:+.1f}", scale=100),
                whole(len(runs)),
            )
        )  # fmt: skip
    columns = (
        ("backbone", ""), ("regime", "where the weights come from"), ("N", "labelled training images"),
        ("hold-out, last third, %", "mean over the last third of the epochs, then over replicates"),
        ("95 % CI", "Student's t over replicates"),
        ("swing", "highest minus lowest epoch within that third, points, mean over replicates"),
        ("test at the end, %", "read once, after the last step"),
        ("95 % CI of it", "Student's t over replicates"), ("test minus hold-out", "points"), ("n", "replicates"),
    )  # fmt: skip
    note = "Nothing is chosen by these curves of the hold-out. Test images are read once, after the last step."
    title = "The last third of the epochs, and the test"
    end = Table(title=title, columns=columns, rows=tuple(rows_of_table), note=tables.noted(note, rows_of_table))
    return [Section(name="epochs", title="Over the epochs, on the hold-out", charts=drawn, tables=(end,))]


def _epochs(row: Mapping[Any, Any], curve: Any) -> pd.DataFrame:
    """Return a run's curve over epochs: steps become epochs by the images seen and the number of labelled ones."""
    steps, accuracies = curve
    whole_run = float(row["samples_seen"]) / float(row["size"])
    named = {name: row[name] for name in ("backbone", "family", "architecture", *START, "size", *schema.REPLICATE)}
    epochs = [step / float(row["steps"]) * whole_run for step in steps]
    return pd.DataFrame({"epoch": epochs, "top1": accuracies, "epochs": whole_run}).assign(**named)

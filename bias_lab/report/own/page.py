"""Report on the user's own images: which classes are confused, how sure that is, and which images most runs get wrong.

It is made from the predictions that the runs keep and from the index of the user's images, so it needs the sweep's
folder. A table alone has no such sections.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bias_lab import catalogue, schema, statistics
from bias_lab.errors import plural
from bias_lab.report import findings, sections
from bias_lab.report.own import images
from bias_lab.report.own.images import Known
from bias_lab.report.pages import Cell, Matrix, Section, Table, Thumbnail, number, points, whole, word
from bias_lab.report.sentences import start_words
from bias_lab.report.tables import between
from bias_lab.statistics.classes import confusion

MOST_IMAGES = 12
MOST_ROWS = 24  # of the table of images, whose first ones are shown as pictures
CELL = [*schema.CELL, "recipe"]
COUNTED = "correct"  # the column that classifications fill, from single labels


def of_folder(folder: Path, table: pd.DataFrame) -> tuple[Section, ...]:
    """Return the sections on each of the user's datasets in a sweep's folder, none for datasets by name.

    table: of the sweep, with a row for each run.
    """
    found: list[Section] = []
    places = images.places(folder)
    if not places:
        return ()
    views = findings.split(table)
    for name, view in views:
        place = places.get(str(view["dataset"].iloc[0]))
        counted = [task for task, row in catalogue.TASKS.items() if row.counted == COUNTED]
        rows = statistics.comparable(view, scratch=False)
        rows = rows[rows["task"].isin(counted) & ~rows["backbone"].map(lambda one: catalogue.traits(str(one)).control)]
        if place is None or not len(rows):
            continue
        known = images.known(folder, place, rows[rows["size"] == rows["size"].max()])
        about = name if len(views) > 1 else ""
        found += of_view(known, sections.slug_of(about), f": {about}" if about else "") if known else []
    return tuple(found)


def of_view(known: Known, slug: str, tail: str) -> list[Section]:
    """Return the sections on one dataset. slug, tail: what tells its anchors and titles from those of others."""
    shown, text = pooled_runs(known)
    K = len(known.classes)
    counts = confusion.confusion(known.labels, known.predicted[shown], K)
    matrix = Matrix(
        title=f"Rows are true classes, columns are predicted ones, added up over {plural(int(shown.sum()), 'run')}",
        classes=known.classes,
        counts=tuple(tuple(int(value) for value in row) for row in counts),
        note="The shade is the share of the row. Blue is right, orange is wrong. Point at a cell for its words.",
    )
    per_class = confusion.per_class(known.labels, known.predicted[shown], K)
    return [
        Section(
            name=f"{slug}classes", title=f"Which classes are confused{tail}", text=(text,), matrices=(matrix,),
            tables=(class_table(per_class, known.classes),), folded=True,
        ),
        most_wrong(known, slug, tail),
    ]  # fmt: skip


def pooled_runs(known: Known) -> tuple[NDArray[np.bool_], str]:
    """Return which runs the confusion matrix adds up, (R,), and a sentence on them.

    They are those of the cell that its hold-out prefers. Without a hold-out they are all, since no test image may
    choose between them.
    """
    runs, size = known.runs, int(known.runs["size"].iloc[0])
    held_out = runs["holdout_top1"] if "holdout_top1" in runs else pd.Series(math.nan, index=runs.index)
    if held_out.isna().all():
        backbones = ", ".join(sorted(runs["backbone"].unique()))
        text = f"All {plural(len(runs), 'run')} with {size:,} labels are added up here ({backbones})."
        return np.ones(len(runs), dtype=bool), text
    cells = runs.set_index(CELL).index
    best = cells == held_out.groupby(cells, sort=False).mean().idxmax()
    one = runs[best].iloc[0]
    who = f"{one['backbone']} ({start_words(one['regime'], one['protocol'], one['source'])})"
    what = f"This is the backbone and start that the hold-out prefers with {size:,} labels: {who}"
    return best, f"{what}, {plural(int(best.sum()), 'run')}."


def class_table(frame: pd.DataFrame, classes: tuple[str, ...]) -> Table:
    """Return the rows of `confusion.per_class`, the class with the lowest recall first."""
    rows = []
    for k, row in frame.sort_values("recall", kind="stable").iterrows():
        taken = int(row["next"])
        other = Cell("–") if taken < 0 else Cell(f"{classes[taken]} ({100 * row['taken']:.0f} %)", float(row["taken"]))
        rows.append(
            (
                word(classes[int(str(k))]), whole(row["images"]), points(row["recall"]),
                between(row["recall_low"], row["recall_high"]), points(row["precision"]),
                between(row["precision_low"], row["precision_high"]), number(row["said"]), other,
            )
        )  # fmt: skip
    interval = "Wilson's, for other test images (other trainings are not in it)"
    columns = (
        ("class", ""), ("test images", "that show this class"),
        ("recall, %", "share of its test images that are predicted as this class"), ("95 % CI", interval),
        ("precision, %", "share that is right of all predictions of this class"), ("95 % CI of it", interval),
        ("predicted", "how often a run predicts this class, mean"),
        ("most often taken for", "the other class that its images are predicted as, with the share of its images"),
    )  # fmt: skip
    return Table(title="Class by class", columns=columns, rows=tuple(rows))


def most_wrong(known: Known, slug: str, tail: str) -> Section:
    """Return the section on the images that most of all runs get wrong."""
    frame = confusion.most_wrong(known.labels, known.predicted, MOST_ROWS)
    runs, size = len(known.runs), int(known.runs["size"].iloc[0])
    backbones = ", ".join(sorted(known.runs["backbone"].unique()))
    text = [
        f"All {plural(runs, 'run')} with {size:,} labels count alike here ({backbones}, whatever they start from). An "
        "image that nearly all of them get wrong in the same way may carry a wrong label."
    ]
    text += [] if len(frame) else ["No test image is predicted wrongly by any of them."]
    records = frame.to_dict("records")
    shown, gone = images.thumbnails(known, [int(row["index"]) for row in records[:MOST_IMAGES]])
    if gone:
        text.append(f"{plural(gone, 'image')} can't be shown, because the files are not where the sweep read them.")
    thumbnails = tuple(
        Thumbnail(data, said(row, known.classes, runs), known.names[int(row["index"])])
        for row, data in zip(records, shown, strict=False)
        if data
    )
    rows = tuple(wrong_row(row, known) for row in records)
    columns = (
        ("image", "its path in your folder or table"), ("true class", "as your data have it"),
        ("wrong in", f"of {plural(runs, 'run')}"), ("predicted most often", "by the runs that get it wrong"),
        ("by", "runs that predict this class"),
    )  # fmt: skip
    return Section(
        name=f"{slug}wrong", title=f"Images most often wrong{tail}", text=tuple(text), thumbnails=thumbnails,
        tables=(Table(title="The images by name", columns=columns, rows=rows),), folded=True,
    )  # fmt: skip


def said(row: dict[Any, Any], classes: tuple[str, ...], runs: int) -> str:
    """Return 'cat, predicted as dog. Wrong in 5 of 6 runs.'."""
    label, guess = classes[row["label"]], classes[row["guess"]]
    return f"{label}, predicted as {guess}. Wrong in {row['wrong']} of {plural(runs, 'run')}."


def wrong_row(row: dict[Any, Any], known: Known) -> tuple[Cell, ...]:
    """Return the row of one image."""
    name = known.names[row["index"]] or f"test image {row['index']}"
    guess, label = known.classes[row["guess"]], known.classes[row["label"]]
    return word(name), word(label), whole(row["wrong"]), word(guess), whole(row["agree"])

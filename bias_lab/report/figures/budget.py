"""Draw accuracy against images seen: how much of a difference is the training budget. One panel a size."""

import math
from typing import Any

import pandas as pd

from bias_lab.report.figures.chart import Chart, Level, Point, Series, percent, span
from bias_lab.report.figures.charts import MARKERS, shortened
from bias_lab.report.figures.palette import HUES

HOLLOW = "Hollow points are not settled: more training may still change them."


def accuracy(
    points: pd.DataFrame, *, levels: tuple[Level, ...] = (), prefix: str = "", hold_out: bool = False
) -> Chart:
    """Return mean accuracy against images seen, one panel for each size.

    points: a row for each backbone, size and budget, with `samples_seen`, `value` (a fraction), `low, high`, `n`,
    `settled`, and the backbone's `family` and `architecture`. levels: lines across panels, whose titles are `title(N)`.
    prefix: of the file's name. hold_out: whether the accuracies are those of tuning.
    """
    names, shorter = shortened(points["backbone"])
    series = []
    for (size, backbone), part in points.sort_values("samples_seen").groupby(["size", "backbone"], sort=True):
        first = part.iloc[0]
        series.append(
            Series(
                label=names[str(backbone)],
                points=tuple(_point(str(backbone), row) for row in part.to_dict("records")),
                hue=str(first["family"]) if first["family"] in HUES else "other",
                marker=MARKERS.get(str(first["architecture"]), "star"),
                bold=bool(first["architecture"] == "vit"),
                panel=title(size),
            )
        )
    what = "hold-out" if hold_out else "test"
    return Chart(
        name=f"{prefix}budget",
        title=f"Accuracy on the {what} against images seen, one panel for each number of labels",
        caption=f"Mean {what} accuracy over replicates against the images seen in training. {HOLLOW}{shorter}",
        series=tuple(series),
        ylabel=f"{what} accuracy, %",
        xlabel="images seen in training (log scale)",
        levels=levels,
    )


def title(size: Any) -> str:
    """Return the title of a size's panel: 'N = 1,000'."""
    return f"N = {int(size):,}"


def _point(backbone: str, row: Any) -> Point:
    low, high = (float(row[end]) if row[end] is not None else math.nan for end in ("low", "high"))
    inside = f" (95 %: {span(low, high)}, n = {int(row['n'])})" if not math.isnan(low) else f" (n = {int(row['n'])})"
    settled = "" if row["settled"] else ", not settled"
    words = f"{backbone} · N = {int(row['size']):,} · {int(row['samples_seen']):,} images seen"
    tip = f"{words} · {percent(row['value'])} %{inside}{settled}"
    return Point(
        x=float(row["samples_seen"]), y=float(row["value"]), low=low, high=high, tip=tip, hollow=not row["settled"]
    )

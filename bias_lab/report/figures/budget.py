"""Draw accuracy against images seen: how much of a difference is the training budget. One panel a size."""

import math
from typing import Any

import pandas as pd

from bias_lab import catalogue, schema
from bias_lab.report.figures.chart import Chart, Level, Point, Series, percent, span
from bias_lab.report.figures.charts import MARKERS, value_dash
from bias_lab.report.figures.labels import shortened
from bias_lab.report.figures.palette import HUES

OF = "vit"  # the architecture whose line is bold
HOLLOW = "Filled points are settled cells. Hollow points are other budgets, or cells that are not settled."


def accuracy(points: pd.DataFrame, *, levels: tuple[Level, ...] = (), prefix: str = "") -> Chart:
    """Return mean test accuracy against images seen, one panel for each size.

    points: rows of `statistics.by_budget`. levels: lines across panels, whose titles are `title(N)`. prefix: of the
    file's name.
    """
    names, shorter = shortened(points["backbone"])
    recipes = sorted(points["recipe"].unique(), key=lambda name: (name != schema.DEFAULTS["recipe"], name))
    series = []
    for (size, backbone, recipe), part in points.groupby(["size", "backbone", "recipe"], sort=True):
        family, architecture = str(part["family"].iloc[0]), catalogue.architecture(str(backbone))
        place = recipes.index(recipe)
        name = names[str(backbone)]
        series.append(
            Series(
                label=f"{name}, {recipe}" if len(recipes) > 1 else name,
                points=tuple(_point(row) for row in part.sort_values("images_seen").to_dict("records")),
                hue=family if family in HUES else "other",
                marker=MARKERS.get(architecture, "star"),
                dash=value_dash(place),
                bold=architecture == OF,
                panel=title(size),
            )
        )
    dashed = any(line.dash and len(line.points) > 1 for line in series)
    several = " The line pattern shows the recipe." if dashed else ""
    return Chart(
        name=f"{prefix}budget-axis",
        title="Test accuracy against images seen, one panel for each number of labels",
        caption=f"Mean test accuracy over replicates against the images seen in training. {HOLLOW}{several}{shorter}",
        series=tuple(series),
        ylabel="test accuracy, %",
        xlabel="images seen in training (log scale)",
        legend=tuple((f"recipe {name}", value_dash(place)) for place, name in enumerate(recipes)) if several else (),
        levels=levels,
    )


def title(size: Any) -> str:
    """Return the title of a size's panel: 'N = 1,000'."""
    return f"N = {int(size):,}"


def _point(row: Any) -> Point:
    low, high = float(row["low"]), float(row["high"])
    inside = f"95 %: {span(low, high)}, " if not math.isnan(low) else ""
    words = f"{row['backbone']}, {row['recipe']} · N = {int(row['size']):,} · {int(row['images_seen']):,} images seen"
    tip = f"{words} · {percent(row['mean'])} % ({inside}n = {int(row['n'])})"
    is_open = not row["settled"]
    tip += ", not settled" if is_open else ""
    return Point(x=float(row["images_seen"]), y=float(row["mean"]), low=low, high=high, tip=tip, hollow=is_open)

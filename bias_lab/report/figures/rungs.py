"""Draw the ladders of tuning: accuracy on the hold-out against images seen. One panel a size."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from bias_lab import catalogue
from bias_lab.report.figures.budget import OF, title
from bias_lab.report.figures.chart import Chart, Point, Series, percent
from bias_lab.report.figures.charts import MARKERS, value_dash
from bias_lab.report.figures.labels import patterned, shortened
from bias_lab.report.figures.palette import HUES
from bias_lab.report.sentences import value_words


def accuracy(rungs: pd.DataFrame, apart: Sequence[str], *, prefix: str = "") -> Chart:
    """Return mean accuracy on the hold-out (a fraction) against images seen, one panel for each size.

    rungs: rows of `statistics.rungs`, at least one. apart: the fields in which cells of one backbone and size differ.
    prefix: of the file's name. The rung whose budget a settled cell takes is a filled point.
    """
    names, shorter = shortened(rungs["backbone"])
    kind_of = [", ".join(value_words(name, row[name]) for name in apart) for row in rungs.to_dict("records")]
    rungs = rungs.assign(kind=kind_of).sort_values("size", kind="stable")
    kinds = list(dict.fromkeys(rungs["kind"]))
    series = []
    for (size, backbone, kind), part in rungs.groupby(["size", "backbone", "kind"], sort=False):
        family, architecture = catalogue.family(str(backbone)), catalogue.architecture(str(backbone))
        series.append(
            Series(
                label=names[str(backbone)],
                points=tuple(_point(row) for row in part.sort_values("samples_seen").to_dict("records")),
                hue=family if family in HUES else "other",
                marker=MARKERS.get(architecture, "star"),
                dash=value_dash(kinds.index(kind)),
                bold=architecture == OF,
                panel=title(size),
            )
        )
    several = patterned(series, "how they were trained") if len(kinds) > 1 else ""
    return Chart(
        name=f"{prefix}ladders",
        title="Accuracy on the hold-out against images seen, rung by rung",
        caption="Mean accuracy on the hold-out over tuning replicates, at the best learning rate of a small budget. "
        f"The filled point of a line is its settled budget; a line without one is not settled.{several}{shorter}",
        series=tuple(series),
        ylabel="accuracy on the hold-out, %",
        xlabel="images seen in training (log scale)",
        legend=tuple((kind, value_dash(place)) for place, kind in enumerate(kinds)) if len(kinds) > 1 else (),
    )


def _point(row: Any) -> Point:
    settled = bool(row["is_chosen"]) and bool(row["settled"])
    kind = f", {row['kind']}" if row["kind"] else ""
    words = f"{row['backbone']}{kind} · N = {int(row['size']):,} · {int(row['samples_seen']):,} images seen"
    tip = f"{words} · {percent(row['holdout_top1'])} % (n = {int(row['n'])}){', settled' if settled else ''}"
    return Point(x=float(row["samples_seen"]), y=float(row["holdout_top1"]), tip=tip, hollow=not settled)

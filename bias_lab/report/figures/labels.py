"""Name the lines of figures, backbones without what they have in common, and starts; and say what their looks mean."""

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import pandas as pd

from bias_lab import catalogue, schema
from bias_lab.report.figures.chart import Series, one_size
from bias_lab.report.replicates import NOT_TRAINED
from bias_lab.statistics.conditions import BEFORE, SEEN, UNTRAINED


def several_sources(rows: pd.DataFrame, backbone: Hashable, regime: Hashable) -> bool:
    """Return whether a backbone has runs of one regime from several sources, so that words must name the source."""
    return bool(rows.loc[(rows["backbone"] == backbone) & (rows["regime"] == regime), "source"].nunique() > 1)


def shortened(backbones: Iterable[str]) -> tuple[dict[str, str], str]:
    """Return backbone → its name in labels, and a sentence on the ending that was left out (`_micro`), or ''.

    A user's factory is named by its function alone.
    """
    names = sorted(set(backbones))
    listed = [name for name in names if name in catalogue.BACKBONES and not catalogue.traits(name).control]
    endings = {name.rsplit("_", 1)[-1] if "_" in name else "" for name in listed}
    ending = f"_{endings.pop()}" if len(listed) > 1 and len(endings) == 1 and "" not in endings else ""
    short = {n: n.removesuffix(ending) if n in listed else n.rsplit(":", 1)[-1] for n in names}
    return short, f" Names are shown without their ending {ending}." if ending else ""


def start_label(name: str, regime: Any, protocol: Any, source: Any = "") -> str:
    """Return a line's label: 'vit', 'vit + mae', 'vit + mae (knn), pool', 'vit (untrained, knn)'."""
    is_scratch = regime == schema.DEFAULTS["regime"]
    label = name if is_scratch else f"{name} + {regime}"
    if protocol != schema.DEFAULTS["protocol"]:
        untrained = "untrained, " if is_scratch and catalogue.traits(name).learns else ""
        label += f" ({untrained}{str(protocol).replace('_', ' ')})"
    return f"{label}, {source}" if source else label


def label_of(part: pd.DataFrame, rows: pd.DataFrame, names: Mapping[str, str]) -> str:
    """Return the label of the line of one backbone after one start, marked where not every pretraining trained.

    part: its rows. rows: of the figure, among which a source is named where there are several. names: backbone → in a
    label. A pretraining of zero steps is a control, which is not meant to train.
    """
    backbone, regime, protocol, source = part.iloc[0][["backbone", *schema.START]]
    label = start_label(
        names[str(backbone)], regime, protocol, source if several_sources(rows, backbone, regime) else ""
    )
    if UNTRAINED not in part:
        return label
    meant = part[BEFORE + SEEN].ne(0) if BEFORE + SEEN in part else True
    return label + NOT_TRAINED if (part[UNTRAINED].astype(bool) & meant).any() else label


def looks(series: Iterable[Series], shows: str) -> str:
    """Return a caption's sentences on intervals and looks. shows: what a line pattern stands for.

    At one size there are no lines, and the name of a row says it.
    """
    bars = "are 95 % intervals of the mean (Student's t). The colour shows the family"
    if one_size(series):
        return f"Bars {bars} and the marker the backbone."
    return f"Bands, or bars at lone points, {bars}, the marker the backbone, and the line pattern {shows}."


def patterned(series: Iterable[Series], shows: str) -> str:
    """Return a caption's sentence on line patterns, with a space before it, '' where there are no lines."""
    return "" if one_size(series) else f" The line pattern shows {shows}."

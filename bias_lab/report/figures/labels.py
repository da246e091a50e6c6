"""Name the lines of figures: backbones without what they have in common, and starts."""

from collections.abc import Hashable, Iterable
from typing import Any

import pandas as pd

from bias_lab import catalogue, schema


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

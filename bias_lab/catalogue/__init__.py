"""List every name that the lab knows, as plain data. Planning and `--help` read these tables without importing torch.

A row says what a thing is and what it can take. The function that its `factory` or `module` names is imported by a
worker alone.
"""

from bias_lab.catalogue.backbones import (
    BACKBONES,
    FAMILIES,
    OPEN_BELOW,
    STEMS,
    Backbone,
    architecture,
    choose_patch,
    choose_stem,
    choose_window,
    family,
    is_own,
    nearest,
)
from bias_lab.catalogue.datasets import DATASETS, SHAPES, Dataset, common_origin, dataset, shapes
from bias_lab.catalogue.interventions import (
    INTERVENTIONS,
    Intervention,
    check_intervention,
    intervention,
    intervention_words,
)
from bias_lab.catalogue.protocols import PROTOCOLS, Protocol
from bias_lab.catalogue.regimes import (
    FRACTALS,
    REGIMES,
    SOURCES,
    TARGET_SOURCES,
    WEIGHT_FILES,
    Regime,
    check_regime,
    check_source,
)
from bias_lab.catalogue.tasks import TASKS, Task

__all__ = [
    "BACKBONES",
    "DATASETS",
    "FAMILIES",
    "FRACTALS",
    "INTERVENTIONS",
    "OPEN_BELOW",
    "PROTOCOLS",
    "REGIMES",
    "SHAPES",
    "SOURCES",
    "STEMS",
    "TARGET_SOURCES",
    "TASKS",
    "WEIGHT_FILES",
    "Backbone",
    "Dataset",
    "Intervention",
    "Protocol",
    "Regime",
    "Task",
    "architecture",
    "check_intervention",
    "check_regime",
    "check_source",
    "choose_patch",
    "choose_stem",
    "choose_window",
    "common_origin",
    "dataset",
    "family",
    "intervention",
    "intervention_words",
    "is_own",
    "nearest",
    "shapes",
]

"""List every name that the lab knows, as plain data. Planning and `--help` read these tables without importing torch.

A row says what a thing is and what it can take. The function that its `factory` or `module` names is imported by a
worker alone.
"""

from bias_lab.catalogue.backbones import (
    ARCHITECTURES,
    BACKBONES,
    FAMILIES,
    OPEN_BELOW,
    Architecture,
    Backbone,
    Sides,
    architecture,
    check_patch,
    choose_patch,
    choose_stem,
    choose_window,
    family,
    is_own,
    nearest,
    sides,
    traits,
)
from bias_lab.catalogue.datasets import DATASETS, SHAPES, Dataset, Masks, common_origin, dataset, image_side, shapes
from bias_lab.catalogue.engines import ENGINES, Engine, engine
from bias_lab.catalogue.heads import HEADS, Head, check_head, head_of, head_words
from bias_lab.catalogue.interventions import (
    INTERVENTIONS,
    Intervention,
    check_intervention,
    intervention,
    intervention_words,
)
from bias_lab.catalogue.masks import REFUSED, check_masks
from bias_lab.catalogue.optimizers import OPTIMIZERS, Optimizer
from bias_lab.catalogue.priors import PRIORS, Prior, check_priors, join_priors, parse_priors, prior_words
from bias_lab.catalogue.protocols import PROTOCOLS, Protocol, check_protocol
from bias_lab.catalogue.regimes import (
    FRACTALS,
    POOL,
    REGIMES,
    SOURCES,
    SUBSET,
    TARGET_SOURCES,
    WEIGHT_FILES,
    Regime,
    check_regime,
    check_source,
)
from bias_lab.catalogue.tasks import TASKS, Task, check_task

__all__ = [
    "ARCHITECTURES",
    "BACKBONES",
    "DATASETS",
    "ENGINES",
    "FAMILIES",
    "FRACTALS",
    "HEADS",
    "INTERVENTIONS",
    "OPEN_BELOW",
    "OPTIMIZERS",
    "POOL",
    "PRIORS",
    "PROTOCOLS",
    "REFUSED",
    "REGIMES",
    "SHAPES",
    "SOURCES",
    "SUBSET",
    "TARGET_SOURCES",
    "TASKS",
    "WEIGHT_FILES",
    "Architecture",
    "Backbone",
    "Dataset",
    "Engine",
    "Head",
    "Intervention",
    "Masks",
    "Optimizer",
    "Prior",
    "Protocol",
    "Regime",
    "Sides",
    "Task",
    "architecture",
    "check_head",
    "check_intervention",
    "check_masks",
    "check_patch",
    "check_priors",
    "check_protocol",
    "check_regime",
    "check_source",
    "check_task",
    "choose_patch",
    "choose_stem",
    "choose_window",
    "common_origin",
    "dataset",
    "engine",
    "family",
    "head_of",
    "head_words",
    "image_side",
    "intervention",
    "intervention_words",
    "is_own",
    "join_priors",
    "nearest",
    "parse_priors",
    "prior_words",
    "shapes",
    "sides",
    "traits",
]

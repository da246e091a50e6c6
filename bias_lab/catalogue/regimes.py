"""Every regime and source by name, as plain data, and the checks of what goes together."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from bias_lab.catalogue.backbones import BACKBONES, architecture, is_own, traits
from bias_lab.catalogue.datasets import DATASETS, dataset
from bias_lab.errors import UserError, unknown

WEIGHT_FILES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")  # endings of a file of weights
POOL, SUBSET = "pool", "subset"  # sources: all training images of the run's dataset, or its labelled ones
TARGET_SOURCES = (POOL, SUBSET)
FRACTALS = "fractals"  # a source that data/readers/fractals.py draws from formulas
SOURCES = (*TARGET_SOURCES, FRACTALS)  # beside datasets and a user's folders


@dataclass(frozen=True, slots=True, kw_only=True)
class Regime:
    """Where a run's weights come from before it sees labelled images.

    starts_from: the field of `Run` that names those weights, `pretraining` or `weights`. Random weights have ''.
    module: `module:class` of its pretraining, a `bias_lab.training.job.Method`, or '' if it has none.
    labels: whether its pretraining sees labels. sources: the only ones that it takes, empty for all.
    architectures: those that can take it, empty for all. why: the reason why others can't.
    fields: the fields of `Run` that it alone reads, with the value of each where a user gives none.
    pictures: the names of the pictures that its method can show.
    """

    name: str
    words: str  # for people, in a report's sentence
    starts_from: str = ""
    module: str = ""
    labels: bool = False
    sources: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    why: str = ""
    fields: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    pictures: tuple[str, ...] = ()


_CLASSIFIER = "bias_lab.training.protocols.finetune:Classifier"

REGIMES = {
    regime.name: regime
    for regime in (
        Regime(name="scratch", words="training from scratch"),
        Regime(name="weights", words="starting from weights", starts_from="weights"),
        Regime(
            name="supervised",
            words="supervised pretraining",
            starts_from="pretraining",
            module=_CLASSIFIER,
            labels=True,
        ),
        Regime(
            name="mae",
            words="MAE",
            starts_from="pretraining",
            module="bias_lab.training.regimes.mae:MAE",
            architectures=("vit",),
            why="MAE encodes the visible patches alone, which needs a plain ViT",
            fields=MappingProxyType({"mask_ratio": 0.75}),
            pictures=("reconstruction",),
        ),
        Regime(
            name="simmim",
            words="SimMIM",
            starts_from="pretraining",
            module="bias_lab.training.regimes.simmim:SimMIM",
            fields=MappingProxyType({"mask_ratio": 0.6}),
            pictures=("reconstruction",),
        ),
        Regime(
            name="dino",
            words="DINO",
            starts_from="pretraining",
            module="bias_lab.training.regimes.dino:DINO",
            fields=MappingProxyType({"teacher_schedule": ""}),
            pictures=("attention", "features"),
        ),
        Regime(
            name="formula",
            words="pretraining on drawn fractals",
            starts_from="pretraining",
            module=_CLASSIFIER,
            labels=True,
            sources=(FRACTALS,),
        ),
    )
}

FROM_WEIGHTS = next(row.name for row in REGIMES.values() if row.starts_from == "weights")


def check_regime(backbone: str, regime: str) -> None:
    """Raise UserError if the regime is unknown or the backbone can't take it, with the reason and those that can."""
    if regime not in REGIMES:
        raise unknown("regime", regime, REGIMES)
    row, kind = REGIMES[regime], architecture(backbone)
    if row.starts_from and not traits(backbone).learns:
        able = [other.name for other in REGIMES.values() if not other.starts_from]
        raise UserError(
            f"{backbone} has no weights, so it can't take the regime '{regime}'", f"it takes {', '.join(able)}"
        )
    if row.architectures and kind not in row.architectures and not is_own(backbone):
        able = [name for name, b in BACKBONES.items() if b.architecture in row.architectures]
        others = [r.name for r in REGIMES.values() if r.module and (not r.architectures or kind in r.architectures)]
        raise UserError(
            f"{backbone} can't take the regime '{regime}': {row.why}",
            f"backbones that can: {', '.join(able)}",
            f"{backbone} takes {', '.join(others)}",
        )


def check_source(regime: str, source: str) -> None:
    """Raise UserError for an unknown source, or one that the regime can't take."""
    row, known = REGIMES[regime], (*SOURCES, *DATASETS)
    if source.startswith("shapes:"):
        dataset(source)  # raises for unknown factors
    elif source and source not in known and not source.startswith(("folder:", "table:")):
        raise unknown("source", source, known)
    if row.labels and source in ("", *TARGET_SOURCES):
        raise UserError(
            f"the regime '{regime}' pretrains with labels, so the target ('{source or POOL}') can't be its source",
            f"give {FRACTALS}, or a dataset that shares no image with the target",
        )
    if row.sources and source not in row.sources:
        raise UserError(f"the regime '{regime}' can't pretrain on '{source}'", f"give {' or '.join(row.sources)}")

"""Every regime, protocol and source by name, and what each can take."""

from dataclasses import dataclass

from bias_lab.catalogue.backbones import BACKBONES, architecture, is_own
from bias_lab.catalogue.datasets import DATASETS, dataset
from bias_lab.errors import UserError, unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Regime:
    """Where weights come from. module: `module:class` of its pretraining, empty if there is none to run."""

    name: str
    module: str = ""
    labels: bool = False  # whether its pretraining sees labels
    architectures: tuple[str, ...] = ()  # those that can take it; empty: all
    why: str = ""  # why the others can't
    starts_from: str = ""  # field of `Run` that names what a run of the regime starts from: pretraining, weights
    mask_ratio: float = 0.0  # share of the patches that its pretraining masks by default; 0: it masks none


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How labelled images are used. trains: whether the backbone's weights change."""

    name: str
    trains: bool = False
    needs_learning_rate: bool = False


REGIMES = {
    regime.name: regime
    for regime in (
        Regime(name="scratch"),
        Regime(name="weights", starts_from="weights"),
        Regime(
            name="supervised",
            module="bias_lab.training.classification:Classifier",
            labels=True,
            starts_from="pretraining",
        ),
        Regime(
            name="mae",
            module="bias_lab.training.regimes.mae:MAE",
            architectures=("vit",),
            why="its encoder sees visible patches alone, which needs a plain ViT",
            starts_from="pretraining",
            mask_ratio=0.75,
        ),
        Regime(
            name="simmim", module="bias_lab.training.regimes.simmim:SimMIM", starts_from="pretraining", mask_ratio=0.6
        ),
        Regime(name="dino", module="bias_lab.training.regimes.dino:DINO", starts_from="pretraining"),
        Regime(
            name="formula", module="bias_lab.training.classification:Classifier", labels=True, starts_from="pretraining"
        ),
    )
}

WEIGHT_FILES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")  # endings of a file of weights
PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(name="finetune", trains=True, needs_learning_rate=True),
        Protocol(name="linear_probe"),
        Protocol(name="knn"),
    )
}
FRACTALS = "fractals"  # a source that is drawn from formulas, data/fractals.py
SOURCES = ("pool", "subset", FRACTALS)  # beside datasets, and folders of one's own


def check_regime(backbone: str, regime: str) -> None:
    """Raises UserError if the regime is unknown, or the backbone can't take it: why, and which can."""
    if regime not in REGIMES:
        raise unknown("regime", regime, REGIMES)
    row, kind = REGIMES[regime], architecture(backbone)
    if row.architectures and kind not in row.architectures and not is_own(backbone):
        able = [name for name, b in BACKBONES.items() if b.architecture in row.architectures]
        others = [r.name for r in REGIMES.values() if r.module and (not r.architectures or kind in r.architectures)]
        raise UserError(
            f"{backbone} can't take the regime '{regime}': {row.why}",
            f"which can: {', '.join(able)}",
            f"{backbone} takes {', '.join(others)}",
        )


def check_source(regime: str, source: str) -> None:
    """Raises UserError for a source that nobody knows, or one that the regime can't take."""
    known = (*SOURCES, *DATASETS)
    if source.startswith("shapes:"):
        dataset(source)  # refuses what can't be drawn
    elif source and source not in known and not source.startswith(("folder:", "table:")):
        raise unknown("source", source, known)
    if REGIMES[regime].labels and source in ("", "pool", "subset"):
        raise UserError(
            f"the regime '{regime}' pretrains with labels, and source '{source or 'pool'}' is the target itself",
            f"{FRACTALS}, or a dataset that shares no image with the target",
        )
    if regime == "formula" and source != FRACTALS:
        raise UserError(f"the regime 'formula' pretrains on images that are drawn, not on '{source}'", FRACTALS)

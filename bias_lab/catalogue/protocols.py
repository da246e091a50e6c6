"""Every protocol by name, as plain data: how a run uses its labelled images."""

from dataclasses import dataclass

from bias_lab.catalogue.backbones import BACKBONES, traits
from bias_lab.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How labelled images are used. module: `module:class` of its method, a `bias_lab.training.job.Method`.

    trains: whether the backbone takes optimizer steps. Without them the method is a `bias_lab.training.job.Probe`.
    needs_learning_rate: whether a run must have one. stores_classifier: whether a run's weights hold its classifier.
    """

    name: str
    module: str
    trains: bool = False
    needs_learning_rate: bool = False
    stores_classifier: bool = True


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="finetune",
            module="bias_lab.training.protocols.finetune:Classifier",
            trains=True,
            needs_learning_rate=True,
        ),
        Protocol(name="linear_probe", module="bias_lab.training.protocols.frozen:LinearProbe"),
        Protocol(name="knn", module="bias_lab.training.protocols.frozen:NearestNeighbours", stores_classifier=False),
    )
}


def check_protocol(backbone: str, protocol: str) -> None:
    """Raise UserError if a protocol would train a backbone that has no weights to train."""
    if PROTOCOLS[protocol].trains and not traits(backbone).learns:
        able = [row.name for row in PROTOCOLS.values() if not row.trains]
        raise UserError(
            f"{backbone} has no weights to train, so the protocol '{protocol}' can't use it",
            f"protocols that can: {', '.join(able)}",
            _beside(backbone),
        )


def _beside(backbone: str) -> str:
    """Return the backbone that is a control like this one and can be trained."""
    able = [name for name, row in BACKBONES.items() if traits(name).control and traits(name).learns]
    return f"a control that can be trained: {', '.join(able)}" if traits(backbone).control else ""

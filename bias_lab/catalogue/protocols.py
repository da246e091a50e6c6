"""Every protocol by name, as plain data: how a run uses its labelled images."""

from dataclasses import dataclass


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

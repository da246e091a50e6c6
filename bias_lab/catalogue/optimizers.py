"""Every optimizer by name, as plain data: how a run's weights follow their gradients."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimizer:
    """One optimizer. module: `module:class` of the object that makes it, a `bias_lab.training.optimizer.Maker`.

    words: what people call it.
    """

    name: str
    module: str
    words: str


OPTIMIZERS = {
    row.name: row
    for row in (
        Optimizer(name="adamw", module="bias_lab.training.optimizer:AdamW", words="AdamW"),
        Optimizer(name="muon", module="bias_lab.training.optimizer:Muon", words="Muon"),
    )
}

"""What a prior must offer, and how the priors of a run become objects.

A prior changes a backbone in two moments. Before the model is built it may set keywords of the model. Afterwards it may
change the model in place, for example replace a part or fill in an embedding. All keywords are set first. The changes
then follow those of stem and stochastic depth, in the order of the run's text.
"""

import importlib
from typing import Any, Protocol

from torch import nn

from bias_lab import catalogue


class Prior(Protocol):
    """One assumption about images, as a change of a backbone that can take it (`catalogue.PRIORS` says which)."""

    def __init__(self, number: int | None) -> None:
        """Take the number behind the prior's name, None for a prior without one."""

    def keywords(self) -> dict[str, Any]:
        """Return the keywords of the model that the prior sets, timm's names."""

    def change(self, model: nn.Module) -> None:
        """Change a model that was built with the keywords, in place."""


def made(text: str) -> list[Prior]:
    """Return the objects of a run's priors, in the order of the text. Raises UserError as `parse_priors` does."""
    priors: list[Prior] = []
    for name, number in catalogue.parse_priors(text):
        module, _, kind = catalogue.PRIORS[name].module.partition(":")
        prior: Prior = getattr(importlib.import_module(module), kind)(number)
        priors.append(prior)
    return priors

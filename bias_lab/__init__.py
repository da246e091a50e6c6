"""bias_lab: how much accuracy does an image model lose for lack of inductive bias, and what buys it back?

`import bias_lab as bl` costs nothing: each name below is imported at its first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bias_lab.backbones import create
    from bias_lab.definition import Experiment, Run, grid, recipe
    from bias_lab.models.load import load
    from bias_lab.models.run import run
    from bias_lab.results import open_results
    from bias_lab.training.modules.datamodule import DataModule
    from bias_lab.training.protocols.finetune import Classifier
    from bias_lab.training.protocols.segmenter import Segmenter
    from bias_lab.training.regimes.dino import DINO
    from bias_lab.training.regimes.mae import MAE
    from bias_lab.training.regimes.simmim import SimMIM

__version__ = "0.1.0"
__all__ = [
    "DINO",
    "MAE",
    "Classifier",
    "DataModule",
    "Experiment",
    "Run",
    "Segmenter",
    "SimMIM",
    "create",
    "grid",
    "load",
    "open_results",
    "recipe",
    "run",
]

_HOMES = {
    "Classifier": "training.protocols.finetune",
    "DINO": "training.regimes.dino",
    "DataModule": "training.modules.datamodule",
    "MAE": "training.regimes.mae",
    "Segmenter": "training.protocols.segmenter",
    "SimMIM": "training.regimes.simmim",
    "run": "models.run",
    "Experiment": "definition",
    "Run": "definition",
    "create": "backbones",
    "grid": "definition",
    "load": "models.load",
    "open_results": "results",
    "recipe": "definition",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'bias_lab' has no attribute '{name}'")
    return getattr(importlib.import_module(f"bias_lab.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

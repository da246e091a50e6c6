"""Compute one run from Python, as `bias-lab train` does from the command line."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from bias_lab import ledger
from bias_lab.definition import Experiment, Run, Settings, run_id
from bias_lab.models import load
from bias_lab.planning import learning_rates, request
from bias_lab.planning import plan as planning
from bias_lab.planning.plan import Request
from bias_lab.training.execute import execute, preflight

SINGLE = "single runs"  # the profile of a plan that an experiment file did not make


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A finished run. run: as it was computed, with its learning rate. path: its folder. metrics: see `result.json`."""

    run: Run
    path: Path
    metrics: Mapping[str, Any]

    def model(self) -> nn.Module:
        """Return the trained model, on the CPU and in evaluation mode. `bl.load(path)` has its classes and more."""
        return load.load(self.path).model


def run(
    definition: Run, out: str | Path = "results/run", *, data: str | Path | None = None, device: str = "auto"
) -> Result:
    """Compute a run in `out/runs/<id>` and return its result. A finished run is only read.

    definition: a learning rate that is None is filled in from the tuned ones. data: a folder or a table of own images,
    in place of the run's dataset.
    Raises UserError for a run that can't be done, and for one without a tuned learning rate.

    >>> import tempfile
    >>> from bias_lab.definition import Run
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = run(Run(dataset="fashion_mnist_12k", backbone="resnet_micro", size=20, samples_seen=64), folder)
    >>> 0 <= result.metrics["top1"] <= 1
    True
    """
    folder = Path(out)
    own = (
        None if data is None else request.own_data(Path(data), folder, image_size=definition.image_size, skip_bad=False)
    )
    asked = Request(tune=None, data=own)
    experiment = Experiment(question="", runs=(definition,))
    plan = planning.arrange(experiment, "run", SINGLE, folder, asked, planning.rates(folder))
    if plan.pending:
        raise learning_rates.untuned(definition)
    planned = plan.runs[-1]
    settings = Settings(wandb=False, device=device, experiment="run", command="bias_lab.run")
    planning.write_places(plan, folder)
    preflight([planned], folder, settings)
    result = execute(planned, folder, settings)
    return Result(run=planned, path=ledger.run_folder(folder, run_id(planned)), metrics=result["metrics"])

"""Make the method of a run: that of its protocol or regime, or the user's own, `package.module:Class` or `:loss`."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from torch import nn

from bias_lab.definition import Run, pretrains
from bias_lab.errors import UserError, unknown
from bias_lab.training import job
from bias_lab.training.job import Method

LABELLED = ("encoder", "trained", "training_step", "configure_optimizers")
PRETRAINING = ("encoder", "diagnostics", "is_untrained", "training_step", "configure_optimizers")


def make(run: Run, backbone: nn.Module, module: str) -> Method:
    """Return the method of a run. module: `module:class` of the lab's, for a run without an own one.

    A run that starts from a pretraining names that pretraining's method, so the lab's fine-tunes it. An own class is
    made by its `from_run(run, backbone)` and has the interface of `job.Predictor`, or of `job.Pretrainer`. Subclasses
    of the lab's modules have both. Any other callable is a loss of logits (B, K) and targets, for `Classifier`.

    Raises UserError for a method that is not there or lacks a part.
    """
    kind = job.load(module)
    if not run.method or run.pretraining:
        return cast(Method, kind.from_run(run, backbone))
    own = find(run.method)
    if not isinstance(own, type):
        if pretrains(run):
            raise UserError(f"method {run.method} is a function, and a pretraining needs a class with from_run")
        return cast(Method, kind.from_run(run, backbone, loss=own))
    if not hasattr(own, "from_run"):
        what = f"method {run.method} has no from_run(run, backbone)"
        raise UserError(what, remedy="add it as a classmethod, or subclass bias_lab.Classifier")
    method = own.from_run(replace(run, method="", method_source=""), backbone)
    missing = [part for part in (PRETRAINING if pretrains(run) else LABELLED) if not hasattr(method, part)]
    if missing:
        raise UserError(
            f"method {run.method} lacks {', '.join(missing)}", "see bias_lab.training.job for the interface"
        )
    return cast(Method, method)


def find(name: str) -> Any:
    """Return the object that `package.module:name` names. Raises UserError if it is not there."""
    module_name, _, attribute = name.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise  # the user's module exists, and one of its own imports does not
        what = f"no module '{module_name}' for the method '{name}'"
        raise UserError(what, remedy="install it, or start in its folder") from error
    found = getattr(module, attribute, None)
    if not callable(found):
        defined = {key: value for key, value in vars(module).items() if getattr(value, "__module__", "") == module_name}
        names = [key for key, value in defined.items() if callable(value) and not key.startswith("_")]
        raise unknown(f"method of {module_name}", attribute, names)
    return found

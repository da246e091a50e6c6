"""Keep a finished run as a small folder, to send or to commit, with its weights in half precision.

`python -m bias_lab.models.keep RUN_FOLDER FOLDER` writes one.
"""

import shlex
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from bias_lab import catalogue, ledger, results
from bias_lab.definition import from_json
from bias_lab.errors import UserError
from bias_lab.training.weights.files import read_safetensors

ABOUT = "kept.json"  # what the copy is: its run, its experiment, whether its budget is settled


def keep(run_folder: str | Path, folder: str | Path) -> Path:
    """Write a small copy of a finished run and return its folder, which `bl.load` reads as it reads the run's.

    run_folder: `OUT/runs/RUN_ID` of a sweep. folder: the copy's, whose files are replaced.
    The copy has `run.json`, `result.json`, `weights.safetensors` and `kept.json`. Predictions, metrics and the log stay
    behind. Arrays of several dimensions are stored in float16, and biases, norms and their statistics as they are.
    Loading gives a float32 model, whose accuracy may differ from the run's by a few images. In the run's command, an
    absolute path is shortened to its last part.
    Raises UserError for a folder without a result, and for weights that float16 can't hold.
    """
    here, out = Path(run_folder), Path(folder)
    if not (here / ledger.RESULT).is_file():
        raise UserError(f"{here} is not the folder of a finished run: it has no {ledger.RESULT}",
                        remedy="give FOLDER/runs/RUN_ID")  # fmt: skip
    if here.resolve() == out.resolve():
        raise UserError(f"{here} is the run itself", "the copy needs another folder")
    result = ledger.read_json(here / ledger.RESULT)
    tensors = {name: smaller(name, one) for name, one in read_safetensors(here / ledger.WEIGHTS).tensors.items()}
    (out / ledger.RESULT).unlink(missing_ok=True)  # the copy is not finished until its last file is there
    ledger.write_bytes(out / ledger.WEIGHTS, save(tensors))
    ledger.write_json(out / ledger.RUN, ledger.read_json(here / ledger.RUN))
    ledger.write_json(out / ABOUT, about(here, result))
    ledger.write_json(out / ledger.RESULT, result | {"command": without_places(result.get("command", ""))})
    return out


def smaller(name: str, tensor: Tensor) -> Tensor:
    """Return a tensor as the copy stores it. name: of the tensor, for the message.

    >>> smaller("weight", torch.ones(2, 2)).dtype, smaller("bias", torch.ones(2)).dtype
    (torch.float16, torch.float32)
    """
    if tensor.ndim < 2 or not tensor.is_floating_point():
        return tensor.contiguous()
    half = tensor.half().contiguous()
    if not torch.equal(half.isfinite(), tensor.isfinite()):
        raise UserError(f"the weights '{name}' hold values beyond 65,504", "float16 can't hold them")
    return half


def about(here: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Return what `kept.json` says of a run: its id, what it is, and whether its budget is settled.

    kind: `tuning trial`, `settled cell`, `pretraining` or `run`. here: the run's folder. result: its `result.json`.
    """
    if (here / ABOUT).is_file():  # a copy of a copy
        return dict(ledger.read_json(here / ABOUT))
    run = from_json(result["run"])
    task, sweep = catalogue.TASKS[run.task], here.resolve().parent.parent
    known = results.evidence(sweep, result["run_id"], run)
    kind = "settled cell" if known.get("settled") else "run"
    kind = "pretraining" if task.pretrains else "tuning trial" if task.evaluated_on != "test" else kind
    experiment = results.read_plan(sweep).get("experiment", "")
    return {"run_id": result["run_id"], "kind": kind, "experiment": experiment, "weights": "float16"} | known


def without_places(command: str) -> str:
    """Return a command line in which an absolute path is shortened to its last part.

    >>> without_places("bias-lab sweep tuning --out /home/me/tuning")
    'bias-lab sweep tuning --out tuning'
    """
    return shlex.join(Path(word).name if word.startswith("/") else word for word in shlex.split(command))


if __name__ == "__main__":
    sys.stdout.write(f"{keep(*sys.argv[1:3])}\n")

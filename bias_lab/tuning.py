"""Describe a row of the tuning table (`tuned.json`): its key, and whether its rate is at the edge of the grid.

A row holds the fields of `KEY`, `learning_rate`, and `trials`, a list of {learning_rate, samples_seen, top1, n}: the
mean accuracy on the hold-out over n replicates for every learning rate and number of images seen that was tried. A row
whose budget was searched too holds `samples_seen`, the settled budget, `holdout_top1` there, `holdout_gain`, the mean
gain of the last doubling (fractions), and `settled`. Older rows lack `samples_seen` and `n` in their trials.
"""

from collections.abc import Mapping
from typing import Any, Literal

from bias_lab.catalogue import TASKS
from bias_lab.definition import DEFAULTS, Run

REQUIRED, ANY = "required", "any"
FULL = 0.99  # accuracy on the hold-out above which no doubling can gain the point that a ladder asks for
KEY = {  # field of `Run` that a learning rate depends on → what a row without that field stands for
    "dataset": REQUIRED,
    "backbone": REQUIRED,
    "backbone_source": ANY,
    "recipe": REQUIRED,
    "regime": REQUIRED,
    "size": REQUIRED,
    "intervention": "",
    "optimizer": DEFAULTS["optimizer"],
    "priors": DEFAULTS["priors"],
    "source": ANY,
    "protocol": DEFAULTS["protocol"],
    "head": DEFAULTS["head"],
    "patch": ANY,
    "method": DEFAULTS["method"],
    "method_source": ANY,
    "task": DEFAULTS["task"],  # the one that is tuned, also for its trials: accuracy says nothing of a mean IoU
}
ARM = tuple(name for name in KEY if name not in ("dataset", "size"))  # what a row of another dataset or size shares


# task of a trial → the task that it tunes
_TUNED_BY = {task.trials: name for name, task in TASKS.items() if task.trials and task.trials != name}


def value(cell: Run | Mapping[str, Any], name: str) -> Any:
    """Return a field of the key from a run or from a row. One that is open or absent gives an empty text.

    The task of a trial is the one that it tunes.
    """
    if isinstance(cell, Run):
        found = _TUNED_BY.get(cell.task, cell.task) if name == "task" else getattr(cell, name)
        return "" if found is None else found
    return cell.get(name, "" if KEY[name] in (REQUIRED, ANY) else KEY[name])


def key(cell: Run | Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the values of `KEY` of a run or of a row: what identifies a tuned cell.

    >>> key({"dataset": "mnist", "backbone": "vit_micro", "recipe": "plain", "regime": "scratch", "size": 100})
    ('mnist', 'vit_micro', '', 'plain', 'scratch', 100, '', 'adamw', '', '', 'finetune', '', '', '', '', 'classify')
    """
    return tuple(value(cell, name) for name in KEY)


def missing(row: Mapping[str, Any]) -> list[str]:
    """Return the names of the fields that a row must have and has not, sorted."""
    return sorted({"learning_rate", *(name for name, absent in KEY.items() if absent == REQUIRED)} - set(row))


def malformed(table: Any) -> str:
    """Return what is wrong with the first wrong part of a tuning table as JSON gives it, or an empty string.

    >>> malformed({"rows": [{"dataset": "mnist"}]})
    'row 1 lacks backbone, learning_rate, recipe, regime, size'
    """
    if not isinstance(table, dict) or not isinstance(table.get("rows", []), list):
        return "it is no table of rows"
    for number, row in enumerate(table.get("rows", []), 1):
        if not isinstance(row, dict):
            return f"row {number} is no set of fields"
        if lacking := missing(row):
            return f"row {number} lacks {', '.join(lacking)}"
        trials = row.get("trials", [])
        if not isinstance(trials, list) or not all(isinstance(trial, dict) for trial in trials):
            return f"row {number} has no list of trials"
        for name in _NUMBERS & row.keys():
            if not _is_positive(row[name]):
                return f"row {number} has the {name} {row[name]!r}, which is no positive number"
        for trial in trials:
            if not _is_positive(trial.get("learning_rate")):
                return f"row {number} has a trial whose learning_rate is no positive number"
        for name in KEY.keys() - _NUMBERS:
            if not isinstance(row.get(name, ""), str):
                return f"row {number} has the {name} {row[name]!r}, which is no text"
    return ""


_NUMBERS = {"size", "learning_rate", "samples_seen", "patch"}


def _is_positive(number: Any) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and 0 < number < _MOST


_MOST = 2.0**53


def words(cell: Run | Mapping[str, Any]) -> str:
    """Return the arm of a run or of a row in words: its key without dataset and size. Defaults are left out.

    >>> words({"backbone": "vit_micro", "regime": "scratch", "recipe": "plain", "size": 100})
    'vit_micro scratch'
    """
    return " ".join(parts(cell))


def parts(cell: Run | Mapping[str, Any]) -> tuple[str, ...]:
    """Return the arm of a run or of a row, a part for each field: the backbone, the start, then what is no default.

    A source that is named like its backbone is left out, and a patch that the recipe names.

    >>> parts({"backbone": "vit_micro", "regime": "scratch", "patch": 8, "size": 100})
    ('vit_micro', 'scratch', 'patch 8 px')
    """
    first = ("backbone", "regime")
    of_recipe = ("patch",) if "patch=" in str(value(cell, "recipe")) else ()
    others = (name for name in ARM if name not in (*first, *of_recipe, "backbone_source", "method_source", "task"))
    told = ["", str(value(cell, "backbone"))]
    changed = [name for name in others if value(cell, name) not in (*told, DEFAULTS[name])]
    said = (f"patch {value(cell, name)} px" if name == "patch" else str(value(cell, name)) for name in changed)
    return (*(str(value(cell, name)) for name in first), *said)


def at_grid_edge(row: Mapping[str, Any]) -> Literal["smallest", "largest", ""]:
    """Return which edge of the tried learning rates a row's chosen rate is at, empty if at neither.

    >>> at_grid_edge({"learning_rate": 0.01, "trials": [{"learning_rate": 0.003}, {"learning_rate": 0.01}]})
    'largest'
    """
    tried = sorted({float(trial["learning_rate"]) for trial in row.get("trials", ())})
    if len(tried) < 2 or row["learning_rate"] not in (tried[0], tried[-1]):
        return ""
    return "smallest" if row["learning_rate"] == tried[0] else "largest"


def at_first_rung(row: Mapping[str, Any]) -> bool:
    """Return whether a row's budget is the smallest that was tried at its learning rate. False where none was searched.

    >>> trials = [{"learning_rate": 0.01, "samples_seen": images} for images in (16_000, 32_000)]
    >>> at_first_rung({"learning_rate": 0.01, "samples_seen": 16_000, "trials": trials})
    True
    """
    climbed = [trial for trial in row.get("trials", ()) if trial["learning_rate"] == row["learning_rate"]]
    tried = [trial["samples_seen"] for trial in climbed if "samples_seen" in trial]
    return bool(tried) and row.get("samples_seen") == min(tried)

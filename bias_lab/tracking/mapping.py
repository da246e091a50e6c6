"""Map a run to W&B, the same way while it trains and when it is exported: names, config, summary, media.

Config and summary are derived from `bias_lab.schema`. What a whole experiment has beside its runs is a `Study`, which
the report computes and the caller hands in.
"""

import base64
import functools
import netrc
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bias_lab import ledger, schema
from bias_lab.catalogue import PROTOCOLS, TASKS
from bias_lab.definition import DEFAULTS
from bias_lab.errors import UserError

PROJECT = "bias_lab"
MODES = {  # WANDB_MODE, older names included → the mode, empty: not decided
    "": "",
    "online": "online",
    "run": "online",
    "shared": "online",
    "offline": "offline",
    "dryrun": "offline",
    "disabled": "disabled",
}
ASKED = {"off": "disabled"}  # words of `--wandb` whose mode has another name
TRUTH = {
    **dict.fromkeys(("", "0", "false", "no", "off", "n", "f"), False),
    **dict.fromkeys(("1", "true", "yes", "on", "y", "t"), True),
}
QUIET: dict[str, Any] = dict(
    silent=True, console="off", x_disable_stats=True, disable_git=True, disable_code=True
)  # of wandb.Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What the W&B run and the dashboard of an experiment hold beside its runs.

    name, profile, question, note, command: those of its plan. rows: statistics, each row with `size` and keys such as
    `shortfall/scratch`. summary: verdicts and answers. answers: the sentences at the top of the report. figures: key →
    (PNG, caption). pictures: names of the pictures that runs drew. is_monitored: whether runs have a hold-out curve.
    task: of its runs, whose metric the panels show.
    """

    name: str
    question: str
    profile: str = ""
    note: str = ""
    command: str = ""
    rows: tuple[Mapping[str, Any], ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    answers: tuple[str, ...] = ()
    figures: Mapping[str, tuple[bytes, str]] = field(default_factory=dict)
    pictures: tuple[str, ...] = ()
    is_monitored: bool = False
    task: str = schema.DEFAULTS["task"]

    def logged_keys(self) -> tuple[str, ...]:
        """Return the keys of the statistics in order, `size` left out."""
        return tuple(dict.fromkeys(key for row in self.rows for key in row if key != "size"))


def mode(asked: str | None = None) -> str:
    """Return `online`, `offline` or `disabled`. W&B is offline unless somebody asks for it, and a key does not ask.

    A variable that disables W&B comes first, then what was asked for on the command line, then WANDB_MODE. Raises
    UserError for a value of W&B's variables that is not understood.
    """
    switched_off = os.environ.get("WANDB_DISABLED", "").strip().lower()
    if switched_off not in TRUTH:
        raise _not_understood("WANDB_DISABLED", "true or false")
    if TRUTH[switched_off]:
        return "disabled"
    given = os.environ.get("WANDB_MODE", "").strip().lower()
    if given not in MODES:
        raise _not_understood("WANDB_MODE", "online, offline or disabled")
    if MODES[given] == "disabled":
        return "disabled"
    return ASKED.get(asked or "", asked) or MODES[given] or "offline"


def line(asked: str | None, folder: Path) -> str:
    """Return a line that says where the runs of a sweep are recorded. asked: what the command line asks for.

    Raises UserError where W&B is to be online and has no key.
    """
    now = mode(asked)
    if now == "online":
        if not is_logged_in():
            raise UserError("W&B has no key on this machine", remedy="wandb login, or leave --wandb online out")
        return "W&B is online: each run is uploaded while it trains"
    if now == "offline":
        return f"W&B is offline: runs are written to {folder}/wandb, and nothing is uploaded (--wandb online uploads)"
    why = "" if asked == "off" else " by WANDB_DISABLED or WANDB_MODE"
    return f"W&B is off{why}: nothing is recorded there"


def _not_understood(variable: str, allowed: str) -> UserError:
    what = f"the environment variable {variable} is '{os.environ[variable]}'"
    return UserError(what, f"{allowed} is understood", "correct or unset it")


def is_logged_in() -> bool:
    """Return whether W&B would find a key without asking, in the environment or in netrc."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return any("wandb" in host for host in netrc.netrc().hosts)
    except (FileNotFoundError, netrc.NetrcParseError):
        return False


def job_type(task: str, protocol: str) -> str:
    """Return `pretrain`, `tune`, `finetune`, or `probe` for what leaves the backbone as it is."""
    if TASKS[task].evaluated_on != "test":
        return task
    return protocol if PROTOCOLS[protocol].trains else "probe"


def config_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what defines a run, as W&B's config: identity, axes, recipe and facts that have a value."""
    return _values(row, [name for name in schema.COLUMNS if name not in _summary()])


def summary_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outcome of a run as W&B's summary: its status, its metrics, and what it took."""
    return _values(row, _summary())


@functools.cache
def _summary() -> tuple[str, ...]:
    """Return the columns that are known when a run has ended, without those that are packed in bits."""
    spent = {n for n, c in schema.COLUMNS.items() if c.origin == "result" and c.kind in ("whole", "real")}
    ended = {"status", *schema.named("metric"), *spent}
    return tuple(name for name in schema.COLUMNS if name in ended)


def _values(row: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    plain = {name: schema.as_json(row[name]) for name in names if name in row and schema.COLUMNS[name].kind != "bits"}
    return {name: value for name, value in plain.items() if value is not None}


def summary(row: Mapping[str, Any], reason: str = "") -> dict[str, Any]:
    """Return the outcome of a run: `summary_of`, the test images that were right (base64), why it failed.

    row: the columns of the table, `correct` as bytes.
    """
    bits = {"correct": base64.b64encode(row["correct"]).decode()} if isinstance(row.get("correct"), bytes) else {}
    return summary_of(row) | bits | ({"reason": reason} if reason else {})


def media(here: Path, result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the pictures that a run drew, and its accuracy (or IoU) by class, as W&B shows them.

    here: the run's folder. result: the content of its `result.json`, {} for a run without one.
    """
    import wandb

    shown: dict[str, Any] = {f"pictures/{path.stem}": wandb.Image(str(path)) for path in sorted(here.glob("*.png"))}
    accuracies, names = result.get("metrics", {}).get("per_class"), result.get("facts", {}).get("class_names")
    if accuracies and names:
        pairs: list[Any] = [list(pair) for pair in zip(names, accuracies, strict=True)]
        task = TASKS.get(str(result.get("run", {}).get("task", DEFAULTS["task"])), TASKS[str(DEFAULTS["task"])])
        shown["per_class"] = wandb.Table(columns=["class", task.by_class], data=pairs)
    return shown


def result_of(here: Path) -> Mapping[str, Any]:
    """Return a run's `result.json`, {} where there is none."""
    path = here / ledger.RESULT
    return dict(ledger.read_json(path)) if path.is_file() else {}

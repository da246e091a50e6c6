"""What a sweep's folder holds, as the terminal shows it: `bias-lab status` and `bias-lab show`."""

import fcntl
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from bias_lab import ledger
from bias_lab.definition import Run, from_json, label, run_id
from bias_lab.errors import UserError, plural
from bias_lab.planning.find_run import definition

_CODE = re.compile(rb'"code": "([0-9a-f]*)"')


def states(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """run_id → finished, failed, diverged, started or missing; one look at `runs/` spares a missing run its own."""
    runs = folder / "runs"
    there = {entry.name for entry in runs.iterdir()} if runs.is_dir() else set()
    return {name: ledger.state(folder, name) if name in there else "missing" for name in names}


def codes(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """run_id → hash of the lab's source that a finished run's result was made with; only those finished."""
    found = {}
    for name, state in states(folder, names).items():
        if state == "finished":
            match = _CODE.search((ledger.run_folder(folder, name) / ledger.RESULT).read_bytes())
            found[name] = match[1].decode() if match else ""
    return found


def held(folder: Path) -> bool:
    """Whether a sweep is at work on the folder now."""
    lock = folder / ledger.LOCK
    if not lock.is_file():
        return False
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A folder's state: the plan, each run's state, why runs failed, how many come from other code."""

    folder: Path
    head: dict[str, Any]
    runs: dict[str, Run]
    states: dict[str, str]
    failures: dict[str, dict[str, Any]]
    other_code: int
    at_work: bool

    def counts(self) -> Counter[str]:
        return Counter(self.states.values())


def read(folder: Path) -> Status:
    """Raises UserError if the folder is not a sweep's."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}", remedy="give the --out of a sweep")
    path = folder / ledger.EXPERIMENT
    if not path.is_file():
        raise UserError(f"{folder} holds no sweep: {ledger.EXPERIMENT} is missing", remedy="give the --out of a sweep")
    head = ledger.read_json(path)
    runs = {entry["run_id"]: from_json(entry["run"]) for entry in head.pop("runs")}
    known = states(folder, runs)
    failures = {
        name: ledger.read_json(ledger.run_folder(folder, name) / ledger.FAILURE)
        for name, state in known.items()
        if state in ("failed", "diverged")
    }
    now = ledger.code_hash()
    other = sum(code != now for code in codes(folder, runs).values())
    return Status(
        folder=folder, head=head, runs=runs, states=known, failures=failures, other_code=other, at_work=held(folder)
    )


def headline(status: Status) -> str:
    """`small_data, laptop: 84 of 96 finished, 2 running, 1 failed, 9 missing`."""
    count = status.counts()
    parts = [f"{count['finished']} of {len(status.states)} finished"]
    if count["started"]:
        parts.append(f"{count['started']} {'running' if status.at_work else 'interrupted'}")
    if count["failed"]:
        parts.append(f"{count['failed']} failed")
    if count["diverged"]:
        parts.append(f"{count['diverged']} diverged")
    if count["missing"]:
        parts.append(f"{count['missing']} missing")
    return f"{status.head['experiment']}, {status.head['profile']}: {', '.join(parts)}"


def advice(status: Status) -> list[str]:
    """What to type next, if anything."""
    count, lines = status.counts(), []
    command = status.head.get("command", "")
    if status.at_work:
        lines.append("a sweep is at work on this folder")
    elif count["missing"] or count["started"]:
        lines.append(f"go on with: {command}" if command else "run the sweep again to go on")
    if count["failed"]:
        lines.append("failed runs are tried again with --retry-failed")
    if status.other_code:
        lines.append(other_code(status.other_code))
    return lines


def other_code(count: int) -> str:
    """The line about finished runs that other code of the lab has made."""
    was, them = ("was", "it") if count == 1 else ("were", "them")
    made = f"{plural(count, 'finished run')} {was} made by other code of the lab than today's"
    return f"{made}; --redo-changed runs {them} again"


def table(status: Status) -> tuple[list[str], list[list[str]]]:
    """Header and rows: a row a backbone and what else tells cells apart, a column a size; cells `done/planned`."""
    sizes = sorted({run.size for run in status.runs.values()})
    cells: dict[str, dict[int, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for name, run in status.runs.items():
        cells[row_name(run)][run.size][status.states[name]] += 1
    header = ["", *(f"N={size}" if size else "pool" for size in sizes)]
    rows = [[name, *(_cell(by_size.get(size)) for size in sizes)] for name, by_size in cells.items()]
    return header, rows


def row_name(run: Run) -> str:
    """What a row of the table stands for: all that tells cells apart but the size."""
    parts = [run.backbone, run.regime]
    if run.protocol != "finetune":
        parts.append(run.protocol)
    if run.recipe != "plain":
        parts.append(run.recipe)
    if run.intervention:
        parts.append(run.intervention)
    if run.budget != 1:
        parts.append(f"{run.budget:g}x")
    if run.task != "classify":
        parts.append(run.task)
    return " ".join(parts)


def _cell(count: Counter[str] | None) -> str:
    if count is None:
        return ""
    failed = count["failed"] + count["diverged"]
    return f"{count['finished']}/{count.total()}" + (f" {failed}✗" if failed else "")


# --- one run ---------------------------------------------------------------------------------------------------------


def changed_fields(run: Run) -> dict[str, Any]:
    """The fields that differ from their default, in the definition's order."""
    return {field.name: getattr(run, field.name) for field in fields(Run) if getattr(run, field.name) != field.default}


def describe(folder: Path, name: str) -> dict[str, Any]:
    """All that is known of a run: its definition, state, result or failure, and how to repeat it."""
    run = definition(folder, name)
    state = ledger.state(folder, name)
    here = ledger.run_folder(folder, name)
    told: dict[str, Any] = {
        "run_id": name,
        "label": label(run),
        "state": state,
        "fields": changed_fields(run),
        "repeat": shlex.join(["bias-lab", "train", "--like", str(here), "--out", f"{folder}-repeat"]),
    }
    if state == "finished":
        told["result"] = ledger.read_json(here / ledger.RESULT)
    elif state in ("failed", "diverged"):
        told["failure"] = ledger.read_json(here / ledger.FAILURE)
    if run_id(run) != name:
        told["other_version"] = f"this version of the lab names it {run_id(run)}"
    return told


def sections(told: dict[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """What `describe` gives, as titled rows of text for the terminal."""
    made = [("definition (the rest is at its default)", [(key, str(value)) for key, value in told["fields"].items()])]
    if "result" in told:
        result = told["result"]
        metrics = {key: value for key, value in result["metrics"].items() if key != "per_class" and value is not None}
        made.append(("result", [(key, _value(value)) for key, value in metrics.items()]))
        facts = {key: value for key, value in result["facts"].items() if key != "class_names" and value is not None}
        made.append(("facts", [(key, _value(value)) for key, value in facts.items()]))
        names = ("steps", "samples_seen", "seconds", "attempts", "device", "commit", "command")
        made.append(("made by", [(key, _value(result[key])) for key in names if result.get(key) not in (None, "")]))
    if "failure" in told:
        failure = told["failure"]
        last = [("", line) for line in failure.get("log", "").splitlines()[-12:]]
        made.append(("failure", [("reason", failure["reason"]), ("exception", failure["exception"])]))
        if last:
            made.append(("end of its log", last))
    made.append(("repeat it", [("", told["repeat"])]))
    return made


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(_value(item) for item in value)
    return str(value)

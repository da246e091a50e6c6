"""Read the state of a sweep's folder and of one run, and put it in words: `bias-lab status` and `bias-lab show`."""

import operator
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from bias_lab import ledger, schema
from bias_lab.catalogue import TASKS
from bias_lab.definition import Run, from_json, to_json
from bias_lab.errors import UserError, plural
from bias_lab.planning.find_run import definition
from bias_lab.planning.find_run import matching as labels_with
from bias_lab.planning.ladder import measured

_CODE = re.compile(rb'"code": "([0-9a-f]*)"')
_HEAD = 4096  # bytes of a result that hold its code hash, unless it has many classes


def states(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Return run_id → `finished`, `failed`, `diverged`, `started` or `missing`.

    `runs/` is listed once, so that missing runs cost no system call.
    """
    runs = folder / "runs"
    there = {entry.name for entry in runs.iterdir()} if runs.is_dir() else set()
    return {name: ledger.state(folder, name) if name in there else "missing" for name in names}


def codes(folder: Path, finished: Iterable[str]) -> dict[str, str]:
    """Return run_id → hash of the package's source that made the result, for the ids of finished runs."""
    return {name: _code(ledger.run_folder(folder, name) / ledger.RESULT) for name in finished}


def _code(result: Path) -> str:
    with result.open("rb") as file:
        match = _CODE.search(file.read(_HEAD)) or _CODE.search(result.read_bytes())
    return match[1].decode() if match else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The state of a sweep's folder.

    head: experiment.json without its runs. runs, states, failures: by run_id. A failure is the content of failure.json.
    other_code: number of finished runs that came from different code. at_work: whether a sweep is running on it.
    """

    folder: Path
    head: Mapping[str, Any]
    runs: Mapping[str, Run]
    states: Mapping[str, str]
    failures: Mapping[str, Mapping[str, Any]]
    other_code: int
    at_work: bool

    def counts(self) -> Counter[str]:
        """Return the number of runs in each state."""
        return Counter(self.states.values())


def check_folder(folder: Path) -> None:
    """Raise UserError if there is no such folder."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}", remedy="give the --out of a sweep")


def read(folder: Path) -> Status:
    """Return the state of a sweep's folder. Raise UserError if it is not one."""
    check_folder(folder)
    path = folder / ledger.EXPERIMENT
    if not path.is_file():
        raise UserError(f"{folder} holds no sweep: {ledger.EXPERIMENT} is missing", remedy="give the --out of a sweep")
    head = ledger.read_json(path)
    runs = {entry["run_id"]: from_json(entry["run"]) for entry in head.pop("runs")}
    known = states(folder, runs)
    failed = [name for name, state in known.items() if state in ("failed", "diverged")]
    finished = [name for name, state in known.items() if state == "finished"]
    now = ledger.code_hash()
    return Status(
        folder=folder,
        head=head,
        runs=runs,
        states=known,
        failures={name: ledger.read_json(ledger.run_folder(folder, name) / ledger.FAILURE) for name in failed},
        other_code=sum(code != now for code in codes(folder, finished).values()),
        at_work=bool(ledger.holder(folder)),
    )


def headline(status: Status) -> str:
    """Return the counts: `small_data, laptop: 84 of 96 finished, 2 running, 1 failed, 9 missing`."""
    count = status.counts()
    started = "running" if status.at_work else "interrupted"
    words = {"started": started, "failed": "failed", "diverged": "diverged", "missing": "missing"}
    parts = [f"{count[state]} {word}" for state, word in words.items() if count[state]]
    done = f"{count['finished']} of {len(status.states)} finished"
    return f"{status.head['experiment']}, {status.head['profile']}: {', '.join([done, *parts])}"


def advice(status: Status) -> list[str]:
    """Return lines that say what to do next, none if all is done."""
    count, lines = status.counts(), []
    command = status.head.get("command", "")
    if status.at_work:
        lines.append("a sweep is running on this folder")
    elif count["missing"] or count["started"]:
        lines.append(f"to continue: {command}" if command else "to continue, run the sweep again")
    if count["failed"]:
        lines.append("to try failed runs again, add --retry-failed")
    if status.other_code:
        lines.append(other_code(status.other_code))
    return lines


def other_code(count: int) -> str:
    """Return the line about `count` finished runs that came from different code of the package."""
    return f"{plural(count, 'finished run')} came from different code of the lab; to repeat them, add --redo-changed"


def table(status: Status) -> tuple[list[str], list[list[str]]]:
    """Return the header and rows of the table of cells. See `cells`."""
    return cells(status.runs, status.states)


def cells(runs: Mapping[str, Run], states: Mapping[str, str]) -> tuple[list[str], list[list[str]]]:
    """Return the header and rows of the table of cells. runs, states: by run_id.

    Each row is what `row_name` tells apart, each column a size. An entry is `finished/planned`, with the number of
    failed runs if there are any: `3/5 1✗`.
    """
    sizes = sorted({run.size for run in runs.values()})
    count: dict[str, dict[int, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    names: dict[Any, str] = {}  # kept because a label takes 50 microseconds
    for name, run in runs.items():
        kind = _KIND(run)
        if kind not in names:
            names[kind] = row_name(run)
        count[names[kind]][run.size][states[name]] += 1
    header = ["", *(f"N={size}" if size else "pool" for size in sizes)]
    rows = [[name, *(_cell(by_size.get(size)) for size in sizes)] for name, by_size in count.items()]
    return header, rows


def matching(status: Status, words: str) -> list[str]:
    """Return the ids of the runs whose label, id or state has all these words, in the order of the plan.

    Where none has them as they are written, the beginning of a name is enough (`bias_lab.planning.find_run`).
    """
    labels = schema.labels(status.runs.values())
    return labels_with({name: f"{name} {status.states[name]} {labels[name]}" for name in status.runs}, words)


def listing(status: Status, names: Iterable[str]) -> tuple[list[str], list[list[str]]]:
    """Return the header and rows of a list of runs: id, state, result in the metric of its task, and label."""
    labels = schema.labels(status.runs.values())
    rows = []
    for name in names:
        run = status.runs[name]
        score = measured(run, status.folder) if status.states[name] == "finished" else None
        words = f"{TASKS[run.task].metric_words} {score:.3f}" if score is not None else ""
        rows.append([name, status.states[name], words, labels[name]])
    return ["id", "state", "result", "run"], rows


def weights_line(folder: Path) -> str:
    """Return a line that says where the weights of a run lie."""
    return f"weights: {ledger.run_folder(folder, 'ID') / ledger.WEIGHTS}"


_REST = ("draw", "seed", "learning_rate", "pretraining")  # fields that make no row of their own
_KIND = operator.attrgetter(*(field.name for field in fields(Run) if field.name not in _REST))


def row_name(run: Run) -> str:
    """Return the words of a row of the table of cells: the run's label without size, replicate and learning rate."""
    words = schema.label(replace(run, learning_rate=None)).removesuffix(f" draw {run.draw} seed {run.seed}")
    return words.replace(f" N={run.size}", "", 1)


def _cell(count: Counter[str] | None) -> str:
    if count is None:
        return ""
    failed = count["failed"] + count["diverged"]
    return f"{count['finished']}/{count.total()}" + (f" {failed}✗" if failed else "")


# --- one run ---------------------------------------------------------------------------------------------------------


def describe(folder: Path, name: str) -> dict[str, Any]:
    """Return what is known of the run with the id `name`.

    Its keys are run_id, label, state, fields (those not at their default) and repeat (a command). A finished run has a
    result and the path of its weights too, and a failed one a failure (the content of the file).
    Raise UserError if the folder does not define the run.
    """
    run = definition(folder, name)
    state = ledger.state(folder, name)
    here = ledger.run_folder(folder, name)
    known: dict[str, Any] = {
        "run_id": name,
        "label": schema.label(run),
        "state": state,
        "fields": to_json(run),
        "repeat": shlex.join(["bias-lab", "train", "--like", str(here), "--out", f"{folder}-repeat"]),
    }
    if state == "finished":
        known["result"] = ledger.read_json(here / ledger.RESULT)
        known["weights"] = str(here / ledger.WEIGHTS)
    elif state in ("failed", "diverged"):
        known["failure"] = ledger.read_json(here / ledger.FAILURE)
    return known


def sections(known: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return what `describe` returned as sections for the terminal: (title, rows of (key, value))."""
    parts = [("definition (other fields have their defaults)", [(k, str(v)) for k, v in known["fields"].items()])]
    if "result" in known:
        result = known["result"]
        names = ("steps", "samples_seen", "seconds", "attempts", "device", "commit", "command")
        parts.append(("result", _rows(result["metrics"], omit="per_class")))
        parts.append(("facts", _rows(result["facts"], omit="class_names")))
        parts.append(("weights", [("", known["weights"])]))
        parts.append(("made by", _rows({key: result.get(key) for key in names if result.get(key) != ""})))
    if "failure" in known:
        failure = known["failure"]
        parts.append(("failure", [("reason", failure["reason"]), ("exception", failure["exception"])]))
        if last := failure.get("log", "").splitlines()[-12:]:
            parts.append(("end of its log", [("", line) for line in last]))
    return [*parts, ("to repeat it (a repeated run has the same id)", [("", known["repeat"])])]


def _rows(values: Mapping[str, Any], omit: str = "") -> list[tuple[str, str]]:
    return [(key, _value(value)) for key, value in values.items() if value is not None and key != omit]


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(_value(item) for item in value)
    return str(value)

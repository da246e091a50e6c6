"""Read folders and table files as one typed table: `open_results`, `read`, `write`. No torch.

The run folders are the source of truth. `results.parquet` is made from them as a cache: a row is read again only if
its `result.json` is younger than the table. What a report needs beyond the rows (the question, the plan, the tuning,
curves, why runs failed) lies in the file's metadata under the key `bias_lab`.
"""

import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bias_lab import catalogue, ledger, rows, schema, tuning
from bias_lab.definition import Run, from_json
from bias_lab.errors import UserError
from bias_lab.rows import Curve, finished_row, row_of

EVIDENCE = tuple(name for name in schema.named(origin="plan") if name != "experiment")  # known from the plan alone
_KEY = b"bias_lab"  # of the file's metadata


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlan:
    """What was asked, and which runs answer it.

    run_ids: the planned ones in order. earlier: those of them that an earlier plan had. labels: run_id → words.
    recipes: name → field → the values that it had. names: identity of own data (`folder:…`) → what its place is called.
    """

    experiment: str = ""
    question: str = ""
    note: str = ""
    profile: str = ""
    command: str = ""
    version: str = ""
    run_ids: tuple[str, ...] = ()
    earlier: frozenset[str] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)
    recipes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """The results of one study: a table with a row for each run, and what belongs beside it.

    table: the columns of `schema.COLUMNS`, typed, in the order of the plan, with rows for pretraining and failed runs.
    tuned: the tuning table (`rows`, `command`). curves: run_id → [steps, accuracies on the hold-out] of monitored runs.
    reasons: run_id → why a run failed.
    """

    table: pd.DataFrame
    plan: StudyPlan = StudyPlan()
    tuned: Mapping[str, Any] = field(default_factory=dict)
    curves: Mapping[str, Curve] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)

    def missing(self) -> list[str]:
        """Return the planned run_ids without a row, in the order of the plan."""
        there = set(self.table["run_id"])
        return [name for name in self.plan.run_ids if name not in there]


def open_results(*places: "str | Path | Results") -> Results:
    """Return one study from folders of a sweep, `results.parquet` files, or results that were read before.

    Parts of one study are joined: a run that several parts hold counts once, a finished one before a failed one. The
    question is that of the first part that has one. Raises UserError for a place that is not there or not readable.
    """
    if not places:
        raise UserError("no results were given", "give a sweep's folder or a results.parquet")
    parts = [place if isinstance(place, Results) else read(Path(place)) for place in places]
    return parts[0] if len(parts) == 1 else _joined(parts)


def read(place: Path) -> Results:
    """Return the results of a sweep's folder, brought up to date, or of one table file.

    Raises UserError if nothing is there, or a file in it is damaged.
    """
    place = Path(place)
    if place.is_file():
        return _read_table(place)[0]
    if not place.is_dir():
        raise UserError(f"there is no folder {place}", remedy="give the --out of a sweep, or a results.parquet")
    return _collect(place)[0]


def write(folder: Path) -> Path:
    """Bring `results.parquet` of a folder up to date, whole or not at all. The same runs give the same rows."""
    return save(*_collect(Path(folder)), Path(folder) / ledger.TABLE)


def save(results: Results, read_at: int, path: Path) -> Path:
    """Write results as a table file. read_at: the time in nanoseconds at which the folder was read (0: none was)."""
    plan = asdict(results.plan) | {"earlier": sorted(results.plan.earlier)}
    rest = {name: dict(getattr(results, name)) for name in ("tuned", "curves", "reasons")}
    beside = {"plan": plan, "read_at": read_at, **rest}
    arrow = pa.Table.from_pandas(results.table, preserve_index=False)
    metadata = {**(arrow.schema.metadata or {}), _KEY: json.dumps(beside, ensure_ascii=False).encode()}
    with ledger.replacing(path) as temporary:
        pq.write_table(arrow.replace_schema_metadata(metadata), temporary, compression="zstd")
    return path


def empty() -> pd.DataFrame:
    """Return a table without rows, its columns typed."""
    return typed(pd.DataFrame({name: [] for name in schema.COLUMNS}))


def typed(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with every column of the schema in order and of its type. A missing column holds no values.

    Text is never null: what is missing is ''. Whole numbers and flags are nullable. Further columns follow unchanged.
    """
    columns: dict[str, Any] = {}
    for name, column in schema.COLUMNS.items():
        given = table[name] if name in table else pd.Series([None] * len(table), index=table.index, dtype="object")
        if column.kind == "text":
            given = given.astype("object").where(given.notna(), "")
        columns[name] = given if column.kind == "bits" else given.astype(schema.PANDAS[column.kind])  # type: ignore[call-overload]
    others = {str(name): table[name] for name in table.columns if name not in columns}
    return pd.DataFrame({**columns, **others}, index=table.index)


# --- folders ---------------------------------------------------------------------------------------------------------


def read_plan(folder: Path) -> dict[str, Any]:
    """Return `experiment.json` as it stands, or {} where there is none (a table alone, a folder of single runs)."""
    path = Path(folder) / ledger.EXPERIMENT
    return dict(ledger.read_json(path)) if path.is_file() else {}


def evidence(folder: Path, run_id: str, run: Run) -> dict[str, Any]:
    """Return what a folder's plan says of one run: the columns of `EVIDENCE`, None where it says nothing.

    The plan has a line for each run, so one line is parsed, however many there are.
    """
    path = folder / ledger.EXPERIMENT
    lines = path.read_bytes().splitlines() if path.is_file() else []
    line = next((line for line in lines if f'"run_id": "{run_id}"'.encode() in line), b"{}")
    entry = json.loads(line.rstrip(b","))
    known = {name: entry.get(name) for name in EVIDENCE}
    return known if known["comparison"] else known | {"comparison": rows.comparison_of(run.task, run.protocol)}


def _collect(folder: Path) -> tuple[Results, int]:
    """Return a folder's results and the time at which it was read, in nanoseconds."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}", remedy="give the --out of a sweep")
    began = time.time_ns()  # taken before the first read, so that what is written meanwhile counts as younger
    path = folder / ledger.TABLE
    old, read_at = _read_table(path) if path.is_file() else (Results(table=empty()), 0)
    about = read_plan(folder)
    plan = replace(_study_plan(about) if about else old.plan, names=_names(folder) or old.plan.names)
    tuned = _read_tuned(folder, about) or old.tuned
    runs = folder / "runs"
    names = sorted(e.name for e in runs.iterdir() if not e.name.startswith(".")) if runs.is_dir() else []
    if not names:
        return replace(old, table=_ordered(old.table, plan), plan=plan, tuned=tuned), began
    fresh, keep, reasons, curves = _read_runs(folder, names, about, old, read_at)
    kept = old.table[old.table["run_id"].isin(keep)]
    table = typed(pd.DataFrame.from_records(fresh)) if fresh else empty()
    table = pd.concat([kept, table], ignore_index=True) if len(kept) and fresh else kept if len(kept) else table
    table = _ordered(with_evidence(table, about), plan)
    there = set(table["run_id"])
    curves = {name: curve for name, curve in {**old.curves, **curves}.items() if name in there}
    return Results(table=table, plan=plan, tuned=tuned, curves=curves, reasons=reasons), began


def _read_runs(
    folder: Path, names: Iterable[str], about: Mapping[str, Any], old: Results, read_at: int
) -> tuple[list[dict[str, Any]], set[str], dict[str, str], dict[str, Curve]]:
    """Return the rows that were read now, the run_ids whose old rows still hold, reasons and curves."""
    known = set(old.table.loc[old.table["status"] == "finished", "run_id"])
    families = {entry["run_id"]: entry.get("family", "") for entry in about.get("runs", [])}
    fresh: list[dict[str, Any]] = []
    keep: set[str] = set()
    reasons: dict[str, str] = {}
    curves: dict[str, Curve] = {}
    for name in names:
        here = ledger.run_folder(folder, name)
        plan: dict[str, str] = dict(experiment=about.get("experiment", ""), family=families.get(name, ""))
        finished = (here / ledger.RESULT).is_file()
        if finished and name in known and (here / ledger.RESULT).stat().st_mtime_ns < read_at:
            keep.add(name)
        elif finished:
            result = ledger.read_json(here / ledger.RESULT) | {"run_id": name}
            row = finished_row(result, **plan) | rows.of_predictions(here / ledger.PREDICTIONS)
            fresh.append(row)
            metric = catalogue.TASKS[row["task"]].metric
            if row["monitor"] and metric and (curve := rows.curve_of(here / ledger.METRICS, metric)):
                curves[name] = curve
        elif (here / ledger.FAILURE).is_file():
            failure, run = ledger.read_json(here / ledger.FAILURE), from_json(ledger.read_json(here / ledger.RUN))
            begun = ledger.attempts(folder, name) or None
            fresh.append(row_of(name, run, **plan) | {"status": "failed", "attempts": begun})
            reasons[name] = f"{failure.get('reason', 'error')}: {failure.get('exception', '')}".rstrip(": ")
    return fresh, keep, reasons, curves


def with_evidence(table: pd.DataFrame, about: Mapping[str, Any]) -> pd.DataFrame:
    """Return the table with what the plan says of each run: its comparison, and whether its budget is settled.

    about: the content of `experiment.json`. A run that it does not list, or lists without a comparison, has the one of
    a run whose budget was given.
    """
    entries = {entry["run_id"]: entry for entry in about.get("runs", [])}
    records = [entries.get(name, {}) for name in table["run_id"]]
    columns = {name: pd.Series([record.get(name) for record in records], dtype="object") for name in EVIDENCE}
    given = [rows.comparison_of(*pair) for pair in zip(table["task"], table["protocol"], strict=True)]
    columns["comparison"] = columns["comparison"].fillna(pd.Series(given, dtype="object"))
    columns = {name: values.set_axis(table.index) for name, values in columns.items()}
    return typed(table.assign(**columns))


def _ordered(table: pd.DataFrame, plan: StudyPlan) -> pd.DataFrame:
    """Return the rows as the plan has them, then by run_id."""
    places = {name: place for place, name in enumerate(plan.run_ids)}
    place = table["run_id"].map(places).astype(float).fillna(math.inf)
    order = pd.DataFrame({"place": place, "run_id": table["run_id"]}).sort_values(["place", "run_id"], kind="stable")
    return table.loc[order.index].reset_index(drop=True)


def _study_plan(about: Mapping[str, Any]) -> StudyPlan:
    """Return what `experiment.json` says."""
    entries = about.get("runs", [])
    runs = {entry["run_id"]: from_json(entry["run"]) for entry in entries}
    recipes: dict[str, dict[str, list[Any]]] = {}
    for run in runs.values():
        if catalogue.TASKS[run.task].labelled:
            values = recipes.setdefault(run.recipe, {name: [] for name in schema.SETTINGS})
            for name in schema.SETTINGS:
                if getattr(run, name) not in values[name]:
                    values[name].append(getattr(run, name))
    words = {name: about.get(name, "") for name in ("experiment", "question", "note", "profile", "command", "version")}
    words_of = schema.labels(runs.values())
    labels = dict(zip(runs, words_of.values(), strict=True)) if len(words_of) == len(runs) else {}
    earlier = frozenset(entry["run_id"] for entry in entries if entry.get("earlier"))
    return StudyPlan(**words, run_ids=tuple(runs), earlier=earlier, labels=labels, recipes=recipes)


def _names(folder: Path) -> dict[str, str]:
    """Return the last part of the path of each of the user's own data. The path itself is nobody else's business."""
    path = folder / ledger.PLACES
    places = ledger.read_json(path) if path.is_file() else {}
    return {name: Path(place["path"]).name for name, place in places.items() if "path" in place}


def _read_tuned(folder: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tuning table: the rows of `tuned.json` beside the runs, and those that the plan used."""
    path = folder / ledger.TUNED
    beside = dict(ledger.read_json(path)) if path.is_file() else {}
    rows = [*beside.get("rows", []), *about.get("tuned", {}).get("rows", [])]
    once = {tuning.key(row): row for row in reversed(rows)}
    return {**beside, "rows": list(reversed(once.values()))} if once else beside


# --- table files -----------------------------------------------------------------------------------------------------


def _read_table(path: Path) -> tuple[Results, int]:
    """Return a table file's results, and when its folder was read in nanoseconds (0 for a file of another schema)."""
    try:
        arrow = pq.read_table(path)
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} is not a readable table ({first})", remedy="remove it to make it again") from error
    lacking = [name for name in schema.REQUIRED if name not in arrow.column_names]
    if lacking:
        raise UserError(f"{path} has no column '{lacking[0]}'", "a table needs the columns of `schema.REQUIRED`")
    metadata = arrow.schema.metadata or {}
    table = arrow.to_pandas()
    table.attrs = {}
    table = typed(table) if "comparison" in table else with_evidence(typed(table), {})
    if _KEY in metadata:
        beside = json.loads(metadata[_KEY])
        plan = {**beside["plan"], "run_ids": tuple(beside["plan"]["run_ids"])}
        plan["earlier"] = frozenset(plan["earlier"])
        whole = set(schema.COLUMNS) <= set(arrow.column_names)  # else rows are read again, with the new columns
        rest = {name: beside[name] for name in ("tuned", "curves", "reasons")}
        return Results(table=table, plan=StudyPlan(**plan), **rest), beside["read_at"] if whole else 0
    return _from_attrs(table, json.loads(metadata.get(b"pandas", b"{}")).get("attributes") or {}), 0


def _from_attrs(table: pd.DataFrame, attrs: Mapping[str, Any]) -> Results:
    """Return the results of a table that kept its plan in pandas' attrs, as all did before the schema."""
    about = dict(attrs.get("experiment", {}))
    about["run_ids"] = tuple(about.pop("planned", ()))
    about["earlier"] = frozenset(about.get("earlier", ()))
    known = {f.name for f in fields(StudyPlan)}
    overlap = attrs.get("overlap", {})
    if overlap:
        table = table.assign(source_overlap=table["run_id"].map(overlap).astype("Int64"))
    plan = StudyPlan(**{name: value for name, value in about.items() if name in known})
    rest = {name: attrs.get(name, {}) for name in ("tuned", "curves", "reasons")}
    return Results(table=table, plan=plan, **rest)


def _joined(parts: Sequence[Results]) -> Results:
    """Return several parts of a study as one (see `open_results`)."""
    table = pd.concat([part.table for part in parts], ignore_index=True)
    best = table.assign(_failed=table["status"] != "finished").sort_values("_failed", kind="stable")
    table = table.loc[sorted(best.drop_duplicates("run_id").index)]
    head = next((part.plan for part in parts if part.plan.question), parts[0].plan)
    commands = list(dict.fromkeys(part.plan.command for part in parts if part.plan.command))
    plan = replace(
        head,
        command="; ".join(commands),
        run_ids=tuple(dict.fromkeys(name for part in parts for name in part.plan.run_ids)),
        earlier=frozenset().union(*(part.plan.earlier for part in parts)),
        labels={name: words for part in reversed(parts) for name, words in part.plan.labels.items()},
        recipes=_joined_recipes(parts),
        names={name: words for part in reversed(parts) for name, words in part.plan.names.items()},
    )
    finished = set(table.loc[table["status"] == "finished", "run_id"])
    reasons = {name: why for part in parts for name, why in part.reasons.items() if name not in finished}
    curves = {name: curve for part in parts for name, curve in part.curves.items()}
    rows = {json.dumps(row, sort_keys=True): row for part in parts for row in part.tuned.get("rows", [])}
    tuned = {**parts[0].tuned, "rows": list(rows.values())} if rows else dict(parts[0].tuned)
    return Results(table=_ordered(table, plan), plan=plan, tuned=tuned, curves=curves, reasons=reasons)


def _joined_recipes(parts: Sequence[Results]) -> dict[str, dict[str, list[Any]]]:
    """Return name → field → the values that the recipe has in any part."""
    joined: dict[str, dict[str, list[Any]]] = {}
    for part in parts:
        for name, settings in part.plan.recipes.items():
            for setting, value in settings.items():
                known = joined.setdefault(name, {}).setdefault(setting, [])
                known += [one for one in (value if isinstance(value, list) else [value]) if one not in known]
    return joined

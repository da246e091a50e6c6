"""A folder → one table, a row a run (`ledger.COLUMNS`), pretraining and failed runs included. No torch.

The run folders are the truth; `results.parquet` is made from them and serves as a cache: a row is read again only if
its `result.json` is younger than the table. A folder that holds nothing but `results.parquet` is read from that alone,
so what the report needs beyond the columns (the question, the plan, why runs failed) travels in the table's `attrs`.
"""

import json
import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bias_lab import catalogue, ledger
from bias_lab.definition import RECIPES, Run, from_json
from bias_lab.definition import label as label_of
from bias_lab.errors import UserError

_WHOLE = "image_size parameters flops size draw seed steps samples_seen attempts classes test_images".split()
_REAL = "budget top1 top5 macro_f1 ece loss train_top1 train_loss loss_slope seconds learning_rate".split()
_TEXT = [c for c in ledger.COLUMNS if c not in {*_WHOLE, *_REAL, "collapsed", "correct"}]
_SETTINGS = (  # the fields of a run that make up its recipe, the name and the tuned learning rate left out
    "samples_seen batch_size weight_decay warmup label_smoothing flip crop resized_crop trivial_augment randaugment "
    "colour_jitter erasing mixup cutmix repeated_augmentation clip ema precision drop_path layer_decay"
).split()


def collect(folder: Path) -> pd.DataFrame:
    """The table of a folder: columns `ledger.COLUMNS` in order, rows sorted as the plan has them, then by run_id.

    `attrs["experiment"]`: experiment, question, note, profile, command, version, planned (run_ids in order), earlier
    (which of them are of earlier plans), recipes (name → settings).
    `attrs["reasons"]`: run_id → why it failed; `attrs["tuned"]`: the tuning table;
    `attrs["curves"]`: run_id → [steps, accuracies on the hold-out] of runs that were watched;
    `attrs["overlap"]`: run_id of a pretraining → test images that stood in its source. Runs neither finished nor
    failed have no row.
    Raises UserError if the folder is not there, or a file in it is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}", remedy="give the --out of a sweep")
    began = time.time_ns()  # taken before the first look, so that what is written meanwhile counts as younger
    old = _read_table(folder)
    plan = read_plan(folder)
    names = _run_names(folder)
    tuned = read_tuned(folder, plan)
    if not names:
        return _finish([], old, plan, began, tuned=tuned)
    known = _fresh_rows(old)
    families = {entry["run_id"]: entry.get("family", "") for entry in plan.get("runs", [])}
    keep: list[str] = []
    rows: list[dict[str, Any]] = []
    reasons: dict[str, str] = {}
    more: dict[str, dict[str, Any]] = {"curves": {}, "overlap": {}}
    for name in names:
        here = ledger.run_folder(folder, name)
        written = _mtime(here / ledger.RESULT)
        if written is not None and name in known and written < known[name]:
            keep.append(name)
        elif written is not None:
            rows.append(_finished(here, plan, families.get(name, ""), more))
        elif (here / ledger.FAILURE).is_file():
            row, reasons[name] = _failed(here, plan, families.get(name, ""))
            rows.append(row)
    kept = old[old["run_id"].isin(keep)] if old is not None and keep else None
    return _finish(rows, kept, plan, began, reasons, tuned, more)


def write(folder: Path) -> Path:
    """Collect the folder and write `results.parquet`, whole or not at all; the same runs give the same rows."""
    table = collect(folder)
    path = Path(folder) / ledger.TABLE
    with ledger.replacing(path) as temporary:
        table.to_parquet(temporary, index=False, compression="zstd")
    return path


def read_plan(folder: Path) -> dict[str, Any]:
    """`experiment.json` as it stands, or {} where there is none (a table alone, a folder of single runs)."""
    path = Path(folder) / ledger.EXPERIMENT
    return dict(ledger.read_json(path)) if path.is_file() else {}


def read_tuned(folder: Path, plan: Mapping[str, Any]) -> dict[str, Any]:
    """The tuning table: what stands beside the runs (`tuned.json`), and the rows that the plan used; {} without any."""
    path = Path(folder) / ledger.TUNED
    found = dict(ledger.read_json(path)) if path.is_file() else {}
    rows = [*found.get("rows", []), *plan.get("tuned", {}).get("rows", [])]
    cell = ("dataset", "backbone", "recipe", "regime", "size", "intervention")
    once = {tuple(str(row.get(name, "")) for name in cell): row for row in reversed(rows)}
    return {**found, "rows": list(reversed(once.values()))} if once else found


def missing(table: pd.DataFrame) -> list[str]:
    """Planned run_ids that the table has no row for, in the plan's order."""
    planned = dict(table.attrs.get("experiment", {})).get("planned", [])
    here = set(table["run_id"])
    return [name for name in planned if name not in here]


def empty() -> pd.DataFrame:
    """A table without rows, its columns typed."""
    return _typed(pd.DataFrame({column: [] for column in ledger.COLUMNS}))


# --- reading --------------------------------------------------------------------------------------------------------


def _read_table(folder: Path) -> pd.DataFrame | None:
    path = folder / ledger.TABLE
    if not path.is_file():
        return None
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} is not a readable table ({first})", remedy="remove it; it is made again") from error
    lacking = [column for column in ledger.COLUMNS if column not in table.columns]
    if lacking:
        raise UserError(f"{path} has no column '{lacking[0]}'", f"it must have {len(ledger.COLUMNS)} (DESIGN 3.1)")
    return table


def _fresh_rows(old: pd.DataFrame | None) -> dict[str, int]:
    """run_id → the time before which its result.json must have been written for the old row to be its image."""
    if old is None:
        return {}
    read_at = int(old.attrs.get("read_at", 0))
    return dict.fromkeys(old.loc[old["status"] == "finished", "run_id"], read_at)


def _run_names(folder: Path) -> list[str]:
    runs = folder / "runs"
    return sorted(entry.name for entry in runs.iterdir() if not entry.name.startswith(".")) if runs.is_dir() else []


def _mtime(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _finished(here: Path, plan: Mapping[str, Any], family: str, more: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The run's row; what no column holds goes into `more`: its curve on the hold-out, test images in its source."""
    result = ledger.read_json(here / ledger.RESULT)
    run = from_json(result["run"])
    metrics, facts = result.get("metrics", {}), result.get("facts", {})
    row = _identity(here.name, run, plan, family) | {"status": "finished", "learning_rate": run.learning_rate}
    for name in ("top1", "top5", "macro_f1", "ece", "loss", "train_top1", "train_loss", "loss_slope", "collapsed"):
        row[name] = metrics.get(name)
    for name in ("parameters", "flops", "image_size", "classes", "test_images", "dataset_fingerprint"):
        row[name] = facts.get(name)
    for name in ("steps", "samples_seen", "seconds", "attempts", "device", "commit"):
        row[name] = result.get(name)
    row["versions"] = json.dumps(result.get("versions", {}), sort_keys=True)
    row["correct"] = _correct(here / ledger.PREDICTIONS)
    curve = _curve(here / ledger.METRICS) if run.monitor and run.task == "classify" else []
    if curve:
        more["curves"][here.name] = curve
    if facts.get("source_overlap"):
        more["overlap"][here.name] = facts["source_overlap"]
    return row


def _curve(path: Path) -> list[list[float]]:
    """[steps, accuracies on the hold-out] of a watched run; [] for one that was not."""
    if not path.is_file():
        return []
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found = sorted((int(row["step"]), round(float(row["holdout/top1"]), 5)) for row in rows if "holdout/top1" in row)
    return [list(part) for part in zip(*found, strict=True)]


def _failed(here: Path, plan: Mapping[str, Any], family: str) -> tuple[dict[str, Any], str]:
    failure = ledger.read_json(here / ledger.FAILURE)
    run = from_json(ledger.read_json(here / ledger.RUN))
    row = _identity(here.name, run, plan, family)
    row |= {"status": "failed", "learning_rate": run.learning_rate, "attempts": len(_bytes(here / "attempts")) or None}
    reason = f"{failure.get('reason', 'error')}: {failure.get('exception', '')}".rstrip(": ")
    return row, reason


def _identity(run_id: str, run: Run, plan: Mapping[str, Any], family: str) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(ledger.COLUMNS)
    known = catalogue.DATASETS.get(run.dataset)
    row |= {name: value for name, value in ((n, getattr(run, n, None)) for n in ledger.COLUMNS) if value is not None}
    row["image_size"] = run.image_size or (known.image_size if known else None)
    row["run_id"], row["experiment"] = run_id, plan.get("experiment", "")
    row["architecture"] = catalogue.architecture(run.backbone)
    row["family"] = family or catalogue.family(run.backbone)
    return row | {"samples_seen": None}  # what was planned is not what was seen


def _correct(path: Path) -> bytes | None:
    """One bit a test image, in index order: whether the prediction was right. None where no prediction was kept."""
    if not path.is_file():
        return None
    import pyarrow.parquet as pq

    read = pq.read_table(path, columns=["index", "label", "predicted"], use_threads=False)
    index, label, predicted = (read.column(name).to_numpy() for name in ("index", "label", "predicted"))
    right: np.ndarray[Any, Any] = label == predicted
    if len(index) > 1 and not bool(np.all(index[1:] > index[:-1])):
        right = right[np.argsort(index, kind="stable")]
    return np.packbits(right).tobytes()


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


# --- putting together -----------------------------------------------------------------------------------------------


def _finish(
    rows: Iterable[Mapping[str, Any]],
    kept: pd.DataFrame | None,
    plan: Mapping[str, Any],
    began: int,
    reasons: Mapping[str, str] | None = None,
    tuned: Mapping[str, Any] | None = None,
    more: Mapping[str, Mapping[str, Any]] | None = None,
) -> pd.DataFrame:
    fresh = list(rows)
    parts = [kept] if kept is not None else []
    if fresh:
        parts.append(_typed(pd.DataFrame.from_records(fresh, columns=list(ledger.COLUMNS))))
    table = pd.concat(parts, ignore_index=True) if len(parts) > 1 else (parts[0] if parts else empty())
    old = dict(kept.attrs) if kept is not None else {}
    experiment = _about(plan) if plan else old.get("experiment", {})
    order = {name: place for place, name in enumerate(experiment.get("planned", []))}
    table = table.assign(_place=table["run_id"].map(order).astype(float).fillna(math.inf))
    table = table.sort_values(["_place", "run_id"], kind="stable").drop(columns="_place").reset_index(drop=True)
    table = _typed(table[[*ledger.COLUMNS, *(c for c in table.columns if c not in ledger.COLUMNS)]])
    table.attrs = {
        "experiment": experiment,
        "tuned": dict(tuned or old.get("tuned", {})),
        **{name: _carried(name, more or {}, old, table) for name in ("curves", "overlap")},
        "reasons": dict(reasons) if reasons is not None else old.get("reasons", {}),
        "read_at": began,
    }
    return table


def _carried(
    name: str, more: Mapping[str, Mapping[str, Any]], old: Mapping[Any, Any], table: pd.DataFrame
) -> dict[str, Any]:
    """What was read now and what the old table carried, of runs that are here still, in their order."""
    known = {**old.get(name, {}), **more.get(name, {})}
    return {run: known[run] for run in table["run_id"] if run in known} if known else {}


def _about(plan: Mapping[str, Any]) -> dict[str, Any]:
    """What the report needs of the plan: the words, the run_ids in order, and what each recipe's name stands for."""
    entries = plan.get("runs", [])
    recipes: dict[str, dict[str, list[Any]]] = {}
    for entry in entries:
        run = {**_DEFAULTS, **entry["run"]}
        if run["task"] == "pretrain":
            continue
        seen = recipes.setdefault(run["recipe"], {name: [] for name in _SETTINGS})
        for name in _SETTINGS:
            if run[name] not in seen[name]:
                seen[name].append(run[name])
    words = {name: plan.get(name, "") for name in ("experiment", "question", "note", "profile", "command", "version")}
    labels = {entry["run_id"]: label_of(from_json(entry["run"])) for entry in entries}
    earlier = [entry["run_id"] for entry in plan.get("runs", []) if entry.get("earlier")]
    recipes = recipes or {"plain": RECIPES["plain"]}
    return {**words, "planned": list(labels), "earlier": earlier, "labels": labels, "recipes": recipes}


_DEFAULTS = {name: getattr(Run(dataset="", backbone="", size=1), name) for name in (*_SETTINGS, "task", "recipe")}


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """Whole numbers nullable, accuracies floats, text without nulls: one type a column, whatever rows are there."""
    types: dict[str, Any] = dict.fromkeys(_WHOLE, "Int64") | dict.fromkeys(_REAL, "float64") | {"collapsed": "boolean"}
    filled = {name: table[name].astype("object").where(table[name].notna(), "").astype("str") for name in _TEXT}
    return table.assign(**filled).astype(types)

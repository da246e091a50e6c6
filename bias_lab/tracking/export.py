"""A ledger → W&B: a run each for every row of the table, and one for the experiment with its statistics and figures.

The ledger stays the truth: what stands in W&B can be made again from it, also for a sweep that ran with `--no-wandb`.
A run's id is its run_id, so that what a live sweep recorded and what is exported here meet in one run.
"""

import base64
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from bias_lab import ledger, results, statistics
from bias_lab.errors import UserError
from bias_lab.report import draw, figures
from bias_lab.report.findings import regimes, split
from bias_lab.statistics import replicates as rep
from bias_lab.statistics.gaps import between

if TYPE_CHECKING:
    import wandb

PROJECT = "bias_lab"
MARKS = "wandb/synced.json"  # what was exported, so that a second export writes nothing twice
CONFIG = (
    "experiment task dataset image_size backbone architecture family parameters flops recipe intervention budget "
    "regime protocol source size draw seed learning_rate classes test_images dataset_fingerprint commit device"
).split()
SUMMARY = (
    "status collapsed top1 top5 macro_f1 ece loss train_top1 train_loss loss_slope steps samples_seen seconds attempts"
).split()


def sync(
    folder: Path, *, project: str = PROJECT, entity: str | None = None, online: bool = False, artifacts: bool = False
) -> list[str]:
    """Export every run of a folder; returns the ids written now (those written before and unchanged are passed over).

    Offline, W&B's files are left in FOLDER/wandb for `wandb sync`; online they are uploaded. artifacts: weights too.
    Raises UserError if the folder holds no run, or if online is asked for without a key.
    """
    folder = Path(folder)
    table = results.collect(folder)
    if not len(table):
        raise UserError(f"{folder} holds no finished or failed run", remedy="nothing to export yet")
    if online and not logged_in():
        raise UserError("no key of W&B's is known here", remedy="wandb login, or export offline and upload later")
    where = f"{'online' if online else 'offline'} {entity or ''}/{project}"
    marks = _marks(folder)
    seen: dict[str, str] = marks.setdefault(where, {})
    reasons: Mapping[str, str] = table.attrs.get("reasons", {})
    settings = dict(project=project, entity=entity, mode="online" if online else "offline", dir=str(folder))
    written = []
    experiment = dict(table.attrs.get("experiment", {}))
    table = rep.light(table)
    for row in table.to_dict("records"):
        name, digest = str(row["run_id"]), _digest(row)
        if seen.get(name) == digest:
            continue
        _write_run({str(key): value for key, value in row.items()}, folder, settings, reasons.get(name, ""), artifacts)
        seen[name] = digest
        written.append(name)
        ledger.write_json(folder / MARKS, marks)
    name = report_id(experiment, folder)
    digest = "report of " + _digest({run: seen[run] for run in table["run_id"]})
    if seen.get(name) != digest:
        _write_report(table, experiment, settings, name)
        seen[name] = digest
        ledger.write_json(folder / MARKS, marks)
        written.append(name)
    return written


def logged_in() -> bool:
    """Whether W&B would find a key without asking: in the environment, or in netrc."""
    import netrc

    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return any("wandb" in host for host in netrc.netrc().hosts)
    except (FileNotFoundError, netrc.NetrcParseError):
        return False


def report_id(experiment: Mapping[str, Any], folder: Path) -> str:
    """The id of the run that holds an experiment's statistics."""
    name = f"{experiment.get('experiment') or folder.resolve().name}-{experiment.get('profile') or 'runs'}-report"
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in name)[:64]


def job_type(row: Mapping[str, Any]) -> str:
    """`pretrain`, `tune`, `finetune`, or `probe` for what leaves the backbone as it is."""
    if row["task"] != "classify":
        return str(row["task"])
    return "finetune" if row["protocol"] == "finetune" else "probe"


def config_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """What defines a run, as W&B's config: the table's columns, those without a value left out."""
    return {name: _plain(row[name]) for name in CONFIG if _plain(row.get(name)) is not None}


def summary_of(row: Mapping[str, Any], reason: str = "") -> dict[str, Any]:
    """A run's numbers, with what its intervals are made of: the test images, and which of them were right (base64)."""
    told = {name: _plain(row[name]) for name in SUMMARY if _plain(row.get(name)) is not None}
    if isinstance(row.get("correct"), bytes):
        told["correct"] = base64.b64encode(row["correct"]).decode()
    return told | ({"reason": reason} if reason else {})


def statistics_of(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The experiment's numbers as rows over `size`: shortfall by regime with intervals, recovery, accuracy by backbone.

    Keys `shortfall/scratch`, `shortfall/scratch low`, …; with several datasets the dataset's name comes first.
    """
    views = split(table)
    for about, view in views:
        prefix = f"{about}/" if len(views) > 1 else ""
        rows = rep.comparable(view, scratch=False)
        for row in statistics.gaps(view).to_dict("records"):
            named = {**_ENDS, "low_any": " low any", "high_any": " high any"}
            told = {f"{prefix}shortfall/scratch{end}": row[key] for key, end in named.items()}
            yield _finite({"size": row["size"], **told, f"{prefix}shortfall/scratch n": row["n"]})
        for name, found in _other_gaps(rows):
            for row in found.to_dict("records"):
                ends = {f"{prefix}shortfall/{name}{end}": row[key] for key, end in _ENDS.items()}
                yield _finite({"size": row["size"], **ends})
        for row in statistics.recovery(view).to_dict("records"):
            name = f"{prefix}recovery/{_start(row['regime'], row['protocol'], row['source'], rows)}"
            yield _finite(
                {"size": row["size"], name: row["recovery"], f"{name} low": row["low"], f"{name} high": row["high"]}
            )
        for (backbone, regime, protocol, source), part in rows.groupby(["backbone", "regime", "protocol", "source"]):
            name = f"{prefix}accuracy/{backbone} {_start(regime, protocol, source, rows)}"
            for point in figures.curve(part, name):
                yield _finite(
                    {"size": int(point.x), name: point.y, f"{name} low": point.low, f"{name} high": point.high}
                )


_ENDS = {"shortfall": "", "low": " low", "high": " high"}


def _other_gaps(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """(key, gaps) of plain ViT after each start, and of each backbone beside the two, against the CNNs from scratch."""
    plain = rows[(rows["regime"] == "scratch") & (rows["protocol"] == "finetune")]
    cnn, vit = rep.select(plain, "cnn"), rep.select(rows, "vit")
    for (regime, protocol, source), part in vit[~vit.index.isin(plain.index)].groupby(["regime", "protocol", "source"]):
        yield _start(regime, protocol, source, rows), between(part, cnn)
    for name, part in plain[~plain.index.isin([*cnn.index, *vit.index])].groupby("backbone"):
        yield f"{name} scratch", between(part, cnn)


def _start(regime: Any, protocol: Any, source: Any, rows: pd.DataFrame) -> str:
    """A start in a key: 'mae', 'mae linear_probe', and the source where a regime has several."""
    several = rows.loc[rows["regime"] == regime, "source"].nunique() > 1
    return f"{regime}" + ("" if protocol == "finetune" else f" {protocol}") + (f" {source}" if several else "")


# --- writing ----------------------------------------------------------------------------------------------------------


def _begin(settings: Mapping[str, Any], **named: Any) -> "wandb.Run":
    import wandb

    quiet = wandb.Settings(
        silent=True, console="off", init_timeout=60, x_disable_stats=True, disable_git=True, disable_code=True
    )  # fmt: skip
    return wandb.init(**settings, **named, resume="allow", reinit="finish_previous", settings=quiet)


def _write_run(row: Mapping[str, Any], folder: Path, settings: Mapping[str, Any], reason: str, artifacts: bool) -> None:
    import wandb

    here = ledger.run_folder(folder, str(row["run_id"]))
    run = _begin(
        settings,
        id=str(row["run_id"]),
        name=f"{row['backbone']} {row['regime']} N={row['size']} draw {row['draw']}",
        group=row["experiment"] or None,
        job_type=job_type(row),
        config=config_of(row),
    )
    for step, told in _curves(ledger.metrics_file(here)):
        run.log(told, step=step)
    logged: dict[str, Any] = {f"pictures/{path.stem}": wandb.Image(str(path)) for path in sorted(here.glob("*.png"))}
    classes = _classes(here / ledger.RESULT)
    if classes:
        logged["per_class"] = wandb.Table(columns=["class", "accuracy"], data=classes)
    if logged:
        run.log(logged)
    run.summary.update(summary_of(row, reason))
    if artifacts and (here / ledger.WEIGHTS).is_file():
        made = wandb.Artifact(f"weights-{row['run_id']}", type="weights")
        made.add_file(str(here / ledger.WEIGHTS))
        run.log_artifact(made)
    run.finish(exit_code=0 if row["status"] == "finished" else 1)


def _curves(path: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """Rows of metrics.jsonl by step; a torn last line (the run was killed) is passed over."""
    if not path.is_file():
        return
    text = path.read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    for row in sorted(rows, key=lambda row: int(row["step"])):
        yield int(row["step"]), {name: value for name, value in row.items() if name != "step"}


def _classes(path: Path) -> list[Iterable[Any]]:
    """[class, accuracy] of a finished run's test images; [] where there is none."""
    if not path.is_file():
        return []
    result = ledger.read_json(path)
    found, names = result.get("metrics", {}).get("per_class"), result.get("facts", {}).get("class_names")
    return [list(pair) for pair in zip(names, found, strict=True)] if found and names else []


def _write_report(table: pd.DataFrame, experiment: Mapping[str, Any], settings: Mapping[str, Any], name: str) -> None:
    import wandb

    told = {
        key: experiment[key] for key in ("experiment", "profile", "question", "note", "command") if key in experiment
    }
    run = _begin(
        settings, id=name, name=name, group=experiment.get("experiment") or None, job_type="report", config=told
    )
    run.define_metric("size")
    views = split(table)
    starts = [f"{about}/" for about, _ in views] if len(views) > 1 else [""]
    for start in starts:
        for kind in ("shortfall", "recovery", "accuracy"):
            run.define_metric(f"{start}{kind}/*", step_metric="size")
    for row in statistics_of(table):
        run.log(row)
    for start, (_, view) in zip(starts, views, strict=False):
        found = statistics.answer(view)
        run.summary.update({f"{start}verdict": found.verdict, f"{start}answer": found.text})
    run.summary.update({"runs": len(table), "failed": int((table["status"] == "failed").sum())})
    plain = table.drop(columns=["correct", "versions"])
    shown = plain.astype(object).where(plain.notna(), None)
    run.log(
        {"table": wandb.Table(columns=list(shown.columns), data=[[_plain(v) for v in r] for r in shown.to_numpy()])}
    )
    with tempfile.TemporaryDirectory() as scratch:
        for start, (_, view) in zip(starts, views, strict=False):
            rows = rep.comparable(view, scratch=False)
            for chart in (figures.accuracy(rows), figures.shortfall(regimes(rows, statistics.gaps(view)))):
                _, png = draw.save(chart, Path(scratch))
                run.log({f"{start}figures/{chart.name}": wandb.Image(str(png), caption=chart.caption)})
        run.finish()


def _plain(value: Any) -> Any:
    """A value that JSON has: numpy's numbers as Python's, nothing as None."""
    if hasattr(value, "item"):
        value = value.item()
    return None if value is None or value is pd.NA or (isinstance(value, float) and not math.isfinite(value)) else value


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in row.items() if _plain(value) is not None}


def _digest(row: Mapping[Any, Any]) -> str:
    told = {str(name): str(value) for name, value in row.items()}
    return hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=8).hexdigest()


def _marks(folder: Path) -> dict[str, dict[str, str]]:
    path = folder / MARKS
    return dict(ledger.read_json(path)) if path.is_file() else {}

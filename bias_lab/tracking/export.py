"""Export a folder to W&B: a run for every row of the table, and one for the experiment's statistics and figures.

The ledger is the source of truth, and W&B's runs can be made again from it, also for a sweep that ran with
`--no-wandb`. A W&B run has the id of its run, so that an export and a live recording meet in one run.
"""

import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from bias_lab import ledger, results, schema
from bias_lab.errors import UserError
from bias_lab.tracking import mapping
from bias_lab.tracking.mapping import PROJECT, Study

if TYPE_CHECKING:
    import wandb

MARKS = "wandb/synced.json"  # what was exported, so that a second export writes nothing twice


def sync(
    folder: Path,
    study_of: Callable[[results.Results], Study],
    *,
    project: str = PROJECT,
    entity: str | None = None,
    online: bool = False,
    artifacts: bool = False,
) -> list[str]:
    """Export every run of a folder and return the ids written. Runs that were written before and unchanged are skipped.

    A run that was recorded while it trained lies in FOLDER/wandb once afterwards.
    study_of: computes the statistics and figures of the experiment. artifacts: whether weights are exported too.
    Offline, W&B's files are left in FOLDER/wandb for `wandb sync`. Online, they are uploaded.
    Raises UserError if the folder holds no run, or if `online` is asked for without a key.
    """
    folder = Path(folder)
    study_results = results.read(folder)
    if not len(study_results.table):
        raise UserError(f"{folder} holds no finished or failed run", remedy="export once a run has ended")
    if online and not mapping.is_logged_in():
        raise UserError("W&B has no key on this machine", remedy="wandb login, or export offline and upload later")
    marks = _marks(folder)
    seen: dict[str, str] = marks.setdefault(f"{'online' if online else 'offline'} {entity or ''}/{project}", {})
    mode = "online" if online else "offline"
    settings = dict(project=project, entity=entity, mode=mode, dir=str(folder))
    written = []
    with _environment(mode):
        for record in study_results.table.to_dict("records"):
            row = {str(name): value for name, value in record.items()}
            name, digest = str(row["run_id"]), _digest(row)
            if seen.get(name) == digest:
                continue
            words = (
                study_results.plan.labels.get(name)
                or f"{row['backbone']} {row['regime']} N={row['size']} draw {row['draw']}"
            )
            _write_run(row, words, folder, settings, study_results.reasons.get(name, ""), artifacts)
            seen[name] = digest
            written.append(name)
            ledger.write_json(folder / MARKS, marks)
        name = study_id(study_results.plan.experiment or folder.resolve().name, study_results.plan.profile)
        digest = "report of " + _digest({run: seen[run] for run in study_results.table["run_id"]})
        if seen.get(name) != digest:
            _write_study(study_results.table, study_of(study_results), settings, name)
            seen[name] = digest
            ledger.write_json(folder / MARKS, marks)
            written.append(name)
    return written


@contextmanager
def _environment(mode: str) -> Iterator[None]:
    """Set WANDB_MODE for a while. wandb's service sends measurements of itself unless this variable says offline."""
    before = os.environ.get("WANDB_MODE")
    os.environ["WANDB_MODE"] = mode
    try:
        yield
    finally:
        if before is None:
            del os.environ["WANDB_MODE"]
        else:
            os.environ["WANDB_MODE"] = before


def study_id(experiment: str, profile: str) -> str:
    """Return the id of the W&B run that holds an experiment's statistics."""
    name = f"{experiment}-{profile or 'runs'}-report"
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in name)[:64]


def _begin(settings: Mapping[str, Any], **named: Any) -> "wandb.Run":
    import wandb

    quiet = wandb.Settings(**mapping.QUIET, init_timeout=60)
    return wandb.init(**settings, **named, resume="allow", reinit="finish_previous", settings=quiet)


def _write_run(
    row: Mapping[str, Any], words: str, folder: Path, settings: Mapping[str, Any], reason: str, artifacts: bool
) -> None:
    import wandb

    name, here = str(row["run_id"]), ledger.run_folder(folder, str(row["run_id"]))
    before = copies(folder, name)
    run = _begin(
        settings,
        id=name,
        name=words,
        group=row["experiment"] or None,
        job_type=mapping.job_type(str(row["task"]), str(row["protocol"])),
        config=mapping.config_of(row),
    )
    for step, values in _curves(ledger.metrics_file(here)):
        run.log(values, step=step)
    shown = mapping.media(here, mapping.result_of(here))
    if shown:
        run.log(shown)
    run.summary.update(mapping.summary(row, reason))
    if artifacts and (here / ledger.WEIGHTS).is_file():
        weights = wandb.Artifact(f"weights-{name}", type="weights")
        weights.add_file(str(here / ledger.WEIGHTS))
        run.log_artifact(weights)
    this = Path(run.dir).parent.resolve()
    run.finish(exit_code=0 if row["status"] == "finished" else 1)
    for copy in before:  # the live recording or an earlier export, which an upload would add to this one
        if copy.resolve() != this:
            shutil.rmtree(copy)


def copies(folder: Path, name: str) -> set[Path]:
    """Return the offline copies of a run. wandb numbers those that begin in the same second."""
    pattern = re.compile(rf"offline-run-[^-]+-{re.escape(name)}(-\d+)?")
    return {path for path in (folder / "wandb").glob("offline-run-*") if pattern.fullmatch(path.name)}


def _curves(path: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield the rows of metrics.jsonl by step, without the torn last line that a kill may leave."""
    if not path.is_file():
        return
    text = path.read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    for row in sorted(rows, key=lambda row: int(row["step"])):
        yield int(row["step"]), {name: value for name, value in row.items() if name != "step"}


def _write_study(table: pd.DataFrame, study: Study, settings: Mapping[str, Any], name: str) -> None:
    import wandb
    from PIL import Image

    config = dict(profile=study.profile, question=study.question, note=study.note, command=study.command)
    config = {"experiment": study.name, **config}
    run = _begin(settings, id=name, name=name, group=study.name or None, job_type="report", config=config)
    run.define_metric("size")
    for kind in sorted({key.rpartition("/")[0] for key in study.logged_keys()}):
        run.define_metric(f"{kind}/*", step_metric="size")
    for row in study.rows:
        run.log(dict(row))
    run.summary.update({**study.summary, "runs": len(table), "failed": int((table["status"] == "failed").sum())})
    names: list[Any] = [str(name) for name in table.columns if name not in (*schema.named(kind="bits"), "versions")]
    rows: list[Any] = [[schema.as_json(value) for value in row] for row in table[names].itertuples(index=False)]
    run.log({"table": wandb.Table(columns=names, data=rows)})
    for key, (png, caption) in study.figures.items():
        run.log({key: wandb.Image(Image.open(io.BytesIO(png)), caption=caption)})
    run.finish()


def _digest(row: Mapping[str, Any]) -> str:
    text = json.dumps({name: str(value) for name, value in row.items()}, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _marks(folder: Path) -> dict[str, dict[str, str]]:
    path = folder / MARKS
    return dict(ledger.read_json(path)) if path.is_file() else {}

"""What the end of a sweep says: the result of a single run, and how the user's own backbone did."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from bias_lab import catalogue, ledger, results, schema
from bias_lab.definition import Run, images_seen, pretrains, run_id
from bias_lab.errors import plural
from bias_lab.execution.progress import duration

EVALUATED = {"test": "test images", "holdout": "hold-out images"}


def results_at(folder: Path) -> dict[str, int]:
    """Return run_id → time of the last change of its result, for the finished runs of a folder."""
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob(f"runs/*/{ledger.RESULT}")}


def of_run(run: Run, folder: Path, *, was_finished: bool = False) -> list[str]:
    """Return lines on a finished run: its result with what it was measured on, its time, and where its weights lie.

    was_finished: whether it was finished before this command, which then computed nothing.
    """
    name = run_id(run)
    here = ledger.run_folder(folder, name)
    result = ledger.read_json(here / ledger.RESULT)
    images = "" if run.samples_seen is None else f"{round(images_seen(run)):,} images seen"
    took = ", ".join(filter(None, (images, duration(float(result["seconds"])))))
    lines = [f"{name}  {schema.label(run)}", f"  {_score(run, result)}; {took}", f"  weights: {here / ledger.WEIGHTS}"]
    if was_finished:
        lines.append("  it was finished before: a repeated run has the same id, and is not computed again")
    return lines


def _score(run: Run, result: dict[str, dict[str, object]]) -> str:
    task, metrics, facts = catalogue.TASKS[run.task], result["metrics"], result["facts"]
    if pretrains(run):
        loss = metrics.get("train_loss", metrics.get("loss"))
        told = f"loss {loss:.3f}" if isinstance(loss, float) else "finished"
        return f"{told}, a pretraining, which no test image evaluates"
    value = metrics.get(task.metric)
    if not isinstance(value, int | float):
        return "no score"
    number = f"{100 * value:.1f} %" if task.unit == "fraction" else f"{value:.3f}"
    images = facts.get("test_images") if task.evaluated_on == "test" else None
    count = f"{images:,} " if isinstance(images, int) else ""
    return f"{task.metric_words} {number} on {count}{EVALUATED[task.evaluated_on]} of {_data(run)}"


def _data(run: Run) -> str:
    return "your data" if run.dataset.startswith(("folder:", "table:")) else run.dataset


def of_own(folder: Path, names: Iterable[str]) -> list[str]:
    """Return a line for each backbone that the user added: its mean score at each size, beside the others' best."""
    table = results.read(folder).table
    done = table[table["status"] == "finished"]
    done = done[[catalogue.TASKS[task].evaluated_on == "test" for task in done["task"]]]
    scores = [row[catalogue.TASKS[str(row["task"])].metric] for row in done.to_dict("records")]
    done = done.assign(score=pd.Series(scores, index=done.index, dtype="float64")).dropna(subset="score")
    lines = []
    for name in dict.fromkeys(names):
        mine = done[done["backbone"] == name]
        others = done[(done["backbone"] != name) & (done["regime"].isin(set(mine["regime"])))]
        parts = []
        for size in sorted(set(mine["size"].astype(int))):
            part = mine[mine["size"] == size]
            means = others[others["size"] == size].groupby("backbone")["score"].mean()
            best = f", {means.idxmax()} {100 * means.max():.1f} %" if len(means) else ""
            parts.append(f"N = {size:,}: {100 * part['score'].mean():.1f} % ({plural(len(part), 'run')}{best})")
        if parts:
            lines.append(f"{name}: {'; '.join(parts)}. The best other backbone is named beside it.")
        else:
            lines.append(f"{name}: no run is finished")
    return lines


def of_runs(runs: Sequence[Run], folder: Path, before: Mapping[str, int]) -> list[str]:
    """Return lines on all finished ones of some runs. before: what `results_at` returned when the command began."""
    there = results_at(folder)
    lines = []
    for run in (run for run in runs if run_id(run) in there):
        lines += of_run(run, folder, was_finished=before.get(run_id(run)) == there[run_id(run)])
    return lines

"""What the end of a sweep says: the result of a single run, and how the user's own backbone did."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from bias_lab import catalogue, ledger, results, schema
from bias_lab.definition import Run, pretrains, run_id, trains
from bias_lab.errors import plural
from bias_lab.execution.progress import duration

ARM = (*schema.START, "intervention", "budget", "head", "comparison")  # runs that differ in one of these have no mean
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
    seen = result.get("samples_seen")  # in whole batches
    images = f"{int(seen):,} images seen" if seen is not None and trains(run) else ""
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
    """Return a line for each backbone that the user added: its mean score in each cell, beside the others' best."""
    table = results.read(folder).table
    done = table[table["status"] == "finished"]
    done = done[[catalogue.TASKS[task].evaluated_on == "test" for task in done["task"]]]
    scores = [row[catalogue.TASKS[str(row["task"])].metric] for row in done.to_dict("records")]
    done = done.assign(score=pd.Series(scores, index=done.index, dtype="float64")).dropna(subset="score")
    lines = []
    for name in dict.fromkeys(names):
        is_mine = done["backbone"] == name
        if is_mine.any():
            cells = "; ".join(_cells(done[is_mine], done[~is_mine]))
            lines.append(f"{name}: {cells}. The best other backbone is named beside it.")
        else:
            lines.append(f"{name}: no run is finished")
    return lines


def _cells(mine: pd.DataFrame, others: pd.DataFrame) -> Iterator[str]:
    """Yield the mean score of each size and start, in words that name what differs among them."""
    arm = [name for name in ARM if name in mine]
    told = [name for name in arm if mine[name].nunique(dropna=False) > 1]
    for (size, *values), part in mine.groupby(["size", *arm], dropna=False):
        alike = others.merge(part[["size", *arm]].drop_duplicates(), on=["size", *arm])
        means = alike.groupby("backbone")["score"].mean()
        best = f", {means.idxmax()} {100 * means.max():.1f} %" if len(means) else ""
        at = dict(zip(arm, values, strict=True))
        at["comparison"] = "settled" if "settled" in str(at.get("comparison", "")) else ""
        words = " ".join(str(at[name]) for name in told if at[name] and at[name] != schema.DEFAULTS.get(name, ""))
        words = f"{words or 'scratch'} " if told else ""
        yield f"N = {size:,}: {words}{100 * part['score'].mean():.1f} % ({plural(len(part), 'run')}{best})"


def of_runs(runs: Sequence[Run], folder: Path, before: Mapping[str, int]) -> list[str]:
    """Return lines on all finished ones of some runs. before: what `results_at` returned when the command began."""
    there = results_at(folder)
    lines = []
    for run in (run for run in runs if run_id(run) in there):
        lines += of_run(run, folder, was_finished=before.get(run_id(run)) == there[run_id(run)])
    return lines

"""Turn results into all that the report says, in order: answers, cautions, sections. Words and numbers, no markup."""

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from bias_lab import schema
from bias_lab.catalogue import DATASETS, TASKS
from bias_lab.errors import plural
from bias_lab.report import provenance, sections
from bias_lab.report.cautions import cautions, overlaps_by_hash
from bias_lab.report.evidence import head
from bias_lab.report.evidence import view as view_evidence
from bias_lab.report.metric_words import metrics_in_words, only_cnn, said, task_of
from bias_lab.report.pages import Report, Section
from bias_lab.report.replicates import draws
from bias_lab.report.sentences import NOTHING, listed
from bias_lab.results import Results
from bias_lab.statistics import replicates as rep
from bias_lab.statistics.conditions import METRIC, finished, with_pretraining

QUESTION = "How far does a plain ViT fall short of CNNs when labels are few?"


def findings(results: Results) -> Report:
    """Return the report of results in any state. Without a finished run it says what is missing."""
    rep.check(results.table)
    results = with_names(results)
    plan, missing = results.plan, results.missing()
    table, left_out = provenance.of_the_plan(rep.light(results.table), plan)
    failed = table[table["status"] == "failed"]
    heads, answers, parts, caveats = [], [], [], list(left_out)
    views = split(table)
    for name, view in views:
        about = name if len(views) > 1 else ""
        sentence, method, of_view = sections.of_view(table, view, about, results.curves)
        evidence = view_evidence.of_view(view, about, sections.slug_of(about), plan.profile, results.tuned)
        words = task_of(view), only_cnn(view)
        if plan.profile == head.PATH:  # its runs are too short to mean anything
            sentence, method = head.PATH_ALONE, ""
        heads.append(said(evidence.head, *words))
        answers.append(said((about, sentence, " ".join(filter(None, [draws(view), method]))), *words))
        shown = view_evidence.joined(of_view, evidence)
        parts += said([replace(one, text=()) for one in shown] if plan.profile == head.PATH else shown, *words)
        cautious = said(cautions(view, results.tuned, path_alone=plan.profile == head.PATH), *words)
        caveats += [f"{about}: {text}" if about else text for text in cautious]
    undone = provenance.undone(missing, plan.labels, failed, results.reasons)
    parts.append(Section(name="undone", title="Missing and failed runs", tables=(undone,), folded=True))
    parts += said(provenance.sections(table, plan, results.tuned), task_of(table))
    return Report(
        title=" · ".join(filter(None, (plan.experiment, plan.profile))) or "bias_lab",
        question=plan.question or QUESTION,
        note=plan.note.rstrip("."),
        answers=tuple(answers) or (("", NOTHING, ""),),
        status=status(table, plan.run_ids, missing, results.reasons),
        complete=not missing and not len(failed),
        caveats=tuple(dict.fromkeys([*overlaps_by_hash(table), *in_other_metrics(table), *caveats])),
        sections=tuple(section for section in parts if section),
        facts=facts(table),
        metric=metrics_in_words(table),
        heads=tuple(heads),
    )


def with_names(results: Results) -> Results:
    """Return results in which the user's own data are called as their place is: `flowers8`, not `folder:820eb675…`.

    A name that two places have, or a dataset of the catalogue, is followed by the identity.
    """
    given = results.plan.names
    taken = [*given.values(), *DATASETS]
    words = {one: f"{name} ({one})" if taken.count(name) > 1 else name for one, name in given.items()}
    if not words:
        return results
    columns = ("dataset", "source", "weights")
    table = results.table.assign(**{name: results.table[name].replace(words) for name in columns})
    rows = [
        {name: words.get(value, value) if name in columns else value for name, value in row.items()}
        for row in results.tuned.get("rows", [])
    ]
    labels = dict(results.plan.labels)
    for one, name in words.items():
        labels = {run: label.replace(one, name) for run, label in labels.items()}
    tuned = {**results.tuned, "rows": rows} if rows else results.tuned
    return replace(results, table=table, tuned=tuned, plan=replace(results.plan, labels=labels))


def split(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return (name, finished runs) of each dataset and image size, which statistics never mix.

    A view holds every condition of the study, and a column `pretraining_FIELD` for each field in which its pretrainings
    differ. Statistics of a view select the reference condition unless another is given. In the runs of a task that is
    evaluated in another metric than `METRIC`, that column holds the task's own metric (`in_one_metric`).
    """
    rows = in_one_metric(finished(with_pretraining(table)))
    views = []
    for (dataset, side), part in rows.groupby(["dataset", "image_size"]):
        is_one_of_many = rows.loc[rows["dataset"] == dataset, "image_size"].nunique() > 1
        views.append((f"{dataset}, {side} px" if is_one_of_many else str(dataset), part))
    return views


def in_one_metric(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows whose column `METRIC` holds the metric of each run's task, and so on the training images.

    Left out are runs of a task whose metric is not measured on the training images, since it can't be split into parts.
    """
    rows = rows[~is_in_another_metric(rows)]
    changed = {}
    for prefix in ("", "train_"):
        column = rows[f"{prefix}{METRIC}"]
        for name in rows["task"].unique():
            column = column.where(rows["task"] != name, rows[f"{prefix}{TASKS[str(name)].metric}"])
        changed[f"{prefix}{METRIC}"] = column
    return rows.assign(**changed)


def is_in_another_metric(rows: pd.DataFrame) -> "pd.Series[bool]":
    """Return which rows are of a task whose metric the report can't put in the place of `METRIC`."""
    known = schema.named("metric", kind="real")
    return rows["task"].isin([name for name, task in TASKS.items() if f"train_{task.metric}" not in known])


def in_other_metrics(table: pd.DataFrame) -> list[str]:
    """Return a sentence for each task whose finished runs the report leaves out, since it can't show their metric."""
    rows = finished(table)
    sentences = []
    for name, part in rows.groupby("task"):
        words, runs = TASKS[str(name)].metric_words, plural(len(part), "run")
        if is_in_another_metric(part).all():
            sentences.append(
                f"The sections leave out {runs} of the task {name}, which is evaluated in {words}. They compare "
                f"{schema.COLUMNS[METRIC].words}."
            )
    return sentences


def status(table: pd.DataFrame, planned: tuple[str, ...], missing: list[str], reasons: Mapping[str, str]) -> str:
    """Return 'missing: 12 of 150 runs · failed: 2 of 150, 1 diverged', or that all runs are there."""
    total = len({*planned, *table["run_id"]})
    failed = table[table["status"] == "failed"]
    diverged = sum(str(reasons.get(name, "")).startswith("diverged") for name in failed["run_id"])
    parts = [f"missing: {len(missing):,} of {plural(total, 'run')}"] if missing else []
    if len(failed):
        parts.append(f"failed: {len(failed):,} of {total:,}, {diverged:,} diverged")
    if parts:
        return " · ".join(parts)
    return f"complete: {total:,} of {plural(total, 'run')}" if total else "no run is planned, and none was found"


def facts(table: pd.DataFrame) -> tuple[str, ...]:
    """Return a line on how much was run, on what, and for how long. Without a finished run there is none."""
    done = table[table["status"] == "finished"]
    if not len(done):
        return ()
    is_trial = done["task"].map({name: task.evaluated_on == "holdout" for name, task in TASKS.items()})
    runs = done if is_trial.all() else done[~is_trial]  # a backbone that was tuned alone is not compared
    models = runs[runs["parameters"].astype(float).fillna(1) > 0]  # the control `pixels` has none, and is no backbone
    counts = (plural(int((~is_trial).sum()), "run"), plural(int(is_trial.sum()), "trial"))
    ran = " and ".join(text for text in counts if not text.startswith("0 "))
    parts = [ran, plural(models["backbone"].nunique(), "backbone")]
    size = models["parameters"].dropna().astype(float) / 1e6
    if len(size):
        parts[-1] += f" of {size.min():.2f} to {size.max():.2f} M parameters" if size.nunique() > 1 else ""
    images = sorted({int(n) for n in done["test_images"].dropna()})
    parts += [f"{listed([f'{n:,}' for n in images])} test images"] if images else []
    minutes = done["seconds"].sum() / 60
    if minutes >= 1:  # what an interruption lost is not counted
        least = "at least " if (done["attempts"].astype(float) > 1).any() else ""
        parts.append(f"{least}{plural(round(minutes), 'minute')} of one worker's time")
    return (", ".join(parts) + ".",)

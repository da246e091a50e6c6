"""A table → everything that the report says, in order: answers, caveats, sections. Words and numbers, no markup."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from bias_lab import ledger
from bias_lab.analysis import collect, figures, statistics, tables
from bias_lab.analysis import replicates as rep
from bias_lab.analysis.pages import Report, Section

MAIN_RECIPE = "plain"


def findings(table: pd.DataFrame, tuned: Mapping[str, Any] | None = None) -> Report:
    """The report of a table in any state: without a row it says what is missing."""
    rep.check(table)
    experiment = dict(table.attrs.get("experiment", {}))
    missing, failed = collect.missing(table), table[table["status"] == "failed"]
    answers, sections, caveats = [], [], []
    views = split(table)
    for name, view in views:
        about = name if len(views) > 1 else ""
        found = statistics.answer(view)
        answers.append((about, found.finding, found.method))
        sections += _of_one(view, about)
        caveats += [f"{about}: {text}" if about else text for text in cautions(view)]
    sections += _of_all(table, experiment, missing, failed)
    done = int((table["status"] == "finished").sum())
    return Report(
        title=_title(experiment),
        question=experiment.get("question") or "How far does a plain ViT fall short of CNNs when labels are few?",
        note=str(experiment.get("note", "")).rstrip("."),
        answers=tuple(answers) or (("", "No finished run yet: nothing can be said.", ""),),
        status=status(table, experiment, missing),
        complete=not missing and not len(failed),
        caveats=tuple(dict.fromkeys(caveats)),
        sections=tuple(section for section in sections if section),
        facts=(f"{done:,} runs finished.",) if done else (),
    )


def _title(experiment: Mapping[str, Any]) -> str:
    parts = [str(experiment.get("experiment") or "bias_lab"), str(experiment.get("profile") or "")]
    return " · ".join(part for part in parts if part)


def status(table: pd.DataFrame, experiment: Mapping[str, Any], missing: list[str]) -> str:
    """'missing: 12 of 150 · failed: 2 of 150, 1 diverged', or that all is there."""
    planned = len(experiment.get("planned", [])) or len(table)
    failed = table[table["status"] == "failed"]
    reasons: Mapping[str, str] = table.attrs.get("reasons", {})
    diverged = sum(str(reasons.get(name, "")).startswith("diverged") for name in failed["run_id"])
    parts = [f"missing: {len(missing)} of {planned}"] if missing else []
    if len(failed):
        parts.append(f"failed: {len(failed)} of {planned}, {diverged} diverged")
    if parts:
        return " · ".join(parts)
    return f"complete: {planned} of {planned} runs" if planned else "no run planned or found"


def split(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """One view a dataset and image size, main recipe only: what statistics may compare."""
    rows = table[(table["status"] == "finished") & (table["task"] == "classify")]
    recipe = main_recipe(rows)
    rows = rows[rows["recipe"] == recipe]
    views = []
    for (dataset, side), part in rows.groupby(["dataset", "image_size"]):
        name = (
            f"{dataset}, {side} px"
            if rows.loc[rows["dataset"] == dataset, "image_size"].nunique() > 1
            else str(dataset)
        )
        views.append((name, part))
    return views


def main_recipe(rows: pd.DataFrame) -> str:
    counts = rows["recipe"].value_counts()
    return MAIN_RECIPE if MAIN_RECIPE in counts or not len(counts) else str(counts.index[0])


def _of_one(view: pd.DataFrame, about: str) -> list[Section]:
    """What is said of one dataset at one image size."""
    rows = rep.comparable(view, scratch=False)
    slug = about.replace(" ", "-").replace(",", "") + "-" if about else ""
    tail = f" ({about})" if about else ""
    main = Section(name=f"{slug}figure", title="Accuracy and labels" + tail, charts=(figures.accuracy(rows),))
    found = statistics.gaps(view)
    gap = Section(
        name=f"{slug}shortfall",
        title="The shortfall" + tail,
        charts=(figures.shortfall([("scratch", found, "plain ViT")]),) if len(found) else (),
        tables=(tables.shortfall(found, "CNN family minus plain ViT, from scratch"),),
    )
    labels = Section(
        name=f"{slug}labels",
        title="What the shortfall costs in labels" + tail,
        tables=(tables.efficiency(statistics.sample_efficiency(view)), tables.curves(statistics.learning_curve(view))),
    )
    cells = Section(name=f"{slug}cells", title="Every cell" + tail, tables=(tables.accuracies(rows),))
    return [main, gap, labels, cells]


def _of_all(
    table: pd.DataFrame, experiment: Mapping[str, Any], missing: list[str], failed: pd.DataFrame
) -> list[Section]:
    reasons, labels = table.attrs.get("reasons", {}), experiment.get("labels", {})
    done = table[table["status"] == "finished"]
    recipes = experiment.get("recipes", {})
    return [
        Section(name="budgets", title="Budgets really spent", tables=(tables.budgets(table),), folded=True),
        Section(
            name="recipes", title="Recipes", tables=(tables.recipes(recipes, table),) if recipes else (), folded=True
        ),
        Section(
            name="undone", title="Missing and failed runs", tables=(tables.undone(missing, labels, failed, reasons),)
        ),
        Section(name="provenance", title="Provenance", tables=(tables.provenance(done, experiment),), folded=True),
    ]


def cautions(view: pd.DataFrame) -> list[str]:
    """Caveats that the data call for."""
    return []


REPORT_NAME = ledger.REPORT

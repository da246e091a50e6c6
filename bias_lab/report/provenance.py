"""Report what was spent, set, tuned and missed, and where it all comes from: the tables that hold no statistic."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from bias_lab import schema, statistics
from bias_lab.report.figures.chart import percent
from bias_lab.report.pages import Cell, Section, Table, number, whole, word
from bias_lab.report.sentences import start_words
from bias_lab.results import StudyPlan
from bias_lab.statistics.conditions import PRETRAINS, TESTED


def sections(table: pd.DataFrame, plan: StudyPlan, tuned: Mapping[str, Any]) -> list[Section]:
    """Return the folded sections at the end of a report."""
    parts = {
        "tuning": ("Tuning", tuning(tuned) if tuned else None),
        "budgets": ("Budgets really spent", budgets(table)),
        "recipes": ("Recipes", recipes(plan.recipes, table) if plan.recipes else None),
        "provenance": ("Provenance", provenance(table, plan)),
    }
    return [
        Section(name=name, title=title, tables=(part,) if part else (), folded=True)
        for name, (title, part) in parts.items()
    ]


def budgets(table: pd.DataFrame) -> Table:
    """Return what was really spent: images seen, steps, seconds, and the models' sizes."""
    done = table[table["status"] == "finished"]
    axes = statistics.axes(table)
    rows = []
    key = ["dataset", "backbone", "task", "regime", "protocol", "recipe", "budget", "size"]
    further = [axis for axis in axes if axis in done and axis not in (*key, "samples_seen")]
    for cell, part in done.groupby([*key, *further], dropna=False):
        dataset, backbone, task, regime, protocol, recipe, budget, size, *values = cell
        how = start_words(regime, protocol) + (" (pretraining)" if task in PRETRAINS else "")
        seen = part["samples_seen"].dropna().astype(int).unique()
        varied = recipe if part["steps"].max() else "–"  # a fit to frozen features takes images as they are
        rows.append(
            (
                word(dataset), word(backbone), word(how), word(varied), number(budget, "{:g}"),
                *(word(schema.as_json(value)) for value in values),
                whole(size) if size else word("pool"),
                whole(seen[0]) if len(seen) == 1 else word(f"{min(seen):,}–{max(seen):,}" if len(seen) else "–"),
                whole(part["steps"].max()), number(part["seconds"].mean()), number(part["seconds"].sum() / 60),
                number(part["parameters"].max(), "{:.2f}", scale=1e-6), number(part["flops"].max(),
                "{:.1f}", scale=1e-6),
                whole(part["attempts"].max()), whole(len(part)),
            )
        )  # fmt: skip
    columns = (
        ("dataset", ""), ("backbone", ""), ("regime", "where the weights come from"), ("recipe", ""),
        ("budget", "factor on the images seen"), *((schema.axis_words(axis), "") for axis in further),
        ("N", "labelled training images"), ("images seen", "in one run"), ("steps", "optimizer steps of one run"),
        ("seconds", "mean of a run"), ("minutes", "all runs of the row"),
        ("M parameters", "classifier left out"), ("M mult-adds", "one image, forward"),
        ("attempts", "most of any run"), ("runs", ""),
    )  # fmt: skip
    return Table(title="Budgets really spent", columns=columns, rows=tuple(rows))


def recipes(values: Mapping[str, Mapping[str, Any]], table: pd.DataFrame) -> Table:
    """Return every recipe, setting by setting, and the learning rates as they were used.

    values: recipe → field of `Run` → the values that it had.
    """
    tested = table[table["task"].isin(TESTED)]
    rates = {name: sorted(part["learning_rate"].dropna().unique()) for name, part in tested.groupby("recipe")}
    rows = [
        (word(schema.axis_words(name)), *(word(_values(values[recipe].get(name, "–"))) for recipe in values))
        for name in schema.SETTINGS
        if any(name in settings for settings in values.values())
    ]
    if any(rates.values()):
        tuned = tuple(word(", ".join(f"{rate:g}" for rate in rates.get(recipe, [])) or "–") for recipe in values)
        rows.insert(0, (word("learning rate (tuned for each backbone)"), *tuned))
    columns = (("setting", ""), *((recipe, "") for recipe in values))
    return Table(title="Recipes", columns=columns, rows=tuple(rows))


def _values(value: Any) -> str:
    several = value if isinstance(value, list) else [value]
    return ", ".join(
        f"{v:,}" if isinstance(v, int) and not isinstance(v, bool) else str(v) for v in sorted(several, key=str)
    )


def undone(
    missing: Iterable[str], labels: Mapping[str, str], failed: pd.DataFrame, reasons: Mapping[str, str]
) -> Table:
    """Return the runs that failed, with their reason, then those still missing. labels: run_id → words."""

    def label(row: Mapping[Any, Any]) -> str:
        return f"{row['backbone']} {row['regime']} N={row['size']} draw {row['draw']} seed {row['seed']}"

    rows = [
        (word("failed"), word(labels.get(r["run_id"]) or label(r)), word(reasons.get(r["run_id"], "see its log")),
         word(r["run_id"]))
        for r in failed.to_dict("records")
    ]  # fmt: skip
    rows += [(word("missing"), word(labels.get(name, "–")), word("not run yet"), word(name)) for name in missing]
    columns = (("state", ""), ("run", ""), ("why", ""), ("run_id", "its folder in runs/"))
    return Table(title="Missing and failed runs", columns=columns, rows=tuple(rows))


def provenance(table: pd.DataFrame, plan: StudyPlan) -> Table:
    """Return where the numbers come from: command, versions, data, commits, devices."""
    done = table[table["status"] == "finished"]
    known = [("command", plan.command), ("bias_lab", plan.version), ("profile", plan.profile)]
    for (dataset, fingerprint), part in done.groupby(["dataset", "dataset_fingerprint"]):
        sizes = f"{int(part['test_images'].max()):,} test images" if part["test_images"].notna().any() else ""
        known.append((f"data: {dataset}", f"fingerprint {fingerprint}" + (f", {sizes}" if sizes else "")))
    if "weights_loaded" in done:  # tables of earlier versions lack it
        filled = done[done["weights_loaded"] != ""]
        pairs = filled[["backbone", "weights", "weights_loaded"]].drop_duplicates().itertuples(index=False, name=None)
        known += [(f"weights: {name} in {backbone}", words) for backbone, name, words in pairs]
    known += [(column, name) for column in ("commit", "device") for name in done[column].unique()]
    known += [("versions", _versions(text)) for text in done["versions"].unique()]
    rows = tuple((word(name), word(value)) for name, value in known if value)
    return Table(title="Provenance", columns=(("what", ""), ("value", "")), rows=rows)


def _versions(text: str) -> str:
    try:
        known = json.loads(text)
    except json.JSONDecodeError:
        return text
    return ", ".join(f"{name} {value}" for name, value in sorted(known.items())) if isinstance(known, dict) else text


def tuning(tuned: Mapping[str, Any]) -> Table:
    """Return the learning rates that were tried, and how each did on the hold-out. The chosen one is marked.

    Of a cell whose budget was tuned too, the trials at the smallest number of images seen are shown.
    """
    trials = [{**row, "trials": _at_first_budget(row.get("trials", []))} for row in tuned.get("rows", [])]
    tried = sorted({float(t["learning_rate"]) for row in trials for t in row["trials"]})
    more = [name for name in TOLD_APART if len({text_of(row, name) for row in trials}) > 1]
    rows = []
    for row in trials:
        accuracy_at = {float(t["learning_rate"]): float(t["top1"]) for t in row.get("trials", [])}
        cells = [
            Cell(f"{percent(accuracy_at[rate])}{' ✓' if rate == row['learning_rate'] else ''}", accuracy_at[rate])
            if rate in accuracy_at
            else word("–")
            for rate in tried
        ]
        chosen = number(row["learning_rate"], "{:g}")
        start = word(start_words(row["regime"]))
        told = [word(text_of(row, name)) for name in more]
        rows.append((word(row["backbone"]), start, word(row["recipe"]), *told, whole(row["size"]), chosen, *cells))
    columns = (
        ("backbone", ""), ("regime", "where the weights come from"), ("recipe", ""), *((name, "") for name in more),
        ("N", "labelled training images"),
        ("chosen", "learning rate"), *((f"{rate:g}", "accuracy on the hold-out, %") for rate in tried),
    )  # fmt: skip
    command = tuned.get("command", "")
    note = "Every backbone has the same grid, evaluated on a hold-out of the pool and never on the test images."
    title = "Accuracy on the hold-out, %, for each learning rate"
    note += f" Made by: {command}" if command else ""
    return Table(title=title, columns=columns, rows=tuple(rows), note=note)


TOLD_APART = ("dataset", "optimizer", "head", "priors", "intervention")  # columns where rows differ in them


def text_of(row: Mapping[str, Any], name: str) -> str:
    """Return a field of a tuning row as text: its default where the row lacks it, and `own` for a head of its own."""
    return str(row.get(name) or schema.DEFAULTS.get(name) or ("own" if name == "head" else ""))


def _at_first_budget(trials: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    fewest = min((trial.get("samples_seen", 0) for trial in trials), default=0)
    return [trial for trial in trials if trial.get("samples_seen", 0) == fewest]


def of_the_plan(table: pd.DataFrame, plan: StudyPlan) -> tuple[pd.DataFrame, list[str]]:
    """Return the table without finished runs whose cell an edited experiment defines differently, and a line on them.

    A run of an earlier plan stays if no planned run has its cell, such as one of another size or backbone.
    """
    is_planned = table["run_id"].isin(set(plan.run_ids) - plan.earlier)
    if not is_planned.any() or is_planned.all():
        return table, []
    axes = [name for name in statistics.axes(table[is_planned]) if name in table]
    key = [name for name in ("task", *schema.CELL, *schema.USUAL, *axes, *schema.REPLICATE) if name in table]
    cells = set(table.loc[is_planned, key].astype(str).itertuples(index=False, name=None))
    is_twin = [cell in cells for cell in table[key].astype(str).itertuples(index=False, name=None)]
    is_old = ~is_planned & np.array(is_twin, bool) & table["task"].isin(TESTED)
    count = int(is_old.sum())
    if not count:
        return table, []
    runs = "1 finished run is" if count == 1 else f"{count} finished runs are"
    return table[~is_old], [f"{runs} left out, since the edited experiment defines these cells differently."]

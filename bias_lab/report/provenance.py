"""What was spent, set, tuned, missed, and where it all comes from: the report's tables that hold no statistic."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from bias_lab.report.figures import percent
from bias_lab.report.pages import Cell, Table, number, whole, word

CELL = (  # what names a run in every table: two runs that share it differ in their training alone
    "task dataset image_size backbone recipe intervention budget regime protocol source size draw seed"
).split()


def budgets(table: pd.DataFrame) -> Table:
    """What was really spent: images seen, steps, seconds, and the models' sizes."""
    done = table[table["status"] == "finished"]
    made = []
    keys = ["dataset", "backbone", "task", "regime", "protocol", "recipe", "budget", "size"]
    for key, part in done.groupby(keys):
        dataset, backbone, task, regime, protocol, recipe, budget, size = key
        how = regime if protocol == "finetune" else f"{regime}, {str(protocol).replace('_', ' ')}"
        how = f"{how} (pretraining)" if task == "pretrain" else how
        seen = part["samples_seen"].dropna().astype(int).unique()
        made.append(
            (
                word(dataset), word(backbone), word(how), word(recipe), number(budget, "{:g}"),
                whole(size) if size else word("pool"),
                whole(seen[0]) if len(seen) == 1 else word(f"{min(seen):,}–{max(seen):,}" if len(seen) else "–"),
                whole(part["steps"].max()), number(part["seconds"].mean()), number(part["seconds"].sum() / 60),
                number(part["parameters"].max(), "{:.2f}", scale=1e-6), number(part["flops"].max(),
                "{:.1f}", scale=1e-6),
                whole(part["attempts"].max()), whole(len(part)),
            )
        )  # fmt: skip
    columns = (
        ("dataset", ""), ("backbone", ""), ("regime", ""), ("recipe", ""), ("budget", "factor on the images seen"),
        ("N", ""),
        ("images seen", "in one run"), ("steps", ""), ("seconds", "mean of a run"), ("minutes", "all runs of the row"),
        ("M parameters", "classifier left out"), ("M mult-adds", "one image, forward"),
        ("attempts", "most of any run"), ("runs", ""),
    )  # fmt: skip
    return Table(title="Budgets really spent", columns=columns, rows=tuple(made))


def recipes(told: Mapping[str, Mapping[str, Any]], table: pd.DataFrame) -> Table:
    """Every recipe, setting by setting; learning rates as they were used."""
    rates = {
        name: sorted(part["learning_rate"].dropna().unique())
        for name, part in table[table["task"] == "classify"].groupby("recipe")
    }
    settings = sorted({setting for recipe in told.values() for setting in recipe})
    rows = [(word(setting), *(word(_values(told[name].get(setting, "–"))) for name in told)) for setting in settings]
    if any(rates.values()):
        tuned = tuple(word(", ".join(f"{rate:g}" for rate in rates.get(name, [])) or "–") for name in told)
        rows.insert(0, (word("learning_rate (tuned for each backbone)"), *tuned))
    columns = (("setting", ""), *((name, "") for name in told))
    return Table(title="Recipes", columns=columns, rows=tuple(rows))


def _values(value: Any) -> str:
    several = value if isinstance(value, list) else [value]
    return ", ".join(
        f"{v:,}" if isinstance(v, int) and not isinstance(v, bool) else str(v) for v in sorted(several, key=str)
    )


def undone(
    missing: Iterable[str], labels: Mapping[str, str], failed: pd.DataFrame, reasons: Mapping[str, str]
) -> Table:
    """Runs that failed, with their reason, then those still missing."""
    rows = [
        (word("failed"), word(f"{r['backbone']} {r['regime']} N={r['size']} draw {r['draw']} seed {r['seed']}"),
         word(reasons.get(r["run_id"], "see its log")), word(r["run_id"]))
        for r in failed.to_dict("records")
    ]  # fmt: skip
    rows += [(word("missing"), word(labels.get(name, "–")), word("not run yet"), word(name)) for name in missing]
    columns = (("state", ""), ("run", ""), ("why", ""), ("run_id", ""))
    return Table(title="Missing and failed runs", columns=columns, rows=tuple(rows))


def provenance(table: pd.DataFrame, experiment: Mapping[str, Any]) -> Table:
    """Where the numbers come from: command, versions, data, commits, devices."""
    done = table[table["status"] == "finished"]
    facts = [("command", experiment.get("command", "")), ("bias_lab", experiment.get("version", ""))]
    facts += [("profile", experiment.get("profile", ""))]
    for (dataset, fingerprint), part in done.groupby(["dataset", "dataset_fingerprint"]):
        sizes = f"{int(part['test_images'].max()):,} test images" if part["test_images"].notna().any() else ""
        facts.append((f"data: {dataset}", f"fingerprint {fingerprint}" + (f", {sizes}" if sizes else "")))
    facts += [("commit", name) for name in done["commit"].unique()]
    facts += [("device", name) for name in done["device"].unique()]
    for text in done["versions"].unique():
        facts.append(("versions", _versions(text)))
    rows = tuple((word(name), word(value)) for name, value in facts if value)
    return Table(title="Provenance", columns=(("what", ""), ("value", "")), rows=rows)


def _versions(text: str) -> str:
    try:
        known = json.loads(text)
    except json.JSONDecodeError:
        return text
    return ", ".join(f"{name} {value}" for name, value in sorted(known.items())) if isinstance(known, dict) else text


def tuning(tuned: Mapping[str, Any]) -> Table:
    """Learning rates that were tried, and how each did on the hold-out; the chosen one is marked."""
    trials = tuned.get("rows", [])
    tried = sorted({float(t["learning_rate"]) for row in trials for t in row.get("trials", [])})
    rows = []
    for row in trials:
        found = {float(t["learning_rate"]): float(t["top1"]) for t in row.get("trials", [])}
        cells = [
            Cell(f"{percent(found[rate])}{' ✓' if rate == row['learning_rate'] else ''}", found[rate])
            if rate in found
            else word("–")
            for rate in tried
        ]
        chosen = number(row["learning_rate"], "{:g}")
        rows.append(
            (word(row["backbone"]), word(row["regime"]), word(row["recipe"]), whole(row["size"]), chosen, *cells)
        )
    columns = (
        ("backbone", ""), ("regime", ""), ("recipe", ""), ("N", "labelled training images"),
        ("chosen", "learning rate"),
        *((f"{rate:g}", "accuracy on the hold-out, %") for rate in tried),
    )  # fmt: skip
    command = tuned.get("command", "")
    note = "The same grid for every backbone, judged on a hold-out of the pool, never on test."
    note += f" Made by: {command}" if command else ""
    return Table(
        title="Tuning: accuracy on the hold-out, %, for each learning rate",
        columns=columns,
        rows=tuple(rows),
        note=note,
    )


def of_the_plan(table: pd.DataFrame, experiment: Mapping[str, Any]) -> tuple[pd.DataFrame, list[str]]:
    """The table less finished runs whose cell an edited experiment runs otherwise now, and a line that says so.

    A run of an earlier plan that is in nobody's way stays: another size or backbone that was asked for before.
    """
    mine = table["run_id"].isin({*experiment.get("planned", [])} - {*experiment.get("earlier", [])})
    if not mine.any() or mine.all():
        return table, []
    key = [name for name in CELL if name in table]
    cells = set(table.loc[mine, key].astype(str).itertuples(index=False, name=None))
    twin = [cell in cells for cell in table[key].astype(str).itertuples(index=False, name=None)]
    old = ~mine & np.array(twin, bool) & (table["task"] == "classify")
    count = int(old.sum())
    if not count:
        return table, []
    what = "1 finished run is" if count == 1 else f"{count} finished runs are"
    return table[~old], [f"{what} left out: the experiment was edited, and runs the same cells otherwise now."]

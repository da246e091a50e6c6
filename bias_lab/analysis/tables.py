"""Statistics → the report's tables: words and numbers for people, each column with its meaning."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from bias_lab.analysis import intervals
from bias_lab.analysis import replicates as rep
from bias_lab.analysis.figures import percent, span
from bias_lab.analysis.pages import Cell, Table, number, points, whole, word

_N = ("N", "labelled training images")
_n = ("n", "pairs of replicates (draw, seed) that both sides have")
_INTERVAL = ("95 % interval", "Student's t over replicates, on this test set")
_ANY = ("with test images", "95 % interval that holds the sampling of test images too")


def between(low: Any, high: Any) -> Cell:
    """An interval of fractions, sorted by its lower end."""
    text = span(float(low), float(high))
    return Cell(text, float(low)) if text != "–" else Cell(text)


def shortfall(found: pd.DataFrame, title: str) -> Table:
    """The rows of `statistics.gaps`, in points."""
    rows = tuple(
        (
            whole(row["size"]), points(row["shortfall"]), between(row["low"], row["high"]),
            between(row["low_any"], row["high_any"]), whole(row["n"]), number(row["p_holm"], "{:.3g}"),
            number(row["p_permutation"], "{:.3g}"), whole(row["collapsed"]),
        )
        for row in found.to_dict("records")
    )  # fmt: skip
    columns = (
        _N, ("points", "mean accuracy of the reference minus the other's"), _INTERVAL, _ANY, _n,
        ("p, Holm", "two-sided, with test images where known, corrected over sizes"),
        ("p, sign flips", "paired permutation test, not corrected"),
        ("collapsed", "runs among them that predict one class, or whose features died; they stay in"),
    )  # fmt: skip
    least = found["p_smallest"].dropna()
    note = ""
    if len(least):
        units = found.loc[found["p_smallest"].notna(), ["units", "unit"]]
        note = (
            f"Sign flips of {int(units['units'].min())} {units['unit'].iloc[0]}s can't give a p below {least.max():.2g}, "
            "however large the difference."
        )
    return Table(title=title, columns=columns, rows=rows, note=note)


def accuracies(rows: pd.DataFrame) -> Table:
    """Every cell: test accuracy with its interval, and accuracy on its own training images."""
    made = []
    keys = ["family", "backbone", "regime", "protocol", "size"]
    for (family, backbone, regime, protocol, size), part in rows.groupby(keys):
        of = intervals.mean(rep.units(part.set_index(["draw", "seed"])[["top1"]])["top1"].to_numpy(dtype=float))
        collapsed = int(part["collapsed"].fillna(False).astype(bool).sum()) if "collapsed" in part else 0
        slope = part["loss_slope"].mean() if "loss_slope" in part else None
        train = part["train_top1"].mean() if "train_top1" in part else None
        how = regime if protocol == "finetune" else f"{regime}, {str(protocol).replace('_', ' ')}"
        made.append(
            (
                word(backbone), word(family), word(how), whole(size), points(of.value), between(of.low, of.high),
                whole(len(part)), points(train), number(slope, "{:.3f}"), whole(collapsed),
            )
        )  # fmt: skip
    columns = (
        ("backbone", ""), ("family", ""), ("regime", "where the weights come from"), _N,
        ("test, %", "mean accuracy on the test images"), _INTERVAL, ("n", "replicates"),
        ("train, %", "accuracy on its own training images, un-augmented"),
        ("loss slope", "change of the training loss over the last part of training; negative: still falling"),
        ("collapsed", "runs that predict one class, or whose features died"),
    )  # fmt: skip
    return Table(title="Accuracy of every cell", columns=columns, rows=tuple(made))


def efficiency(found: pd.DataFrame) -> Table:
    """`statistics.sample_efficiency`: how many times the labels."""
    rows = tuple(
        (
            whole(row["size"]),
            points(row["accuracy"]),
            Cell(f"{row['bound']} {_rounded(row['labels'])}".strip(), float(row["labels"])),
            Cell(row["text"], float(row["ratio"])),
            whole(row["n"]),
        )
        for row in found.to_dict("records")
    )
    columns = (
        ("CNN's N", "labelled images that the CNN family has"), ("its accuracy, %", ""),
        ("plain ViT needs", "labelled images for the same accuracy, read off its curve"),
        ("times the labels", "with its 95 % interval; a bound where the curve ends"), _n,
    )  # fmt: skip
    note = (
        "Between sizes curves are straight in log N; beyond the largest size nothing is extrapolated, bounds are given."
    )
    return Table(title="How many times the labels plain ViT needs", columns=columns, rows=rows, note=note)


def _rounded(size: float) -> str:
    return f"{int(round(size, -max(0, len(str(int(size))) - 2))):,}"


def curves(found: pd.DataFrame) -> Table:
    """`statistics.learning_curve`."""
    rows = tuple(
        (
            word(row["backbone"]), word(row["regime"]), points(row["limit"]), number(row["exponent"], "{:.2f}"),
            points(row["rmse"]), whole(row["held_out"]), points(row["predicted"]), points(row["observed"]), points(row["error"]),
        )
        for row in found.to_dict("records")
    )  # fmt: skip
    columns = (
        ("backbone", ""), ("regime", ""), ("limit, %", "accuracy that the fit tends to"), ("exponent", "how fast it gets there"),
        ("misfit", "root mean square, points"), ("held-out N", "the largest size, left out of a second fit"),
        ("foretold, %", "what the second fit says there"), ("measured, %", ""), ("error", "points"),
    )  # fmt: skip
    note = "accuracy(N) = limit − scale · N^(−exponent). The error at the held-out size says how far such a fit can be trusted."
    return Table(title="Learning curves", columns=columns, rows=rows, note=note)


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
                word(dataset), word(backbone), word(how), word(recipe), number(budget, "{:g}"), whole(size) if size else word("pool"),
                whole(seen[0]) if len(seen) == 1 else word(f"{min(seen):,}–{max(seen):,}" if len(seen) else "–"),
                whole(part["steps"].max()), number(part["seconds"].mean()), number(part["seconds"].sum() / 60),
                number(part["parameters"].max(), "{:.2f}", scale=1e-6), number(part["flops"].max(), "{:.1f}", scale=1e-6),
                whole(part["attempts"].max()), whole(len(part)),
            )
        )  # fmt: skip
    columns = (
        ("dataset", ""), ("backbone", ""), ("regime", ""), ("recipe", ""), ("budget", "factor on the images seen"), _N,
        ("images seen", "in one run"), ("steps", ""), ("seconds", "mean of a run"), ("minutes", "all runs of the row"),
        ("M parameters", "classifier left out"), ("M mult-adds", "one image, forward"), ("attempts", "most of any run"), ("runs", ""),
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


def longer(rows: pd.DataFrame) -> tuple[Table, tuple[str, ...]]:
    """Cells run with more images on purpose beside the same cells at budget 1, paired; and what follows from them."""
    made, words = [], []
    keys = ["backbone", "regime", "protocol", "size"]
    for (*cell, budget), part in rows[rows["budget"] != 1].groupby([*keys, "budget"]):
        same = (rows[keys] == cell).all(axis=1) & (rows["budget"] == 1)
        both = part.merge(rows[same], on=["draw", "seed"], suffixes=("_long", "_plain"))
        gain = both.assign(gain=both["top1_long"] - both["top1_plain"]).set_index(["draw", "seed"])[["gain"]]
        of = (
            intervals.mean(rep.units(gain)["gain"].to_numpy(dtype=float))
            if len(gain)
            else intervals.mean(gain["gain"].to_numpy(dtype=float))
        )
        made.append(
            (
                word(cell[0]), whole(cell[3]), number(budget, "{:g}×"), points(both["top1_plain"].mean()), points(part["top1"].mean()),
                points(of.value), between(of.low, of.high), whole(len(both)),
            )
        )  # fmt: skip
        if of.k:
            words.append(f"{cell[0]} gains {percent(of.value)} points at N = {int(cell[3]):,}")
    columns = (
        ("backbone", ""), _N, ("images", "times those of the other cells"), ("at 1×, %", ""), ("longer, %", ""),
        ("gain", "points"), _INTERVAL, _n,
    )  # fmt: skip
    return Table(title="The same cells with more images seen", columns=columns, rows=tuple(made)), tuple(words)

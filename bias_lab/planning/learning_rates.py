"""Read, look up, borrow and write tuned learning rates and settled budgets (`tuned.json`).

`bias_lab.tuning` describes a row, and `planning/ladder.py` searches for its values.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bias_lab import catalogue, ledger, tuning
from bias_lab.definition import DEFAULTS, Run, pretrains
from bias_lab.errors import UserError
from bias_lab.schema import label

COMMON = 1e-3  # borrowed where nothing was tuned
_EXACT = [name for name in tuning.ARM if tuning.KEY[name] != tuning.ANY]
_OR_ABSENT = [name for name in tuning.ARM if tuning.KEY[name] == tuning.ANY]

Row = Mapping[str, Any]


@dataclass(slots=True)
class Rates:
    """The rows of one or more tuning tables. Of two rows that fit equally well the earlier one is taken."""

    rows: list[Row] = field(default_factory=list)
    _by_arm: dict[tuple[Any, ...], list[Row]] = field(default_factory=lambda: defaultdict(list))

    def add(self, table: Mapping[str, Any], path: Path) -> None:
        """Add the rows of one file. Raises UserError for a row that lacks a field or has a value of another type."""
        if wrong := tuning.malformed(table):
            raise UserError(f"{path}: {wrong}", remedy="make the file again with: bias-lab tuned FOLDER")
        for row in table.get("rows", ()):
            self.rows.append(row)
            self._by_arm[values(row, _EXACT)].append(row)

    def row(self, run: Run, *, own: bool = False) -> Row | None:
        """Return the row for a run whose size is nearest in log N, or None.

        Rows of the run's own dataset and recipe come first. Without any, those of other datasets fit too, and of the
        recipe that its own was made from, unless `own`. A run whose budget is open fits only rows that have one, of its
        own recipe: augmentation and batches decide when training stops to help.
        """
        rows = [
            row
            for row in self._by_arm.get(values(run, _EXACT), ())
            if all(row.get(name, getattr(run, name)) == getattr(run, name) for name in _OR_ABSENT)
            and (run.samples_seen is not None or "samples_seen" in row)
        ]
        here = [row for row in rows if row["dataset"] == run.dataset]
        rows = here if here or own else rows
        fit = [row for row in rows if row["recipe"] == run.recipe]  # `plain+crop=0` before `plain`
        if not fit and not own and run.samples_seen is not None:
            fit = [row for row in rows if "+" not in row["recipe"]]
        return min(fit, key=lambda row: (abs(math.log(row["size"] / max(run.size, 1))), row["size"]), default=None)

    def grid(self) -> tuple[float, ...]:
        """Return the learning rates that every row has tried, sorted: the grid without its extensions."""
        tried = [set(rates) for row in self.rows if (rates := _tried(row))]
        return tuple(sorted(set.intersection(*tried))) if tried else ()

    def sizes(self, run: Run) -> list[int]:
        """Return the sizes at which backbones were tuned on the run's dataset, in arms like its own if any were."""
        like = [name for name in _EXACT if name != "backbone"]
        cell = values(run, like)
        here = [row for row in self.rows if row["dataset"] == run.dataset]
        same = [row for row in here if values(row, like) == cell]
        untouched = [row for row in here if not row.get("intervention")]
        return sorted({int(row["size"]) for row in same or untouched or here})

    def tried(self, backbone: str) -> tuple[float, float] | None:
        """Return the smallest and the largest learning rate that were tried for a backbone, or None."""
        rates = [rate for row in self.rows if row["backbone"] == backbone for rate in _tried(row)]
        return (min(rates), max(rates)) if rates else None


def values(cell: Run | Row, names: Iterable[str]) -> tuple[Any, ...]:
    """Return fields of a run or of a row. A changed recipe is the one that it was made from: `plain+mixup=0.2`."""
    return tuple(
        tuning.value(cell, name).partition("+")[0] if name == "recipe" else tuning.value(cell, name) for name in names
    )


def _tried(row: Row) -> list[float]:
    return [float(trial["learning_rate"]) for trial in row.get("trials", ())]


def read(*paths: Path) -> Rates:
    """Return the rows of all these files that exist."""
    rates = Rates()
    for path in paths:
        if path.is_file():
            rates.add(ledger.read_json(path), path)
    return rates


def needs_rate(run: Run) -> bool:
    """Return whether planning must fill in a run's learning rate. Pretrainings have the default of their method."""
    return run.learning_rate is None and takes_tuned_rate(run)


def takes_tuned_rate(run: Run) -> bool:
    """Return whether a run trains with a tuned learning rate."""
    return not pretrains(run) and catalogue.PROTOCOLS[run.protocol].needs_learning_rate


def untuned(run: Run) -> UserError:
    """Return the error for a run that no row of the tuning table fits."""
    near = catalogue.nearest(run.backbone)
    if near:
        return UserError(f"no tuned learning rate for backbone '{run.backbone}'", f"did you mean '{near}'?")
    search = "bias-lab sweep tuning with this --profile, then bias-lab tuned on its folder, --out FOLDER/tuned.json"
    remedy = f"add --tune (searches first), --no-tune (borrows){{}}, or run {search} of this sweep"
    lacking, more = ("settled budget", "") if run.samples_seen is None else ("learning rate", ", --set learning_rate=…")
    return UserError(
        f"no tuned {lacking} for {label(run)} (recipe {run.recipe}, optimizer {run.optimizer})",
        "tuned.json has none for this backbone, recipe, optimizer, priors, regime and intervention",
        remedy.format(more),
    )


def borrow(run: Run, rates: Rates) -> tuple[float, int | None, str]:
    """Return a learning rate for a run that is not tuned, a budget if the run's is open, and where they are from.

    The budget is None where the run has one.

    The order is the backbone itself, backbones of its architecture, `vit_micro`, `resnet_micro` and a common value. For
    each backbone it is the run's own arm, the arm without its intervention and priors, the plain recipe from scratch,
    and the same with the default optimizer (Muon's updates are scaled to the size of AdamW's).
    """
    kind = catalogue.architecture(run.backbone)
    kin = sorted({row["backbone"] for row in rates.rows if catalogue.architecture(row["backbone"]) == kind})
    bare = replace(run, intervention="", priors="", method="", method_source="")
    simplest = replace(bare, recipe=DEFAULTS["recipe"], regime=DEFAULTS["regime"])
    usual = replace(simplest, optimizer=DEFAULTS["optimizer"])
    for name in (run.backbone, *kin, "vit_micro", "resnet_micro"):
        for like in (run, bare, simplest, usual):
            row = rates.row(replace(like, backbone=name, backbone_source=""))
            if row is not None:
                budget = int(row["samples_seen"]) if run.samples_seen is None else None
                return float(row["learning_rate"]), budget, f"{name}'s at N = {row['size']}"
    budget = DEFAULTS["samples_seen"] if run.samples_seen is None else None
    return COMMON, budget, "a common value that was tuned for no backbone"


def write(path: Path, rows: Iterable[Row], command: str) -> None:
    """Add rows to a tuning table. A row replaces the old one of the same cell."""
    old = ledger.read_json(path)["rows"] if path.is_file() else []
    merged = {tuning.key(row): row for row in [*old, *rows]}
    ledger.write_json(path, {"command": command, "rows": [merged[cell] for cell in sorted(merged, key=str)]})

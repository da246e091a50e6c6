"""Learning rates that were tuned: read, looked up, chosen from finished trials, written (`tuned.json`).

The same grid for every backbone, judged on the hold-out (DESIGN 3.5). A row of the file: `dataset, backbone, recipe,
regime, size, intervention, learning_rate, trials [{learning_rate, top1}]`; sizes between take the nearest in log N.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bias_lab import catalogue, ledger
from bias_lab.definition import Run, label, run_id
from bias_lab.errors import UserError

GRID = (3e-4, 1e-3, 3e-3, 1e-2)  # where no tuned.json says which
REPLICATES = ((1000, 1000),)  # (draw, seed): from 1000 on, which no sweep uses

Key = tuple[str, str, str, str]  # backbone, recipe, regime, intervention


@dataclass(slots=True)
class Rates:
    """Tuned learning rates of one or more files, later files first in line."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    replicates: tuple[tuple[int, int], ...] = REPLICATES
    _by_key: dict[Key, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, table: Mapping[str, Any], path: Path) -> None:
        """The rows of one file. Raises UserError for a row that lacks something."""
        for row in table.get("rows", ()):
            missing = {"dataset", "backbone", "recipe", "regime", "size", "learning_rate"} - set(row)
            if missing:
                raise UserError(
                    f"{path}: a row without {', '.join(sorted(missing))}", remedy="make it again: experiments/tuning.py"
                )
            self.rows.append(row)
            self._by_key[row["backbone"], row["recipe"], row["regime"], row.get("intervention", "")].append(row)
        if table.get("replicates"):
            self.replicates = tuple((int(draw), int(seed)) for draw, seed in table["replicates"])

    def row(self, run: Run, *, backbone: str | None = None, own_data: bool = False) -> dict[str, Any] | None:
        """The row for a run: its dataset's if there is one, else another's (not if `own_data`); nearest in log N."""
        key = (backbone or run.backbone, base_recipe(run.recipe), run.regime, run.intervention)
        rows = [
            row
            for row in self._by_key.get(key, ())
            if row.get("backbone_source", run.backbone_source) == run.backbone_source
        ]
        here = [row for row in rows if row["dataset"] == run.dataset]
        rows = here if here or own_data else rows
        return min(rows, key=lambda row: (abs(math.log(row["size"] / max(run.size, 1))), row["size"]), default=None)

    def grid(self) -> tuple[float, ...]:
        """The learning rates that were tried."""
        tried = {float(trial["learning_rate"]) for row in self.rows for trial in row.get("trials", ())}
        return tuple(sorted(tried)) or GRID

    def sizes(self, run: Run) -> list[int]:
        """The sizes at which backbones were tuned on the run's dataset, for cells like its own; empty if nobody was."""
        here = [row for row in self.rows if row["dataset"] == run.dataset]
        untouched = [row for row in here if not row.get("intervention")]
        cell = base_recipe(run.recipe), run.regime, run.intervention
        same = [row for row in here if (row["recipe"], row["regime"], row.get("intervention", "")) == cell]
        return sorted({int(row["size"]) for row in same or untouched or here})

    def spread(self, backbone: str) -> tuple[float, float] | None:
        """Smallest and largest learning rate that was tried for a backbone; None if none was."""
        rows = [row for row in self.rows if row["backbone"] == backbone]
        tried = [float(trial["learning_rate"]) for row in rows for trial in row.get("trials", ())]
        return (min(tried), max(tried)) if tried else None


def base_recipe(name: str) -> str:
    """`plain+mixup=0.2` was tuned as `plain`."""
    return name.partition("+")[0]


def read(*paths: Path) -> Rates:
    """Rates of all the files that exist."""
    rates = Rates()
    for path in paths:
        if path.is_file():
            rates.add(ledger.read_json(path), path)
    return rates


def needs_rate(run: Run) -> bool:
    """Whether the plan must find a learning rate: a pretraining has its method's own, a probe and kNN have none."""
    return run.learning_rate is None and run.task != "pretrain" and run.protocol == "finetune"


def resolve(run: Run, rates: Rates) -> Run:
    """The run with its tuned learning rate. Raises UserError if none was tuned."""
    row = rates.row(run)
    if row is None:
        near = catalogue.nearest(run.backbone)
        if near:
            raise UserError(f"no tuned learning rate for backbone '{run.backbone}'", f"did you mean '{near}'?")
        raise UserError(
            f"no tuned learning rate for {label(run)}",
            "experiments/tuned.json has none for this backbone, recipe, regime and intervention",
            "run experiments/tuning.py, or add --tune (tunes first), --no-tune (borrows one) or --set learning_rate=…",
        )
    return replace(run, learning_rate=float(row["learning_rate"]))


def used(runs: Iterable[Run], rates: Rates) -> list[dict[str, Any]]:
    """The rows that gave these runs their learning rates, each once: what a report shows of the tuning."""
    found = {}
    for run in runs:
        row = rates.row(run) if needs_rate(replace(run, learning_rate=None)) else None
        if row is not None and run.learning_rate == row["learning_rate"]:
            found[id(row)] = row
    return list(found.values())


def borrow(run: Run, rates: Rates) -> tuple[float, str]:
    """A learning rate for a run that is not to be tuned, and whose it is: for a line that says so."""
    kind = catalogue.architecture(run.backbone)
    kin = sorted({row["backbone"] for row in rates.rows if catalogue.architecture(row["backbone"]) == kind})
    for name in [run.backbone, *kin, "vit_micro", "resnet_micro"]:
        for like in (
            run,
            replace(run, intervention=""),
            replace(run, intervention="", recipe="plain", regime="scratch"),
        ):
            row = rates.row(replace(like, backbone_source=""), backbone=name)
            if row is not None:
                return float(row["learning_rate"]), f"{name}'s at N = {row['size']}"
    return 1e-3, "a common value, tuned for nobody"


# --- tuning ----------------------------------------------------------------------------------------------------------


def trials(runs: Iterable[Run], rates: Rates, *, largest: int) -> list[Run]:
    """The tuning runs that give these runs their learning rates: every rate of the grid, at the sizes of the others.

    largest: the largest subset that leaves the hold-out alone. Draws and seeds are 1000 and more (DESIGN 3.3).
    """
    cells: dict[tuple[str, ...], list[Run]] = defaultdict(list)
    for run in runs:
        if run.budget == 1:
            cells[run.dataset, run.backbone, run.recipe, run.regime, run.intervention].append(run)
    made: dict[Run, None] = {}
    for cell in cells.values():
        known = [size for size in rates.sizes(cell[0]) if size <= largest]
        own = sorted({min(run.size, largest) for run in cell})
        for size in known or sorted({own[0], own[-1]}):
            model = min(cell, key=lambda run: abs(math.log(run.size / size)))
            for (draw, seed), rate in ((pair, rate) for pair in rates.replicates for rate in rates.grid()):
                made[replace(model, task="tune", size=size, draw=draw, seed=seed, learning_rate=rate)] = None
    return list(made)


def choose(runs: Sequence[Run], scores: Mapping[str, float]) -> list[dict[str, Any]]:
    """Rows of tuned.json from finished trials: per cell and size, the rate with the best mean on the hold-out.

    scores: run_id → top-1 on the hold-out; a trial that failed is not in it. Ties go to the smaller rate. Raises
    UserError if every trial of a cell failed.
    """
    cells: dict[tuple[Any, ...], dict[float, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        cell = (run.dataset, run.backbone, run.backbone_source, run.recipe, run.regime, run.intervention, run.size)
        cells[cell][run.learning_rate or 0.0].append(run)
    rows = []
    for (dataset, backbone, source, recipe, regime, intervention, size), by_rate in cells.items():
        tried = []
        for rate, group in sorted(by_rate.items()):
            got = [scores[run_id(run)] for run in group if run_id(run) in scores]
            if len(got) == len(group):  # a rate that diverged once is not safe to choose
                tried.append({"learning_rate": rate, "top1": round(sum(got) / len(got), 6)})
        if not tried:
            raise UserError(
                f"every tuning run of {backbone} at N = {size} failed", remedy="see their logs: bias-lab status FOLDER"
            )
        best = max(tried, key=lambda trial: (trial["top1"], -trial["learning_rate"]))
        rows.append(
            {
                "dataset": dataset,
                "backbone": backbone,
                "recipe": recipe,
                "regime": regime,
                "size": size,
                "intervention": intervention,
                "learning_rate": best["learning_rate"],
                "trials": tried,
                **({"backbone_source": source} if source else {}),
            }
        )
    return rows


def write(path: Path, rows: Iterable[Mapping[str, Any]], command: str) -> None:
    """Add rows to a tuned.json; a row for the same cell and size takes the old one's place."""
    old = ledger.read_json(path) if path.is_file() else {"rows": []}

    def cell(row: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(
            row.get(name, "")
            for name in ("dataset", "backbone", "backbone_source", "recipe", "regime", "size", "intervention")
        )

    merged = {cell(row): row for row in [*old["rows"], *rows]}
    ledger.write_json(path, {"command": command, "rows": [merged[key] for key in sorted(merged, key=str)]})

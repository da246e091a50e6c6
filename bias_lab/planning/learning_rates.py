"""Read, look up, borrow, choose and write tuned learning rates (`tuned.json`), and plan the trials that find them.

Every backbone has trials from the same grid, evaluated on the hold-out (DESIGN 3.5). `bias_lab.tuning` describes a row.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bias_lab import catalogue, ledger, tuning
from bias_lab.definition import DEFAULTS, Run, pretrains, run_id
from bias_lab.errors import UserError
from bias_lab.planning import overrides
from bias_lab.schema import label

GRID = (3e-4, 1e-3, 3e-3, 1e-2)  # tried where no tuned.json has a grid
REPLICATES = ((1000, 1000),)  # (draw, seed) of trials. No sweep uses 1000 or more
COMMON = 1e-3  # borrowed where nothing was tuned
TRIAL = next(task.name for task in catalogue.TASKS.values() if task.evaluated_on == "holdout")  # a trial's task
_EXACT = [name for name in tuning.ARM if tuning.KEY[name] != tuning.ANY]
_OR_ABSENT = [name for name in tuning.ARM if tuning.KEY[name] == tuning.ANY]

Row = Mapping[str, Any]


@dataclass(slots=True)
class Rates:
    """The rows of one or more tuning tables. Of two rows that fit equally well the earlier one is taken."""

    rows: list[Row] = field(default_factory=list)
    replicates: tuple[tuple[int, int], ...] = REPLICATES
    _by_arm: dict[tuple[Any, ...], list[Row]] = field(default_factory=lambda: defaultdict(list))

    def add(self, table: Mapping[str, Any], path: Path) -> None:
        """Add the rows of one file. Raises UserError for a row that lacks a field."""
        for row in table.get("rows", ()):
            if missing := tuning.missing(row):
                what = f"{path}: a row lacks {', '.join(missing)}"
                raise UserError(what, remedy="make the file again with experiments/tuning.py")
            self.rows.append(row)
            self._by_arm[_values(row, _EXACT)].append(row)
        if table.get("replicates"):
            self.replicates = tuple((int(draw), int(seed)) for draw, seed in table["replicates"])

    def row(self, run: Run, *, own_data: bool = False) -> Row | None:
        """Return the row for a run whose size is nearest in log N, or None.

        Rows of the run's own dataset come first. Without any, rows of other datasets fit too, unless `own_data`.
        """
        rows = [
            row
            for row in self._by_arm.get(_values(run, _EXACT), ())
            if all(row.get(name, getattr(run, name)) == getattr(run, name) for name in _OR_ABSENT)
        ]
        here = [row for row in rows if row["dataset"] == run.dataset]
        rows = here if here or own_data else rows
        return min(rows, key=lambda row: (abs(math.log(row["size"] / max(run.size, 1))), row["size"]), default=None)

    def grid(self) -> tuple[float, ...]:
        """Return the learning rates that were tried, sorted."""
        return tuple(sorted({rate for row in self.rows for rate in _tried(row)})) or GRID

    def sizes(self, run: Run) -> list[int]:
        """Return the sizes at which backbones were tuned on the run's dataset, in arms like its own if any were."""
        like = [name for name in _EXACT if name != "backbone"]
        cell = _values(run, like)
        here = [row for row in self.rows if row["dataset"] == run.dataset]
        same = [row for row in here if _values(row, like) == cell]
        untouched = [row for row in here if not row.get("intervention")]
        return sorted({int(row["size"]) for row in same or untouched or here})

    def tried(self, backbone: str) -> tuple[float, float] | None:
        """Return the smallest and the largest learning rate that were tried for a backbone, or None."""
        rates = [rate for row in self.rows if row["backbone"] == backbone for rate in _tried(row)]
        return (min(rates), max(rates)) if rates else None


def _values(cell: Run | Row, names: Iterable[str]) -> tuple[Any, ...]:
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
    return run.learning_rate is None and _takes_tuned_rate(run)


def _takes_tuned_rate(run: Run) -> bool:
    return not pretrains(run) and catalogue.PROTOCOLS[run.protocol].needs_learning_rate


def resolve(run: Run, rates: Rates) -> Run:
    """Return the run with its tuned learning rate. Raises UserError if none was tuned."""
    row = rates.row(run)
    if row is None:
        near = catalogue.nearest(run.backbone)
        if near:
            raise UserError(f"no tuned learning rate for backbone '{run.backbone}'", f"did you mean '{near}'?")
        raise UserError(
            f"no tuned learning rate for {label(run)}",
            "tuned.json has none for this backbone, recipe, optimizer, regime and intervention",
            "run experiments/tuning.py, or add --tune (tunes first), --no-tune (borrows one) or --set learning_rate=…",
        )
    return replace(run, learning_rate=float(row["learning_rate"]))


def used(runs: Iterable[Run], rates: Rates) -> list[Row]:
    """Return the rows that gave these runs their learning rates, each once."""
    rows = {}
    for run in runs:
        row = rates.row(run) if _takes_tuned_rate(run) else None
        if row is not None and run.learning_rate == row["learning_rate"]:
            rows[id(row)] = row
    return list(rows.values())


def borrow(run: Run, rates: Rates) -> tuple[float, str]:
    """Return a learning rate for a run that is not tuned, and where it is from, in words.

    The order is the backbone itself, backbones of its architecture, `vit_micro`, `resnet_micro` and a common value. For
    each backbone it is the run's own arm, the arm without its intervention, the plain recipe from scratch, and the same
    with the default optimizer (Muon's updates are scaled to the size of AdamW's).
    """
    kind = catalogue.architecture(run.backbone)
    kin = sorted({row["backbone"] for row in rates.rows if catalogue.architecture(row["backbone"]) == kind})
    bare = replace(run, intervention="")
    simplest = replace(bare, recipe=DEFAULTS["recipe"], regime=DEFAULTS["regime"])
    usual = replace(simplest, optimizer=DEFAULTS["optimizer"])
    for name in (run.backbone, *kin, "vit_micro", "resnet_micro"):
        for like in (run, bare, simplest, usual):
            row = rates.row(replace(like, backbone=name, backbone_source=""))
            if row is not None:
                return float(row["learning_rate"]), f"{name}'s at N = {row['size']}"
    return COMMON, "a common value that was tuned for no backbone"


def settle(
    runs: Sequence[Run], rates: Rates, largest: Mapping[str, int], joined: Collection[str], *, tune: bool | None
) -> tuple[list[Run], list[Run], list[str]]:
    """Return the runs with their learning rates, the trials for those still open, and a line for each borrowed rate.

    largest: dataset → the largest subset that leaves the hold-out alone. joined: backbones that the user added.
    tune: True tunes every cell that its own dataset has no rate for, None tunes joined backbones, False tunes nothing.
    """
    by_cell: dict[tuple[Any, ...], float | None] = {}  # None: to be tuned
    borrowed: dict[str, dict[str, None]] = defaultdict(dict)
    open_runs: dict[str, list[Run]] = defaultdict(list)

    def rate_of(run: Run) -> float | None:
        row = rates.row(run, own_data=tune is True)
        if row is not None:
            return float(row["learning_rate"])
        if tune is False:
            rate, whose = borrow(run, rates)
            borrowed[f"learning rate {rate:g}, {whose}"][tuning.words(run)] = None
            return rate
        return None if tune or run.backbone in joined else resolve(run, rates).learning_rate

    def change(run: Run) -> Run:
        if not needs_rate(run):
            return run
        cell = tuning.key(run)
        if cell not in by_cell:
            by_cell[cell] = rate_of(run)
        if by_cell[cell] is None:
            open_runs[run.dataset].append(run)
            return run
        return replace(run, learning_rate=by_cell[cell])

    settled = overrides.rewrite(runs, change)
    to_try = [trial for name, group in open_runs.items() for trial in trials(group, rates, largest=largest[name])]
    return settled, to_try, [f"not tuned ({rate}): {', '.join(arms)}" for rate, arms in borrowed.items()]


# --- tuning ----------------------------------------------------------------------------------------------------------


def trials(runs: Iterable[Run], rates: Rates, *, largest: int) -> list[Run]:
    """Return the tuning runs for these runs: every rate of the grid, at the sizes at which others were tuned.

    largest: the largest subset that leaves the hold-out alone. Draws and seeds are 1000 or more (DESIGN 3.3).
    """
    arms: dict[tuple[Any, ...], list[Run]] = defaultdict(list)
    for run in runs:
        if run.budget == 1:
            arms[run.dataset, run.recipe, *_values(run, tuning.ARM)].append(run)
    planned: dict[Run, None] = {}
    for arm in arms.values():
        known = [size for size in rates.sizes(arm[0]) if size <= largest]
        own = sorted({min(run.size, largest) for run in arm})
        for size in known or sorted({own[0], own[-1]}):
            model = min(arm, key=lambda run: abs(math.log(run.size / size)))
            for draw, seed in rates.replicates:
                for rate in rates.grid():
                    trial = replace(model, task=TRIAL, size=size, draw=draw, seed=seed, learning_rate=rate, blocks=0)
                    planned[trial] = None
    return list(planned)


def choose(runs: Sequence[Run], scores: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return rows of the tuning table: for each cell the learning rate with the best mean on the hold-out.

    runs: the trials. scores: run_id → top-1 on the hold-out, a fraction, of the finished ones. Of equal rates the
    smaller is chosen. One with a failed trial never is. Raises UserError if every trial of a cell failed.
    """
    cells: dict[tuple[Any, ...], dict[float, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        cells[tuning.key(run)][run.learning_rate or 0.0].append(run)
    rows = []
    for cell, by_rate in cells.items():
        values = dict(zip(tuning.KEY, cell, strict=True))
        tried = []
        for rate, group in sorted(by_rate.items()):
            top1 = [scores[run_id(run)] for run in group if run_id(run) in scores]
            if len(top1) == len(group):
                tried.append({"learning_rate": rate, "top1": round(sum(top1) / len(top1), 6)})
        if not tried:
            what = f"every tuning run of {values['backbone']} at N = {values['size']} failed"
            raise UserError(what, remedy="read their logs: bias-lab status FOLDER")
        best = max(tried, key=lambda trial: (trial["top1"], -trial["learning_rate"]))
        fields = {name: value for name, value in values.items() if value or name not in _OR_ABSENT}
        rows.append({**fields, "learning_rate": best["learning_rate"], "trials": tried})
    return rows


def write(path: Path, rows: Iterable[Row], command: str) -> None:
    """Add rows to a tuning table. A row replaces the old one of the same cell."""
    old = ledger.read_json(path)["rows"] if path.is_file() else []
    merged = {tuning.key(row): row for row in [*old, *rows]}
    ledger.write_json(path, {"command": command, "rows": [merged[cell] for cell in sorted(merged, key=str)]})

"""Fill the open learning rates, budgets and recipes of a plan from the tuning table, and find the cells to search."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any

from bias_lab import tuning
from bias_lab.definition import DEFAULTS, RECIPES, TUNED, Run, pretrains, recipe, run_id
from bias_lab.planning import learning_rates, overrides
from bias_lab.planning.ladder import is_trial
from bias_lab.planning.learning_rates import Rates, Row
from bias_lab.rows import comparison_of

Cell = tuple[Run, ...]  # one cell to search, under each of its recipes
_CELL = attrgetter(*tuning.KEY)  # the fields of a run that decide which row fits it
SEEN = DEFAULTS["samples_seen"]  # of a protocol that has no budget, such as nearest neighbours


@dataclass(slots=True)
class Settled:
    """The runs of a plan with their open values filled in, and what is still to be searched.

    evidence: run_id → what the plan says of a run in the table (`results.EVIDENCE`). cells: those to search before
    `pending` runs are known. used: rows of the tuning table that gave values. notes: lines for the user.
    """

    runs: list[Run] = field(default_factory=list)
    evidence: dict[str, dict[str, Any]] = field(default_factory=dict)
    cells: list[Cell] = field(default_factory=list)
    pending: list[Run] = field(default_factory=list)
    used: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def settle(
    runs: Sequence[Run], rates: Rates, largest: Mapping[str, int], joined: Collection[str], *, tune: bool | None
) -> Settled:
    """Return the runs with learning rates, settled budgets and preferred recipes, and the cells that must be searched.

    largest: dataset → the largest subset that leaves the hold-out alone. joined: backbones that the user added.
    tune: True searches every cell that its own dataset has no row for, None searches what was added, False nothing.
    A trial without a learning rate stands for the whole search of its cell. Raises UserError if no row fits a run.
    """
    return _Filling(rates, largest, joined, tune).fill(runs)


class _Filling:
    """One pass over a plan."""

    def __init__(self, rates: Rates, largest: Mapping[str, int], joined: Collection[str], tune: bool | None) -> None:
        self.rates, self.largest, self.joined, self.tune = rates, largest, joined, tune
        self.result = Settled()
        self.comparisons: dict[str, set[str]] = defaultdict(set)
        self.borrowed: dict[str, dict[str, None]] = defaultdict(dict)
        self.used: dict[int, Row] = {}
        self.found: dict[tuple[Any, ...], Row | None] = {}  # replicates of a cell have one row
        self.is_mixed = False  # whether the plan has settled cells

    def fill(self, runs: Sequence[Run]) -> Settled:
        self.is_mixed = any(run.samples_seen is None for run in runs)
        searched = [run for run in runs if is_trial(run) and run.learning_rate is None]
        open_runs: list[Run] = []
        result = self.result
        left_out = set(searched)
        kept = [run for run in runs if run not in left_out] if left_out else list(runs)
        result.runs = overrides.rewrite(kept, self._filler(open_runs))
        result.pending = list(dict.fromkeys(open_runs))
        result.cells = _cells([*searched, *open_runs], self.rates, self.largest)
        for name, comparisons in self.comparisons.items():
            result.evidence[name]["comparison"] = "+".join(sorted(comparisons))
        result.used = list(self.used.values())
        result.notes += [f"not tuned ({source}): {', '.join(arms)}" for source, arms in self.borrowed.items()]
        return result

    def _filler(self, open_runs: list[Run]) -> Any:
        def change(run: Run) -> Run:
            if not _is_open(run):
                run = run if pretrains(run) or run.samples_seen is not None else replace(run, samples_seen=SEEN)
                return self._noted(run, run, None)
            row = self._row(run)
            if row is not None:
                return self._noted(run, _filled(run, row), row)
            if self.tune is False:
                return self._noted(run, self._borrowed(run), None)
            if not (self.tune or self._is_joined(run)):
                raise learning_rates.untuned(run)
            open_runs.append(run)
            return run

        return change

    def _row(self, run: Run) -> Row | None:
        """Return the row that fills a run's open values, looked up once for a cell."""
        cell = (_CELL(run), run.samples_seen is None)
        if cell not in self.found:
            self.found[cell] = self._looked_up(run)
        return self.found[cell]

    def _looked_up(self, run: Run) -> Row | None:
        """Return the row of a run: of several recipes the one that the hold-out preferred."""
        names = list(RECIPES) if run.recipe == TUNED else [run.recipe]
        own = self.tune is True
        rows = [row for name in names if (row := self.rates.row(_under(run, name), own=own)) is not None]
        nearest = min((_distance(row, run) for row in rows), default=0.0)
        rows = [row for row in rows if _distance(row, run) == nearest]
        if run.samples_seen is None and (own or self._is_joined(run)):
            wanted = min(run.size, self.largest[run.dataset])  # a cell that is searched has its own size
            rows = [row for row in rows if row["size"] == wanted]
        self.used |= {id(row): row for row in rows}
        return max(rows, key=lambda row: float(row.get("holdout_top1", 0.0)), default=None)

    def _is_joined(self, run: Run) -> bool:
        return run.backbone in self.joined or bool(run.method)

    def _borrowed(self, run: Run) -> Run:
        model = replace(run, **_fields(DEFAULTS["recipe"])) if run.recipe == TUNED else run
        rate, budget, whose = learning_rates.borrow(model, self.rates)
        seen = model.samples_seen if budget is None else budget
        what = f"learning rate {rate:g}" if model.learning_rate is None else f"{seen:,} images seen"
        self.borrowed[f"{what}, {whose}"][tuning.words(model)] = None
        return replace(model, learning_rate=model.learning_rate or rate, samples_seen=seen)

    def _noted(self, before: Run, run: Run, row: Row | None) -> Run:
        """Record which comparison a run serves, and what the hold-out showed of its budget. Return the run."""
        is_searched = before.samples_seen is None
        comparison = "settled" if is_searched else comparison_of(run.task, run.protocol)
        if not comparison or not self.is_mixed:
            return run  # a run whose budget is given is known to be at equal images without a word
        name = run_id(run)
        self.comparisons[name].add(comparison)
        known = self.result.evidence.setdefault(name, {})
        if is_searched:
            own = row is not None and row["dataset"] == run.dataset and row["size"] == run.size
            known["settled"] = bool(own and row is not None and row.get("settled"))
            if row is not None:
                known |= {part: row[part] for part in ("holdout_top1", "holdout_gain") if part in row}
                if not own:
                    whose = f"the budget of {row['dataset']} at N = {row['size']}"
                    self.borrowed[f"{whose}, so not settled"][f"{tuning.words(run)} at N = {run.size}"] = None
        return run


def _under(run: Run, name: str) -> Run:
    """Return a run with another recipe's name, or itself: a copy of each of 100,000 runs takes seconds."""
    return run if run.recipe == name else replace(run, recipe=name)


def _is_open(run: Run) -> bool:
    """Return whether planning must fill in a value of a run."""
    return learning_rates.takes_tuned_rate(run) and (
        run.learning_rate is None or run.samples_seen is None or run.recipe == TUNED
    )


def _filled(run: Run, row: Row) -> Run:
    """Return a run with the open values that a row has for them."""
    fields = _fields(row["recipe"]) if run.recipe == TUNED else {}
    rate = float(row["learning_rate"]) if run.learning_rate is None else run.learning_rate
    seen = int(row["samples_seen"]) if run.samples_seen is None else run.samples_seen
    return replace(run, **fields, learning_rate=rate, samples_seen=seen)


def _fields(name: str) -> dict[str, Any]:
    """Return all fields that any recipe sets, with the values that they have under one."""
    return {field: DEFAULTS[field] for fields in RECIPES.values() for field in fields} | recipe(name)


def _distance(row: Row, run: Run) -> float:
    return abs(math.log(row["size"] / max(run.size, 1)))


def _cells(runs: Iterable[Run], rates: Rates, largest: Mapping[str, int]) -> list[Cell]:
    """Return the cells to search for open runs, each under all its recipes.

    A run whose budget is open, and a trial, is searched at its own size, or at the largest size that leaves the
    hold-out alone. Where the learning rate alone is open, sizes are those at which others were tuned and that are the
    nearest to one of the runs', or the smallest and the largest of the runs.
    """
    cells: dict[tuple[Any, ...], dict[str, Run]] = {}
    arms: dict[tuple[Any, ...], list[Run]] = defaultdict(list)

    def add(run: Run, size: int) -> None:
        for name in list(RECIPES) if run.recipe == TUNED else [run.recipe]:
            fields = _fields(name) if run.recipe == TUNED else {}
            model = replace(run, **fields, size=size, draw=0, seed=0, blocks=0, learning_rate=None)
            key = tuning.key(replace(model, recipe=""))
            before = cells.setdefault(key, {}).setdefault(name, model)
            if before.samples_seen is not None and model.samples_seen is None:
                cells[key][name] = model  # one search gives both the learning rate and the budget

    for run in runs:
        if run.samples_seen is None or is_trial(run):
            add(run, min(run.size, largest[run.dataset]))
        elif run.budget == 1:
            arms[run.dataset, *learning_rates.values(run, tuning.ARM)].append(run)
    for arm in arms.values():
        most = largest[arm[0].dataset]
        known = [size for size in rates.sizes(arm[0]) if size <= most]
        own = sorted({min(run.size, most) for run in arm})
        nearest = {min(known, key=lambda tuned: abs(math.log(tuned / size))) for size in own} if known else set()
        for size in sorted(nearest or {own[0], own[-1]}):
            add(min(arm, key=lambda run: abs(math.log(run.size / size))), size)
    return [tuple(by_recipe.values()) for by_recipe in cells.values()]

"""Find the learning rate and the settled budget of a cell on the hold-out: which trials come next, what they show.

A cell is searched in two stages (docs/design.md, A fair comparison). First every learning rate of the grid is tried at
a small budget, and the grid is extended while its best value stands at an end. Then the images seen are doubled at the
best rate until a doubling gains less than `SETTLED` on average over the tuning replicates, or the cap is reached. Where
the last accuracy is above `tuning.FULL`, no doubling can gain as much, so the cell is settled there too.
Nothing here reads a test image: a trial is evaluated on the hold-out of its own draw, and trials have draws and seeds
that no sweep uses.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from bias_lab import catalogue, ledger, tuning
from bias_lab.definition import Ladder, Run, run_id
from bias_lab.errors import UserError, plural

Score = Callable[[Run], float | None]  # hold-out accuracy of a trial, None if it failed. KeyError: not carried out yet
Point = tuple[float, int, int]  # learning rate, images seen, number of the tuning replicate

FIRST_REPLICATE = 1000  # draw and seed of the first tuning replicate. No sweep uses 1000 or more
SETTLED = 0.01  # mean gain of a doubling, a fraction, below which more training no longer helps
CLEAR = 0.03  # a gain or a lag above this is clear from one replicate
LEAST = 3  # tuning replicates behind the word "settled"
DIGITS = 6  # of a mean accuracy and of a gain in the tuning table
EXTENSIONS = 2  # learning rates that may be added at either end of the grid


class Rung(NamedTuple):
    """One budget of a ladder: images seen, mean accuracy on the hold-out (a fraction), and number of replicates."""

    samples_seen: int
    top1: float
    n: int


@dataclass(slots=True)
class Search:
    """What the trials of one cell have shown so far. asked: all trials, in order. missing: those to carry out next."""

    cell: Run
    asked: dict[Run, float | None] = field(default_factory=dict)
    missing: list[Run] = field(default_factory=list)
    by_budget: dict[int, list[float]] = field(default_factory=dict)

    def rungs(self) -> list[Rung]:
        """Return the budgets that were tried at the best learning rate, the smallest first."""
        return [Rung(images, _mean(top1), len(top1)) for images, top1 in sorted(self.by_budget.items())]


def is_trial(run: Run) -> bool:
    """Return whether the run is evaluated on the hold-out, so that it may choose a learning rate or a budget."""
    return catalogue.TASKS[run.task].evaluated_on == "holdout"


def trial(cell: Run, rate: float, images: int, replicate: int) -> Run:
    """Return the tuning run of a cell at one learning rate and budget. replicate: 0, 1, 2 …"""
    number = FIRST_REPLICATE + replicate
    values: dict[str, Any] = dict(
        task=catalogue.TASKS[cell.task].trials,
        draw=number,
        seed=number,
        blocks=0,
        learning_rate=rate,
        samples_seen=images,
    )
    return replace(cell, **values)


def explore(cells: Sequence[Run], ladder: Ladder, score: Score) -> list[Search]:
    """Return the searches of one cell under each of its recipes, as far as the carried-out trials reach.

    cells: runs that differ in their recipe alone, with open learning rates. One with `samples_seen` is searched for its
    learning rate at this budget alone. score: the hold-out accuracy of a trial.
    A recipe is given up where it is more than 3 points behind the best other one at its last two budgets and the
    distance did not shrink. It then has no missing trials, and its row is not settled.
    """
    searches = [_explored(cell, ladder, score) for cell in cells]
    for search in searches:
        others = [other for other in searches if other is not search]
        if search.missing and any(_is_hopeless(search.rungs(), other.rungs()) for other in others):
            search.asked = {run: top1 for run, top1 in search.asked.items() if run not in search.missing}
            search.missing = []
    return searches


def _explored(cell: Run, ladder: Ladder, score: Score) -> Search:
    search = Search(cell)
    first = ladder.first if cell.samples_seen is None else cell.samples_seen
    best = _best_rate(search, ladder.rates, first, score)
    if best is not None and cell.samples_seen is None:
        _climb(search, best, ladder, score)
    return search


def _ask(search: Search, points: Iterable[Point], score: Score) -> list[float | None] | None:
    """Return the scores of trials, or None after noting those that were not carried out yet."""
    found: list[float | None] = []
    for rate, images, replicate in points:
        run = trial(search.cell, rate, images, replicate)
        try:
            search.asked[run] = score(run)
        except KeyError:
            search.missing.append(run)
            search.asked[run] = None
        found.append(search.asked[run])
    return None if search.missing else found


def _best_rate(search: Search, grid: Sequence[float], images: int, score: Score) -> float | None:
    """Return the learning rate with the best accuracy, of equal ones the smallest.

    Return None if every trial failed, or if some were not carried out yet.
    """
    rates = sorted(grid)
    ends = rates[0], rates[-1]
    while True:
        scores = _ask(search, [(rate, images, 0) for rate in rates], score)
        if scores is None:
            return None
        known = {rate: top1 for rate, top1 in zip(rates, scores, strict=True) if top1 is not None}
        if not known:
            return None
        best = max(known, key=lambda rate: (known[rate], -rate))
        if best == rates[0] and sum(rate < ends[0] for rate in rates) < EXTENSIONS:
            rates.insert(0, beyond(best, up=False))
        elif best == rates[-1] and sum(rate > ends[1] for rate in rates) < EXTENSIONS:
            rates.append(beyond(best, up=True))
        else:
            return best


def beyond(rate: float, *, up: bool) -> float:
    """Return the next learning rate of the series 1, 3, 10, 30 … above or below a rate.

    >>> beyond(1e-2, up=True), beyond(3e-4, up=False)
    (0.03, 0.0001)
    """
    series = [round(digit * 10.0**power, 12) for power in range(-9, 4) for digit in (1, 3)]
    return min(x for x in series if x > 1.5 * rate) if up else max(x for x in series if x < rate / 1.5)


def _climb(search: Search, rate: float, ladder: Ladder, score: Score) -> None:
    """Double the images seen until a doubling no longer helps, then give every rung near the best all replicates."""
    budgets = [ladder.first]
    while budgets[-1] * 2 <= ladder.cap:
        budgets.append(budgets[-1] * 2)
    everyone = range(ladder.replicates)

    def fill(images: Sequence[int]) -> bool | None:
        """Ask for all replicates of some budgets, and return whether none failed (None: not carried out yet)."""
        scores = _ask(search, [(rate, budget, k) for budget in images for k in everyone], score)
        if scores is None:
            return None
        for place, budget in enumerate(images):
            whole = scores[place * len(everyone) : (place + 1) * len(everyone)]
            search.by_budget[budget] = [top1 for top1 in whole if top1 is not None]
        return None not in scores

    for place, budget in enumerate(budgets):
        (top1,) = _ask(search, [(rate, budget, 0)], score) or (None,)
        if top1 is None:
            return  # not carried out yet, or it diverged, which says nothing of a plateau
        search.by_budget[budget] = [top1]
        if not place:
            continue
        before = budgets[place - 1]
        if top1 - search.by_budget[before][0] >= CLEAR and budget != budgets[-1] and top1 <= ladder.ceiling:
            continue
        whole = fill((before, budget))
        if whole is None:
            return
        rungs = search.rungs()
        if not whole or gain(rungs) < SETTLED or rungs[-1].top1 > ladder.ceiling:
            break
    while near := _near_the_best(search.rungs(), ladder.replicates):
        if not fill(near):
            break


def _near_the_best(rungs: Sequence[Rung], replicates: int) -> list[int]:
    """Return the budgets that may be the best and lack replicates."""
    best = max(rung.top1 for rung in rungs)
    return [rung.samples_seen for rung in rungs if rung.top1 >= best - CLEAR and rung.n < replicates]


def gain(rungs: Sequence[Rung]) -> float:
    """Return the gain of the last doubling, a fraction, infinite where there is none.

    It is rounded as in the tuning table, so that a gain of exactly 1 point is never taken for less than one.
    """
    return round(rungs[-1].top1 - rungs[-2].top1, DIGITS) if len(rungs) > 1 else float("inf")


def _mean(top1: Sequence[float]) -> float:
    return round(sum(top1) / len(top1), DIGITS)


def _is_hopeless(rungs: Sequence[Rung], others: Sequence[Rung]) -> bool:
    """Return whether a recipe is clearly behind at its last two budgets, and no less behind at the last one."""
    known = {rung.samples_seen: rung.top1 for rung in others}
    last = [known[rung.samples_seen] - rung.top1 for rung in rungs[-2:] if rung.samples_seen in known]
    return len(last) == 2 and min(last) > CLEAR and last[1] >= last[0]


def rung_lines(cell: Run | Mapping[str, Any], rungs: Iterable[Rung]) -> list[str]:
    """Return a line for each budget that was tried: images seen, hold-out accuracy, gain.

    cell: a run, or a row of the tuning table.
    """
    lines, before = [], None
    size = tuning.value(cell, "size")
    for rung in rungs:
        change = "" if before is None else f", {100 * (rung.top1 - before):+.1f} points"
        head = f"{tuning.words(cell)} N={size}: {rung.samples_seen:,} images seen"
        lines.append(f"{head}, hold-out {100 * rung.top1:.1f} %{change} ({plural(rung.n, 'replicate')})")
        before = rung.top1
    return lines


def rungs_of(row: Mapping[str, Any]) -> list[Rung]:
    """Return the budgets that were tried at the chosen learning rate of a row, the smallest first."""
    tried = [trial for trial in row["trials"] if trial["learning_rate"] == row["learning_rate"]]
    return sorted(Rung(trial["samples_seen"], trial["top1"], trial["n"]) for trial in tried if "samples_seen" in trial)


def reader(folder: Path) -> Score:
    """Return the scores of the trials that were carried out in a sweep's folder. Each is read once."""
    known: dict[str, float | None] = {}

    def score(run: Run) -> float | None:
        name = run_id(run)
        if name not in known:
            state = ledger.state(folder, name)
            if state not in ledger.ENDED:
                raise KeyError(name)
            known[name] = measured(run, folder) if state == "finished" else None
        return known[name]

    return score


def measured(run: Run, folder: Path) -> float | None:
    """Return the metric of a finished run's task (top-1 accuracy, a fraction), or None if it has none."""
    result = ledger.read_json(ledger.run_folder(folder, run_id(run)) / ledger.RESULT)
    value = result["metrics"].get(catalogue.TASKS[run.task].metric)
    return None if value is None else float(value)


# --- rows of the tuning table ----------------------------------------------------------------------------------------


def choose(runs: Sequence[Run], scores: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return rows of the tuning table (`bias_lab.tuning`) from finished trials, one for each cell.

    runs: the trials. scores: run_id → top-1 on the hold-out, a fraction, of the finished ones. The learning rate is the
    one with the best mean at the smallest budget over the replicates that all rates have there, of equal ones the
    smaller. Further replicates, which a ladder gives to its own rate alone, do not count: they would move that rate
    towards its true mean and leave the others their luck. A rate that failed in one of those replicates is not chosen.
    Where the budget was doubled at this rate, the row has the best of the budgets with the most replicates, and whether
    the cell is settled. Raises UserError if every trial of a cell failed.
    """
    cells: dict[tuple[Any, ...], list[Run]] = defaultdict(list)
    for run in runs:
        cells[tuning.key(run)].append(run)
    return [_row(dict(zip(tuning.KEY, cell, strict=True)), group, scores) for cell, group in cells.items()]


def _row(values: dict[str, Any], runs: Sequence[Run], scores: Mapping[str, float]) -> dict[str, Any]:
    groups: dict[tuple[float, int], list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.learning_rate or 0.0, run.samples_seen or 0].append(run)
    tried = {
        point: Rung(point[1], _mean([scores[run_id(run)] for run in group]), len(group))
        for point, group in sorted(groups.items())
        if all(run_id(run) in scores for run in group)
    }
    least = min(images for _, images in groups)
    best = _preferred({rate: group for (rate, images), group in groups.items() if images == least}, scores)
    if best is None:
        what = f"every tuning run of {values['backbone']} at N = {values['size']} failed"
        raise UserError(what, remedy="read their logs: bias-lab status FOLDER")
    trials = [
        {"learning_rate": rate, "samples_seen": images, "top1": rung.top1, "n": rung.n}
        for (rate, images), rung in tried.items()
    ]
    named = {name: value for name, value in values.items() if value or tuning.KEY[name] == tuning.REQUIRED}
    if named["task"] == tuning.KEY["task"]:
        del named["task"]  # the usual one, which older rows do not name
    row = {**named, "learning_rate": best, "trials": trials}
    rungs = [rung for (rate, _), rung in tried.items() if rate == best]
    failed = sum(rate == best for rate, _ in groups) > len(rungs)
    if not rungs:  # further replicates failed at the smallest budget, and the ladder ended there
        known = [scores[run_id(run)] for run in groups[best, least] if run_id(run) in scores]
        rungs = [Rung(least, _mean(known), len(known))]
    return {**row, **settled(rungs, failed=failed)}


def _preferred(groups: Mapping[float, Sequence[Run]], scores: Mapping[str, float]) -> float | None:
    """Return the best learning rate at one budget, None if every trial failed. groups: rate → its trials there."""
    shared = set.intersection(*({(run.draw, run.seed) for run in group} for group in groups.values()))
    means: dict[float, float] = {}
    for rate, group in groups.items():
        names = [run_id(run) for run in group if (run.draw, run.seed) in shared]
        if names and all(name in scores for name in names):
            means[rate] = sum(scores[name] for name in names) / len(names)
    return max(means, key=lambda rate: (means[rate], -rate), default=None)


def settled(rungs: Sequence[Rung], *, failed: bool = False) -> dict[str, Any]:
    """Return samples_seen, holdout_top1, holdout_gain and settled of a ladder, {} where one budget alone was tried.

    rungs: the smallest budget first. failed: whether the trials of a further budget failed. Where they leave one
    budget, it is the row's, without a gain and not settled.

    >>> settled([Rung(16000, 0.500, 3), Rung(32000, 0.540, 3), Rung(64000, 0.536, 3)])
    {'samples_seen': 32000, 'holdout_top1': 0.54, 'holdout_gain': -0.004, 'settled': True}
    >>> settled([Rung(16000, 0.950, 3), Rung(32000, 0.992, 3)])["settled"]  # the next can gain 0.8 points at most
    True
    """
    if len(rungs) < 2:
        alone = rungs[0] if rungs and failed else None
        return {} if alone is None else dict(samples_seen=alone.samples_seen, holdout_top1=alone.top1, settled=False)
    most = max(rung.n for rung in rungs)
    best = max((rung for rung in rungs if rung.n == most), key=lambda rung: (rung.top1, -rung.samples_seen))
    last, enough = gain(rungs), min(rung.n for rung in rungs[-2:]) >= LEAST
    ended = enough and (last < SETTLED or rungs[-1].top1 > tuning.FULL) and not failed
    numbers = dict(samples_seen=best.samples_seen, holdout_top1=best.top1, holdout_gain=last)
    return {**numbers, "settled": ended}

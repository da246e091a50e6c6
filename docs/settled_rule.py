"""Simulate the settled rule on planted learning curves, and write docs/settled_rule.md: how often the rule errs.

The trials are planted, the rule is the lab's own (`bias_lab.planning.ladder`). Run: python docs/settled_rule.py
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from bias_lab.definition import LADDER, Ladder, Run
from bias_lab.planning import ladder

PAGE = Path(__file__).with_suffix(".md")
CELL = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=1000, samples_seen=None)
RATES = (3e-4, 1e-3, 3e-3)  # the middle one is far ahead, so that every ladder is climbed at it
HOLDOUT = 1000  # images
BEYOND = 20  # doublings after which a curve has reached its plateau
TABLES = 250  # searches of each curve
NOISES = (0.005, 0.01, 0.02)  # sd of a trial's true accuracy
REPLICATES = (3, 8)
SHARED = 0.5

Curve = Callable[[float], float]  # doublings of the smallest budget → true accuracy


class Planted(NamedTuple):
    """One learning curve and what it looks like."""

    name: str
    words: str
    curve: Curve


def saturating(below: float, ratio: float, *, peak: float = float("inf"), loss: float = 0.0) -> Curve:
    """Return a curve that is `below` under its plateau of 0.7 at first, and `ratio` of the distance after a doubling.

    That is a power law of the images seen. Beyond `peak` doublings it loses `loss` at each further one.
    """
    return lambda doublings: 0.7 - below * ratio**doublings - loss * max(0.0, doublings - peak)


CURVES = (
    Planted("flat", "no gain at any budget", saturating(0, 0)),
    Planted("fast", "8 points below the plateau, 0.3 of it after a doubling", saturating(0.08, 0.3)),
    Planted("middle", "10 points below, 0.5 of it after a doubling", saturating(0.10, 0.5)),
    Planted("slow", "12 points below, 0.7 of it after a doubling", saturating(0.12, 0.7)),
    Planted("creeping", "4 points below, 0.8 of it after a doubling", saturating(0.04, 0.8)),
    Planted("peaked", "as fast, then 3 points less at each doubling after the second",
            saturating(0.08, 0.3, peak=2, loss=0.03)),
    Planted("late", "flat for two doublings, then 5 points more", lambda doublings: 0.6 + 0.05 * (doublings > 2)),
)  # fmt: skip


class Errors(NamedTuple):
    """Shares of searches. settled: called settled. one, two: of these, how many would still gain 1 or 2 points.

    missed: not called settled, of searches on a curve that flattens within the ladder (NaN if it does not).
    """

    settled: float
    one: float
    two: float
    missed: float


def search(
    curve: Curve, noise: float, how: Ladder, random: np.random.Generator, shared: float = 0.0
) -> tuple[bool, float]:
    """Return whether one search calls its cell settled, and what more training would gain over the chosen budget.

    noise: sd of a trial's true accuracy, beyond the noise of the hold-out images. shared: share of both variances that
    the trials of one replicate have in common. An image is right where a normal score is below a threshold.
    """
    scores: dict[Run, float] = {}
    common = {replicate: random.standard_normal(HOLDOUT + 1) for replicate in range(how.replicates)}

    def score(run: Run) -> float:
        if run not in scores:
            doublings = np.log2((run.samples_seen or 0) / how.first)
            own = random.standard_normal(HOLDOUT + 1)
            mixed = shared**0.5 * common[run.draw - ladder.FIRST_REPLICATE] + (1 - shared) ** 0.5 * own
            level = curve(float(doublings)) + noise * mixed[0] - 0.3 * (run.learning_rate != RATES[1])
            scores[run] = float(np.mean(mixed[1:] < ndtri(min(max(level, 1e-9), 1 - 1e-9))))
        return scores[run]

    (found,) = ladder.explore([CELL], how, score)
    row = ladder.settled(found.rungs())
    at = float(np.log2(row["samples_seen"] / how.first))
    best = max(curve(doublings) for doublings in (at, *range(BEYOND)) if doublings >= at)
    return bool(row["settled"]), best - curve(at)


def flattens(curve: Curve, how: Ladder) -> bool:
    """Return whether a doubling within the ladder truly gains less than the rule asks for."""
    doublings = range(int(np.log2(how.cap / how.first)))
    return any(curve(d + 1) - curve(d) < ladder.SETTLED for d in doublings)


def errors(
    curve: Curve, noise: float, replicates: int, *, shared: float = 0.0, searches: int = TABLES, seed: int = 0
) -> Errors:
    """Return the error rates of the rule on one curve. replicates: tuning replicates of the budgets that decide."""
    how = Ladder(first=LADDER.first, cap=LADDER.cap, replicates=replicates, rates=RATES)
    random = np.random.default_rng([seed, replicates, round(noise * 1000)])
    found = [search(curve, noise, how, random, shared) for _ in range(searches)]
    left = np.array([gain for is_settled, gain in found if is_settled])
    tie = 1e-9
    one, two = (float(np.mean(left >= points - tie)) if len(left) else float("nan") for points in (0.01, 0.02))
    settled = len(left) / searches
    return Errors(settled, one, two, 1 - settled if flattens(curve, how) else float("nan"))


_APART = "All trials are independent, which is the worst case:"
_TOGETHER = """Half of both variances belongs to the replicate, whose trials share their labelled images and their
hold-out in a study:"""
_TOP = f"""# How often the settled rule errs

A cell is called settled where the last doubling of its ladder gained less than 1 point of hold-out accuracy, on average
over at least 3 tuning replicates. The budget is the one with the best mean. The rule was run on planted curves,
{TABLES} searches each, with a hold-out of {HOLDOUT:,} images. `python docs/settled_rule.py` makes this page.

- *settled*: share of searches that were called settled.
- *1 point left*, *2 points left*: of the searches called settled, the share in which more training would still gain
  that much over the chosen budget. These are errors of the word *settled*.
- *missed*: share of searches that were not called settled although a doubling within the ladder truly gains less than
  1 point. These are errors of the words *not settled*. It is empty for a curve that does not flatten within the ladder.

## By curve

{LADDER.replicates} tuning replicates, ladders from {LADDER.first:,} to {LADDER.cap:,} images. The true accuracies of
trials scatter with a standard deviation of 1 point, beside the noise of the hold-out images.
"""
_LIMITS = """
The rule looks at one doubling. It calls a *creeping* curve settled, which gains less than 1 point by each doubling and
several by many, and a *late* one, which gains nothing before it gains a lot. No rule that stops can exclude the second.
A *slow* curve that gains 1 to 4 points a doubling is stopped by chance, because every doubling is another chance to see
a gain below 1 point. So *settled* means that the last doubling that was tried gained less than 1 point, and not that
the plateau was reached.

A cell above 99 % on the hold-out is settled too, where the search ends there, since no doubling can gain a point more.
So this adds no error of *1 point left*. The simulation has no such curves.

## By noise and replicates

Means over the curves *flat*, *fast*, *middle*, *slow* and *peaked*. The noise is the standard deviation of a trial's
true accuracy, beside that of the hold-out images. Half of both variances belongs to the replicate.
"""
_RULE = "---|---|---|---|---|---|"


def page() -> str:
    """Return the Markdown page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield _TOP
    for shared, words in ((0.0, _APART), (SHARED, _TOGETHER)):
        yield f"{words}\n\n| curve | | settled | 1 point left | 2 points left | missed |\n|{_RULE}"
        for one in CURVES:
            found = errors(one.curve, 0.01, LADDER.replicates, shared=shared)
            yield f"| {one.name} | {one.words} | {_cells(found)} |"
        yield ""
    yield f"{_LIMITS.lstrip()}\n| noise | replicates | settled | 1 point left | 2 points left | missed |\n|{_RULE}"
    for noise in NOISES:
        for replicates in REPLICATES:
            yield f"| {100 * noise:.1f} points | {replicates} | {_cells(pooled(noise, replicates))} |"
    error = 50 / TABLES**0.5
    yield (
        f"\nThe Monte-Carlo standard error of *settled* and *missed* in the first two tables is at most {error:.1f} "
        "points. The other columns are shares of fewer searches, so theirs can be larger."
    )


def pooled(noise: float, replicates: int) -> Errors:
    """Return the mean error rates over the curves that a rule of one doubling can judge."""
    every = [
        errors(one.curve, noise, replicates, shared=SHARED) for one in CURVES if one.name not in ("creeping", "late")
    ]
    settled = [one.settled for one in every]
    one, two = (
        float(np.average(np.nan_to_num(values), weights=settled)) for values in list(zip(*every, strict=True))[1:3]
    )
    return Errors(float(np.mean(settled)), one, two, float(np.nanmean([found.missed for found in every])))


def _cells(found: Errors) -> str:
    return " | ".join("" if np.isnan(share) else f"{100 * share:.0f} %" for share in found)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

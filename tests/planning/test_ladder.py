"""Test the search for a learning rate and a settled budget on planted learning curves."""

import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from bias_lab.definition import Ladder, Run, recipe, run_id
from bias_lab.errors import UserError
from bias_lab.planning import ladder
from bias_lab.planning.ladder import Rung, Search

CELL = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100, samples_seen=None)
STRONG = replace(CELL, **recipe("strong"))
HOW = Ladder()
Curve = Callable[[Run], float | None]


def searched(*cells: Run, curve: Curve, how: Ladder = HOW) -> tuple[list[Search], list[Run]]:
    """Carry out what is missing until nothing is, and return the searches and the trials in order."""
    scores: dict[str, float | None] = {}
    done: list[Run] = []
    while True:
        searches = ladder.explore(cells, how, lambda run: scores[run_id(run)])
        missing = [run for search in searches for run in search.missing]
        if not missing:
            return searches, done
        for run in missing:
            assert run_id(run) not in scores, "no trial is asked for twice"
            scores[run_id(run)] = curve(run)
            done.append(run)


def row(trials: list[Run], curve: Curve) -> dict[str, object]:
    known = {run_id(run): value for run in trials if (value := curve(run)) is not None}
    (chosen,) = ladder.choose(trials, known)
    return chosen


def rate_of(best: float) -> Curve:
    return lambda run: 0.5 - abs(run.learning_rate - best)  # type: ignore[operator]


def by_budget(values: dict[int, float]) -> Curve:
    """Return a curve over the number of doublings. The rate 1e-3 is the best one."""

    def curve(run: Run) -> float:
        rung = (run.samples_seen or 0) // HOW.first
        return values[rung] - (0.2 if run.learning_rate != 1e-3 else 0.0)

    return curve


def test_a_trial_is_evaluated_on_the_hold_out_on_draws_that_no_sweep_uses() -> None:
    _, trials = searched(CELL, curve=by_budget({1: 0.5, 2: 0.505}))
    assert {run.task for run in trials} == {"tune"}
    assert {(run.draw, run.seed) for run in trials} == {(1000, 1000), (1001, 1001), (1002, 1002)}


def test_the_rate_is_found_at_the_smallest_budget_and_kept_on_the_ladder() -> None:
    _, trials = searched(CELL, curve=by_budget({1: 0.5, 2: 0.6, 4: 0.605}))
    assert {run.learning_rate for run in trials if run.samples_seen == HOW.first} == set(HOW.rates)
    assert {run.learning_rate for run in trials if run.samples_seen != HOW.first} == {1e-3}


@pytest.mark.parametrize(
    ("best", "tried"),
    [
        (3e-3, (3e-4, 1e-3, 3e-3, 1e-2)),
        (3e-2, (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)),
        (1e-4, (3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)),
        (1.0, (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)),  # two steps beyond an end, no more
    ],
)
def test_a_grid_whose_best_rate_is_at_its_end_is_extended(best: float, tried: tuple[float, ...]) -> None:
    given = replace(CELL, samples_seen=16_000)
    _, trials = searched(given, curve=rate_of(best))
    assert sorted(run.learning_rate or 0 for run in trials) == pytest.approx(tried)
    assert {run.samples_seen for run in trials} == {16_000}, "a run with a budget is searched for its rate alone"


def test_the_ladder_ends_where_a_doubling_gains_less_than_a_point() -> None:
    curve = by_budget({1: 0.40, 2: 0.50, 4: 0.515, 8: 0.520})
    _, trials = searched(CELL, curve=curve)
    chosen = row(trials, curve)
    assert (chosen["samples_seen"], chosen["settled"]) == (8 * HOW.first, True)
    assert chosen["holdout_gain"] == pytest.approx(0.005)
    assert max(run.samples_seen or 0 for run in trials) == 8 * HOW.first


def test_more_training_can_hurt_and_the_best_rung_is_taken() -> None:
    curve = by_budget({1: 0.40, 2: 0.50, 4: 0.46})
    _, trials = searched(CELL, curve=curve)
    chosen = row(trials, curve)
    assert (chosen["samples_seen"], chosen["settled"], chosen["holdout_top1"]) == (2 * HOW.first, True, 0.5)


def test_a_curve_that_still_gains_at_the_cap_is_not_settled() -> None:
    curve = by_budget({1: 0.40, 2: 0.45, 4: 0.50, 8: 0.55, 16: 0.60})
    _, trials = searched(CELL, curve=curve)
    chosen = row(trials, curve)
    assert (chosen["samples_seen"], chosen["settled"]) == (256_000, False)
    assert sum(run.samples_seen == 256_000 for run in trials) == 3, "the last word needs three replicates too"


def test_where_no_doubling_can_gain_a_point_any_more_a_cell_is_settled_and_a_ceiling_ends_the_ladder() -> None:
    curve = by_budget({1: 0.90, 2: 0.96, 4: 0.992, 8: 0.999, 16: 1.0})
    _, whole = searched(CELL, curve=curve)
    assert max(run.samples_seen or 0 for run in whole) == 8 * HOW.first, "without a ceiling the gain alone decides"
    _, trials = searched(CELL, curve=curve, how=replace(HOW, ceiling=0.99))
    assert max(run.samples_seen or 0 for run in trials) == 4 * HOW.first
    assert sum(run.samples_seen == 4 * HOW.first for run in trials) == 3, "one replicate settles nothing"
    chosen = row(trials, curve)
    assert (chosen["samples_seen"], chosen["settled"]) == (4 * HOW.first, True)
    assert chosen["holdout_gain"] == pytest.approx(0.032)
    just = by_budget({1: 0.90, 2: 0.95, 4: 0.99, 8: 0.992})
    _, trials = searched(CELL, curve=just, how=replace(HOW, ceiling=0.99))
    assert max(run.samples_seen or 0 for run in trials) == 8 * HOW.first, "99 % leaves a point to gain"


def test_a_ceiling_below_99_percent_is_refused() -> None:
    with pytest.raises(UserError, match="a ceiling from 0.99 to 1"):
        Ladder(ceiling=0.98)


def test_a_clear_gain_needs_one_replicate_and_a_doubtful_one_needs_three() -> None:
    _, trials = searched(CELL, curve=by_budget({1: 0.30, 2: 0.50, 4: 0.52, 8: 0.525}))
    counts = {n: sum(run.samples_seen == n * HOW.first and run.learning_rate == 1e-3 for run in trials) for n in (1, 2)}
    assert counts == {1: 1, 2: 3}


def test_the_gain_is_the_mean_over_replicates() -> None:
    def curve(run: Run) -> float:
        if run.learning_rate != 1e-3:
            return 0.1
        lucky = {1000: 0.005, 1001: 0.05, 1002: 0.05}[
            run.draw
        ]  # gain of a doubling by replicate: 3.5 points on average
        doublings = ((run.samples_seen or 0) // HOW.first).bit_length() - 1
        return 0.4 + lucky * min(doublings, 1)

    _, trials = searched(CELL, curve=curve)
    assert max(run.samples_seen or 0 for run in trials) == 4 * HOW.first, "one unlucky replicate ends no ladder"


def test_a_gain_of_exactly_one_point_is_not_less_than_one_although_its_binary_digits_are() -> None:
    first, second = {1000: 0.274, 1001: 0.243, 1002: 0.276}, {1000: 0.272, 1001: 0.261, 1002: 0.29}
    assert sum(second.values()) / 3 - sum(first.values()) / 3 < ladder.SETTLED, "by rounding alone"

    def curve(run: Run) -> float:
        if run.learning_rate != 1e-3:
            return 0.1
        return {1: first, 2: second}.get((run.samples_seen or 0) // HOW.first, second)[run.draw]

    _, trials = searched(CELL, curve=curve)
    assert max(run.samples_seen or 0 for run in trials) == 4 * HOW.first
    chosen = row(trials, curve)
    assert (chosen["settled"], chosen["samples_seen"]) == (True, 2 * HOW.first)


def test_two_replicates_are_never_settled() -> None:
    curve = by_budget({1: 0.5, 2: 0.5})
    _, trials = searched(CELL, curve=curve, how=replace(HOW, replicates=2))
    assert row(trials, curve)["settled"] is False


def test_a_budget_that_diverges_ends_the_ladder_and_shows_no_plateau() -> None:
    def curve(run: Run) -> float | None:
        return None if run.samples_seen == 4 * HOW.first else by_budget({1: 0.4, 2: 0.5})(run)

    _, trials = searched(CELL, curve=curve)
    assert (row(trials, curve)["samples_seen"], row(trials, curve)["settled"]) == (2 * HOW.first, False)


def test_a_recipe_that_is_clearly_behind_and_stays_behind_is_given_up() -> None:
    plain = {1: 0.60, 2: 0.65, 4: 0.70, 8: 0.705}
    strong = {1: 0.50, 2: 0.54, 4: 0.60, 8: 0.65, 16: 0.70}  # 10, 11, 10 points behind

    def curve(run: Run) -> float:
        return by_budget(plain if run.recipe == "plain" else strong)(run)

    _, trials = searched(CELL, STRONG, curve=curve)
    assert max(run.samples_seen or 0 for run in trials if run.recipe == "strong") == 2 * HOW.first


def test_a_recipe_that_catches_up_is_not_given_up() -> None:
    plain = {1: 0.60, 2: 0.65, 4: 0.655}
    strong = {1: 0.50, 2: 0.58, 4: 0.66, 8: 0.70, 16: 0.703}

    def curve(run: Run) -> float:
        return by_budget(plain if run.recipe == "plain" else strong)(run)

    searches, _ = searched(CELL, STRONG, curve=curve)
    assert [search.rungs()[-1].samples_seen // HOW.first for search in searches] == [4, 16]


# --- rows of the tuning table ----------------------------------------------------------------------------------------


def scored(run: Run, by_rate: dict[float, float]) -> tuple[list[Run], dict[str, float]]:
    runs = [replace(run, task="tune", samples_seen=16_000, learning_rate=value) for value in by_rate]
    return runs, {run_id(one): score for one, score in zip(runs, by_rate.values(), strict=True)}


def test_the_best_on_the_hold_out_is_chosen_and_a_tie_goes_to_the_smaller_rate() -> None:
    (chosen,) = ladder.choose(*scored(CELL, {3e-4: 0.4, 1e-3: 0.6, 3e-3: 0.6}))
    assert chosen["learning_rate"] == 1e-3
    assert [trial["top1"] for trial in chosen["trials"]] == [0.4, 0.6, 0.6]
    assert "samples_seen" not in chosen, "one budget shows no plateau"


def test_a_rate_that_failed_is_not_chosen() -> None:
    runs, scores = scored(CELL, {1e-3: 0.4, 1e-2: 0.9})
    scores.pop(run_id(runs[1]))
    assert ladder.choose(runs, scores)[0]["learning_rate"] == 1e-3
    with pytest.raises(UserError, match="every tuning run of vit_micro at N = 100 failed"):
        ladder.choose(runs, {})


@pytest.mark.parametrize("gains", [(0.0, 0.0, 0.0, 0.0, 0.0), (0.0, 0.03, 0.04, 0.04, 0.04)])
def test_the_row_has_the_rate_whose_ladder_was_climbed_although_its_luck_is_gone(gains: tuple[float, ...]) -> None:
    for seed in range(100):
        noise = random.Random(seed)
        drawn: dict[str, float] = {}

        def curve(run: Run, noise: random.Random = noise, drawn: dict[str, float] = drawn) -> float:
            rung = ((run.samples_seen or 0) // HOW.first).bit_length() - 1
            behind = 0.2 if run.learning_rate not in (1e-3, 3e-3) else 0.0  # two rates are equally good
            return drawn.setdefault(run_id(run), 0.5 + gains[rung] - behind + noise.gauss(0, 0.01))

        (search,), trials = searched(CELL, curve=curve)
        climbed = {run.learning_rate for run in trials if run.samples_seen == 2 * HOW.first}
        chosen = row(trials, curve)
        assert {chosen["learning_rate"]} == climbed
        assert chosen["samples_seen"] in {rung.samples_seen for rung in search.rungs()}


@pytest.mark.parametrize("failing", [(2, 1000), (1, 1001)])
def test_a_ladder_that_fails_at_its_start_leaves_a_budget_that_is_not_settled(failing: tuple[int, int]) -> None:
    """failing: the budget in smallest ones, and the draw. It is the second budget, or a replicate of the first."""
    known = by_budget({1: 0.5, 2: 0.505})

    def curve(run: Run) -> float | None:
        at = ((run.samples_seen or 0) // HOW.first, run.draw)
        return None if run.learning_rate == 1e-3 and at == failing else known(run)

    _, trials = searched(CELL, curve=curve)
    chosen = row(trials, curve)
    assert (chosen["learning_rate"], chosen["settled"]) == (1e-3, False)
    assert chosen["samples_seen"] in (HOW.first, 2 * HOW.first)


def test_replicates_of_a_trial_are_averaged() -> None:
    one = replace(CELL, task="tune", samples_seen=16_000)
    runs = [replace(one, seed=1000 + k, learning_rate=lr) for lr in (1e-3, 3e-3) for k in range(2)]
    scores = dict(zip(map(run_id, runs), (0.1, 0.9, 0.6, 0.6), strict=True))
    assert ladder.choose(runs, scores)[0]["learning_rate"] == 3e-3


def test_of_equal_budgets_the_smaller_is_taken() -> None:
    chosen = ladder.settled([Rung(16_000, 0.5, 3), Rung(32_000, 0.5, 3)])
    assert chosen == dict(samples_seen=16_000, holdout_top1=0.5, holdout_gain=0.0, settled=True)


def test_a_budget_is_printed_with_its_gain_from_a_search_and_from_a_row() -> None:
    lines = [
        "vit_micro scratch N=100: 16,000 images seen, hold-out 50.0 % (1 replicate)",
        "vit_micro scratch N=100: 32,000 images seen, hold-out 55.0 %, +5.0 points (3 replicates)",
    ]
    search = Search(CELL, by_budget={16_000: [0.5], 32_000: [0.54, 0.56, 0.55]})
    assert ladder.rung_lines(CELL, search.rungs()) == lines
    tried = [dict(learning_rate=1e-3, samples_seen=r.samples_seen, top1=r.top1, n=r.n) for r in search.rungs()]
    other = dict(learning_rate=3e-3, samples_seen=16_000, top1=0.4, n=1)
    known = {"backbone": "vit_micro", "recipe": "plain", "regime": "scratch", "size": 100, "learning_rate": 1e-3}
    saved = {**known, "trials": [other, *reversed(tried)]}
    assert ladder.rung_lines(saved, ladder.rungs_of(saved)) == lines

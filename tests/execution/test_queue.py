"""The order of runs, and waiting for a pretraining."""

from dataclasses import replace

from bias_lab.definition import Run, grid, run_id
from bias_lab.execution.queue import Queue

ONE = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100)
BEFORE = replace(ONE, task="pretrain", regime="mae", source="pool", size=0)
AFTER = replace(ONE, regime="mae", source="pool", pretraining=run_id(BEFORE))


def test_runs_are_taken_in_plan_order() -> None:
    runs = grid(ONE, draw=range(5))
    queue = Queue(runs)
    assert [queue.take() for _ in range(5)] == list(runs)
    assert queue.take() is None
    assert queue.open()  # five are under way
    for run in runs:
        queue.done(run, finished=True)
    assert not queue.open()


def test_a_run_waits_only_for_its_own_pretraining_and_keeps_its_place() -> None:
    last = replace(ONE, draw=9)
    queue = Queue([BEFORE, AFTER, ONE, last])
    assert [queue.take(), queue.take()] == [BEFORE, ONE]
    queue.done(BEFORE, finished=True)
    assert queue.take() == AFTER  # before `last`, as in the plan
    assert queue.take() == last


def test_a_run_whose_pretraining_is_finished_does_not_wait() -> None:
    assert Queue([AFTER], finished={run_id(BEFORE)}).take() == AFTER


def test_a_run_whose_pretraining_failed_is_blocked_and_the_queue_ends() -> None:
    queue = Queue([BEFORE, AFTER])
    queue.done(queue.take() or ONE, finished=False)
    assert not queue.open()
    assert queue.blocked() == [AFTER]


def test_a_run_that_follows_another_takes_its_place_before_the_rest_of_the_plan() -> None:
    first, second, third = grid(ONE, draw=range(3))
    queue = Queue([first, second])
    queue.take()
    queue.done(first, finished=True)
    queue.add([third], after=first)
    assert [queue.take(), queue.take()] == [third, second]

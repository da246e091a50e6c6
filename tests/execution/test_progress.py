"""Time left, and what the terminal is told."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from bias_lab.definition import Run, grid
from bias_lab.execution.progress import Clock, Show, spoken

ONE = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100, samples_seen=1000)
OTHER = replace(ONE, backbone="swin_micro")


class Hand:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (99, "99 s"),
        (100, "2 min"),
        (5900, "98 min"),
        (6000, "1 h 40 min"),
        (47.9 * 3600, "47 h 54 min"),
        (76 * 3600, "3 d 4 h"),
        (None, "time left not known yet"),
    ],
)
def test_durations_as_one_says_them(seconds: float | None, text: str) -> None:
    assert spoken(seconds) == text


def test_time_left_is_unknown_until_a_run_has_finished() -> None:
    clock = Clock([ONE, OTHER], 2, now=Hand())
    clock.begin(ONE)
    assert clock.left() is None


def test_time_left_goes_by_the_images_each_backbone_has_still_to_see() -> None:
    hand = Hand()
    runs = [*grid(ONE, draw=(0, 1, 2)), replace(OTHER, budget=3.0)]
    clock = Clock(runs, 1, now=hand)
    clock.begin(runs[0])
    hand.time = 10
    assert clock.end(runs[0], finished=True) == 10
    assert clock.left() == 50  # 2 at 10 s; the other, of unknown cost, at the same 10 ms an image: 30 s
    clock.learn(OTHER, 20)  # an earlier sweep's: 20 ms an image
    assert clock.left() == 80
    clock.begin(runs[1])
    hand.time = 14
    assert clock.left() == 76


def test_a_run_that_takes_longer_than_foreseen_is_not_given_back() -> None:
    hand = Hand()
    clock = Clock([ONE], 1, now=hand)
    clock.learn(ONE, 10)
    clock.begin(ONE)
    hand.time = 100
    assert clock.left() == 0


def test_workers_share_what_is_left_but_no_more_than_are_busy() -> None:
    runs = list(grid(ONE, draw=(0, 1, 2, 3)))
    clock = Clock(runs, 4, now=Hand())
    clock.learn(ONE, 10)
    assert clock.left() == 40  # nobody at work yet
    clock.begin(runs[0])
    clock.begin(runs[1])
    assert clock.left() == 20


def test_without_a_terminal_there_is_a_plain_line_a_run() -> None:
    out = io.StringIO()
    clock = Clock([ONE, OTHER], 1, now=Hand())
    with Show(3, 1, clock, Console(file=out, width=40)) as show:
        clock.learn(ONE, 10)
        show.finished(ONE, clock.end(ONE, finished=True), 0.51234)
        show.tick()
        show.failed_run(OTHER, "ValueError: [planted]")
    lines = out.getvalue().splitlines()
    assert lines == [
        "[2/3] vit_micro scratch N=100 draw 0 seed 0  top-1 0.512  0 s  (5 s left)",
        "[3/3] swin_micro scratch N=100 draw 0 seed 0  failed: ValueError: [planted]  (5 s left)",
    ]
    assert show.counts() == "2/3 done · 0 running · 1 failed · 5 s left"


def test_at_a_terminal_there_is_a_bar() -> None:
    out = io.StringIO()
    clock = Clock([ONE], 1, now=Hand())
    with Show(1, 0, clock, Console(file=out, width=100, force_terminal=True)) as show:
        show.finished(ONE, 3, None)
        show.tick()
    assert "✓" in out.getvalue()
    assert "time left not known yet" in out.getvalue()

"""The estimate of the time left, and the lines in the terminal."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from bias_lab import schema
from bias_lab.catalogue import TASKS
from bias_lab.definition import Run, grid
from bias_lab.execution.progress import Clock, Display, duration

ONE = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100, samples_seen=1000)
OTHER = replace(ONE, backbone="swin_micro")


def labels(*runs: Run) -> dict[str, str]:
    return schema.labels(runs)


class SetTime:
    """A time that stands still until a test sets it."""

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
def test_durations_as_text(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_time_left_is_unknown_until_a_run_has_finished() -> None:
    clock = Clock([ONE, OTHER], 2, now=SetTime())
    clock.begin(ONE)
    assert clock.left() is None


def test_time_left_depends_on_the_images_left_for_each_backbone() -> None:
    now = SetTime()
    runs = [*grid(ONE, draw=(0, 1, 2)), replace(OTHER, budget=3.0)]
    clock = Clock(runs, 1, now=now)
    clock.begin(runs[0])
    now.time = 10
    assert clock.end(runs[0], finished=True) == 10
    assert clock.left() == 50  # two at 10 s, and 30 s for the other at the same 10 ms per image
    clock.add(OTHER, 20)  # a run of an earlier sweep took 20 ms per image
    assert clock.left() == 80
    clock.begin(runs[1])
    now.time = 14
    assert clock.left() == 76


def test_time_left_is_never_negative() -> None:
    now = SetTime()
    clock = Clock([ONE], 1, now=now)
    clock.add(ONE, 10)
    clock.begin(ONE)
    now.time = 100
    assert clock.left() == 0


def test_time_left_is_shared_by_the_busy_workers() -> None:
    runs = list(grid(ONE, draw=(0, 1, 2, 3)))
    clock = Clock(runs, 4, now=SetTime())
    clock.add(ONE, 10)
    assert clock.left() == 40  # no run has started
    clock.begin(runs[0])
    clock.begin(runs[1])
    assert clock.left() == 20


def test_without_a_terminal_each_run_is_one_line() -> None:
    out = io.StringIO()
    clock = Clock([ONE, OTHER], 1, now=SetTime())
    with Display(labels(ONE, OTHER, replace(ONE, seed=1)), 1, clock, Console(file=out, width=40)) as display:
        clock.add(ONE, 10)
        display.run_finished(ONE, clock.end(ONE, finished=True), 0.51234)
        display.tick()
        display.run_failed(OTHER, "ValueError: [planted]")
    lines = out.getvalue().splitlines()
    assert lines == [
        "[2/3] vit_micro scratch N=100 draw 0 seed 0  top-1 0.512  0 s  (5 s left)",
        "[3/3] swin_micro scratch N=100 draw 0 seed 0  failed: ValueError: [planted]  (5 s left)",
    ]
    assert display.counts() == "2/3 done · 0 running · 1 failed · 5 s left"


def test_a_score_is_named_by_its_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "classify", replace(TASKS["classify"], metric="r2", metric_words="R²"))
    out = io.StringIO()
    with Display(labels(ONE), 0, Clock([ONE], 1, now=SetTime()), Console(file=out, width=40)) as display:
        display.run_finished(ONE, 1.0, 0.5)
    assert "seed 0  R² 0.500  1 s" in out.getvalue()


def test_at_a_terminal_there_is_a_bar() -> None:
    out = io.StringIO()
    clock = Clock([ONE], 1, now=SetTime())
    with Display(labels(ONE), 0, clock, Console(file=out, width=100, force_terminal=True)) as display:
        display.run_finished(ONE, 3, None)
        display.tick()
    assert "✓" in out.getvalue()
    assert "time left not known yet" in out.getvalue()


def test_a_run_of_zero_steps_tells_no_speed() -> None:
    zero = replace(ONE, task="pretrain", regime="mae", source="pool", size=0, samples_seen=0)
    clock = Clock([zero, ONE], 1)
    clock.begin(zero)
    clock.end(zero, finished=True)
    assert clock.left() is None
    clock.add(ONE, 10.0)
    assert clock.left() == 10.0

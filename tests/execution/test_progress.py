"""The lines in the terminal, and the progress within a run."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from bias_lab import ledger, schema
from bias_lab.catalogue import TASKS
from bias_lab.definition import Run, run_id
from bias_lab.execution.clock import Clock
from bias_lab.execution.progress import Display, Steps, duration, share_done

ONE = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100, samples_seen=1600)
OTHER = replace(ONE, backbone="swin_micro")
NOWHERE = Path("nowhere")


def labels(*runs: Run) -> dict[str, str]:
    return schema.labels(runs)


def missing(*runs: Run) -> dict[str, str]:
    return dict.fromkeys(map(run_id, runs), "missing")


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


def test_without_a_terminal_each_run_is_one_line() -> None:
    out = io.StringIO()
    clock = Clock([ONE, OTHER], 1, now=SetTime())
    before = {**missing(ONE, OTHER), run_id(replace(ONE, seed=1)): "finished"}
    with Display(labels(ONE, OTHER), before, clock, Console(file=out, width=40), NOWHERE) as display:
        clock.begin(ONE)
        display.run_finished(ONE, clock.end(ONE, finished=False), 0.51234)
        display.tick()
        clock.begin(OTHER)
        clock.end(OTHER, finished=False)
        clock.add(ONE, 10)
        display.run_failed(OTHER, "ValueError: [planted]")
    assert out.getvalue().splitlines() == [
        "[2/3] vit_micro scratch N=100 draw 0 seed 0  top-1 0.512  0 s",
        "[3/3] swin_micro scratch N=100 draw 0 seed 0  failed: ValueError: [planted]  (0 s left)",
    ]
    assert display.counts() == "2/3 done · 0 running · 1 failed · 0 s left"


def test_the_total_grows_with_trials_and_begins_again_with_the_next_plan() -> None:
    clock = Clock([ONE], 1, now=SetTime())
    display = Display(labels(ONE), missing(ONE), clock, Console(file=io.StringIO()), NOWHERE)
    display.extend(labels(OTHER))
    assert display.total == 2
    display.begin_again(labels(OTHER), {run_id(ONE): "failed", run_id(OTHER): "finished", "earlier": "finished"})
    assert display.counts().startswith("2/3 done · 0 running · 1 failed")


def test_a_score_is_named_by_its_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "classify", replace(TASKS["classify"], metric="r2", metric_words="R²"))
    out = io.StringIO()
    clock = Clock([ONE], 1, now=SetTime())
    with Display(labels(ONE), missing(ONE), clock, Console(file=out, width=40), NOWHERE) as display:
        display.run_finished(ONE, 1.0, 0.5)
    assert "seed 0  R² 0.500  1 s" in out.getvalue()


def test_at_a_terminal_there_is_a_bar() -> None:
    out = io.StringIO()
    clock, console = Clock([ONE], 1, now=SetTime()), Console(file=out, width=100, force_terminal=True)
    with Display(labels(ONE), missing(ONE), clock, console, NOWHERE) as display:
        display.run_finished(ONE, 3, None)
        display.tick()
    assert "✓" in out.getvalue()
    assert "time left not known yet" in out.getvalue()


# --- within a run ----------------------------------------------------------------------------------------------------


def write_rows(folder: Path, *rows: dict[str, float], torn: str = "") -> Path:
    """Write the rows of a run under way, in the folder of its attempt."""
    path = ledger.run_folder(folder, run_id(ONE)) / f"{ledger.ATTEMPT}1" / ledger.METRICS
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + torn)
    return path


def test_steps_and_loss_are_read_from_the_rows_that_a_run_has_written(tmp_path: Path) -> None:
    steps = Steps(tmp_path, ONE, 50)
    assert steps.read() == (0, None)
    rows = {"step": 10, "train/loss": 2.0}, {"step": 20, "train/loss": 1.5}, {"step": 20, "holdout/top1": 0.5}
    path = write_rows(tmp_path, *rows, torn='{"step": 30, "tr')
    before = path.read_bytes()
    assert steps.read() == (20, 1.5)
    assert path.read_bytes() == before


def test_the_share_of_a_run_that_was_done_before_is_read_from_its_rows(tmp_path: Path) -> None:
    assert share_done(tmp_path, ONE) == 0.0, "it was never begun"
    write_rows(tmp_path, {"step": 10, "train/loss": 2.0})
    assert share_done(tmp_path, ONE) == pytest.approx(10 / 50)


def test_a_run_alone_shows_its_steps_its_loss_and_the_time_left_now_and_then(tmp_path: Path) -> None:
    out, now = io.StringIO(), SetTime()
    clock = Clock([ONE, OTHER], 1, now=now)
    with Display(labels(ONE, OTHER), missing(ONE, OTHER), clock, Console(file=out, width=40), tmp_path) as display:
        clock.begin(ONE)
        write_rows(tmp_path, {"step": 10, "train/loss": 2.0})
        now.time = 10
        display.tick()
        assert out.getvalue() == ""  # a run of seconds needs no line
        now.time = 25
        display.tick()
        now.time = 60
        display.tick()  # no new row, so no new line
        clock.begin(OTHER)
        write_rows(tmp_path, {"step": 40, "train/loss": 1.0})
        now.time = 90
        display.tick()  # two at a time are not told
    assert out.getvalue().splitlines() == [
        "  vit_micro scratch N=100 draw 0 seed 0: step 10 of 50, loss 2.000, 100 s left".replace("100 s", "2 min")
    ]


def test_at_a_terminal_the_bar_shows_them(tmp_path: Path) -> None:
    out, now = io.StringIO(), SetTime()
    clock, console = Clock([ONE], 1, now=now), Console(file=out, width=150, force_terminal=True)
    with Display(labels(ONE), missing(ONE), clock, console, tmp_path) as display:
        clock.begin(ONE)
        write_rows(tmp_path, {"step": 25, "train/loss": 2.0})
        now.time = 30
        display.tick()
    assert "step 25 of 50, loss 2.000, 30 s left" in out.getvalue()

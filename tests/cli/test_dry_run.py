"""What a dry run says: the minutes first, one total, and each run on request."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from bias_lab import ledger
from bias_lab.cli import dry_run
from bias_lab.definition import Experiment, Run, grid
from bias_lab.planning import learning_rates, plan
from tests.cli.commands import Call

ONE = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100, learning_rate=1e-3)


def printed(planned: plan.Plan, folder: Path, *, rows: bool = False, workers: int = 2) -> list[str]:
    out = io.StringIO()
    dry_run.show(Console(file=out, width=200), planned, folder, workers, ["mnist is not here"], rows=rows)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def arranged(folder: Path, *runs: Run, **request: object) -> plan.Plan:
    asked = plan.Request(**request)  # type: ignore[arg-type]
    return plan.arrange(Experiment(question="?", runs=runs), "one", "laptop", folder, asked, learning_rates.Rates())


def test_the_minutes_come_first_then_the_counts_then_the_cells(tmp_path: Path) -> None:
    lines = printed(arranged(tmp_path, *grid(ONE, draw=(0, 1), size=(30, 100))), tmp_path)
    assert lines[0].startswith("about 77 s for 4 runs, 2 at a time (by runs on one busy CPU core each; the first runs")
    assert lines[1] == "4 runs, 64,000 images to be seen"
    assert lines[2:4] == [
        "warning: fashion_mnist_12k: N = 30 is under 5 images a class; expect wide intervals",
        "warning: mnist is not here",
    ]
    assert lines[-2].split() == ["vit_micro", "scratch", "0/2", "0/2"]
    assert lines[-1] == "finished/planned runs of each cell; to list every run, add --list"


def test_a_guess_and_further_trials_are_said(tmp_path: Path) -> None:
    lines = printed(arranged(tmp_path, ONE, backbones=("resnet18",)), tmp_path, rows=True)
    assert "and more for trials that depend on these" in lines[0]
    assert "resnet18 not measured, a guess" in lines[0]
    assert lines[1] == "6 runs, 96,000 images to be seen; further trials depend on these"
    assert lines[-2].endswith("  vit_micro scratch N=100 draw 0 seed 0  lr 0.001")
    assert lines[-1] == "????????????  resnet18 scratch N=100 draw 0 seed 0  learning rate to be tuned"


def test_finished_runs_of_the_folder_tell_the_speed_and_are_counted(run: Call, study: Path) -> None:
    assert run("sweep", study, "--profile", "smoke", "--out", "out", "--draws", "0")[0] == 0
    code, out, _ = run("sweep", study, "--profile", "smoke", "--out", "out", "--dry-run")
    assert code == 0
    first, second = out.splitlines()[:2]
    assert first.startswith("about 0 s for 2 runs, 2 at a time (by 2 finished runs in out)")
    assert second == "4 runs, 2 finished, 1,280 images to be seen"


def test_where_nothing_is_left_to_do_that_is_said(tmp_path: Path) -> None:
    (line,) = dry_run.forecast(arranged(tmp_path, ONE), tmp_path, [], 2)
    assert line.startswith("nothing is left to do")


@pytest.mark.parametrize("flag", ["--dry-run", "--list"])
def test_neither_flag_runs_anything(run: Call, study: Path, flag: str) -> None:
    code, out, _ = run("sweep", study, "--profile", "smoke", flag)
    assert code == 0
    assert ("draw 1 seed 0  lr 0.001" in out) == (flag == "--list")
    assert not Path("results").exists()


@pytest.mark.slow
def test_one_total_is_counted_everywhere(run_with_report: Call, study: Path) -> None:
    """In the plan, while it runs, at its end, in the status and in the report, with the trials of a search."""
    words = ("sweep", study, "--profile", "smoke", "--out", "out", "--workers", 1)
    run_with_report(*words)
    words = (*words, "--backbone", "resnet18")
    planned = run_with_report(*words, "--dry-run")[1]
    assert "13 runs, 4 finished" not in planned  # trials and open runs are counted, and further trials announced
    code, out, _ = run_with_report(*words)
    assert code == 0
    total = len(ledger.read_json(Path("out") / ledger.EXPERIMENT)["runs"])
    assert f"\n[{total}/{total}] " in out
    assert out.splitlines()[-1].startswith(f"{total} of {total} runs finished. The report is")
    assert f"complete: {total} of {total} runs" in out  # the report's own line
    assert run_with_report("status", "out")[1].startswith(f"labels, smoke: {total} of {total} finished")
    assert run_with_report("runs", "out")[1].startswith(f"{total} of {total} runs in out")
    assert f"{total} runs, {total} finished" in run_with_report(*words, "--dry-run")[1]

"""What the terminal shows, to the character."""

import io
from pathlib import Path

from rich.console import Console

from bias_lab.cli import terminal
from bias_lab.definition import Experiment, Run, grid
from bias_lab.execution import status
from bias_lab.planning import learning_rates, plan

ONE = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100, learning_rate=1e-3)


def printed(width: int = 60) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=width), out


def test_figures_stand_right_words_left_and_only_the_last_column_is_cut() -> None:
    console, out = printed(width=34)
    terminal.table(console, ["name", "count", "about"], [["a long name", "7", "short"], ["b", "12,345", "words " * 9]])
    lines = out.getvalue().splitlines()
    assert lines == [
        "name          count  about",
        "───────────  ──────  ─────────────",
        "a long name       7  short",
        "b            12,345  words words …",
    ]


def test_a_line_is_not_broken_nor_read_as_markup() -> None:
    console, out = printed(width=20)
    terminal.say(console, "go on with: bias-lab sweep [bold] --out results/a-long-name")
    assert out.getvalue() == "go on with: bias-lab sweep [bold] --out results/a-long-name\n"


def test_a_plan_is_listed_with_its_notes_and_open_rates() -> None:
    console, out = printed()
    experiment = Experiment(question="?", runs=(ONE,))
    request = plan.Request(backbones=("resnet18",), sizes=(30,))
    made = plan.arrange(experiment, "one", "laptop", Path("nowhere"), request, learning_rates.Rates())
    terminal.plan(console, made, ["mnist is not here"])
    lines = out.getvalue().splitlines()
    assert lines[0] == "warning: fashion_mnist_12k: N = 30 is under 5 images a class; expect wide intervals"
    assert lines[1] == "warning: mnist is not here"
    assert lines[-3].endswith("  vit_micro scratch N=30 draw 0 seed 0  lr 0.001")
    assert lines[-2] == "????????????  resnet18 scratch N=30 draw 0 seed 0  learning rate to be tuned"
    assert lines[-1] == "6 runs, 96,000 images to be seen"  # four trials, one a rate of the grid


def test_a_folders_state(tmp_path: Path) -> None:
    experiment = Experiment(question="Is it?", runs=grid(ONE, size=(100, 1000)))
    made = plan.arrange(experiment, "one", "laptop", tmp_path, plan.Request(), learning_rates.Rates())
    plan.write(made, tmp_path, "bias-lab sweep one.py")
    console, out = printed()
    terminal.folder(console, status.read(tmp_path))
    lines = out.getvalue().splitlines()
    assert lines == [
        "one, laptop: 0 of 2 finished, 2 missing",
        "Is it?",
        "                   N=100  N=1000",
        "─────────────────  ─────  ──────",
        "vit_micro scratch    0/1     0/1",
        "go on with: bias-lab sweep one.py",
    ]


def test_a_run(tmp_path: Path) -> None:
    console, out = printed()
    told = {
        "run_id": "abc",
        "label": "vit N=1",
        "state": "missing",
        "fields": {"size": 100, "seed": 3},
        "repeat": "again",
    }
    terminal.run(console, told)
    assert out.getvalue().splitlines() == [
        "abc  vit N=1  (missing)",
        "definition (the rest is at its default)",
        "  size  100",
        "  seed  3",
        "repeat it",
        "  again",
    ]

"""The exact text of tables, plans, folders and runs in the terminal."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from bias_lab.cli import terminal
from bias_lab.definition import Experiment, Run, grid
from bias_lab.execution import status
from bias_lab.planning import learning_rates, plan

ONE = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100, learning_rate=1e-3)


def printed(width: int = 60) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=width), out


def lines(out: io.StringIO) -> list[str]:
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("width", [20, 35])
def test_a_table_wraps_words_but_never_names_or_figures(width: int) -> None:
    console, out = printed(width)
    rows = [["a long name", "7", "short"], ["b", "12,345 1✗", "[words] " * 3]]
    terminal.table(console, ["name", "count", "about"], rows)
    assert lines(out)[2:] == [
        "a long name          7  short",
        "b            12,345 1✗  [words]",
        "                        [words]",
        "                        [words]",
    ]
    assert lines(out)[0] == "name             count  about"
    assert set(lines(out)[1]) == {"─"}


def test_a_table_has_one_uncut_line_for_each_row_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    terminal.table(terminal.console(), ["name", "about"], [["a", "words " * 30]])
    assert capsys.readouterr().out.splitlines()[2].split() == ["a", *["words"] * 30]


def test_the_state_of_a_folder(tmp_path: Path) -> None:
    experiment = Experiment(question="Is it?", runs=grid(ONE, size=(100, 1000)))
    planned = plan.arrange(experiment, "one", "laptop", tmp_path, plan.Request(), learning_rates.Rates())
    plan.write(planned, tmp_path, "bias-lab sweep one.py")
    console, out = printed()
    terminal.folder(console, status.read(tmp_path))
    assert lines(out) == [
        "one, laptop: 0 of 2 finished, 2 missing",
        "Is it?",
        "                   N=100  N=1000",
        "────────────────────────────────",
        "vit_micro scratch    0/1     0/1",
        "to continue: bias-lab sweep one.py",
    ]


def test_a_run(tmp_path: Path) -> None:
    console, out = printed()
    fields = {"size": 100, "seed": 3}
    known = {"run_id": "abc", "label": "vit N=1", "state": "missing", "fields": fields, "repeat": "again"}
    terminal.run(console, known)
    assert lines(out) == [
        "abc  vit N=1  (missing)",
        "definition (other fields have their defaults)",
        "  size  100",
        "  seed  3",
        "to repeat it (a repeated run has the same id)",
        "  again",
    ]

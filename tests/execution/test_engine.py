"""An engine is one module and one row: a second one carries out a sweep without a change to any other file."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from bias_lab import catalogue, ledger
from bias_lab.definition import Run, Settings, run_id
from bias_lab.errors import UserError
from bias_lab.execution.engine import open_engine
from bias_lab.execution.local import Local
from bias_lab.execution.queue import Queue
from bias_lab.execution.run_sweep import Options, run_sweep
from bias_lab.machine import KEEP_HEAP
from bias_lab.planning import plan
from tests.execution import fake_execute
from tests.execution.toy_engine import Toy

ONE = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100)
SETTINGS = Settings(workers=1, device="cpu")


@pytest.fixture(params=["local", "toy"])
def engine(request: pytest.FixtureRequest, fake: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of an engine. A row for `toy` is registered, and this process has a worker's environment."""
    row = catalogue.Engine(name="toy", module="tests.execution.toy_engine:Toy", words="this process")
    monkeypatch.setitem(catalogue.ENGINES, "toy", row)
    for name, value in {**KEEP_HEAP, "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    return str(request.param)


def test_an_engine_is_opened_by_its_row(tmp_path: Path, engine: str) -> None:
    with open_engine(engine, tmp_path, SETTINGS) as opened:
        assert type(opened) is {"local": Local, "toy": Toy}[engine]
        assert opened.most == 1


def test_an_unknown_engine_is_an_error_with_the_nearest_match(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown engine 'locl'; did you mean 'local'"):
        open_engine("locl", tmp_path, SETTINGS)


def test_every_engine_checks_carries_out_and_records_runs(tmp_path: Path, engine: str) -> None:
    bad = replace(ONE, weight_decay=fake_execute.FAIL)
    with open_engine(engine, tmp_path, SETTINGS) as opened:
        assert opened.preflight([ONE, bad]) == ["2 kinds of runs"]
        with pytest.raises(UserError, match="refused_net"):
            opened.preflight([replace(ONE, backbone="refused_net")])
        events = [(event.kind, event.run) for event in opened.work(Queue([bad, ONE])) if event.kind != "tick"]
    assert events == [("started", bad), ("failed", bad), ("started", ONE), ("finished", ONE)]
    assert [ledger.state(tmp_path, run_id(run)) for run in (bad, ONE)] == ["failed", "finished"]


def test_a_sweep_runs_on_every_engine(study: Path, tmp_path: Path, engine: str) -> None:
    out = io.StringIO()
    outcome = run_sweep(
        lambda: plan.make(study, "smoke", tmp_path / "out", plan.Request()),
        tmp_path / "out",
        SETTINGS,
        Options(engine=engine),
        publish=lambda: None,
        console=Console(file=out, width=100),
    )
    assert (outcome.finished, outcome.total, outcome.exit_code) == (8, 8, 0)
    assert "8 of 8 runs to do, 1 at a time" in out.getvalue()

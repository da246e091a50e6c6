"""Record a run in W&B: offline unless somebody asks, never a prompt, and a failure that keeps its name."""

import base64
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bias_lab import ledger
from bias_lab.definition import Run, Settings, run_id
from bias_lab.errors import Diverged
from bias_lab.report.wandb_summary import study_of
from bias_lab.tracking import export, live
from tests.planted import write_plan, write_run
from tests.tracking import offline
from tests.tracking.offline import Offline


@pytest.mark.parametrize(
    ("wandb", "variable", "value"),
    [(False, "WANDB_MODE", "offline"), (True, "WANDB_MODE", "disabled"), (True, "WANDB_DISABLED", "true")],
)
def test_no_wandb_means_none(monkeypatch, tmp_path: Path, wandb: bool, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    run = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100)
    assert live.wandb_logger(run, tmp_path, Settings(wandb=wandb)) is None
    assert not list(tmp_path.iterdir())


RUN = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100, label_noise=0.2)


def finished(folder: Path, run: Run) -> tuple[dict[str, Any], Path]:
    """Write what a finished run leaves, and return its result and its folder."""
    from PIL import Image

    here = ledger.run_folder(folder, write_run(folder, run))
    Image.new("L", (8, 8)).save(here / "reconstruction.png")
    return ledger.read_json(here / ledger.RESULT), here


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Offline]:
    """Three runs of one worker: one that ended well, one that diverged, one after it."""
    folder = tmp_path_factory.mktemp("sweep")
    settings = Settings(experiment="small_data")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("WANDB_MODE", "offline")
        with live.tracked(RUN, folder, settings) as logger:
            logger.log_metrics({"train/loss": 2.0, "lr": 0.1}, step=1)
            live.conclude(logger, *finished(folder, RUN))
        with (
            pytest.raises(Diverged),
            live.tracked(replace(RUN, draw=1), folder, settings) as logger,
        ):
            logger.log_metrics({"train/loss": 3.0}, step=1)
            raise Diverged("the loss became nan at step 7")
        probe = replace(RUN, draw=2, protocol="knn")
        with live.tracked(probe, folder, settings) as logger:
            live.conclude(logger, *finished(folder, probe))
    return {name: each[0] for name, each in offline.runs(folder).items()}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_live_run_has_the_config_and_summary_of_its_export(told: dict[str, Offline], tmp_path: Path) -> None:
    run = told[run_id(RUN)]
    assert (run.group, run.job_type, run.exit_code) == ("small_data", "finetune", 0)
    assert (run.summary["top1"], run.summary["status"], run.summary["seconds"]) == (0.5, "finished", 20.0)
    right = np.unpackbits(np.frombuffer(base64.b64decode(run.summary["correct"]), np.uint8), count=20)
    assert right.mean() == 0.5
    assert (run.config["regime"], run.config["family"], run.config["parameters"]) == ("scratch", "transformer", 400_000)
    assert run.config["label_noise"] == 0.2
    assert {"train/loss", "lr", "per_class", "pictures/reconstruction"} <= run.keys
    result, _ = finished(tmp_path, RUN)
    write_plan(tmp_path, [RUN])
    assert export.sync(tmp_path, study_of)
    exported = offline.runs(tmp_path)[result["run_id"]][0]
    mine = [{key: value for key, value in one.config.items() if not key.startswith("_")} for one in (run, exported)]
    assert mine[0] == mine[1]
    own = {"_runtime", "_step", "_timestamp", "_wandb", "train/loss", "lr", "trainer/global_step"}
    ends = [
        {key: value for key, value in one.summary.items() if key not in own and not isinstance(value, dict)}
        for one in (run, exported)
    ]
    assert ends[0] == ends[1]


def test_a_run_that_diverged_ends_as_failed_and_the_next_has_its_own(told: dict[str, Offline]) -> None:
    failed = told[run_id(replace(RUN, draw=1))]
    assert (failed.exit_code, failed.summary["status"]) == (1, "failed")
    assert failed.summary["reason"] == "Diverged: the loss became nan at step 7"
    after = told[run_id(replace(RUN, draw=2, protocol="knn"))]
    assert (after.job_type, after.exit_code, after.summary["status"]) == ("probe", 0, "finished")
    assert "train/loss" not in after.keys


def test_what_goes_wrong_with_wandb_is_logged_and_the_run_stands(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result, here = finished(tmp_path, RUN)
    live.conclude(None, result, here)
    live.conclude(object(), result, here)
    assert "bias-lab wandb-sync can" in caplog.text


class Unwilling:
    """A W&B run that can be neither told nor ended."""

    @property
    def summary(self) -> None:
        raise OSError("the disk is full")

    def finish(self, exit_code: int = 0) -> None:
        raise OSError("no answer")


@pytest.mark.parametrize("begins", [False, True])
def test_wandb_that_fails_neither_stops_a_run_nor_renames_its_failure(
    begins: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def logger(*_: object) -> SimpleNamespace:
        if begins:
            return SimpleNamespace(experiment=Unwilling())
        raise OSError("the server does not answer")

    monkeypatch.setattr(live, "wandb_logger", logger)
    with live.tracked(RUN, tmp_path, Settings()) as given:
        assert (given is not None) == begins
    with pytest.raises(Diverged, match="step 7"), live.tracked(RUN, tmp_path, Settings()):
        raise Diverged("the loss became nan at step 7")
    assert "bias-lab wandb-sync can" in caplog.text


# --- nothing goes online unless somebody asks ------------------------------------------------------------------------


class Server:
    """A server on the loopback address that counts the requests to it and refuses them."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.requests.append(f"{self.command} {self.path}")
                self.send_response(401)
                self.end_headers()

            do_GET = do_POST  # noqa: N815  the name that the base class calls

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Start the server, with a key for it in the environment and no word of what W&B should do."""
    fake = Server()
    threading.Thread(target=fake.http.serve_forever, daemon=True).start()
    monkeypatch.setenv("WANDB_BASE_URL", fake.address)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    for name in ("WANDB_MODE", "WANDB_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    yield fake
    fake.http.shutdown()
    fake.http.server_close()


# A process of its own, since wandb reads its settings once and keeps a service process.
RECORD = """
import sys
from pathlib import Path
from bias_lab.definition import Run, Settings
from bias_lab.tracking import live
run = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100)
with live.tracked(run, Path(sys.argv[1]), Settings(wandb_mode=sys.argv[2])) as logger:
    if logger is not None:
        logger.log_metrics({"train/loss": 1.0}, step=1)
"""


def record(folder: Path, mode: str, **environment: str) -> None:
    code = [sys.executable, "-c", RECORD, str(folder), mode]
    # Without its own service process it would take this one's, which may still hold the run after the process has ended
    own = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    subprocess.run(code, check=True, capture_output=True, env={**own, **environment}, timeout=120)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["", "offline"])
def test_a_key_alone_sends_no_request(server: Server, tmp_path: Path, mode: str) -> None:
    record(tmp_path, mode)
    assert server.requests == []
    assert len(list(tmp_path.glob("wandb/offline-run-*"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("environment", [{"WANDB_MODE": "disabled"}, {"WANDB_DISABLED": "true"}])
def test_a_variable_that_disables_it_comes_before_the_flag(
    server: Server, tmp_path: Path, environment: dict[str, str]
) -> None:
    record(tmp_path, "online", **environment)
    assert server.requests == []
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "environment"),
    [("online", {}), ("online", {"WANDB_MODE": "offline"}), ("", {"WANDB_MODE": "online"})],
)
def test_asked_for_it_goes_online(server: Server, tmp_path: Path, mode: str, environment: dict[str, str]) -> None:
    record(tmp_path, mode, **environment)  # the server refuses, so the run goes on without W&B
    assert server.requests


def command(*words: str) -> int:
    """Return the exit code of a command in a process of its own, without WANDB_MODE."""
    own = {name: value for name, value in os.environ.items() if name not in ("WANDB_SERVICE", "WANDB_MODE")}
    code = [sys.executable, "-c", "import sys; from bias_lab.cli.main import main; sys.exit(main())", *words]
    return subprocess.run(code, capture_output=True, env=own, timeout=120, check=False).returncode


@pytest.mark.slow
def test_an_export_with_a_key_sends_no_request_and_a_run_lies_there_once(server: Server, tmp_path: Path) -> None:
    """The requests are counted when the process has ended: wandb's service sends what it measured at its end."""
    run = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100)
    write_plan(tmp_path, [run])
    record(tmp_path, "")
    write_run(tmp_path, run)
    assert command("wandb-sync", str(tmp_path)) == 0
    assert command("wandb-dashboard", str(tmp_path)) == 2
    assert server.requests == []
    assert len(list(tmp_path.glob(f"wandb/offline-run-*-{run_id(run)}"))) == 1

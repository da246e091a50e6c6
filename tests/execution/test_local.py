"""Workers on this machine, as real processes that carry out a stand-in for training."""

import os
import platform
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bias_lab import ledger, machine
from bias_lab.definition import Run, Settings, grid, run_id
from bias_lab.errors import UserError
from bias_lab.execution import engine
from bias_lab.execution.engine import DiskFullError, Event
from bias_lab.execution.local import Local
from bias_lab.execution.queue import Queue
from bias_lab.machine import KEEP_HEAP
from tests.execution import fake_execute

ONE = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100)

pytestmark = pytest.mark.usefixtures("fake")


def work(folder: Path, *runs: Run, workers: int = 1) -> list[Event]:
    with Local(folder, Settings(workers=workers, device="cpu")) as engine:
        return [event for event in engine.work(Queue(runs)) if event.kind != "tick"]


def ended(events: list[Event]) -> dict[Run, str]:
    return {event.run: event.kind for event in events if event.run and event.kind != "started"}


def failure(folder: Path, run: Run) -> dict[str, str]:
    read: dict[str, str] = ledger.read_json(ledger.run_folder(folder, run_id(run)) / ledger.FAILURE)
    return read


def test_one_worker_carries_out_all_in_order_with_one_thread(tmp_path: Path) -> None:
    runs = grid(ONE, draw=(0, 1, 2))
    events = work(tmp_path, *runs)
    assert [(event.kind, event.run) for event in events] == [
        (kind, run) for run in runs for kind in ("started", "finished")
    ]
    result = ledger.read_json(ledger.run_folder(tmp_path, run_id(ONE)) / ledger.RESULT)
    assert result["facts"]["threads"] == "1"


def test_a_worker_keeps_its_heap_unless_the_user_has_set_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MALLOC_MMAP_MAX_", raising=False)
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    work(tmp_path, ONE)
    facts = ledger.read_json(ledger.run_folder(tmp_path, run_id(ONE)) / ledger.RESULT)["facts"]
    assert facts["MALLOC_MMAP_MAX_"] == KEEP_HEAP["MALLOC_MMAP_MAX_"]
    assert facts["MALLOC_TRIM_THRESHOLD_"] == "131072"


FAULTS = """
import resource
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    activation = b"1" * (64 << 20)
    del activation
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the variables belong to glibc")
def test_keeping_the_heap_saves_page_faults() -> None:
    default = {name: value for name, value in os.environ.items() if name not in KEEP_HEAP}
    faults = [
        int(subprocess.run([sys.executable, "-c", FAULTS], env=env, capture_output=True, check=True).stdout)
        for env in (default, default | KEEP_HEAP)
    ]
    assert faults[1] * 4 < faults[0]


def test_one_and_two_workers_leave_the_same_bytes(tmp_path: Path) -> None:
    runs = grid(ONE, draw=(0, 1, 2))
    for workers in (1, 2):
        assert set(ended(work(tmp_path / str(workers), *runs, workers=workers)).values()) == {"finished"}
    for run in runs:
        for name in (ledger.RESULT, ledger.WEIGHTS):
            one, two = (ledger.run_folder(tmp_path / str(k), run_id(run)) / name for k in (1, 2))
            assert one.read_bytes() == two.read_bytes()


def test_failures_are_recorded_and_do_not_stop_the_sweep(tmp_path: Path) -> None:
    bad = replace(ONE, weight_decay=fake_execute.FAIL)
    nan = replace(ONE, weight_decay=fake_execute.DIVERGE)
    dead = replace(ONE, weight_decay=fake_execute.DIE)
    events = work(tmp_path, bad, nan, dead, ONE)
    assert ended(events) == {bad: "failed", nan: "failed", dead: "failed", ONE: "finished"}
    assert failure(tmp_path, bad)["reason"] == "error"
    assert failure(tmp_path, bad)["exception"] == "ValueError: planted: two lines"
    assert "fake_execute.py" in failure(tmp_path, bad)["log"]  # an error of ours keeps its traceback
    assert failure(tmp_path, nan) | {"log": ""} == {
        "reason": "diverged",
        "exception": "train/loss is nan at step 7",
        "log": "",
    }
    assert ledger.state(tmp_path, run_id(nan)) == "diverged"
    assert failure(tmp_path, dead)["exception"] == "the worker was killed by SIGKILL; the machine may be out of memory"
    assert failure(tmp_path, dead)["log"] == "last words\n"


def test_a_later_success_removes_the_failure(tmp_path: Path) -> None:
    here = ledger.run_folder(tmp_path, run_id(ONE))
    ledger.write_json(here / ledger.FAILURE, {"reason": "error", "exception": "", "log": ""})
    work(tmp_path, ONE)
    assert not (here / ledger.FAILURE).exists()


def test_the_log_has_what_a_run_and_its_child_processes_print(tmp_path: Path) -> None:
    run = replace(ONE, weight_decay=fake_execute.PRINT)
    work(tmp_path, run)
    assert (ledger.run_folder(tmp_path, run_id(run)) / ledger.LOG).read_text() == "echo from a child\n".removeprefix(
        "echo "
    )


def test_a_full_disk_stops_the_sweep_and_leaves_no_result(tmp_path: Path) -> None:
    full = replace(ONE, weight_decay=fake_execute.FULL)
    with pytest.raises(DiskFullError, match="No space left"):
        work(tmp_path, full, ONE)
    assert ledger.state(tmp_path, run_id(full)) == "started"
    assert ledger.state(tmp_path, run_id(ONE)) == "missing"


def test_the_preflight_returns_warnings_and_raises_errors(tmp_path: Path) -> None:
    with Local(tmp_path, Settings(workers=1, device="cpu")) as engine:
        assert engine.preflight([ONE, replace(ONE, size=20)]) == ["2 kinds of runs"]
        with pytest.raises(UserError, match="unknown backbone 'refused_net'; did you mean 'resnet_micro'"):
            engine.preflight([replace(ONE, backbone="refused_net")])
        with pytest.raises(RuntimeError, match=r"(?s)preflight failed.*planted"):
            engine.preflight([replace(ONE, backbone="broken_net")])
    assert not (tmp_path / "runs").exists()


def test_a_worker_that_dies_in_the_preflight_ends_it(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="preflight: the worker was killed by SIGKILL"),
        Local(tmp_path, Settings(workers=2, device="cpu")) as engine,
    ):
        engine.preflight([replace(ONE, backbone="deadly_net", draw=draw) for draw in (0, 1)])


def test_an_error_names_why_no_worker_could_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "EXECUTE", "no_such_module")
    with pytest.raises(RuntimeError, match=r"(?s)no worker could start: .*No module named 'no_such_module'"):
        work(tmp_path, ONE)


def test_an_interruption_ends_the_workers(tmp_path: Path) -> None:
    held = replace(ONE, weight_decay=fake_execute.HELD, seed=3)
    pids: list[int] = []

    def interrupted() -> None:
        with Local(tmp_path, Settings(workers=2, device="cpu")) as engine:
            for event in engine.work(Queue(grid(held, draw=(0, 1)))):
                if event.kind == "started":
                    pids.extend(worker.process.pid for worker in engine.workers)
                    raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(pids) == 2
    assert not any(alive(pid) for pid in pids)
    assert {ledger.state(tmp_path, run_id(run)) for run in grid(held, draw=(0, 1))} <= {"missing", "started"}


def test_a_worker_ends_when_its_sweep_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from bias_lab.definition import Settings\n"
        "from bias_lab.execution.local import Local\n"
        "settings = Settings(workers=1, device='cpu')\n"
        "engine = Local(Path(sys.argv[1]), settings, module='tests.execution.fake_execute')\n"
        "engine.start_workers(1); print(engine.workers[0].process.pid, flush=True); sys.stdin.read()\n"
    )
    sweep = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert sweep.stdin is not None
    assert sweep.stdout is not None
    worker = int(sweep.stdout.readline())
    sweep.send_signal(signal.SIGKILL)
    sweep.wait()
    sweep.stdin.close()
    sweep.stdout.close()
    while alive(worker):  # pytest's time limit ends a test that hangs
        time.sleep(0.02)


@pytest.mark.parametrize(("device", "at_a_time"), [("auto", 2), ("cuda", 2), ("cuda:1", 1), ("cpu", machine.cores())])
def test_there_is_one_worker_for_each_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, at_a_time: int
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert Local(tmp_path, Settings(device=device)).most == at_a_time
    assert Local(tmp_path, Settings(device=device, workers=3)).most == 3


def test_a_replacement_takes_the_device_of_the_worker_that_died(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One worker holds its device while the other one dies twice, so a count of started workers gives a wrong one."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    held = replace(ONE, weight_decay=fake_execute.HELD, seed=3)
    dying = grid(replace(ONE, weight_decay=fake_execute.DIE), draw=(0, 1))
    used: list[set[str]] = []
    with Local(tmp_path, Settings(device="auto")) as engine:
        for event in engine.work(Queue([held, *dying, ONE])):
            used.append({worker.device for worker in engine.workers if worker.run})
            assert len(used[-1]) == sum(worker.run is not None for worker in engine.workers)
            if event.run == ONE and event.kind == "finished":
                (tmp_path / fake_execute.GO).touch()
    assert {"0", "1"} in used
    gpus = {ledger.read_json(path)["facts"]["gpu"] for path in tmp_path.glob(f"runs/*/{ledger.RESULT}")}
    assert gpus == {"0", "1"}


def test_more_workers_than_devices_are_spread_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with Local(tmp_path, Settings(device="cuda", workers=4)) as engine:
        engine.start_workers(4)
        assert sorted(worker.device for worker in engine.workers) == ["0", "0", "1", "1"]


def alive(pid: int) -> bool:
    """Return whether the process runs. A zombie does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False

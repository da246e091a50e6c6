"""The death of a process is an error, and processes end with the one that started them."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bias_lab.data.readers import decoding, processes
from bias_lab.data.readers.decoding import Reference, Target, decode_all, inspect_all
from tests.data.pictures_on_disk import class_folders


@pytest.fixture
def references(tmp_path: Path) -> list[Reference]:
    root = class_folders(tmp_path / "mine", {"a": 70, "b": 71})
    return [Reference(str(file)) for file in sorted(root.rglob("*.png"))]


def test_a_process_that_cannot_start_is_an_error(references: list[Reference], monkeypatch: pytest.MonkeyPatch) -> None:
    def submit(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(decoding, "ALONE", 50)
    monkeypatch.setattr(processes.ProcessPoolExecutor, "submit", submit)
    with pytest.raises(RuntimeError, match="it did not start"):
        inspect_all(references, workers=2)


def test_a_process_that_is_killed_is_an_error_that_names_it(references: list[Reference]) -> None:
    killed = []

    def kill() -> None:
        while len(children := multiprocessing.active_children()) < 2:
            time.sleep(0.01)
        killed.append(children[0].pid)
        os.kill(children[0].pid or 0, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(RuntimeError, match=r"ended early: process \d+, with exit code -9") as caught:
        inspect_all([references[0]] * 1_000_000, workers=2)
    thread.join()
    assert f"process {killed[0]}," in str(caught.value)
    assert not multiprocessing.active_children()


AT_WORK = """
import multiprocessing, signal, sys, threading, time
from bias_lab.data.readers import decoding
signal.signal(signal.SIGINT, signal.default_int_handler)  # the background jobs of a shell ignore it

def tell():
    while len(multiprocessing.active_children()) < 2:
        time.sleep(0.01)
    print(*(child.pid for child in multiprocessing.active_children()), flush=True)

threading.Thread(target=tell, daemon=True).start()
decoding.inspect_all([decoding.Reference(sys.argv[1])] * 1_000_000, workers=2)
"""


def is_alive(process: int) -> bool:
    """Return whether a process runs. One that ended and was not waited for does not."""
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("wait", [0.0, 1.0], ids=["while processes start", "while they work"])
def test_a_ctrl_c_ends_decoding_at_once_with_one_message(references: list[Reference], wait: float) -> None:
    command = [sys.executable, "-c", AT_WORK, references[0].path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        children = [int(child) for child in process.stdout.readline().split()]
        time.sleep(wait)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to the whole group
        _, message = process.communicate(timeout=60)
    assert message.count(b"Traceback") == 1, message
    assert message.endswith(b"KeyboardInterrupt\n")
    assert not any(is_alive(child) for child in children)


def test_processes_end_when_their_parent_is_killed(references: list[Reference]) -> None:
    command = [sys.executable, "-c", AT_WORK, references[0].path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        children = [int(child) for child in process.stdout.readline().split()]
        time.sleep(1.0)  # they work by then
        process.kill()
        _, message = process.communicate(timeout=60)  # returns when all of them have closed their end
    assert not any(is_alive(child) for child in children)
    assert b"Traceback" not in message


def test_a_users_script_is_not_run_again_and_its_environment_stays(references: list[Reference], tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\nfrom bias_lab.data.readers import decoding\nbefore = dict(os.environ)\ndecoding.ALONE = 50\n"
        "print(len(decoding.inspect_all([decoding.Reference(sys.argv[1])] * 500, workers=2)))\n"
        "print(dict(os.environ) == before)\n",
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, str(script), references[0].path], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["500", "True"]
    assert done.stderr == ""


def test_a_disk_that_is_full_in_another_process_is_full_in_this_one(
    references: list[Reference], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "ALONE", 50)
    target = Target(path="/dev/full", side=(12, 12), channels=3, resize=None)
    with pytest.raises(OSError, match="No space left") as caught:
        decode_all(references, target, workers=2)
    assert caught.value.errno == errno.ENOSPC

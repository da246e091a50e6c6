"""Decoding in many processes gives what one process gives, and the death of a process is an error."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bias_lab.data.identity import content_hash
from bias_lab.data.moments import sums
from bias_lab.data.readers import decoding
from bias_lab.data.readers.decoding import Reference, Target, decode_all, inspect_all
from bias_lab.data.readers.image_file import pixels, resize
from tests.data.pictures_on_disk import class_folders, encoded, picture


@pytest.fixture
def references(tmp_path: Path) -> list[Reference]:
    root = class_folders(tmp_path / "mine", {"a": 70, "b": 71})
    (root / "a" / "0003.png").write_bytes(b"")
    return [Reference(str(file)) for file in sorted(root.rglob("*.png"))]


def test_several_processes_see_what_one_sees_in_the_same_order(
    references: list[Reference], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = inspect_all(references)
    monkeypatch.setattr(decoding, "ALONE", 50)
    assert inspect_all(references, workers=2) == alone
    assert alone[3].problem == "empty file"
    assert alone[5].hash == content_hash(pixels(picture(5)))
    assert (alone[5].width, alone[5].height, alone[5].grey) == (12, 12, False)


def test_several_processes_fill_the_same_rows(
    references: list[Reference], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspected = inspect_all(references)
    hashes = [one.hash for one in inspected]
    stores = []
    for workers, files in ((1, []), (3, [one.file for one in inspected])):
        monkeypatch.setattr(decoding, "ALONE", 50)
        path = tmp_path / f"store{workers}"
        path.write_bytes(bytes((2 + len(references)) * 8 * 8 * 3))
        target = Target(path=str(path), side=(8, 8), channels=3, resize=8, first=2, summed=100, hashes=hashes)
        target = replace(target, files=files)
        decoded = decode_all(references, target, workers=workers)
        assert [k for k, problem in enumerate(decoded.problems) if problem] == [3]
        assert decoded.contents == hashes
        pixels_of = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, 8, 8, 3)
        assert decoded.rows == [content_hash(row) if k != 3 else "" for k, row in enumerate(pixels_of[2:])]
        assert np.array_equal(decoded.sums, sums(pixels_of[2:102]))
        stores.append(pixels_of)
    assert np.array_equal(stores[0], stores[1])
    assert not stores[0][:2].any()  # the rows before the first belong to another split
    assert not stores[0][2 + 3].any()
    assert np.array_equal(stores[0][2 + 5], resize(picture(5), 8, 3))


def test_an_image_that_changed_since_it_was_indexed_is_refused(references: list[Reference], tmp_path: Path) -> None:
    """A file with other bytes is refused only if its pixels changed too."""
    inspected = inspect_all(references[:3])
    hashes, files = [one.hash for one in inspected], [one.file for one in inspected]
    Path(references[1].path).write_bytes(encoded(picture(999)))
    Path(references[2].path).write_bytes(encoded(picture(2), "BMP"))
    (tmp_path / "store").write_bytes(bytes(3 * 8 * 8 * 3))
    target = Target(path=str(tmp_path / "store"), side=(8, 8), channels=3, resize=8, hashes=hashes, files=files)
    decoded = decode_all(references[:3], target)
    assert decoded.problems == ["", "changed since it was indexed", ""]
    assert decoded.contents == [hashes[0], content_hash(pixels(picture(999))), hashes[2]]


def test_a_file_that_comes_in_parts_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(bytes(range(100)))
    whole = os.read
    monkeypatch.setattr(decoding.os, "read", lambda file, count: whole(file, min(count, 7)))
    assert decoding.fetch(Reference(str(tmp_path / "file"))) == bytes(range(100))


def test_a_damaged_part_of_a_table_is_a_reason_and_no_fault_of_ours(tmp_path: Path) -> None:
    rows = [{"bytes": encoded(picture(k))} for k in range(20)]
    pq.write_table(pa.table({"image": rows}), tmp_path / "t.parquet", row_group_size=10)
    data = bytearray((tmp_path / "t.parquet").read_bytes())
    data[4:400] = b"\xff" * 396
    (tmp_path / "t.parquet").write_bytes(data)
    where = [Reference(str(tmp_path / "t.parquet"), "image", group, 3) for group in (0, 1)]
    broken, whole = inspect_all(where)
    assert broken.problem.startswith("a damaged part of the table: ")
    assert whole.hash == content_hash(pixels(picture(13)))


def test_images_of_other_sizes_need_a_size(references: list[Reference], tmp_path: Path) -> None:
    Path(references[1].path).write_bytes(encoded(picture(999, side=20)))
    (tmp_path / "store").write_bytes(bytes(2 * 12 * 12 * 3))
    target = Target(path=str(tmp_path / "store"), side=(12, 12), channels=3, resize=None)
    assert decode_all(references[:2], target).problems == ["", "20x20 px, the others 12x12"]


def test_a_process_that_cannot_start_is_an_error(references: list[Reference], monkeypatch: pytest.MonkeyPatch) -> None:
    def submit(*_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(decoding, "ALONE", 50)
    monkeypatch.setattr(decoding.ProcessPoolExecutor, "submit", submit)
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

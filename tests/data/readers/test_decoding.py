"""Decoding on many cores gives what one gives, and a worker's death is not silent."""

import errno
import os
import pickle
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bias_lab.data.identity import content_hash
from bias_lab.data.moments import sums
from bias_lab.data.readers import decoding
from bias_lab.data.readers.decoding import Reference, Target, fill, look_at
from bias_lab.data.readers.image_file import fit, pixels
from tests.data.pictures_on_disk import class_folders, encoded, picture


@pytest.fixture
def references(tmp_path: Path) -> list[Reference]:
    root = class_folders(tmp_path / "mine", {"a": 70, "b": 71})
    (root / "a" / "0003.png").write_bytes(b"")
    return [Reference(str(file)) for file in sorted(root.rglob("*.png"))]


def test_several_processes_see_what_one_sees_in_the_same_order(
    references: list[Reference], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = look_at(references)
    monkeypatch.setattr(decoding, "ALONE", 50)
    assert look_at(references, workers=2) == alone
    assert alone[3].problem == "empty file"
    assert alone[5].hash == content_hash(pixels(picture(5)))
    assert (alone[5].width, alone[5].height, alone[5].grey) == (12, 12, False)


def test_several_processes_fill_the_same_rows(
    references: list[Reference], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = look_at(references)
    hashes = [one.hash for one in seen]
    stores = []
    for workers, files in ((1, []), (3, [one.file for one in seen])):
        monkeypatch.setattr(decoding, "ALONE", 50)
        path = tmp_path / f"store{workers}"
        path.write_bytes(bytes((2 + len(references)) * 8 * 8 * 3))
        target = Target(path=str(path), side=(8, 8), channels=3, resize=8, first=2, counted=100, hashes=hashes)
        target = replace(target, files=files)
        filled = fill(references, target, workers=workers)
        assert [k for k, problem in enumerate(filled.problems) if problem] == [3]
        assert filled.contents == hashes
        pixels_of = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, 8, 8, 3)
        assert filled.rows == [content_hash(row) if k != 3 else "" for k, row in enumerate(pixels_of[2:])]
        assert np.array_equal(filled.sums, sums(pixels_of[2:102]))
        stores.append(pixels_of)
    assert np.array_equal(stores[0], stores[1])
    assert not stores[0][:2].any()  # rows before the first are another split's
    assert not stores[0][2 + 3].any()
    assert np.array_equal(stores[0][2 + 5], fit(picture(5), 8, 3))


def test_an_image_that_changed_since_it_was_indexed_is_refused(references: list[Reference], tmp_path: Path) -> None:
    """A file of other bytes is refused by its pixels: one that was written again, pixels as they were, is not."""
    seen = look_at(references[:3])
    hashes, files = [one.hash for one in seen], [one.file for one in seen]
    Path(references[1].path).write_bytes(encoded(picture(999)))
    Path(references[2].path).write_bytes(encoded(picture(2), "BMP"))
    (tmp_path / "store").write_bytes(bytes(3 * 8 * 8 * 3))
    target = Target(path=str(tmp_path / "store"), side=(8, 8), channels=3, resize=8, hashes=hashes, files=files)
    filled = fill(references[:3], target)
    assert filled.problems == ["", "changed since it was indexed", ""]
    assert filled.contents == [hashes[0], content_hash(pixels(picture(999))), hashes[2]]


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
    broken, whole = look_at(where)
    assert broken.problem.startswith("a damaged part of the table: ")
    assert whole.hash == content_hash(pixels(picture(13)))


def test_images_of_other_sizes_need_a_size(references: list[Reference], tmp_path: Path) -> None:
    Path(references[1].path).write_bytes(encoded(picture(999, side=20)))
    (tmp_path / "store").write_bytes(bytes(2 * 12 * 12 * 3))
    target = Target(path=str(tmp_path / "store"), side=(12, 12), channels=3, resize=None)
    assert fill(references[:2], target).problems == ["", "20x20 px, the others 12x12"]


def test_a_decoding_process_that_dies_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "ALONE", 50)
    monkeypatch.setattr(sys, "executable", "/bin/true")
    with pytest.raises(RuntimeError, match="ended early, with exit code 0"):
        look_at([Reference(f"{k:080}") for k in range(4000)], workers=2)  # more than a pipe holds: it dies untold


INTERRUPTED = """
import signal, sys
from bias_lab.data.readers import decoding
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs are started without
decoding.ALONE, ask = 50, decoding._ask
def told(process, *others):
    print(process.pid, flush=True)
    return ask(process, *others)
decoding._ask = told
decoding.look_at([decoding.Reference(sys.argv[1])] * 1_000_000, workers=2)
"""


def test_a_ctrl_c_ends_decoding_at_once_and_only_one_process_tells_of_it(references: list[Reference]) -> None:
    command = [sys.executable, "-c", INTERRUPTED, references[0].path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        children = [int(process.stdout.readline()) for _ in range(2)]
        assert process.pid not in [os.getpgid(child) for child in children]
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the whole group
        _, said = process.communicate(timeout=60)
    assert said.count(b"Traceback") == 1
    assert said.endswith(b"KeyboardInterrupt\n")
    for child in children:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


def test_a_decoding_process_whose_parent_was_killed_ends_without_a_word(
    references: list[Reference], capfd: pytest.CaptureFixture[str]
) -> None:
    """Before it was told what to do, and in the middle of its work: all it sees of a kill -9 are broken pipes."""
    work = [([references[0]] * 64, None)] * 1000
    with decoding._start() as untold, decoding._start() as at_work:
        for process in (untold, at_work):
            assert process.stdin is not None
            assert process.stdout is not None
            if process is at_work:
                pickle.dump(work, process.stdin)
                process.stdin.flush()
                pickle.load(process.stdout)
            process.stdin.close()
            process.stdout.close()
            process.wait(timeout=60)
    assert capfd.readouterr().err == ""


def test_a_disk_that_is_full_in_another_process_is_full_in_this_one(
    references: list[Reference], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "ALONE", 50)
    target = Target(path="/dev/full", side=(12, 12), channels=3, resize=None)
    with pytest.raises(OSError, match="No space left") as caught:
        fill(references, target, workers=2)
    assert caught.value.errno == errno.ENOSPC


def test_a_decoding_process_that_dies_in_the_middle_of_a_word_is_an_error(
    references: list[Reference], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = tmp_path / "python"
    dying.write_text("#!/bin/sh\ncat > /dev/null\nprintf '\\200\\005\\225\\377'\nexit 7\n", encoding="utf-8")
    dying.chmod(0o755)
    monkeypatch.setattr(decoding, "ALONE", 50)
    monkeypatch.setattr(sys, "executable", str(dying))
    with pytest.raises(RuntimeError, match="ended early, with exit code 7"):
        look_at(references, workers=2)

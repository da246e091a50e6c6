"""Decoding in many processes gives what one process gives."""

import os
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

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


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    """A pipe without a writer would be waited for without end."""
    os.mkfifo(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.png"))
    (tmp_path / "device.png").symlink_to("/dev/zero")
    (tmp_path / "image.png").write_bytes(encoded(picture(3)))
    (tmp_path / "link.png").symlink_to(tmp_path / "image.png")
    names = ("pipe.png", "socket.png", "device.png", "link.png", "nul\0.png")
    inspected = inspect_all([Reference(str(tmp_path / name)) for name in names])
    assert [one.problem for one in inspected] == [
        "a named pipe, not a file",
        "a socket, not a file",
        "a device, not a file",
        "",
        "embedded null byte",
    ]


def test_an_inspection_holds_the_remark_on_unused_bits(tmp_path: Path) -> None:
    Image.fromarray(np.full((9, 9), 4000, np.uint16)).save(tmp_path / "dark.png")
    assert inspect_all([Reference(str(tmp_path / "dark.png"))])[0].remark == "uses 12 of 16 bits"

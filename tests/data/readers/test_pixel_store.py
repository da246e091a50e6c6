"""Test that a store is built once, completely or not at all, and that a changed one is never opened."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bias_lab.data import store
from bias_lab.data.own_images import Index, index
from bias_lab.data.readers import pixel_store
from bias_lab.data.store import open_images
from bias_lab.errors import UserError
from tests.data.pictures_on_disk import class_folders
from tests.data.stores_on_disk import files, indexed, opened

assert indexed  # a fixture


def test_a_second_opening_decodes_nothing(indexed: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(indexed, tmp_path)
    monkeypatch.setattr(store, "decode_all", lambda *_: pytest.fail("decoded again"))
    monkeypatch.setattr(pixel_store, "content_hash", lambda *_: pytest.fail("read it all again"))
    shutil.rmtree(Path(indexed.place["path"]))  # the files are not needed
    again = opened(indexed, tmp_path)
    assert np.array_equal(again.train, first.train)
    assert isinstance(again.train, np.memmap)
    assert not again.train.flags.writeable


@pytest.mark.parametrize(
    "damage",
    [
        *("truncated", "longer", "one bit", "one bit, time kept away", "header", "header gone", "data gone"),
        *("header of bytes", "header {}", "header []", "header without checksum", "note of bytes"),
    ],
)
def test_a_store_that_is_not_whole_is_built_again(indexed: Index, tmp_path: Path, damage: str) -> None:
    before = np.array(opened(indexed, tmp_path).train)
    (data,), (header,) = files(tmp_path, ".u8"), files(tmp_path, ".json")
    raw = bytearray(data.read_bytes())
    if damage == "truncated":
        data.write_bytes(raw[:-100])
    elif damage == "longer":
        data.write_bytes(raw + b"x")
    elif damage.startswith("one bit"):
        raw[300] ^= 1
        data.write_bytes(raw)
        if "kept away" in damage:
            files(tmp_path, ".checked")[0].unlink()
    elif damage == "header":
        header.write_text(header.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    elif damage == "header without checksum":
        about = json.loads(header.read_text(encoding="utf-8"))
        header.write_text(json.dumps({k: v for k, v in about.items() if k != "checksum"}), encoding="utf-8")
    elif damage in ("header of bytes", "header {}", "header []"):
        header.write_bytes({"s": b"\xff\xfe", "}": b"{}", "]": b"[]"}[damage[-1]])
    elif damage == "note of bytes":
        files(tmp_path, ".checked")[0].write_bytes(b"\xff")
    else:
        (header if damage == "header gone" else data).unlink()
    os.utime(data if data.exists() else header, (2e9, 2e9))  # a later time, even with a coarse clock
    assert np.array_equal(opened(indexed, tmp_path).train, before)


def test_a_data_root_that_cannot_be_written_is_no_fault(
    indexed: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    (tmp_path / "root").write_text("a file where a folder should be", encoding="utf-8")
    assert len(opened(indexed, tmp_path).train) == 16
    assert list((tmp_path / "home").rglob("*.u8"))


def test_the_data_root_is_what_is_given_else_the_environments_else_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIAS_LAB_DATA", "/from/environment")
    assert pixel_store.data_root("/given") == Path("/given")
    assert pixel_store.data_root(None) == Path("/from/environment")
    monkeypatch.delenv("BIAS_LAB_DATA")
    assert pixel_store.data_root(None) == Path.home() / ".cache" / "bias_lab" / "data"


# --- several processes -----------------------------------------------------------------------------------------------

# Neither takes the lock before both have indexed that there is no store.
OPEN = """
import json, pathlib, sys, time
from bias_lab.data import store
from bias_lab.data.readers import pixel_store
place, root, me = json.loads(open(sys.argv[1]).read()), pathlib.Path(sys.argv[2]), sys.argv[3]
decode, lock = store.decode_all, pixel_store.FileLock

def together(path):
    (root / f"waits-{me}").touch()
    while len(list(root.glob("waits-*"))) < 2:
        time.sleep(0.01)
    return lock(path)

def decode_once(*arguments):
    print("built")
    return decode(*arguments)

store.decode_all, pixel_store.FileLock = decode_once, together
images = store.open_images("folder:" + place["fingerprint"], data_root=str(root), place=place)
print(int(images.train.astype(int).sum()))
"""


def start(indexed: Index, tmp_path: Path, name: str) -> "subprocess.Popen[str]":
    (tmp_path / "place.json").write_text(json.dumps(indexed.place), encoding="utf-8")
    command = [sys.executable, "-c", OPEN, str(tmp_path / "place.json"), str(tmp_path / "root"), name]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def test_two_processes_at_once_build_it_once(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "mine", {"a": 40, "b": 40}, side=40)
    indexed = index(root, folder=tmp_path / "out", image_size=32)
    both = [start(indexed, tmp_path, name) for name in ("one", "other")]
    outputs = [process.communicate(timeout=120)[0].split() for process in both]
    assert len(files(tmp_path, ".u8")) == 1
    total = str(int(opened(indexed, tmp_path).train.astype(int).sum()))
    assert sorted(outputs) == [[total], ["built", total]]


def test_what_a_killed_builder_left_is_cleared_away(indexed: Index, tmp_path: Path) -> None:
    opened(indexed, tmp_path)
    (data,), (header,) = files(tmp_path, ".u8"), files(tmp_path, ".json")
    left = data.with_name(f".{data.name}.abc.tmp")
    left.write_bytes(b"half")
    header.unlink()
    opened(indexed, tmp_path)
    assert not left.exists()


# Builders are forked from one process and count the steps of their build, each before and after. The first one runs to
# the end and writes its steps to a file. Each further one kills itself at one of these steps.
BUILDERS = """
import json, os, pathlib, signal, sys, threading
import pandas
from bias_lab.data import store
from bias_lab.data.readers import decoding, image_file, pixel_store, processes

place, kills = json.loads(pathlib.Path(sys.argv[1]).read_text()), int(sys.argv[3])
decoding.ALONE = int(sys.argv[4])
system = {os.truncate: "truncate", os.chmod: "chmod", os.fsync: "fsync", os.replace: "replace"}
ours = {image_file.pixels: "image", processes.Future.result: "part", pixel_store.of_sums: "moments"}
named = {function.__code__: name for function, name in ours.items()}
steps, one_at_a_time = [], threading.Lock()

def build(root, moment):
    def watch(frame, event, called):
        if event in ("call", "return"):
            name = named.get(frame.f_code)
        else:
            name = next((name for function, name in system.items() if function is called), None)
        if name is not None:
            with one_at_a_time:
                steps.append(name)
                if len(steps) == moment:
                    os.kill(os.getpid(), signal.SIGKILL)

    threading.setprofile(watch)
    sys.setprofile(watch)
    store.open_images("folder:" + place["fingerprint"], data_root=root, place=place)
    sys.setprofile(None)

def forked(root, moment):
    child = os.fork()
    if child == 0:
        build(root, moment)
        pathlib.Path(root, "steps.json").write_text(json.dumps(steps))
        os._exit(0)
    return os.waitpid(child, 0)[1]

assert forked(sys.argv[2], 0) == 0
steps_of_one = json.loads(pathlib.Path(sys.argv[2], "steps.json").read_text())
renames = [k for k, name in enumerate(steps_of_one, 1) if name == "replace"]
between = kills - len(renames)
moments = sorted({*renames, *(1 + k * (renames[0] - 2) // (between - 1) for k in range(between))})
for moment in moments:
    assert forked(f"{sys.argv[2]}-{moment}", moment) == signal.SIGKILL
print(json.dumps({"steps": steps_of_one, "moments": moments}))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("alone", "kills"), [(10**9, 20), (10, 10)], ids=["one process", "several"])
def test_kill_9_at_any_moment_never_leaves_a_store_that_opens_and_is_wrong(
    tmp_path: Path, alone: int, kills: int
) -> None:
    """Builders are killed at steps all over the build, around every rename. The next opening is always right."""
    root = class_folders(tmp_path / "mine", {"a": 60, "b": 60}, side=24)
    indexed = index(root, folder=tmp_path / "out", image_size=24)
    (tmp_path / "place.json").write_text(json.dumps(indexed.place), encoding="utf-8")
    arguments = [str(tmp_path / "place.json"), str(tmp_path / "root"), str(kills), str(alone)]
    done = subprocess.run([sys.executable, "-c", BUILDERS, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert len(report["moments"]) == kills
    renames = [k for k, name in enumerate(report["steps"], 1) if name == "replace"]
    assert len(renames) == 6, (
        report
    )  # before and after that of the pixels, of the header and of the note that both were checked
    whole = opened(indexed, tmp_path)
    for moment in report["moments"]:
        folder, where = f"root-{moment}", f"step {moment}, {report['steps'][moment - 1]}"
        left = pixel_store.open_store(
            tmp_path / folder / "stores", pixel_store.key_of(indexed.fingerprint, 24, 3, *indexed.classes)
        )
        assert (left is not None) == (moment >= renames[3]), where
        again = open_images(indexed.identity, data_root=str(tmp_path / folder), place=indexed.place)
        for images in (again, *([left] if left else [])):
            assert np.array_equal(images.train, whole.train), where
            assert np.array_equal(images.test, whole.test), where
            assert np.array_equal(images.train_labels, whole.train_labels), where
        if left is None:  # the next builder removes the remains of this one
            assert not list((tmp_path / folder / "stores").glob(".*.tmp")), where


def test_a_store_that_the_disk_cannot_hold_is_refused_before_it_is_begun(tmp_path: Path) -> None:
    labels = {"train": np.zeros(1000, np.int64)}
    content = pixel_store.Content(
        labels=labels, shape=(10**6, 10**6, 3), classes=["a"], write=lambda _: pytest.fail("begun")
    )
    with pytest.raises(UserError, match=r"1,000 images of 1000000x1000000 px take 2,793,\d+\.\d GiB, but .* has "):
        pixel_store.open_or_build(tmp_path, "key", lambda: content)
    assert not files(tmp_path, ".u8")

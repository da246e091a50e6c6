"""Stores: built once, whole or not at all, and never trusted when they are not what was written."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bias_lab.data import store
from bias_lab.data.sources import Index, index
from bias_lab.data.store import Images, moments, open_images
from bias_lab.errors import UserError
from tests.data.pictures_on_disk import class_folders, encoded, picture


@pytest.fixture
def found(tmp_path: Path) -> Index:
    root = class_folders(tmp_path / "mine" / "train", {"a": 9, "b": 7}).parent
    class_folders(root / "test", {"a": 3, "b": 4}, start=100)
    class_folders(root / "val", {"a": 2, "b": 2}, start=200)
    return index(root, folder=tmp_path / "out", image_size=12)


def opened(found: Index, tmp_path: Path, size: int | None = None) -> Images:
    return open_images(found.identity, image_size=size, data_root=str(tmp_path / "root"), place=found.place)


def files(tmp_path: Path, suffix: str) -> list[Path]:
    return sorted((tmp_path / "root" / "stores").glob(f"*{suffix}"))


def test_a_store_holds_the_pictures_by_class_and_path(found: Index, tmp_path: Path) -> None:
    images = opened(found, tmp_path)
    assert images.classes == ("a", "b")
    assert images.train_labels.tolist() == [0] * 9 + [1] * 7
    for k in range(16):
        assert np.array_equal(images.train[k], np.asarray(picture(k)))
    assert np.array_equal(images.test[3], np.asarray(picture(103)))
    assert images.holdout is not None
    assert images.holdout_labels is not None
    assert np.array_equal(images.holdout[0], np.asarray(picture(200)))
    assert images.holdout_labels.tolist() == [0, 0, 1, 1]
    assert images.fingerprint == found.fingerprint


def test_each_size_has_a_store_of_its_own(found: Index, tmp_path: Path) -> None:
    assert opened(found, tmp_path, 12).train.shape == (16, 12, 12, 3)
    assert opened(found, tmp_path, 8).train.shape == (16, 8, 8, 3)
    assert len(files(tmp_path, ".u8")) == 2


def test_all_grey_images_have_one_channel_and_a_single_coloured_one_makes_three(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "mine", {"a": 9, "b": 9}, mode="L")
    grey = index(root, folder=tmp_path / "o1", image_size=12)
    assert opened(grey, tmp_path).train.shape[-1] == 1
    (root / "a" / "colour.png").write_bytes(encoded(picture(50)))
    mixed = index(root, folder=tmp_path / "o2", image_size=12)
    assert opened(mixed, tmp_path).train.shape[-1] == 3


def test_a_second_opening_decodes_nothing(found: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = opened(found, tmp_path)
    monkeypatch.setattr(store, "fill", lambda *_: pytest.fail("decoded again"))
    monkeypatch.setattr(store, "_checksum", lambda *_: pytest.fail("read it all again"))
    shutil.rmtree(Path(found.place["path"]))  # nor does it need the files
    again = opened(found, tmp_path)
    assert np.array_equal(again.train, first.train)
    assert isinstance(again.train, np.memmap)
    assert not again.train.flags.writeable


@pytest.mark.parametrize(
    "damage", ["truncated", "longer", "one bit", "one bit, time kept away", "header", "header gone", "data gone"]
)
def test_a_store_that_is_not_whole_is_built_again(found: Index, tmp_path: Path, damage: str) -> None:
    before = np.array(opened(found, tmp_path).train)
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
    else:
        (header if damage == "header gone" else data).unlink()
    os.utime(data if data.exists() else header)
    assert np.array_equal(opened(found, tmp_path).train, before)


def test_an_image_that_changed_between_index_and_store_is_an_error_and_leaves_no_store(
    found: Index, tmp_path: Path
) -> None:
    file = Path(found.place["path"]) / "train" / "a" / "0002.png"
    file.write_bytes(encoded(picture(999)))
    with pytest.raises(UserError, match="0002.png \\(changed since it was indexed\\)"):
        opened(found, tmp_path)
    assert files(tmp_path, ".u8") == []
    assert not [p for p in (tmp_path / "root" / "stores").iterdir() if p.suffix == ".tmp"]


def test_who_asks_for_other_images_than_the_place_holds_is_refused(found: Index, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--data"):
        open_images(found.identity, data_root=str(tmp_path))
    with pytest.raises(UserError, match="the run wants 0123"):
        open_images("folder:0123", data_root=str(tmp_path), place=found.place)


def test_a_data_root_that_cannot_be_written_is_no_fault(
    found: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    (tmp_path / "root").write_text("a file where a folder should be", encoding="utf-8")
    assert len(opened(found, tmp_path).train) == 16
    assert list((tmp_path / "home").rglob("*.u8"))


def test_the_data_root_is_what_is_given_else_the_environments_else_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIAS_LAB_DATA", "/from/environment")
    assert store.data_root("/given") == Path("/given")
    assert store.data_root(None) == Path("/from/environment")
    monkeypatch.delenv("BIAS_LAB_DATA")
    assert store.data_root(None) == Path.home() / ".cache" / "bias_lab" / "data"


def test_moments_are_those_of_floating_point() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2100, 5, 4, 3), dtype=np.uint8)
    mean, std = moments(images)
    np.testing.assert_allclose(mean, (images / 255).mean((0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(std, (images / 255).std((0, 1, 2)), atol=1e-6)


def test_training_images_that_stand_in_the_test_split_are_left_out() -> None:
    """A planted leak: training image 3 is test image 1, under another class."""
    pixels = np.random.default_rng(0).integers(0, 256, (10, 4, 4, 3), dtype=np.uint8)
    test = pixels[6:].copy()
    test[1] = pixels[3]
    labels = np.arange(10) % 2
    images = Images(pixels[:6], labels[:6], test, labels[6:], ("a", "b"), (0.5,) * 3, (0.2,) * 3, "f00d")
    made = store.without_duplicates(images)
    assert np.array_equal(made.train, pixels[[0, 1, 2, 4, 5]])
    assert made.train_labels.tolist() == [0, 1, 0, 0, 1]
    assert np.array_equal(made.test, test)
    assert made.fingerprint != images.fingerprint
    clean = Images(pixels[:6], labels[:6], pixels[6:], labels[6:], ("a", "b"), (0.5,) * 3, (0.2,) * 3, "f00d")
    assert store.without_duplicates(clean) is clean


# --- several processes -----------------------------------------------------------------------------------------------

OPEN = """
import json, sys
from bias_lab.data import store
place = json.loads(open(sys.argv[1]).read())
images = store.open_images("folder:" + place["fingerprint"], data_root=sys.argv[2], place=place)
print(int(images.train.astype(int).sum()))
"""


def start(found: Index, tmp_path: Path, root: str = "root") -> "subprocess.Popen[str]":
    (tmp_path / "place.json").write_text(json.dumps(found.place), encoding="utf-8")
    command = [sys.executable, "-c", OPEN, str(tmp_path / "place.json"), str(tmp_path / root)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def test_two_processes_at_once_build_it_once(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "mine", {"a": 300, "b": 300}, side=40)
    found = index(root, folder=tmp_path / "out", image_size=32)
    both = [start(found, tmp_path) for _ in range(2)]
    sums = {process.communicate(timeout=60)[0] for process in both}
    assert len(sums) == 1
    assert len(files(tmp_path, ".u8")) == 1
    images = opened(found, tmp_path)
    assert {str(int(images.train.astype(int).sum())) + "\n"} == sums


def test_what_a_killed_builder_left_is_cleared_away(found: Index, tmp_path: Path) -> None:
    opened(found, tmp_path)
    (data,), (header,) = files(tmp_path, ".u8"), files(tmp_path, ".json")
    left = data.with_name(f".{data.name}.abc.tmp")
    left.write_bytes(b"half")
    header.unlink()
    opened(found, tmp_path)
    assert not left.exists()


# Builders, forked from one process, count the steps of their build, each before and after. The first goes to the end
# and writes its steps down; each further one kills itself at a step that is chosen from those.
BUILDERS = """
import json, os, pathlib, signal, sys, threading
import pandas
from bias_lab.data import decoding, pictures, store

place, kills = json.loads(pathlib.Path(sys.argv[1]).read_text()), int(sys.argv[3])
decoding.ALONE = int(sys.argv[4])
system = {os.truncate: "truncate", os.chmod: "chmod", os.fsync: "fsync", os.replace: "replace"}
ours = {pictures.fit: "image", decoding.progress.advance: "images", store.moments: "moments", store._checksum: "sum"}
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
    """Builders are killed at steps spread over the build, around every rename; the next opening is always right."""
    root = class_folders(tmp_path / "mine", {"a": 60, "b": 60}, side=24)
    found = index(root, folder=tmp_path / "out", image_size=24)
    (tmp_path / "place.json").write_text(json.dumps(found.place), encoding="utf-8")
    arguments = [str(tmp_path / "place.json"), str(tmp_path / "root"), str(kills), str(alone)]
    made = subprocess.run([sys.executable, "-c", BUILDERS, *arguments], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    told = json.loads(made.stdout)
    assert len(told["moments"]) == kills
    renames = [k for k, name in enumerate(told["steps"], 1) if name == "replace"]
    assert len(renames) == 6, told  # of the pixels, the header, the note that both were checked; before and after each
    whole = opened(found, tmp_path)
    for moment in told["moments"]:
        folder, where = f"root-{moment}", f"step {moment}, {told['steps'][moment - 1]}"
        left = store._open(tmp_path / folder / "stores", store.key_of(found.fingerprint, 24, 3))
        assert (left is not None) == (moment >= renames[3]), where
        again = open_images(found.identity, data_root=str(tmp_path / folder), place=found.place)
        for images in (again, *([left] if left else [])):
            assert np.array_equal(images.train, whole.train), where
            assert np.array_equal(images.test, whole.test), where
            assert np.array_equal(images.train_labels, whole.train_labels), where
        if left is None:  # the next builder clears away what this one left
            assert not list((tmp_path / folder / "stores").glob(".*.tmp")), where

"""Test the index of own images: one message for all bad files, one drawn split, and an error after changes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bias_lab import ledger
from bias_lab.data import own_images
from bias_lab.data.own_images import index
from bias_lab.data.readers import decoding
from bias_lab.definition import Run, run_id, to_json
from bias_lab.errors import UserError
from tests.data.pictures_on_disk import break_ten, class_folders, encoded, picture


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Return two class folders of 20 and 30 pictures, without a split."""
    return class_folders(tmp_path / "mine", {"cat": 20, "dog": 30})


def test_an_index_says_what_planning_needs(here: Path, tmp_path: Path) -> None:
    indexed = index(here, folder=tmp_path / "out", image_size=12)
    assert indexed.identity == f"folder:{indexed.fingerprint}"
    assert indexed.classes == ("cat", "dog")
    assert indexed.class_counts == (15, 24)  # 20 % of each class, at least 5, are the test split
    assert indexed.test_images == 11
    assert indexed.pool == 39
    assert indexed.channels == 3
    assert json.loads(json.dumps(indexed.place)) == indexed.place
    assert any("no test split was given: 11 images were drawn" in line for line in indexed.warnings)


def test_names_places_and_times_play_no_part_in_the_identity(here: Path, tmp_path: Path) -> None:
    first = index(here, folder=tmp_path / "a")
    copy = tmp_path / "elsewhere"
    shutil.copytree(here, copy)
    for file in sorted(copy.rglob("*.png")):
        file.rename(file.with_name(f"renamed_{file.name}"))
        os.utime(file.with_name(f"renamed_{file.name}"), (1, 1))
    assert index(copy, folder=tmp_path / "b").fingerprint == first.fingerprint


@pytest.mark.parametrize("change", ["pixel", "added", "removed", "moved"])
def test_content_is_the_identity(here: Path, tmp_path: Path, change: str) -> None:
    first = index(here, folder=tmp_path / "a").fingerprint
    file = here / "cat" / "0003.png"
    if change == "pixel":
        file.write_bytes(encoded(picture(777)))
    elif change == "added":
        (here / "cat" / "new.png").write_bytes(encoded(picture(777)))
    elif change == "removed":
        file.unlink()
    else:
        file.rename(here / "dog" / "0003.png")
    assert index(here, folder=tmp_path / "b").fingerprint != first


def test_a_second_look_decodes_only_what_is_new(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(own_images, "inspect_all", lambda refs: seen.append(len(refs)) or decoding.inspect_all(refs))
    first = index(here, folder=tmp_path / "out")
    assert index(here, folder=tmp_path / "out").fingerprint == first.fingerprint
    assert seen == [50]
    (here / "dog" / "9999.png").write_bytes(encoded(picture(5000)))
    (here / "dog" / "0040.png").write_bytes(encoded(picture(5001)))
    index(here, folder=tmp_path / "out")
    assert seen == [50, 2]
    kept = tmp_path / "out" / "data" / "seen.parquet"
    pd.read_parquet(kept).drop(columns="file").to_parquet(kept)  # an earlier version wrote it so
    index(here, folder=tmp_path / "out")
    assert seen == [50, 2, 51]


def test_a_readonly_folder_is_left_as_it_is(here: Path, tmp_path: Path) -> None:
    before = sorted(here.rglob("*"))
    for path in [*before, here]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    index(here, folder=tmp_path / "out")
    assert sorted(here.rglob("*")) == before


# --- splits ----------------------------------------------------------------------------------------------------------


def split_of(folder: Path) -> dict[str, str]:
    """Return name → split from the newest index in a sweep's folder."""
    newest = max(
        (p for p in (folder / "data").glob("*.parquet") if p.stem != "seen"), key=lambda p: p.stat().st_mtime_ns
    )
    table = pd.read_parquet(newest)
    return dict(zip(table.name, table.split, strict=True))


def test_a_drawn_split_is_never_redrawn_and_images_added_later_are_for_training(here: Path, tmp_path: Path) -> None:
    index(here, folder=tmp_path / "out")
    before = split_of(tmp_path / "out")
    class_folders(here, {"cat": 30, "dog": 10}, start=2000)
    indexed = index(here, folder=tmp_path / "out")
    after = split_of(tmp_path / "out")
    assert indexed.test_images == 11
    assert all(after[name] == split for name, split in before.items())
    assert all(after[name] == "train" for name in after.keys() - before.keys())


def test_the_same_images_are_split_alike_in_every_folder(here: Path, tmp_path: Path) -> None:
    index(here, folder=tmp_path / "a")
    index(here, folder=tmp_path / "b")
    assert split_of(tmp_path / "a") == split_of(tmp_path / "b")


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (("train", "test"), {"train": "train", "test": "test"}),
        (("train", "val"), {"train": "train", "val": "test"}),
        (("train", "validation", "test"), {"train": "train", "validation": "holdout", "test": "test"}),
    ],
)
def test_given_splits_are_kept(tmp_path: Path, folders: tuple[str, ...], expected: dict[str, str]) -> None:
    for number, name in enumerate(folders):
        class_folders(tmp_path / "mine" / name, {"a": 4, "b": 6}, start=100 * number)
    index(tmp_path / "mine", folder=tmp_path / "out")
    for name, split in split_of(tmp_path / "out").items():
        assert split == expected[name.split("/")[0]]


def test_train_alone_is_split(tmp_path: Path) -> None:
    class_folders(tmp_path / "mine" / "train", {"a": 20, "b": 20})
    assert index(tmp_path / "mine", folder=tmp_path / "out").test_images == 10


def test_images_in_two_splits_leave_the_pool_and_are_counted(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "mine" / "train", {"a": 8, "b": 8}).parent
    class_folders(root / "test", {"a": 3, "b": 3}, start=100)
    shutil.copy(root / "test" / "a" / "0100.png", root / "train" / "b" / "same_as_a_test_image.png")
    shutil.copy(root / "train" / "a" / "0001.png", root / "test" / "a" / "same_as_a_training_image.png")
    indexed = index(root, folder=tmp_path / "out")
    assert indexed.class_counts == (7, 8)
    assert any("left out as duplicates of test or validation images: 2 images" in line for line in indexed.warnings)
    assert any("more than one class" in line for line in indexed.warnings)


def test_copies_within_a_class_stay_on_one_side_of_a_drawn_split(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "mine", {"a": 12, "b": 12})
    for file in sorted(root.rglob("*.png")):
        shutil.copy(file, file.with_name(f"copy_{file.name}"))
    index(root, folder=tmp_path / "out")
    split = split_of(tmp_path / "out")
    for name in split:
        folder, file = name.split("/")
        if not file.startswith("copy_"):
            assert split[name] == split[f"{folder}/copy_{file}"]


# --- bad input -------------------------------------------------------------------------------------------------------


def test_ten_kinds_of_bad_file_are_named_with_their_reasons(here: Path, tmp_path: Path) -> None:
    reasons = break_ten(here / "cat", tmp_path / "outside.jpg")
    with pytest.raises(UserError) as error:
        index(here, folder=tmp_path / "out")
    message = str(error.value)
    assert "10 of 60 images" in message
    assert "and 2 more, listed in" in message
    assert "--skip-bad-images" in message
    listed = (tmp_path / "out" / "data" / "bad_images.txt").read_text()
    for name, reason in reasons.items():
        assert f"cat/{name} (" in listed
        assert reason in listed


def test_bad_files_can_be_left_out_and_are_named_all_the_same(here: Path, tmp_path: Path) -> None:
    clean = index(here, folder=tmp_path / "clean")
    break_ten(here / "cat", tmp_path / "outside.jpg")
    indexed = index(here, folder=tmp_path / "out", skip_bad=True)
    assert indexed.fingerprint == clean.fingerprint
    assert any(
        "10 of 60 images can't be read and are left out" in line and "cat/empty.png (empty file)" in line
        for line in indexed.warnings
    )


def test_more_bad_files_than_a_line_holds_are_listed_in_a_file(here: Path, tmp_path: Path) -> None:
    for k in range(30):
        (here / "cat" / f"bad{k}.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"30 of 80 images.*and 22 more, listed in .*bad_images.txt"):
        index(here, folder=tmp_path / "out")
    assert len((tmp_path / "out" / "data" / "bad_images.txt").read_text().splitlines()) == 30


def test_a_check_names_the_first_few_and_keeps_no_list(here: Path) -> None:
    for k in range(120):
        (here / "cat" / f"bad{k}.png").write_bytes(b"")
    with pytest.raises(UserError) as error:
        own_images.check(str(here))
    assert str(error.value).count("(empty file)") == 8
    assert ", and 112 more; repair or remove them" in str(error.value)
    assert "bad_images.txt" not in str(error.value)


def test_a_mended_file_is_read_again(here: Path, tmp_path: Path) -> None:
    (here / "cat" / "x.png").write_bytes(b"")
    with pytest.raises(UserError):
        index(here, folder=tmp_path / "out")
    (here / "cat" / "x.png").write_bytes(encoded(picture(4000)))
    assert index(here, folder=tmp_path / "out").pool == 40


def test_an_unreadable_file_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests may run as root, who may read everything. Therefore the error is planted."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(decoding.os, "open", refuse)
    assert decoding.inspect(decoding.Reference("x.png")).problem == "no permission to read it"


def test_hidden_folders_and_files_are_ignored(here: Path, tmp_path: Path) -> None:
    clean = index(here, folder=tmp_path / "a").fingerprint
    (here / ".git").mkdir()
    (here / "cat" / ".DS_Store.png").write_bytes(b"")
    (here / "cat" / ".ipynb_checkpoints").mkdir()
    (here / "cat" / ".ipynb_checkpoints" / "a.png").write_bytes(b"")
    assert index(here, folder=tmp_path / "b").fingerprint == clean


def test_links_that_stay_inside_are_followed_and_circles_end(here: Path, tmp_path: Path) -> None:
    (here / "cat" / "linked.png").symlink_to(here / "dog" / "0020.png")
    (here / "cat" / "round").symlink_to(here / "cat")
    indexed = index(here, folder=tmp_path / "out")
    assert any("more than one class" in line for line in indexed.warnings)


def test_files_that_are_no_images_by_name_are_left_out_and_counted(here: Path, tmp_path: Path) -> None:
    (here / "cat" / "notes.txt").write_text("hello", encoding="utf-8")
    (here / "loose.png").write_bytes(encoded(picture(1)))
    warnings = index(here, folder=tmp_path / "out").warnings
    assert any("cat: left out: 1 file without the ending of an image" in line for line in warnings)
    assert any("left out next to the class folders: 1 image" in line for line in warnings)


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"cat": 9}, "holds one class, 'cat'; two or more are needed"),
        ({"cat": 9, "dog": 0}, "class folder dog holds no images"),
        ({"cat": 9, "dog": 5}, "class 'dog' has 5 different images, too few to be split; at least 6 are needed"),
    ],
)
def test_too_few_of_something(tmp_path: Path, counts: dict[str, int], words: str) -> None:
    root = class_folders(tmp_path / "mine", counts)
    with pytest.raises(UserError) as error:
        index(root, folder=tmp_path / "out")
    assert words in str(error.value)


def test_no_folder_no_class_folders_no_training_class(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no .*missing"):
        index(tmp_path / "missing", folder=tmp_path / "out")
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "a.png").write_bytes(encoded(picture(0)))
    with pytest.raises(UserError, match="no class folders.*1 loose image$"):
        index(tmp_path / "flat", folder=tmp_path / "out")
    class_folders(tmp_path / "odd" / "train", {"a": 3, "b": 3})
    class_folders(tmp_path / "odd" / "test", {"c": 3}, start=50)
    with pytest.raises(UserError, match="class 'c' is in test but not in train"):
        index(tmp_path / "odd", folder=tmp_path / "out")
    class_folders(tmp_path / "no_train" / "test", {"a": 3, "b": 3})
    with pytest.raises(UserError, match="no train/; put the images to train on into train/"):
        index(tmp_path / "no_train", folder=tmp_path / "out")


def finish_a_run(folder: Path, dataset: str) -> None:
    run = Run(dataset=dataset, backbone="vit_micro", size=10)
    here = ledger.run_folder(folder, run_id(run))
    ledger.write_json(here / ledger.RUN, to_json(run))
    ledger.write_json(here / ledger.RESULT, {})


def test_images_changed_under_a_finished_sweep_are_refused_with_what_changed(here: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    finish_a_run(out, index(here, folder=out).identity)
    index(here, folder=out)  # nothing changed
    (here / "cat" / "0003.png").write_bytes(encoded(picture(777)))
    (here / "dog" / "new.png").write_bytes(encoded(picture(778)))
    with pytest.raises(UserError) as error:
        index(here, folder=out)
    assert "1 added (dog/new.png), 1 changed (cat/0003.png)" in str(error.value)
    assert "--out" in str(error.value)


def test_other_images_by_mistake_leave_the_drawn_split_as_it_was(here: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    finish_a_run(out, index(here, folder=out).identity)
    kept = out / "data" / "split.json"
    before = kept.read_bytes()
    other = class_folders(tmp_path / "other", {"cat": 20, "dog": 20}, start=5000)
    with pytest.raises(UserError, match="none of the images in .*other is in the split of .*a new --out"):
        index(other, folder=out)
    assert kept.read_bytes() == before
    kept.unlink()
    with pytest.raises(UserError, match="are not those of the finished runs"):
        index(other, folder=out)
    assert not kept.exists()


def test_images_may_change_while_nothing_is_finished(here: Path, tmp_path: Path) -> None:
    index(here, folder=tmp_path / "out")
    (here / "dog" / "new.png").write_bytes(encoded(picture(778)))
    index(here, folder=tmp_path / "out")


def test_the_lab_s_own_results_inside_the_folder_are_no_class(here: Path) -> None:
    out = here / "results" / "train"
    first = index(here, folder=out)
    (out / "figures").mkdir()
    (out / "figures" / "1.png").write_bytes(encoded(picture(1)))
    again = index(here, folder=out)
    assert (again.fingerprint, again.classes) == (first.fingerprint, ("cat", "dog"))
    assert "left out: results/, which holds results of bias-lab" in again.warnings
    assert again.place["notes"] == again.warnings


def test_copies_within_a_split_and_classes_without_a_test_image_are_said(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "mine" / "train", {"a": 8, "b": 8}).parent
    class_folders(root / "test", {"a": 3}, start=100)
    shutil.copy(root / "train" / "a" / "0001.png", root / "train" / "a" / "again.png")
    warnings = index(root, folder=tmp_path / "out").warnings
    assert "no test image shows the class 'b'" in warnings
    assert "kept, though duplicates of images of their split and class: 1 image (train/a/again.png)" in warnings


def test_a_class_of_links_alone_is_refused_even_if_bad_files_are_left_out(here: Path, tmp_path: Path) -> None:
    (here / "eel").mkdir()
    (tmp_path / "outside.png").write_bytes(encoded(picture(1)))
    (here / "eel" / "1.png").symlink_to(tmp_path / "outside.png")
    with pytest.raises(UserError, match="class 'eel' has no image that can be read"):
        index(here, folder=tmp_path / "out", skip_bad=True)


def test_a_class_in_test_that_is_nearly_one_of_train_gets_a_hint(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "mine" / "train", {"Cat": 3, "Dog": 3}).parent
    class_folders(root / "test", {"cat": 3}, start=50)
    with pytest.raises(UserError, match="class 'cat' is in test but not in train; train has 'Cat', which is nearly"):
        index(root, folder=tmp_path / "out")


# --- tables ----------------------------------------------------------------------------------------------------------


def table_rows(here: Path) -> pd.DataFrame:
    files = sorted(here.rglob("*.png"))
    return pd.DataFrame(
        {"path": [str(f.relative_to(here.parent)) for f in files], "label": [f.parent.name for f in files]}
    )


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
def test_a_table_of_paths_is_the_same_as_its_folder(here: Path, tmp_path: Path, kind: str) -> None:
    rows, file = table_rows(here), tmp_path / f"mine.{kind}"
    if kind == "parquet":
        rows.to_parquet(file)
    else:
        rows.to_csv(file, index=False, sep="\t" if kind == "tsv" else ",")
    by_table, by_folder = index(file, folder=tmp_path / "a"), index(here, folder=tmp_path / "b")
    assert by_table.identity == f"table:{by_folder.fingerprint}"
    assert by_table.class_counts == by_folder.class_counts


def test_a_tables_own_split_is_kept_and_numbers_are_in_order(here: Path, tmp_path: Path) -> None:
    rows = table_rows(here)
    rows["label"] = np.where(rows.label == "cat", 10, 9)
    rows["split"] = np.where(np.arange(len(rows)) % 3 == 0, "test", "train")
    rows.to_csv(tmp_path / "mine.csv", index=False)
    indexed = index(tmp_path / "mine.csv", folder=tmp_path / "out")
    assert indexed.classes == ("9", "10")
    assert indexed.test_images == 17


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,label\na,b\n", "columns file, label; path and label are needed"),
        ("path,label,split\na.png,x,later\n", "mine.csv row 1: unknown split 'later'"),
        ("path,label\na.png,\n", "the row has no label"),
        ("path,label\nnowhere.png,x\nnothere.png,y\n", "nowhere.png (not there)"),
        ("path,label,split\na.png,x,test\n", "no 'train'"),
    ],
)
def test_a_table_that_cannot_be_read_says_why(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "mine.csv").write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as error:
        index(tmp_path / "mine.csv", folder=tmp_path / "out")
    assert words in str(error.value)


def test_hugging_faces_layout_with_class_names_in_the_metadata(here: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = sorted(here.rglob("*.png"))
    images = [{"bytes": f.read_bytes(), "path": f.name} for f in files]
    labels = [int(f.parent.name == "cat") for f in files]
    about = {"info": {"features": {"label": {"names": ["dog", "cat"], "_type": "ClassLabel"}}}}
    table = pa.table({"image": images, "label": labels}).replace_schema_metadata({"huggingface": json.dumps(about)})
    data = tmp_path / "hf"
    data.mkdir()
    pq.write_table(table, data / "train-00000-of-00001.parquet", row_group_size=7)
    pq.write_table(table.slice(0, 5).append_column("x", pa.array(range(5))).select([0, 1]), data / "test.parquet")
    indexed = index(data, folder=tmp_path / "out")
    assert indexed.classes == ("dog", "cat")
    assert indexed.class_counts == (30, 15)  # the five test images are copies of training images, which leave the pool
    assert indexed.test_images == 5


class OnTheHub:
    """Stand in for one split of a hub dataset, of which only `to_parquet` is used."""

    def __init__(self, numbers: range) -> None:
        self.rows = [{"image": {"bytes": encoded(picture(k)), "path": None}, "label": k % 2} for k in numbers]

    def to_parquet(self, path: str) -> None:
        pd.DataFrame(self.rows).to_parquet(path)


def test_a_dataset_of_the_hub_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def load_dataset(name: str) -> dict[str, OnTheHub]:
        asked.append(name)
        return {"train": OnTheHub(range(10)), "test": OnTheHub(range(10, 14))}

    monkeypatch.setenv("BIAS_LAB_DATA", str(tmp_path / "root"))
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    for folder in ("a", "b"):
        indexed = index(Path("hf:someone/toys"), folder=tmp_path / folder)
        assert (indexed.class_counts, indexed.test_images) == ((5, 5), 4)
    assert asked == ["someone/toys"]


def test_a_hub_out_of_reach_says_where_the_files_may_be_put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class GenerationError(Exception):
        """Some errors of the package datasets derive from Exception alone."""

    class Lost(OnTheHub):
        def to_parquet(self, path: str) -> None:
            raise GenerationError("the second\nsplit is lost")

    def load_dataset(name: str) -> None:
        raise ConnectionError("no network")

    def half(name: str) -> dict[str, OnTheHub]:
        return {"train": OnTheHub(range(4)), "test": Lost(range(4))}

    monkeypatch.setenv("BIAS_LAB_DATA", str(tmp_path / "root"))
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(UserError, match=r"hf:someone/toys can't be fetched \(no network\); put its parquet files into"):
        index(Path("hf:someone/toys"), folder=tmp_path / "out")
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=half))
    with pytest.raises(UserError, match=r"hf:someone/toys can't be fetched \(the second split is lost\)"):
        index(Path("hf:someone/toys"), folder=tmp_path / "out")
    assert list((tmp_path / "root" / "hf").iterdir()) == []  # half a dataset would be taken for the whole one next time
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"pip install 'bias_lab\[hf\]'"):
        index(Path("hf:someone/toys"), folder=tmp_path / "out")


# --- real pictures ---------------------------------------------------------------------------------------------------


def test_importing_the_index_imports_no_torch() -> None:
    code = "import sys, bias_lab.data.own_images; sys.exit('torch' in sys.modules or 'torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_file_that_uses_a_part_of_its_depth_is_said_and_recorded(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "mine", {"a": 9, "b": 9})
    Image.fromarray(np.full((12, 12), 159, np.uint16)).save(root / "a" / "dark.png")
    found = index(root, folder=tmp_path / "out")
    (line,) = [line for line in found.warnings if "dark.png uses 8 of 16 bits" in line]
    assert line in found.place["notes"]
    assert "1 of 19 images stays dark" in line

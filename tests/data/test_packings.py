"""Test that the same images and labels are the same dataset, however they are packed (no torch but in the slow test).

Packed as class folders, CSV and TSV files, parquet of paths, of plain bytes, and in Hugging Face's layout (with the
bytes in the table or beside it, in one folder or as a clone of a repository).
"""

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bias_lab.cli import main
from bias_lab.data import subsets
from bias_lab.data.own_images import Index, index
from tests.data.pictures_on_disk import encoded, picture

SPLITS = {"none": ("",), "train and test": ("train", "test"), "all": ("train", "val", "test")}
NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\\\0.\r\n", exclude_categories=("Cs", "Cc", "Cf")), min_size=1
)


@dataclass(frozen=True)
class One:
    """One image of a dataset: its split, class and number."""

    split: str
    label: str
    number: int
    side: int = 12

    @property
    def content(self) -> bytes:
        return encoded(picture(self.number, side=self.side))


Packer = Callable[[list[One], Path], Path]  # images, an empty folder → what --data gets


def as_folders(images: list[One], root: Path) -> Path:
    for one in images:
        folder = root / one.split / one.label
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{one.number}.png").write_bytes(one.content)
    return root


def files(images: list[One], root: Path) -> pd.DataFrame:
    (root / "files").mkdir(parents=True)
    for one in images:
        (root / "files" / f"{one.number}.png").write_bytes(one.content)
    table = pd.DataFrame(
        {"path": [f"files/{one.number}.png" for one in images], "label": [one.label for one in images]}
    )
    return table.assign(split=[one.split for one in images]) if images[0].split else table


def as_csv(images: list[One], root: Path) -> Path:
    files(images, root).sample(frac=1, random_state=0).to_csv(root / "mine.csv", index=False)
    return root / "mine.csv"


def as_tsv(images: list[One], root: Path) -> Path:
    files(images, root).to_csv(root / "mine.tsv", index=False, sep="\t")
    return root / "mine.tsv"


def as_paths(images: list[One], root: Path) -> Path:
    files(images, root).to_parquet(root / "mine.parquet", row_group_size=3)
    return root / "mine.parquet"


def as_bytes(images: list[One], root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame({"label": [one.label for one in images], "image": [one.content for one in images]})
    if images[0].split:
        table["split"] = [one.split.upper() for one in images]
    table.to_parquet(root / "mine.parquet")
    return root / "mine.parquet"


def hugging_face(images: list[One], folder: Path, *, inside: bool) -> None:
    """Write a file a split, with class numbers and a list of the sorted names. inside: the bytes are in the table."""
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted({one.label for one in images})
    about = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
    for split in dict.fromkeys(one.split for one in images):
        part = [one for one in images if one.split == split]
        packed = [{"bytes": one.content if inside else None, "path": f"{one.number}.png"} for one in part]
        kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        table = pa.table({"image": pa.array(packed, kind), "label": [names.index(one.label) for one in part]})
        name = {"": "all", "val": "validation"}.get(split, split)
        table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
        pq.write_table(table, folder / f"{name}-00000-of-00001.parquet", row_group_size=4)
        if not inside:
            for one in part:
                (folder / f"{one.number}.png").write_bytes(one.content)


def as_hugging_face(images: list[One], root: Path) -> Path:
    hugging_face(images, root / "hf", inside=True)
    return root / "hf"


def as_hugging_face_files(images: list[One], root: Path) -> Path:
    hugging_face(images, root / "hf", inside=False)
    return root / "hf"


def as_clone(images: list[One], root: Path) -> Path:
    hugging_face(images, root / "clone" / "data", inside=True)
    (root / "clone" / "README.md").write_text("# Animals\n")
    return root / "clone"


PACKERS: tuple[Packer, ...] = (
    as_folders,
    as_csv,
    as_tsv,
    as_paths,
    as_bytes,
    as_hugging_face,
    as_hugging_face_files,
    as_clone,
)


def described(indexed: Index) -> dict[str, object]:
    """Return everything that must not depend on the packing."""
    table = pd.read_parquet(indexed.place["index"])
    labels = table.label[table.split == "train"].to_numpy(np.int64)
    return {
        "fingerprint": indexed.fingerprint,
        "classes": indexed.classes,
        "counts": (indexed.class_counts, indexed.test_images, indexed.own_holdout, indexed.channels),
        "images": table[["split", "label", "hash"]].to_numpy().tolist(),
        "orders": [subsets.order(indexed.fingerprint, labels, draw).tolist() for draw in (0, 1)],
    }


def pack(images: list[One], root: Path, packer: Packer) -> Index:
    return index(packer(images, root / packer.__name__), folder=root / f"{packer.__name__} results")


@pytest.mark.slow
@given(
    names=st.lists(NAMES, min_size=2, max_size=3, unique_by=str.casefold),
    counts=st.lists(st.integers(6, 8), min_size=3, max_size=3),
    splits=st.sampled_from(sorted(SPLITS)),
)
@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_the_packing_does_not_matter(names: list[str], counts: list[int], splits: str) -> None:
    """Names of any letters. Those that are numbers or start with a dot are left to the tests of labels and folders."""
    names = [f"a{name}b" for name in names]
    images = []
    for split in SPLITS[splits]:
        for name, count in zip(names, counts, strict=False):
            images += [One(split, name, len(images) + k) for k in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        first, *others = [described(pack(images, Path(folder), packer)) for packer in PACKERS]
        for packer, other in zip(PACKERS[1:], others, strict=True):
            assert other == first, packer.__name__


@pytest.mark.parametrize(("splits", "names"), [("none", ("0", "9")), ("all", ("Dog", "caf\u00e9 au lait"))])
def test_class_names_of_one_digit_and_others(splits: str, names: tuple[str, ...], tmp_path: Path) -> None:
    of_each = [(split, name) for split in SPLITS[splits] for name in names]
    images = [One(split, name, 10 * at + k) for at, (split, name) in enumerate(of_each) for k in range(6)]
    first, *others = [described(pack(images, tmp_path, packer)) for packer in PACKERS]
    assert others == [first] * len(others)


def test_names_of_two_digits_are_the_same_dataset_in_another_order(tmp_path: Path) -> None:
    """A folder and a text column order them as texts, and a CSV as numbers: the documented exception."""
    images = [One("", name, 10 * c + k) for c, name in enumerate(("2", "10")) for k in range(7)]
    folders, table = (pack(images, tmp_path, packer) for packer in (as_folders, as_csv))
    assert folders.fingerprint == table.fingerprint
    assert (folders.classes, table.classes) == (("10", "2"), ("2", "10"))


GOLDEN = {  # packing → fingerprint, classes and first images of draw 0, as version 0.2 gave them
    "folders": ("c672389b8db9d18f", ("cat", "dog"), [18, 10, 19, 24, 6, 27, 3, 31]),
    "deep": ("530bdf20894d0b1b", ("cat", "dog"), [10, 16, 7, 1, 14, 5, 8, 17]),
    "split": ("8c667c57dbc6a511", ("Dog", "cat", "eel"), [3, 16, 20, 6, 10, 18, 0, 14]),
    "alone": ("b83fe66a80a56add", ("a", "b"), [5, 18, 0, 24, 11, 28, 7, 25]),
    "padded": ("9abb061b3ee7b21b", ("000", "001", "002"), [2, 4, 8, 0, 3, 7, 1, 5]),
    "padded.csv": ("b181620c8a9532f1", ("0", "1", "2"), [2, 3, 7, 0, 5, 6, 1, 4]),
    "bool.csv": ("12a6fb0409a96604", ("False", "True"), [3, 34, 20, 22, 26, 16, 24, 10]),
}


def clean(root: Path) -> dict[str, Path]:
    """Write clean data of several layouts."""
    from tests.data.pictures_on_disk import class_folders

    made = {
        "folders": class_folders(root / "folders", {"cat": 20, "dog": 30}),
        "deep": class_folders(root / "deep" / "cat", {"front": 9, "side": 9}, start=100).parent,
        "split": class_folders(root / "split" / "train", {"cat": 8, "Dog": 9, "eel": 7}, start=300).parent,
        "alone": class_folders(root / "alone" / "Train", {"a": 20, "b": 20}, start=600, mode="L").parent,
        "padded": class_folders(root / "padded", {f"{k:03}": 8 for k in range(3)}, start=900),
    }
    class_folders(root / "deep" / "dog", {"x": 12}, start=200)
    class_folders(root / "split" / "test", {"cat": 4, "Dog": 3}, start=400)
    class_folders(root / "split" / "validation", {"cat": 4, "eel": 3}, start=500)
    for name, of, change in (("padded.csv", "padded", str), ("bool.csv", "folders", lambda text: str(text == "cat"))):
        there = sorted((root / of).rglob("*.png"))
        rows = {"path": [str(f.relative_to(root)) for f in there], "label": [change(f.parent.name) for f in there]}
        pd.DataFrame(rows).to_csv(root / name, index=False)
        made[name] = root / name
    return made


def test_clean_data_keep_their_fingerprints_classes_and_orders(tmp_path: Path) -> None:
    for name, path in clean(tmp_path / "data").items():
        indexed = index(path, folder=tmp_path / name)
        table = pd.read_parquet(indexed.place["index"])
        labels = table.label[table.split == "train"].to_numpy(np.int64)
        order = subsets.order(indexed.fingerprint, labels, 0)[:8].tolist()
        assert (indexed.fingerprint, indexed.classes, order) == GOLDEN[name], name


@pytest.mark.slow
def test_the_packing_does_not_change_the_metrics(tmp_path: Path) -> None:
    images = [
        One(split, name, 100 * c + k, 32)
        for c, name in enumerate(("ant", "bee"))
        for split, numbers in (("train", range(8)), ("test", range(50, 54)))
        for k in numbers
    ]
    found = []
    for packer in (as_folders, as_csv, as_bytes, as_hugging_face, as_hugging_face_files):
        out = tmp_path / f"{packer.__name__} results"
        words = "--backbone resnet_micro --size 6 --image-size 32 --set samples_seen=32 --set batch_size=8 --no-wandb"
        data = packer(images, tmp_path / packer.__name__)
        typed = ["train", "--data", str(data), "--out", str(out), "--set", "learning_rate=1e-3", *words.split()]
        assert main.main(typed) == 0
        (result,) = out.glob("runs/*/result.json")
        found.append(json.loads(result.read_text())["metrics"])
        shutil.rmtree(tmp_path / packer.__name__)
    assert found == [found[0]] * len(found)

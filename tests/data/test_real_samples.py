"""Test real samples next to the checkout, if there are any: tables, loose files and odd files."""

import json
import shutil
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from bias_lab.data.own_images import Index, index
from bias_lab.data.store import Images, open_images
from bias_lab.errors import UserError
from tests.data.pictures_on_disk import break_ten

REAL = Path(__file__).resolve().parents[3] / "shared" / "data"
CIFAR, TINY, PETS = REAL / "cifar10", REAL / "tiny_imagenet20", REAL / "pets3"


def images_of(indexed: Index, tmp_path: Path) -> Images:
    return open_images(indexed.identity, data_root=str(tmp_path / "root"), place=indexed.place)


@pytest.mark.skipif(not CIFAR.is_dir(), reason="no sample of CIFAR-10 beside the checkout")
def test_a_table_and_loose_files_of_cifar10_hold_the_same_pictures(tmp_path: Path) -> None:
    """The images of a table in Hugging Face's layout have the pixels of the PNGs, class by class."""
    for split, rows in (("train", 1000), ("test", 200)):  # the first row group holds the first images of each class
        table = pq.ParquetFile(CIFAR / f"{split}.parquet").read_row_group(0).slice(0, rows)
        (tmp_path / "table").mkdir(exist_ok=True)
        pq.write_table(table, tmp_path / "table" / f"{split}.parquet")
    packed = index(tmp_path / "table", folder=tmp_path / "a", image_size=32)
    loose = index(CIFAR / "sample200", folder=tmp_path / "b", image_size=32)
    assert (packed.identity.split(":")[0], loose.identity.split(":")[0]) == ("table", "folder")
    assert (loose.pool, loose.test_images) == (150, 50)
    assert (packed.pool, packed.test_images) == (1000, 200)
    assert loose.classes == tuple(
        "airplane automobile bird cat deer dog frog horse ship truck".split()
    )  # in the order of the original labels
    one, many = images_of(loose, tmp_path), images_of(packed, tmp_path)
    there = {(int(label), image.tobytes()) for label, image in zip(many.train_labels, many.train, strict=True)}
    assert all((int(label), image.tobytes()) in there for label, image in zip(one.train_labels, one.train, strict=True))


@pytest.mark.skipif(not TINY.is_dir(), reason="no sample of Tiny-ImageNet beside the checkout")
def test_tiny_imagenet_as_a_folder_has_its_grey_files_in_colour(tmp_path: Path) -> None:
    root = tmp_path / "tiny"
    grey = {line.strip() for line in (TINY / "greyscale_files.txt").read_text().splitlines() if line.strip()}
    kept = Counter[str]()
    for split in ("train", "val"):
        with zipfile.ZipFile(TINY / f"{split}.zip") as packed:
            for name in packed.namelist():
                kind = str(Path(name).parent)
                if name in grey or kept[kind] < 8:  # all grey images, and a few of each class
                    kept[kind] += 1
                    packed.extract(name, root)
    indexed = index(root, folder=tmp_path / "out", image_size=64)
    assert len(indexed.classes) == 20
    assert indexed.pool + indexed.test_images == sum(kept.values())
    assert "val is used as the test split" in " ".join(indexed.warnings)
    table = pd.read_parquet(indexed.place["index"])
    assert set(table.name[table.grey]) == grey
    assert len(grey) == 65
    images = images_of(indexed, tmp_path)
    assert images.train.shape[1:] == (64, 64, 3)
    rows = np.flatnonzero(table[table.split == "train"].grey)
    assert (images.train[rows].min(-1) == images.train[rows].max(-1)).all()


@pytest.mark.skipif(not PETS.is_dir(), reason="no sample of Oxford-IIIT Pet beside the checkout")
def test_pets_of_mixed_sizes_with_a_gif_and_a_png_named_jpg(tmp_path: Path) -> None:
    root = tmp_path / "pets"
    for ours, theirs in (("train", "trainval"), ("test", "test")):
        shutil.copytree(PETS / theirs / "images", root / ours)
    for odd in (PETS / "quirks").iterdir():
        shutil.copy(odd, root / "train" / "Abyssinian" / f"odd_{odd.name}")
    indexed = index(root, folder=tmp_path / "out", image_size=48)
    assert indexed.classes == ("Abyssinian", "Bengal", "american_bulldog")
    assert indexed.class_counts == (62, 60, 60)
    assert indexed.test_images == 60
    assert images_of(indexed, tmp_path).train.shape == (182, 48, 48, 3)


@pytest.mark.skipif(not CIFAR.is_dir(), reason="no sample of CIFAR-10 beside the checkout")
def test_ten_broken_files_among_real_ones_stand_in_one_message(tmp_path: Path) -> None:
    root = tmp_path / "copy"
    shutil.copytree(CIFAR / "sample200", root)
    reasons = break_ten(root / "train" / "cat", tmp_path / "outside.png")
    with pytest.raises(UserError) as caught:
        index(root, folder=tmp_path / "out")
    message = str(caught.value)
    assert message.startswith("10 of 210 images")
    named = [name for name, reason in reasons.items() if f"train/cat/{name} (" in message and reason in message]
    assert (len(named), "and 2 more" in message) == (8, True)
    left = index(root, folder=tmp_path / "out", skip_bad=True)
    assert left.pool == 150
    assert json.dumps(left.place)  # plain values, for places.json

"""Test the readers of datasets with masks: on files made here, and on the real ones where they are at hand."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bias_lab import catalogue
from bias_lab.data import store
from bias_lab.data.masks import presence, published
from bias_lab.data.readers import named
from bias_lab.errors import UserError

ROOT = Path(__file__).resolve().parents[4] / "shared" / "data"
CAMVID = pytest.mark.skipif(not (ROOT / "camvid").is_dir(), reason="CamVid is not there")
PETS = pytest.mark.skipif(not (ROOT / "pets3").is_dir(), reason="the sample of Oxford-IIIT Pet is not there")


def make_camvid(folder: Path) -> Path:
    """Write 3 training and 24 test frames of two sequences, 15x20 pixels."""
    rng = np.random.default_rng(0)
    names = {"train": ["A_000", "A_030", "A_060"], "test": [f"A_{k:03}" for k in range(90, 102)]}
    names["test"] += [f"B_f{k:03}" for k in range(12)]
    for split, stems in names.items():
        for kind in (split, f"{split}annot"):
            (folder / kind).mkdir(parents=True)
        for stem in stems:
            Image.fromarray(rng.integers(0, 256, (15, 20, 3)).astype(np.uint8)).save(folder / split / f"{stem}.jpg")
            mask = rng.integers(0, 12, (15, 20)).astype(np.uint8)
            Image.fromarray(mask).save(folder / f"{split}annot" / f"{stem}.png")
    return folder


def test_camvid_has_groups_and_the_sequence_that_no_training_image_comes_from(tmp_path: Path) -> None:
    raw = published.read_camvid(catalogue.DATASETS["camvid"], make_camvid(tmp_path), (96, 128))
    assert (len(raw.splits["train"]), len(raw.splits["test"])) == (3, 24)
    assert list(raw.test_parts) == ["B"]
    assert list(raw.test_parts["B"]) == [False] * 12 + [True] * 12
    assert list(raw.test_groups or ()) == [0] * 10 + [1] * 2 + [2] * 10 + [3] * 2
    mask = raw.splits["train"][0].mask
    with Image.open(tmp_path / "trainannot" / "A_000.png") as image:
        values = np.asarray(image)
    assert ((mask == 255) == (values == 11)).all()
    assert (mask[values < 11] == values[values < 11]).all()


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    make_camvid(tmp_path / "camvid")
    (tmp_path / "camvid" / "testannot" / "B_f003.png").unlink()
    with pytest.raises(UserError, match=r"B_f003\.png is not there.*fetch"):
        store.open_images("camvid", data_root=str(tmp_path))
    for file in (tmp_path / "camvid" / "train").iterdir():
        file.unlink()
    with pytest.raises(UserError, match="train holds no images"):
        store.open_images("camvid", data_root=str(tmp_path))


def test_trimaps_have_a_void_border(tmp_path: Path) -> None:
    for split in ("trainval", "test"):
        for kind in ("images", "trimaps"):
            (tmp_path / split / kind / "cat").mkdir(parents=True)
        Image.new("RGB", (3, 1)).save(tmp_path / split / "images" / "cat" / "c_1.jpg")
        Image.fromarray(np.array([[1, 2, 3]], np.uint8)).save(tmp_path / split / "trimaps" / "cat" / "c_1.png")
    row = catalogue.DATASETS["pet_trimaps"]
    raw = published.read_pet_trimaps(row, tmp_path, (1, 3))
    assert raw.splits["test"][0].mask.tolist() == [[1, 0, 255]]
    (tmp_path / "test" / "trimaps" / "cat" / "c_1.png").unlink()
    with pytest.raises(UserError, match=r"c_1\.png is not there"):
        published.read_pet_trimaps(row, tmp_path, (1, 3))


def test_the_drawn_dataset_is_as_the_catalogue_says() -> None:
    row = catalogue.DATASETS["shape_masks"]
    raw = published.read_drawn(row, Path(), (48, 48))
    found = {split: presence.presence_of(pairs.masks, 5).sum(0).tolist() for split, pairs in raw.splits.items()}  # type: ignore[attr-defined]
    assert row.masks is not None
    assert tuple(found["train"]) == row.masks.presence
    assert len(raw.splits["train"]) == row.pool
    assert len(raw.splits["test"]) == row.test_images


@pytest.mark.slow
@CAMVID
def test_the_real_camvid_is_as_the_catalogue_says(tmp_path: Path) -> None:
    (tmp_path / "camvid").symlink_to(ROOT / "camvid")  # so that the store does not lie beside the shared files
    assert "as in the catalogue" in named.check("camvid", data_root=str(tmp_path))[0]
    images = store.open_images("camvid", data_root=str(tmp_path))
    assert images.train.shape == (367, 96, 128, 3)
    assert images.fingerprint == "683c4bee79421d35"
    assert images.test_parts["Seq05VD"].sum() == 171
    assert images.test_groups is not None
    assert len(set(images.test_groups.tolist())) == 25
    assert not set(images.test_groups[images.test_parts["Seq05VD"]]) & set(
        images.test_groups[~images.test_parts["Seq05VD"]]
    )


@pytest.mark.slow
@PETS
def test_the_real_trimaps_are_as_the_catalogue_says(tmp_path: Path) -> None:
    (tmp_path / "pets3").symlink_to(ROOT / "pets3")
    assert "as in the catalogue" in named.check("pet_trimaps", data_root=str(tmp_path))[0]

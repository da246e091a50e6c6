"""Make fixtures: a small dataset of the user, its index and its stores."""

from pathlib import Path

import pytest

from bias_lab.data.own_images import Index, index
from bias_lab.data.store import Images, open_images
from tests.data.pictures_on_disk import class_folders


@pytest.fixture
def indexed(tmp_path: Path) -> Index:
    root = class_folders(tmp_path / "mine" / "train", {"a": 9, "b": 7}).parent
    class_folders(root / "test", {"a": 3, "b": 4}, start=100)
    class_folders(root / "val", {"a": 2, "b": 2}, start=200)
    return index(root, folder=tmp_path / "out", image_size=12)


def opened(indexed: Index, tmp_path: Path, size: int | None = None) -> Images:
    return open_images(indexed.identity, image_size=size, data_root=str(tmp_path / "root"), place=indexed.place)


def files(tmp_path: Path, suffix: str) -> list[Path]:
    return sorted((tmp_path / "root" / "stores").glob(f"*{suffix}"))

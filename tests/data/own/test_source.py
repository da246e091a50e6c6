"""Test a folder of class folders as the source of a pretraining with labels."""

from pathlib import Path

import pytest

from bias_lab.data import store, unlabelled
from bias_lab.data.own import source
from bias_lab.errors import UserError
from tests.data.pictures_on_disk import class_folders


def test_it_has_its_classes_and_only_training_images(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "mine" / "train", {"a": 4, "b": 6}).parent
    class_folders(root / "test", {"a": 3, "b": 3}, start=50)
    identity, place = source.index(root, folder=tmp_path / "out")
    images = store.open_images(identity, image_size=16, data_root=str(tmp_path / "root"), place=place)
    assert images.classes == ("a", "b")
    assert sorted(images.train_labels.tolist()) == [0] * 4 + [1] * 6
    assert len(images.test) == 0
    assert place["notes"] == ["left out: 6 images of the test and validation splits"]


def test_it_is_another_source_than_the_same_images_without_labels(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "mine", {"a": 4, "b": 6})
    one, _ = source.index(root, folder=tmp_path / "out")
    other, _ = unlabelled.index(root, folder=tmp_path / "out")
    assert one != other
    assert source.index(root, folder=tmp_path / "again")[0] == one


def test_one_class_is_refused(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "mine", {"a": 4})
    with pytest.raises(UserError, match="holds 1 class folder with training images, to pretrain on with labels"):
        source.index(root, folder=tmp_path / "out")


def test_a_bad_image_is_named_or_left_out(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "mine", {"a": 4, "b": 4})
    good, _ = source.index(root, folder=tmp_path / "out")
    (root / "a" / "bad.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"a/bad.png \(empty file\)"):
        source.index(root, folder=tmp_path / "out")
    identity, place = source.index(root, folder=tmp_path / "out", skip_bad=True)
    assert identity == good
    assert "a/bad.png" in place["notes"][0]

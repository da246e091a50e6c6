"""Test what folders mean: splits in many forms, splits inside classes, masks. What could mean two things is refused."""

from pathlib import Path

import pytest

from bias_lab.data.own import layouts
from bias_lab.data.own.files import walk
from bias_lab.errors import UserError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def splits(root: Path) -> dict[str, str]:
    found = layouts.split_folders(root, layouts.subfolders(root), [])
    return {split: folder.name for split, folder in found.items()}


@pytest.mark.parametrize(
    ("train", "test", "val"),
    [
        ("training_set", "test_set", "validation_set"),
        ("seg_train", "seg_test", "seg_val"),
        ("images_train", "images_test", "images_val"),
        ("TRAIN", "Test", "VALIDATION"),
        ("train-images", "test2017", "val2017"),
        ("training", "evaluation", "validation"),
    ],
)
def test_public_names_of_splits(tmp_path: Path, train: str, test: str, val: str) -> None:
    touch(tmp_path, *(f"{split}/{name}/1.png" for split in (train, test, val) for name in "ab"))
    assert splits(tmp_path) == {"train": train, "test": test, "val": val}


def test_a_plain_word_counts_before_a_longer_name(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.png", "train_images/a/1.png", "test/a/1.png", "eval/a/1.png")
    assert splits(tmp_path) == {"train": "train", "test": "test"}


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["fold1/a/1.png", "fold2/a/1.png"], "holds fold1/, fold2/, which are names of folds"),
        (["fold1/1.png", "fold2/1.png", "x/1.png"], "which are names of folds"),
        (["train/1.png", "test/1.png"], "train holds no class folders, and its name is that of a split.*called train/"),
        (["train/1.png", "bus/1.png"], "train holds no class folders.*if these names are classes"),
        (["test/1.png", "cat/1.png"], "has test/ and no train/; put the images to train on into train/.*classes"),
        (["trainA/a/1.png", "trainB/a/1.png"], "has trainA/ and trainB/ for the split 'train'"),
        (["train/a/1.png", "test/1.png"], "test holds no class folders"),
    ],
)
def test_split_words_where_classes_are_expected_are_refused(tmp_path: Path, names: list[str], words: str) -> None:
    touch(tmp_path, *names)
    with pytest.raises(UserError, match=words):
        splits(tmp_path)


def test_a_doubled_split_folder_is_one(tmp_path: Path) -> None:
    touch(tmp_path, "seg_train/seg_train/forest/1.png")
    out: list[str] = []
    assert layouts.inside_split(tmp_path, "train", tmp_path / "seg_train", out) == tmp_path / "seg_train" / "seg_train"
    assert out == ["seg_train/seg_train/ is read as the split 'train'"]


def test_splits_inside_a_split_are_refused_but_classes_may_be_called_so(tmp_path: Path) -> None:
    touch(tmp_path / "x", "train/train/a/1.png", "train/val/a/1.png")
    with pytest.raises(UserError, match="names of splits inside a split"):
        layouts.inside_split(tmp_path / "x", "train", tmp_path / "x" / "train", [])
    touch(tmp_path / "y", "train/train/1.png", "train/test/1.png")
    assert layouts.inside_split(tmp_path / "y", "train", tmp_path / "y" / "train", []) == tmp_path / "y" / "train"
    touch(tmp_path / "z", "train/fold1/1.png", "train/fold2/1.png")
    with pytest.raises(UserError, match="names of folds"):
        layouts.inside_split(tmp_path / "z", "train", tmp_path / "z" / "train", [])


def inside(root: Path) -> list[str]:
    return layouts.check_inside_classes(root, {folder: walk(folder, None) for folder in layouts.subfolders(root)})


@pytest.mark.parametrize(
    "names",
    [
        ["cat/train/1.png", "cat/test/2.png", "dog/train/3.png", "dog/test/4.png"],
        ["cat/train/1.png", "cat/val/2.png", "dog/3.png"],
        ["cat/images/train/1.png", "dog/images/training_set/1.png"],
        ["cat/fold1/1.png", "dog/fold2/1.png"],
        ["cat/cat_train/1.png", "cat/cat_test/1.png", "dog/dog_train/1.png", "dog/dog_test/1.png"],
        ["cat/1.png", "cat/test/1.png", "dog/1.png", "dog/test/1.png"],
    ],
)
def test_splits_inside_classes_are_refused(tmp_path: Path, names: list[str]) -> None:
    touch(tmp_path, *names)
    with pytest.raises(UserError, match="names of splits; put the split above the class, as .*; or give a table"):
        inside(tmp_path)


def test_one_folder_above_the_splits_says_what_to_give(tmp_path: Path) -> None:
    touch(tmp_path, "data/train/a/1.png", "data/test/a/2.png")
    with pytest.raises(UserError, match=f"names of splits; give --data {tmp_path / 'data'}"):
        inside(tmp_path)


def test_other_subfolders_are_said(tmp_path: Path) -> None:
    touch(tmp_path, "cat/front/1.png", "cat/side/2.png", "dog/front/3.png", "cow/4.png")
    assert inside(tmp_path) == ["images in subfolders count for the class folder above them: front, side (in cat, dog)"]
    touch(tmp_path / "b", "vehicles/train/1.png", "vehicles/bus/2.png", "pets/3.png")
    assert "bus, train (in vehicles)" in inside(tmp_path / "b")[0]


def masks(root: Path) -> list[str]:
    return layouts.check_masks(root, {folder: walk(folder, None) for folder in layouts.subfolders(root)})


@pytest.mark.parametrize(
    ("images", "other", "ending"),
    [
        ("images", "masks", ""),
        ("Images", "annotations", ""),
        ("img", "GroundTruth", "_mask"),
        ("JPEGImages", "SegmentationClass", ""),
        ("benign", "benign_masks", "_mask"),
    ],
)
def test_images_and_their_masks_are_refused(tmp_path: Path, images: str, other: str, ending: str) -> None:
    touch(tmp_path, *(f"{images}/{k}.jpg" for k in range(4)), *(f"{other}/{k}{ending}.png" for k in range(4)))
    touch(tmp_path, "more/x.png")
    with pytest.raises(UserError, match="hold the same file names, so they look like images and their masks"):
        masks(tmp_path)


def test_images_and_masks_inside_a_class_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "cat/images/1.png", "cat/masks/1.png", "dog/images/1.png")
    with pytest.raises(
        UserError, match="the class folder cat holds images/ and masks/, which look like images and their"
    ):
        inside(tmp_path)


def test_masks_beside_images_are_said(tmp_path: Path) -> None:
    touch(
        tmp_path, "benign/benign (1).png", "benign/benign (1)_mask.png", "benign/benign (1)_mask_1.png", "normal/1.png"
    )
    assert masks(tmp_path) == [
        "benign: 2 files may be masks of the images beside them, and are read as images (benign (1)_mask.png, …)"
    ]


def test_classes_with_equal_file_names_are_no_masks(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{name}/{k}.png" for name in ("cat", "dog", "cut_mask_plant") for k in range(4)))
    lines = masks(tmp_path)
    assert len(lines) == 2
    assert all("they are read as two classes" in line for line in lines)
    for number, names in enumerate((("cat", "dog"), ("with_mask", "without_mask"))):
        touch(tmp_path / str(number), *(f"{name}/{k}.png" for name in names for k in range(4)))
        assert masks(tmp_path / str(number)) == []
    touch(tmp_path / "2", *(f"{name}/{k}.png" for name in ("mask", "nomask") for k in range(4)))
    assert len(masks(tmp_path / "2")) == 1

"""Test that every reader gives the pixels, labels and classes of a small dataset in its published format."""

import errno
import gzip
import io
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bias_lab import catalogue
from bias_lab.data.readers import named, published
from bias_lab.data.store import open_images
from bias_lab.errors import UserError

Made = tuple[np.ndarray, list[int]]  # pixels and labels, training images first


def pictures(count: int, side: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, side, side, channels), dtype=np.uint8)


def make_mnist(root: Path) -> Made:
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    pixels, labels = pictures(12, 28, 1), [0, 1] * 6
    for prefix, part in (("train", slice(0, 8)), ("t10k", slice(8, 12))):
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(bytes(16) + pixels[part].tobytes())
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(bytes(8) + bytes(labels[part])))
    return pixels, labels


def make_cifar10(root: Path) -> Made:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    pixels, labels = pictures(12, 32), [k % 10 for k in range(12)]
    planes = pixels.transpose(0, 3, 1, 2).reshape(12, -1)
    names = [f"data_batch_{k}" for k in range(1, 6)]
    for k, name in enumerate([*names, "test_batch"]):
        part = slice(2 * k, 2 * k + 2)
        (folder / name).write_bytes(pickle.dumps({"data": planes[part], "labels": labels[part]}))
    classes = "airplane automobile bird cat deer dog frog horse ship truck".split()
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": classes}))
    return pixels, labels


def make_svhn(root: Path) -> Made:
    from scipy.io import savemat

    (root / "svhn").mkdir(parents=True)
    pixels, labels = pictures(12, 32), [k % 10 for k in range(12)]
    for name, part in (("train", slice(0, 8)), ("test", slice(8, 12))):
        tens = [[label or 10] for label in labels[part]]  # the file calls zero ten
        savemat(root / "svhn" / f"{name}_32x32.mat", {"X": pixels[part].transpose(1, 2, 3, 0), "y": np.array(tens)})
    return pixels, labels


def make_tiny_imagenet(root: Path) -> Made:
    folder = root / "tiny-imagenet-200"
    pixels, labels = pictures(12, 64), [0, 1] * 4 + [1, 0, 0, 1]
    (folder / "val" / "images").mkdir(parents=True)
    lines = []
    for k, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        wnid = f"n0{label}"
        if k < 8:
            path = folder / "train" / wnid / "images" / f"{wnid}_{k}.JPEG"
        else:
            path = folder / "val" / "images" / f"val_{k}.JPEG"
            lines.append(f"{path.name}\t{wnid}\t0\t0\t63\t63")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path, "PNG")  # the content decides, not the name
    (folder / "val" / "val_annotations.txt").write_text("\n".join(lines), encoding="utf-8")
    order = [k for k in range(8) if labels[k] == 0] + [k for k in range(8) if labels[k] == 1] + [8, 9, 10, 11]
    return pixels[order], [labels[k] for k in order]


def make_stl10(root: Path) -> Made:
    folder = root / "stl10_binary"
    folder.mkdir(parents=True)
    pixels, labels = pictures(12, 96), [k % 10 for k in range(12)]
    planes = pixels.transpose(0, 3, 2, 1)  # the file holds columns first
    for name, part in (("train", slice(0, 8)), ("test", slice(8, 12))):
        planes[part].tofile(folder / f"{name}_X.bin")
        np.array([label + 1 for label in labels[part]], np.uint8).tofile(folder / f"{name}_y.bin")
    planes[:3].tofile(folder / "unlabeled_X.bin")
    names = "airplane bird car cat deer dog horse monkey ship truck".split()
    (folder / "class_names.txt").write_text("\n".join(names), encoding="utf-8")
    return pixels, labels


def save(image: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, "PNG")  # the content decides, not the name
    return path


def make_pets(root: Path) -> Made:
    folder = root / "oxford-iiit-pet"
    pixels, labels = pictures(12, 224), [0, 1] * 6
    for name, part in (("trainval", range(8)), ("test", range(8, 12))):
        lines = []
        for k in part:
            stem = f"{('Abyssinian', 'american_bulldog')[labels[k]]}_{k}"
            save(pixels[k], folder / "images" / f"{stem}.jpg")
            lines.append(f"{stem} {labels[k] + 1} 1 1")
        (folder / "annotations").mkdir(exist_ok=True)
        (folder / "annotations" / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return pixels, labels


def make_flowers(root: Path) -> Made:
    from scipy.io import savemat

    folder = root / "flowers-102"
    pixels, labels = pictures(12, 224), [k % 3 for k in range(12)]
    for k in range(12):
        save(pixels[k], folder / "jpg" / f"image_{k + 1:05d}.jpg")
    savemat(folder / "imagelabels.mat", {"labels": np.array(labels) + 1})
    splits = {"trnid": np.arange(1, 5), "valid": np.arange(5, 9), "tstid": np.arange(9, 13)}
    savemat(folder / "setid.mat", splits)
    return pixels, labels


def make_imagenette(root: Path) -> Made:
    pixels, labels = pictures(12, 160), [0] * 4 + [1] * 4 + [0] * 2 + [1] * 2
    wnids = ("n01440764", "n02102040")
    for k, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        split = "train" if k < 8 else "val"
        save(image, root / "imagenette2-160" / split / wnids[label] / f"{k:03d}.JPEG")
    return pixels, labels


MAKERS: dict[str, Callable[[Path], Made]] = {
    "mnist": make_mnist,
    "cifar10": make_cifar10,
    "svhn": make_svhn,
    "stl10": make_stl10,
    "oxford_pet": make_pets,
    "flowers102": make_flowers,
    "tiny_imagenet": make_tiny_imagenet,
    "imagenette": make_imagenette,
}


@pytest.fixture
def any_checksum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accept any checksum, since small files cannot have the published ones."""
    import torchvision.datasets as known

    for module in (known.cifar, known.svhn, known.stl10, known.flowers102):
        monkeypatch.setattr(module, "check_integrity", lambda *_: True)


@pytest.mark.usefixtures("any_checksum")
@pytest.mark.parametrize("name", MAKERS)
def test_a_dataset_that_the_user_has_is_read_where_it_lies(name: str, tmp_path: Path) -> None:
    pixels, labels = MAKERS[name](tmp_path)
    images = open_images(name, data_root=str(tmp_path))
    assert len(images.train) == (10 if name == "cifar10" else 8)  # CIFAR-10 has five training batches to one of test
    assert np.array_equal(np.concatenate([images.train, images.test]), pixels)
    assert [*images.train_labels, *images.test_labels] == labels
    assert images.train.shape[1] == catalogue.dataset(name).image_size
    with pytest.raises(UserError, match="the catalogue lists"):  # it is incomplete
        named.check(name, data_root=str(tmp_path))


@pytest.mark.usefixtures("any_checksum")
def test_unlabelled_images_come_without_labels(tmp_path: Path) -> None:
    pixels, _ = make_stl10(tmp_path)
    images = open_images("stl10", data_root=str(tmp_path))
    assert images.unlabelled is not None
    assert np.array_equal(images.unlabelled, pixels[:3])


@pytest.mark.usefixtures("any_checksum")
def test_the_sample_of_cifar10_is_the_first_images_of_each_class_in_turn(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    pixels, labels = pictures(60, 32), [k // 6 for k in range(60)]  # sorted by class: six of each
    planes = pixels.transpose(0, 3, 1, 2).reshape(60, -1)
    for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"):
        (folder / name).write_bytes(pickle.dumps({"data": planes, "labels": labels}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [str(k) for k in range(10)]}))
    row = replace(catalogue.dataset("cifar10_12k"), class_counts=(2,) * 10, test_images=10)
    raw = published.read_cifar_sample(row, folder, 32)
    train, of_train = raw.splits["train"]
    assert of_train.tolist() == [*range(10), *range(10)]
    assert np.array_equal(train, pixels[[6 * c + k for k in range(2) for c in range(10)]])
    assert raw.splits["test"][1].tolist() == list(range(10))


def test_the_sample_of_cifar10_is_read_from_parquet_files_too(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path / "cifar10_12k"
    folder.mkdir()
    pixels = pictures(4, 32)
    for split, part in (("train", slice(0, 2)), ("test", slice(2, 4))):
        images = []
        for k, image in enumerate(pixels[part]):
            file = io.BytesIO()
            Image.fromarray(image).save(file, "png")
            images.append({"bytes": file.getvalue(), "path": f"{k}.png"})
        pq.write_table(pa.table({"img": images, "label": [3, 7]}), folder / f"{split}.parquet")
    images = open_images("cifar10_12k", data_root=str(tmp_path))
    assert np.array_equal(np.concatenate([images.train, images.test]), pixels)
    assert [*images.train_labels, *images.test_labels] == [3, 7, 3, 7]
    assert images.classes[3] == "cat"
    key = catalogue.dataset("cifar10_12k").order_key
    assert images.ordered_by == key != images.fingerprint, "copies with other pixels have the same subsets"


@pytest.mark.usefixtures("any_checksum")
def test_binary_cifar10_has_the_classes_of_a_folder_in_the_same_order(tmp_path: Path) -> None:
    make_cifar10(tmp_path)
    classes = open_images("cifar10", data_root=str(tmp_path)).classes
    assert list(classes) == sorted(classes)  # as folders of these names are numbered


def test_eurosats_split_is_stratified_and_the_same_for_everyone(tmp_path: Path) -> None:
    for k in range(40):
        name = ("Forest", "River")[k % 2]
        save(pictures(1, 64)[0] // (k + 1), tmp_path / "eurosat" / "2750" / name / f"{name}_{k}.jpg")
    raw = published.read_eurosat(catalogue.dataset("eurosat"), tmp_path / "eurosat", 64)
    assert raw.classes == ["Forest", "River"]
    assert np.bincount(raw.splits["train"][1]).tolist() == [16, 16]
    assert np.bincount(raw.splits["test"][1]).tolist() == [4, 4]
    golden = "Forest_10 Forest_2 Forest_36 Forest_4 River_11 River_37 River_39 River_5"
    assert [Path(str(path)).stem for path in raw.splits["test"][0]] == golden.split()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [  # the folder holds something else, or a part of the dataset
        ("mnist", lambda root: cut(root / "MNIST/raw/train-labels-idx1-ubyte.gz"), "ended before"),
        ("mnist", lambda root: cut(root / "MNIST/raw/train-images-idx3-ubyte"), "reshape"),
        ("eurosat", lambda root: (root / "eurosat" / "other").mkdir(parents=True), "No such file or directory: .*2750"),
        (
            "tiny_imagenet",
            lambda root: (root / "tiny-imagenet-200" / "val").mkdir(parents=True),
            "No such file or directory: .*train",
        ),
    ],
)
def test_a_damaged_dataset_is_one_line(name: str, damage: Callable[[Path], None], words: str, tmp_path: Path) -> None:
    if name == "mnist":
        make_mnist(tmp_path)
    damage(tmp_path)
    with pytest.raises(UserError, match=f"^{name}: .*{words}.*; fetch .* again$"):
        open_images(name, data_root=str(tmp_path))


def test_a_full_disk_is_no_damaged_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_mnist(tmp_path)

    def full(_: bytes) -> bytes:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(published.gzip, "decompress", full)
    with pytest.raises(OSError, match="No space left"):
        open_images("mnist", data_root=str(tmp_path))


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    make_mnist(tmp_path)
    (tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UserError, match="has no t10k-labels-idx1-ubyte.gz"):
        open_images("mnist", data_root=str(tmp_path))

"""Test the packaged dataset against its script, and datasets by name that are absent, damaged or complete."""

import hashlib
import json
import pkgutil
import subprocess
import sys
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from bias_lab import catalogue
from bias_lab.data.identity import content_hash, fingerprint
from bias_lab.data.moments import moments
from bias_lab.data.readers import named, published
from bias_lab.data.store import open_images
from bias_lab.errors import UserError
from tests.data.readers.test_published import make_cifar10, make_mnist, make_tiny_imagenet

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def test_the_embedded_dataset_is_stratified_and_as_described() -> None:
    images = open_images("fashion_mnist_12k")
    row = catalogue.dataset("fashion_mnist_12k")
    assert images.train.shape == (10_000, 28, 28, 1)
    assert images.test.shape == (2000, 28, 28, 1)
    assert np.bincount(images.train_labels).tolist() == list(row.class_counts)
    assert np.bincount(images.test_labels).tolist() == [200] * 10
    assert images.classes[9] == "Ankle boot"
    assert (images.mean, images.std) == (row.mean, row.std) == moments(images.train)


def test_the_embedded_datasets_fingerprint_is_its_content() -> None:
    images = open_images("fashion_mnist_12k")
    triples = [
        ("train", images.classes[c], content_hash(x)) for x, c in zip(images.train, images.train_labels, strict=True)
    ]
    triples += [
        ("test", images.classes[c], content_hash(x)) for x, c in zip(images.test, images.test_labels, strict=True)
    ]
    assert fingerprint(triples) == images.fingerprint == "ab14759e263048dc"
    assert not {t[2] for t in triples[:10_000]} & {t[2] for t in triples[10_000:]}  # no test image is in the pool


def test_the_packed_file_is_small_and_comes_with_licence_and_source() -> None:
    folder = files("bias_lab.data.embedded")
    about = json.loads(folder.joinpath("fashion_mnist_12k.json").read_text(encoding="utf-8"))
    packed = folder.joinpath("fashion_mnist_12k.xz").read_bytes()
    assert len(packed) < 6_000_000
    assert hashlib.sha256(packed).hexdigest() == about["sha256"]
    assert "zalandoresearch/fashion-mnist" in about["source"]
    assert "Zalando SE" in folder.joinpath("LICENSE").read_text(encoding="utf-8")


def test_a_damaged_package_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("fashion_mnist_12k.json", "fashion_mnist_12k.xz"):
        (tmp_path / name).write_bytes(files("bias_lab.data.embedded").joinpath(name).read_bytes())
    (tmp_path / "fashion_mnist_12k.xz").write_bytes((tmp_path / "fashion_mnist_12k.xz").read_bytes()[:-1])
    monkeypatch.setattr(named, "files", lambda _: tmp_path)
    with pytest.raises(UserError, match="damaged"):
        named.embedded.__wrapped__("fashion_mnist_12k")


@pytest.mark.slow
@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_the_script_makes_the_same_images_again(tmp_path: Path) -> None:
    """The script runs from a copy, so that no test writes into the package. Another packer may give other bytes."""
    from bias_lab.data.embedded import make

    copy = tmp_path / "make.py"
    copy.write_text(Path(make.__file__).read_text(encoding="utf-8"), encoding="utf-8")
    subprocess.run([sys.executable, str(copy)], check=True, capture_output=True)
    again = json.loads((tmp_path / "fashion_mnist_12k.json").read_text(encoding="utf-8"))
    ours = json.loads(files("bias_lab.data.embedded").joinpath("fashion_mnist_12k.json").read_text(encoding="utf-8"))
    assert again["raw_sha256"] == ours["raw_sha256"]
    assert again["fingerprint"] == ours["fingerprint"]


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'fashion_mnist_12k'"):
        open_images("fashion_mnist_12")


# --- datasets that are not there, or not whole ------------------------------------------------------------------------


def test_a_damaged_dataset_is_named_with_the_way_out(tmp_path: Path) -> None:
    make_cifar10(tmp_path)  # its checksums differ from the published ones
    with pytest.raises(UserError, match=r"cifar10: .*corrupted.*fetch cifar-10-python.tar.gz"):
        named.check("cifar10", data_root=str(tmp_path))


def test_an_empty_folder_that_a_failed_download_left_does_not_hide_the_dataset(tmp_path: Path) -> None:
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "train-images-idx3-ubyte").write_bytes(bytes(16))
    with pytest.raises(UserError, match="mnist has no train-labels-idx1-ubyte.gz"):
        open_images("mnist", data_root=str(tmp_path))


def test_a_failed_download_leaves_no_folder_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(root: str, *, download: bool) -> None:
        (Path(root) / "MNIST" / "raw").mkdir(parents=True)
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.MNIST", fails)
    with pytest.raises(UserError, match="mnist is not in .* can't be downloaded"):
        named.check("mnist", data_root=str(tmp_path / "new" / "data"))
    assert not list(tmp_path.iterdir())


@pytest.fixture
def small_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an MNIST of eight training and four test images that matches the catalogue. Three images are equal."""
    pixels, _ = make_mnist(tmp_path)
    pixels[[3, 8]] = pixels[1]
    folder = tmp_path / "MNIST" / "raw"
    for name, part in (("train", pixels[:8]), ("t10k", pixels[8:])):
        (folder / f"{name}-images-idx3-ubyte").write_bytes(bytes(16) + part.tobytes())
    row = catalogue.DATASETS["mnist"]
    sums = {name: hashlib.sha256(published.unpacked(folder, name)).hexdigest() for name in row.sha256}
    row = replace(row, class_counts=(4, 4, *(0,) * 8), test_images=4, sha256=sums)
    monkeypatch.setitem(catalogue.DATASETS, "mnist", row)
    return tmp_path


def test_a_check_tells_counts_checksums_leaks_normalisation_licence_and_citation(small_mnist: Path) -> None:
    images = open_images("mnist", data_root=str(small_mnist))
    assert named.check("mnist", data_root=str(small_mnist)) == [
        "10 classes, 8 training and 4 test images: as in the catalogue",
        "checksums: as published",
        "training images that are in the test split too: 2 (left out by drop_duplicates)",
        "training images that repeat another: 1",
        f"fingerprint: {images.fingerprint}",
        f"28 px, 1 channel; of the training images: mean {images.mean[0]:.4f}, standard deviation {images.std[0]:.4f}",
        "licence: CC BY-SA 3.0; cite LeCun, Bottou, Bengio, Haffner 1998, doi:10.1109/5.726791",
    ]


def test_a_check_names_the_copy_that_a_dataset_is(small_mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = open_images("mnist", data_root=str(small_mnist)).fingerprint
    row = replace(catalogue.DATASETS["mnist"], copies={mark: "a small copy"})
    monkeypatch.setitem(catalogue.DATASETS, "mnist", row)
    assert f"fingerprint: {mark} (a small copy)" in named.check("mnist", data_root=str(small_mnist))


def test_a_file_that_is_not_the_published_one_is_refused(small_mnist: Path) -> None:
    file = small_mnist / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    file.write_bytes(bytes(16) + bytes(4 * 28 * 28))
    with pytest.raises(UserError, match=r"mnist: .*t10k-images-idx3-ubyte, unpacked, has SHA-256 .*; fetch .* again"):
        named.check("mnist", data_root=str(small_mnist))


def test_a_dataset_without_known_checksums_is_not_said_to_have_right_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tiny_imagenet(tmp_path)
    row = replace(catalogue.DATASETS["tiny_imagenet"], classes=2, class_counts=(4, 4), test_images=4)
    monkeypatch.setitem(catalogue.DATASETS, "tiny_imagenet", row)
    lines = named.check("tiny_imagenet", data_root=str(tmp_path))
    assert lines[1] == "checksums: none are known here for tiny_imagenet; its files are counted and read, not verified"
    images = open_images("tiny_imagenet", data_root=str(tmp_path))
    mean, std = (" ".join(f"{value:.4f}" for value in values) for values in (images.mean, images.std))
    assert lines[5] == f"64 px, 3 channels; of the training images: mean {mean}, standard deviation {std}"


def test_fashion_mnists_checksums_are_those_that_the_embedded_dataset_was_made_from() -> None:
    about = json.loads(files("bias_lab.data.embedded").joinpath("fashion_mnist_12k.json").read_text(encoding="utf-8"))
    row = catalogue.DATASETS["fashion_mnist"]
    assert {f"{name}.gz": value for name, value in row.sha256.items()} == about["source_sha256"]


@pytest.mark.parametrize("name", [row.name for row in catalogue.DATASETS.values() if row.places])
def test_an_absent_dataset_says_in_one_line_what_to_fetch_and_where_to_put_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*_: object) -> None:
        raise OSError(f"tried many mirrors:\n{'https://mirror ' * 20}got: <no network>")

    monkeypatch.setattr(named, "_download", no_network)
    row = catalogue.DATASETS[name]
    monkeypatch.setitem(catalogue.DATASETS, name, replace(row, places=row.places[:1]))
    with pytest.raises(UserError) as error:
        open_images(name, data_root=str(tmp_path))
    message = str(error.value)
    assert f"{name} is not in {tmp_path}" in message
    assert ("tried many mirrors" in message) == (
        "got: <no network>)" in message
    )  # the whole reason is shown, or nothing of it
    assert "fetch " in message
    assert str(tmp_path / row.places[0]) in message
    assert "--data-root or BIAS_LAB_DATA" in message
    assert "\n" not in message


def test_every_dataset_of_the_catalogue_can_be_opened_and_is_described() -> None:
    for name, row in catalogue.DATASETS.items():
        assert callable(pkgutil.resolve_name(row.reader)), name
        assert bool(row.places) != bool(row.version), name  # it has files, or a version that stands for its content
        assert bool(row.places) == bool(row.fetch), name
        assert len(row.class_counts if row.masks is None else row.masks.presence) == row.classes
        assert (row.masks is None) == bool(row.class_counts), name
        assert row.pool == (sum(row.class_counts) if row.masks is None else row.masks.images)
        assert row.licence
        assert row.citation
        assert row.test_images > 0


def test_images_may_be_rectangles(tmp_path: Path) -> None:
    images = open_images("fashion_mnist_12k", image_size=14, image_width=20, data_root=str(tmp_path))
    assert images.train.shape == (10_000, 14, 20, 1)
    assert images.fingerprint == open_images("fashion_mnist_12k").fingerprint
    square = open_images("fashion_mnist_12k", image_size=20, data_root=str(tmp_path))
    assert np.array_equal(images.train, square.train[:, 3:17])  # the middle of what covers the rectangle


def test_a_resized_dataset_keeps_its_fingerprint(tmp_path: Path) -> None:
    images = open_images("fashion_mnist_12k", image_size=14, data_root=str(tmp_path))
    assert images.train.shape == (10_000, 14, 14, 1)
    assert images.fingerprint == open_images("fashion_mnist_12k").fingerprint


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_fashion_mnists_normalisation_is_what_its_pixels_give(tmp_path: Path) -> None:
    images = open_images("fashion_mnist", data_root=str(tmp_path))
    row = catalogue.dataset("fashion_mnist")
    assert (images.mean, images.std) == (row.mean, row.std)
    assert np.bincount(images.train_labels).tolist() == list(row.class_counts)
    assert len(images.test) == row.test_images

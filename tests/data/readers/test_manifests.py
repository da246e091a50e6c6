"""Test that a published manifest can be used by someone else, and that one that does not match is refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bias_lab.data import subsets
from bias_lab.data.own_images import index
from bias_lab.data.readers import manifests
from bias_lab.data.readers.manifests import Pool, pool, ranking, read, use, write
from bias_lab.definition import Run
from bias_lab.errors import UserError
from tests.data.pictures_on_disk import class_folders


def images(*, shuffled: int | None = None) -> Pool:
    """Return forty images of four unequal classes. shuffled: the same images in another order."""
    labels = np.repeat(np.arange(4), [16, 12, 8, 4])
    hashes = [f"{k:032x}" for k in range(40)]
    order = np.arange(40) if shuffled is None else np.random.default_rng(shuffled).permutation(40)
    return Pool("toys", "f00d", ("a", "b", "c", "d"), labels[order], [hashes[k] for k in order], [])


def test_a_manifest_is_the_draws_order_and_says_how_it_was_made(tmp_path: Path) -> None:
    write(tmp_path / "m.parquet", images(), (10, 30), draw=3)
    rows, about = read(tmp_path / "m.parquet")
    assert list(rows.columns) == list(manifests.COLUMNS)
    assert rows["index"].tolist() == subsets.order("f00d", images().labels, 3)[:30].tolist()
    assert rows["rank"].tolist() == list(range(30))
    assert (about["draw"], about["fingerprint"], about["sizes"]) == (3, "f00d", [10, 30])
    assert pq.read_schema(tmp_path / "m.parquet").names == list(manifests.COLUMNS)


def test_a_block_is_written_like_a_draw(tmp_path: Path) -> None:
    assert write(tmp_path / "m.parquet", images(), (), draw=1, blocks=3) == 13
    rows, about = read(tmp_path / "m.parquet")
    assert rows["index"].tolist() == subsets.order("f00d", images().labels, 1, blocks=3).tolist()
    assert (about["draw"], about["blocks"]) == (1, 3)
    with pytest.raises(UserError, match="draw 3 is none of 3 blocks; 0 to 2"):
        write(tmp_path / "m.parquet", images(), (), draw=3, blocks=3)
    with pytest.raises(UserError, match="size 14 exceeds the 13 images of block 1 of toys"):
        write(tmp_path / "m.parquet", images(), (14,), draw=1, blocks=3)


def test_it_trains_what_the_draw_would_have_trained(tmp_path: Path) -> None:
    write(tmp_path / "m.parquet", images(), (30,), draw=3)
    used = use(tmp_path / "m.parquet", images(), folder=tmp_path)
    run = Run(dataset="toys", backbone="x", size=20, draw=3)
    by_manifest = subsets.select(
        Run(dataset="toys", backbone="x", size=20, manifest=used.digest),
        images().labels,
        "f00d",
        ranking=ranking(used.place),
    )
    assert np.array_equal(by_manifest.indices, subsets.select(run, images().labels, "f00d").indices)
    assert used.length == 30
    assert by_manifest.holdout is not None
    assert not np.intersect1d(by_manifest.holdout, by_manifest.indices).size


def test_images_are_found_by_content_in_another_numbering(tmp_path: Path) -> None:
    write(tmp_path / "m.parquet", images(), (30,), draw=0)
    rows, _ = read(tmp_path / "m.parquet")
    elsewhere = images(shuffled=1)
    order = ranking(use(tmp_path / "m.parquet", elsewhere, folder=tmp_path).place)
    assert [elsewhere.hashes[k] for k in order] == rows["content_hash"].tolist()


def test_the_same_picture_twice_is_two_images(tmp_path: Path) -> None:
    twins = Pool("toys", "f", ("a", "b"), np.array([0, 0, 1, 1]), ["x", "x", "y", "z"], [])
    write(tmp_path / "m.parquet", twins, (4,), draw=0)
    assert sorted(ranking(use(tmp_path / "m.parquet", twins, folder=tmp_path).place)) == [0, 1, 2, 3]


def changed(tmp_path: Path, column: str, row: int, value: object) -> Path:
    write(tmp_path / "m.parquet", images(), (30,), draw=0)
    rows = pd.read_parquet(tmp_path / "m.parquet")
    rows.loc[row, column] = value
    rows.to_parquet(tmp_path / "n.parquet", index=False)
    return tmp_path / "n.parquet"


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("content_hash", "e" * 32, "1 of its 30 images are not in the pool of toys"),
        ("label", 9, "has label 9, but in toys it has"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(tmp_path: Path, column: str, value: object, words: str) -> None:
    with pytest.raises(UserError, match=words):
        use(changed(tmp_path, column, 5, value), images(), folder=tmp_path)


def test_what_is_no_manifest_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no manifest"):
        read(tmp_path / "m.parquet")
    (tmp_path / "m.parquet").write_bytes(b"hello")
    with pytest.raises(UserError, match="not a parquet file"):
        read(tmp_path / "m.parquet")
    pd.DataFrame({"index": [1]}).to_parquet(tmp_path / "m.parquet")
    with pytest.raises(UserError, match="no column label"):
        read(tmp_path / "m.parquet")
    (tmp_path / "list.txt").write_text("# nothing\n\n", encoding="utf-8")
    with pytest.raises(UserError, match="empty"):
        read(tmp_path / "list.txt")
    (tmp_path / "list.txt").write_text("alone\n", encoding="utf-8")
    with pytest.raises(UserError, match="line 1: 'alone' is not 'filename label'"):
        read(tmp_path / "list.txt")
    (tmp_path / "list.txt").write_bytes("café.png 1\n".encode("latin-1"))
    with pytest.raises(UserError, match="list.txt is not UTF-8"):
        read(tmp_path / "list.txt")


@pytest.mark.parametrize(
    ("sizes", "words"),
    [((41,), "exceeds the 40"), ((3,), "size 3 leaves class 'c' without an image; the smallest size that works is")],
)
def test_sizes_must_fit(tmp_path: Path, sizes: tuple[int, ...], words: str) -> None:
    with pytest.raises(UserError, match=words):
        write(tmp_path / "m.parquet", images(), sizes, draw=0)


def test_balanced_manifests_have_equal_counts(tmp_path: Path) -> None:
    write(tmp_path / "m.parquet", images(), (16,), draw=0, balanced=True)
    assert np.bincount(read(tmp_path / "m.parquet")[0]["label"]).tolist() == [4, 4, 4, 4]
    with pytest.raises(
        UserError, match="size 17 can't be balanced: class 'd' has 4 images; the largest balanced size is 16"
    ):
        write(tmp_path / "n.parquet", images(), (8, 17), draw=0, balanced=True)
    assert not (tmp_path / "n.parquet").exists()


# --- plain lists -----------------------------------------------------------------------------------------------------


def test_a_plain_list_of_a_users_folder(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "mine", {"cat": 10, "dog": 10})
    indexed = index(root, folder=tmp_path / "out")
    mine = pool(indexed.identity, place=indexed.place)
    lines = [f"cat/{Path(mine.names[0]).name} cat", "", "# by name, by number, by path", f"{mine.names[-1]}\t1"]
    (tmp_path / "list.txt").write_text("\n".join(lines), encoding="utf-8")
    assert ranking(use(tmp_path / "list.txt", mine, folder=tmp_path / "out").place).tolist() == [
        0,
        len(mine.labels) - 1,
    ]
    (tmp_path / "list.txt").write_text(f"{mine.names[0]} dog\n", encoding="utf-8")
    with pytest.raises(UserError, match="has label dog"):
        use(tmp_path / "list.txt", mine, folder=tmp_path / "out")


def test_a_plain_list_of_indices_and_no_test_image(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("3,0\n39,3\n", encoding="utf-8")
    assert ranking(use(tmp_path / "list.csv", images(), folder=tmp_path).place).tolist() == [3, 39]
    (tmp_path / "list.csv").write_text("40,3\n", encoding="utf-8")
    with pytest.raises(UserError, match="'40' is not in the pool"):
        use(tmp_path / "list.csv", images(), folder=tmp_path)
    (tmp_path / "list.csv").write_text("3,0\n3,0\n", encoding="utf-8")
    with pytest.raises(UserError, match="twice"):
        use(tmp_path / "list.csv", images(), folder=tmp_path)


def test_the_embedded_datasets_pool() -> None:
    indexed = pool("fashion_mnist_12k")
    assert (indexed.dataset, len(indexed.hashes), indexed.fingerprint) == (
        "fashion_mnist_12k",
        10_000,
        "ab14759e263048dc",
    )


def test_labels_of_a_manifest_go_by_the_names_of_its_classes(tmp_path: Path) -> None:
    """Theirs are numbered as a table states them, ours as folders are sorted."""
    theirs = Pool("toys", "f", ("dog", "cat"), np.array([0, 0, 1, 1]), ["w", "x", "y", "z"], [])
    ours = Pool("mine", "g", ("cat", "dog"), np.array([0, 0, 1, 1]), ["y", "z", "w", "x"], [])
    write(tmp_path / "m.parquet", theirs, (4,), draw=0)
    assert sorted(ranking(use(tmp_path / "m.parquet", ours, folder=tmp_path).place)) == [0, 1, 2, 3]
    wrong = Pool("mine", "g", ("cat", "dog"), np.array([0, 1, 1, 1]), ["y", "z", "w", "x"], [])
    with pytest.raises(UserError, match=r"image z has label 1 \('cat'\), but in mine it has 1 \('dog'\)"):
        use(tmp_path / "m.parquet", wrong, folder=tmp_path)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("label", [[0], [1]], "the column label has values of type list"),
        ("rank", [0.0, 1.0], "the column rank has values of type double; whole numbers are needed"),
        ("index", [None, 1], "row 1 has no index"),
        ("content_hash", [1, 2], "the column content_hash has values of type int64; text is needed"),
    ],
)
def test_a_column_of_another_type_is_named(tmp_path: Path, column: str, values: list[object], message: str) -> None:
    columns = {"index": [0, 1], "label": [0, 1], "rank": [0, 1], "content_hash": ["a", "b"]}
    pq.write_table(pa.table(columns | {column: values}), tmp_path / "m.parquet")
    with pytest.raises(UserError, match=message):
        manifests.read(tmp_path / "m.parquet")


def test_metadata_that_are_no_json_are_named(tmp_path: Path) -> None:
    columns = {"index": [0], "label": [0], "rank": [0], "content_hash": ["a"]}
    pq.write_table(pa.table(columns).replace_schema_metadata({"bias_lab": "{"}), tmp_path / "m.parquet")
    with pytest.raises(UserError, match="its metadata are not JSON"):
        manifests.read(tmp_path / "m.parquet")


def test_images_with_masks_have_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a manifest lists the class of each image, and shape_masks has masks"):
        pool("shape_masks", data_root=str(tmp_path))
    with pytest.raises(UserError, match="mine has masks"):
        pool("folder:ab", place={"path": "mine", "values": [0, 1]})

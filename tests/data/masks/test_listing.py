"""Test which layouts of images with masks are read, and which words refuse the others."""

from pathlib import Path

import pytest

from bias_lab.data.masks.listing import holds_pairs, listing
from bias_lab.errors import UserError
from tests.data.masks.masks_on_disk import flat_folder, pair, split_folder


def splits(path: Path) -> dict[str, int]:
    found = [item.split for item in listing(path).items]
    return {split: found.count(split) for split in sorted(set(found))}


def test_folders_with_a_split(tmp_path: Path) -> None:
    split_folder(tmp_path)
    pair(tmp_path / "validation", "v")
    (tmp_path / "notes").mkdir()
    listed = listing(tmp_path)
    assert splits(tmp_path) == {"test": 4, "train": 12, "val": 1}
    assert listed.kind == "folder"
    assert listed.items[0].name == "test/images/test0.jpg"
    assert Path(listed.items[0].mask) == tmp_path / "test" / "masks" / "test0.png"
    assert listed.warnings == ["next to the splits, these are left out: notes"]


def test_splits_inside_images_and_masks_are_kept(tmp_path: Path) -> None:
    flat_folder(tmp_path / "flat", 6)
    for k in range(6):
        for kind, ending in (("images", "jpg"), ("masks", "png")):
            target = tmp_path / "d" / kind / ("train" if k < 4 else "test") / f"one{k}.{ending}"
            target.parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "flat" / kind / f"one{k}.{ending}").rename(target)
    assert splits(tmp_path / "d") == {"test": 2, "train": 4}
    (tmp_path / "d" / "images" / "loose.jpg").write_bytes((tmp_path / "d/images/test/one4.jpg").read_bytes())
    (tmp_path / "d" / "masks" / "loose.png").write_bytes((tmp_path / "d/masks/test/one4.png").read_bytes())
    assert splits(tmp_path / "d") == {"": 7}, "not all of them lie in a split"


def test_flat_folders_have_no_split_and_names_in_any_case(tmp_path: Path) -> None:
    flat_folder(tmp_path, 3)
    (tmp_path / "images").rename(tmp_path / "JPEGImages")
    (tmp_path / "masks").rename(tmp_path / "Annotations")
    (tmp_path / "Annotations" / "notes.txt").write_text("x")
    (tmp_path / "classes.txt").write_text("ground\n\nthing\n")
    listed = listing(tmp_path)
    assert splits(tmp_path) == {"": 3}
    assert listed.names == ["ground", "thing"]
    assert listed.warnings == ["Annotations: left out: 1 file without the ending of an image"]


def test_results_inside_are_left_out(tmp_path: Path) -> None:
    split_folder(tmp_path)
    split_folder(tmp_path / "results")
    (tmp_path / "results" / "data").mkdir()
    (tmp_path / "results" / "data" / "seen.parquet").write_bytes(b"")
    assert len(listing(tmp_path).items) == 16


@pytest.mark.parametrize("mark", [";", "\t", ","])
def test_the_separator_of_a_table_is_told_by_its_columns(tmp_path: Path, mark: str) -> None:
    flat_folder(tmp_path, 3)
    lines = ["image,mask", *(f"images/one{k}.jpg,masks/one{k}.png" for k in range(3))]
    (tmp_path / "t.csv").write_text("\n".join(lines).replace(",", mark))
    assert holds_pairs(tmp_path / "t.csv")
    assert splits(tmp_path / "t.csv") == {"": 3}
    (tmp_path / "u.csv").write_text("image,mask,label\nimages/one0.jpg,masks/one0.png,x\n")
    assert holds_pairs(tmp_path / "u.csv"), "a column more does no harm"
    (tmp_path / "v.csv").write_text("path,label,image,mask\nimages/one0.jpg,x,a,b\n")
    assert not holds_pairs(tmp_path / "v.csv")


def test_a_table(tmp_path: Path) -> None:
    flat_folder(tmp_path, 3)
    table = tmp_path / "pairs.csv"
    table.write_text(
        "image,mask,split\nimages/one0.jpg,masks/one0.png,train\n\nimages/one1.jpg,masks/one1.png,Testing\n"
    )
    (tmp_path / "classes.txt").write_text("a\nb\n")
    listed = listing(table)
    assert [(item.split, item.name) for item in listed.items] == [
        ("train", "images/one0.jpg"),
        ("test", "images/one1.jpg"),
    ]
    assert listed.kind == "table"
    assert listed.names == ["a", "b"]
    table = tmp_path / "pairs.tsv"
    table.write_text("mask\timage\nmasks/one0.png\timages/one0.jpg\n")
    assert [item.split for item in listing(table).items] == [""]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,label\na,b\n", "columns path, label.*image and mask are needed"),
        ("", "columns none"),
        ("image,mask,image\n", "once each"),
        ("image,mask\n", "holds no images"),
        ("image,mask\nimages/one0.jpg,\n", "row 1: the row has no mask"),
        ("image,mask\nimages/one0.jpg\n", "row 1 has 1 fields"),
        ("image,mask\nimages/one0.jpg,masks/none.png\n", "row 1: the mask masks/none.png is not there.*relative"),
        ("image,mask,split\nimages/one0.jpg,masks/one0.png,other\n", "row 1: unknown split 'other'"),
        ("image,mask\n" + 2 * "images/one0.jpg,masks/one0.png\n", "row 2: the image of row 1 again"),
        ('image,mask\n"images/one0.jpg,x\n', "no CSV"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, text: str, words: str) -> None:
    flat_folder(tmp_path, 1)
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        listing(tmp_path / "pairs.csv")


def test_images_and_masks_without_a_partner(tmp_path: Path) -> None:
    split_folder(tmp_path)
    (tmp_path / "train" / "masks" / "train3.png").unlink()
    with pytest.raises(UserError, match=r"1 image without a mask: train/images/train3\.jpg.*into train/masks/"):
        listing(tmp_path)
    (tmp_path / "train" / "images" / "train3.jpg").unlink()
    (tmp_path / "test" / "images" / "test0.jpg").unlink()
    with pytest.raises(UserError, match=r"1 mask without an image: test/masks/test0\.png.*into test/images/"):
        listing(tmp_path)


def test_layouts_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no"):
        listing(tmp_path / "none")
    with pytest.raises(UserError, match="no folders, so its images and masks can't be told apart.*train/images"):
        listing(tmp_path)
    for kind in ("images", "masks"):
        (tmp_path / "empty" / kind).mkdir(parents=True)
    with pytest.raises(UserError, match="holds no images with masks"):
        listing(tmp_path / "empty")
    split_folder(tmp_path / "one")
    (tmp_path / "one" / "train").rename(tmp_path / "one" / "val")
    with pytest.raises(UserError, match="no train/"):
        listing(tmp_path / "one")
    split_folder(tmp_path / "two")
    pair(tmp_path / "two" / "training", "x")
    with pytest.raises(UserError, match="two folders for one split"):
        listing(tmp_path / "two")
    split_folder(tmp_path / "three")
    (tmp_path / "three" / "train" / "gt").mkdir()
    with pytest.raises(UserError, match="can't be told apart"):
        listing(tmp_path / "three")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match="is no CSV or TSV"):
        listing(tmp_path / "notes.txt")


def test_names_that_are_refused(tmp_path: Path) -> None:
    split_folder(tmp_path / "a")
    (tmp_path / "a" / "test" / "images" / "test0.png").write_bytes(b"x")
    with pytest.raises(UserError, match="one name with two endings"):
        listing(tmp_path / "a")
    split_folder(tmp_path / "b")
    (tmp_path / "elsewhere.png").write_bytes(b"x")
    (tmp_path / "b" / "test" / "images" / "link.png").symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(UserError, match="a link out of the folder"):
        listing(tmp_path / "b")
    split_folder(tmp_path / "c")
    (Path(str(tmp_path / "c" / "test" / "images")) / "\udcff.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match="is not UTF-8"):
        listing(tmp_path / "c")


def test_a_layout_of_pairs_is_told_from_one_of_classes(tmp_path: Path) -> None:
    split_folder(tmp_path / "split")
    flat_folder(tmp_path / "flat", 2)
    for name in ("cat", "dog", "masks"):
        (tmp_path / "classes" / name).mkdir(parents=True)
    tables = {"pairs.csv": "Image,mask,split\n", "classes.csv": "path,label\n", "both.csv": "path,image,mask,label\n"}
    for name, header in tables.items():
        (tmp_path / name).write_text(header)
    pairs = ("split", "flat", "pairs.csv")
    found = {path.name for path in tmp_path.iterdir() if holds_pairs(path)}
    assert found == set(pairs)
    assert not holds_pairs(tmp_path / "absent")

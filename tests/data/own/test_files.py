"""Test the walk below a folder: links, hidden files, other programs' folders and the lab's own results."""

from pathlib import Path

import pytest

from bias_lab.data.own.files import first_image, is_image, is_results, is_text, left_out, walk


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def test_a_walk_finds_images_at_any_depth_in_order(tmp_path: Path) -> None:
    found = walk(touch(tmp_path, "b/2.png", "a.JPG", "b/c/1.webp", "notes.txt"), None)
    assert [Path(path).relative_to(tmp_path).as_posix() for path, _ in found.images] == [
        "a.JPG",
        "b/2.png",
        "b/c/1.webp",
    ]
    assert (found.folders, found.other) == ({"b", "b/c"}, 1)


def test_hidden_images_and_other_programs_folders_are_said(tmp_path: Path) -> None:
    touch(tmp_path, "1.png", "._1.png", ".cache/2.png", "__MACOSX/3.png", ".git/config")
    found = walk(tmp_path, None)
    assert len(found.images) == 1
    said = left_out(tmp_path, found)
    assert said[0].startswith("left out: 2 images whose name, or folder's name, begins with a dot (.")
    assert said[1] == "left out: __MACOSX/, which holds results or belongs to another program"


def test_links_are_followed_and_circles_end(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "a" / "round").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "more").symlink_to(tmp_path / "b")
    assert [(Path(path).name, linked) for path, linked in walk(tmp_path / "a", None).images] == [
        ("1.png", False),
        ("2.png", True),
    ]


def test_results_are_the_folder_that_was_given_or_look_like_it(tmp_path: Path) -> None:
    touch(tmp_path, "results/one/data/seen.parquet", "results/two/places.json", "data/1.png", "runs/1.png")
    (tmp_path / "results" / "two" / "runs").mkdir()
    assert is_results(tmp_path / "results" / "one", None)
    assert is_results(tmp_path / "results" / "two", None)
    assert not is_results(tmp_path, None)
    assert is_results(tmp_path, tmp_path)
    touch(tmp_path, "results/one/figures/1.png")
    assert [Path(path).parent.name for path, _ in walk(tmp_path, None).images] == ["data", "runs"]


def test_the_search_for_tables_ends_at_the_first_image(tmp_path: Path) -> None:
    touch(tmp_path, "data/train.parquet", "README.md")
    assert first_image(tmp_path, None) == (False, [tmp_path / "data" / "train.parquet"])
    touch(tmp_path, "cat/1.png")
    assert first_image(tmp_path, None) == (True, [])


@pytest.mark.parametrize(("name", "expected"), [("a.PNG", True), ("a.png.txt", False), (".png", False), ("png", False)])
def test_endings(name: str, expected: bool) -> None:
    assert is_image(name) is expected


def test_names_that_are_no_utf_8() -> None:
    assert is_text("caf\u00e9")
    assert not is_text("\udce7at")

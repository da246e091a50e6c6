"""Test that a user's mistake is one line, with the nearest match."""

import os
import pickle
from pathlib import Path

import pytest

from bias_lab import errors
from bias_lab.errors import UserError, plural, unknown


def test_one_line_with_what_allowed_and_remedy() -> None:
    error = UserError("size 5 is too small", "10 or more", "use --sizes 10")
    assert str(error) == "size 5 is too small; 10 or more; use --sizes 10"


def test_a_line_break_in_a_name_stays_in_the_line() -> None:
    assert "\n" not in str(UserError("folder 'a\nb' isn't there"))


def test_it_survives_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(UserError("a", "b", "c")))
    assert (error.what, error.allowed, error.remedy) == ("a", "b", "c")


def test_one_is_not_many() -> None:
    assert (plural(1, "image"), plural(0, "image"), plural(1200, "image")) == ("1 image", "0 images", "1,200 images")


def test_unknown_names_get_the_nearest_match_or_the_choices() -> None:
    assert "did you mean 'resnet_micro'?" in str(unknown("backbone", "resnet_mirco", ["resnet_micro", "vit_micro"]))
    far = str(unknown("backbone", "xyz", ["resnet_micro", "vit_micro"]))
    assert "choose from: resnet_micro, vit_micro" in far
    assert str(unknown("name", "xyz", [f"n{i}" for i in range(50)])).endswith("…")


def test_a_near_name_may_come_with_the_whole_list() -> None:
    error = unknown("experiment", "localty", ["locality", "tuning"], "give a path", list_all=True)
    assert (
        str(error)
        == "unknown experiment 'localty'; did you mean 'locality'? choose from: locality, tuning; give a path"
    )


def test_a_name_that_is_not_utf_8_is_shown_with_its_bytes_escaped() -> None:
    assert str(errors.UserError(f"class '{os.fsdecode(bytes([0xE7]) + b'at')}'")) == r"class '\xe7at'"
    assert errors.printable("\ud800") == r"\ud800"
    assert errors.printable("café") == "café"


def test_what_is_no_regular_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"")
    assert [errors.irregular(tmp_path / name) for name in ("pipe", "file", "nowhere", ".", "nul\0")] == [
        "a named pipe",
        "",
        "",
        "",
        "",
    ]
    with pytest.raises(errors.UserError, match=r"pipe is a named pipe; only regular files are read"):
        errors.check_regular(tmp_path / "pipe")
    with pytest.raises(errors.UserError, match="null is a device"):
        errors.check_regular("/dev/null")
    errors.check_regular(tmp_path / "file")

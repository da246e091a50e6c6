"""Test that experiment files are found by name and by path, listed and read."""

import os
from pathlib import Path

import pytest

from bias_lab.errors import UserError
from bias_lab.planning.experiment_files import find, listed, read, tuned

NAMES = ["imagenet_weights", "locality", "pretraining", "seed_claim", "segmentation", "small_data", "tuning"]
RUN = "from bias_lab.definition import Experiment, Run\nRUN = Run(dataset='d', backbone='b', size=1)\n"


@pytest.mark.parametrize("name", ["small_data", "small-data"])
def test_a_name_is_found_from_any_folder(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = find(name)
    assert (path.name, path.is_file(), path.parent == tuned().parent) == ("small_data.py", True, True)
    assert read(path, "smoke") == read(Path(name), "smoke")


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(RUN + "def experiment(profile):\n    return Experiment(question=profile, runs=(RUN,))\n")
    assert find(path) == path
    assert read(path, "any").question == "any"


@pytest.mark.parametrize(("name", "near"), [("smal_data", "did you mean 'small_data'\\? "), ("xyz", "")])
def test_a_mistyped_name_gets_the_nearest_and_the_list(name: str, near: str) -> None:
    with pytest.raises(UserError, match=f"unknown experiment '{name}'; {near}choose from: {', '.join(NAMES)}"):
        find(name)


def test_a_mistyped_path_without_neighbours_gets_the_packages_names(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown experiment file .*choose from: imagenet_weights, locality"):
        find(tmp_path / "nowhere" / "xyz.py")


def test_every_experiment_is_listed_with_its_question_and_its_profiles() -> None:
    rows = listed()
    assert [name for name, _, _ in rows] == NAMES
    assert all("?" in about and {"smoke", "laptop", "full"} <= set(profiles) for _, about, profiles in rows)


def test_the_tuning_table_is_the_packages() -> None:
    assert tuned().name == "tuned.json"
    assert tuned().is_file()


def test_an_older_file_with_a_table_of_profiles_is_read(tmp_path: Path) -> None:
    path = tmp_path / "old.py"
    look_up = "def experiment(profile):\n    return Experiment(question=SCALE[profile]['q'], runs=(RUN,))\n"
    path.write_text(RUN + "SCALE = {'laptop': dict(q='?')}\n" + look_up)
    assert read(path, "laptop").question == "?"
    with pytest.raises(UserError, match="unknown profile 'labtop'; did you mean 'laptop'"):
        read(path, "labtop")


def test_a_file_may_define_dataclasses_and_use_its_own_names_later(tmp_path: Path) -> None:
    path = tmp_path / "typed.py"
    path.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n" + RUN
        + "@dataclass(frozen=True, slots=True)\nclass Scale:\n    runs: tuple[Run, ...]\n"
        "def experiment(profile):\n    return Experiment(question=__name__, runs=Scale((RUN,)).runs)\n"
    )  # fmt: skip
    assert len(read(path, "laptop").runs) == 1


def test_an_experiment_file_that_is_not_one(tmp_path: Path) -> None:
    ours = find("small_data").parent
    with pytest.raises(UserError, match="did you mean '.*small_data.py'"):
        read(ours / "smal_data.py", "laptop")
    with pytest.raises(UserError, match="did you mean 'laptop'"):
        read(ours / "small_data.py", "labtop")
    empty = tmp_path / "empty.py"
    empty.write_text("x = 1\n")
    with pytest.raises(UserError, match="defines no experiment"):
        read(empty, "laptop")
    empty.write_text("def experiment(profile):\n    return 3\n")
    with pytest.raises(UserError, match="returned int"):
        read(empty, "laptop")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\ndef experiment(profile:\n", "line 2: '.' was never closed"),
        ("x = 1\ny = nothing\n", "line 2: NameError: name 'nothing' is not defined"),
        ("def experiment(profile):\n    return {}[profile]\n", "line 2: KeyError: 'laptop'"),
        ("import no_such_thing\n", "line 1: ModuleNotFoundError: No module named 'no_such_thing'"),
        (
            "from bias_lab.definition import Run, grid\ngrid(Run(dataset='a', backbone='b', size=1), szie=(1,))\n",
            "szie",
        ),
    ],
)
def test_a_mistake_in_an_experiment_file_is_one_line_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as raised:
        read(path, "laptop")
    assert "\n" not in str(raised.value)


def test_a_mistake_in_a_module_that_it_imports_is_reported_with_that_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_broken_models.py").write_text("x = 1\ny = (\n")
    (tmp_path / "mine.py").write_text("\n\n\nimport my_broken_models\n")
    with pytest.raises(UserError, match="my_broken_models.py, line 2: '.' was never closed"):
        read(tmp_path / "mine.py", "laptop")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"raise SystemExit(3)", "line 1: SystemExit: 3"),
        (b"def experiment(profile):\n    exit()", "line 2: SystemExit"),
        (b"a = 1\0", "null bytes"),
        (b"a = '\xff'", "codec can't decode"),
        (b"def experiment(profile):\n    return experiment(profile)", "line 2: RecursionError"),
    ],
)
def test_a_file_that_ends_the_program_or_is_no_text_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "odd.py").write_bytes(content)
    with pytest.raises(UserError, match=message) as raised:
        read(tmp_path / "odd.py", "laptop")
    assert "line None" not in str(raised.value)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    with pytest.raises(UserError, match=r"pipe\.py is a named pipe"):
        find(tmp_path / "pipe.py")

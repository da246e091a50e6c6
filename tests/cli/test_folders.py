"""Nothing is written before the arguments are valid, and profiles are not mixed in one folder."""

import os
from pathlib import Path

import pytest

from bias_lab import ledger
from bias_lab.cli import folders
from bias_lab.errors import UserError
from tests.cli.commands import Call


def everything() -> set[str]:
    return {str(path) for path in Path().rglob("*")}


@pytest.mark.parametrize(
    "words",
    [
        "sweep labls",
        "sweep STUDY --profile labtop",
        "sweep STUDY --sizes 20000",
        "sweep STUDY --set mixpu=0.2",
        "sweep STUDY --backbone refused_net --no-tune",  # found by the preflight
        "sweep STUDY --data photos --profile smoke --sizes 20,2000",
        "sweep STUDY --data photos --profile smoke --sizes 20 --backbone refused_net --no-tune",
        "sweep STUDY --data nowhere --out a/b/c",
        "train --size 100 --backbone refused_net --no-tune",
        "train --size 100 --regime maee --out a/b/c",
        "train --size 100 --weights nowhere.pth",
        "train --like 0123",
    ],
)
def test_a_mistake_leaves_no_file_and_no_folder(run: Call, study: Path, photos: Path, words: str) -> None:
    before = everything()
    code, _, err = run(*words.replace("STUDY", str(study)).split())
    assert (code, err.count("\n")) == (2, 1)
    assert everything() == before


def test_a_mistyped_experiment_lists_what_there_is(run: Call) -> None:
    _, _, err = run("sweep", "smal_data")
    assert "did you mean 'small_data'?" in err
    assert all(name in err for name in ("locality", "pretraining", "seed_claim", "tuning"))


def test_a_folder_that_was_there_before_keeps_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "note.txt").write_text("mine")
    with pytest.raises(UserError), folders.claimed(tmp_path / "out"):
        raise UserError("planted")
    assert (tmp_path / "out" / "note.txt").read_text() == "mine"


def test_a_file_that_the_error_names_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UserError), folders.claimed(out):
        (out / "data").mkdir()
        for name in ("bad.txt", "seen.parquet"):
            (out / "data" / name).write_text("x")
        raise UserError(f"all are listed in {out / 'data' / 'bad.txt'}")
    assert [path.name for path in out.rglob("*") if path.is_file() and path.name != ledger.LOCK] == ["bad.txt"]


def test_what_runs_left_stays_after_any_error(tmp_path: Path) -> None:
    with pytest.raises(UserError), folders.claimed(tmp_path / "out"):
        (tmp_path / "out" / "runs" / "abc").mkdir(parents=True)
        raise UserError("planted")
    assert (tmp_path / "out" / "runs" / "abc").is_dir()


def test_profiles_are_not_mixed_in_one_folder(run: Call, study: Path) -> None:
    assert run("sweep", study, "--profile", "smoke", "--out", "out")[0] == 0
    planned = (Path("out") / ledger.EXPERIMENT).read_bytes()
    for more in ((), ("--dry-run",)):
        code, _, err = run("sweep", study, "--out", "out", *more)
        assert (code, err.count("\n")) == (2, 1)
        assert "out holds the profile 'smoke', and one report can't mix it with 'laptop'" in err
        assert "give another --out, or --profile smoke to continue that one" in err
    assert (Path("out") / ledger.EXPERIMENT).read_bytes() == planned
    assert run("sweep", study, "--profile", "smoke", "--out", "out", "--draws", 0)[0] == 0


def test_a_single_run_and_a_sweep_are_not_mixed_in_one_folder(run: Call, study: Path) -> None:
    assert run("sweep", study, "--profile", "smoke", "--out", "swept")[0] == 0
    single = ("train", "--size", 20, "--set", "learning_rate=0.001", "--wandb", "off")
    assert run(*single, "--out", "single")[0] == 0
    assert run(*single, "--out", "single", "--seed", 1)[0] == 0, "single runs share a folder"
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    code, _, err = run(*single, "--out", "swept")
    assert (code, err.count("\n")) == (2, 1)
    assert "swept holds a sweep of the profile 'smoke', and one report can't mix it with single runs" in err
    assert "give another --out" in err
    code, _, err = run("sweep", study, "--profile", "smoke", "--out", "single")
    assert (code, err.count("\n")) == (2, 1)
    assert "single holds single runs of bias-lab train" in err
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(run: Call, study: Path) -> None:
    Path("locked").mkdir(mode=0o555)
    assert "locked/out can't be a sweep's folder" in run("sweep", study, "--out", "locked/out")[2]

"""The main job end to end through the command line, smoke profile: what a newcomer's first command leaves."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from bias_lab import ledger
from bias_lab.cli.main import main
from bias_lab.execution import local

ROOT = Path(__file__).parent.parent
SWEEP = ["sweep", "experiments/small_data.py", "--profile", "smoke"]
OWN = "my_models:conv_stem_vit"
SAMPLE = ROOT.parent / "shared" / "data" / "cifar10" / "sample200"
BIAS_LAB = str(Path(sys.executable).with_name("bias-lab"))


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> tuple[Path, str]:
    """The smoke sweep: its folder, what it printed."""
    folder = tmp_path_factory.mktemp("smoke") / "out"
    done = subprocess.run(
        [BIAS_LAB, *SWEEP, "--out", str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_it_leaves_the_table_the_report_and_the_runs(swept) -> None:
    folder, said = swept
    table = pd.read_parquet(folder / ledger.TABLE)
    planned = json.loads((folder / ledger.EXPERIMENT).read_text())["runs"]
    assert set(table["run_id"]) == {row["run_id"] for row in planned}
    assert (table["status"] == "finished").all()
    assert set(ledger.COLUMNS) <= set(table.columns)
    assert table["experiment"].unique().tolist() == ["small_data"]
    page = (folder / ledger.REPORT).read_text()
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "report.html" in said
    assert "N = 20" in said or " 20 " in said


def test_all_seven_architectures_two_regimes_and_the_checks_are_in_it(swept) -> None:
    table = pd.read_parquet(swept[0] / ledger.TABLE)
    rows = table[table["task"] == "classify"]
    assert rows["architecture"].nunique() == 7
    assert set(rows["regime"]) == {"scratch", "mae"}
    assert set(rows["recipe"]) == {"plain", "strong"}
    assert set(rows["budget"]) == {1.0, 3.0}
    assert (table["task"] == "pretrain").sum() == 1


def test_parameters_lie_within_twice_of_one_another(swept) -> None:
    table = pd.read_parquet(swept[0] / ledger.TABLE)
    sizes = table.loc[table["task"] == "classify"].groupby("backbone")["parameters"].first()
    assert sizes.max() <= 2 * sizes.min()


def test_replicates_share_their_images_and_subsets_are_nested(swept) -> None:
    folder = swept[0]
    hashes: dict[tuple[int, int], set[str]] = {}
    for path in (folder / "runs").glob("*/result.json"):
        result = json.loads(path.read_text())
        run = result["run"]
        if run.get("task", "classify") == "classify":
            hashes.setdefault((run["size"], run.get("draw", 0)), set()).add(result["facts"]["subset_hash"])
    assert {key: len(found) for key, found in hashes.items()} == dict.fromkeys(hashes, 1)


def test_learning_rates_are_the_tuned_ones(swept) -> None:
    tuned = json.loads((ROOT / "experiments" / "tuned.json").read_text())["rows"]
    table = pd.read_parquet(swept[0] / ledger.TABLE)
    plain = table[(table["task"] == "classify") & (table["recipe"] == "plain")]
    for (backbone, regime), part in plain.groupby(["backbone", "regime"]):
        smallest = min(
            (row for row in tuned if (row["backbone"], row["regime"], row["recipe"]) == (backbone, regime, "plain")),
            key=lambda row: row["size"],
        )
        assert part["learning_rate"].unique().tolist() == [smallest["learning_rate"]]


def test_a_second_call_repeats_nothing(swept, capsys, monkeypatch) -> None:
    folder = swept[0]
    monkeypatch.chdir(ROOT)
    before = {path: path.stat().st_mtime_ns for path in (folder / "runs").glob("*/*")}
    monkeypatch.setattr(local.Local, "__init__", lambda *given: pytest.fail("workers were started for nothing"))
    assert main([*SWEEP, "--out", str(folder)]) == 0
    assert {path: path.stat().st_mtime_ns for path in (folder / "runs").glob("*/*")} == before


def test_wandb_runs_are_offline_and_one_a_run(swept) -> None:
    folder = swept[0]
    runs = [path.name for path in (folder / "wandb").iterdir() if path.name.startswith("offline-run-")]
    assert len(runs) == len(list((folder / "runs").glob("*/result.json")))


# --- the README's own backbone ---------------------------------------------------------------------------------------


@pytest.fixture
def joined(swept, tmp_path: Path, monkeypatch) -> tuple[Path, list[str]]:
    """A copy of the finished sweep, and the README's words that join the backbone written beside it."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = next(code for code in re.findall(r"```python\n(.*?)```", readme, re.S) if "conv_stem_vit" in code)
    (tmp_path / "my_models.py").write_text(block)
    typed = re.search(r"--backbone ([\w.:]+)", readme)
    assert typed is not None
    assert typed.group(1) == OWN
    shutil.copytree(swept[0], tmp_path / "out")
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "out", [*SWEEP, "--out", "out", "--no-wandb", "--backbone", OWN]


@pytest.mark.slow
def test_the_readmes_backbone_joins_the_sweep_and_leaves_finished_runs_alone(joined) -> None:
    folder, words = joined
    before = {path: path.stat().st_mtime_ns for path in (folder / "runs").glob("*/result.json")}
    assert main([*words, "--no-tune", "--sizes", "20", "--workers", "1"]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before, "finished runs are untouched"
    table = pd.read_parquet(folder / ledger.TABLE)
    mine = table[table["backbone"] == OWN]
    assert set(mine["family"]) == {"other"}
    assert set(mine["regime"]) == {"scratch"}
    sweep = table[(table["backbone"] == "vit_micro") & (table["regime"] == "scratch") & (table["size"] == 20)]
    cells = ["size", "recipe", "budget", "draw", "seed"]
    assert sorted(map(tuple, mine[cells].to_numpy())) == sorted(map(tuple, sweep[cells].to_numpy()))
    assert (mine["status"] == "finished").all()
    assert {path.parent.name for path in before} <= set(table["run_id"])


@pytest.mark.slow
def test_an_own_backbone_is_tuned_first_like_the_others(joined) -> None:
    folder, words = joined
    done = subprocess.run([BIAS_LAB, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads((folder / ledger.TUNED).read_text())["rows"]
    mine = [row for row in rows if row["backbone"] == OWN]
    assert "plain" in {row["recipe"] for row in mine}
    grid = json.loads((ROOT / "experiments" / "tuned.json").read_text())["rows"][0]["trials"]
    for row in mine:
        assert [t["learning_rate"] for t in row["trials"]] == [t["learning_rate"] for t in grid]
        best = max(row["trials"], key=lambda trial: trial["top1"])
        assert row["learning_rate"] == best["learning_rate"]


# --- the user's own folder -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not SAMPLE.is_dir(), reason=f"{SAMPLE} is not at hand")
def test_the_same_study_on_a_folder_of_real_photographs(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    command = [BIAS_LAB, *SWEEP, "--data", str(SAMPLE), "--image-size", "32", "--sizes", "20", "--out", str(folder)]
    done = subprocess.run([*command, "--no-wandb"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    table = pd.read_parquet(folder / ledger.TABLE)
    rows = table[table["task"] == "classify"]
    assert (table["status"] == "finished").all()
    assert rows["architecture"].nunique() == 7
    assert {"scratch", "mae"} == set(rows["regime"])
    assert rows[["classes", "test_images", "image_size"]].drop_duplicates().to_numpy().tolist() == [[10, 50, 32]]
    assert rows["dataset"].str.startswith("folder:").all()
    assert "<svg" in (folder / ledger.REPORT).read_text()


# --- twice the same, and killed --------------------------------------------------------------------------------------


def identical(one: Path, other: Path) -> int:
    """How many runs the two folders share; each must be the same bytes."""
    shared = [path for path in (one / "runs").glob("*/result.json") if (other / "runs" / path.parent.name).is_dir()]
    for path in shared:
        there = other / "runs" / path.parent.name
        mine, theirs = json.loads(path.read_text()), json.loads((there / "result.json").read_text())
        assert json.dumps(mine["metrics"]) == json.dumps(theirs["metrics"]), path.parent.name
        for name in (ledger.WEIGHTS, ledger.METRICS, ledger.PREDICTIONS):
            if (path.parent / name).exists():
                assert (path.parent / name).read_bytes() == (there / name).read_bytes(), f"{path.parent.name}/{name}"
    return len(shared)


@pytest.mark.slow
def test_twice_in_two_folders_and_with_one_worker_the_bytes_are_the_same(swept, tmp_path: Path) -> None:
    """All architectures, both regimes and both budgets: the smaller of the two sizes is enough."""
    again = tmp_path / "again"
    command = [BIAS_LAB, *SWEEP, "--sizes", "20", "--out", str(again), "--no-wandb", "--workers", "1"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    table = pd.read_parquet(again / ledger.TABLE)
    assert table["architecture"].nunique() == 7
    assert {"scratch", "mae"} <= set(table["regime"])
    strong = int((table["recipe"] == "strong").sum())  # goes with a sweep's largest size, here another
    assert identical(swept[0], again) == len(table) - strong >= 11


@pytest.mark.slow
def test_a_kill_of_the_whole_group_costs_nothing_that_was_finished(swept, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    command = [BIAS_LAB, *SWEEP, "--out", str(folder), "--no-wandb", "--sizes", "20"]

    def finished() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (folder / "runs").glob("*/result.json")}

    for count in (3, 6):  # of its 12 or so; a sweep that ended before it was killed is a failure of its own
        process = subprocess.Popen(
            command, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while len(finished()) < count:
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    before = finished()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    after = finished()
    assert len(after) > len(before) >= 6
    assert {path: after[path] for path in before} == before
    assert identical(swept[0], folder) >= 10

"""The main study end to end through the command line, in the smoke profile: what a user's first command leaves."""

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

from bias_lab import ledger, schema
from bias_lab.cli.main import main
from bias_lab.definition import LADDER
from bias_lab.execution import local

ROOT = Path(__file__).parent.parent
SWEEP = ["sweep", "experiments/small_data.py", "--profile", "smoke"]
OWN = "my_models:conv_stem_vit"
SAMPLE = ROOT.parent / "shared" / "data" / "cifar10" / "sample200"
BIAS_LAB = str(Path(sys.executable).with_name("bias-lab"))


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> tuple[Path, str]:
    """Run the smoke sweep once, and return its folder and what it printed."""
    folder = tmp_path_factory.mktemp("smoke") / "out"
    done = subprocess.run(
        [BIAS_LAB, *SWEEP, "--out", str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_a_sweep_leaves_the_table_the_report_and_the_runs(swept) -> None:
    folder, printed = swept
    table = pd.read_parquet(folder / ledger.TABLE)
    planned = json.loads((folder / ledger.EXPERIMENT).read_text())["runs"]
    assert set(table["run_id"]) == {row["run_id"] for row in planned}
    assert (table["status"] == "finished").all()
    assert set(schema.COLUMNS) <= set(table.columns)
    assert table["experiment"].unique().tolist() == ["small_data"]
    page = (folder / ledger.REPORT).read_text()
    assert "<svg" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "report.html" in printed
    assert "N = 20" in printed or " 20 " in printed


def test_it_has_seven_architectures_two_regimes_and_controls(swept) -> None:
    table = pd.read_parquet(swept[0] / ledger.TABLE)
    rows = table[table["task"] == "classify"]
    assert rows.loc[rows["protocol"] == "finetune", "architecture"].nunique() == 7
    assert set(rows["regime"]) == {"scratch", "mae"}
    read_out = rows[rows["protocol"] != "finetune"]
    assert set(zip(read_out["backbone"], read_out["protocol"], strict=True)) == {
        ("pixels", "linear_probe"),
        ("pixels", "knn"),
        ("vit_micro", "linear_probe"),
        ("resnet_micro", "linear_probe"),
    }
    assert sorted(table.loc[table["task"] == "pretrain", "samples_seen"]) == [0, 256], "one of zero steps is a control"
    assert table.loc[table["task"] == "pretrain", "untrained"].any()


def test_the_largest_backbone_has_at_most_twice_the_parameters_of_the_smallest(swept) -> None:
    table = pd.read_parquet(swept[0] / ledger.TABLE)
    sizes = (
        table.loc[(table["task"] == "classify") & (table["backbone"] != "pixels")]
        .groupby("backbone")["parameters"]
        .first()
    )
    assert sizes.max() <= 2 * sizes.min()


def test_replicates_share_their_images_and_subsets_are_nested(swept) -> None:
    folder = swept[0]
    hashes: dict[tuple[int, int], set[str]] = {}
    for path in (folder / "runs").glob("*/result.json"):
        result = json.loads(path.read_text())
        run = result["run"]
        if run.get("task", "classify") == "classify":
            hashes.setdefault((run["size"], run.get("draw", 0)), set()).add(result["facts"]["subset_hash"])
    assert {key: len(different) for key, different in hashes.items()} == dict.fromkeys(hashes, 1)


def test_learning_rates_are_tuned(swept) -> None:
    tuned = json.loads((ROOT / "experiments" / "tuned.json").read_text())["rows"]
    table = pd.read_parquet(swept[0] / ledger.TABLE)
    plain = table[(table["task"] == "classify") & (table["protocol"] == "finetune")]
    for (backbone, regime), part in plain.groupby(["backbone", "regime"]):
        names = (part["dataset"].iloc[0], backbone, regime, "plain")
        rows = [row for row in tuned if (row["dataset"], row["backbone"], row["regime"], row["recipe"]) == names]
        smallest = min(rows, key=lambda row: row["size"])
        assert part["learning_rate"].unique().tolist() == [smallest["learning_rate"]]


def test_a_second_call_repeats_nothing(swept, capsys, monkeypatch) -> None:
    folder = swept[0]
    monkeypatch.chdir(ROOT)
    before = {path: path.stat().st_mtime_ns for path in (folder / "runs").glob("*/*")}
    monkeypatch.setattr(local.Local, "__init__", lambda *given: pytest.fail("the second call started workers"))
    assert main([*SWEEP, "--out", str(folder)]) == 0
    assert {path: path.stat().st_mtime_ns for path in (folder / "runs").glob("*/*")} == before


def test_there_is_one_offline_wandb_run_for_each_run(swept) -> None:
    folder = swept[0]
    runs = [path.name for path in (folder / "wandb").iterdir() if path.name.startswith("offline-run-")]
    assert len(runs) == len(list((folder / "runs").glob("*/result.json")))


# --- the backbone in docs/your_own_backbone.md ------------------------------------------------------------------------


@pytest.fixture
def joined(swept, tmp_path: Path, monkeypatch) -> tuple[Path, list[str]]:
    """Copy the finished sweep, write the documented backbone beside it, and return the copy and the command."""
    text = (ROOT / "docs" / "your_own_backbone.md").read_text(encoding="utf-8")
    block = next(code for code in re.findall(r"```python\n(.*?)```", text, re.S) if "conv_stem_vit" in code)
    (tmp_path / "my_models.py").write_text(block)
    typed = re.search(r"--backbone ([\w.:]+)", text)
    assert typed is not None
    assert typed.group(1) == OWN
    shutil.copytree(swept[0], tmp_path / "out")
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "out", [*SWEEP, "--out", "out", "--no-wandb", "--backbone", OWN]


@pytest.mark.slow
def test_the_documented_backbone_joins_the_sweep_and_finished_runs_stay(joined) -> None:
    folder, words = joined
    before = {path: path.stat().st_mtime_ns for path in (folder / "runs").glob("*/result.json")}
    assert main([*words, "--no-tune", "--sizes", "20", "--workers", "1"]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before, "finished runs were changed"
    table = pd.read_parquet(folder / ledger.TABLE)
    mine = table[table["backbone"] == OWN]
    assert set(mine["family"]) == {"other"}
    assert set(mine["regime"]) == {"scratch", "mae"}, "it is a vision transformer, so it can take MAE"
    mine = mine[mine["regime"] == "scratch"]
    sweep = table[(table["backbone"] == "vit_micro") & (table["regime"] == "scratch") & (table["size"] == 20)]
    cells = ["size", "protocol", "recipe", "budget", "draw", "seed"]
    assert sorted(map(tuple, mine[cells].to_numpy())) == sorted(map(tuple, sweep[cells].to_numpy()))
    assert (mine["status"] == "finished").all()
    assert {path.parent.name for path in before} <= set(table["run_id"])


@pytest.mark.slow
def test_an_own_backbone_is_tuned_on_the_same_grid_as_the_others(joined) -> None:
    folder, words = joined
    done = subprocess.run([BIAS_LAB, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads((folder / ledger.TUNED).read_text())["rows"]
    mine = [row for row in rows if row["backbone"] == OWN]
    assert "plain" in {row["recipe"] for row in mine}
    for row in mine:
        assert set(LADDER.rates) <= {t["learning_rate"] for t in row["trials"]}, "its ends may extend it"
        best = max(row["trials"], key=lambda trial: trial["top1"])
        assert row["learning_rate"] == best["learning_rate"]


# --- the user's own folder -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not SAMPLE.is_dir(), reason=f"{SAMPLE} is absent")
def test_the_same_study_on_a_folder_of_real_photographs(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    command = [BIAS_LAB, *SWEEP, "--data", str(SAMPLE), "--image-size", "32", "--sizes", "20", "--out", str(folder)]
    done = subprocess.run([*command, "--no-wandb"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    table = pd.read_parquet(folder / ledger.TABLE)
    rows = table[table["task"] == "classify"]
    assert (table["status"] == "finished").all()
    assert rows.loc[rows["protocol"] == "finetune", "architecture"].nunique() == 7
    assert {"scratch", "mae"} == set(rows["regime"])
    assert rows[["classes", "test_images", "image_size"]].drop_duplicates().to_numpy().tolist() == [[10, 50, 32]]
    assert rows["dataset"].str.startswith("folder:").all()
    assert "<svg" in (folder / ledger.REPORT).read_text()


# --- repeated and killed sweeps --------------------------------------------------------------------------------------


def identical(one: Path, other: Path) -> int:
    """Check that runs of both folders have the same bytes, and return their number."""
    both = [path for path in (one / "runs").glob("*/result.json") if (other / "runs" / path.parent.name).is_dir()]
    for path in both:
        there = other / "runs" / path.parent.name
        mine, theirs = json.loads(path.read_text()), json.loads((there / "result.json").read_text())
        assert json.dumps(mine["metrics"]) == json.dumps(theirs["metrics"]), path.parent.name
        for name in (ledger.WEIGHTS, ledger.METRICS, ledger.PREDICTIONS):
            if (path.parent / name).exists():
                assert (path.parent / name).read_bytes() == (there / name).read_bytes(), f"{path.parent.name}/{name}"
    return len(both)


# trained long enough that no cell is near chance on any CPU: the report claims nothing of a cell that is
NOISY = '''"""Does label noise change the shortfall?"""

from bias_lab.definition import Experiment, Run, grid

ONE = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=200, samples_seen=3200, learning_rate=1e-3)


def experiment(profile: str) -> Experiment:
    axes = dict(backbone=("vit_micro", "resnet_micro"), replicate=((0, 0), (1, 1), (2, 2)), label_noise=(0.0, 0.2))
    return Experiment(question="Does label noise change the shortfall?", runs=grid(ONE, **axes))
'''


@pytest.mark.slow
def test_a_sweep_over_any_field_reports_the_difference_with_an_interval(tmp_path: Path, capsys) -> None:
    (tmp_path / "noisy.py").write_text(NOISY)
    assert main(["sweep", str(tmp_path / "noisy.py"), "--no-wandb", "--out", str(tmp_path / "out")]) == 0
    assert "12 of 12 runs finished" in capsys.readouterr().out
    assert main(["report", str(tmp_path / "out"), "--format", "md"]) == 0
    text = (tmp_path / "out" / "report.md").read_text()
    assert "Does the shortfall depend on the label noise?" in text
    change = r"With label noise 0\.2, ResNet's lead .* points (larger|smaller) than with label noise 0"
    assert re.search(rf"{change}.* \(95 % CI −?[\d.]+ to −?[\d.]+\)", text)


@pytest.mark.slow
def test_a_second_sweep_with_one_worker_has_the_same_bytes(swept, tmp_path: Path) -> None:
    """The smaller of the two sizes has all architectures, both regimes and both budgets."""
    again = tmp_path / "again"
    command = [BIAS_LAB, *SWEEP, "--sizes", "20", "--out", str(again), "--no-wandb", "--workers", "1"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    table = pd.read_parquet(again / ledger.TABLE)
    assert table["architecture"].nunique() == 8, "seven backbones, and the linear classifier on pixels"
    assert {"scratch", "mae"} <= set(table["regime"])
    strong = int((table["recipe"] == "strong").sum())  # at the largest size of a sweep, which differs here
    assert identical(swept[0], again) == len(table) - strong >= 11


@pytest.mark.slow
def test_a_kill_of_the_process_group_loses_no_finished_run(swept, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    command = [BIAS_LAB, *SWEEP, "--out", str(folder), "--no-wandb", "--sizes", "20"]

    def finished() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (folder / "runs").glob("*/result.json")}

    for count in (3, 6):  # of about 12; the sweep must not end before the kill
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

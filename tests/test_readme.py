"""What README.md says: its numbers are the committed table's, and its example of an own backbone runs as it stands."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bias_lab import catalogue, ledger
from bias_lab.cli import main
from bias_lab.errors import UserError

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def numbers() -> Any:
    spec = importlib.util.spec_from_file_location("write_readme", ROOT / "docs" / "write_readme.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_numbers_are_those_of_the_committed_table() -> None:
    assert numbers().written(README) == README, "run: python docs/write_readme.py"


def test_a_changed_number_is_seen() -> None:
    found = re.search(r"\d+\.\d points", README)
    assert found is not None
    planted = README.replace(found.group(), "99.9 points", 1)
    assert numbers().written(planted) != planted


@pytest.mark.parametrize("name", ["backbones", "data"])
def test_every_measured_row_stands_in_its_table(name: str) -> None:
    """The lines between the marker comments against the file, read here by other means."""
    table = README.split(f"<!-- bench {name}: begin (docs/write_readme.py) -->")[1].split("<!-- bench ")[0]
    for row in json.loads((ROOT / "docs" / "results" / f"bench_{name}.json").read_text(encoding="utf-8")):
        if row["mode"] in ("train", "inference", "batch"):
            (line,) = [line for line in table.splitlines() if line.startswith(f"| {row['case']} |")]
            assert f"| {row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f}) |" in line
        assert row.get("machine", "") in table


def test_a_changed_measurement_is_seen() -> None:
    found = re.search(r"\| \d\.\d\d \(", README)
    assert found is not None
    planted = README.replace(found.group(), "| 9.99 (", 1)
    assert numbers().written(planted) != planted


def test_what_bf16_costs_is_said_with_what_the_processor_has() -> None:
    rows = [
        dict(reference="ours fp32", ratio=ratio, note="no unit of this CPU multiplies bf16: a cost here")
        for ratio in (0.4, 0.8)
    ]
    said = numbers().half(rows)
    assert said == (
        "bf16 autocast against our own fp32: 0.40 to 0.80 (no unit of this CPU multiplies bf16: a cost here)"
    )
    assert numbers().half([]) == ""


def test_the_two_commands_come_first() -> None:
    commands = [line.split("#")[0].strip() for line in re.findall(r"^make .*$", README, re.M)]
    assert commands[:2] == ["make sweep-small-data", "make test"]


def example(tmp_path: Path) -> str:
    """Write the README's backbone of one's own into a folder; returns its name as typed there."""
    block = next(code for code in re.findall(r"```python\n(.*?)```", README, re.S) if "conv_stem_vit" in code)
    (tmp_path / "my_models.py").write_text(block)
    typed = re.search(r"--backbone ([\w.:]+)", README)
    assert typed is not None
    return typed.group(1)


def fewer_backbones(tmp_path: Path) -> None:
    """The experiments, the main study without the backbones that stand at two sizes alone: they take longest."""
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    path = tmp_path / "experiments" / "small_data.py"
    text, changed = re.subn(r"^OTHERS = \(.*\)$", "OTHERS = ()", path.read_text(encoding="utf-8"), flags=re.M)
    assert changed == 1
    path.write_text(text, encoding="utf-8")


def test_the_example_of_an_own_backbone_joins_the_sweep(tmp_path: Path, monkeypatch) -> None:
    name = example(tmp_path)
    assert name == "my_models:conv_stem_vit"
    fewer_backbones(tmp_path)
    monkeypatch.chdir(tmp_path)
    command = ["sweep", "experiments/small_data.py", "--profile", "smoke", "--out", "out", "--no-wandb"]
    small = ["--sizes", "20", "--draws", "0", "--seeds", "0", "--workers", "1"]
    assert main([*command, *small]) == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").glob("*/result.json")}
    assert main([*command, *small, "--backbone", name, "--no-tune"]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before, "finished runs are untouched"
    table = pd.read_parquet(tmp_path / "out" / ledger.TABLE)
    mine = table[table["backbone"] == name]
    assert set(mine["family"]) == {"other"}
    assert set(mine["regime"]) == {"scratch"}
    assert sorted(zip(mine["recipe"], mine["budget"], strict=True)) == [("plain", 1), ("plain", 3), ("strong", 1)]
    assert (mine["status"] == "finished").all()
    assert set(table["backbone"]) > {name, "vit_micro", "resnet_micro"}


@pytest.mark.slow
def test_an_own_backbone_is_tuned_first_like_the_others(tmp_path: Path, monkeypatch) -> None:
    name = example(tmp_path)
    fewer_backbones(tmp_path)
    command = [
        str(Path(sys.executable).with_name("bias-lab")),
        "sweep",
        "experiments/small_data.py",
        "--profile",
        "smoke",
    ]
    options = ["--out", "out", "--no-wandb", "--sizes", "20", "--draws", "0", "--seeds", "0", "--backbone", name]
    done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out" / ledger.TUNED).read_text())["rows"]
    mine = [row for row in rows if row["backbone"] == name]
    assert "plain" in {row["recipe"] for row in mine}
    grid = json.loads((ROOT / "experiments" / "tuned.json").read_text())["rows"][0]["trials"]
    for row in mine:
        assert [t["learning_rate"] for t in row["trials"]] == [t["learning_rate"] for t in grid]
        best = max(row["trials"], key=lambda trial: trial["top1"])
        assert row["learning_rate"] == best["learning_rate"]


def test_the_matrix_says_what_planning_does() -> None:
    table = README.split("<!-- matrix: begin (docs/write_readme.py) -->")[1].split("<!-- matrix: end -->")[0]
    head, _, *lines = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")]
    micro = {row.architecture: name for name, row in catalogue.BACKBONES.items() if name.endswith("_micro")}
    said = {(line[0].strip("`"), head[k]): line[k] for line in lines for k in range(1, 1 + len(micro))}
    assert set(said) == {(regime, architecture) for regime in catalogue.REGIMES for architecture in micro}
    for (regime, architecture), word in said.items():
        try:
            catalogue.check_regime(micro[architecture], regime)
        except UserError:
            assert word == "–"
        else:
            assert word == "yes"

"""What README.md says: its numbers are the committed table's, its matrix planning's. Its backbone: test_main_job.py."""

import importlib.util
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from scipy import stats

from bias_lab import catalogue, ledger
from bias_lab.errors import UserError

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@cache
def numbers() -> Any:
    """The module that writes; each of its blocks is made once, since the tables lie still."""
    spec = importlib.util.spec_from_file_location("write_readme", ROOT / "docs" / "write_readme.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.BLOCKS = {name: cache(block) for name, block in module.BLOCKS.items()}
    return module


MAIN = ("numbers", "matrix", "bench backbones", "bench data")  # the side studies take half a minute, in the slow tests


def test_numbers_are_those_of_the_committed_table() -> None:
    assert numbers().written(README, MAIN) == README, "run: python docs/write_readme.py"


@pytest.mark.slow
def test_numbers_of_every_study_are_those_of_its_committed_table() -> None:
    assert numbers().written(README) == README, "run: python docs/write_readme.py"
    planted = README.replace("by 23.9 points", "by 99.9 points", 1)
    assert numbers().written(planted) != planted


def test_a_changed_number_is_seen() -> None:
    found = re.search(r"\d+\.\d points", README)
    assert found is not None
    planted = README.replace(found.group(), "99.9 points", 1)
    assert numbers().written(planted, MAIN) != planted


def test_the_claim_holds_in_the_committed_table() -> None:
    """Bar 1: from scratch, plain ViT falls short of ResNet at the two smallest sizes, and of the CNNs' mean."""
    table = pd.read_parquet(ROOT / "docs" / "results" / ledger.TABLE)
    rows = table[(table["regime"] == "scratch") & (table["recipe"] == "plain") & (table["budget"] == 1)]
    rows = rows[rows["task"] == "classify"]
    top1 = rows.pivot_table(index=["size", "draw", "seed"], columns="backbone", values="top1", aggfunc="sum")
    for size in sorted(set(rows["size"]))[:2]:
        there = top1.loc[size]
        lead = there["resnet_micro"] - there["vit_micro"]
        assert len(lead) >= 3
        assert stats.ttest_1samp(lead, 0).confidence_interval(0.95).low > 0
        cnns = there[["resnet_micro", "efficientnet_micro", "mobilenetv3_micro"]].mean(axis=1)
        assert (cnns - there["vit_micro"]).mean() > 0


@pytest.mark.parametrize("name", ["backbones", "data"])
def test_every_measured_row_stands_in_its_table(name: str) -> None:
    """The lines between the marker comments against the file, read here by other means."""
    table = README.split(f"<!-- bench {name}: begin (docs/write_readme.py) -->")[1].split("<!-- bench ")[0]
    for row in json.loads((ROOT / "docs" / "results" / f"bench_{name}.json").read_text(encoding="utf-8")):
        if row["mode"] in ("train", "inference", "batch"):
            (line,) = [line for line in table.splitlines() if line.startswith(f"| {row['case']} |")]
            assert f"| {row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f}) |" in line
        if row["mode"] == "micro":
            (line,) = [line for line in table.splitlines() if line.startswith(f"| `{row['case'].split()[0]}` |")]
            assert f"| {row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f}) |" in line
            assert f" {row['parameters']:,} |" in line or "64px" in row["case"]
        assert row.get("machine", "") in table


def test_a_changed_measurement_is_seen() -> None:
    found = re.search(r"\| \d\.\d\d \(", README)
    assert found is not None
    planted = README.replace(found.group(), "| 9.99 (", 1)
    assert numbers().written(planted, MAIN) != planted


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


def test_the_matrix_says_what_planning_does() -> None:
    table = README.split("<!-- matrix: begin (docs/write_readme.py) -->")[1].split("<!-- matrix: end -->")[0]
    head, _, *lines = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")]
    listed = {name: row.architecture for name, row in catalogue.BACKBONES.items() if name.endswith("_micro")}
    micro = {kind: name for name, kind in listed.items() if kind in catalogue.FAMILIES}
    said = {(line[0].strip("`"), head[k]): line[k] for line in lines for k in range(1, 1 + len(micro))}
    assert set(said) == {(regime, architecture) for regime in catalogue.REGIMES for architecture in micro}
    for (regime, architecture), word in said.items():
        try:
            catalogue.check_regime(micro[architecture], regime)
        except UserError:
            assert word == "–"
        else:
            assert word == "yes"

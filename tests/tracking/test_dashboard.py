"""The dashboard's specification is held by a golden file, and wandb-workspaces can build it."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest

from bias_lab.definition import grid
from bias_lab.errors import UserError
from bias_lab.report.wandb_summary import DEFAULT, study_of_folder
from bias_lab.tracking import dashboard
from tests.planted import Run, write_plan, write_run

GOLDEN = Path(__file__).with_name("dashboard.json")


def test_the_default_study_s_dashboard_is_the_golden_one() -> None:
    """After an intended change, write `dashboard.specify(DEFAULT)` to tests/tracking/dashboard.json."""
    assert dashboard.specify(DEFAULT) == json.loads(GOLDEN.read_text())


def test_a_folder_s_dashboard_names_its_own_lines(tmp_path: Path) -> None:
    one = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100)
    runs = grid(one, backbone=("vit_micro", "resnet_micro", "my.nets:stem"), draw=(0, 1))
    write_plan(tmp_path, runs)
    for run in runs:
        write_run(tmp_path, run)
    spec = dashboard.specify(study_of_folder(tmp_path))
    lines = next(part for part in spec["workspace"]["sections"] if part["name"].startswith("Accuracy"))["panels"][0][
        "y"
    ]
    assert "accuracy/my.nets:stem scratch" in lines
    assert spec["report"]["title"] == "small_data: How far does a plain ViT fall short of CNNs when labels are few?"
    assert len(spec["report"]["paragraphs"]) == 3


@pytest.mark.skipif(importlib.util.find_spec("wandb_workspaces") is None, reason="wandb-workspaces is not installed")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_panels_of_a_segmentation_show_its_own_metric() -> None:
    rows = ({"size": 30, "shortfall/scratch": 0.1, "miou/vit_micro scratch": 0.4},)
    spec = dashboard.specify(replace(DEFAULT, task="segment", rows=rows, is_monitored=True))
    keys = dashboard.references(spec)
    assert {"summary:miou", "summary:train_miou", "holdout/miou", "miou/vit_micro scratch"} <= keys
    assert not [key for key in keys if "top1" in key]
    titles = [panel["title"] for part in spec["workspace"]["sections"] for panel in part["panels"]]
    assert "test mIoU of every run" in titles
    assert not [title for title in titles if "accuracy" in title]


def test_it_can_be_built() -> None:
    spec = dashboard.specify(DEFAULT)
    workspace, report = dashboard.build(spec, "someone")
    assert [part.name for part in workspace.sections] == [part["name"] for part in spec["workspace"]["sections"]]
    assert sum(len(part.panels) for part in workspace.sections) == sum(
        len(part["panels"]) for part in spec["workspace"]["sections"]
    )
    assert report.title == spec["report"]["title"]


def test_without_wandb_workspaces_there_is_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "wandb_workspaces.reports.v2", None)
    with pytest.raises(UserError, match=r"pip install 'bias_lab\[dashboards\]'"):
        dashboard.build(dashboard.specify(DEFAULT), "someone")

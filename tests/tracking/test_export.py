"""Exports to W&B without the service: the offline files are read back, and everything that should be there is."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest

from bias_lab import ledger, results, schema
from bias_lab.definition import Run, grid, run_id
from bias_lab.errors import UserError
from bias_lab.report.wandb_summary import study_of, study_of_folder
from bias_lab.tracking import export, mapping
from bias_lab.tracking.dashboard import references, specify
from bias_lab.tracking.mapping import Study
from tests.planted import write_failure, write_plan, write_run
from tests.tracking import offline

ONE = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100, learning_rate=0.001)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small sweep, exported twice."""
    folder = tmp_path_factory.mktemp("sweep")
    runs = grid(ONE, backbone=("vit_micro", "resnet_micro"), draw=(0, 1))
    lost = Run(dataset="fashion_mnist_12k", backbone="resnet_micro", size=300)
    write_plan(folder, [*runs, lost])
    for run in runs:
        name = write_run(folder, run, 0.5 if run.backbone == "vit_micro" else 0.75 + 0.05 * run.draw)
        rows = [{"step": k, "train/loss": 2.0 / (k + 1), "lr": 0.001} for k in (10, 20, 30)]
        text = "".join(json.dumps(row) + "\n" for row in rows) + '{"step": 40, "tr'
        (ledger.run_folder(folder, name) / ledger.METRICS).write_text(text)
    from PIL import Image

    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(ledger.run_folder(folder, run_id(ONE)) / "reconstruction.png")
    write_failure(folder, lost)
    assert len(export.sync(folder, study_of)) == 6
    assert export.sync(folder, study_of) == []
    return folder


def test_one_run_each_whatever_the_number_of_exports(exported: Path) -> None:
    found = offline.runs(exported)
    assert set(found) == {*results.read(exported).table["run_id"], "small_data-laptop-report"}
    assert all(len(each) == 1 for each in found.values())


def test_config_summary_curves_tables_and_pictures_are_there(exported: Path) -> None:
    run = offline.runs(exported)[run_id(ONE)][0]
    assert (run.project, run.group, run.job_type, run.exit_code) == ("bias_lab", "small_data", "finetune", 0)
    told = run.config
    assert (told["backbone"], told["family"], told["size"], told["regime"]) == (
        "vit_micro",
        "transformer",
        100,
        "scratch",
    )
    assert told["learning_rate"] == 0.001
    losses = [row["train/loss"] for row in run.history if "train/loss" in row]
    assert losses == pytest.approx([2 / 11, 2 / 21, 2 / 31])
    assert run.summary["top1"] == 0.5
    right = np.unpackbits(np.frombuffer(base64.b64decode(run.summary["correct"]), np.uint8), count=20)
    assert right.mean() == 0.5
    assert {"per_class", "pictures/reconstruction"} <= run.keys
    picture = next(row["pictures/reconstruction"] for row in run.history if "pictures/reconstruction" in row)
    assert picture["_type"] == "image-file"
    assert list(exported.glob("wandb/offline-run-*/files/" + picture["path"]))


def test_every_column_of_config_and_summary_is_found(exported: Path) -> None:
    run = offline.runs(exported)[run_id(ONE)][0]
    row = results.read(exported).table.set_index("run_id", drop=False).loc[run_id(ONE)].to_dict()
    assert set(mapping.config_of(row)) <= set(run.config)
    assert set(mapping.summary_of(row)) | {"correct"} <= set(run.summary)
    assert set(schema.REQUIRED) - {"top1", "correct"} <= {*run.config, *run.summary}


def test_a_failed_run_says_why_and_ends_as_failed(exported: Path) -> None:
    failed = next(each[0] for each in offline.runs(exported).values() if each[0].summary.get("status") == "failed")
    assert failed.summary["reason"] == "diverged: the loss is nan at step 12"
    assert failed.exit_code == 1


def test_the_experiment_s_statistics_have_a_run_of_their_own(exported: Path) -> None:
    report = offline.runs(exported)["small_data-laptop-report"][0]
    assert report.job_type == "report"
    gap = next(row for row in report.history if "shortfall/scratch" in row)
    assert (gap["size"], gap["shortfall/scratch"]) == (100, pytest.approx(0.275))
    assert {
        "shortfall/scratch low",
        "accuracy/vit_micro scratch",
        "figures/accuracy",
        "figures/shortfall",
        "table",
    } <= report.keys
    assert report.summary["verdict"] in ("none", "shortfall")


def test_dashboards_refer_only_to_keys_that_are_logged(exported: Path) -> None:
    found = [each[0] for each in offline.runs(exported).values()]
    logged = {key for run in found for key in run.keys}
    logged |= {f"config:{key}" for run in found for key in run.config}
    logged |= {f"summary:{key}" for run in found for key in run.summary}
    assert references(specify(study_of_folder(exported))) <= logged | {"size"}
    assert "size" in {key for run in found for key in run.keys}


def test_a_changed_run_is_written_again(tmp_path: Path) -> None:
    """Alone, and with it the experiment's run; the caller's statistics are computed only if something changed."""
    folder = tmp_path / "sweep"
    calls: list[int] = []

    def study(found: results.Results) -> Study:
        calls.append(len(found.table))
        return Study(name="small_data", question="Why?")

    write_run(folder, ONE, 0.5)
    other = write_run(folder, Run(dataset="fashion_mnist_12k", backbone="resnet_micro", size=100), 0.5)
    assert len(export.sync(folder, study)) == 3
    write_run(folder, Run(dataset="fashion_mnist_12k", backbone="resnet_micro", size=100), 0.75)
    assert export.sync(folder, study) == [other, "sweep-runs-report"]
    assert export.sync(folder, study) == []
    assert calls == [2, 2]
    assert len(export.copies(folder, other)) == 1  # the older copy is gone
    earlier = folder / "wandb" / f"offline-run-20260101_000000-{other}-1"
    earlier.mkdir()
    assert len(export.copies(folder, other)) == 2, "wandb numbers copies of one second"


def test_what_can_t_be_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no finished or failed run"):
        export.sync(tmp_path, study_of)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    write_run(tmp_path, ONE)
    with pytest.raises(UserError, match="wandb login, or export offline"):
        export.sync(tmp_path, study_of, online=True)

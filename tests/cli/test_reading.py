"""The commands that read a folder."""

import json
from pathlib import Path

import pytest

from bias_lab import ledger
from tests.cli.commands import EXPERIMENT, Call


def test_tuned_writes_what_the_trials_chose(run: Call, study: Path) -> None:
    study.write_text(EXPERIMENT.replace('"smoke": dict(', '"smoke": dict(task=("tune",), learning_rate=(1e-3, 3e-3), '))
    assert run("sweep", study, "--profile", "smoke")[0] == 0
    code, out, _ = run("tuned", "results/labels-smoke", "--out", "chosen.json")
    assert (code, out) == (0, "2 learning rates in chosen.json\n")
    assert {row["learning_rate"] for row in ledger.read_json(Path("chosen.json"))["rows"]} == {1e-3}


def test_tuned_leaves_out_cells_whose_learning_rates_are_not_all_tried(run: Call, study: Path) -> None:
    study.write_text(EXPERIMENT.replace('"smoke": dict(', '"smoke": dict(task=("tune",), learning_rate=(1e-3, 3e-3), '))
    assert run("sweep", study, "--profile", "smoke")[0] == 0
    trials = {path.parent: ledger.read_json(path) for path in Path("results/labels-smoke/runs").glob("*/run.json")}
    left = [place for place, trial in trials.items() if trial["backbone"] == "vit_micro"]
    (left[0] / ledger.RESULT).unlink()
    code, out, _ = run("tuned", "results/labels-smoke", "--out", "chosen.json")
    assert code == 0
    assert out.startswith("left out, as learning rates are still to be tried: vit_micro scratch at N = ")
    assert out.endswith("1 learning rate in chosen.json\n")
    assert [row["backbone"] for row in ledger.read_json(Path("chosen.json"))["rows"]] == ["resnet_micro"]
    for place in trials:
        (place / ledger.RESULT).unlink(missing_ok=True)
    code, _, err = run("tuned", "results/labels-smoke")
    assert (code, err.count("\n")) == (2, 1)
    assert "no search in results/labels-smoke has tried all its learning rates; go on with its sweep" in err


def test_the_dashboard_is_printed_and_not_saved_without_a_key(
    run: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code, out, _ = run("wandb-dashboard", "--dry-run", "--project", "mine")
    assert code == 0
    assert json.loads(out)["project"] == "mine"
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "absent"))
    monkeypatch.setenv("HOME", str(tmp_path))
    code, _, err = run("wandb-dashboard")
    assert (code, err.count("\n")) == (2, 1)
    assert "W&B is offline; add --wandb online, or --dry-run" in err
    code, _, err = run("wandb-dashboard", "--wandb", "online")
    assert (code, err.count("\n")) == (2, 1)
    assert "run wandb login, or add --dry-run" in err


def test_runs_are_listed_and_shown_by_words(run: Call, study: Path) -> None:
    run("sweep", study, "--profile", "smoke")
    code, out, _ = run("runs", "results/labels-smoke", "resnet_micro", "draw", 1)
    assert code == 0
    assert out.splitlines()[0] == "1 of 4 runs in results/labels-smoke"
    name = out.splitlines()[3].split()[0]
    assert out.splitlines()[-1] == "weights: results/labels-smoke/runs/ID/weights.safetensors"
    code, out, _ = run("show", "resnet_micro", "draw", 1)
    assert (code, out.split()[0]) == (0, name)
    assert f"results/labels-smoke/runs/{name}/weights.safetensors" in out
    code, _, err = run("show", "resnet_micro")
    assert (code, err.count("\n")) == (2, 1)
    assert "2 runs in results/*/ fit 'resnet_micro'" in err
    out = run("status", "results/labels-smoke")[1]
    assert name in out
    assert "weights: results/labels-smoke/runs/ID/weights.safetensors" in out
    assert run("runs", "results/labels-smoke", "nothing_like_it")[1] == "0 of 4 runs in results/labels-smoke\n"


def test_a_report_is_written_where_it_is_asked_for(run_with_report: Call, study: Path) -> None:
    run_with_report("sweep", study, "--profile", "smoke", "--sizes", 20, "--draws", 0)
    folder = "results/labels-smoke"
    assert run_with_report("report", folder, "--out", "mine/page.html")[1] == "mine/page.html\n"
    assert "Is the sweep sound?" in Path("mine/page.html").read_text()
    code, out, _ = run_with_report("report", folder, "--format", "md", "--out", "page.md")
    assert (code, out, Path("page.md").is_file()) == (0, "page.md\n", True)


def test_parts_of_a_study_have_one_report_where_it_is_asked_for(run_with_report: Call, study: Path) -> None:
    folders = [f"results/draw{draw}" for draw in (0, 1)]
    for draw, folder in enumerate(folders):
        run_with_report("sweep", study, "--profile", "smoke", "--sizes", 20, "--draws", draw, "--out", folder)
    before = Path(folders[0], "report.html").read_bytes()
    code, out, err = run_with_report("report", *folders)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "say where it goes: --out FILE" in err
    for words in (["results/nowhere", "--out", "both.md"], ["results/nowhere"]):
        code, _, err = run_with_report("report", folders[0], *words)
        assert (code, err) == (2, "error: there is no folder results/nowhere; give the --out of a sweep\n")
    assert not Path("both.md").exists()
    code, out, _ = run_with_report("report", *folders, "--format", "md", "--out", "both.md")
    assert (code, out) == (0, "both.md\n")
    assert "4 runs" in Path("both.md").read_text()
    assert Path(folders[0], "report.html").read_bytes() == before

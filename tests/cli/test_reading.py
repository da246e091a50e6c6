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

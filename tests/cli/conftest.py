"""Fixtures for tests of the command line. Workers carry out a stand-in for training."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bias_lab import ledger
from bias_lab.cli import main
from bias_lab.execution import engine
from bias_lab.report import report
from tests.cli.commands import EXPERIMENT, ROOT, Call
from tests.execution import drive


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write an experiment of 4, 8 or 20 runs and its learning rates to the current folder, and return its path."""
    path = tmp_path / "experiments" / "labels.py"
    path.parent.mkdir()
    path.write_text(EXPERIMENT)
    cell = {"dataset": "fashion_mnist_12k", "recipe": "plain", "regime": "scratch", "size": 100, "learning_rate": 1e-3}
    ledger.write_json(
        path.parent / ledger.TUNED, {"rows": [cell | {"backbone": n} for n in ("vit_micro", "resnet_micro")]}
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(engine, "EXECUTE", "tests.execution.fake_execute")
    return Path("experiments") / "labels.py"


@pytest.fixture
def run(run_with_report: Call, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Return a function that runs a command line, with a stand-in for the report, which takes seconds."""
    monkeypatch.setattr(report, "write", drive.page)
    return run_with_report


@pytest.fixture
def run_with_report(study: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    """Return a function that runs a command line: `run("status", folder)`."""

    def call(*words: object) -> tuple[int, str, str]:
        code = main.main([str(word) for word in words])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Write 30 images of noise in each of 3 classes, and return their folder."""
    noise = np.random.default_rng(0)
    for name in ("cat", "dog", "owl"):
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for number in range(30):
            Image.fromarray(noise.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return tmp_path / "photos"

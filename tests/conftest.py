"""Fixtures that several rooms share: a small experiment and a stand-in for training. Also the order of test files."""

from pathlib import Path

import pytest

from bias_lab import ledger
from bias_lab.execution import engine

EXPERIMENT = '''"""Is the sweep sound?"""

from dataclasses import replace

from bias_lab.definition import Experiment, Run, grid, recipe, run_id

ONE = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100, samples_seen=640)
BEFORE = replace(ONE, task="pretrain", regime="mae", source="pool", size=0, learning_rate=2e-3)

SCALE = {"smoke": dict(size=(100,)), "laptop": dict(size=(100, 1000))}


def experiment(profile):
    pretrained = replace(ONE, regime="mae", source="pool", pretraining=run_id(BEFORE))
    return Experiment(
        question="Is the sweep sound?",
        runs=grid(ONE, draw=(0, 1), backbone=("vit_micro", "resnet_micro"), **SCALE[profile])
        + grid(pretrained, draw=(0, 1), **SCALE[profile])
        + grid(replace(ONE, **recipe("strong")))
        + (BEFORE,),
    )
'''


def row(backbone: str, size: int, rate: float, *, recipe: str = "plain", regime: str = "scratch") -> dict[str, object]:
    trials = [{"learning_rate": tried, "top1": 0.5 if tried == rate else 0.4} for tried in (3e-4, 1e-3, 3e-3)]
    return {
        "dataset": "fashion_mnist_12k",
        "backbone": backbone,
        "recipe": recipe,
        "regime": regime,
        "size": size,
        "intervention": "",
        "learning_rate": rate,
        "trials": trials,
    }


ROWS = [
    row("vit_micro", 100, 1e-3),
    row("vit_micro", 3000, 3e-4),
    row("resnet_micro", 100, 3e-3),
    row("resnet_micro", 3000, 1e-3),
    row("vit_micro", 100, 1e-3, regime="mae"),
    row("vit_micro", 1000, 3e-3, recipe="strong"),
]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Write an experiment of 8 (`smoke`) or 14 (`laptop`) runs, one of them a pretraining, and its tuned.json."""
    path = tmp_path / "experiments" / "sound.py"
    path.parent.mkdir()
    path.write_text(EXPERIMENT)
    ledger.write_json(path.parent / ledger.TUNED, {"command": "none", "rows": ROWS})
    return path


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers carry out `tests/execution/fake_execute.py` instead of training."""
    monkeypatch.setattr(engine, "EXECUTE", "tests.execution.fake_execute")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))


# The longest test files run first, so that two pytest workers end at the same time.
LONGEST = ("test_main_job.py", "test_notebooks.py", "test_build.py", "test_docs.py", "test_main.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))

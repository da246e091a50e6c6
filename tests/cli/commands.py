"""What tests of the command line share: an experiment, and the finished runs of a folder."""

from collections.abc import Callable
from pathlib import Path

from bias_lab import ledger

ROOT = Path(__file__).parents[2]
Call = Callable[..., tuple[int, str, str]]  # words of a command line → exit code, standard output, standard error

EXPERIMENT = '''"""Is the sweep sound?"""

from bias_lab.definition import Experiment, Run, grid

ONE = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100, samples_seen=640)
SCALE = {
    "smoke": dict(size=(100,)),
    "laptop": dict(size=(100, 1000)),
    "held": dict(weight_decay=(0.95,), seed=range(5)),  # the stand-in waits from seed 3 on
}


def experiment(profile):
    runs = grid(ONE, backbone=("vit_micro", "resnet_micro"), draw=(0, 1), **SCALE[profile])
    return Experiment(question="Is the sweep sound?", runs=runs)
'''


def results(folder: Path) -> dict[str, int]:
    """Return run_id → time of the last change of its result, for the finished runs of a folder."""
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob(f"runs/*/{ledger.RESULT}")}

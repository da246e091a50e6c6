"""Write the folder of a sweep of many finished runs: `python -m tests.execution.synthetic FOLDER COUNT`."""

import json
import sys
from pathlib import Path

from bias_lab import ledger
from bias_lab.definition import Experiment, Run, grid, run_id, to_json
from bias_lab.planning import learning_rates, plan
from tests.execution.fake_execute import FACTS, METRICS

ONE = Run(dataset="fashion_mnist_12k", backbone="vit_micro", size=100, learning_rate=1e-3)
AXES = dict(backbone=("vit_micro", "resnet_micro"), size=(100, 300, 1000, 3000, 10_000), budget=(1.0, 3.0))


def write(folder: Path, count: int) -> list[Run]:
    """Write the plan and results of `count` runs, a multiple of 20, and return the runs. Their replicates differ."""
    runs = grid(ONE, **AXES, seed=range(count // 20))
    experiment = Experiment(question="How long does it take to read this folder?", runs=runs)
    planned = plan.arrange(experiment, "synthetic", "full", folder, plan.Request(), learning_rates.Rates())
    plan.write(planned, folder, "bias-lab sweep synthetic.py")
    facts = FACTS | {"class_names": [f"class {number}" for number in range(10)], "code": ledger.code_hash()}
    for number, run in enumerate(runs):
        here = ledger.run_folder(folder, run_id(run))
        here.mkdir(parents=True)
        metrics = METRICS | {"top1": number % 1000 / 1000, "per_class": [0.5] * 10}
        result = {"run": to_json(run), "run_id": run_id(run), "metrics": metrics, "facts": facts, "weights": {}}
        result |= {"steps": 500, "samples_seen": 16_000, "seconds": 10.0, "attempts": 1, "device": "cpu"}
        result |= {"commit": "0" * 40, "command": "bias-lab sweep synthetic.py", "versions": {"torch": "2.6.0"}}
        (here / ledger.RUN).write_text(json.dumps(to_json(run)))
        (here / ledger.RESULT).write_text(json.dumps(result, indent=1, sort_keys=True))
    return list(runs)


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]))

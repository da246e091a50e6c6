"""Find out which pretrainings a backbone can take, by one step of each. Planning asks a process of its own for it.

`python -m bias_lab.training.abilities NAME SIDE CHANNELS` prints JSON: regime → why the backbone can't take it, or "".
"""

import json
import sys

import torch

from bias_lab.backbones import create
from bias_lab.catalogue import REGIMES
from bias_lab.definition import Run
from bias_lab.training.job import load

ANYTHING: tuple[type[Exception], ...] = (Exception,)  # which a user's code may raise


def refusals(name: str, *, image_size: int, channels: int) -> dict[str, str]:
    """Return regime → the first line of what kept the backbone from a step of its pretraining, empty if nothing did.

    image_size: in pixels. Any exception counts, since the backbone may be a user's own.
    """
    why = {}
    for row in REGIMES.values():
        if not row.module:
            continue
        run = Run(dataset="", backbone=name, task="pretrain", regime=row.name, learning_rate=1e-3, **row.fields)
        grey = torch.zeros(2, channels, image_size, image_size)
        try:
            backbone = create(name, image_size=image_size, channels=channels, classes=2 if row.labels else None)
            module = load(row.module).from_run(run, backbone)
            with torch.no_grad():
                module.training_step((grey, torch.arange(2)) if row.labels else grey, 0)
        except ANYTHING as error:
            why[row.name] = next(iter(str(error).splitlines()), "") or type(error).__name__
        else:
            why[row.name] = ""
    return why


if __name__ == "__main__":
    found = refusals(sys.argv[1], image_size=int(sys.argv[2]), channels=int(sys.argv[3]))
    sys.stdout.write(json.dumps(found) + "\n")

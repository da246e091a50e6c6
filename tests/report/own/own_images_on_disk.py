"""A sweep's folder on the user's images: three classes, six test images of each, and runs whose predictions are set."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from bias_lab import ledger
from bias_lab.data import own_images
from bias_lab.definition import Run
from tests.planted import write_plan, write_run

CLASSES = ("bird", "cat", "dog")
TESTED = 18


def write(folder: Path) -> tuple[Path, Run]:
    """Write images below `folder/mine` and their index in `folder/out`, and return that folder and a run on them."""
    random = np.random.default_rng(0)
    for name in CLASSES:
        (folder / "mine" / name).mkdir(parents=True)
        for k in range(30):
            pixels = random.integers(0, 255, (150, 200, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "mine" / name / f"{k:02d}.png")
    out = folder / "out"
    index = own_images.index(folder / "mine", folder=out, image_size=28)
    ledger.write_json(out / ledger.PLACES, {index.identity: index.place})
    return out, Run(dataset=index.identity, backbone="vit_micro", size=20, image_size=28, samples_seen=640)


def labels() -> Any:
    return np.repeat(np.arange(3), 6)


def write_runs(out: Path, run: Run) -> None:
    """Write two runs each of a ViT and a ResNet. The ViT says 'cat' to all, the ResNet errs on the first bird alone."""
    runs = [replace(run, backbone=name, draw=draw) for name in ("vit_micro", "resnet_micro") for draw in (0, 1)]
    for one in runs:
        predicted = np.ones(TESTED, int) if one.backbone == "vit_micro" else np.r_[2, labels()[1:]]
        name = write_run(out, one, float((predicted == labels()).mean()), images=TESTED)
        table = dict(index=np.arange(TESTED), label=labels(), predicted=predicted, confidence=0.5)
        pd.DataFrame(table).to_parquet(ledger.run_folder(out, name) / ledger.PREDICTIONS, index=False)
    write_plan(out, runs)

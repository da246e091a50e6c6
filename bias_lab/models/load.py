"""Read a finished run's folder back as a model."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import nn

from bias_lab import ledger, rows
from bias_lab.catalogue import PROTOCOLS, TASKS
from bias_lab.definition import Run, from_json
from bias_lab.errors import UserError
from bias_lab.training.job import trains
from bias_lab.training.prepare import build_backbone
from bias_lab.training.weights.files import read_safetensors


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A finished run and its model, on the CPU and in evaluation mode.

    model: takes images (B, C, H, W) with values in [0, 1], from which `mean` is subtracted and which
        are divided by `std`, a number each for every channel. If the run has an intervention, it belongs to the images.
        Returns logits (B, K) in the order of `classes`, a segmentation (B, K, H, W).
    classes: the classes' names. Without a stored classifier they are empty, and the model returns features (B, D).
    metrics: those of `result.json`. folder: where the run lies. image_size: the side of square images, or the height.

    Fine-tuning stores its classifier, and a linear probe is stored as the backbone's classifier. A pretraining has no
    classifier. kNN needs the features of its labelled images, which are not stored. To get its predictions, give the
    model's features of these images and of yours to `bias_lab.training.protocols.frozen.knn`.
    """

    model: nn.Module
    run: Run
    metrics: Mapping[str, Any]
    classes: tuple[str, ...]
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    folder: Path

    def predictions(self) -> pd.DataFrame:
        """Return what the run predicted, a row a test image, with the columns of its `predictions.parquet`.

        A classification has index, label, predicted and confidence. A segmentation has index, predicted and scores:
        `predicted` is a label map (H, W) in uint8, and `scores` (K, 2) holds the intersection and the union of each
        class in pixels. Raises UserError for a run without predictions.
        """
        path = self.folder / ledger.PREDICTIONS
        if not path.is_file():
            raise UserError(f"{self.folder} holds no predictions", remedy="only runs that read test images have them")
        table = pd.read_parquet(path)
        if rows.SCORES in table:
            table["predicted"] = [np.asarray(Image.open(io.BytesIO(png))) for png in table["predicted"]]
            table[rows.SCORES] = [rows.unpack_scores(few, len(self.classes))[0] for few in table[rows.SCORES]]
        return table


def load(run_folder: str | Path) -> Loaded:
    """Return the run and the model of a finished run's folder, `FOLDER/runs/RUN_ID`.

    Raises UserError for a folder without a result, for weights that are damaged or do not fit the backbone (the code of
    one's own may have changed), and for a linear probe of a backbone whose classifier is not linear.
    """
    here = Path(run_folder)
    if not (here / ledger.RESULT).is_file():
        why = "the run failed" if (here / ledger.FAILURE).is_file() else f"it has no {ledger.RESULT}"
        raise UserError(f"{here} is not the folder of a finished run: {why}", remedy="give FOLDER/runs/RUN_ID")
    run, result = from_json(ledger.read_json(here / ledger.RUN)), ledger.read_json(here / ledger.RESULT)
    facts = result["facts"]
    classes = tuple(facts["class_names"]) if stores_classifier(run) else ()
    size = (facts["image_size"], facts["image_width"]) if facts.get("image_width") else facts["image_size"]
    model, _ = build_backbone(run, size, len(facts["mean"]), len(classes))
    classifier = getattr(model, "get_classifier", lambda: None)()
    if classes and not trains(run) and not isinstance(classifier, nn.Linear):
        raise UserError(
            f"{here} holds no classifier: that of {run.backbone} is not linear, so the probe could not be stored in it",
            remedy="fit it again with bias_lab.training.protocols.frozen.linear_probe",
        )
    fill(model, here / ledger.WEIGHTS, complete=bool(classes))
    return Loaded(
        model=model.to(memory_format=torch.channels_last).eval(),
        run=run,
        metrics=result["metrics"],
        classes=classes,
        image_size=facts["image_size"],
        mean=tuple(facts["mean"]),
        std=tuple(facts["std"]),
        folder=here,
    )


def stores_classifier(run: Run) -> bool:
    """Return whether a run's weights hold a classifier that predicts its classes."""
    return not TASKS[run.task].pretrains and PROTOCOLS[run.protocol].stores_classifier


def fill(model: nn.Module, weights: Path, *, complete: bool) -> None:
    """Put a file's tensors into a model, by name. complete: every tensor of the file must have a place.

    Raises UserError if a tensor is missing, left over or of another shape.
    """
    tensors = dict(read_safetensors(weights).tensors)
    own = model.state_dict()
    wrong = [name for name, value in own.items() if name not in tensors or tensors[name].shape != value.shape]
    wrong += [name for name in tensors if complete and name not in own]
    if wrong:
        raise UserError(
            f"{weights} does not fit {type(model).__name__}: {', '.join(wrong[:3])} differ",
            remedy="load it with the code of the backbone that the run was trained with",
        )
    model.load_state_dict({name: tensors[name] for name in own})

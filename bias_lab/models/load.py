"""Read a finished run's folder back as a model."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from bias_lab import ledger, rows
from bias_lab.catalogue import PROTOCOLS, TASKS, Sides, sides
from bias_lab.data.batches import Normalise
from bias_lab.data.readers import image_file
from bias_lab.definition import Run, from_json, trains
from bias_lab.errors import UserError
from bias_lab.training.prepare import build_backbone, describe_images
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
    image_width: int | None = None  # None: square

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
            maps = [np.asarray(Image.open(io.BytesIO(png))) for png in table["predicted"]]
            scores = [rows.unpack_scores(few, len(self.classes))[0] for few in table[rows.SCORES]]
            table = table.assign(predicted=pd.Series(maps, dtype="object"), scores=pd.Series(scores, dtype="object"))
        return table

    @property
    def transform(self) -> "Transform":
        """What turns a picture into the model's input, as the run's own images were: resized, cut and normalised."""
        return Transform((self.image_size, self.image_width or self.image_size), self.mean, self.std)


class Transform:
    """Turns a picture of any size into a tensor (C, H, W): its central part, normalised.

    image_size: the side of a square, or (H, W).

    >>> to_tensor = Transform(28, mean=(0.5,), std=(0.25,))
    >>> to_tensor(Image.new("L", (40, 56), 255)).shape, to_tensor(np.zeros((28, 28, 1), np.uint8)).unique().item()
    (torch.Size([1, 28, 28]), -2.0)
    """

    def __init__(self, image_size: Sides, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self.image_size, self.channels = sides(image_size), len(mean)
        self.normalise = Normalise(mean, std, self.image_size[1], torch.device("cpu"))

    def __call__(self, picture: Image.Image | NDArray[np.uint8]) -> Tensor:
        """Return the tensor of a Pillow image, or of pixels (H, W) or (H, W, C) from 0 to 255."""
        if not isinstance(picture, Image.Image):
            pixels = np.asarray(picture, np.uint8)
            picture = Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)
        picture = picture.convert("L" if self.channels == 1 else "RGB")
        part = image_file.resize(picture, self.image_size, self.channels)  # (H, W, C)
        return self.normalise(torch.from_numpy(part.copy())[None])[0]  # (C, H, W)


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
    describe_images(model, facts["image_size"], tuple(facts["mean"]), tuple(facts["std"]))
    return Loaded(
        model=model.to(memory_format=torch.channels_last).eval(),
        run=run,
        metrics=result["metrics"],
        classes=classes,
        image_size=facts["image_size"],
        mean=tuple(facts["mean"]),
        std=tuple(facts["std"]),
        folder=here,
        image_width=facts.get("image_width"),
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

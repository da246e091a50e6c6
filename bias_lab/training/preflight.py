"""What only torch or pixels can refuse, said by one worker before the first run."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from bias_lab.backbones import create
from bias_lab.catalogue import is_own
from bias_lab.data import store, subsets
from bias_lab.definition import Run, Settings
from bias_lab.errors import UserError
from bias_lab.training.job import choose_device, module_of, open_images, ranking_of, source_of, start


def preflight(runs: Iterable[Run], folder: Path, settings: Settings) -> list[str]:
    """What only torch or pixels can refuse, before the first run: a backbone that can't be built, images not there.

    So are a device that is not there, weights that don't load, a source that shows test images. Builds each (backbone,
    image size) once, and starts each pretraining and each set of weights once. Returns warnings, a line each.
    """
    choose_device(settings.device)
    warnings: list[str] = []
    seen: set[tuple[Any, ...]] = set()
    opened: dict[tuple[str, int | None], store.Images] = {}
    for run in runs:
        where = (run.dataset, run.image_size)
        if where not in opened:
            opened[where] = open_images(run.dataset, run, folder, settings)
        images = opened[where]
        key = (run.backbone, *where, run.patch, run.window, run.stem)  # what is built
        if key not in seen:
            seen.add(key)
            try_building(run, images)
        few = run.size if run.source == "subset" else 0
        what = (run.task, run.regime, run.source, run.weights, run.mask_ratio, run.batch_size, few)
        start_key = (*key, *what)
        if start_key not in seen and (run.task == "pretrain" or run.weights):
            seen.add(start_key)
            warnings += try_starting(run, images, folder, settings)
    return list(dict.fromkeys(warnings))


def try_starting(run: Run, images: store.Images, folder: Path, settings: Settings) -> list[str]:
    """Open a pretraining's source and take its method's first step on two grey images, or load a run's weights."""
    size, channels = images.train.shape[1], images.train.shape[3]
    shape = dict(image_size=size, channels=channels, patch=run.patch, window=run.window, stem=run.stem)
    if run.task != "pretrain":
        start(run, create(run.backbone, classes=len(images.classes), **shape), folder, images)
        return []
    selection = subsets.select(run, images.train_labels, images.fingerprint, ranking=ranking_of(run, folder))
    source = source_of(run, images, selection, folder, settings)
    classes = 0 if source is None else len(source.classes)
    module: Any = module_of(run, create(run.backbone, classes=classes or None, **shape), classes)
    grey = torch.zeros(2, channels, size, size)
    with torch.no_grad():
        module.training_step((grey, torch.arange(2)) if classes else grey, 0)
    if source is None or not source.shared_classes:
        return []
    return [f"source {run.source} has class names of {run.dataset} too: {', '.join(source.shared_classes)}"]


def try_building(run: Run, images: store.Images) -> None:
    """Build a run's backbone once, for what only building can refuse. Raises UserError in one line."""
    size, channels = images.train.shape[1], images.train.shape[3]
    mistakes: tuple[type[Exception], ...] = (Exception,) if is_own(run.backbone) else (ValueError,)
    try:
        create(
            run.backbone,
            image_size=size,
            channels=channels,
            classes=len(images.classes),
            patch=run.patch,
            window=run.window,
            stem=run.stem,
            drop_path=run.drop_path,
        )
    except UserError:
        raise
    except mistakes as error:  # of the user's own code anything may come
        raise UserError(
            f"{run.backbone} can't be built for {size}x{size} images: {type(error).__name__}: {error}"
        ) from error

"""What only torch or pixels can refuse, said by one worker before the first run."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from bias_lab.backbones import create
from bias_lab.catalogue import BACKBONES
from bias_lab.data import store, subsets
from bias_lab.definition import Run, Settings
from bias_lab.errors import UserError
from bias_lab.training.hardware import multiplies_bf16
from bias_lab.training.job import build_backbone, choose_device, module_of, open_images, ranking_of, source_of, start


def preflight(runs: Iterable[Run], folder: Path, settings: Settings) -> list[str]:
    """What only torch or pixels can refuse, before the first run: a backbone that can't be built, images not there.

    So are a device that is not there, weights that don't load, a source that shows test images. Builds each (backbone,
    image size) once, with stochastic depth and without, and starts each pretraining and each set of weights once.
    Returns warnings, a line each.
    """
    device = choose_device(settings.device)
    runs = list(runs)
    warnings: list[str] = []
    if any(run.precision == "bf16" for run in runs) and not multiplies_bf16(device):
        warnings.append(
            f"no unit of this {device.type} multiplies bf16: runs of that precision take longer, not shorter"
        )
    seen: set[tuple[Any, ...]] = set()
    opened: dict[tuple[str, int | None], store.Images] = {}
    for run in runs:
        where = (run.dataset, run.image_size)
        if where not in opened:
            opened[where] = open_images(run.dataset, run, folder, settings)
        images = opened[where]
        key = (run.backbone, *where, run.patch, run.window, run.stem)
        built = (*key, run.drop_path > 0)
        if built not in seen:
            seen.add(built)
            warnings += try_building(run, images)
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


def try_building(run: Run, images: store.Images) -> list[str]:
    """Build a run's backbone and show it two grey images, for what only that can refuse. Returns warnings.

    Raises UserError in one line: of anything that a guest may raise, and of what values the lab's own can't take.
    """
    size, channels, classes = images.train.shape[1], images.train.shape[3], len(images.classes)
    mistakes: tuple[type[Exception], ...] = (ValueError,) if run.backbone in BACKBONES else (Exception,)
    doing = "built for"
    try:
        backbone, drop_path = build_backbone(run, size, channels, classes)
        doing = "used on"
        with torch.no_grad():
            given = tuple(backbone.eval()(torch.zeros(2, channels, size, size)).shape)
    except UserError:
        raise
    except mistakes as error:
        said = next(iter(str(error).splitlines()), "")
        raise UserError(
            f"{run.backbone} can't be {doing} {size}x{size} images: {type(error).__name__}: {said}",
            remedy="give it another --image-size, or leave it out",
        ) from error
    if given != (2, classes):
        raise UserError(f"{run.backbone} gives {given} for 2 images of {classes} classes", f"{(2, classes)}")
    if drop_path == run.drop_path:
        return []
    return [f"{run.backbone} has no stochastic depth: in recipe {run.recipe} it goes without"]

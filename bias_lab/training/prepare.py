"""Make a run concrete: choose its images, build its backbone, load its starting weights, and make its method."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bias_lab import ledger
from bias_lab.backbones import build, create
from bias_lab.catalogue import REGIMES, TASKS
from bias_lab.data import store, subsets
from bias_lab.data.readers import manifests
from bias_lab.definition import Run, Settings
from bias_lab.errors import UserError
from bias_lab.training import weights
from bias_lab.training.hardware import choose_device
from bias_lab.training.job import Examples, Job, task_of
from bias_lab.training.modules.fields import recorded
from bias_lab.training.randomness import reseed

Channels = tuple[float, ...]  # a value for each channel, in [0, 1]


def prepare(run: Run, folder: Path, settings: Settings) -> Job:
    """Return a run's images, backbone with its starting weights, and method, on its device."""
    device, task = choose_device(settings.device), task_of(run)
    images = open_images(run.dataset, run, folder, settings)
    selection = select_images(run, images, folder)
    size, channels = images.train.shape[1], images.train.shape[3]
    examples = open_examples(run, images, selection, folder, settings)
    reseed(run.seed, "initialisation")
    backbone, drop_path = build_backbone(run, size, channels, len(examples.classes))
    started_from, mean, std = load_start(run, backbone, folder, images)
    backbone = backbone.to(memory_format=torch.channels_last)
    facts = {**facts_of(run, backbone, images), "drop_path": drop_path}
    facts |= {"mean": list(mean), "std": list(std), "subset_hash": subset_hash(selection)}
    if TASKS[run.task].pretrains:
        facts |= {"source_images": len(examples.images), "source_overlap": len(examples.overlap)}
        facts |= {"shared_classes": list(examples.shared_classes)}
    describe_images(backbone, size, mean, std)
    reseed(run.seed, "module")
    method = task.method(run, backbone)
    recorded(method, run, classes=len(examples.classes), channels=channels, image_size=size, drop_path=drop_path)
    return Job(
        run=run,
        task=task,
        device=device,
        images=images,
        selection=selection,
        examples=examples,
        method=method,
        mean=mean,
        std=std,
        started_from=started_from,
        facts=facts,
    )


def open_images(dataset: str, run: Run, folder: Path, settings: Settings) -> store.Images:
    """Return a dataset's images at the run's size. A user's own are looked up in FOLDER/places.json."""
    places = folder / ledger.PLACES
    place = ledger.read_json(places).get(dataset) if places.is_file() else None
    images = store.open_images(dataset, image_size=run.image_size, data_root=settings.data_root, place=place)
    if run.drop_duplicates and place is None:  # duplicates of a user's own were dropped by the index
        return store.without_duplicates(images)
    return images


def select_images(run: Run, images: store.Images, folder: Path) -> subsets.Selection:
    """Return the run's labelled images: the first of its draw's order, or of its manifest's."""
    ranking: NDArray[np.int64] | None = None
    if run.manifest:
        ranking = manifests.ranking(ledger.read_json(folder / ledger.PLACES)[f"manifest:{run.manifest}"])
    return subsets.select(run, images.train_labels, images.fingerprint, ranking=ranking)


def subset_hash(selection: subsets.Selection) -> str:
    """Return a hash of the labelled images' indices and labels, in order."""
    data = selection.indices.astype("<i8").tobytes() + selection.labels.astype("<i8").tobytes()
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def open_examples(
    run: Run, images: store.Images, selection: subsets.Selection, folder: Path, settings: Settings
) -> Examples:
    """Return the images that a run learns from. Raise UserError if test images of its dataset are among them."""
    like = replace(run, image_size=images.train.shape[1])
    return task_of(run).examples(
        run, images, selection, lambda name: open_images(name, like, folder, settings), settings
    )


def build_backbone(run: Run, size: int, channels: int, classes: int) -> tuple[nn.Module, float]:
    """Return a run's backbone and its rate of stochastic depth, which is 0 for a backbone that can't have any.

    classes: 0 for an encoder without a classifier.
    """
    make = partial(
        create,
        run.backbone,
        image_size=size,
        channels=channels,
        classes=classes or None,
        patch=run.patch,
        window=run.window,
        stem=run.stem,
        priors=run.priors,
    )
    try:
        return make(drop_path=run.drop_path), run.drop_path
    except build.NotTaken as error:
        if error.keyword != "drop_path_rate":
            raise
        return make(), 0.0


def describe_images(backbone: nn.Module, size: int, mean: Channels, std: Channels) -> None:
    """Put a run's image size and normalisation where `timm.data.resolve_data_config` looks for them."""
    known: Any = backbone
    config = getattr(known, "pretrained_cfg", None) or {}
    config = dict(config) if isinstance(config, Mapping) else config.to_dict()
    shape = dict(input_size=(len(mean), size, size), crop_pct=1.0, interpolation="bilinear")
    known.pretrained_cfg = known.default_cfg = {**config, **shape, "mean": tuple(mean), "std": tuple(std)}


def facts_of(run: Run, backbone: nn.Module, images: store.Images) -> dict[str, Any]:
    """Return what a result says of its backbone and its images."""
    size, channels = images.train.shape[1], images.train.shape[3]
    return {
        **build.settings(run.backbone, image_size=size, patch=run.patch, window=run.window, stem=run.stem),
        "parameters": build.parameters(backbone),
        "flops": build.flops(backbone, size, channels),
        "image_size": size,
        "classes": len(images.classes),
        "class_names": list(images.classes),
        "test_images": len(images.test_labels),
        "dataset_fingerprint": images.fingerprint,
        "code": ledger.code_hash(),
    }


def load_start(
    run: Run, backbone: nn.Module, folder: Path, images: store.Images
) -> tuple[dict[str, Any], Channels, Channels]:
    """Load the weights that a run starts from. Return what was loaded, and the images' mean and std.

    A run that starts from a pretraining of the lab keeps the normalisation of that pretraining.
    """
    if TASKS[run.task].pretrains or not REGIMES[run.regime].starts_from:
        return {"loaded": [], "skipped": [], "resampled": [], "name": ""}, images.mean, images.std
    if run.pretraining:
        there = ledger.run_folder(folder, run.pretraining)
        if not (there / ledger.RESULT).is_file():
            raise UserError(f"the pretraining {run.pretraining} is not finished", remedy="run the sweep again")
        loaded = weights.load(backbone, str(there / ledger.WEIGHTS))
        facts = ledger.read_json(there / ledger.RESULT)["facts"]
        mean, std = tuple(facts["mean"]), tuple(facts["std"])
    elif run.weights:
        places = folder / ledger.PLACES
        place = ledger.read_json(places).get(run.weights) if places.is_file() else None
        loaded = weights.load(backbone, place["path"] if place else run.weights)
        mean, std = weights.normalisation_for(loaded, images.train.shape[3]) or (images.mean, images.std)
    else:
        raise UserError(
            f"a run of regime '{run.regime}' names neither weights nor a pretraining", remedy="--weights NAME"
        )
    names = {"loaded": list(loaded.loaded), "skipped": list(loaded.skipped), "resampled": list(loaded.resampled)}
    return {**names, "name": run.pretraining or run.weights}, mean, std

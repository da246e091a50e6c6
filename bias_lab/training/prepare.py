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
from bias_lab.backbones.heads import interface as heads
from bias_lab.catalogue import TASKS, Sides, sides
from bias_lab.data import store, subsets
from bias_lab.data.masks import presence
from bias_lab.data.readers import manifests
from bias_lab.definition import Run, Settings
from bias_lab.statistics.masks.groups import pack_parts
from bias_lab.training.hardware import choose_device
from bias_lab.training.job import Examples, Job, task_of
from bias_lab.training.modules.fields import recorded
from bias_lab.training.randomness import reseed
from bias_lab.training.weights import start as weights


def prepare(run: Run, folder: Path, settings: Settings) -> Job:
    """Return a run's images, backbone with its starting weights, and method, on its device."""
    device, task = choose_device(settings.device), task_of(run)
    images = open_images(run.dataset, run, folder, settings)
    selection = select_images(run, images, folder)
    examples = open_examples(run, images, selection, folder, settings)
    backbone, drop_path, start = build_started(run, images, len(examples.classes), folder)
    backbone = backbone.to(memory_format=torch.channels_last)
    mean, std = start.normalisation.mean, start.normalisation.std
    facts = {**facts_of(run, backbone, images, channels=start.channels), "drop_path": drop_path, **start.facts}
    facts |= {"mean": list(mean), "std": list(std), "subset_hash": subset_hash(selection)}
    facts |= data_notes(run, folder)
    if TASKS[run.task].pretrains:
        facts |= {"source_images": len(examples.images), "source_overlap": len(examples.overlap)}
        facts |= {"shared_classes": list(examples.shared_classes)}
    size = size_of(images)
    describe_images(backbone, size, mean, std)
    reseed(run.seed, "module")
    method = task.method(run, backbone)
    recorded(method, run, classes=len(examples.classes), channels=start.channels, image_size=size, drop_path=drop_path)
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
        started_from=start.record,
        facts=facts,
    )


def open_images(dataset: str, run: Run, folder: Path, settings: Settings) -> store.Images:
    """Return a dataset's images at the run's size. A user's own are looked up in FOLDER/places.json."""
    places = folder / ledger.PLACES
    place = ledger.read_json(places).get(dataset) if places.is_file() else None
    size: Any = dict(image_size=run.image_size, image_width=run.image_width)
    images = store.open_images(dataset, **size, data_root=settings.data_root, place=place)
    if run.drop_duplicates and place is None:  # duplicates of a user's own were dropped by the index
        return store.without_duplicates(images)
    return images


def data_notes(run: Run, folder: Path) -> dict[str, list[str]]:
    """Return what was said when the user's own images were listed (`data_notes`), nothing for a dataset by name."""
    path = folder / ledger.PLACES
    places = ledger.read_json(path) if path.is_file() else {}
    notes = [line for name in (run.dataset, run.source) for line in (places.get(name) or {}).get("notes", ())]
    return {"data_notes": notes} if notes else {}


def select_images(run: Run, images: store.Images, folder: Path) -> subsets.Selection:
    """Return the run's labelled images: the first of its draw's order, or of its manifest's."""
    ranking: NDArray[np.int64] | None = None
    if run.manifest:
        ranking = manifests.ranking(ledger.read_json(folder / ledger.PLACES)[f"manifest:{run.manifest}"])
    if images.presence is None:
        return subsets.select(run, images.train_labels, images.ordered_by, ranking=ranking, classes=images.classes)
    chosen = presence.select(run, images.presence, images.ordered_by, ranking=ranking, classes=images.classes)
    return replace(chosen, labels=images.train_labels[chosen.indices])


def subset_hash(selection: subsets.Selection) -> str:
    """Return a hash of the labelled images' indices and labels, in order."""
    labels = selection.labels if selection.labels.ndim > 1 else selection.labels.astype("<i8")  # masks are bytes
    data = selection.indices.astype("<i8").tobytes() + labels.tobytes()
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def open_examples(
    run: Run, images: store.Images, selection: subsets.Selection, folder: Path, settings: Settings
) -> Examples:
    """Return the images that a run learns from. Raise UserError if test images of its dataset are among them."""
    H, W = images.train.shape[1:3]
    like = replace(run, image_size=H, image_width=None if W == H else W)
    return task_of(run).examples(
        run, images, selection, lambda name: open_images(name, like, folder, settings), settings
    )


def size_of(images: store.Images) -> Sides:
    """Return the side of square images, or (height, width) of others."""
    height, width = images.train.shape[1:3]
    return int(height) if height == width else (int(height), int(width))


def build_backbone(run: Run, size: Sides, channels: int, classes: int) -> tuple[nn.Module, float]:
    """Return a run's backbone and its rate of stochastic depth, which is 0 for a backbone that can't have any.

    classes: 0 for an encoder without a classifier. A task with masks gets a `DenseModel`, the backbone with a head.
    """
    if not TASKS[run.task].dense:
        return build_encoder(run, size, channels, classes)
    encoder, drop_path = build_encoder(run, size, channels, 0)
    shape: dict[str, Any] = dict(classes=classes, channels=channels, image_size=size)
    return heads.dense(encoder, run.backbone, head=run.head, **shape), drop_path


def build_encoder(run: Run, size: Sides, channels: int, classes: int) -> tuple[nn.Module, float]:
    """Return a run's backbone without a head for masks, otherwise as `build_backbone`."""
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


def describe_images(backbone: nn.Module, size: Sides, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Put a run's image size and normalisation where `timm.data.resolve_data_config` looks for them."""
    known: Any = backbone
    config = getattr(known, "pretrained_cfg", None) or {}
    config = dict(config) if isinstance(config, Mapping) else config.to_dict()
    shape = dict(input_size=(len(mean), *sides(size)), crop_pct=1.0, interpolation="bilinear")
    known.pretrained_cfg = known.default_cfg = {**config, **shape, "mean": tuple(mean), "std": tuple(std)}


def build_started(run: Run, images: store.Images, classes: int, folder: Path) -> tuple[nn.Module, float, weights.Start]:
    """Return a run's backbone with its starting weights, its rate of stochastic depth, and what it starts from.

    On grey images it takes three channels if its weights need them.
    """
    size, channels = size_of(images), images.train.shape[3]
    reseed(run.seed, "initialisation")
    backbone, drop_path = build_backbone(run, size, channels, classes)
    start = weights.load_start(run, encoder_of(backbone), folder, images, channels=channels)
    if start.channels != channels:
        reseed(run.seed, "initialisation")
        backbone, drop_path = build_backbone(run, size, start.channels, classes)
        start = weights.load_start(run, encoder_of(backbone), folder, images, channels=start.channels)
    return backbone, drop_path, start


def encoder_of(backbone: nn.Module) -> nn.Module:
    """Return the part of a model that starting weights fill: the encoder of a `DenseModel`, else the model."""
    return backbone.encoder if isinstance(backbone, heads.DenseModel) else backbone


def facts_of(run: Run, backbone: nn.Module, images: store.Images, *, channels: int) -> dict[str, Any]:
    """Return what a result says of its backbone and its images. channels: those that the backbone takes."""
    size = size_of(images)
    height, width = sides(size)
    decoder: dict[str, Any] = {}
    if isinstance(backbone, heads.DenseModel):
        decoder["head_parameters"] = heads.parameters(backbone.head)
        decoder["head_flops"] = heads.head_flops(backbone, size, channels)
    described: dict[str, str] = {}
    if images.presence is not None:
        described["test_parts"] = pack_parts(images.test_parts)
    return {
        **build.settings(run.backbone, image_size=size, patch=run.patch, window=run.window, stem=run.stem),
        "parameters": build.parameters(backbone),
        "flops": build.flops(backbone, size, channels),
        **decoder,
        "image_size": height,
        **({} if height == width else {"image_width": width}),
        **({} if images.test_groups is None else {"test_groups": ",".join(map(str, images.test_groups.tolist()))}),
        "classes": len(images.classes),
        "class_names": list(images.classes),
        "test_images": len(images.test_labels),
        "dataset_fingerprint": images.fingerprint,
        **described,
        "code": ledger.code_hash(),
    }

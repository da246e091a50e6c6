"""A run made concrete: its images chosen, its backbone built and given its starting weights, its module ready."""

import importlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from numpy.typing import NDArray
from torch import Tensor, nn

from bias_lab import ledger
from bias_lab.backbones import build, create
from bias_lab.catalogue import REGIMES
from bias_lab.data import batches, store, subsets
from bias_lab.data.readers import manifests
from bias_lab.definition import Run, Settings, steps
from bias_lab.errors import UserError
from bias_lab.training import protocols, results
from bias_lab.training import weights as starting
from bias_lab.training.classification import Classifier
from bias_lab.training.randomness import reseed
from bias_lab.training.regimes import pretraining


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A run made concrete: images chosen, backbone built, module ready. Labelled images are its subset, in order."""

    run: Run
    device: torch.device
    images: store.Images
    selection: subsets.Selection
    source: pretraining.Source | None  # what a pretraining sees; None for all others
    module: Any  # a LightningModule with `encoder` and `diagnostics()`; a classifier has `trained` too
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: int
    started_from: dict[str, Any]
    facts: dict[str, Any]

    def labelled(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        return store.part(self.images.train, self.selection.indices), self.selection.labels

    def judged(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The images that judge the run: test, or for tuning the hold-out, so that tuning never sees test."""
        if self.run.task == "tune":
            return self.holdout()
        return self.images.test, self.images.test_labels

    def holdout(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        if self.images.holdout is not None and self.images.holdout_labels is not None:
            return self.images.holdout, self.images.holdout_labels
        if self.selection.holdout is None:
            raise UserError(
                f"size {self.run.size} reaches into the hold-out of {self.run.dataset}",
                remedy="tune and monitor at a size that leaves the last min(1,000, 20 %) of the pool alone",
            )
        return self.images.train[self.selection.holdout], self.images.train_labels[self.selection.holdout]

    def eval_loader(self, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Iterable[tuple[Tensor, Tensor]]:
        """Batches of images as they are, in order, normalised as the run's are."""
        return batches.eval_loader(images, labels, self.run, mean=self.mean, std=self.std, device=self.device)


def prepare(run: Run, folder: Path, settings: Settings) -> Job:
    """Images, backbone, starting weights and module of a run, on its device."""
    device = choose_device(settings.device)
    images = open_images(run.dataset, run, folder, settings)
    selection = subsets.select(run, images.train_labels, images.fingerprint, ranking=ranking_of(run, folder))
    size, channels = images.train.shape[1], images.train.shape[3]
    source = source_of(run, images, selection, folder, settings)
    classes = len(images.classes if source is None else source.classes)
    reseed(run.seed, "initialisation")
    backbone, drop_path = build_backbone(run, size, channels, classes)
    started_from, mean, std = start(run, backbone, folder, images)
    backbone = backbone.to(memory_format=torch.channels_last)
    facts = {**facts_of(run, backbone, images), "drop_path": drop_path}
    facts |= {"mean": list(mean), "std": list(std), "subset_hash": results.subset_hash(selection)}
    facts |= {} if source is None else source.facts()
    reseed(run.seed, "module")
    module = module_of(run, backbone, classes)
    return Job(
        run=run,
        device=device,
        images=images,
        selection=selection,
        source=source,
        module=module,
        mean=mean,
        std=std,
        classes=classes,
        started_from=started_from,
        facts=facts,
    )


def build_backbone(run: Run, size: int, channels: int, classes: int) -> tuple[nn.Module, float]:
    """A run's backbone, and the stochastic depth that it has: none where it can have none, whatever the recipe asks.

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
    )
    try:
        return make(drop_path=run.drop_path), run.drop_path
    except build.NotTaken as error:
        if error.keyword != "drop_path_rate":
            raise
        return make(), 0.0


def facts_of(run: Run, backbone: nn.Module, images: store.Images) -> dict[str, Any]:
    """What a result says of its backbone and its images."""
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


def open_images(dataset: str, run: Run, folder: Path, settings: Settings) -> store.Images:
    """A dataset's images at the run's size; a user's own lies where FOLDER/places.json says."""
    places = folder / ledger.PLACES
    place = ledger.read_json(places).get(dataset) if places.is_file() else None
    images = store.open_images(dataset, image_size=run.image_size, data_root=settings.data_root, place=place)
    if run.drop_duplicates and place is None:  # a user's own lost theirs when they were indexed
        return store.without_duplicates(images)
    return images


def source_of(
    run: Run, images: store.Images, selection: subsets.Selection, folder: Path, settings: Settings
) -> pretraining.Source | None:
    """What a pretraining looks at, refused if it shows the target's test images; None for a run of another task."""
    if run.task != "pretrain":
        return None
    like = replace(run, image_size=images.train.shape[1])
    source = pretraining.look(run, images, selection.indices, lambda name: open_images(name, like, folder, settings))
    pretraining.refuse(run, source, images, allow_overlap=settings.allow_overlap)
    return source


def ranking_of(run: Run, folder: Path) -> NDArray[np.int64] | None:
    """The order of the run's manifest, which takes the place of a draw's; None without one."""
    if not run.manifest:
        return None
    return manifests.ranking(ledger.read_json(folder / ledger.PLACES)[f"manifest:{run.manifest}"])


def start(
    run: Run, backbone: nn.Module, folder: Path, images: store.Images
) -> tuple[dict[str, Any], tuple[float, ...], tuple[float, ...]]:
    """Load the weights that a run starts from; returns what was loaded, and the mean and std that images take.

    A run that starts from an in-lab pretraining keeps the normalisation that the encoder was pretrained with.
    """
    nothing: dict[str, Any] = {"loaded": [], "skipped": [], "resampled": [], "name": ""}
    if run.task == "pretrain" or run.regime == "scratch":
        return nothing, images.mean, images.std
    if run.pretraining:
        there = ledger.run_folder(folder, run.pretraining)
        if not (there / ledger.RESULT).is_file():
            raise UserError(f"the pretraining {run.pretraining} is not finished", remedy="run the sweep again")
        found = starting.load(backbone, str(there / ledger.WEIGHTS))
        facts = ledger.read_json(there / ledger.RESULT)["facts"]
        mean, std = tuple(facts["mean"]), tuple(facts["std"])
        name = run.pretraining
    elif run.weights:
        places = folder / ledger.PLACES
        place = ledger.read_json(places).get(run.weights) if places.is_file() else None
        found = starting.load(backbone, place["path"] if place else run.weights)
        mean, std = starting.channels(found, images.train.shape[3]) or (images.mean, images.std)
        name = run.weights
    else:
        raise UserError(
            f"a run of regime '{run.regime}' names neither weights nor a pretraining", remedy="--weights NAME"
        )
    listed = {"loaded": list(found.loaded), "skipped": list(found.skipped), "resampled": list(found.resampled)}
    return {**listed, "name": name}, mean, std


def trains(run: Run) -> bool:
    """Whether the run takes optimizer steps: a linear probe and neighbours leave the backbone as it is."""
    return run.task == "pretrain" or run.protocol == "finetune"


def module_of(run: Run, backbone: nn.Module, classes: int) -> LightningModule:
    """The Lightning module that trains the backbone: the classifier, or the regime's pretraining."""
    if not trains(run):
        return protocols.Frozen(backbone, run.protocol, classes=classes)
    if run.task != "pretrain":
        return Classifier.from_run(run, backbone, steps=steps(run))
    where, _, name = REGIMES[run.regime].module.partition(":")
    kind = getattr(importlib.import_module(where), name)
    module: LightningModule = kind.from_run(run, backbone, steps=steps(run))
    return module


def choose_device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    here = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name.startswith("cuda") and int(name.partition(":")[2] or 0) >= here:
        raise UserError(
            f"device '{name}' is not there",
            ", ".join(["cpu", *(f"cuda:{k}" for k in range(here))]),
            "leave --device away to use what there is",
        )
    return torch.device(name)

"""Check before the first run what only torch or pixels can tell."""

import inspect
import sys
import sysconfig
import traceback
import warnings
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule
from torch import nn

import bias_lab
from bias_lab.backbones import create
from bias_lab.backbones.build import NotTaken
from bias_lab.catalogue import BACKBONES, REGIMES, SUBSET, TASKS, is_own, sides
from bias_lab.data import store
from bias_lab.definition import Run, Settings, trains
from bias_lab.errors import UserError
from bias_lab.training import prepare
from bias_lab.training.hardware import choose_device, multiplies_bf16
from bias_lab.training.job import task_of

TAKEN = "a factory takes num_classes and in_chans, and img_size if its model needs it"


def preflight(runs: Iterable[Run], folder: Path, settings: Settings) -> list[str]:
    """Raise UserError for a run that can't begin, and return warnings and notes, a line each.

    That is a device, backbone or images that are not there, weights that don't load, or a source that holds test
    images. Each backbone is built once per image size, with stochastic depth and without. Each pretraining and each set
    of weights is started once.
    """
    device = choose_device(settings.device)
    runs = list(runs)
    lines: list[str] = []
    if any(run.precision == "bf16" for run in runs) and not multiplies_bf16(device):
        lines.append(f"this {device.type} has no unit that multiplies bf16, so runs of that precision take longer")
    tried: set[tuple[Any, ...]] = set()
    opened: dict[tuple[str, int | None, int | None], store.Images] = {}
    for run in runs:
        where = (run.dataset, run.image_size, run.image_width)
        if where not in opened:
            opened[where] = prepare.open_images(run.dataset, run, folder, settings)
        images = opened[where]
        subset = (where, run.size, run.draw, run.blocks, run.manifest)
        if images.presence is not None and run.size and subset not in tried:
            tried.add(subset)
            prepare.select_images(run, images, folder)  # with masks, only the images tell which sizes hold every class
        shape = (run.backbone, run.task, run.head, *where, run.patch, run.window, run.stem, run.priors)
        build = (*shape, run.drop_path > 0, _trains_on_one(run), trains(run))
        if build not in tried:
            tried.add(build)
            lines += try_building(run, images)
        if run.method and (run.method, *shape) not in tried and not TASKS[run.task].pretrains:
            tried.add((run.method, *shape))
            try_method(run, images)
        start = (*shape, *start_key(run))
        if start not in tried and (TASKS[run.task].pretrains or run.weights):
            tried.add(start)
            lines += try_starting(run, images, folder, settings)
    return list(dict.fromkeys(lines))


def start_key(run: Run) -> tuple[Any, ...]:
    """Return what a run's start depends on beside its backbone and images."""
    labelled = run.size if run.source == SUBSET else 0
    own = tuple(getattr(run, name) for name in REGIMES[run.regime].fields)
    weights = (run.weights, run.allow_partial_weights, run.pixel_mean, run.pixel_std)
    return (run.task, run.regime, run.source, *weights, run.batch_size, labelled, *own)


def try_starting(run: Run, images: store.Images, folder: Path, settings: Settings) -> list[str]:
    """Load a run's weights, or open a pretraining's source and take its first step on two grey images."""
    size, channels = prepare.size_of(images), images.train.shape[3]
    shape: dict[str, Any] = dict(image_size=size, channels=channels, patch=run.patch, window=run.window, stem=run.stem)
    shape |= dict(priors=run.priors)
    if not TASKS[run.task].pretrains:
        return list(prepare.build_started(run, images, len(images.classes), folder)[2].lines)
    selection = prepare.select_images(run, images, folder)
    examples = prepare.open_examples(run, images, selection, folder, settings)
    classes = len(examples.classes)
    backbone = create(run.backbone, classes=classes or None, **shape)
    module = cast(LightningModule, task_of(run).method(run, backbone))
    grey = torch.zeros(2, channels, *sides(size))
    with torch.no_grad():
        module.training_step((grey, torch.arange(2)) if classes else grey, 0)
    if not examples.shared_classes:
        return []
    return [f"source {run.source} shares class names with {run.dataset}: {', '.join(examples.shared_classes)}"]


def _trains_on_one(run: Run) -> bool:
    """Return whether a run trains its backbone on batches of one image."""
    return run.batch_size == 1 and trains(run)


def _check_batch_of_one(run: Run, backbone: nn.Module, image: torch.Tensor) -> None:
    """Raise UserError if a batch norm of the backbone would get a single value a channel, which has no variance.

    image: (1, C, H, W).
    """
    for norm in (module for module in backbone.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)):
        norm.register_forward_pre_hook(partial(_check_values, run))
    with torch.no_grad():
        backbone.train()(image)


def _check_values(run: Run, norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    values = inputs[0]
    if norm.training and values.numel() == values.shape[1]:
        raise UserError(
            f"{run.backbone} can't be trained with batch_size 1: one of its batch norms gets one value a channel",
            "batch norm needs two or more",
            "--set batch_size=2 or more, larger images, or a backbone without batch norm",
        )


def place_of(error: BaseException, backbone: str) -> str:
    """Return `FILE, line N` of the last line of the user's code that an exception passed, or the factory's place.

    A library that the user's code calls is passed over, since the mistake is in the call.
    """
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    libraries = tuple(str(Path(place).resolve()) for place in (*sysconfig.get_paths().values(), bias_lab.__path__[0]))
    frames = traceback.extract_tb(error.__traceback__)
    name = backbone.partition(":")[0].split(".")[0]
    theirs = [
        frame
        for frame in frames
        if not frame.filename.startswith("<")
        and (not str(Path(frame.filename).resolve()).startswith(libraries) or f"/{name}" in frame.filename)
    ]
    return f"{theirs[-1].filename}, line {theirs[-1].lineno}" if theirs else where_defined(backbone)


def where_defined(backbone: str) -> str:
    """Return `FILE, line N` of an own backbone's factory, or the backbone's name where its source is not at hand."""
    module, _, factory = backbone.partition(":")
    try:
        thing = getattr(sys.modules[module], factory)
        return f"{inspect.getsourcefile(thing)}, line {inspect.getsourcelines(thing)[1]}"
    except (KeyError, AttributeError, TypeError, OSError):
        return backbone


def try_method(run: Run, images: store.Images) -> None:
    """Make a run's own method and take one step on two grey images. Raise UserError in one line for any exception."""
    size, channels, classes = images.train.shape[1], images.train.shape[3], len(images.classes)
    try:
        backbone, _ = prepare.build_backbone(run, size, channels, classes)
        rated = replace(run, learning_rate=run.learning_rate or 1e-3, samples_seen=run.samples_seen or run.batch_size)
        module = cast(LightningModule, task_of(run).method(rated, backbone))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Lightning's, on `self.log` without a Trainer
            loss = module.training_step((torch.zeros(2, channels, size, size), torch.arange(2)), 0)
        if getattr(module, "automatic_optimization", True):
            _check_loss(loss, run)
    except UserError:
        raise
    except Exception as error:
        first = next(iter(str(error).splitlines()), "")
        raise UserError(
            f"{place_of(error, run.method)}: method {run.method} can't train {run.backbone}: "
            f"{type(error).__name__}: {first}",
            "it gets images (B, C, H, W), and classes (B,) or probabilities (B, K)",
        ) from error


def _check_loss(loss: object, run: Run) -> None:
    """Raise UserError unless a training step gave a loss that Lightning can train on: one number with a gradient."""
    if isinstance(loss, dict):
        loss = loss.get("loss")
    if isinstance(loss, torch.Tensor) and loss.numel() == 1 and loss.requires_grad:
        return
    if not isinstance(loss, torch.Tensor):
        found = f"{type(loss).__name__}, no tensor"
    elif loss.numel() != 1:
        found = f"a tensor of the shape {tuple(loss.shape)}"
    else:
        found = "a tensor without a gradient"
    raise UserError(
        f"{where_defined(run.method)}: method {run.method} gives the loss as {found}",
        "a training step needs one number that depends on the weights",
        "return a tensor, such as F.cross_entropy(logits, target)",
    )


def _check_output(output: object, run: Run, backbone: nn.Module) -> None:
    """Raise UserError unless a backbone gives a tensor, and one that can be trained where the run trains it."""
    place = f" ({where_defined(run.backbone)})" if is_own(run.backbone) else ""
    if not isinstance(output, torch.Tensor):
        what = f"{run.backbone} returns an object of the type {type(output).__name__}{place}"
        raise UserError(what, "a tensor of logits (B, K) is needed", "let forward return the logits alone")
    if not trains(run):
        return
    if not any(weight.requires_grad for weight in backbone.parameters()):
        raise UserError(
            f"{run.backbone} has no weights to train{place}", remedy="add layers to it, or use --protocol knn"
        )
    if not output.requires_grad:
        what = f"{run.backbone} gives logits without a gradient{place}"
        raise UserError(what, remedy="leave out detach(), no_grad() and the like in forward")


def try_building(run: Run, images: store.Images) -> list[str]:
    """Build a run's backbone and apply it to two grey images. Return warnings.

    Raise UserError in one line for any exception of a user's or timm's backbone, and for a ValueError of the lab's own.
    """
    size, channels, classes = prepare.size_of(images), images.train.shape[3], len(images.classes)
    height, width = sides(size)
    wanted = (2, classes, height, width) if TASKS[run.task].dense else (2, classes)
    mistakes: tuple[type[Exception], ...] = (ValueError,) if run.backbone in BACKBONES else (Exception,)
    doing = "built for"
    try:
        backbone, drop_path = prepare.build_backbone(run, size, channels, classes)
        doing = "used on"
        output = backbone.eval()(torch.zeros(2, channels, height, width))
        _check_output(output, run, backbone)
        shape = tuple(output.shape)
        if _trains_on_one(run):
            _check_batch_of_one(run, backbone, torch.zeros(1, channels, height, width))
    except NotTaken as error:
        if not is_own(run.backbone):
            raise
        raise UserError(f"{error.what} ({where_defined(run.backbone)})", remedy=f"add the keyword: {TAKEN}") from error
    except UserError:
        raise
    except mistakes as error:
        first = next(iter(str(error).splitlines()), "")
        what = f"{run.backbone} can't be {doing} {height}x{width} images"
        if is_own(run.backbone):
            said = f"{type(error).__name__}: {first}"
            remedy = "install it, or correct that line" if isinstance(error, ImportError) else "correct that line"
            raise UserError(f"{place_of(error, run.backbone)}: {said}; {what}", remedy=remedy) from error
        raise UserError(
            f"{what}: {type(error).__name__}: {first}", remedy="give it another --image-size, or leave it out"
        ) from error
    if shape != wanted:
        what = f"{run.backbone} returns {shape} for 2 images of {classes} classes"
        own = f"let its last layer have num_classes outputs ({where_defined(run.backbone)})"
        raise UserError(what, f"{wanted} is needed", own if is_own(run.backbone) else "")
    if drop_path == run.drop_path:
        return []
    return [f"{run.backbone} does not support stochastic depth and runs without it in recipe {run.recipe}"]

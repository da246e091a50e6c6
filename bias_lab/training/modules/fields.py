"""Take the training fields of `Run` as plain keywords, so that a module and a DataModule are made without a sweep."""

import inspect
from collections.abc import Mapping
from typing import Any, TypedDict, cast

from lightning.pytorch import LightningModule

from bias_lab import definition
from bias_lab.catalogue import REGIMES, Sides
from bias_lab.definition import Run
from bias_lab.errors import UserError, unknown

OBJECT = "object "  # begins the hyperparameter that stands for what a checkpoint can't hold
HOLDER = "pretrain"  # the task of a run that only holds values, which needs no size and may take no step


class Training(TypedDict, total=False):
    """The fields of `Run` that say how it is trained, by their names, with the defaults of `Run`.

    A module and a DataModule take all of them, so that one recipe serves both. Each uses those that concern it. A
    module uses the optimizer's, `label_smoothing`, `ema`, `clip`, `drop_path`, `layer_decay`, `mask_ratio`,
    `teacher_schedule` and the backbone's. A DataModule uses `batch_size`, `seed` and the augmentation.
    """

    seed: int
    budget: float
    recipe: str
    optimizer: str
    samples_seen: int | None
    batch_size: int
    learning_rate: float | None
    weight_decay: float
    warmup: float
    label_smoothing: float
    flip: bool
    crop: int
    resized_crop: float
    trivial_augment: bool
    randaugment: int
    colour_jitter: float
    erasing: float
    mixup: float
    cutmix: float
    repeated_augmentation: int
    clip: float
    ema: float
    precision: str
    drop_path: float
    layer_decay: float
    mask_ratio: float
    teacher_schedule: str
    patch: int | None
    window: int | None
    stem: str | None
    priors: str


class Labelled(Training, total=False):
    """The training fields, and the fields of `Run` that choose the images."""

    size: int
    draw: int
    blocks: int
    image_size: int | None
    image_width: int | None
    intervention: str
    balanced: bool
    label_noise: float
    imbalance: float
    drop_duplicates: bool


def run_of(fields: Mapping[str, Any], *, backbone: str = "", regime: str = "scratch") -> Run:
    """Return a run with these fields, the regime's own defaults, and the defaults of `Run`. It only holds values.

    Raises UserError for a name that is no field of `Labelled`, and for a value that `Run` refuses.
    """
    for name in fields:
        if name not in Labelled.__annotations__:
            raise unknown("field", name, Labelled.__annotations__)
    return Run(**{"dataset": "", "backbone": backbone, "task": HOLDER, **REGIMES[regime].fields, **fields})


def steps_of(steps: int | None, fields: Mapping[str, Any], run: Run) -> int | None:
    """Return the steps of a schedule: those given, else `samples_seen` in batches if that is given, else None."""
    if steps is None and fields.get("samples_seen") is not None:
        return definition.steps(run)
    return steps


def training_fields(run: Run) -> Training:
    """Return a run's training fields as keywords."""
    return cast(Training, {name: getattr(run, name) for name in Training.__annotations__})


def complete(method: LightningModule, run: Run, default: float, missing: Mapping[str, object]) -> None:
    """Complete the hyperparameters of a module: the learning rate, and what a checkpoint can't hold.

    Lightning's learning rate finder sets the rate there. default: where the run has none. missing: name → the object
    that was given, a name, or None. A checkpoint then names it, and `asked` refuses to load from it without the object.
    """
    method.hparams["learning_rate"] = default if run.learning_rate is None else run.learning_rate
    for name, given in missing.items():
        if given is not None and not isinstance(given, str):
            method.hparams[name] = f"{OBJECT}{getattr(given, '__qualname__', type(given).__qualname__)}"


def asked(given: Mapping[str, object]) -> None:
    """Raise UserError for a value from a checkpoint that only names an object, which its user has to pass again."""
    for name, value in given.items():
        if isinstance(value, str) and value.startswith(OBJECT):
            what = f"the checkpoint was trained with a {name} that was given as an object, {value.removeprefix(OBJECT)}"
            raise UserError(what, remedy=f"pass it again: load_from_checkpoint(path, {name}=…)")


def recorded(method: object, run: Run, *, classes: int, channels: int, image_size: Sides, drop_path: float) -> None:
    """Complete the hyperparameters of a module that got its backbone as a model, so that its name makes it again.

    drop_path: the rate that the backbone has, which is 0 for one that can't have any. A module whose constructor does
    not take a backbone by name is left as it is.
    """
    taken = inspect.signature(type(method)).parameters
    if isinstance(method, LightningModule) and {"backbone", "classes", "channels", "image_size"} <= set(taken):
        shape = dict(classes=classes or None, channels=channels, image_size=image_size)
        method.save_hyperparameters({"backbone": run.backbone, **shape, "drop_path": drop_path})

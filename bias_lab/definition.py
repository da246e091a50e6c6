"""Define what is run: `Run`, `Experiment`, `grid` and `run_id`. All are frozen values that JSON can hold. No torch.

Every value that can change a run's result is a field of `Run`. How runs are carried out belongs to `Settings`.
"""

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from operator import attrgetter
from typing import Any, TypeVar

from bias_lab.catalogue import OPTIMIZERS, PROTOCOLS, TASKS, parse_priors
from bias_lab.errors import UserError, unknown

Scale = TypeVar("Scale")

SCHEMA = 1  # raised when a field's default or meaning changes, so that old ids never name new runs
PRECISIONS = ("fp32", "bf16")
TEACHER_SCHEDULES = ("", "steps")
Range = tuple[str, Callable[[Any], bool], str, str]  # field, condition, what is wrong otherwise, what is allowed
RANGES: list[Range] = [
    (name, allows, why, allowed)
    for names, allows, why, allowed in (
        ("size draw blocks seed crop mixup cutmix", lambda value: value >= 0, "is negative", "it must be 0 or more"),
        ("colour_jitter weight_decay clip monitor", lambda value: value >= 0, "is negative", "it must be 0 or more"),
        ("batch_size repeated_augmentation", lambda value: value >= 1, "is below 1", ""),
        ("patch window image_size image_width", lambda value: value is None or value >= 1, "is below 1", ""),
        ("imbalance", lambda value: value >= 1, "is below 1", "it is the largest class count over the smallest"),
        ("label_noise label_smoothing drop_path ema mask_ratio", lambda v: 0 <= v < 1, "is outside [0, 1)", ""),
        ("warmup erasing resized_crop", lambda value: 0 <= value <= 1, "is outside [0, 1]", ""),
        ("randaugment", lambda value: 0 <= value <= 30, "is outside 0 to 30", "it is a magnitude, and 0 means off"),
        ("layer_decay", lambda v: 0 < v <= 1, "is outside (0, 1]", "1 means the same learning rate in every layer"),
        ("budget", lambda value: value > 0, "is not positive", "1 is the usual budget"),
        ("learning_rate", lambda value: value is None or value > 0, "is not positive", ""),
    )
    for name in names.split()
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One training, from definition to result. Fields have the names of the table's columns (docs/design.md, A run)."""

    # the question
    dataset: str  # a catalogue name, or `folder:<fingerprint>`, `table:<fingerprint>`
    backbone: str  # a lab name, a timm name, or `module:factory`
    backbone_source: str = ""  # hash of an own backbone's source file, empty for the lab's and timm's
    task: str = "classify"  # a name of catalogue/tasks.py
    size: int = 0  # N labelled training images (0: none, as in a pretraining on the whole pool)
    image_size: int | None = None  # height in pixels (None: the dataset's own)
    image_width: int | None = None  # width in pixels (None: square images, or the dataset's own)
    draw: int = 0  # which order of the pool, or which of its blocks
    blocks: int = 0  # disjoint parts of draw 0's order, of which `draw` names one (0: each draw has the whole pool)
    seed: int = 0  # initialisation, batch order, augmentation
    monitor: int = 0  # how many times the hold-out is evaluated during the run (0: never)
    regime: str = "scratch"  # where the weights come from before the labelled images are seen
    protocol: str = "finetune"  # how the labelled images are used
    source: str = ""  # the images of a pretraining: pool, subset, a dataset's name. Empty for scratch
    pretraining: str = ""  # run_id of the pretraining whose encoder this run starts from
    weights: str = ""  # a timm name, or `file:<hash>`
    method: str = ""  # `module:Class` or `module:loss` of the user's own, of its pretraining if the run has one
    method_source: str = ""  # hash of its source file
    allow_partial_weights: bool = False  # go on if the weights fill only a part of the backbone
    pixel_mean: str = ""  # normalisation that belongs to the weights, as `0.5,0.5,0.5` (empty: the published one)
    pixel_std: str = ""
    head: str = ""  # reads a class a pixel (catalogue/heads.py). Empty in a segmentation: the backbone's own head
    intervention: str = ""  # empty, or e.g. `permute_pixels`
    priors: str = ""  # options of the backbone (catalogue/priors.py), sorted and joined by `+`
    budget: float = 1.0  # factor on samples_seen
    # the labelled images
    balanced: bool = False  # equal counts a class instead of proportional
    label_noise: float = 0.0  # share of labels replaced by another class
    imbalance: float = 1.0  # largest class count / smallest, a long tail (1: as the pool has it)
    manifest: str = ""  # content hash of a manifest that takes the place of a draw
    drop_duplicates: bool = False  # leave out training images that are in the test split too
    # the training
    recipe: str = "plain"  # the name of the settings below, with `+FIELD=VALUE` for what --set changed
    optimizer: str = "adamw"  # a name of catalogue/optimizers.py
    samples_seen: int | None = 16_000  # images seen in all (None: the settled budget of tuned.json)
    batch_size: int = 32
    learning_rate: float | None = None  # None: the tuned one (tuned.json), filled in by planning
    weight_decay: float = 0.05
    warmup: float = 0.1  # share of the steps
    label_smoothing: float = 0.0
    flip: bool = True
    crop: int = 2  # padding of the random crop, pixels at 28-32 px
    resized_crop: float = 0.0  # smallest area share of a random resized crop (0: off)
    trivial_augment: bool = False
    randaugment: int = 0  # magnitude 0-30 of RandAugment's two operations (0: off)
    colour_jitter: float = 0.0
    erasing: float = 0.0  # probability
    mixup: float = 0.0  # alpha of the Beta distribution (0: off)
    cutmix: float = 0.0
    repeated_augmentation: int = 1  # how many views of one image share a batch
    clip: float = 1.0  # gradient norm (0: off)
    ema: float = 0.0  # decay of the weights' moving average (0: off)
    precision: str = "fp32"
    drop_path: float = 0.0
    layer_decay: float = 1.0  # layer-wise learning-rate decay (1: off)
    mask_ratio: float = 0.75  # masked share in `mae` and `simmim`
    teacher_schedule: str = ""  # `steps`: the momentum of DINO's teacher follows the number of steps
    # the backbone at this image size (None: backbones/build.py chooses, and the result records it)
    patch: int | None = None
    window: int | None = None
    stem: str | None = None

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise unknown("task", self.task, TASKS)
        for name, allows, why, allowed in RANGES:
            if isinstance(value := getattr(self, name), str):
                raise UserError(f"{name} is the text '{value}'", "it must be a number")
            if not allows(value):
                raise UserError(f"{name} {value} {why}", allowed)
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)
        if self.teacher_schedule not in TEACHER_SCHEDULES:
            raise unknown("teacher_schedule", self.teacher_schedule, TEACHER_SCHEDULES)
        if self.optimizer not in OPTIMIZERS:
            raise unknown("optimizer", self.optimizer, OPTIMIZERS)
        for text in filter(None, (self.pixel_mean, self.pixel_std)):
            levels(text)
        if self.pixel_std and min(levels(self.pixel_std)) <= 0:
            raise UserError(f"the standard deviation {self.pixel_std} is not positive")
        parse_priors(self.priors)
        if self.image_width is not None and self.image_width == self.image_size:
            raise UserError(f"image_width {self.image_width} is the image_size", "", "leave it out: images are square")
        if self.manifest and (self.balanced or self.imbalance != 1):
            raise UserError("a manifest already determines the images", remedy="leave balanced and imbalance out")
        if self.blocks:
            self._check_blocks()
        least = 0 if TASKS[self.task].pretrains else 1  # a pretraining of no steps is a control
        if self.samples_seen is not None and self.samples_seen < least:
            raise UserError(f"samples_seen {self.samples_seen} is below {least}")
        if self.manifest and self.drop_duplicates and not self.dataset.startswith(("folder:", "table:")):
            # duplicates in a user's own images leave the pool when it is indexed, before the manifest is compared
            what = f"a manifest numbers all images of {self.dataset}, but drop_duplicates leaves some out"
            raise UserError(what, remedy="set drop_duplicates=false")
        if TASKS[self.task].labelled and self.size < 1:
            raise UserError(f"a run of task '{self.task}' needs a size", "the number of labelled training images")

    def _check_blocks(self) -> None:
        """Raise UserError if there is no such block, or if the run takes no images from a block."""
        if self.draw >= self.blocks:
            raise UserError(f"draw {self.draw} is none of {self.blocks} blocks", f"0 to {self.blocks - 1}")
        if self.manifest or not self.size:
            what = "a manifest names its images itself" if self.manifest else "a run without a size reads no block"
            raise UserError(what, remedy="leave blocks out")


def levels(text: str) -> tuple[float, ...]:
    """Return a value for each channel of `0.485,0.456,0.406`. One value stands for every channel.

    Raises UserError for anything but one or three finite numbers from 0 to 1, as images have them.
    """
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) not in (1, 3) or not all(0 <= value <= 1 for value in values):
        raise UserError(f"'{text}' is not a value from 0 to 1 for each channel", "for example 0.485,0.456,0.406")
    return values


FIELDS = tuple(one.name for one in fields(Run))
_VALUES = attrgetter(*FIELDS)
DEFAULTS: dict[str, Any] = {one.name: one.default for one in fields(Run) if one.default is not MISSING}
REPLICATE = "replicate"  # the axis of `grid` that sets draw and seed together

RECIPES: dict[str, dict[str, Any]] = {  # name → the fields it sets. `plain` keeps the defaults
    "plain": {},
    "strong": dict(label_smoothing=0.1, trivial_augment=True, erasing=0.25, mixup=0.2, cutmix=1.0, drop_path=0.1),
}


TUNED = "tuned"  # stands for the recipe that the hold-out preferred until planning has filled it in


def recipe(name: str) -> dict[str, Any]:
    """Return the fields that a recipe sets, with its name: `replace(run, **recipe("strong"))`.

    `tuned` sets no other field, since planning replaces it. Raises UserError for an unknown name.

    >>> recipe("strong")["mixup"], recipe("plain")
    (0.2, {'recipe': 'plain'})
    """
    if name not in (*RECIPES, TUNED):
        raise unknown("recipe", name, (*RECIPES, TUNED))
    return {"recipe": name, **RECIPES.get(name, {})}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """How tuning searches for a learning rate and a settled budget (planning/ladder.py).

    first: images seen at the smallest budget, where every learning rate is tried. cap: the largest budget.
    replicates: tuning replicates of the budgets that decide. rates: the grid of learning rates. ceiling: accuracy on
    the hold-out above which a ladder ends too, at least 0.99, where no doubling can gain a point any more (1: none).
    """

    first: int = 16_000
    cap: int = 256_000
    replicates: int = 3
    rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3, 1e-2)
    ceiling: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.first <= self.cap:
            raise UserError(f"a ladder from {self.first} to {self.cap} images has no rung", "first may not exceed cap")
        if self.replicates < 1 or not self.rates or min(self.rates) <= 0 or not 0.99 <= self.ceiling <= 1:
            raise UserError("a ladder needs a replicate or more, learning rates above 0, and a ceiling from 0.99 to 1")


LADDER = Ladder()


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """A question and the runs that answer it, in the order in which they are begun. Two equal runs are an error."""

    question: str
    runs: tuple[Run, ...]
    note: str = ""  # a sentence for the reader of the report
    ladder: Ladder = LADDER  # how tuning searches where a run's learning rate or budget is open
    ladders: Mapping[str, Ladder] = field(default_factory=dict)  # dataset → its own, where it has another one

    def __post_init__(self) -> None:
        seen: set[Run] = set()
        for run in self.runs:
            if run in seen:
                raise UserError(f"two equal runs in one experiment: {to_json(run)}", remedy="remove one of them")
            seen.add(run)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How runs are carried out. No field can change a result on the same kind of machine."""

    device: str = "auto"  # auto: a GPU if there is one
    workers: int | None = None  # None: one a core (one a GPU)
    wandb: bool = True
    wandb_mode: str = ""  # online or offline (empty: as WANDB_MODE says, else offline)
    data_root: str | None = None  # where torchvision's datasets lie (None: BIAS_LAB_DATA, else ~/.cache/bias_lab/data)
    experiment: str = ""  # the group in W&B and the table
    command: str = ""  # the command line, kept in every result
    skip_bad_images: bool = False
    allow_overlap: bool = False


def choose_profile(profiles: Mapping[str, Scale], name: str) -> Scale:
    """Return the values of one profile of an experiment file. Raises UserError for an unknown name.

    >>> choose_profile({"smoke": 20, "laptop": 1000}, "laptop")
    1000
    """
    if name not in profiles:
        raise unknown("profile", name, profiles)
    return profiles[name]


def grid(run: Run, **axes: Iterable[Any]) -> tuple[Run, ...]:
    """Return copies of `run` with all combinations of the axes' values, in which the first axis changes slowest.

    An axis is a field of `Run`, or `replicate`, whose values are pairs (draw, seed). Raises UserError for a misspelt
    axis, for one that is not a sequence of values, and for `replicate` beside `draw` or `seed`.

    >>> one = Run(dataset="mnist", backbone="vit_micro", size=100)
    >>> [(run.size, run.draw, run.seed) for run in grid(one, size=(100, 300), replicate=((0, 0), (1, 1)))]
    [(100, 0, 0), (100, 1, 1), (300, 0, 0), (300, 1, 1)]
    """
    if REPLICATE in axes and {"draw", "seed"} & set(axes):
        raise UserError("the axis replicate sets draw and seed", remedy="leave the axes draw and seed out")
    return tuple(
        replace(run, **{name: value for values in point for name, value in values.items()})
        for point in itertools.product(*(_axis(name, values) for name, values in axes.items()))
    )


def _axis(name: str, values: Iterable[Any]) -> list[dict[str, Any]]:
    """Return the fields that each value of an axis sets."""
    if name not in (*FIELDS, REPLICATE):
        raise unknown("field", name, (*FIELDS, REPLICATE))
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise UserError(f"axis {name}={values!r} is one value", f"give a sequence: {name}=({values!r},)")
    if name != REPLICATE:
        return [{name: value} for value in values]
    pairs = [pair if isinstance(pair, tuple) else () for pair in values]
    if any(len(pair) != 2 for pair in pairs):
        raise UserError("a value of the axis replicate is not a pair (draw, seed)", "for example ((0, 0), (1, 1))")
    return [{"draw": draw, "seed": seed} for draw, seed in pairs]


def to_json(run: Run) -> dict[str, Any]:
    """Return the run's fields for JSON. Those at their default are left out, so a new field changes no old id."""
    return {n: v for n, v in zip(FIELDS, _VALUES(run), strict=True) if n not in DEFAULTS or v != DEFAULTS[n]}


def from_json(values: Mapping[str, Any]) -> Run:
    """Return the run that `to_json` wrote. Raises UserError for an unknown field or a value of the wrong type."""
    if others := [name for name in values if name not in FIELDS]:
        raise unknown("field", others[0], FIELDS)
    if missing := {"dataset", "backbone"} - set(values):
        raise UserError(f"the definition of a run lacks {' and '.join(sorted(missing))}")
    checked = dict(values)
    for one in fields(Run):
        if one.name not in checked or not isinstance(one.type, type):
            continue
        if one.type is float and type(checked[one.name]) is int:
            checked[one.name] = float(checked[one.name])  # 1 and 1.0 are one run
        if type(checked[one.name]) is not one.type:
            raise UserError(f"field {one.name}={checked[one.name]!r} is not of type {one.type.__name__}")
    return Run(**checked)


def run_id(run: Run) -> str:
    """Return the first 12 hex digits of the SHA-256 of the run's canonical JSON and `SCHEMA`.

    Keys are sorted, and fields at their default are left out.
    """
    canonical = {"schema": SCHEMA, **to_json(run)}
    for name, value in canonical.items():
        if isinstance(value, float) and value.is_integer() and name != "schema":
            canonical[name] = int(value)  # 3.0 and 3 are the same budget
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def pretrains(run: Run) -> bool:
    """Return whether the run trains an encoder that other runs start from."""
    return TASKS[run.task].pretrains


def trains(run: Run) -> bool:
    """Return whether a run takes optimizer steps. A linear probe and nearest neighbours take none."""
    return pretrains(run) or PROTOCOLS[run.protocol].trains


def images_seen(run: Run) -> float:
    """Return the number of images that a run sees. Raises ValueError while its settled budget is not filled in."""
    if run.samples_seen is None:
        raise ValueError("planning fills in the settled budget before a run is carried out")
    return run.samples_seen * run.budget


def steps(run: Run) -> int:
    """Return the number of optimizer steps: the images seen in batches, rounded up. Raises as `images_seen`."""
    return math.ceil(images_seen(run) / run.batch_size)

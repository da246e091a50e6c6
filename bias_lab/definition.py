"""What is run: `Run`, `Experiment`, `grid` and `run_id`. Plain values, frozen, JSON both ways; no torch.

Everything that can change a run's result is a field of `Run`, and nothing else is. Where something lies (a user's
folder, a weights file) and how it is carried out (device, workers, W&B) belongs to `Settings`.
"""

import contextlib
import hashlib
import itertools
import json
import math
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from bias_lab.errors import UserError, unknown

SCHEMA = 1  # raised when a field's default or meaning changes, so that old ids never name new runs

TASKS = ("classify", "pretrain", "tune")
PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One training, from definition to result. Fields carry the names of the table's columns (DESIGN 3.1)."""

    # what is asked
    dataset: str  # a catalogue name, or `folder:<fingerprint>`, `table:<fingerprint>`
    backbone: str  # a lab name, a timm name, or `module:factory`
    backbone_source: str = ""  # hash of an own backbone's source file; empty for the lab's and timm's
    task: str = (
        "classify"  # classify: test read once. tune: judged on the hold-out, test never read. pretrain: encoder only
    )
    size: int = 0  # N labelled training images; 0: none (a pretraining on the whole pool)
    image_size: int | None = None  # side in pixels; None: the dataset's own
    draw: int = 0  # which order of the pool
    seed: int = 0  # initialisation, batch order, augmentation
    monitor: int = 0  # how often over the run the hold-out is measured; 0: never
    regime: str = "scratch"
    protocol: str = "finetune"
    source: str = ""  # where a pretraining looks: pool, subset, a dataset's name; empty for scratch
    pretraining: str = ""  # run_id of the pretraining whose encoder this run starts from
    weights: str = ""  # a timm name, or `file:<hash>`
    intervention: str = ""  # empty, or e.g. `permute_pixels`
    budget: float = 1.0  # factor on samples_seen; 1 but for a cell run longer on purpose
    # which images
    balanced: bool = False  # equal counts a class instead of proportional
    label_noise: float = 0.0  # share of labels replaced by another class
    imbalance: float = 1.0  # largest class count / smallest (long tail); 1: as the pool has it
    manifest: str = ""  # content hash of a manifest that takes the place of a draw
    drop_duplicates: bool = False  # leave training images out that also stand in the test split
    # how it is trained
    recipe: str = "plain"  # the name of the settings below
    samples_seen: int = 16_000  # images seen, equal for all backbones at one size
    batch_size: int = 32
    learning_rate: float | None = None  # None: the tuned one (experiments/tuned.json), filled in when planned
    weight_decay: float = 0.05
    warmup: float = 0.1  # share of the steps
    label_smoothing: float = 0.0
    flip: bool = True
    crop: int = 2  # padding of the random crop, pixels at 28-32 px
    resized_crop: float = 0.0  # smallest area share of a random resized crop; 0: off
    trivial_augment: bool = False
    randaugment: int = 0  # magnitude 0-30 of RandAugment's two operations; 0: off
    colour_jitter: float = 0.0
    erasing: float = 0.0  # probability
    mixup: float = 0.0  # alpha of the Beta distribution; 0: off
    cutmix: float = 0.0
    repeated_augmentation: int = 1  # how many views of one image share a batch
    clip: float = 1.0  # gradient norm; 0: off
    ema: float = 0.0  # decay of the weights' moving average; 0: off
    precision: str = "fp32"
    drop_path: float = 0.0
    layer_decay: float = 1.0  # layer-wise learning-rate decay; 1: off
    mask_ratio: float = 0.75  # masked share in `mae` and `simmim`
    # the backbone at this image size; None: chosen by backbones/build.py, and recorded in the result
    patch: int | None = None
    window: int | None = None
    stem: str | None = None

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise unknown("task", self.task, TASKS)
        for name in ("size", "draw", "seed"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} {getattr(self, name)} is negative", "0 or more")
        for name in ("samples_seen", "batch_size", "repeated_augmentation"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} {getattr(self, name)} is below 1")
        if not 0 <= self.mask_ratio < 1:
            raise UserError(f"mask_ratio {self.mask_ratio} is outside [0, 1)", "0.75 is MAE's own, 0.6 SimMIM's")
        if self.budget <= 0:
            raise UserError(f"budget {self.budget} is not positive", "1 is the budget of all other cells")
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise UserError(f"learning_rate {self.learning_rate} is not positive")
        for name in ("label_noise", "label_smoothing", "drop_path", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{name} {getattr(self, name)} is outside [0, 1)")
        for name in ("warmup", "erasing", "resized_crop"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name} {getattr(self, name)} is outside [0, 1]")
        for name in ("crop", "mixup", "cutmix", "colour_jitter", "weight_decay", "clip", "monitor"):
            if not getattr(self, name) >= 0:
                raise UserError(f"{name} {getattr(self, name)} is negative", "0 or more")
        if not 0 <= self.randaugment <= 30:
            raise UserError(f"randaugment {self.randaugment} is outside 0 to 30", "its magnitude; 0: off")
        if not 0 < self.layer_decay <= 1:
            raise UserError(f"layer_decay {self.layer_decay} is outside (0, 1]", "1: every layer learns alike")
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)
        if self.imbalance < 1:
            raise UserError(f"imbalance {self.imbalance} is below 1", "it is the largest class count over the smallest")
        if self.manifest and (self.balanced or self.imbalance != 1):
            raise UserError("a manifest names its images itself", remedy="leave balanced and imbalance out")
        if self.manifest and self.drop_duplicates and not self.dataset.startswith(("folder:", "table:")):
            # one's own have left the pool when it was indexed, before the manifest was held against it
            what = f"a manifest counts all images of {self.dataset}, and drop_duplicates leaves some out"
            raise UserError(what, remedy="drop_duplicates=false")
        if self.task != "pretrain" and self.size < 1:
            raise UserError(f"a run of task '{self.task}' needs a size", "the number of labelled training images")


FIELDS = tuple(field.name for field in fields(Run))

RECIPES: dict[str, dict[str, Any]] = {  # name → the fields it sets; `plain` is the defaults
    "plain": {},
    "strong": dict(label_smoothing=0.1, trivial_augment=True, erasing=0.25, mixup=0.2, cutmix=1.0, drop_path=0.1),
}


def recipe(name: str) -> dict[str, Any]:
    """The fields that a recipe sets, its name among them: `grid(ONE, **...)` or `replace(run, **recipe("strong"))`."""
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    return {"recipe": name, **RECIPES[name]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """A question and the runs that answer it, the most telling first. Two equal runs are an error."""

    question: str
    runs: tuple[Run, ...]
    note: str = ""  # what a reader of the report must know, e.g. "given one pretraining"

    def __post_init__(self) -> None:
        seen: dict[str, Run] = {}
        for run in self.runs:
            key = run_id(run)
            if key in seen:
                raise UserError(f"two equal runs in one experiment: {label(run)}", remedy="remove one of them")
            seen[key] = run


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How runs are carried out: nothing here can change a result on the same kind of machine."""

    device: str = "auto"  # auto: a GPU if there is one
    workers: int | None = None  # None: one a core (one a GPU)
    wandb: bool = True
    data_root: str | None = None  # where torchvision's datasets lie; None: BIAS_LAB_DATA, else ~/.cache/bias_lab/data
    experiment: str = ""  # the group in W&B and the table
    command: str = ""  # what the user typed, kept in every result
    skip_bad_images: bool = False
    allow_overlap: bool = False


def grid(run: Run, **axes: Iterable[Any]) -> tuple[Run, ...]:
    """All combinations of the axes' values, each on a copy of `run`; the first axis changes slowest.

    Raises UserError for a misspelt axis, with the nearest field; for an axis that is not a sequence of values.
    """
    values = []
    for name, axis in axes.items():
        if name not in FIELDS:
            raise unknown("field", name, FIELDS)
        if isinstance(axis, str) or not isinstance(axis, Iterable):
            raise UserError(f"axis {name}={axis!r} is one value", f"a sequence: {name}=({axis!r},)")
        values.append(tuple(axis))
    return tuple(replace(run, **dict(zip(axes, point, strict=True))) for point in itertools.product(*values))


def to_json(run: Run) -> dict[str, Any]:
    """The run as plain values, fields at their default left out, so that a new field moves no old id."""
    changed = {}
    for field in fields(Run):
        value = getattr(run, field.name)
        if field.default is MISSING or value != field.default:
            changed[field.name] = value
    return changed


def from_json(values: Mapping[str, Any]) -> Run:
    """The run that `to_json` wrote. Raises UserError for a field that this version does not know."""
    for name in values:
        if name not in FIELDS:
            raise unknown("field", name, FIELDS)
    missing = {"dataset", "backbone"} - set(values)
    if missing:
        raise UserError(f"a run without {' and '.join(sorted(missing))}")
    checked = dict(values)
    for field in fields(Run):
        if field.name not in checked or not isinstance(field.type, type):
            continue
        if field.type is float and type(checked[field.name]) is int:
            checked[field.name] = float(checked[field.name])  # 1 and 1.0 are one run
        if type(checked[field.name]) is not field.type:
            raise UserError(f"field {field.name}={checked[field.name]!r} is not of type {field.type.__name__}")
    return Run(**checked)


def run_id(run: Run) -> str:
    """First 12 hex digits of the SHA-256 of the run's canonical JSON: sorted keys, defaults left out, schema number."""
    canonical = {"schema": SCHEMA, **to_json(run)}
    for name, value in canonical.items():
        if isinstance(value, float) and value.is_integer() and name != "schema":
            canonical[name] = int(value)  # 3.0 and 3 are one budget
    text = json.dumps(canonical, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def steps(run: Run) -> int:
    """Optimizer steps: the images seen, rounded up to whole batches."""
    return math.ceil(run.samples_seen * run.budget / run.batch_size)


def label(run: Run) -> str:
    """A run in a few words, for messages: what tells it from its neighbours."""
    parts = [run.backbone, run.regime, f"N={run.size}" if run.size else run.source or "pool"]
    if run.protocol != "finetune":
        parts.insert(2, run.protocol)
    if run.recipe != "plain":
        parts.append(run.recipe)
    if run.intervention:
        parts.append(run.intervention)
    if run.budget != 1:
        parts.append(f"{run.budget:g}x budget")
    if run.task != "classify":
        parts.append(run.task)
    if run.learning_rate is not None and run.task == "tune":
        parts.append(f"lr {run.learning_rate:g}")
    return " ".join([*parts, f"draw {run.draw}", f"seed {run.seed}"])


def parse_field(text: str) -> tuple[str, Any]:
    """`FIELD=VALUE` from a command line, the value turned into the field's type."""
    name, separator, value = text.partition("=")
    by_name = {field.name: field for field in fields(Run)}
    if not separator:
        raise UserError(f"'{text}' is not FIELD=VALUE", remedy="for example --set mixup=0.2")
    if name not in by_name:
        raise unknown("field", name, FIELDS)
    kind = str(by_name[name].type)
    try:
        if "None" in kind and value.lower() in ("", "none"):
            return name, None
        if "bool" in kind:
            return name, {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[value.lower()]
        if "int" in kind:
            return name, int(value)
        if "float" in kind:
            number = float(value)
            if not math.isfinite(number):
                raise ValueError(value)
            return name, number
    except (KeyError, ValueError) as error:
        wanted = "true or false" if "bool" in kind else "a whole number" if "int" in kind else "a number"
        raise UserError(f"{name}={value!r} is not {wanted}") from error
    return name, value


def read_experiment(path: Path, profile: str) -> Experiment:
    """Run an experiment file and ask it for one profile.

    Raises UserError if there is no such file or profile, and for what goes wrong in the file: its line and why.
    """
    if not path.is_file():
        near = sorted(p.stem for p in path.parent.glob("*.py")) if path.parent.is_dir() else []
        raise unknown("experiment file", str(path), [str(path.parent / f"{name}.py") for name in near])
    namespace: dict[str, Any] = {"__name__": "bias_lab_experiment", "__file__": str(path)}
    with _at_its_line(path):
        exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), namespace)
    make = namespace.get("experiment")
    if not callable(make):
        raise UserError(f"{path} defines no experiment(profile)", remedy="see experiments/small_data.py")
    scale = namespace.get("SCALE", {})
    if scale and profile not in scale:
        raise unknown("profile", profile, scale)
    with _at_its_line(path):
        made = make(profile)
    if not isinstance(made, Experiment):
        raise UserError(f"{path}: experiment('{profile}') gave {type(made).__name__}", "an Experiment")
    return made


@contextlib.contextmanager
def _at_its_line(path: Path) -> Iterator[None]:
    """A mistake in the user's Python becomes one line that names the place."""
    try:
        yield
    except UserError:
        raise
    except SyntaxError as error:
        where = error.filename or path  # a module that the file imports, it may be
        raise UserError(f"{where}, line {error.lineno}: {error.msg}", remedy="mend the file") from error
    except Exception as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        where = f"{path}, line {lines[-1]}" if lines else str(path)
        raise UserError(f"{where}: {type(error).__name__}: {error}", remedy="mend the file") from error


def as_dict(settings: Settings) -> dict[str, Any]:
    """Settings as plain values, to be handed to another process."""
    return asdict(settings)

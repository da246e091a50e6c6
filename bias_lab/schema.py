"""Describe every column of the results table once: name, type, unit, role, words for people, and where it comes from.

The table's columns and types, W&B's config and summary, the words for a run, the recipe table, the key of a cell and
the axes of a study are derived from these rows. A field of `Run` that has no row of its own here is a column too: its
type is that of the field, its words are its name, and it is an axis. No pandas, no torch.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, cast

from bias_lab.catalogue import TASKS
from bias_lab.definition import DEFAULTS as DEFAULTS
from bias_lab.definition import Run, run_id

Kind = Literal["text", "whole", "real", "flag", "bits"]
Role = Literal["identity", "axis", "recipe", "metric", "fact"]
Origin = Literal["run", "plan", "catalogue", "state", "metrics", "facts", "result", "files"]

PANDAS: dict[Kind, str] = {"text": "str", "whole": "Int64", "real": "float64", "flag": "boolean", "bits": "object"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of the table.

    kind: type of its values. role: `identity` names a run, `axis` and `recipe` may vary in a study, `metric` is
    measured, `fact` is recorded. origin: which part of a run's record holds the value. unit: empty for text and flags.
    """

    name: str
    kind: Kind
    role: Role
    words: str
    origin: Origin = "run"
    unit: str = ""


def _rows(role: Role, origin: Origin, table: str) -> list[Column]:
    """Return columns from lines of `name | kind | unit | words`."""
    columns = []
    for line in table.strip().splitlines():
        name, kind, unit, words = (part.strip() for part in line.split("|"))
        columns.append(Column(name=name, kind=cast(Kind, kind), role=role, words=words, origin=origin, unit=unit))
    return columns


DESCRIBED = [
    *_rows("identity", "state", "run_id | text | | run\nstatus | text | | status"),
    *_rows("identity", "plan", "experiment | text | | experiment\ncomparison | text | | comparison"),
    *_rows(
        "fact",
        "plan",
        """
        settled | flag | | settled
        holdout_top1 | real | fraction | the task's metric on the hold-out at the settled budget
        holdout_gain | real | fraction | gain on the hold-out by the last doubling of the images seen
        """,
    ),
    *_rows(
        "identity",
        "run",
        """
        task | text | | task
        draw | whole | | draw of the labelled images
        blocks | whole | | disjoint blocks of the pool
        seed | whole | | seed
        pretraining | text | | pretraining
        monitor | whole | times | measurements on the hold-out
        """,
    ),
    *_rows(
        "axis",
        "run",
        """
        dataset | text | | dataset
        backbone | text | | backbone
        backbone_source | text | | version of the backbone's source
        method | text | | method
        method_source | text | | version of the method's source
        regime | text | | regime
        protocol | text | | protocol
        source | text | | source of the pretraining
        weights | text | | weights
        size | whole | images | labelled training images
        recipe | text | | recipe
        head | text | | segmentation head
        intervention | text | | intervention
        priors | text | | priors
        budget | real | times | budget
        balanced | flag | | balanced classes
        label_noise | real | share | label noise
        imbalance | real | times | class imbalance
        manifest | text | | manifest
        drop_duplicates | flag | | duplicates left out
        patch | whole | px | patch
        window | whole | tokens | window
        stem | text | | stem
        """,
    ),
    *_rows("axis", "facts", "image_size | whole | px | image size\nimage_width | whole | px | image width"),
    *_rows("recipe", "result", "samples_seen | whole | images | images seen"),
    *_rows(
        "recipe",
        "run",
        """
        optimizer | text | | optimizer
        batch_size | whole | images | batch size
        learning_rate | real | | learning rate
        weight_decay | real | | weight decay
        warmup | real | share | warm-up
        label_smoothing | real | share | label smoothing
        flip | flag | | horizontal flips
        crop | whole | px | padding of random crops
        resized_crop | real | share | smallest area of resized crops
        trivial_augment | flag | | TrivialAugment
        randaugment | whole | | RandAugment magnitude
        colour_jitter | real | | colour jitter
        erasing | real | share | random erasing
        mixup | real | | mixup alpha
        cutmix | real | | cutmix alpha
        repeated_augmentation | whole | views | repeated augmentation
        clip | real | | gradient clipping
        ema | real | | decay of the moving average
        precision | text | | precision
        drop_path | real | share | stochastic depth
        layer_decay | real | | layer-wise learning-rate decay
        mask_ratio | real | share | mask ratio
        teacher_schedule | text | | schedule of the teacher
        """,
    ),
    *_rows("fact", "catalogue", "architecture | text | | architecture\nfamily | text | | family"),
    *_rows(
        "fact",
        "facts",
        """
        parameters | whole | parameters | parameters without the classifier
        flops | whole | multiply-adds | multiply-adds of one image
        head_parameters | whole | parameters | parameters of the segmentation head
        head_flops | whole | multiply-adds | multiply-adds of the segmentation head
        classes | whole | classes | classes
        test_images | whole | images | test images
        dataset_fingerprint | text | | fingerprint of the dataset
        test_parts | text | | parts of the test images
        code | text | | hash of the lab's source
        source_overlap | whole | images | test images in the source
        weights_loaded | text | | what was loaded of the weights
        test_groups | text | | groups of test images that depend on one another
        """,
    ),
    *_rows(
        "metric",
        "metrics",
        """
        collapsed | flag | | collapsed
        untrained | flag | | a pretraining near its chance level
        top1 | real | fraction | test accuracy
        top5 | real | fraction | test accuracy, top 5
        macro_f1 | real | fraction | macro F1
        ece | real | fraction | calibration error
        loss | real | nats | test loss
        train_top1 | real | fraction | training accuracy
        train_loss | real | nats | training loss
        loss_slope | real | share | change of the training loss in the last quarter
        miou | real | fraction | test mIoU
        pixel_accuracy | real | fraction | test pixels that were right
        boundary_f1 | real | fraction | boundary F1
        train_miou | real | fraction | training mIoU
        majority | real | fraction | share of the largest class of the test images
        constant_miou | real | fraction | mIoU of one class for all pixels, the one that most training pixels have
        """,
    ),
    *_rows("metric", "files", "correct | bits | | test images that were right"),
    # uint32, little-endian, of shape (test_images, classes, 2): intersection and union of each test image and class
    *_rows("metric", "files", "scores | bits | | intersections and unions in pixels"),
    *_rows(
        "fact",
        "result",
        """
        steps | whole | steps | steps
        seconds | real | s | seconds
        attempts | whole | attempts | attempts
        commit | text | | commit
        device | text | | device
        versions | text | | versions
        """,
    ),
]

REQUIRED = (  # the first columns of every table, old ones too, in this order (docs/design.md, A run's folder)
    "run_id experiment task dataset image_size backbone architecture family parameters flops recipe intervention "
    "budget regime protocol source size draw seed status collapsed top1 top5 macro_f1 ece loss train_top1 "
    "train_loss loss_slope steps samples_seen seconds attempts classes test_images dataset_fingerprint "
    "learning_rate correct commit device versions"
).split()


def columns() -> dict[str, Column]:
    """Return every column by name, in the order of the table."""
    described = {column.name: column for column in DESCRIBED}
    for field in fields(Run):
        if field.name not in described:
            kind, words = kind_of(str(field.type)), field.name.replace("_", " ")
            described[field.name] = Column(name=field.name, kind=kind, role="axis", words=words)
    return {name: described[name] for name in [*REQUIRED, *(name for name in described if name not in REQUIRED)]}


def kind_of(annotation: str) -> Kind:
    """Return the type of the column that holds a field of `Run`, from the field's annotation."""
    kinds: dict[str, Kind] = {"bool": "flag", "int": "whole", "float": "real"}
    return next((kind for word, kind in kinds.items() if word in annotation), "text")


COLUMNS = columns()
START = ("regime", "protocol", "source")  # where the weights come from, and how the labels are used
REPLICATE = ("draw", "seed")
CELL = ("dataset", "image_size", "backbone", *START, "size")  # what every table of results tells apart
# What may tell the cells of a study apart besides CELL, the usual ones first.
USUAL = ("recipe", "intervention", "budget")
AXES = (*USUAL, *(n for n, c in COLUMNS.items() if c.role in ("axis", "recipe") and n not in (*CELL, *USUAL)))
SETTINGS = tuple(n for n, c in COLUMNS.items() if c.role == "recipe" and n != "learning_rate")
FRACTIONS = tuple(n for n, c in COLUMNS.items() if c.role == "metric" and c.unit == "fraction")


def named(role: Role | None = None, origin: Origin | None = None, kind: Kind | None = None) -> tuple[str, ...]:
    """Return the names of the columns with this role, origin and type, in order. None stands for any."""
    return tuple(
        name
        for name, column in COLUMNS.items()
        if role in (None, column.role) and origin in (None, column.origin) and kind in (None, column.kind)
    )


# --- words -----------------------------------------------------------------------------------------------------------


def phrase(name: str, value: Any) -> str:
    """Return a column's value in words: `label noise 0.2`, `batch size 64 images`, `no horizontal flips`.

    name: a column, or `pretraining_` and a field of the pretraining. A missing number is the default one, and an empty
    text is `no …`.

    >>> phrase("label_noise", 0.2), phrase("flip", False), phrase("recipe", "strong")
    ('label noise 0.2', 'no horizontal flips', 'recipe strong')
    """
    if name == "pretraining_samples_seen" and not is_missing(value):
        return f"a pretraining of {int(value):,} images" if value else "a pretraining of zero steps"
    if name.startswith("pretraining_"):
        return f"a pretraining with {phrase(name.removeprefix('pretraining_'), value)}"
    column = COLUMNS[name]
    if is_missing(value) or value is False or value == "":
        return f"{'default' if column.kind in ('whole', 'real') else 'no'} {column.words}"
    if value is True:
        return column.words
    if column.kind in ("whole", "real"):
        return f"{column.words} {_number(value, column.unit)}"
    return f"{column.words} {value}"


def axis_words(name: str) -> str:
    """Return the words of an axis: `label noise`, `mask ratio in pretraining`."""
    words = COLUMNS[name.removeprefix("pretraining_")].words
    return f"{words} in pretraining" if name.startswith("pretraining_") else words


def _number(value: Any, unit: str) -> str:
    text = f"{int(value):,}" if float(value).is_integer() and abs(value) >= 1000 else f"{float(value):g}"
    return f"{text} {unit}" if unit in ("px", "tokens") else f"{text}x" if unit == "times" else text


def is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN or pandas' NA."""
    return value is None or type(value).__name__ == "NAType" or value != value


def label(run: Run) -> str:
    """Return a run in a few words, for messages. `labels` tells the runs of one plan apart in any field.

    >>> label(Run(dataset="mnist", backbone="vit_micro", size=100, label_noise=0.2))
    'vit_micro scratch N=100 label noise 0.2 draw 0 seed 0'
    """
    parts = [run.backbone, run.regime, f"N={run.size}" if run.size else run.source or "pool"]
    if run.protocol != DEFAULTS["protocol"]:
        parts.insert(2, run.protocol)
    parts += [phrase(name, getattr(run, name)) if name in _LONG else _short(run, name) for name in _told(run)]
    return " ".join([*parts, f"draw {run.draw}", f"seed {run.seed}"])


_SILENT = {"weights", "backbone_source", "method_source", "manifest", "drop_duplicates"}  # the source implies them
_LONG = tuple(name for name in AXES if COLUMNS[name].role == "axis" and name not in {*USUAL, *_SILENT})


def _told(run: Run) -> list[str]:
    """Return the fields beside backbone, start and size that a run's label names."""
    usual = [n for n in ("recipe", "intervention", "budget", "task") if getattr(run, n) != DEFAULTS[n]]
    rare = [name for name in _LONG if getattr(run, name) != DEFAULTS[name]]
    searched = [n for n in ("learning_rate", "samples_seen") if getattr(run, n) != DEFAULTS[n]]
    return usual + rare + (searched if _is_trial(run) else [])


def _short(run: Run, name: str) -> str:
    short = {"budget": "{:g}x budget", "learning_rate": "lr {}", "samples_seen": "{:,} images seen"}
    return short.get(name, "{}").format(getattr(run, name))


def _is_trial(run: Run) -> bool:
    return run.learning_rate is not None and TASKS[run.task].evaluated_on == "holdout"


def labels(runs: Iterable[Run]) -> dict[str, str]:
    """Return run_id → words, so that any two runs have different ones: fields that differ are added where they must.

    A pretraining that differs is described by its own fields if it is among the runs, else by its id.
    """
    by_id = {run_id(run): run for run in runs}
    alike: dict[str, list[str]] = defaultdict(list)
    for name, run in by_id.items():
        alike[label(run)].append(name)
    words = {}
    for text, names in alike.items():
        if len(names) == 1:
            words[names[0]] = text
            continue
        full = {name: _complete(by_id[name], by_id) for name in names}
        every = dict.fromkeys(field for values in full.values() for field in values)
        differ = [f for f in every if len({repr(values.get(f)) for values in full.values()}) > 1]
        if any(field.startswith("pretraining_") for field in differ):
            own = {f: f.removeprefix("pretraining_") for f in differ if f != "pretraining"}
            differ = [f for f in own if f == own[f] or any(v.get(f) != v[own[f]] for v in full.values())]
        for name in names:
            words[name] = " ".join([text, *(f"({phrase(field, full[name].get(field))})" for field in differ)])
    return {name: words[name] for name in by_id}


def _complete(run: Run, among: Mapping[str, Run]) -> dict[str, Any]:
    before = among.get(run.pretraining)
    its = {f"pretraining_{name}": getattr(before, name) for name in DEFAULTS if name not in REPLICATE} if before else {}
    return {field.name: getattr(run, field.name) for field in fields(Run)} | its


def as_json(value: Any) -> Any:
    """Return a value as JSON has it: Python's own numbers in place of numpy's, None for what is missing."""
    if hasattr(value, "item"):
        value = value.item()
    if is_missing(value) or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value

"""Every name the lab knows, as plain data: backbones, regimes, datasets. No torch; planning and `--help` read this.

A row says what a thing is and what it can take; a function named in `factory` or `module` is imported only by a worker.
"""

import difflib
import math
import re
from dataclasses import dataclass, replace
from typing import Any

from bias_lab.errors import UserError, unknown

# --- backbones -------------------------------------------------------------------------------------------------------

FAMILIES = {  # architecture → family (DESIGN 1)
    "resnet": "cnn",
    "efficientnet": "cnn",
    "mobilenetv3": "cnn",
    "vit": "transformer",
    "swin": "transformer",
    "mobilevit": "hybrid",
    "efficientvit": "hybrid",
}

OPEN_BELOW = 96  # pixels; a stock stem leaves a 64-pixel image 2x2 at the end


@dataclass(frozen=True, slots=True, kw_only=True)
class Backbone:
    """One architecture in one size. factory: `timm:NAME` in timm's registry, where the lab's begin with bias_lab_."""

    name: str
    architecture: str
    factory: str
    image_size: int  # the side it was made for, in pixels
    patch: int | None = None  # side of its patches at that image size; None: a CNN
    window: int | None = None  # side of its attention windows, in tokens
    halvings: int = 0  # of the map, after the patches
    open_below: int = OPEN_BELOW  # image side under which a CNN's stem keeps the resolution
    about: str = ""

    @property
    def family(self) -> str:
        return FAMILIES.get(self.architecture, "other")


def _backbones() -> dict[str, Backbone]:
    micro: dict[str, Any] = dict(image_size=28, open_below=48)
    mini: dict[str, Any] = dict(image_size=32, open_below=48)
    vit: dict[str, Any] = dict(architecture="vit")
    swin: dict[str, Any] = dict(architecture="swin", window=7)
    rows: dict[str, dict[str, Any]] = {
        # 28-64 px, within 2x of one another in parameters: 0.32-0.45 M
        "vit_micro": dict(vit, image_size=28, patch=4),
        "swin_micro": dict(swin, image_size=28, patch=2, halvings=2),
        "mobilevit_micro": dict(micro, architecture="mobilevit"),
        "resnet_micro": dict(micro, architecture="resnet"),
        "efficientnet_micro": dict(micro, architecture="efficientnet"),
        "mobilenetv3_micro": dict(micro, architecture="mobilenetv3"),
        "efficientvit_micro": dict(micro, architecture="efficientvit"),
        # 32-64 px, for a GPU, within 2x of one another
        "vit_mini": dict(vit, image_size=32, patch=4),
        "swin_mini": dict(swin, image_size=32, patch=2, window=4, halvings=2),
        "mobilevit_mini": dict(mini, architecture="mobilevit"),
        "resnet_mini": dict(mini, architecture="resnet"),
        "efficientnet_mini": dict(mini, architecture="efficientnet"),
        "mobilenetv3_mini": dict(mini, architecture="mobilenetv3"),
        "efficientvit_mini": dict(mini, architecture="efficientvit"),
    }
    # published sizes, ours
    for size in ("tiny", "small", "base"):
        rows[f"vit_{size}_patch16_224"] = rows[f"deit_{size}_patch16_224"] = dict(vit, image_size=224, patch=16)
        rows[f"vit_{size}_patch16_384"] = dict(vit, image_size=384, patch=16)
        rows[f"swin_{size}_patch4_window7_224"] = dict(swin, image_size=224, patch=4, halvings=3)
    for size in ("small", "base"):
        for side in (224, 384):
            rows[f"vit_{size}_patch32_{side}"] = dict(vit, image_size=side, patch=32)
    rows["vit_small_patch8_224"] = dict(vit, image_size=224, patch=8)
    rows["swin_base_patch4_window12_384"] = dict(swin, image_size=384, patch=4, window=12, halvings=3)
    for size in ("xxs", "xs", "s"):
        rows[f"mobilevit_{size}"] = dict(architecture="mobilevit", image_size=256)
    ours = {name: Backbone(name=name, factory=f"timm:bias_lab_{name}", **row) for name, row in rows.items()}
    published: dict[str, dict[str, Any]] = {
        "resnet18": dict(architecture="resnet", image_size=224),
        "resnet50": dict(architecture="resnet", image_size=224),
        "efficientnet_b0": dict(architecture="efficientnet", image_size=224),
        "mobilenetv3_large_100": dict(architecture="mobilenetv3", image_size=224),
        "efficientvit_b0": dict(architecture="efficientvit", image_size=224),
        "efficientvit_b1": dict(architecture="efficientvit", image_size=224),
    }
    theirs = {name: Backbone(name=name, factory=f"timm:{name}", **row) for name, row in published.items()}
    return {**ours, **theirs}


BACKBONES = _backbones()

STEMS = ("resnet", "efficientnet", "mobilenetv3", "mobilevit", "efficientvit")  # architectures that begin with a stem


def choose_stem(backbone: str, image_size: int) -> str:
    """Where an image is small for the backbone "open" (stride 1, no max-pool), else "stock" (stride 2)."""
    row = BACKBONES.get(backbone)
    return "open" if image_size < (row.open_below if row else OPEN_BELOW) else "stock"


def choose_patch(image_size: int, made_for: int, patch: int, halvings: int = 0) -> int:
    """The side of a patch: the published one while the map stays within 2x of the published map and patches fill the
    image; else the divisor of the image size that leaves the last map nearest to the published one."""
    published = made_for / patch
    if image_size % patch == 0 and 0.5 <= image_size / patch / published <= 2:
        return patch
    wanted = published if halvings == 0 else 4 * 2**halvings
    divisors = [p for p in range(1, image_size + 1) if image_size % p == 0]
    return min(divisors, key=lambda p: abs(math.log(image_size / p / wanted)))


def choose_window(side: int, window: int) -> int:
    """The published window if it fills a map of `side` tokens, else the largest smaller one that does and is >= 4."""
    filling = [w for w in range(4, window + 1) if side % w == 0]
    return max(filling, default=min(window, side))


_PREFIXES = {  # a timm name's beginning → architecture; used for names that have no row of their own
    "vit_": "vit",
    "deit_": "vit",
    "deit3_": "vit",
    "swin_": "swin",
    "mobilevit_": "mobilevit",
    "resnet": "resnet",
    "resnext": "resnet",
    "wide_resnet": "resnet",
    "efficientnet": "efficientnet",
    "tf_efficientnet": "efficientnet",
    "mobilenetv3": "mobilenetv3",
    "tf_mobilenetv3": "mobilenetv3",
    "efficientvit_b": "efficientvit",
    "efficientvit_l": "efficientvit",
}


def architecture(backbone: str) -> str:
    """The architecture of any name; an own backbone and a timm name of another kind are their own."""
    if backbone in BACKBONES:
        return BACKBONES[backbone].architecture
    if is_own(backbone):
        return backbone
    name = backbone.removeprefix("timm:").removeprefix("bias_lab_")
    for prefix, kind in _PREFIXES.items():
        if name.startswith(prefix):
            return kind
    return name


def family(backbone: str) -> str:
    """cnn, transformer, hybrid, or other (DESIGN 1)."""
    return "other" if is_own(backbone) else FAMILIES.get(architecture(backbone), "other")


def is_own(backbone: str) -> bool:
    """Whether the name is a user's `package.module:factory` (`timm:NAME` forces timm's, and is not)."""
    return ":" in backbone and not backbone.startswith("timm:")


def nearest(backbone: str) -> str:
    """The lab's backbone that a name is a slip of (same digits, nearly the same letters); empty if there is none."""
    if backbone in BACKBONES or is_own(backbone):
        return ""
    alike = [name for name in BACKBONES if re.findall(r"\d+", name) == re.findall(r"\d+", backbone)]
    return next(iter(difflib.get_close_matches(backbone, alike, n=1, cutoff=0.85)), "")


# --- regimes ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Regime:
    """Where weights come from. module: `module:class` of its pretraining, empty if there is none to run."""

    name: str
    module: str = ""
    labels: bool = False  # whether its pretraining sees labels
    architectures: tuple[str, ...] = ()  # those that can take it; empty: all
    why: str = ""  # why the others can't


REGIMES = {
    regime.name: regime
    for regime in (
        Regime(name="scratch"),
        Regime(name="weights"),
        Regime(name="supervised", module="bias_lab.training.classification:Classifier", labels=True),
        Regime(
            name="mae",
            module="bias_lab.training.mae:MAE",
            architectures=("vit",),
            why="its encoder sees visible patches alone, which needs a plain ViT",
        ),
        Regime(name="simmim", module="bias_lab.training.simmim:SimMIM"),
        Regime(name="dino", module="bias_lab.training.dino:DINO"),
        Regime(name="formula", module="bias_lab.training.classification:Classifier", labels=True),
    )
}

PROTOCOLS = ("finetune", "linear_probe", "knn")
FRACTALS = "fractals"  # a source that is drawn from formulas, data/fractals.py
SOURCES = ("pool", "subset", FRACTALS)  # beside datasets, and folders of one's own


def check_regime(backbone: str, regime: str) -> None:
    """Raises UserError if the regime is unknown, or the backbone can't take it: why, and which can."""
    if regime not in REGIMES:
        raise unknown("regime", regime, REGIMES)
    row, kind = REGIMES[regime], architecture(backbone)
    if row.architectures and kind not in row.architectures and not is_own(backbone):
        able = [name for name, b in BACKBONES.items() if b.architecture in row.architectures]
        others = [r.name for r in REGIMES.values() if r.module and (not r.architectures or kind in r.architectures)]
        raise UserError(
            f"{backbone} can't take the regime '{regime}': {row.why}",
            f"which can: {', '.join(able)}",
            f"{backbone} takes {', '.join(others)}",
        )


def check_source(regime: str, source: str) -> None:
    """Raises UserError for a source that nobody knows, or one that the regime can't take."""
    known = (*SOURCES, *DATASETS)
    if source.startswith("shapes:"):
        dataset(source)  # refuses what can't be drawn
    elif source and source not in known and not source.startswith(("folder:", "table:")):
        raise unknown("source", source, known)
    if REGIMES[regime].labels and source in ("", "pool", "subset"):
        raise UserError(
            f"the regime '{regime}' pretrains with labels, and source '{source or 'pool'}' is the target itself",
            f"{FRACTALS}, or a dataset that shares no image with the target",
        )
    if regime == "formula" and source != FRACTALS:
        raise UserError(f"the regime 'formula' pretrains on images that are drawn, not on '{source}'", FRACTALS)


# --- datasets --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A dataset by name. class_counts: training images of each class, which planning needs without torch."""

    name: str
    classes: int
    class_counts: tuple[int, ...]
    test_images: int
    image_size: int  # side in pixels, as published
    channels: int
    licence: str
    citation: str
    mean: tuple[float, ...] = ()  # of the training pool, per channel, in [0, 1]; empty: computed when decoded
    std: tuple[float, ...] = ()
    made_from: tuple[str, ...] = ()  # datasets whose images it contains, perhaps resized
    note: str = ""

    @property
    def pool(self) -> int:
        return sum(self.class_counts)


DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            name="fashion_mnist_12k",
            classes=10,
            class_counts=(1000,) * 10,
            test_images=2000,
            image_size=28,
            channels=1,
            licence="MIT",
            citation="Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747",
            mean=(0.28617,),
            std=(0.352838,),
            made_from=("fashion_mnist",),
            note="embedded: 10,000 + 2,000 images of Fashion-MNIST, stratified",
        ),
        Dataset(
            name="fashion_mnist",
            classes=10,
            class_counts=(6000,) * 10,
            test_images=10_000,
            image_size=28,
            channels=1,
            licence="MIT",
            citation="Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747",
            mean=(0.286041,),
            std=(0.353024,),
        ),
        Dataset(
            name="mnist",
            classes=10,
            class_counts=(5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
            test_images=10_000,
            image_size=28,
            channels=1,
            licence="CC BY-SA 3.0",
            citation="LeCun, Bottou, Bengio, Haffner 1998, doi:10.1109/5.726791",
        ),
        Dataset(
            name="cifar10",
            classes=10,
            class_counts=(5000,) * 10,
            test_images=10_000,
            image_size=32,
            channels=3,
            licence="none stated; cite the report",
            citation="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
        ),
        Dataset(
            name="cifar100",
            classes=100,
            class_counts=(500,) * 100,
            test_images=10_000,
            image_size=32,
            channels=3,
            licence="none stated; cite the report",
            citation="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
        ),
        Dataset(
            name="svhn",
            classes=10,
            class_counts=(4948, 13_861, 10_585, 8497, 7458, 6882, 5727, 5595, 5045, 4659),
            test_images=26_032,
            image_size=32,
            channels=3,
            licence="non-commercial use",
            citation="Netzer et al. 2011, Reading Digits in Natural Images with Unsupervised Feature Learning",
        ),
        Dataset(
            name="stl10",
            classes=10,
            class_counts=(500,) * 10,
            test_images=8000,
            image_size=96,
            channels=3,
            licence="none stated; ImageNet's terms",
            citation="Coates, Ng, Lee 2011, An Analysis of Single-Layer Networks in Unsupervised Feature Learning",
            made_from=("imagenet",),
            note="and 100,000 images without labels, for pretraining",
        ),
        Dataset(
            name="eurosat",
            classes=10,
            class_counts=(2400, 2400, 2400, 2000, 2000, 1600, 2000, 2400, 2000, 2400),
            test_images=5400,
            image_size=64,
            channels=3,
            licence="MIT",
            citation="Helber et al. 2019, arXiv:1709.00029",
            note="no published split: 20 % of each class, by hash order, are the test split",
        ),
        Dataset(
            name="flowers102",
            classes=102,
            class_counts=(20,) * 102,
            test_images=6149,
            image_size=224,
            channels=3,
            licence="none stated; research use",
            citation="Nilsback, Zisserman 2008, doi:10.1109/ICVGIP.2008.47",
            note="pool: the training and validation splits together; sizes vary, resized to 224",
        ),
        Dataset(
            name="oxford_pet",
            classes=37,
            class_counts=tuple({7: 96, 11: 93, 12: 96, 22: 96, 30: 99}.get(breed, 100) for breed in range(37)),
            test_images=3669,
            image_size=224,
            channels=3,
            licence="CC BY-SA 4.0",
            citation="Parkhi, Vedaldi, Zisserman, Jawahar 2012, doi:10.1109/CVPR.2012.6248092",
            note="sizes vary, resized to 224",
        ),
        Dataset(
            name="tiny_imagenet",
            classes=200,
            class_counts=(500,) * 200,
            test_images=10_000,
            image_size=64,
            channels=3,
            licence="ImageNet's terms: non-commercial research",
            citation="Le, Yang 2015, Tiny ImageNet Visual Recognition Challenge",
            made_from=("imagenet",),
            note="test: the validation split, since the test split's labels were never published",
        ),
        Dataset(
            name="shapes",
            classes=4,
            class_counts=(2500,) * 4,
            test_images=2000,
            image_size=32,
            channels=1,
            licence="MIT",
            citation="bias_lab",
            note="drawn, with the cue known; factors: shapes:cue=conflict,position=free,band=low",
        ),
        Dataset(
            name="imagenette",
            classes=10,
            class_counts=(963, 955, 993, 858, 941, 956, 961, 931, 951, 960),
            test_images=3925,
            image_size=160,
            channels=3,
            licence="Apache-2.0; images: ImageNet's terms",
            citation="Howard 2019, github.com/fastai/imagenette",
            made_from=("imagenet",),
            note="second version, shorter side 160",
        ),
    )
}


SHAPES = {  # factor of the procedural dataset → its values, the first if none is given; drawn by data/procedural.py
    "cue": ("shape", "texture", "agree", "conflict", "local", "global"),
    "position": ("fixed", "free"),
    "band": ("all", "low", "high"),
}


def shapes(name: str) -> dict[str, str]:
    """The factors of `shapes` or `shapes:cue=texture,position=free`. Raises UserError for what is not among them."""
    factors = {factor: values[0] for factor, values in SHAPES.items()}
    for part in filter(None, name.partition(":")[2].split(",")):
        factor, _, value = part.partition("=")
        if factor not in SHAPES:
            raise unknown("factor of shapes", factor, SHAPES)
        if value not in SHAPES[factor]:
            raise unknown(f"{factor} of shapes", value, SHAPES[factor])
        factors[factor] = value
    return factors


def dataset(name: str) -> Dataset:
    """The row of a dataset's name; `shapes` may carry factors. Raises UserError with the nearest match."""
    if name.startswith("shapes:"):
        shapes(name)  # refuses what can't be drawn
        return replace(DATASETS["shapes"], name=name)
    if name not in DATASETS:
        raise unknown("dataset", name, DATASETS, remedy="a folder of class folders is given with --data PATH")
    return DATASETS[name]


# --- interventions ---------------------------------------------------------------------------------------------------

INTERVENTIONS = {  # name → the value that it takes after a colon if none is given; done by data/interventions.py
    "permute_pixels": 0.0,  # which permutation: one for all images, so that no neighbourhood is left
    "permute_patches": 4.0,  # side of the patches in pixels; one permutation for all images
    "shuffle_patches": 4.0,  # side of the patches in pixels; every image its own
    "low_pass": 0.25,  # highest frequency kept, as a share of the Nyquist frequency
    "high_pass": 0.25,  # lowest frequency kept
    "occlude": 0.25,  # share of the area hidden behind one square
    "shift": 4.0,  # pixels that an image moves by at most, in each direction
}


def intervention(text: str) -> tuple[str, float]:
    """`name` or `name:value` of a run's intervention. Raises UserError for an unknown name or a value that can't be."""
    name, _, given = text.partition(":")
    if name not in INTERVENTIONS:
        raise unknown("intervention", name, INTERVENTIONS)
    try:
        value = float(given) if given else INTERVENTIONS[name]
    except ValueError as error:
        raise UserError(f"intervention '{text}': '{given}' is no number", remedy=f"for example {name}:4") from error
    share = name in ("low_pass", "high_pass", "occlude")
    low = {"permute_patches": 1.0, "shuffle_patches": 1.0}.get(name, 0.0)
    if not low <= value <= (1.0 if share else float(2**31)) or (not share and value != int(value)):
        allowed = "a share from 0 to 1" if share else f"a whole number from {low:g}"
        raise UserError(f"intervention '{text}': {given} is out of range", allowed)
    return name, value


def check_intervention(text: str, side: int) -> None:
    """Raises UserError for an intervention that can't be done on images of `side` pixels; an empty one can."""
    if not text:
        return
    name, value = intervention(text)
    if name in ("permute_patches", "shuffle_patches") and side % value:
        fitting = [str(patch) for patch in range(2, side) if side % patch == 0]
        raise UserError(
            f"{text}: patches of {value:g} px do not divide a {side}x{side} image",
            f"sides that do: {', '.join(fitting) or 'none'}",
        )

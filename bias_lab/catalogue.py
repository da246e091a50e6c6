"""Every name the lab knows, as plain data: backbones, regimes, datasets. No torch; planning and `--help` read this.

A row says what a thing is and what it can take; a function named in `factory` or `module` is imported only by a worker.
"""

from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Backbone:
    """One architecture in one size. factory: `module:function` with timm's keyword arguments, or `timm:NAME`."""

    name: str
    architecture: str
    factory: str
    image_size: int  # the side it was made for, in pixels
    about: str = ""

    @property
    def family(self) -> str:
        return FAMILIES.get(self.architecture, "other")


def _backbones() -> dict[str, Backbone]:
    ours = "bias_lab.backbones"
    rows = [
        # micro: 28-64 px, within 2x of one another in parameters
        ("vit_micro", "vit", f"{ours}.vit:vit_micro", 28),
        ("swin_micro", "swin", f"{ours}.swin:swin_micro", 28),
        ("mobilevit_micro", "mobilevit", f"{ours}.mobilevit:mobilevit_micro", 28),
        ("resnet_micro", "resnet", f"{ours}.small:resnet_micro", 28),
        ("efficientnet_micro", "efficientnet", f"{ours}.small:efficientnet_micro", 28),
        ("mobilenetv3_micro", "mobilenetv3", f"{ours}.small:mobilenetv3_micro", 28),
        ("efficientvit_micro", "efficientvit", f"{ours}.small:efficientvit_micro", 28),
    ]
    return {n: Backbone(name=n, architecture=a, factory=f, image_size=s) for n, a, f, s in rows}


BACKBONES = _backbones()

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
    """The architecture of any name; an own backbone (`module:factory`) and a timm name of another kind are their own."""
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


def check_regime(backbone: str, regime: str) -> None:
    """Raises UserError if the regime is unknown, or the backbone can't take it: why, and which can."""
    if regime not in REGIMES:
        raise unknown("regime", regime, REGIMES)
    row, kind = REGIMES[regime], architecture(backbone)
    if row.architectures and kind not in row.architectures and not is_own(backbone):
        able = [name for name, b in BACKBONES.items() if b.architecture in row.architectures]
        raise UserError(f"{backbone} can't take the regime '{regime}': {row.why}", f"which can: {', '.join(able)}")


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
            made_from=("fashion_mnist",),
            note="embedded: 10,000 + 2,000 images of Fashion-MNIST, stratified",
        ),
    )
}


def dataset(name: str) -> Dataset:
    """The row of a dataset's name. Raises UserError with the nearest match."""
    if name not in DATASETS:
        raise unknown("dataset", name, DATASETS, remedy="a folder of class folders is given with --data PATH")
    return DATASETS[name]

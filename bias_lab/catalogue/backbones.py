"""Every backbone by name, as plain data: its architecture, its factory and the image size that it was made for."""

import difflib
import math
import re
from dataclasses import dataclass
from typing import Any

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

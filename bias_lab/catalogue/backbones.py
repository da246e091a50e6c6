"""List every backbone and architecture as plain data.

A new backbone of the lab is one file with its model and its SIZES, and here a row in `_backbones`. An architecture that
is new has a row in ARCHITECTURES too.
"""

import difflib
import math
import re
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What all sizes of one architecture have in common. The defaults are those of an architecture without a row."""

    family: str = "other"
    factory: str = ""  # of the lab's own sizes, `module:function`; the module's SIZES holds the keywords of each
    prefixes: tuple[str, ...] = ()  # how timm's names of it begin
    ends: tuple[str, str] = ("", "")  # names of the first convolution and the classifier in a model of ours
    sized: bool = False  # a model of ours is built for one image size (`img_size`)
    windowed: bool = False  # it attends within windows (`window_size`)
    stem: bool = False  # it begins with a stem, which can keep the resolution
    drop_path_keyword: bool = True  # factories take `drop_path_rate`; otherwise `small.set_drop_path` sets it


ARCHITECTURES = {
    "resnet": Architecture(
        family="cnn", factory="bias_lab.backbones.small:resnet", prefixes=("resnet", "resnext", "wide_resnet"),
        ends=("conv1", "fc"), stem=True,
    ),
    "efficientnet": Architecture(
        family="cnn", factory="bias_lab.backbones.small:efficientnet", prefixes=("efficientnet", "tf_efficientnet"),
        ends=("conv_stem", "classifier"), stem=True,
    ),
    "mobilenetv3": Architecture(
        family="cnn", factory="bias_lab.backbones.small:mobilenetv3", prefixes=("mobilenetv3", "tf_mobilenetv3"),
        ends=("conv_stem", "classifier"), stem=True,
    ),
    "vit": Architecture(
        family="transformer", factory="bias_lab.backbones.vit:VisionTransformer", prefixes=("vit_", "deit_", "deit3_"),
        ends=("patch_embed.proj", "head"), sized=True,
    ),
    "swin": Architecture(
        family="transformer", factory="bias_lab.backbones.swin:SwinTransformer", prefixes=("swin_",),
        ends=("patch_embed.proj", "head.fc"), sized=True, windowed=True,
    ),
    "mobilevit": Architecture(
        family="hybrid", factory="bias_lab.backbones.mobilevit:MobileViT", prefixes=("mobilevit_",),
        ends=("stem.conv", "head.fc"), stem=True,
    ),
    "efficientvit": Architecture(
        family="hybrid", factory="bias_lab.backbones.small:efficientvit", prefixes=("efficientvit_b", "efficientvit_l"),
        ends=("stem.in_conv.conv", "head.classifier.4"), stem=True, drop_path_keyword=False,
    ),
}  # fmt: skip

FAMILIES = {name: row.family for name, row in ARCHITECTURES.items()}

OPEN_BELOW = 96  # pixels; behind a stock stem the last map of a 64-pixel image is 2x2


@dataclass(frozen=True, slots=True, kw_only=True)
class Backbone:
    """One architecture in one size. factory: `timm:NAME` in timm's registry, or one of the lab's, `module:function`."""

    name: str
    architecture: str
    factory: str
    image_size: int  # the side that it was made for, in pixels
    patch: int | None = None  # side of its patches at that image size; None for a model without patches
    window: int | None = None  # side of its attention windows, in tokens
    halvings: int = 0  # of the map, after the patches
    open_below: int = OPEN_BELOW  # the image side in pixels below which its stem keeps the resolution

    @property
    def ours(self) -> bool:
        """Return whether the lab makes it; otherwise timm does."""
        return not self.factory.startswith("timm:")


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
    ours = {
        name: Backbone(name=name, factory=ARCHITECTURES[row["architecture"]].factory, **row)
        for name, row in rows.items()
    }
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


def choose_stem(backbone: str, image_size: int) -> str:
    """Return "open" (stride 1, no max-pool) for an image that is small for the backbone, else "stock" (stride 2)."""
    row = BACKBONES.get(backbone)
    return "open" if image_size < (row.open_below if row else OPEN_BELOW) else "stock"


def choose_patch(image_size: int, made_for: int, patch: int, halvings: int = 0) -> int:
    """Return the side of a patch in pixels.

    It is the published one if such patches fill the image and the map stays within 2x of the published map. Otherwise
    it is the divisor of the image size that leaves the last map nearest to the published one.
    """
    published = made_for / patch
    if image_size % patch == 0 and 0.5 <= image_size / patch / published <= 2:
        return patch
    wanted = published if halvings == 0 else 4 * 2**halvings
    divisors = [p for p in range(1, image_size + 1) if image_size % p == 0]
    return min(divisors, key=lambda p: abs(math.log(image_size / p / wanted)))


def choose_window(side: int, window: int) -> int:
    """Return the largest window of 4 tokens up to the published one that fills a map of `side` tokens.

    Without one, return the published window, or the whole map if that is smaller.
    """
    filling = [w for w in range(4, window + 1) if side % w == 0]
    return max(filling, default=min(window, side))


def architecture(backbone: str) -> str:
    """Return the architecture of any name. An own backbone and a timm name of another kind are an architecture each."""
    if backbone in BACKBONES:
        return BACKBONES[backbone].architecture
    if is_own(backbone):
        return backbone
    name = backbone.removeprefix("timm:").removeprefix("bias_lab_")
    return next((kind for kind, row in ARCHITECTURES.items() if name.startswith(row.prefixes)), name)


def traits(backbone: str) -> Architecture:
    """Return the row of a backbone's architecture, or for another kind a row of defaults."""
    return ARCHITECTURES.get(architecture(backbone), Architecture())


def family(backbone: str) -> str:
    """Return the family of any name: cnn, transformer, hybrid or other."""
    return traits(backbone).family


def is_own(backbone: str) -> bool:
    """Return whether the name is a user's `package.module:factory` (`timm:NAME` is timm's)."""
    return ":" in backbone and not backbone.startswith("timm:")


def nearest(backbone: str) -> str:
    """Return the lab's backbone of which a name is a misspelling, or an empty string.

    Both have the same digits and nearly the same letters.
    """
    if backbone in BACKBONES or is_own(backbone):
        return ""
    alike = [name for name in BACKBONES if re.findall(r"\d+", name) == re.findall(r"\d+", backbone)]
    return next(iter(difflib.get_close_matches(backbone, alike, n=1, cutoff=0.85)), "")

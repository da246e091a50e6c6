"""List every backbone and architecture as plain data.

A new backbone of the lab is one file with its model and its SIZES, and here a row in `_backbones`. An architecture that
is new has a row in ARCHITECTURES too.
"""

import difflib
import math
import re
from dataclasses import dataclass
from typing import Any

from bias_lab.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What all sizes of one architecture have in common. The defaults are those of an architecture without a row."""

    family: str = "other"
    factory: str = ""  # of the lab's own models, as `module:function`, beside a table SIZES of its keywords
    prefixes: tuple[str, ...] = ()  # how timm's names of it begin
    ends: tuple[str, str] = ("", "")  # names of the first convolution and the classifier in a model of ours
    sized: bool = False  # a model of ours is built for one image size (`img_size`)
    windowed: bool = False  # it attends within windows (`window_size`)
    stem: bool = False  # it begins with a stem, which can keep the resolution
    drop_path_keyword: bool = True  # factories take `drop_path_rate`, or `small.set_drop_path` sets it afterwards
    control: bool = False  # it says what other numbers are worth: no guest, and a member of no family that is compared
    head: str = "unet"  # its own head in a segmentation, a name of catalogue/heads.py. Empty if it has no maps
    learns: bool = True  # it has weights below the classifier, which a pretraining or fine-tuning could train


ARCHITECTURES = {
    "resnet": Architecture(family="cnn", factory="bias_lab.backbones.small:resnet", stem=True,
                           prefixes=("resnet", "resnext", "wide_resnet"), ends=("conv1", "fc")),
    "efficientnet": Architecture(family="cnn", factory="bias_lab.backbones.small:efficientnet", stem=True,
                                 prefixes=("efficientnet", "tf_efficientnet"), ends=("conv_stem", "classifier")),
    "mobilenetv3": Architecture(family="cnn", factory="bias_lab.backbones.small:mobilenetv3", stem=True,
                                prefixes=("mobilenetv3", "tf_mobilenetv3"), ends=("conv_stem", "classifier")),
    "vit": Architecture(family="transformer", factory="bias_lab.backbones.vit:VisionTransformer", sized=True,
                        prefixes=("vit_", "deit_", "deit3_"), ends=("patch_embed.proj", "head"), head="linear"),
    "swin": Architecture(family="transformer", factory="bias_lab.backbones.swin:SwinTransformer", sized=True,
                         windowed=True, prefixes=("swin_",), ends=("patch_embed.proj", "head.fc")),
    "mobilevit": Architecture(family="hybrid", factory="bias_lab.backbones.mobilevit:MobileViT", stem=True,
                              prefixes=("mobilevit_",), ends=("stem.conv", "head.fc")),
    "efficientvit": Architecture(family="hybrid", factory="bias_lab.backbones.small:efficientvit", stem=True,
                                 prefixes=("efficientvit_b", "efficientvit_l"),
                                 ends=("stem.in_conv.conv", "head.classifier.4"), drop_path_keyword=False),
    "mlp": Architecture(factory="bias_lab.backbones.mlp:ImageMlp", sized=True, control=True, ends=("embed", "head"),
                        head=""),
    "pixels": Architecture(factory="bias_lab.backbones.pixels:Pixels", sized=True, control=True, learns=False,
                           ends=("", "head"), drop_path_keyword=False, head=""),
}  # fmt: skip

FAMILIES = {name: row.family for name, row in ARCHITECTURES.items() if not row.control}  # of those that are compared

OPEN_BELOW = 96  # pixels (behind a stock stem the last map of a 64-pixel image is 2x2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backbone:
    """One architecture in one size. factory: `timm:NAME` in timm's registry, or one of the lab's, `module:function`."""

    name: str
    architecture: str
    factory: str
    image_size: int  # the side that it was made for, in pixels
    patch: int | None = None  # side of its patches at that image size, None for a model without patches
    window: int | None = None  # side of its attention windows, in tokens
    halvings: int = 0  # of the map, after the patches
    open_below: int = OPEN_BELOW  # the image side in pixels below which its stem keeps the resolution
    variant: bool = False  # a second model of its architecture and size, compared by its name and in no group's mean

    @property
    def family(self) -> str:
        return ARCHITECTURES[self.architecture].family

    @property
    def ours(self) -> bool:
        """Return whether the model is the lab's own and not timm's."""
        return not self.factory.startswith("timm:")


def _backbones() -> dict[str, Backbone]:
    rows: dict[str, dict[str, Any]] = {}
    for size, side, window in (
        ("micro", 28, 7),
        ("mini", 32, 4),
    ):  # of one size: within 2x of one another in parameters
        rows[f"vit_{size}"] = dict(architecture="vit", image_size=side, patch=4)
        rows[f"swin_{size}"] = dict(architecture="swin", image_size=side, patch=2, window=window, halvings=2)
        for kind in ("mobilevit", "resnet", "efficientnet", "mobilenetv3", "efficientvit"):
            rows[f"{kind}_{size}"] = dict(architecture=kind, image_size=side, open_below=48)
        # controls
        rows[f"vit_{size}_wide"] = dict(architecture="vit", image_size=side, patch=4, variant=True)
        rows[f"mlp_{size}"] = dict(architecture="mlp", image_size=side)
    rows["pixels"] = dict(architecture="pixels", image_size=28)
    # published sizes of the lab's own models
    vit: dict[str, Any] = dict(architecture="vit")
    swin: dict[str, Any] = dict(architecture="swin", patch=4, halvings=3)
    for size in ("tiny", "small", "base"):
        rows[f"vit_{size}_patch16_224"] = rows[f"deit_{size}_patch16_224"] = dict(vit, image_size=224, patch=16)
        rows[f"vit_{size}_patch16_384"] = dict(vit, image_size=384, patch=16)
        rows[f"swin_{size}_patch4_window7_224"] = dict(swin, image_size=224, window=7)
    for size in ("small", "base"):
        for side in (224, 384):
            rows[f"vit_{size}_patch32_{side}"] = dict(vit, image_size=side, patch=32)
    rows["vit_small_patch8_224"] = dict(vit, image_size=224, patch=8)
    rows["swin_base_patch4_window12_384"] = dict(swin, image_size=384, window=12)
    for size in ("xxs", "xs", "s"):
        rows[f"mobilevit_{size}"] = dict(architecture="mobilevit", image_size=256)
    for row in rows.values():
        row["factory"] = ARCHITECTURES[row["architecture"]].factory
    # published sizes of timm's models
    for name in "resnet18 resnet50 efficientnet_b0 mobilenetv3_large_100 efficientvit_b0 efficientvit_b1".split():
        kind = next(kind for kind in ARCHITECTURES if name.startswith(kind))
        rows[name] = dict(architecture=kind, image_size=224, factory=f"timm:{name}")
    return {name: Backbone(name=name, **row) for name, row in rows.items()}


BACKBONES = _backbones()


Sides = int | tuple[int, int]  # of an image or a map: one side of a square, or (height, width)


def sides(size: Sides) -> tuple[int, int]:
    """Return (height, width) of a size that is given so, or as the side of a square.

    >>> sides(28), sides((96, 128))
    ((28, 28), (96, 128))
    """
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def choose_stem(backbone: str, image_size: Sides) -> str:
    """Return "open" (stride 1, no max-pool) for an image that is small for the backbone, else "stock" (stride 2).

    The shorter side decides.
    """
    row = BACKBONES.get(backbone)
    return "open" if min(sides(image_size)) < (row.open_below if row else OPEN_BELOW) else "stock"


def choose_patch(image_size: Sides, made_for: int, patch: int, halvings: int = 0) -> int:
    """Return the side of a patch in pixels.

    It is the published side if such patches fill the image and give between half and twice the published number of
    patches a side. Otherwise it is the divisor of the image size whose last map is nearest to the published one. A side
    of a rectangle is the root of its area, and a patch divides both sides. Raises UserError if none of a useful size
    does, with the sides that work.
    """
    height, width = sides(image_size)
    side, published = math.sqrt(height * width), made_for / patch
    if height % patch == width % patch == 0 and 0.5 <= side / patch / published <= 2:
        return patch
    wanted = published if halvings == 0 else 4 * 2**halvings
    divisors = [p for p in range(1, min(height, width) + 1) if height % p == width % p == 0]
    best = min(divisors, key=lambda p: abs(math.log(side / p / wanted)))
    if height != width and side / best > 2 * wanted:  # a rectangle of odd sides would be cut into single pixels
        raise _filled_by_none(height, width, max(2, round(side / wanted)))
    return best


def check_patch(image_size: Sides, patch: int) -> None:
    """Raise UserError, with the sides that work, if patches of this side don't fill an image.

    >>> check_patch((96, 128), 8)
    """
    height, width = sides(image_size)
    if height % patch or width % patch:
        raise _filled_by_none(height, width, patch)


def _filled_by_none(height: int, width: int, patch: int) -> UserError:
    near = " and ".join(str(max(1, round(side / patch)) * patch) for side in (height, width))
    what = f"patches of {patch} pixels don't fill an image of {height}x{width}"
    return UserError(what, f"multiples of {patch} work, the nearest are {near}")


def choose_window(side: Sides, window: int) -> int:
    """Return the largest window of 4 tokens up to the published one that fills a map of these sides, in tokens.

    Without one, return the published window, or the map's shorter side if that is smaller.
    """
    rows, columns = sides(side)
    filling = [w for w in range(4, window + 1) if rows % w == columns % w == 0]
    return max(filling, default=min(window, rows, columns))


def architecture(backbone: str) -> str:
    """Return the architecture of any name. An own backbone and a timm name of another kind are an architecture each."""
    if is_own(backbone):
        return backbone
    name = backbone.removeprefix("timm:").removeprefix("bias_lab_")
    if name in BACKBONES:
        return BACKBONES[name].architecture
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

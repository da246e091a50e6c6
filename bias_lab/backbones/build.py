"""Make a model of any name: the lab's, timm's, or `package.module:factory`.

For small images the model gets another stem, patch or window. `settings` resolves them, `create` sets them, and a run
records them.
"""

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import build_model_with_cfg, register_model
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bias_lab import catalogue
from bias_lab.backbones import small
from bias_lab.backbones.priors import interface
from bias_lab.catalogue import Sides, sides
from bias_lab.errors import UserError, unknown

PREFIX = "bias_lab_"  # of the lab's names in timm's registry
FURTHER = (  # timm's names of published weights that are often at hand, beside those that the lab has
    "resnet34", "resnet101", "resnet152", "wide_resnet50_2", "resnext50_32x4d",
    "deit_tiny_distilled_patch16_224", "deit_small_distilled_patch16_224", "deit_base_distilled_patch16_224",
    "deit3_small_patch16_224", "deit3_base_patch16_224", "vit_large_patch16_224", "vit_small_patch14_dinov2",
    "vit_base_patch14_dinov2", "swin_large_patch4_window7_224", "efficientnet_b1", "efficientnet_b2",
    "efficientnet_b3", "efficientnet_b4", "mobilenetv3_small_100", "convnext_tiny", "convnext_small",
)  # fmt: skip


class NotTaken(UserError):
    """Raised for a keyword that a backbone does not have."""

    def __init__(self, name: str, keyword: str, value: object) -> None:
        super().__init__(f"{name} does not take {keyword}={value}")
        self.keyword = keyword


def create(
    name: str,
    *,
    image_size: Sides,
    channels: int,
    classes: int | None,
    patch: int | None = None,
    window: int | None = None,
    stem: str | None = None,
    drop_path: float = 0.0,
    priors: str = "",
) -> nn.Module:
    """Return a model of any name that fits its images: (B, channels, height, width) -> (B, classes).

    image_size: the side of square images, or (height, width). classes: None gives the encoder alone, whose `forward`
    returns features. patch, window, stem: None chooses them (`settings`). drop_path: the rate of stochastic depth.
    priors: names of `catalogue.PRIORS`, sorted and joined by +.
    Raises NotTaken for a rate above 0 and a backbone without stochastic depth, and UserError for an unknown name or
    values that the architecture cannot take.
    """
    _check_ends(image_size, channels, classes)
    catalogue.check_priors(name, priors)
    chosen = settings(name, image_size=image_size, patch=patch, window=window, stem=stem)
    changes = interface.made(priors)
    by_keyword = catalogue.traits(name).drop_path_keyword
    keywords: dict[str, Any] = dict(num_classes=classes or 0, in_chans=channels)
    if by_keyword:
        keywords["drop_path_rate"] = drop_path  # also if it is 0, since the default of some models is not
    optional = set() if drop_path else {"drop_path_rate"}
    if catalogue.is_own(name):
        factory, taken = _own_factory(name)
        keywords["img_size"] = image_size
        optional.add("img_size")  # a CNN takes images of any size
        if taken is not None:
            keywords = {key: value for key, value in keywords.items() if key in taken or key not in optional}
    else:
        factory = partial(timm.create_model, _timm_name(name))
        if chosen["patch"] is not None or _takes_size(_timm_name(name)):
            keywords["img_size"] = image_size
    keywords |= {key: chosen[short] for key, short in _NAMES.items() if chosen[short] is not None}
    for prior in changes:
        keywords |= prior.keywords()
    model = _built(name, factory, keywords, optional)
    if chosen["stem"] is not None and not catalogue.is_own(name):
        small.set_stem(model, chosen["stem"])
    if not by_keyword:
        small.set_drop_path(model, drop_path)
    for prior in changes:
        prior.change(model)
    return model


def _check_ends(image_size: Sides, channels: int, classes: int | None) -> None:
    """Raise UserError for an image size, a channel count or a class count below 1."""
    if min(sides(image_size)) < 1:
        raise UserError(f"an image size of {image_size} pixels is too small", "give 1 or more")
    if channels < 1:
        raise UserError(f"{channels} channels are too few", "give 1 for grey images, 3 for colour")
    if classes is not None and classes < 1:
        raise UserError(f"{classes} classes are too few", "give 1 or more, or None for no classifier")


_NAMES = {"patch_size": "patch", "window_size": "window"}  # timm's keyword → ours


def _built(name: str, factory: Callable[..., Any], keywords: dict[str, Any], optional: set[str]) -> nn.Module:
    """Return what a factory makes. Leave out an optional keyword that it does not take.

    Raises NotTaken for another such keyword, UserError if the result is no model.
    """
    try:
        model = factory(**keywords)
    except TypeError as error:
        refused = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if refused is None or refused[1] not in keywords:
            raise
        if refused[1] in optional:
            return _built(name, factory, {k: v for k, v in keywords.items() if k != refused[1]}, optional)
        raise NotTaken(name, refused[1], keywords[refused[1]]) from error
    if not isinstance(model, nn.Module):
        code = getattr(factory, "__code__", None)
        place = f" ({code.co_filename}, line {code.co_firstlineno})" if code else ""
        what = f"the factory {name} returned an object of the type {type(model).__name__}{place}"
        raise UserError(what, "a torch.nn.Module is needed")
    return model


def settings(
    name: str, *, image_size: Sides, patch: int | None = None, window: int | None = None, stem: str | None = None
) -> dict[str, Any]:
    """Return what `create` sets at this image size: `patch` (pixels), `window` (tokens) and `stem`.

    A setting that the backbone does not have is None. stem: "open" keeps the resolution (stride 1, no max-pool),
    "stock" halves it as published. Raises UserError for another stem.
    """
    if catalogue.is_own(name):
        return dict(patch=patch, window=window, stem=stem)
    made_for, own_patch, own_window, halvings = _geometry(name)
    if own_patch is not None:
        height, width = sides(image_size)
        patch = catalogue.choose_patch(image_size, made_for, own_patch, halvings) if patch is None else patch
        if height != width:  # timm cuts off silently what patches don't fill
            catalogue.check_patch(image_size, patch)
        if own_window is not None and window is None:
            window = catalogue.choose_window((height // patch, width // patch), own_window)
        return dict(patch=patch, window=window, stem=None)
    if catalogue.traits(name).stem:
        stem = catalogue.choose_stem(name, image_size) if stem is None else stem
        if stem not in ("open", "stock"):
            raise unknown("stem", stem, ("open", "stock"))
        return dict(patch=None, window=None, stem=stem)
    return dict(patch=None, window=None, stem=None)


def parameters(model: nn.Module) -> int:
    """Return the number of parameters without the classifier, so that it does not depend on the number of classes."""
    get_classifier: Any = getattr(model, "get_classifier", None)
    classifier = get_classifier() if get_classifier is not None else None
    head = sum(p.numel() for p in classifier.parameters()) if isinstance(classifier, nn.Module) else 0
    return sum(p.numel() for p in model.parameters()) - head


@torch.no_grad()
def flops(model: nn.Module, image_size: Sides, channels: int) -> int:
    """Return the multiply-adds of one image's forward pass: matrix products, convolutions, attention."""
    training = model.training
    at = next(model.parameters())
    image = torch.zeros(1, channels, *sides(image_size), device=at.device, dtype=at.dtype)
    model.eval()
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(image)
    model.train(training)
    return int(counter.get_total_flops()) // 2


# --- names -----------------------------------------------------------------------------------------------------------


def _timm_name(name: str) -> str:
    """Return a backbone's name in timm's registry. A lab name wins, and `timm:NAME` forces timm's own.

    Raises UserError for an unknown name, with the nearest one.
    """
    row = catalogue.BACKBONES.get(name)
    if row is not None:
        return PREFIX + name if row.ours else name
    bare = name.removeprefix("timm:")
    if not timm.is_model(bare):
        known = [*catalogue.BACKBONES, *timm.list_models()]
        raise unknown("backbone", bare, known, remedy="your own is given as package.module:factory")
    return bare


@cache
def _geometry(name: str) -> tuple[int, int | None, int | None, int]:
    """Return (image size, patch, window, halvings after the patches) as published, None for what it has not."""
    row = catalogue.BACKBONES.get(name)
    if row is not None:
        return row.image_size, row.patch, row.window, row.halvings
    target = _timm_name(name)
    with torch.device("meta"):
        model: Any = timm.create_model(target)
    made_for = int((model.pretrained_cfg.get("input_size") or (3, 224, 224))[-1])
    embed = getattr(model, "patch_embed", None)
    if embed is None or not hasattr(embed, "patch_size") or not _takes_size(target):
        return made_for, None, None, 0
    windows = [m.window_size for m in model.modules() if hasattr(m, "relative_position_bias_table")]
    stages = len({info["reduction"] for info in model.feature_info})
    window = windows[0] if windows and catalogue.traits(name).windowed else None
    return made_for, int(embed.patch_size[0]), None if window is None else int(window[0]), stages - 1


def _takes_size(target: str) -> bool:
    """Return whether a model of timm's registry is built for one image size, and so takes `img_size`."""
    if target.startswith(PREFIX) and catalogue.traits(target).sized:
        return True
    cfg = timm.get_pretrained_cfg(target.removeprefix(PREFIX), allow_unregistered=True)
    return bool(cfg is not None and cfg.fixed_input_size)


def _own_factory(name: str) -> tuple[Callable[..., Any], set[str] | None]:
    """Return a user's `package.module:factory` and the keywords that it takes, or None if it takes any.

    Raises UserError if the module or the factory does not exist.
    """
    module_name, _, factory_name = name.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise  # the user's module exists, and one of its own imports does not
        raise UserError(
            f"no module '{module_name}' for the backbone '{name}'", remedy="install it, or start in its folder"
        ) from error
    factory = getattr(module, factory_name, None)
    if not callable(factory):
        names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise unknown(f"factory of {module_name}", factory_name, names)
    taken = inspect.signature(factory).parameters
    any_keyword = any(p.kind is p.VAR_KEYWORD for p in taken.values())
    return factory, None if any_keyword else set(taken)


# --- timm's registry -------------------------------------------------------------------------------------------------


def register_all() -> None:
    """Enter every model of ours into timm's registry."""
    for row in catalogue.BACKBONES.values():
        if row.ours:
            _register(row)


def _register(row: catalogue.Backbone) -> None:
    """Enter one model: its factory, with the keywords that stand under its name in the module's SIZES."""
    place, _, factory = row.factory.partition(":")
    module: Any = importlib.import_module(place)

    def entry(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        """Build the model. Keywords override the size table's, and weights are those of timm's model of that name."""
        size = module.SIZES[row.name]
        if kwargs.pop("dynamic_img_size", False):  # timm's option of its own transformers
            raise NotTaken(row.name, "dynamic_img_size", True)
        if kwargs.get("pretrained_cfg") is None and timm.get_pretrained_cfg(row.name) is None:
            kwargs["pretrained_cfg"] = _config(row, size)
        model: nn.Module = build_model_with_cfg(
            getattr(module, factory),
            row.name,
            pretrained,
            pretrained_filter_fn=getattr(module, "checkpoint_filter_fn", None),
            feature_cfg=_feature_maps(row, {**size, **kwargs}) if kwargs.get("features_only") else None,
            **{**size, **kwargs},
        )
        return model

    entry.__name__ = entry.__qualname__ = PREFIX + row.name
    entry.__module__ = __name__
    register_model(entry)


def _feature_maps(row: catalogue.Backbone, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Return which maps `features_only=True` gives by default: those that timm's model of that name gives.

    A ViT gives its last three blocks, Swin all stages, and the others up to five maps. A small model may have fewer.
    All maps are (B, C, H, W), also Swin's, which timm gives as (B, H, W, C).
    """
    with torch.device("meta"):
        model: Any = timm.create_model(PREFIX + row.name)
    maps = len(model.feature_info)
    is_vit = catalogue.ARCHITECTURES[row.architecture].sized and "depth" in keywords
    return dict(feature_cls="getter", out_indices=min(3, keywords["depth"]) if is_vit else tuple(range(min(5, maps))))


def _config(row: catalogue.Backbone, size: dict[str, Any]) -> dict[str, Any]:
    """Return timm's description of a model that has no published weights."""
    side = size.get("img_size", row.image_size)
    first, last = catalogue.ARCHITECTURES[row.architecture].ends
    return dict(
        architecture=PREFIX + row.name, input_size=(3, side, side), num_classes=10, fixed_input_size="img_size" in size,
        mean=(0.5,) * 3, std=(0.5,) * 3, crop_pct=1.0, interpolation="bicubic", first_conv=first, classifier=last,
    )  # fmt: skip


def nearest(tensors: Mapping[str, Tensor]) -> str:
    """Return the name whose model has most of the tensors, by name and shape, or "" if none has half of them.

    The names are the lab's and `FURTHER`.
    """
    given = {(name, tuple(tensor.shape)) for name, tensor in tensors.items()}
    best, most = "", len(given) / 2
    for name, own in _shapes().items():
        if len(given & own) > most:
            best, most = name, len(given & own)
    return best


@cache
def _shapes() -> dict[str, frozenset[tuple[str, tuple[int, ...]]]]:
    """Return name → names and shapes of its model's tensors, at the size that it was made for.

    Models are built without memory (meta device). All of them take about two seconds.
    """
    sides = {name: row.image_size for name, row in catalogue.BACKBONES.items()} | dict.fromkeys(FURTHER, 0)
    shapes = {}
    for name, side in sides.items():
        with torch.device("meta"):
            model: nn.Module = (
                create(name, image_size=side, channels=3, classes=None)
                if side
                else timm.create_model(name, num_classes=0)
            )
        shapes[name] = frozenset((key, tuple(tensor.shape)) for key, tensor in model.state_dict().items())
    return shapes

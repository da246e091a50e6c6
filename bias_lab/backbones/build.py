"""Any name becomes a model: the lab's, timm's, or `package.module:factory`; stems, patches, windows for small images.

What `settings` resolves is what `create` sets, and what a run records.
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
from timm.models.swin_transformer import checkpoint_filter_fn as fit_swin
from timm.models.vision_transformer import checkpoint_filter_fn as fit_vit
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bias_lab import catalogue
from bias_lab.backbones import mobilevit, small, swin, vit
from bias_lab.errors import UserError, unknown

PREFIX = "bias_lab_"  # of our names within timm's registry


class NotTaken(UserError):
    """A backbone that has no such keyword."""

    def __init__(self, name: str, keyword: str, value: object) -> None:
        super().__init__(f"{name} does not take {keyword}={value}")
        self.keyword = keyword


def create(
    name: str,
    *,
    image_size: int,
    channels: int,
    classes: int | None,
    patch: int | None = None,
    window: int | None = None,
    stem: str | None = None,
    drop_path: float = 0.0,
) -> nn.Module:
    """A model of any name, fitted to its images: (B, channels, image_size, image_size) -> (B, classes).

    classes: None gives the encoder alone, features out of `forward`. patch, window, stem: None chooses (`settings`).
    drop_path: what has no stochastic depth refuses any but 0, so that a recipe holds for every backbone or for none.
    Raises UserError for an unknown name (with the nearest), and for values that the architecture cannot take.
    """
    if channels < 1:
        raise UserError(f"{channels} channels", "1 for grey images, 3 for colour")
    if classes is not None and classes < 1:
        raise UserError(f"{classes} classes", "1 or more; None for an encoder without a classifier")
    chosen = settings(name, image_size=image_size, patch=patch, window=window, stem=stem)
    keywords: dict[str, Any] = dict(num_classes=classes or 0, in_chans=channels, drop_path_rate=drop_path)
    optional = set() if drop_path else {"drop_path_rate"}  # said even if 0, since some models' own default is not
    if catalogue.architecture(name) == "efficientvit":
        del keywords["drop_path_rate"]  # timm's has no such keyword: set below
    if catalogue.is_own(name):
        factory, taken = _own_factory(name)
        keywords["img_size"] = image_size
        optional.add("img_size")  # a CNN takes any
        if taken is not None:
            keywords = {key: value for key, value in keywords.items() if key in taken or key not in optional}
    else:
        factory = partial(timm.create_model, _timm_name(name))
        if chosen["patch"] is not None or _takes_size(_timm_name(name)):
            keywords["img_size"] = image_size
    keywords |= {key: chosen[short] for key, short in _NAMES.items() if chosen[short] is not None}
    model = _built(name, factory, keywords, optional)
    if chosen["stem"] is not None and not catalogue.is_own(name):
        small.set_stem(model, chosen["stem"])
    if catalogue.architecture(name) == "efficientvit":
        small.set_drop_path(model, drop_path)
    return model


_NAMES = {"patch_size": "patch", "window_size": "window"}  # timm's keyword → ours


def _built(name: str, factory: Callable[..., Any], keywords: dict[str, Any], optional: set[str]) -> nn.Module:
    """Call a factory; a keyword that it refuses is left out if optional, and else a mistake of the user's."""
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
        raise UserError(f"{name} gave {type(model).__name__}", "a factory returns a torch.nn.Module")
    return model


def settings(
    name: str, *, image_size: int, patch: int | None = None, window: int | None = None, stem: str | None = None
) -> dict[str, Any]:
    """What `create` sets at this image size: patch and window of a transformer, stem of a CNN; None for what it lacks.

    stem: "open" keeps the resolution (stride 1, no max-pool), "stock" halves it as published.
    """
    if catalogue.is_own(name):
        return dict(patch=patch, window=window, stem=stem)
    kind = catalogue.architecture(name)
    made_for, own_patch, own_window, halvings = _geometry(name)
    if own_patch is not None:
        patch = catalogue.choose_patch(image_size, made_for, own_patch, halvings) if patch is None else patch
        if own_window is not None:
            window = catalogue.choose_window(image_size // patch, own_window) if window is None else window
        return dict(patch=patch, window=window, stem=None)
    if kind in catalogue.STEMS:
        stem = catalogue.choose_stem(name, image_size) if stem is None else stem
        if stem not in ("open", "stock"):
            raise unknown("stem", stem, ("open", "stock"))
        return dict(patch=None, window=None, stem=stem)
    return dict(patch=None, window=None, stem=None)


def parameters(model: nn.Module) -> int:
    """Parameters, the classifier left out, so that counts don't depend on the number of classes."""
    get_classifier: Any = getattr(model, "get_classifier", None)
    classifier = get_classifier() if get_classifier is not None else None
    head = sum(p.numel() for p in classifier.parameters()) if isinstance(classifier, nn.Module) else 0
    return sum(p.numel() for p in model.parameters()) - head


@torch.no_grad()
def flops(model: nn.Module, image_size: int, channels: int) -> int:
    """Multiply-adds of one image's forward pass: matrix products, convolutions, attention."""
    training = model.training
    at = next(model.parameters())
    image = torch.zeros(1, channels, image_size, image_size, device=at.device, dtype=at.dtype)
    model.eval()
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(image)
    model.train(training)
    return int(counter.get_total_flops()) // 2


# --- names -----------------------------------------------------------------------------------------------------------


def _timm_name(name: str) -> str:
    """The name under which timm's registry holds it: a lab name wins, `timm:NAME` forces timm's own."""
    row = catalogue.BACKBONES.get(name)
    if row is not None:
        return row.factory.removeprefix("timm:")
    plain = name.removeprefix("timm:")
    if not timm.is_model(plain):
        known = [*catalogue.BACKBONES, *timm.list_models()]
        raise unknown("backbone", plain, known, remedy="your own is given as package.module:factory")
    return plain


@cache
def _geometry(name: str) -> tuple[int, int | None, int | None, int]:
    """(image size, patch, window, halvings after the patches) as published; None for what it has not."""
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
    window = windows[0] if windows and catalogue.architecture(name) == "swin" else None
    return made_for, int(embed.patch_size[0]), None if window is None else int(window[0]), stages - 1


def _takes_size(target: str) -> bool:
    """Whether timm's model is built for one image size, and so takes `img_size`."""
    cfg = timm.get_pretrained_cfg(target.removeprefix(PREFIX), allow_unregistered=True)
    ours = target.startswith((PREFIX + "vit", PREFIX + "deit", PREFIX + "swin"))
    return ours or bool(cfg is not None and cfg.fixed_input_size)


def _own_factory(name: str) -> tuple[Callable[..., Any], set[str] | None]:
    """A user's `package.module:factory`, and the keywords it names; None if it takes any."""
    module_name, _, factory_name = name.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise  # the user's module is there, and lacks something itself
        raise UserError(f"no module '{module_name}' for the backbone '{name}'", remedy="is its folder here?") from error
    factory = getattr(module, factory_name, None)
    if not callable(factory):
        names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise unknown(f"factory of {module_name}", factory_name, names)
    taken = inspect.signature(factory).parameters
    any_keyword = any(p.kind is p.VAR_KEYWORD for p in taken.values())
    return factory, None if any_keyword else set(taken)


# --- timm's registry -------------------------------------------------------------------------------------------------


def register_all() -> None:
    """Enter every model of ours into timm's registry, once."""
    for name, size in vit.SIZES.items():
        _register(name, vit.VisionTransformer, size, fit_vit)
    for name, size in swin.SIZES.items():
        _register(name, swin.SwinTransformer, size, fit_swin)
    for name, size in mobilevit.SIZES.items():
        _register(name, mobilevit.MobileViT, size, None)
    for name, (make, size) in small.SIZES.items():
        _register(name, make, size, None)


def _register(
    name: str, make: Callable[..., nn.Module], size: dict[str, Any], fit: Callable[..., dict[str, Tensor]] | None
) -> None:
    def entry(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        """timm's entry point: keywords override the size table's; weights are those of timm's model of that name."""
        if kwargs.get("pretrained_cfg") is None and timm.get_pretrained_cfg(name) is None:
            kwargs["pretrained_cfg"] = _config(name, size)
        model: nn.Module = build_model_with_cfg(
            make,
            name,
            pretrained,
            pretrained_filter_fn=fit,
            feature_cfg=dict(feature_cls="getter"),
            **{**size, **kwargs},
        )
        return model

    entry.__name__ = entry.__qualname__ = PREFIX + name
    entry.__module__ = __name__
    register_model(entry)


def _config(name: str, size: dict[str, Any]) -> dict[str, Any]:
    """timm's description of a model that has no published weights."""
    side = size.get("img_size", catalogue.BACKBONES[name].image_size if name in catalogue.BACKBONES else 32)
    first, last = _ENDS[catalogue.architecture(name)]
    return dict(
        architecture=PREFIX + name, input_size=(3, side, side), num_classes=10, fixed_input_size="img_size" in size,
        mean=(0.5,) * 3, std=(0.5,) * 3, crop_pct=1.0, interpolation="bicubic", first_conv=first, classifier=last,
    )  # fmt: skip


_ENDS = {  # architecture → names of its first convolution and its classifier
    "vit": ("patch_embed.proj", "head"),
    "swin": ("patch_embed.proj", "head.fc"),
    "mobilevit": ("stem.conv", "head.fc"),
    "resnet": ("conv1", "fc"),
    "efficientnet": ("conv_stem", "classifier"),
    "mobilenetv3": ("conv_stem", "classifier"),
    "efficientvit": ("stem.in_conv.conv", "head.classifier.4"),
}


def nearest(tensors: Mapping[str, Tensor]) -> str:
    """The lab's name whose model shares most tensors, by name and shape; empty if none shares half of them.

    For messages: models are built without memory (meta device), at the size they were made for.
    """
    given = {(name, tuple(tensor.shape)) for name, tensor in tensors.items()}
    best, shared = "", len(given) / 2
    for name, row in catalogue.BACKBONES.items():
        with torch.device("meta"):
            model = create(name, image_size=row.image_size, channels=3, classes=None)
        own = {(key, tuple(tensor.shape)) for key, tensor in model.state_dict().items()}
        if len(given & own) > shared:
            best, shared = name, len(given & own)
    return best

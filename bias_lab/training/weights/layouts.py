"""Bring the tensors of a source under a model's own names: choose the set, strip prefixes, apply timm's conversion.

A published layout is converted as timm converts it, by the filter that lies beside the model's class. docs/weights.md
lists the layouts, and `python -m bias_lab.training.weights.layouts docs/weights.md` writes its tables.
"""

import importlib
import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from bias_lab.errors import UserError
from bias_lab.training.weights.files import Source
from bias_lab.training.weights.resampling import resample

Tensors = Mapping[str, Tensor]
Filter = Callable[[dict[str, Tensor], nn.Module], dict[str, Tensor]]

WITHIN = re.compile(r"\b(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")  # which may stand anywhere
WRAPPERS = ("module.", "model.", "backbone.", "encoder.")  # prefixes that wrappers put before names
TIMM_ORDER = ("state_dict_ema", "model_ema", "state_dict", "model")  # the order in which timm looks for a set
AVERAGED = re.compile(r"(^|[._])(ema|teacher|averaged?|swa)([._]|$)")  # a set of averaged weights comes first
STUDENT = re.compile(r"(^|[._])student([._]|$)")
MOST = 6  # prefixes that are tried for one set


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Tensors under the model's names, from one set of a source.

    key: of the set in the file. prefix: what was stripped from the names. converted: timm's filter was applied.
    chosen: the model's tensors that have a value. resampled: those of them that the file holds in another shape.
    surplus: names without a place in the model, after that. outside: names that do not begin with the prefix.
    raw: the set's tensors by the file's own names.
    """

    key: str
    prefix: str
    converted: bool
    chosen: Tensors
    resampled: frozenset[str]
    surplus: tuple[str, ...]
    outside: tuple[str, ...]
    raw: Tensors

    @property
    def place(self) -> str:
        """The key and the prefix, as one path."""
        return ".".join(part for part in (self.key, self.prefix.rstrip(".")) if part)


def fit(source: Source, model: nn.Module, left_out: tuple[str, ...] = ()) -> Fit:
    """Return the set of a source that fills most of the model's tensors.

    Of sets that fill equally many, one of averaged weights comes first, then the order in which timm looks for a set.
    left_out: beginnings of names that are not filled, which are those of the classifier.
    Raise UserError if two sets with different values fit equally well and no rule chooses.
    """
    fits = [
        fitted
        for key, held in source.sets.items()
        for tensors in [without_wrappers(held)]
        for prefix, named in without_prefixes(tensors, model).items()
        for fitted in [best_conversion(key, prefix, named, tensors, model, left_out)]
    ]
    most = max(len(one.chosen) for one in fits)
    best = sorted((one for one in fits if len(one.chosen) == most), key=rank)
    first = best[0]
    for other in best[1:]:
        if most and rank(other) == rank(first) and not equal(first.chosen, other.chosen):
            raise UserError(
                f"{source.name} holds two sets of weights that fit equally well: '{first.place}' and '{other.place}'",
                remedy="save the tensors of one of them as a .safetensors file",
            )
    return first


def rank(one: Fit) -> tuple[int, int]:
    """Return the place of a fit among equals: averaged weights first, a student last, then timm's order of keys."""
    kind = 0 if AVERAGED.search(one.place) else 2 if STUDENT.search(one.place) else 1
    top = one.key.split(".")[0]
    return kind, TIMM_ORDER.index(top) if top in TIMM_ORDER else len(TIMM_ORDER)


def equal(one: Tensors, other: Tensors) -> bool:
    """Return whether two sets hold the same names and values."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def alternatives(source: Source, taken: Fit) -> list[str]:
    """Return the keys of other sets of the source that look like weights too: of as many tensors at least as half."""
    half = len(taken.chosen) / 2
    beside = [key for key, tensors in source.sets.items() if key != taken.key and len(tensors) >= half]
    if not taken.prefix:
        return beside
    roots = {name.split(".")[0] for name in taken.raw if not name.startswith(taken.prefix)}
    count = Counter(name.split(".")[0] for name in taken.raw)
    return beside + sorted(root for root in roots if count[root] >= half)


def without_wrappers(tensors: Tensors) -> Tensors:
    """Return the tensors without the names of wrappers that PyTorch puts between the parts of a name."""
    return {WITHIN.sub("", name): tensor for name, tensor in tensors.items()}


# --- prefixes --------------------------------------------------------------------------------------------------------


def without_prefixes(tensors: Tensors, model: nn.Module) -> dict[str, Tensors]:
    """Return prefix → the tensors whose names begin with it, without it. The empty prefix comes first.

    The prefixes are those before names that the model has, and any nesting of `WRAPPERS` that most names begin with.
    """
    own = set(model.state_dict())
    before: Counter[str] = Counter()
    for name in tensors:
        parts = name.split(".")
        for at in range(1, len(parts)):
            if ".".join(parts[at:]) in own:
                before[".".join(parts[:at]) + "."] += 1
    enough = max(max(before.values(), default=0) / 2, len(own) / 4)  # a few names are alike by chance
    prefixes = ["", *(prefix for prefix, count in before.most_common(MOST) if count >= enough)]
    nested = nesting(tensors)
    prefixes += [nested] if nested and nested not in prefixes else []
    return {p: {name.removeprefix(p): t for name, t in tensors.items() if name.startswith(p)} for p in prefixes}


def nesting(names: Iterable[str]) -> str:
    """Return the wrappers' prefixes that more than half of the names begin with, one before another.

    >>> nesting(["module.backbone.norm.weight", "module.backbone.norm.bias", "module.head.bias"])
    'module.backbone.'
    """
    names = list(names)
    prefix = ""
    while True:
        found = [w for w in WRAPPERS if sum(name.startswith(prefix + w) for name in names) > len(names) / 2]
        if not found:
            return prefix
        prefix += found[0]


# --- conversion ------------------------------------------------------------------------------------------------------


def best_conversion(
    key: str, prefix: str, named: Tensors, raw: Tensors, model: nn.Module, left_out: tuple[str, ...]
) -> Fit:
    """Return the fit of a set as it is, or after the filter of timm that fills more of the model."""
    fits = [fitted(key, prefix, named, raw, model, left_out, converted=False)]
    needed = [name for name in model.state_dict() if not name.startswith(left_out)]
    if len(fits[0].chosen) < len(needed):
        for convert in filters(model):
            result = converted(convert, named, model)
            fits.append(fitted(key, prefix, result, raw, model, left_out, converted=True))
    return max(fits, key=lambda one: len(one.chosen))


def filters(model: nn.Module) -> list[Filter]:
    """Return timm's conversions of published layouts for a model: the filters beside its class.

    timm gives the DeiT III models a keyword of the ViT's filter, so the filter is tried with it too.
    """
    beside = vars(importlib.import_module(type(model).__module__))
    found = [value for name, value in beside.items() if "filter_fn" in name and callable(value)]
    with_scale = [one for one in found if "adapt_layer_scale" in inspect.signature(one).parameters]
    return [*found, *(partial(one, adapt_layer_scale=True) for one in with_scale)]


def converted(convert: Filter, named: Tensors, model: nn.Module) -> Tensors:
    """Return what a filter makes of tensors, nothing if it is not made for them."""
    try:
        result = convert(dict(named), model)
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return {}  # a filter raises whatever a foreign name or shape leads to
    return {name: value for name, value in result.items() if isinstance(value, Tensor)}


def fitted(
    key: str, prefix: str, named: Tensors, raw: Tensors, model: nn.Module, left_out: tuple[str, ...], *, converted: bool
) -> Fit:
    """Return which of the named tensors fit the model, by name and shape."""
    own = model.state_dict()
    chosen: dict[str, Tensor] = {}
    resampled: set[str] = set()
    for name, tensor in sorted(named.items()):
        wanted = own.get(name)
        new = None if wanted is None or name.startswith(left_out) else resample(name, tensor, wanted, model)
        if new is None or wanted is None or new.shape != wanted.shape:
            continue
        chosen[name] = new
        held = raw.get(prefix + name)
        if new is not tensor or (held is not None and held.shape != new.shape):
            resampled.add(name)
    return Fit(
        key=key,
        prefix=prefix,
        converted=converted,
        chosen=chosen,
        resampled=frozenset(resampled),
        surplus=tuple(name for name in sorted(named) if name not in chosen),
        outside=tuple(name for name in sorted(raw) if not name.startswith(prefix)),
        raw=raw,
    )


# --- layouts that are not read ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """A layout of another library that timm does not convert. sign: a pattern of one of its names."""

    words: str
    sign: str


FOREIGN = (
    Foreign(words="torchvision's EfficientNet or MobileNetV3", sign=r"(?:^|\.)features\.0\.0\.weight$"),
    Foreign(words="torchvision's ViT", sign=r"(?:^|\.)encoder\.layers\.encoder_layer_0\."),
    Foreign(words="torchvision's Swin", sign=r"(?:^|\.)features\.1\.0\.attn\.relative_position_bias_table$"),
    Foreign(words="EfficientNet-PyTorch's EfficientNet", sign=r"(?:^|\.)_conv_stem\.weight$"),
    Foreign(words="ml-cvnets' MobileViT", sign=r"(?:^|\.)conv_1\.block\.conv\.weight$"),
    Foreign(words="Transformers' ViT or DeiT", sign=r"(?:^|\.)embeddings\.patch_embeddings\.projection\.weight$"),
    Foreign(words="Transformers' Swin", sign=r"blocks\.0\.attention\.self\.query\.weight$"),
    Foreign(words="Transformers' MobileViT", sign=r"conv_stem\.convolution\.weight$"),
    Foreign(words="Transformers' ResNet", sign=r"embedder\.embedder\.convolution\.weight$"),
    Foreign(words="MMPretrain's ViT", sign=r"layers\.0\.ln1\.weight$"),
    Foreign(words="MMPretrain's Swin", sign=r"stages\.0\.blocks\.0\.attn\.w_msa\.qkv\.weight$"),
    Foreign(words="a ResNet whose shortcuts are called `shortcut`", sign=r"layer2\.0\.shortcut\.0\.weight$"),
)


def foreign(names: Iterable[str]) -> str:
    """Return the library and model whose layout the names have, if timm does not convert it, else an empty string."""
    names = list(names)
    return next((row.words for row in FOREIGN if any(re.search(row.sign, name) for name in names)), "")

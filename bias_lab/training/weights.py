"""Weights from timm, a file or one of the lab's pretrainings into a backbone: what fits, and a list of what did not.

A tensor goes where its name and shape say. Three kinds are made to fit: position embeddings (another grid), patch
embeddings and first convolutions (another patch size or number of channels), and Swin's tables of relative positions
(another window). The classifier is left as it is, since the target's classes are others.
"""

import math
import pickle
import warnings
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from timm.layers.patch_embed import resample_patch_embed
from torch import Tensor, nn

from bias_lab.backbones.build import nearest
from bias_lab.catalogue import WEIGHT_FILES
from bias_lab.errors import UserError, unknown

WRAPPERS = ("state_dict", "model", "model_state_dict")  # keys under which a .pth keeps the tensors
PREFIXES = ("module.", "model.", "backbone.", "encoder.", "_orig_mod.")
HUB = ("hf-hub:", "hf_hub:")  # how timm's names of models on the Hugging Face hub begin
WANTED, AGAIN = "tensors by name, as torch.save(model.state_dict(), path) writes them", "download or write it again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What became of a set of weights. Names, sorted.

    skipped: tensors of the source that found no place. missing: tensors of the model that kept their initial values.
    mean, std: the normalisation the weights were trained with, per channel, in [0, 1]; empty if it isn't known.
    """

    name: str
    loaded: tuple[str, ...]
    skipped: tuple[str, ...]
    resampled: tuple[str, ...]
    missing: tuple[str, ...]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Tensors by name, and where they come from. mean, std: as in `Loaded`."""

    name: str
    tensors: Mapping[str, Tensor]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


def load(model: nn.Module, source: str | Path, *, head: bool = False) -> Loaded:
    """Put a source's weights into `model`, in place, and tell what was loaded, skipped and resampled.

    source: a .safetensors file, one that torch.save wrote (.pth, .pt, .bin, .ckpt), or a timm name with pretrained
    weights. head: take the classifier's weights too, if their shape is the model's.
    Raises UserError for a missing or corrupt file, one that holds code, an unknown name, or weights of which none fits.
    """
    return fit(model, read(source), head=head)


def fit(model: nn.Module, weights: Weights, *, head: bool = False) -> Loaded:
    """`load`, of weights that are read already."""
    given = unprefixed(weights.tensors, model)
    own = model.state_dict()
    left_out = () if head else classifier_prefixes(model)
    loaded: list[str] = []
    skipped: list[str] = []
    resampled: list[str] = []
    fitted: dict[str, Tensor] = {}
    for name, tensor in sorted(given.items()):
        wanted = own.get(name)
        made = None if wanted is None or name.startswith(left_out) else fitting(name, tensor, wanted, model)
        if made is None:
            skipped.append(name)
        else:
            (loaded if made is tensor else resampled).append(name)
            fitted[name] = made
    if not fitted:
        raise UserError(
            f"none of the {len(given)} tensors of {weights.name} fits {type(model).__name__}",
            f"missing: {some(own, given)}; surplus: {some(given, own)}",
            origin(given),
        )
    model.load_state_dict(fitted, strict=False)
    return Loaded(
        name=weights.name,
        loaded=tuple(loaded),
        skipped=tuple(skipped),
        resampled=tuple(resampled),
        missing=tuple(sorted(set(own) - set(fitted))),
        mean=weights.mean,
        std=weights.std,
    )


def some(names: Iterable[str], beside: Container[str]) -> str:
    """`a, b, c and 147 more`: the names that do not stand beside."""
    found = [name for name in names if name not in beside]
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return ", ".join(found[:3]) + more if found else "none by name, all by shape"


def origin(tensors: Mapping[str, Tensor]) -> str:
    """Whose weights they look like, as a way out."""
    name = nearest(tensors)
    return f"they look like {name}'s" if name else "names and shapes must be those of timm's model of that architecture"


# --- reading ---------------------------------------------------------------------------------------------------------


def read(source: str | Path) -> Weights:
    """The tensors of a file or of a timm name. Raises UserError as `load` says."""
    path = Path(source)
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    if path.suffix in WEIGHT_FILES or path.is_file():
        return read_pickle(path)
    return read_timm(str(source))


def read_safetensors(path: Path) -> Weights:
    """A .safetensors file. Its header may name the timm model (`timm_model`) whose normalisation it wants."""
    present(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
            model = (file.metadata() or {}).get("timm_model", "")
    except SafetensorError as error:
        raise UserError(
            f"{path} is not a whole .safetensors file ({error})", remedy="download or write it again"
        ) from error
    mean, std = normalisation(model)
    return Weights(name=path.name, tensors=tensors, mean=mean, std=std)


def read_pickle(path: Path) -> Weights:
    """A .pth, .pt or .bin file, read without running any code that it may carry."""
    present(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # on the pickle's protocol: what can't be read raises anyway
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds more than tensors, and unpickling it could run code"
            if "Weights only" in str(error)
            else f"{path} is not a whole PyTorch file ({error})",
            WANTED,
            "save it as .safetensors where you trust it",
        ) from error
    except Exception as error:  # what isn't a pickle reads as one that may do anything wrong
        first = str(error).split("\n", 1)[0]
        raise UserError(
            f"{path} is not a whole PyTorch file ({type(error).__name__}: {first})", remedy=AGAIN
        ) from error
    for key in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}", WANTED)
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(
            f"{path} holds no tensors", "tensors by name, as torch.save(model.state_dict(), path) writes them"
        )
    return Weights(name=path.name, tensors=tensors)


def read_timm(name: str) -> Weights:
    """The pretrained weights of a timm name (with or without a tag), from timm's cache or its hub.

    A name that begins with `hf-hub:` is a repository's on that hub, whose models timm does not list.
    """
    name = name.removeprefix("timm:")
    able = timm.list_models(pretrained=True)
    listed = name in able or name.split(".")[0] in {a.split(".")[0] for a in able}
    if not listed and not name.startswith(HUB):
        raise unknown("weights", name, able, remedy="a file is given by its path, ending in .safetensors or .pth")
    try:
        model: Any = timm.create_model(name, pretrained=True)
    except (OSError, RuntimeError, ValueError) as error:  # what timm and the hub raise without a network or the file
        first = str(error).strip().split("\n", 1)[0]
        raise UserError(
            f"the weights '{name}' can't be fetched ({first})",
            remedy="connect once, or give a file that you have with --weights PATH",
        ) from error
    config = model.pretrained_cfg
    mean, std = tuple(config.get("mean") or ()), tuple(config.get("std") or ())
    return Weights(name=name, tensors=model.state_dict(), mean=mean, std=std)


def present(path: Path) -> None:
    if not path.is_file():
        raise UserError(f"there is no weights file {path}", remedy="check the path")


def normalisation(timm_name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std, per channel in [0, 1], that a timm model's weights were trained with; empty if it isn't known."""
    config = timm.get_pretrained_cfg(timm_name, allow_unregistered=True) if timm_name else None
    return (tuple(config.mean), tuple(config.std)) if config is not None else ((), ())


def channels(found: Loaded, count: int) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """The weights' mean and std for images of `count` channels (grey: their averages); None if they aren't known."""
    if not found.mean:
        return None
    if len(found.mean) == count:
        return found.mean, found.std
    mean, std = sum(found.mean) / len(found.mean), sum(found.std) / len(found.std)
    return (mean,) * count, (std,) * count


# --- fitting ---------------------------------------------------------------------------------------------------------


def unprefixed(tensors: Mapping[str, Tensor], model: nn.Module) -> Mapping[str, Tensor]:
    """The tensors under the model's own names: without the prefix that a wrapper put before all it kept."""
    own = set(model.state_dict())
    best, found = tensors, len(own & set(tensors))
    for prefix in PREFIXES:
        stripped = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        if len(own & set(stripped)) > found:
            best, found = stripped, len(own & set(stripped))
    return best


def classifier_prefixes(model: nn.Module) -> tuple[str, ...]:
    """What the names of the classifier's tensors begin with; empty if the model has none."""
    get = getattr(model, "get_classifier", None)
    heads = get() if callable(get) else None
    heads = heads if isinstance(heads, tuple) else (heads,)
    return tuple(f"{name}." for name, module in model.named_modules() if name and any(module is head for head in heads))


def fitting(name: str, given: Tensor, wanted: Tensor, model: nn.Module) -> Tensor | None:
    """`given` itself if its shape is right, resampled if that makes sense, None if it doesn't fit."""
    if given.shape == wanted.shape:
        return given
    if given.ndim != wanted.ndim:
        return None
    last = name.rsplit(".", 1)[-1]
    if last == "pos_embed" and given.ndim == 3:
        return positions(given.float(), wanted, model)
    if last == "relative_position_bias_table" and given.shape[1] == wanted.shape[1]:
        return relative_positions(given.float(), wanted)
    if given.ndim == 4 and given.shape[0] == wanted.shape[0]:
        return first_convolution(name, given.float(), wanted)
    return None


def positions(given: Tensor, wanted: Tensor, model: Any) -> Tensor | None:
    """Position embeddings (1, prefix + N, D) on another grid: bicubic, class token's kept. None if it can't be told.

    The source's grid is square; the model's is its patch embedding's.
    """
    embed = getattr(model, "patch_embed", None)
    if embed is None or given.shape[2] != wanted.shape[2]:
        return None
    rows, columns = embed.grid_size
    prefix = wanted.shape[1] - rows * columns
    old = [
        (n, side) for n in (prefix, 1, 0) for side in [math.isqrt(given.shape[1] - n)] if side**2 == given.shape[1] - n
    ]
    if not old:
        return None
    n, side = old[0]
    square = given[:, n:].reshape(1, side, side, -1).permute(0, 3, 1, 2)  # (1, D, side, side)
    resized = F.interpolate(square, size=(rows, columns), mode="bicubic", antialias=True)  # (1, D, rows, columns)
    before = wanted[:, :prefix].clone()
    before[:, : min(n, prefix)] = given[:, : min(n, prefix)]
    return torch.cat([before, resized.flatten(2).transpose(1, 2)], dim=1)


def relative_positions(given: Tensor, wanted: Tensor) -> Tensor | None:
    """Swin's table ((2w-1)², heads) for another window, bicubic."""
    old, new = math.isqrt(len(given)), math.isqrt(len(wanted))
    if old**2 != len(given) or new**2 != len(wanted):
        return None
    square = given.T.reshape(1, -1, old, old)  # (1, heads, 2w-1, 2w-1)
    return F.interpolate(square, size=(new, new), mode="bicubic").reshape(-1, new * new).T.contiguous()


def first_convolution(name: str, given: Tensor, wanted: Tensor) -> Tensor | None:
    """A kernel (D, C, h, w) for another number of input channels or, in a patch embedding, another patch size.

    Three channels become one by summing them, so that a grey image gives what its three equal channels gave. The patch
    is resampled by the pseudo-inverse of resizing (Beyer et al. 2023, arXiv:2212.08013).
    """
    channels = wanted.shape[1]
    if given.shape[1] != channels:
        if channels == 1 and given.shape[1] == 3:
            given = given.sum(1, keepdim=True)
        elif given.shape[1] == 1 and channels == 3:
            given = given.expand(-1, 3, -1, -1) / 3
        else:
            return None
    if given.shape[2:] != wanted.shape[2:]:
        if "patch_embed" not in name:
            return None
        given = resample_patch_embed(given, list(wanted.shape[2:]))
    return given

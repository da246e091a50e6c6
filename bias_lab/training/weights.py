"""Load weights from timm, a file or one of the lab's pretrainings into a backbone, and list what did not fit.

A tensor is loaded by name and shape. Three kinds are resampled: position embeddings (to another grid), patch embeddings
and first convolutions (to another patch size or number of channels), and Swin's relative positions (to another window).
The classifier is not loaded, since the target has other classes.
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
from safetensors import SafetensorError, safe_open
from timm.layers.patch_embed import resample_patch_embed
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.layers.pos_embed_rel import resize_rel_pos_bias_table
from torch import Tensor, nn

from bias_lab.backbones.build import nearest
from bias_lab.catalogue import WEIGHT_FILES
from bias_lab.errors import UserError, unknown

WRAPPERS = ("state_dict", "model", "model_state_dict")  # keys under which a .pth keeps the tensors
PREFIXES = ("module.", "model.", "backbone.", "encoder.", "_orig_mod.")
HUB = ("hf-hub:", "hf_hub:")  # how timm's names of models on the Hugging Face hub begin
TENSORS = "it must hold tensors by name, as torch.save(model.state_dict(), path) writes them"
AGAIN = "download or write it again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The outcome of loading a set of weights, as sorted names of tensors.

    skipped: of the source, without a place in the model. missing: of the model, which kept their initial values.
    mean, std: the normalisation that the weights were trained with, per channel in [0, 1], empty if it isn't known.
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
    """Load a source's weights into `model`, and return what was loaded, skipped and resampled.

    source: a .safetensors file, one that torch.save wrote (.pth, .pt, .bin, .ckpt), or a timm name with pretrained
    weights. head: load the classifier's weights too, if their shape is the model's.
    Raise UserError for a missing or corrupt file, one that holds code, an unknown name, or weights of which none fits.
    """
    weights = read(source)
    given = without_prefix(weights.tensors, model)
    own = model.state_dict()
    left_out = () if head else classifier_prefixes(model)
    loaded: list[str] = []
    skipped: list[str] = []
    resampled: list[str] = []
    chosen: dict[str, Tensor] = {}
    for name, tensor in sorted(given.items()):
        wanted = own.get(name)
        new = None if wanted is None or name.startswith(left_out) else resample(name, tensor, wanted, model)
        if new is None:
            skipped.append(name)
        else:
            (loaded if new is tensor else resampled).append(name)
            chosen[name] = new
    if not chosen:
        raise UserError(
            f"none of the {len(given)} tensors of {weights.name} fits {type(model).__name__}",
            f"missing: {some(own, given)}; surplus: {some(given, own)}",
            likely_origin(given),
        )
    model.load_state_dict(chosen, strict=False)
    return Loaded(
        name=weights.name,
        loaded=tuple(loaded),
        skipped=tuple(skipped),
        resampled=tuple(resampled),
        missing=tuple(sorted(set(own) - set(chosen))),
        mean=weights.mean,
        std=weights.std,
    )


def some(names: Iterable[str], others: Container[str]) -> str:
    """Return the names that are not among the others, as `a, b, c and 147 more`."""
    left = [name for name in names if name not in others]
    more = f" and {len(left) - 3} more" if len(left) > 3 else ""
    return ", ".join(left[:3]) + more if left else "none by name, all by shape"


def likely_origin(tensors: Mapping[str, Tensor]) -> str:
    """Return whose weights they look like, for a message."""
    name = nearest(tensors)
    return f"they look like {name}'s" if name else "names and shapes must be those of timm's model of that architecture"


# --- reading ---------------------------------------------------------------------------------------------------------


def read(source: str | Path) -> Weights:
    """Return the tensors of a file or of a timm name. Raise UserError as `load`."""
    path = Path(source)
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    if path.suffix in WEIGHT_FILES or path.is_file():
        return read_pickle(path)
    return read_timm(str(source))


def read_safetensors(path: Path) -> Weights:
    """Read a .safetensors file. Its header may name the timm model (`timm_model`) whose normalisation it needs."""
    check_exists(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
            model = (file.metadata() or {}).get("timm_model", "")
    except SafetensorError as error:
        raise UserError(f"{path} is not a whole .safetensors file ({error})", remedy=AGAIN) from error
    mean, std = normalisation(model)
    return Weights(name=path.name, tensors=tensors, mean=mean, std=std)


def read_pickle(path: Path) -> Weights:
    """Read a .pth, .pt or .bin file without running code that it may hold."""
    check_exists(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # on the pickle's protocol
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds more than tensors, and unpickling it could run code"
            if "Weights only" in str(error)
            else f"{path} is not a whole PyTorch file ({error})",
            TENSORS,
            "if you trust it, save its tensors as .safetensors",
        ) from error
    except Exception as error:  # any other file raises whatever its bytes mean as a pickle
        first = str(error).split("\n", 1)[0]
        what = f"{path} is not a whole PyTorch file ({type(error).__name__}: {first})"
        raise UserError(what, remedy=AGAIN) from error
    for key in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}", TENSORS)
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"{path} holds no tensors", TENSORS)
    return Weights(name=path.name, tensors=tensors)


def read_timm(name: str) -> Weights:
    """Return the pretrained weights of a timm name (with or without a tag), from timm's cache or its hub.

    A name that begins with `hf-hub:` is a repository on that hub, whose models timm does not list.
    """
    name = name.removeprefix("timm:")
    able = timm.list_models(pretrained=True)
    listed = name in able or name.split(".")[0] in {a.split(".")[0] for a in able}
    if not listed and not name.startswith(HUB):
        raise unknown("weights", name, able, remedy="a file is given by its path, ending in .safetensors or .pth")
    try:
        model: Any = timm.create_model(name, pretrained=True)
    except (OSError, RuntimeError, ValueError) as error:  # without a network or the file
        first = str(error).strip().split("\n", 1)[0]
        raise UserError(
            f"the weights '{name}' can't be fetched ({first})",
            remedy="connect to the network once, or give a file with --weights PATH",
        ) from error
    config = model.pretrained_cfg
    mean, std = tuple(config.get("mean") or ()), tuple(config.get("std") or ())
    return Weights(name=name, tensors=model.state_dict(), mean=mean, std=std)


def check_exists(path: Path) -> None:
    """Raise UserError if there is no such file."""
    if not path.is_file():
        raise UserError(f"there is no weights file {path}", remedy="check the path")


def normalisation(timm_name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and std per channel in [0, 1] of a timm model's training, empty if they aren't known."""
    config = timm.get_pretrained_cfg(timm_name, allow_unregistered=True) if timm_name else None
    return (tuple(config.mean), tuple(config.std)) if config is not None else ((), ())


def normalisation_for(loaded: Loaded, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return the weights' mean and std for images of so many channels, or None if they aren't known.

    Where the number of channels differs, each gets the average.
    """
    if not loaded.mean:
        return None
    if len(loaded.mean) == channels:
        return loaded.mean, loaded.std
    mean, std = sum(loaded.mean) / len(loaded.mean), sum(loaded.std) / len(loaded.std)
    return (mean,) * channels, (std,) * channels


# --- resampling ------------------------------------------------------------------------------------------------------


def without_prefix(tensors: Mapping[str, Tensor], model: nn.Module) -> Mapping[str, Tensor]:
    """Return the tensors by the model's own names, without a prefix that a wrapper gave to all of them."""
    own = set(model.state_dict())
    candidates = [tensors]
    for prefix in PREFIXES:
        candidates.append({name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)})
    return max(candidates, key=lambda named: len(own & set(named)))


def classifier_prefixes(model: nn.Module) -> tuple[str, ...]:
    """Return the beginnings of the classifier's tensors' names, empty if the model has none."""
    get = getattr(model, "get_classifier", None)
    heads = get() if callable(get) else None
    heads = heads if isinstance(heads, tuple) else (heads,)
    return tuple(f"{name}." for name, module in model.named_modules() if name and any(module is head for head in heads))


def resample(name: str, given: Tensor, wanted: Tensor, model: nn.Module) -> Tensor | None:
    """Return `given` itself if its shape is right, resampled if that makes sense, None otherwise."""
    if given.shape == wanted.shape:
        return given
    if given.ndim != wanted.ndim:
        return None
    last = name.rsplit(".", 1)[-1]
    if last == "pos_embed" and given.ndim == 3:
        return resample_positions(given.float(), wanted, model)
    if last == "relative_position_bias_table" and given.shape[1] == wanted.shape[1]:
        return resample_relative_positions(given.float(), wanted)
    if given.ndim == 4 and given.shape[0] == wanted.shape[0]:
        return resample_convolution(name, given.float(), wanted)
    return None


def resample_positions(given: Tensor, wanted: Tensor, model: Any) -> Tensor | None:
    """Return position embeddings (1, prefix + N, D) on the model's grid, or None if the source's grid is not square.

    Those of class and register tokens are kept.
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
    patches = resample_abs_pos_embed(given[:, n:], [rows, columns], [side, side], num_prefix_tokens=0)  # (1, N, D)
    tokens = wanted[:, :prefix].clone()
    tokens[:, : min(n, prefix)] = given[:, : min(n, prefix)]
    return torch.cat([tokens, patches], dim=1)


def resample_relative_positions(given: Tensor, wanted: Tensor) -> Tensor | None:
    """Return Swin's table ((2w-1)², heads) for another window, by timm. None if a window is not square."""
    old, new = math.isqrt(len(given)), math.isqrt(len(wanted))
    if old**2 != len(given) or new**2 != len(wanted):
        return None
    window = ((new + 1) // 2, (new + 1) // 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # on timm's use of a tensor that is not contiguous
        table: Tensor = resize_rel_pos_bias_table(given, window, tuple(wanted.shape))
    return table


def resample_convolution(name: str, given: Tensor, wanted: Tensor) -> Tensor | None:
    """Return a kernel (D, C, h, w) for other input channels or, in a patch embedding, another patch size.

    Three channels are summed into one, so that a grey image gives what its three equal channels gave. The patch is
    resampled by the pseudo-inverse of resizing (Beyer et al. 2023, arXiv:2212.08013).
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

"""Read the tensors of a weights file or of a timm name, without running code that a file may hold.

Tensors may lie under any key of a file, and several sets of them may lie side by side. All sets are returned, and
`layouts` chooses the one that fits the model.
"""

import argparse
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import safe_open
from torch import Tensor

from bias_lab.catalogue import WEIGHT_FILES
from bias_lab.errors import UserError, unknown

HUB = ("hf-hub:", "hf_hub:")  # how timm's names of models on the Hugging Face hub begin
TENSORS = "it must hold tensors by name, as torch.save(model.state_dict(), path) writes them"
AGAIN = "download or write it again"
DEPTH = 4  # levels of keys that are searched for tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The sets of tensors of a file or a timm name.

    sets: key in the file (`state_dict`, `model.module`, empty for the top) → tensors by name. timm_name: the timm model
    that the file's header or its key `arch` states, or the timm name itself. mean, std: the normalisation of that
    model's training, per channel in [0, 1], empty if it isn't known.
    """

    name: str
    sets: Mapping[str, Mapping[str, Tensor]]
    timm_name: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """The first set of tensors."""
        return next(iter(self.sets.values()))


def read(source: str | Path) -> Source:
    """Return the sets of tensors of a file or of a timm name.

    source: a .safetensors file, one that torch.save wrote (.pth, .pt, .bin, .ckpt), or a timm name with pretrained
    weights. Raise UserError for a missing or corrupt file, one that holds code or no tensors, and an unknown name.
    """
    path = Path(source)
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    if path.suffix in WEIGHT_FILES or path.is_file():
        return read_pickle(path)
    return read_timm(str(source))


def read_safetensors(path: Path) -> Source:
    """Read a .safetensors file. Its header may name the timm model (`timm_model`) whose normalisation it needs."""
    check_exists(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
            stated = (file.metadata() or {}).get("timm_model", "")
    except Exception as error:  # a damaged header raises more than SafetensorError
        first = str(error).split("\n", 1)[0]
        raise UserError(f"{path} is not a whole .safetensors file ({first})", remedy=AGAIN) from error
    if not tensors:
        raise UserError(f"{path} holds no tensors", TENSORS)
    mean, std = published(stated)
    return Source(name=path.name, sets={"": tensors}, timm_name=stated, mean=mean, std=std)


def read_pickle(path: Path) -> Source:
    """Read a .pth, .pt or .bin file without running code that it may hold."""
    check_exists(path)
    if path.suffix == ".npz":
        remedy = "load it with timm's model.load_pretrained(path), and save model.state_dict() as a .safetensors file"
        raise UserError(f"{path} is an archive of NumPy arrays in a JAX model's layout, which is not read", "", remedy)
    content = unpickled(path)
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}", TENSORS)
    sets = sets_of(content)
    if not sets:
        keys = ", ".join(map(str, list(content)[:12])) + (", …" if len(content) > 12 else "")
        raise UserError(f"{path} holds no tensors; it has the keys {keys}" if keys else f"{path} is empty", TENSORS)
    arch = content.get("arch")
    stated = arch if isinstance(arch, str) and timm.is_model(arch) else ""
    mean, std = published(stated)
    return Source(name=path.name, sets=sets, timm_name=stated, mean=mean, std=std)


def unpickled(path: Path) -> Any:
    """Return the content of a file that torch.save wrote. Raise UserError if it is damaged or holds code."""
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore", UserWarning)  # on the pickle's protocol
            return torch.load(path, map_location="cpu", weights_only=True)  # many files hold their command line too
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


def sets_of(content: Mapping[Any, Any]) -> dict[str, dict[str, Tensor]]:
    """Return the sets of tensors of nested dicts, by their keys joined by dots.

    >>> sets_of({"epoch": 3, "model": {"bias": torch.zeros(2)}})
    {'model': {'bias': tensor([0., 0.])}}
    """
    found: dict[str, dict[str, Tensor]] = {}

    def visit(value: Mapping[Any, Any], place: tuple[str, ...]) -> None:
        tensors = {str(name): part for name, part in value.items() if is_plain(part)}
        if tensors:
            found[".".join(place)] = tensors
        for key, part in value.items():  # the state of an optimizer has numbers as keys
            if isinstance(part, Mapping) and isinstance(key, str) and len(place) < DEPTH:
                visit(part, (*place, key))

    visit(content, ())
    return found


def is_plain(value: Any) -> bool:
    """Return whether a value is a tensor of numbers that a model can take."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type != "meta"
        and not (value.is_quantized or value.is_complex())
    )


def read_timm(name: str) -> Source:
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
    return Source(name=name, sets={"": model.state_dict()}, timm_name=name, mean=mean, std=std)


def published(timm_name: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and std per channel in [0, 1] of a timm model's training, empty if they aren't known."""
    architecture = timm_name.split(".")[0]
    known = timm_name if timm_name in timm.list_models(pretrained=True) else architecture  # a tag may be unknown
    config = timm.get_pretrained_cfg(known, allow_unregistered=True) if timm_name else None
    return (tuple(config.mean), tuple(config.std)) if config is not None else ((), ())


def check_exists(path: Path) -> None:
    """Raise UserError if there is no such file."""
    if not path.is_file():
        raise UserError(f"there is no weights file {path}", remedy="check the path")

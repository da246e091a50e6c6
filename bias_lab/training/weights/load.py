"""Load a source's weights into a backbone, and refuse a source that fills only a part of it.

The classifier is not loaded, since the target has other classes. Every other tensor must get its value from the source,
because what stays random makes features wrong, and nothing would show it.
"""

import re
from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from bias_lab.backbones.build import nearest
from bias_lab.errors import UserError, plural
from bias_lab.training.weights import files, layouts
from bias_lab.training.weights.layouts import Fit

COUNTERS = "num_batches_tracked"  # of batch norm, which no feature depends on. Files of old PyTorch versions lack it
INDICES = ("relative_position_index", "attn_mask", "relative_coords_table", COUNTERS)  # buffers that a model computes
TOKENS = ("dist_token", "reg_token", "register_tokens", "pos_embed")  # which no model leaves out without harm


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The outcome of loading a set of weights, as sorted names of tensors.

    skipped: of the source, without a place in the model. missing: of the model, which kept their initial values.
    lacking: those of them that do not belong to the classifier. beyond: those of `skipped` that belong to the
    encoder. problem: in words, what is wrong with weights that fit in part. set: what of a file was taken, in words.
    folded: the source's three input channels became one. timm_name, mean, std: as in `files.Source`.
    """

    name: str
    loaded: tuple[str, ...]
    skipped: tuple[str, ...]
    resampled: tuple[str, ...]
    missing: tuple[str, ...]
    lacking: tuple[str, ...] = ()
    beyond: tuple[str, ...] = ()
    problem: str = ""
    set: str = ""
    folded: bool = False
    timm_name: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @property
    def words(self) -> str:
        """What was loaded, in one line."""
        filled = len(self.loaded) + len(self.resampled)
        parts = [f"{filled} of {filled + len(self.lacking)} tensors loaded"]
        parts += [f"{len(self.resampled)} of them resampled"] if self.resampled else []
        parts += [f"{len(self.skipped)} of the file skipped"] if self.skipped else []
        parts += [f"{len(self.lacking)} left at their start"] if self.lacking else []
        parts += [f"{len(self.beyond)} of an encoder among the skipped"] if self.beyond else []
        return ", ".join([*parts, *([self.set] if self.set else [])])


def load(model: nn.Module, source: str | Path, *, head: bool = False, partial: bool = False) -> Loaded:
    """Load a source's weights into `model`, and return what was loaded, skipped and resampled.

    source: as in `files.read`. head: load the classifier's weights too, if their shape is the model's.
    partial: go on if the source fills only a part of the model, or holds more of an encoder than the model.
    Raise UserError as `files.read`, for weights of which none fits, for those that fit in part unless `partial`, and
    for values that are not finite.
    """
    weights = files.read(source)
    classifier = classifier_prefixes(model)
    fit = layouts.fit(weights, model, () if head else classifier)
    own = model.state_dict()
    missing = sorted(own.keys() - fit.chosen.keys())
    lacking = [name for name in missing if is_needed(name, model, classifier)]
    beyond = unplaced(fit, own, classifier)
    if not fit.chosen:
        raise UserError(
            f"none of the {len(fit.raw)} tensors of {weights.name} fits {type(model).__name__}",
            f"missing: {some(own, fit.raw)}; surplus: {some(fit.raw, own)}",
            likely_origin(fit),
        )
    check_finite(fit, weights.name)
    problem = incomplete(weights.name, model, fit, lacking, beyond) if lacking or beyond else None
    if problem and not partial:
        raise problem
    model.load_state_dict(dict(fit.chosen), strict=False)
    return Loaded(
        name=weights.name,
        loaded=tuple(sorted(fit.chosen.keys() - fit.resampled)),
        skipped=tuple(sorted((*fit.surplus, *fit.outside))),
        resampled=tuple(sorted(fit.resampled)),
        missing=tuple(missing),
        lacking=tuple(lacking),
        beyond=tuple(beyond),
        problem=f"{problem.what}; {problem.allowed}" if problem else "",
        set=set_words(weights, fit),
        folded=any(was_folded(fit, name) for name in fit.resampled),
        timm_name=weights.timm_name,
        mean=weights.mean,
        std=weights.std,
    )


def set_words(weights: files.Source, fit: Fit) -> str:
    """Return which set of a file was taken, in words, where the file holds more than bare tensors."""
    words = []
    if fit.place:
        others = layouts.alternatives(weights, fit)
        words.append(f"set '{fit.place}' taken" + (f" and not {', '.join(map(repr, others))}" if others else ""))
    if fit.converted:
        words.append("converted by timm")
    return ", ".join(words)


def was_folded(fit: Fit, name: str) -> bool:
    """Return whether a convolution of three input channels was summed into one of a single channel."""
    held = fit.raw.get(fit.prefix + name)
    new = fit.chosen[name]
    return held is not None and held.ndim == new.ndim == 4 and (held.shape[1], new.shape[1]) == (3, 1)


# --- what is missing -------------------------------------------------------------------------------------------------


def classifier_prefixes(model: nn.Module) -> tuple[str, ...]:
    """Return the beginnings of the classifier's tensors' names, empty if the model has none."""
    get = getattr(model, "get_classifier", None)
    heads = get() if callable(get) else None
    heads = heads if isinstance(heads, tuple) else (heads,)
    return tuple(f"{name}." for name, module in model.named_modules() if name and any(module is head for head in heads))


def is_needed(name: str, model: nn.Module, classifier: tuple[str, ...]) -> bool:
    """Return whether features depend on a tensor: it belongs to no classifier and counts no batches.

    The classifier of a model without `get_classifier` is its last module, if that is linear.
    """
    if not classifier and not hasattr(model, "get_classifier"):
        last = [(path, module) for path, module in model.named_modules() if path and [*module.parameters(False)]][-1:]
        classifier = tuple(f"{path}." for path, module in last if isinstance(module, nn.Linear))
    return not name.startswith(classifier) and name.rsplit(".", 1)[-1] != COUNTERS


def unplaced(fit: Fit, own: Container[str], classifier: tuple[str, ...]) -> list[str]:
    """Return surplus names that belong to the encoder, so that a model without them has other features.

    They are further blocks, as a deeper network has them, further tensors within the model's own blocks and layers
    (LayerScale, a bias, LoRA), and tokens. A decoder, another classifier and buffers of indices are not among them.
    """
    kinds = {_kind(name) for name in fit.chosen if _kind(name) != name}
    places = {place for name in fit.chosen for place in _places(name)}
    layers = {name.rpartition(".")[0] for name in fit.chosen} - {""}

    def belongs(name: str) -> bool:
        inside = _kind(name) in kinds or bool(_places(name) & places) or name.rpartition(".")[0] in layers
        return name in TOKENS or (inside and name.rsplit(".", 1)[-1] not in INDICES)

    return [name for name in fit.surplus if name not in own and not name.startswith(classifier) and belongs(name)]


def _kind(name: str) -> str:
    """Return a name without its numbers."""
    return re.sub(r"(?<=\.)\d+(?=\.)|(?<=[a-z])\d+(?=\.)", "#", name)


def _places(name: str) -> set[str]:
    """Return the numbered modules in which a tensor lies: `blocks.3` of `blocks.3.attn.qkv.weight`."""
    parts = name.split(".")
    return {".".join(parts[: at + 1]) for at, part in enumerate(parts[:-1]) if part.isdigit()}


def incomplete(name: str, model: nn.Module, fit: Fit, lacking: Collection[str], beyond: Collection[str]) -> UserError:
    """Return the error for a source that fills a part of a model, or more than the model."""
    own = model.state_dict()
    kind = type(model).__name__
    filled = [tensor.numel() for key, tensor in own.items() if key in fit.chosen]
    values = sum(filled) + sum(own[key].numel() for key in lacking)
    if lacking:
        what = f"{name} fills {len(filled)} of the {len(filled) + len(lacking)} tensors of {kind} "
        what += f"({sum(filled):,} of {values:,} values)"
        rest = (*fit.surplus, *fit.outside)
        held = f"missing: {some(shapes(lacking, fit, own))}" + (f"; surplus: {some(rest)}" if rest else "")
    else:
        what = f"{name} holds {plural(len(beyond), 'tensor')} of an encoder for which {kind} has no place"
        held = f"surplus: {some(beyond)}"
    remedy = "give the --backbone that the weights belong to"
    if lacking and not beyond and all(fit.prefix + key in fit.raw for key in lacking):  # a stem for small images
        remedy = "give another --image-size or --set stem=stock, or the --backbone that the weights belong to"
    return UserError(what, f"{held}; {likely_origin(fit)}", f"{remedy}; --allow-partial-weights goes on all the same")


def shapes(names: Iterable[str], fit: Fit, own: Mapping[str, Tensor]) -> list[str]:
    """Return the model's names, with both shapes for a tensor that the source has in another one."""
    held = {name: fit.raw.get(fit.prefix + name) for name in names}
    return [
        name if tensor is None else f"{name} ({_size(tensor)} in place of {_size(own[name])})"
        for name, tensor in held.items()
    ]


def _size(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one value"


def some(names: Iterable[str], others: Container[str] = ()) -> str:
    """Return the names that are not among the others, as `a, b, c and 147 more`."""
    left = [name for name in names if name not in others]
    more = f" and {len(left) - 3} more" if len(left) > 3 else ""
    return ", ".join(left[:3]) + more if left else "none by name, all by shape"


def likely_origin(fit: Fit) -> str:
    """Return whose weights they look like, for a message."""
    library = layouts.foreign(fit.raw)
    if library:
        return f"their names are those of {library}, a layout that timm does not convert"
    tensors = {name.removeprefix(fit.prefix): tensor for name, tensor in fit.raw.items() if name.startswith(fit.prefix)}
    name = nearest(tensors)
    return f"they look like {name}'s" if name else "names and shapes must be those of timm's model of that architecture"


# --- values ----------------------------------------------------------------------------------------------------------


def check_finite(fit: Fit, file: str) -> None:
    """Raise UserError if a tensor that the model takes has a value that is not finite."""
    bad = [name for name, tensor in fit.chosen.items() if not is_finite(tensor)]
    if bad:
        raw = [name for name, tensor in fit.raw.items() if not is_finite(tensor)] or bad
        raise UserError(
            f"{file}: {some(raw)} {'holds' if len(raw) == 1 else 'hold'} values that are not finite (NaN or infinite)",
            remedy="use a checkpoint from before the training diverged",
        )


def is_finite(tensor: Tensor) -> bool:
    """Return whether all values of a tensor are finite numbers. Values of 8 bits are compared as float32."""
    if not tensor.is_floating_point():
        return True
    return bool(torch.isfinite(tensor if tensor.element_size() > 1 else tensor.float()).all())

"""Make the optimizer: AdamW or Muon with parameter groups, warm-up and cosine by step, a moving average of weights."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import torch
from timm.optim import muon
from timm.optim._param_groups import param_groups_layer_decay
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from bias_lab.catalogue import OPTIMIZERS
from bias_lab.definition import DEFAULTS, Run
from bias_lab.training.job import load

Groups = list[dict[str, Any]]
Tensors = tuple[Tensor, ...] | list[Tensor]
_UNDECAYED = ("pos_embed", "cls_token", "mask_token", "dist_token", "relative_position_bias_table")


def no_weight_decay_names(model: nn.Module) -> set[str]:
    """Return the names of parameters without weight decay: norms, biases, position embeddings, class and mask tokens.

    The names that a (sub)module's own `no_weight_decay()` returns are among them.
    """
    names = {
        name
        for name, parameter in model.named_parameters()
        if parameter.ndim <= 1 or name.rsplit(".", 1)[-1] in _UNDECAYED
    }
    for prefix, part in model.named_modules():
        own = getattr(part, "no_weight_decay", None)
        if callable(own):
            names |= {f"{prefix}.{name}".lstrip(".") for name in own()}
    return names


def groups(model: nn.Module, *, weight_decay: float, layer_decay: float = 1.0) -> list[dict[str, Any]]:
    """Return parameter groups with and without weight decay.

    A layer_decay d below 1 makes such a pair for each layer with an `lr_scale` (timm's grouping). A parameter k layers
    below the head gets the learning rate times d**k.
    """
    excluded = no_weight_decay_names(model)
    if layer_decay != 1.0:
        by_layer: list[dict[str, Any]] = param_groups_layer_decay(
            model, weight_decay=weight_decay, no_weight_decay_list=tuple(excluded), layer_decay=layer_decay
        )
        return by_layer
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    decayed = [parameter for name, parameter in named if name not in excluded]
    others = [parameter for name, parameter in named if name in excluded]
    both = [dict(params=decayed, weight_decay=weight_decay), dict(params=others, weight_decay=0.0)]
    return [group for group in both if group["params"]]


def warmup_cosine(step: int, *, steps: int, warmup: float) -> float:
    """Return the factor on the learning rate at a step (from 0): a linear rise, then half a cosine towards 0.

    warmup: the rise's share of the steps. The factor is never 0, so no step is wasted. After the last one it is 0.
    """
    rise = round(warmup * steps)
    if step < rise:
        return (step + 1) / rise
    rest = max(1, steps - rise)
    return 0.5 * (1 + math.cos(math.pi * min(step - rise, rest) / rest))


class Maker(Protocol):
    """Makes one kind of optimizer from parameter groups, each with its learning rate and weight decay."""

    def make(
        self, model: nn.Module, parameters: Groups, *, learning_rate: float, betas: tuple[float, float]
    ) -> torch.optim.Optimizer: ...


class AdamW:
    """Makes AdamW (arXiv:1711.05101) for all parameters."""

    def make(
        self, model: nn.Module, parameters: Groups, *, learning_rate: float, betas: tuple[float, float]
    ) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameters, lr=learning_rate, betas=betas, fused=True)


class Muon:
    """Makes timm's Muon (kellerjordan.github.io/posts/muon) for weight matrices, and AdamW for what is set apart.

    AdamW takes what has no weight decay, which includes all vectors, and the output layers. timm adds kernels that are
    no matrices, such as those of depthwise convolutions. Muon's updates are scaled to the size of AdamW's
    (arXiv:2502.16982), so that one learning rate serves both.
    """

    def make(
        self, model: nn.Module, parameters: Groups, *, learning_rate: float, betas: tuple[float, float]
    ) -> torch.optim.Optimizer:
        named = dict(model.named_parameters())
        apart = {id(named[name]) for name in no_weight_decay_names(model) | output_names(model) if name in named}
        parts = [
            {**group, "params": part, "use_fallback": is_apart}
            for group in parameters
            for is_apart in (False, True)
            if (part := [parameter for parameter in group["params"] if (id(parameter) in apart) is is_apart])
        ]
        return Float32Muon(parts, lr=learning_rate, betas=betas)


_NEWTON_SCHULZ = muon.zeropower_via_newtonschulz


class Float32Muon(muon.Muon):
    """timm's Muon whose orthogonalisation runs in float32 on CPUs. timm's runs in bfloat16 and has no option for it.

    The momentum of a filter that no longer learns decays to subnormal numbers and stays there, and CPUs multiply these
    many times more slowly. So a step takes them as zeros, which changes its result by rounding at most.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        on_cpu = self.param_groups[0]["params"][0].device.type == "cpu"
        in_float32 = partial(_NEWTON_SCHULZ, dtype=torch.float32)
        muon.zeropower_via_newtonschulz = in_float32 if on_cpu else _NEWTON_SCHULZ
        try:
            with without_subnormals():
                return super().step(closure)  # type: ignore[no-untyped-call]
        finally:
            muon.zeropower_via_newtonschulz = _NEWTON_SCHULZ


@contextmanager
def without_subnormals() -> Iterator[None]:
    """Take subnormal numbers as zeros in this thread's arithmetic on the CPU, and leave its mode as it was."""
    smallest = torch.tensor(2.0**-126, device="cpu")
    was_set = bool(smallest.mul(0.5) == 0)  # torch has no way to ask for the mode
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(was_set)


def output_names(model: nn.Module) -> set[str]:
    """Return the names of parameters of output layers: classifiers, and the layers in a (sub)module's `OUTPUTS`."""
    layers: list[nn.Module] = []
    for part in model.modules():
        layers += [part.get_submodule(name) for name in getattr(part, "OUTPUTS", ())]
        classifier_of: Any = getattr(part, "get_classifier", None)
        if callable(classifier_of):
            classifier = classifier_of()
            layers += classifier if isinstance(classifier, tuple) else [classifier]
    held = {id(parameter) for layer in layers for parameter in layer.parameters()}
    return {name for name, parameter in model.named_parameters() if id(parameter) in held}


def configure(
    model: nn.Module,
    *,
    learning_rate: float,
    weight_decay: float,
    steps: int,
    warmup: float,
    layer_decay: float = 1.0,
    betas: tuple[float, float] = (0.9, 0.999),
    optimizer: str = DEFAULTS["optimizer"],
) -> dict[str, Any]:
    """Return what Lightning's `configure_optimizers` must: an optimizer over `groups`, with `warmup_cosine` by step.

    betas: AdamW's. optimizer: a name of the catalogue.
    """
    parameters = groups(model, weight_decay=weight_decay, layer_decay=layer_decay)
    for group in parameters:
        group["lr"] = learning_rate * group.get("lr_scale", 1.0)
    maker: Maker = load(OPTIMIZERS[optimizer].module)()
    stepper = maker.make(model, parameters, learning_rate=learning_rate, betas=betas)
    schedule = torch.optim.lr_scheduler.LambdaLR(stepper, lambda step: warmup_cosine(step, steps=steps, warmup=warmup))
    return {"optimizer": stepper, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def for_run(
    model: nn.Module, run: Run, *, rate: float, steps: int, betas: tuple[float, float] = (0.9, 0.999)
) -> dict[str, Any]:
    """Return `configure` by a run's fields, without its layer decay. rate: the learning rate."""
    return configure(
        model,
        learning_rate=rate,
        weight_decay=run.weight_decay,
        steps=steps,
        warmup=run.warmup,
        betas=betas,
        optimizer=run.optimizer,
    )


def moving_average(model: nn.Module, decay: float) -> AveragedModel:
    """Return a copy of the model that `update_parameters` moves towards it, buffers too.

    average <- decay * average + (1 - decay) * weights
    Whole numbers, such as Swin's places of tokens and batch norm's count of batches, are those of the model.
    """
    moved = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]

    def move(averages: Tensors, weights: Tensors, updates: Tensor | int) -> None:
        if averages[0].is_floating_point():  # torch hands on tensors of one type at a time
            moved(averages, weights, updates)
            return
        for average, weight in zip(averages, weights, strict=True):
            average.copy_(weight)

    return AveragedModel(model, multi_avg_fn=move, use_buffers=True)

"""Make the optimizer: AdamW with parameter groups, warm-up and cosine by step, and a moving average of weights."""

import math
from typing import Any

import torch
from timm.optim._param_groups import param_groups_layer_decay
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

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

    warmup: the rise's share of the steps. The factor is never 0, so no step is wasted.
    """
    rise = round(warmup * steps)
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def configure(
    model: nn.Module,
    *,
    learning_rate: float,
    weight_decay: float,
    steps: int,
    warmup: float,
    layer_decay: float = 1.0,
    betas: tuple[float, float] = (0.9, 0.999),
) -> dict[str, Any]:
    """Return what Lightning's `configure_optimizers` must: AdamW over `groups`, with `warmup_cosine` at every step."""
    parameters = groups(model, weight_decay=weight_decay, layer_decay=layer_decay)
    for group in parameters:
        group["lr"] = learning_rate * group.get("lr_scale", 1.0)
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, betas=betas, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: warmup_cosine(step, steps=steps, warmup=warmup)
    )
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def moving_average(model: nn.Module, decay: float) -> AveragedModel:
    """Return a copy of the model that `update_parameters` moves towards it, buffers too.

    average <- decay * average + (1 - decay) * weights
    """
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)  # type: ignore[no-untyped-call]

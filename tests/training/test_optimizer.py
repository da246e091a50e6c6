"""Parameter groups, the schedule's values, and the moving average, against their definitions."""

import math

import pytest
import timm
import torch
from torch import nn

from bias_lab.training import optimizer


def vit() -> nn.Module:
    return timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, num_classes=4, depth=2, embed_dim=24)


def swin() -> nn.Module:
    return timm.create_model(
        "swin_tiny_patch4_window7_224",
        img_size=32,
        window_size=4,
        num_classes=4,
        depths=(1, 1),
        embed_dim=12,
        num_heads=(1, 2),
    )


def test_norms_biases_and_embeddings_are_not_decayed() -> None:
    model = vit()
    still = optimizer.no_weight_decay_names(model)
    assert {"pos_embed", "cls_token", "norm.weight", "norm.bias", "head.bias", "blocks.0.attn.qkv.bias"} <= still
    assert not {"head.weight", "patch_embed.proj.weight", "blocks.1.mlp.fc2.weight"} & still


def test_tables_of_relative_positions_are_not_decayed() -> None:
    tables = {name for name, _ in swin().named_parameters() if "relative_position_bias_table" in name}
    assert tables
    assert tables <= optimizer.no_weight_decay_names(swin())


def test_a_wrapped_model_keeps_its_exceptions() -> None:
    wrapped = nn.ModuleDict({"encoder": vit()})
    assert {"encoder.pos_embed", "encoder.cls_token"} <= optimizer.no_weight_decay_names(wrapped)


def test_every_parameter_is_in_exactly_one_group() -> None:
    model = vit()
    for layer_decay in (1.0, 0.75):
        groups = optimizer.groups(model, weight_decay=0.05, layer_decay=layer_decay)
        ids = [id(parameter) for group in groups for parameter in group["params"]]
        assert sorted(ids) == sorted(id(parameter) for parameter in model.parameters())


def test_layer_decay_lowers_the_rate_from_the_head_down() -> None:
    model = vit()
    configured = optimizer.configure(
        model, learning_rate=1e-3, weight_decay=0.05, steps=10, warmup=0.0, layer_decay=0.5
    )
    rate = {id(p): group["initial_lr"] for group in configured["optimizer"].param_groups for p in group["params"]}
    names = dict(model.named_parameters())
    rates = [
        rate[id(names[n])] for n in ("head.weight", "blocks.1.attn.qkv.weight", "blocks.0.attn.qkv.weight", "pos_embed")
    ]
    assert rates == pytest.approx([1e-3, 5e-4, 2.5e-4, 1.25e-4])


def test_schedule_rises_linearly_and_falls_as_a_cosine() -> None:
    factors = [optimizer.warmup_cosine(step, steps=100, warmup=0.1) for step in range(100)]
    assert factors[:10] == pytest.approx([k / 10 for k in range(1, 11)])
    assert factors[10:] == pytest.approx([0.5 * (1 + math.cos(math.pi * k / 90)) for k in range(90)])
    assert min(factors) > 0


def test_schedule_without_warm_up_starts_at_the_top() -> None:
    assert optimizer.warmup_cosine(0, steps=7, warmup=0.0) == 1.0


def test_rate_of_each_step_as_the_optimizer_sees_it() -> None:
    layer = nn.Linear(2, 2)
    configured = optimizer.configure(layer, learning_rate=0.1, weight_decay=0.0, steps=4, warmup=0.5)
    seen = []
    for _ in range(4):
        seen.append(configured["optimizer"].param_groups[0]["lr"])
        configured["optimizer"].step()
        configured["lr_scheduler"]["scheduler"].step()
    assert seen == pytest.approx([0.05, 0.1, 0.1, 0.05])


def test_decay_moves_weights_and_spares_biases() -> None:
    layer = nn.Linear(3, 3)
    before = layer.weight.detach().clone(), layer.bias.detach().clone()
    configured = optimizer.configure(layer, learning_rate=0.1, weight_decay=0.5, steps=2, warmup=0.0)
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    configured["optimizer"].step()
    torch.testing.assert_close(layer.weight.detach(), before[0] * (1 - 0.1 * 0.5))  # AdamW, algorithm 2 with g = 0
    torch.testing.assert_close(layer.bias.detach(), before[1])


def test_moving_average_follows_its_formula() -> None:
    layer = nn.Linear(1, 1, bias=False)
    average = optimizer.moving_average(layer, 0.9)
    values = [1.0, 2.0, 4.0]
    for value in values:
        layer.weight.data.fill_(value)
        average.update_parameters(layer)
    expected = 1.0  # the first update copies
    for value in values[1:]:
        expected = 0.9 * expected + 0.1 * value
    assert average.module.weight.item() == pytest.approx(expected)

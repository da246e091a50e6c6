"""Parameter groups, the schedule's values, and the moving average, against their definitions."""

import contextlib
import math

import pytest
import timm
import torch
from torch import nn

from bias_lab.backbones import create
from bias_lab.training import optimizer
from bias_lab.training.regimes import dino, mae, simmim


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


def newton_schulz(update: torch.Tensor) -> torch.Tensor:
    """Return five quintic steps towards the nearest orthogonal matrix (modded-nanogpt's coefficients), in float32."""
    x = update / update.norm()
    tall = len(x) > x.shape[1]
    x = x.T if tall else x
    for a, b, c in (
        (4.0848, -6.8946, 2.9270),
        (3.9505, -6.3029, 2.6377),
        (3.7418, -5.5913, 2.3037),
        (2.8769, -3.1427, 1.2046),
        (2.8366, -3.0525, 1.2012),
    ):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


def muon_of(model: nn.Module, **changes: float) -> torch.optim.Optimizer:
    given = {"learning_rate": 0.1, "weight_decay": 0.5, "steps": 4, "warmup": 0.0, **changes}
    configured = optimizer.configure(model, optimizer="muon", **given)
    configured["optimizer"].schedule = configured["lr_scheduler"]["scheduler"]  # which the optimizer refers to weakly
    return configured["optimizer"]


@pytest.mark.parametrize("shape", [(12, 20), (20, 12), (8, 3, 5, 5)])
def test_muon_moves_a_matrix_along_its_orthogonalised_momentum_in_float32(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer = nn.Module()
    layer.weight = nn.Parameter(torch.randn(shape))
    before, gradient = layer.weight.detach().clone(), torch.randn(shape)
    layer.weight.grad = gradient.clone()
    muon_of(layer).step()
    update = newton_schulz((0.05 * gradient).reshape(shape[0], -1))  # the first momentum is (1 - 0.95) g
    rows, columns = update.shape
    expected = before * (1 - 0.1 * 0.5) - 0.1 * 0.2 * max(rows, columns) ** 0.5 * update.reshape(shape)
    torch.testing.assert_close(layer.weight.detach(), expected, rtol=1e-5, atol=1e-6)
    singular = torch.linalg.svdvals(update)
    assert singular.min() > 0.6
    assert singular.max() < 1.3
    rough = timm.optim.muon.zeropower_via_newtonschulz(gradient.reshape(rows, -1), 5, [(3.4445, -4.7750, 2.0315)])
    assert rough.dtype == torch.bfloat16, "timm's own function is left as it is"


def dying(steps: int) -> tuple[nn.Linear, torch.optim.Optimizer]:
    """Train a layer under Muon of whose 12 rows the first 4 get no gradient after the first step."""
    torch.manual_seed(0)
    layer = nn.Linear(20, 12, bias=False)
    stepper = muon_of(layer, learning_rate=1e-3, steps=steps)
    for step in range(steps):
        layer.weight.grad = torch.randn(12, 20)
        layer.weight.grad[:4] *= step == 0
        stepper.step()
    return layer, stepper


def test_the_momentum_of_rows_that_no_longer_learn_ends_at_zero_and_not_at_slow_subnormal_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer, stepper = dying(2000)
    (state,) = stepper.state.values()
    assert torch.equal(state["momentum_buffer"][:4], torch.zeros(4, 20))
    monkeypatch.setattr(optimizer, "without_subnormals", contextlib.nullcontext)
    slow, stepper = dying(2000)
    (state,) = stepper.state.values()
    stuck = state["momentum_buffer"][:4].abs()
    assert 0 < stuck.max() < torch.finfo(torch.float32).tiny, "what it is there for"
    assert torch.equal(layer.weight, slow.weight), "no bit of the weights changes"


@pytest.mark.parametrize("flushes", [False, True])
def test_a_step_leaves_the_arithmetic_of_its_thread_as_it_was(flushes: bool) -> None:
    tiny = torch.tensor(2.0**-126)
    torch.set_flush_denormal(flushes)
    try:
        with contextlib.suppress(KeyError), optimizer.without_subnormals():
            assert tiny.mul(0.5) == 0
            raise KeyError
        assert bool(tiny.mul(0.5) == 0) is flushes
    finally:
        torch.set_flush_denormal(False)


def test_muon_leaves_vectors_embeddings_and_the_head_to_adamw() -> None:
    model = vit()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = muon_of(model).param_groups
    assert sum(len(group["params"]) for group in groups) == len(names)
    matrices = {names[id(p)] for group in groups if not group["use_fallback"] for p in group["params"]}
    kinds = {"attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"}
    assert matrices == {f"blocks.{k}.{kind}.weight" for k in range(2) for kind in kinds} | {"patch_embed.proj.weight"}
    decayed = {names[id(p)] for group in groups if group["weight_decay"] for p in group["params"]}
    assert decayed == matrices | {"head.weight"}


def test_muon_gives_each_layer_its_own_rate() -> None:
    model = vit()
    rates = {
        name: group["lr"]
        for group in muon_of(model, layer_decay=0.5).param_groups
        for name, parameter in model.named_parameters()
        if any(parameter is other for other in group["params"])
    }
    chosen = [rates[name] for name in ("head.weight", "blocks.1.attn.qkv.weight", "blocks.0.attn.qkv.weight")]
    assert chosen == pytest.approx([0.1, 0.05, 0.025])


@pytest.mark.parametrize("regime", [mae.MAE, simmim.SimMIM, dino.DINO])
def test_output_layers_of_pretrainings_are_adamw_s(regime: type[nn.Module]) -> None:
    module = regime(timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, num_classes=0, depth=1))
    outputs = optimizer.output_names(module)
    assert outputs
    assert {name.split(".")[0] for name in outputs} == set(module.OUTPUTS)


@pytest.mark.parametrize("decay", [0.9, 0.95, 0.9999])
def test_whole_numbers_of_a_model_are_not_averaged(decay: float) -> None:
    """Swin keeps the places of its tokens as buffers, and averaging them in fp32 would move some by one."""
    model = create("swin_micro", image_size=28, channels=1, classes=10).eval()
    average = optimizer.moving_average(model, decay)
    for _ in range(20):
        average.update_parameters(model)
    mine, theirs = dict(model.named_buffers()), dict(average.module.named_buffers())
    whole = [name for name, value in mine.items() if not value.is_floating_point()]
    assert whole
    assert all(torch.equal(mine[name], theirs[name]) for name in whole)
    images = torch.rand(2, 1, 28, 28)
    torch.testing.assert_close(average.module(images), model(images), rtol=1e-4, atol=1e-4)


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

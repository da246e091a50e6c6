from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bias_lab.backbones import linear as file
from bias_lab.backbones.build import create, flops
from bias_lab.backbones.linear import Linear, linear

needs_operator = pytest.mark.skipif(not file.HAS_OPERATOR, reason="this processor or this torch has no such operator")

SHAPES = {  # inputs, weight
    "tokens": (lambda: torch.randn(4, 65, 96), lambda: torch.randn(288, 96)),
    "rows": (lambda: torch.randn(300, 384), lambda: torch.randn(96, 384)),
    "map": (lambda: torch.randn(2, 16, 16, 48), lambda: torch.randn(192, 48)),
    "not contiguous": (lambda: torch.randn(96, 65, 4).permute(2, 1, 0), lambda: torch.randn(96, 192).t()),
    "part of a weight": (lambda: torch.randn(4, 65, 96), lambda: torch.randn(288, 96)[96:]),
    "a token of each": (lambda: torch.randn(200, 65, 96)[:, :1], lambda: torch.randn(384, 96)),
}


@pytest.fixture
def used(monkeypatch) -> list[tuple[int, ...]]:
    """The shapes that went to the operator."""
    calls: list[tuple[int, ...]] = []
    whole = file.multiply

    def noted(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        calls.append(tuple(x.shape))
        return whole(x, weight, bias)

    monkeypatch.setattr(file, "multiply", noted)
    return calls


def derivatives(product: Callable[..., Tensor], *parts: Tensor) -> tuple[Tensor, ...]:
    """Return a product, its derivatives by each part, and the derivatives of their squares' sum."""
    leaves = [part.detach().clone().requires_grad_() for part in parts]
    y = product(*leaves)
    weight = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)
    first = torch.autograd.grad((y.sin() * weight).sum(), leaves, create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), leaves)
    return (y.detach(), *(g.detach() for g in first), *second)


@needs_operator
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
def test_a_product_is_torchs_own(shapes, bias, used):
    """With first and second derivatives, each as close to the exact one as torch's own."""
    torch.manual_seed(0)
    x, weight = (make() for make in shapes)
    parts = (x, weight / weight.shape[1] ** 0.5, *([torch.randn(len(weight))] if bias else []))
    found = derivatives(linear, *parts)
    assert len(used) >= 3  # the product and both derivatives
    exact = derivatives(F.linear, *(part.double() for part in parts))
    for one, own, reference in zip(found, derivatives(F.linear, *parts), exact, strict=True):
        scale = reference.abs().max()
        assert (one - reference).abs().max() <= 2 * (own - reference).abs().max() + 1e-6 * scale
    with torch.no_grad():
        torch.testing.assert_close(linear(*parts), F.linear(*parts))


@needs_operator
def test_a_part_that_needs_no_derivative_gets_none(used):
    layer, x = Linear(96, 288), torch.randn(500, 96)
    layer.weight.requires_grad_(False)
    layer(x).sum().backward()
    assert layer.weight.grad is None
    assert x.grad is None
    torch.testing.assert_close(layer.bias.grad, torch.full((288,), 500.0))
    assert used == [(500, 96)]


def wrapped(x: Tensor) -> Tensor:
    class Recorded(Tensor):
        pass

    return x.as_subclass(Recorded)


@needs_operator
@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:FutureWarning")
def test_everything_else_is_left_to_torch(used):
    layer, x = Linear(96, 288), torch.randn(500, 96)
    switch = pytest.MonkeyPatch()
    with torch.no_grad():
        layer.double()(x.double())
        layer.float()(x[:10])  # too small to gain
        layer(wrapped(x))
        torch.vmap(layer)(x[None])
        torch.jit.trace(layer, x, check_trace=False)
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
        switch.setattr(torch.backends.mkldnn, "enabled", False)  # a user's switch
        layer(x)
        switch.undo()
        layer.to("meta")(x.to("meta"))
    assert not used


@needs_operator
def test_transforms_of_functions_see_torchs_own_product(used):
    layer, x = nn.Sequential(Linear(96, 288), nn.GELU()), torch.randn(500, 96)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(layer, parameters, x).square().mean()

    gradients = torch.func.grad(loss)(parameters)
    assert not used
    layer(x).square().mean().backward()
    assert used
    for name, p in layer.named_parameters():
        torch.testing.assert_close(p.grad, gradients[name])


@needs_operator
def test_its_multiply_adds_are_counted(used):
    layer, x = Linear(96, 288), torch.randn(500, 96)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        layer(x)
    assert used
    assert counter.get_total_flops() == 2 * 500 * 96 * 288


@needs_operator
def test_a_backbone_has_as_many_multiply_adds_as_with_torchs_own(monkeypatch):
    model = create("vit_micro", image_size=224, channels=3, classes=None)
    whole = flops(model, 224, 3)
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    assert flops(model, 224, 3) == whole


@needs_operator
@pytest.mark.parametrize("name", ["vit_micro", "swin_micro", "mobilevit_micro"])
def test_backbones_take_the_faster_product_in_training_and_inference(name, used):
    model = create(name, image_size=32, channels=3, classes=10)
    model(torch.randn(32, 3, 32, 32)).sum().backward()
    trained = len(used)
    with torch.no_grad():
        model.eval()(torch.randn(32, 3, 32, 32))
    assert trained > 10
    assert len(used) > trained


def test_the_layer_is_torchs_to_its_users():
    layer = Linear(8, 4)
    assert isinstance(layer, nn.Linear)
    plain = nn.Linear(8, 4)
    plain.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(torch.ones(2, 8)), plain(torch.ones(2, 8)))

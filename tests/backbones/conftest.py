"""Compare a model of ours with its reference, with the same random weights and the same images."""

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

OUTPUTS = 1e-5  # largest error of an output, over the larger of 1 and the tensor's largest value
GRADIENTS = 1e-4  # largest error of a gradient, over the larger of its largest value and 1e-3 of the model's


def randomise(model: nn.Module) -> None:
    """Draw weights with which every part changes the output. In a fresh model biases are 0 and norms do nothing."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim > 1:  # this std keeps the variance from layer to layer
                p.normal_(std=(1 / max(p[0].numel(), 1)) ** 0.5)
            else:
                p.normal_(mean=float(name.endswith("weight")), std=0.2)
        for name, b in model.named_buffers():
            if name.endswith("running_var"):
                b.uniform_(0.5, 2)
            elif name.endswith("running_mean"):
                b.normal_(std=0.2)


def close(ours: Tensor, theirs: Tensor, what: str) -> None:
    assert ours.shape == theirs.shape, f"{what}: {tuple(ours.shape)} for {tuple(theirs.shape)}"
    error = (ours - theirs).abs().max().item() / max(1.0, theirs.abs().max().item())
    assert error <= OUTPUTS, f"{what}: off by {error:.1e} of the largest value"


def same_computation(ours: nn.Module, theirs: nn.Module, images: Tensor, vanishing: str = "") -> None:
    """Check that both models load each other's state dict, and give equal logits, stages and gradients.

    Logits and stages are those of evaluation, gradients those of training with drop rates of 0. vanishing: a pattern of
    the parameters whose gradient is 0 in exact arithmetic. In float32 it is rounding noise.
    """
    randomise(theirs)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    ours.eval()
    theirs.eval()
    with torch.no_grad():
        close(ours(images), theirs(images), "logits")
        close(ours.forward_features(images), theirs.forward_features(images), "features")
        last, stages = ours.forward_intermediates(images)
        their_last, their_stages = theirs.forward_intermediates(images)
        close(last, their_last, "last")
        assert len(stages) == len(their_stages)
        for i, (stage, their_stage) in enumerate(zip(stages, their_stages, strict=True)):
            close(stage, their_stage, f"stage {i}")
    ours.train()
    theirs.train()
    weights = torch.randn_like(theirs(images))
    theirs.load_state_dict(ours.state_dict())  # the forward pass above changed the running statistics
    for name, error in gradient_errors(ours, theirs, images, weights).items():
        assert error <= GRADIENTS or re.fullmatch(vanishing, name), f"gradient of {name}: off by {error:.1e}"
    for name, error in gradient_sizes(ours).items():
        assert error <= 1e-5 or not re.fullmatch(vanishing, name), f"gradient of {name} should vanish"
    buffers = dict(theirs.named_buffers())
    for name, buffer in ours.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            close(buffer, buffers[name], name)


def gradient_errors(ours: nn.Module, theirs: nn.Module, images: Tensor, weights: Tensor) -> dict[str, float]:
    """Return each gradient's largest difference, over the larger of its own largest value and 1e-3 of the model's."""
    for model in (ours, theirs):
        model.zero_grad()
        (model(images) * weights).sum().backward()
    gradients = {name: p.grad for name, p in theirs.named_parameters() if p.grad is not None}
    assert set(gradients) == {name for name, p in ours.named_parameters() if p.grad is not None}
    floor = 1e-3 * max(grad.abs().max().item() for grad in gradients.values())
    errors = {}
    for name, p in ours.named_parameters():
        if name in gradients and p.grad is not None:
            grad = gradients[name]
            errors[name] = (p.grad - grad).abs().max().item() / max(grad.abs().max().item(), floor)
    return errors


def gradient_sizes(model: nn.Module) -> dict[str, float]:
    """Return each gradient's largest value, over the model's largest."""
    sizes = {name: p.grad.abs().max().item() for name, p in model.named_parameters() if p.grad is not None}
    return {name: size / max(sizes.values()) for name, size in sizes.items()}


def same_names(ours: nn.Module, theirs: nn.Module) -> None:
    """Check that the names, the shapes and the number of parameters are equal."""
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())


@pytest.fixture(name="same_computation")
def _same_computation() -> Callable[..., None]:
    return same_computation


@pytest.fixture(name="same_names")
def _same_names() -> Callable[..., None]:
    return same_names


@pytest.fixture(name="gradient_errors")
def _gradient_errors() -> Callable[..., dict[str, float]]:
    return gradient_errors


@pytest.fixture(name="gradient_sizes")
def _gradient_sizes() -> Callable[..., dict[str, float]]:
    return gradient_sizes


@pytest.fixture(name="randomise")
def _randomise() -> Callable[..., None]:
    return randomise


def _by_kind(model: nn.Module) -> dict[str, Tensor]:
    kinds: dict[str, list[Tensor]] = {}
    for name, p in model.named_parameters():
        kind = ".".join(part for part in name.split(".") if not part.isdigit())
        kinds.setdefault(f"{kind} {tuple(p.shape)}", []).append(p.detach().flatten())
    return {kind: torch.cat(parts) for kind, parts in kinds.items()}


@pytest.fixture
def same_start() -> Callable[[nn.Module, nn.Module], None]:
    """Return a check that fresh parameters of one kind have the mean and standard deviation of the reference's.

    Parameters of one kind have the same shape, and the same name without indices.
    """

    def compare(ours: nn.Module, theirs: nn.Module) -> None:
        reference = _by_kind(theirs)
        for kind, values in _by_kind(ours).items():
            expected, n = reference[kind], len(values)
            sigma = expected.std(correction=0).item()
            mean_error = abs(values.mean().item() - expected.mean().item())
            assert mean_error <= 6 * sigma * (2 / n) ** 0.5 + 1e-12, f"{kind}: mean {values.mean():.3g}"
            std_error = abs(values.std(correction=0).item() - sigma)
            assert std_error <= 6 * sigma / n**0.5 + 1e-12, f"{kind}: std {values.std():.3g} for {sigma:.3g}"
            assert (values.abs().max() - expected.abs().max()).abs() <= 2 * sigma + 1e-12, f"{kind}: tails"

    return compare

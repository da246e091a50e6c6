"""A ResNet without batch statistics."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from bias_lab.backbones import build, create
from bias_lab.backbones.priors import norms

NAMES = ["resnet_micro", "resnet_mini", "resnet18"]


def without(name: str, **more: object) -> nn.Module:
    torch.manual_seed(0)
    return create(name, image_size=32, channels=3, classes=10, priors="no_batch_norm", **more)  # type: ignore[arg-type]


def batch_norms(model: nn.Module) -> Iterator[nn.Module]:
    return (module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))


@pytest.mark.parametrize("name", NAMES)
def test_no_batch_norm_is_left_and_the_parameters_are_as_many(name: str) -> None:
    plain = create(name, image_size=32, channels=3, classes=10)
    model = without(name)
    assert list(batch_norms(plain))
    assert not list(batch_norms(model))
    assert build.parameters(model) == build.parameters(plain)
    assert not list(model.buffers())
    assert {key for key, _ in model.named_parameters()} == {key for key, _ in plain.named_parameters()}


@pytest.mark.parametrize("name", NAMES)
def test_an_image_does_not_see_its_batch_in_training(name: str) -> None:
    model, images = without(name, drop_path=0.0).train(), torch.randn(6, 3, 32, 32)
    torch.testing.assert_close(model(images)[:2], model(images[:2]), atol=1e-5, rtol=1e-4)
    other = torch.cat([images[:2], 5 + 3 * torch.randn(4, 3, 32, 32)])
    torch.testing.assert_close(model(images)[:2], model(other)[:2], atol=1e-5, rtol=1e-4)
    plain = create(name, image_size=32, channels=3, classes=10).train()
    assert (plain(images)[:2] - plain(other)[:2]).abs().max() > 1e-2  # what the test must be able to see


def test_training_and_evaluation_give_the_same() -> None:
    model, images = without("resnet_micro"), torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model.train()(images), model.eval()(images))


def test_a_branch_still_starts_at_zero() -> None:
    model = without("resnet_micro")
    assert all(block[0].bn2.weight.abs().max() == 0 for block in (model.layer1, model.layer2, model.layer3))


def test_group_norm_is_that_of_the_formula() -> None:
    """Each group of 8 channels has mean 0 and variance 1 over channels and places, before scale and shift."""
    norm = norms.like_batch_norm(nn.BatchNorm2d(24))
    assert norm.num_groups == 3
    x = 2 + 3 * torch.randn(2, 24, 5, 5)
    grouped = x.reshape(2, 3, 8 * 25)
    expected = (grouped - grouped.mean(2, keepdim=True)) / (grouped.var(2, correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(norm(x), expected.reshape(x.shape), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("channels", "groups"), [(24, 3), (8, 1), (4, 1), (20, 2), (13, 1), (320, 40)])
def test_groups_have_eight_channels_or_the_next_number_that_divides(channels: int, groups: int) -> None:
    assert norms.like_batch_norm(nn.BatchNorm2d(channels)).num_groups == groups

"""The control without any assumption about images."""

import copy

import pytest
import torch

from bias_lab.backbones import create
from bias_lab.errors import UserError


def mlp(side: int = 28, channels: int = 1, **more: float) -> torch.nn.Module:
    torch.manual_seed(0)
    return create("mlp_micro", image_size=side, channels=channels, classes=10, **more)


@pytest.mark.parametrize(("side", "channels"), [(28, 1), (32, 3)])
def test_shapes_from_an_image_to_its_class(side: int, channels: int) -> None:
    model, images = mlp(side, channels).eval(), torch.randn(2, channels, side, side)
    assert model.embed(images.flatten(1)).shape == (2, 112)
    assert model.forward_features(images).shape == (2, 112, 1, 1)
    assert model.forward_head(torch.randn(2, 112, 1, 1), pre_logits=True).shape == (2, 112)
    assert [y.shape for y in model.forward_intermediates(images, intermediates_only=True)] == [(2, 112, 1, 1)] * 2


def test_a_permutation_of_the_pixels_is_nothing_to_it() -> None:
    """The same permutation of images and of the first layer's weights gives the same output: no place is special."""
    model, images, order = mlp().eval(), torch.randn(3, 1, 28, 28), torch.randperm(784)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.embed.weight.copy_(model.embed.weight[:, order])
    permuted = images.flatten(1)[:, order].reshape(images.shape)
    torch.testing.assert_close(other(permuted), model(images), atol=1e-5, rtol=1e-4)


def test_a_block_is_norm_wider_layer_activation_back_and_residual() -> None:
    block, x = mlp().blocks[0].eval(), torch.randn(2, 112)
    w1, w2 = block.mlp.fc1, block.mlp.fc2
    z = (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + 1e-6).sqrt()
    hidden = torch.nn.functional.gelu(z @ w1.weight.T + w1.bias)
    torch.testing.assert_close(block(x), x + hidden @ w2.weight.T + w2.bias, atol=1e-5, rtol=1e-4)
    assert w1.weight.shape == (448, 112)


def test_images_and_formats_that_it_can_not_take_are_refused() -> None:
    with pytest.raises(UserError, match="images of 32x32 don't fit a model for 28x28"):
        mlp()(torch.randn(1, 1, 32, 32))
    with pytest.raises(UserError, match="output_fmt 'NLC' is unknown"):
        mlp().forward_intermediates(torch.randn(1, 1, 28, 28), output_fmt="NLC")

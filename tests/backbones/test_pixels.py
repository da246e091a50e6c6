"""The control whose features are the pixels."""

from pathlib import Path

import pytest
import torch

from bias_lab.backbones import build, create
from bias_lab.definition import Run, Settings
from bias_lab.errors import UserError
from bias_lab.training import prepare
from bias_lab.training.protocols import frozen


def pixels(side: int = 28, channels: int = 1, classes: int | None = 10) -> torch.nn.Module:
    return create("pixels", image_size=side, channels=channels, classes=classes).eval()


@pytest.mark.parametrize(("side", "channels"), [(28, 1), (32, 3), (64, 3)])
def test_the_features_are_the_pixels_in_order(side: int, channels: int) -> None:
    model, images = pixels(side, channels, None), torch.randn(2, channels, side, side)
    assert torch.equal(model(images), images.flatten(1))
    assert torch.equal(model.forward_features(images), images)
    assert model.head_hidden_size == channels * side * side
    assert build.parameters(model) == 0


def test_channels_last_images_have_the_same_features() -> None:
    images = torch.randn(2, 3, 8, 8)
    model = pixels(8, 3, None)
    assert torch.equal(model(images.contiguous(memory_format=torch.channels_last)), images.flatten(1))


def test_the_logits_are_linear_in_the_pixels() -> None:
    model, (one, other) = pixels(), torch.randn(2, 4, 1, 28, 28)
    between = model(0.25 * one + 0.75 * other)
    torch.testing.assert_close(between, 0.25 * model(one) + 0.75 * model(other), atol=1e-5, rtol=1e-4)
    assert build.flops(model, 28, 1) == 784 * 10


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(UserError, match="images of 32x32 don't fit a model for 28x28; resize them"):
        pixels()(torch.randn(1, 1, 32, 32))


def test_a_new_head_stays_in_the_precision_of_the_old_one() -> None:
    model = pixels().double()
    model.reset_classifier(3)
    assert model(torch.randn(2, 1, 28, 28, dtype=torch.double)).shape == (2, 3)
    model.reset_classifier(0)
    assert model(torch.randn(2, 1, 28, 28)).shape == (2, 784)


def test_the_cosine_of_pixels_is_no_weak_neighbour(tmp_path: Path) -> None:
    """At two sizes of Fashion-MNIST the protocol `knn` is at least as good as the nearest neighbour by distance."""
    run = Run(dataset="fashion_mnist_12k", backbone="pixels", size=300, protocol="knn")
    images = prepare.open_images(run.dataset, run, tmp_path, Settings(wandb=False))
    chosen = prepare.select_images(run, images, tmp_path)
    mean, std = images.mean[0], images.std[0]
    queries, bank = (
        (torch.from_numpy(part.copy()).float().flatten(1) / 255 - mean) / std
        for part in (images.test, images.train[chosen.indices])
    )
    labels, truth = torch.from_numpy(chosen.labels), torch.from_numpy(images.test_labels)
    for size in (100, 300):
        by_cosine = frozen.knn(bank[:size], labels[:size], queries, classes=10).argmax(1)
        by_distance = labels[:size][torch.cdist(queries, bank[:size]).argmin(1)]
        accuracies = [float((found == truth).float().mean()) for found in (by_cosine, by_distance)]
        assert accuracies[0] >= accuracies[1] - 0.01, (size, accuracies)
        assert accuracies[0] > 0.6

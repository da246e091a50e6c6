"""The module that fine-tunes: its loss, its learning rates by layer, and its moving average."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from bias_lab.backbones import create
from bias_lab.definition import Run
from bias_lab.training.protocols.finetune import Classifier


def module(**changes: Any) -> Classifier:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    return Classifier(backbone, **(dict(learning_rate=1e-2, steps=10) | changes))


def test_step_is_cross_entropy_of_classes_and_of_mixtures() -> None:
    classifier = module()
    images, labels = torch.randn(5, 3, 2, 2), torch.tensor([0, 1, 2, 1, 0])
    by_class = classifier.training_step((images, labels), 0)
    by_mixture = classifier.training_step((images, F.one_hot(labels, 3).float()), 0)
    torch.testing.assert_close(by_class, by_mixture)


def test_label_smoothing_moves_the_target() -> None:
    images, labels = torch.randn(5, 3, 2, 2), torch.tensor([0, 1, 2, 1, 0])
    classifier = module(label_smoothing=0.3)
    soft = 0.7 * F.one_hot(labels, 3) + 0.3 / 3
    expected = -(soft * classifier.backbone(images).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(classifier.training_step((images, labels), 0), expected)


def test_a_run_hands_its_layer_decay_on() -> None:
    run = Run(dataset="d", backbone="vit_micro", size=1, learning_rate=1e-3, layer_decay=0.5)
    backbone = create("vit_micro", image_size=8, channels=1, classes=3)
    optimizer = Classifier.from_run(run, backbone).configure_optimizers()["optimizer"]
    rate = {id(p): group["initial_lr"] for group in optimizer.param_groups for p in group["params"]}
    parts = (backbone.head, backbone.blocks[-1].mlp.fc1, backbone.blocks[0].mlp.fc1, backbone.patch_embed.proj)
    rates = [rate[id(part.weight)] for part in parts]
    assert rates[0] == 1e-3
    assert rates == sorted(rates, reverse=True)
    assert len(set(rates)) == 4


def test_with_a_moving_average_its_weights_count() -> None:
    classifier = module(ema=0.5)
    images = torch.randn(2, 3, 2, 2)
    for value in (1.0, 3.0):
        classifier.backbone[1].weight.data.fill_(value)
        classifier.update_ema()
    assert classifier.trained is not classifier.backbone
    assert classifier.trained[1].weight.unique().tolist() == [2.0]
    torch.testing.assert_close(classifier(images), classifier.trained(images))

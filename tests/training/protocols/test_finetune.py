"""The module that fine-tunes: its loss, its learning rates by layer, and its moving average."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bias_lab.backbones import create
from bias_lab.definition import Run
from bias_lab.errors import UserError
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


def test_a_name_needs_the_number_of_classes() -> None:
    with pytest.raises(UserError, match="needs the number of classes; give classes="):
        Classifier("vit_micro", channels=1, image_size=8)


def test_images_and_classes_that_do_not_fit_are_named_with_the_keyword_to_change() -> None:
    images, labels = torch.zeros(2, 1, 8, 8), torch.tensor([0, 9])
    colour = Classifier("vit_micro", classes=10, channels=3, image_size=8)
    few = Classifier("vit_micro", classes=5, channels=1, image_size=8)
    for step in ("training_step", "validation_step"):
        with pytest.raises(UserError, match="images of 1 channels don't fit a model for 3; give channels=1"):
            getattr(colour, step)((images, labels), 0)
        with pytest.raises(
            UserError, match="label 9 doesn't fit a model for 5 classes; labels are 0 to 4; give classes"
        ):
            getattr(few, step)((images, labels), 0)
    with pytest.raises(UserError, match="give channels=1"):
        colour.predict_step(images)

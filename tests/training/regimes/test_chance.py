"""Levels of an output that ignores the image against closed forms, and each regime before and after it has trained."""

import importlib
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bias_lab.backbones import create
from bias_lab.catalogue import REGIMES
from bias_lab.definition import Run
from bias_lab.training.regimes import chance
from bias_lab.training.regimes.dino import DINO
from bias_lab.training.regimes.mae import mae_loss, targets
from bias_lab.training.regimes.simmim import simmim_loss

SIDE, CLASSES = 16, 4
BACKBONE = dict(simmim="resnet_micro")  # learns within few steps there


def test_a_level_is_left_by_more_than_a_twentieth_of_it() -> None:
    assert chance.is_near(0.951, 1.0)
    assert not chance.is_near(0.949, 1.0)
    assert chance.is_near(float("nan"), 1.0)
    assert chance.is_near(2.0, 1.0)


def test_classes_have_the_entropy_of_their_shares() -> None:
    assert chance.level_of_classes(np.arange(40) % 10, 10) == pytest.approx(math.log(10))
    uneven = chance.level_of_classes(np.array([0, 0, 0, 1]), 2)
    assert uneven == pytest.approx(0.75 * math.log(4 / 3) + 0.25 * math.log(4))
    assert uneven < math.log(2)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_no_fixed_prediction_has_a_lower_cross_entropy(smoothing: float) -> None:
    labels = torch.tensor([0] * 5 + [1] * 3 + [2])
    fixed = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([fixed], max_iter=100)

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = nn.functional.cross_entropy(fixed.expand(9, 3), labels, label_smoothing=smoothing)
        value.backward()
        return value

    optimizer.step(loss)
    level = chance.level_of_classes(labels.numpy(), 3, label_smoothing=smoothing)
    assert level == pytest.approx(float(loss().detach()), abs=1e-6)


def test_the_best_fixed_patches_are_mae_s_level() -> None:
    images = torch.rand(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    target = targets(images, 4)
    everything = torch.ones(64, 4)
    level = chance.level_of_patches(target)
    fixed = mae_loss(target.mean(0).expand_as(target), images, everything, patch=4)
    own_mean = mae_loss(torch.zeros_like(target), images, everything, patch=4)
    assert level == pytest.approx(float(fixed), rel=1e-5)
    assert level < float(own_mean)
    assert float(own_mean) == pytest.approx(15 / 16, abs=0.01)  # the unbiased variance of 16 values
    assert chance.level_of_patches(targets(torch.full((8, 1, 8, 8), 0.3), 4)) == pytest.approx(0, abs=1e-5)


def test_the_median_pixel_or_the_image_s_mean_is_simmim_s_level() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(33, 1, 8, 8, generator=generator)
    everything = torch.ones(33, 1, 8, 8)
    median = simmim_loss(images.median(0).values.expand_as(images), images, everything)
    assert chance.level_of_pixels(images) == pytest.approx(float(median), rel=1e-5)
    light = torch.randn(33, 1, 1, 1, generator=generator).expand(33, 1, 8, 8)  # images that differ in brightness alone
    assert chance.level_of_pixels(light) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(("momentum", "steps"), [(0.99, 100), (0.5, 10), (0.996, 1)])
def test_what_is_kept_of_a_teacher_is_what_its_updates_leave(momentum: float, steps: int) -> None:
    module = DINO(create("resnet_micro", image_size=SIDE, channels=1, classes=None), momentum=momentum, steps=steps)
    with torch.no_grad():
        for parameter in module.teacher.parameters():
            parameter.fill_(1.0)
        for parameter in module.student.parameters():
            parameter.fill_(0.0)
    for step in range(1, steps):
        module.update_ema(step, steps)
    left = next(iter(module.teacher.parameters())).flatten()[0]
    assert float(left) == pytest.approx(chance.start_kept(momentum, steps), rel=1e-3)


# --- whole regimes ---------------------------------------------------------------------------------------------------


def smooth_images(count: int) -> tuple[Tensor, Tensor]:
    """Return images (B, 1, H, W) of few waves with four classes by their mean, and labels."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(count) % CLASSES
    coarse = torch.randn(count, 1, 3, 3, generator=generator) + labels[:, None, None, None]
    images = nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear")
    return (images - images.mean()) / images.std(), labels


RUN = Run(
    dataset="fashion_mnist_12k",
    backbone="vit_micro",
    task="pretrain",
    learning_rate=2e-3,
    warmup=0.0,
    samples_seen=32 * 1000,
    mask_ratio=0.6,
)


@pytest.mark.parametrize("regime", [name for name, row in REGIMES.items() if row.module])
def test_a_regime_is_untrained_at_first_and_not_after_it_has_learnt(regime: str) -> None:
    labelled = REGIMES[regime].labels
    where, _, name = REGIMES[regime].module.partition(":")
    torch.manual_seed(0)
    method = getattr(importlib.import_module(where), name)
    begun, module = (
        method.from_run(
            replace(RUN, regime=regime, samples_seen=seen),
            create(
                BACKBONE.get(regime, "vit_micro"), image_size=SIDE, channels=1, classes=CLASSES if labelled else None
            ),
        )
        for seen in (0, RUN.samples_seen)
    )
    optimizer = module.configure_optimizers()["optimizer"]
    every, every_label = smooth_images(256)
    images, labels = every[:16], every_label[:16]
    seen = []
    for step in range(60):
        loss = module.training_step((images, labels) if labelled else images, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(loss.item())
    known = every_label.numpy() if labelled else None
    assert begun.is_untrained(seen[0], every, known)
    assert not module.is_untrained(sum(seen[-3:]) / 3, every, known)


def test_a_teacher_that_is_mostly_its_start_is_untrained_whatever_the_loss() -> None:
    images = smooth_images(4)[0]
    short = replace(RUN, regime="dino", samples_seen=32 * 100)
    encoder = create("resnet_micro", image_size=SIDE, channels=1, classes=None)
    assert DINO.from_run(short, encoder).is_untrained(1.0, images)
    assert not DINO.from_run(replace(short, teacher_schedule="steps"), encoder).is_untrained(1.0, images)
    assert not DINO.from_run(replace(short, samples_seen=32 * 1000), encoder).is_untrained(1.0, images)
    uniform = math.log(1024)
    assert DINO.from_run(replace(short, samples_seen=32 * 1000), encoder).is_untrained(uniform, images)


def test_a_student_that_fixed_output_would_beat_is_untrained() -> None:
    images = smooth_images(4)[0]
    encoder = create("resnet_micro", image_size=SIDE, channels=1, classes=None)
    module = DINO.from_run(replace(RUN, regime="dino"), encoder)
    module.entropy.fill_(2.0)
    module.information.fill_(0.5)
    module.last_loss.fill_(2.4)
    assert not module.is_untrained(2.4, images)
    module.last_loss.fill_(2.6)  # far below ln 1024, since few prototypes are used
    assert module.is_untrained(2.6, images)

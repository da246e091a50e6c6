"""Every backbone trains 30 steps under every regime that it can take, and its loss falls to a stated share."""

import importlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from bias_lab.backbones import create
from bias_lab.catalogue import BACKBONES, REGIMES, architecture, check_regime
from bias_lab.definition import Run
from bias_lab.errors import UserError
from bias_lab.training.weights.load import load

STEPS, SIDE, CLASSES = 30, 16, 4
BATCH = dict(dino=8)  # six views of each
MICRO = [name for name in BACKBONES if name.endswith("_micro")]
LEARNS = [name for name, regime in REGIMES.items() if regime.module]
CLASSIFIER = REGIMES["supervised"].module  # trains after the regime `weights`
FALLS_TO = dict(
    supervised=0.5, weights=0.5, formula=0.5, mae=0.7, simmim=0.92, dino=0.85
)  # the largest share of the first steps' loss


def possible(backbone: str, regime: str) -> bool:
    kinds = REGIMES[regime].architectures
    return not kinds or architecture(backbone) in kinds


CELLS = [(backbone, regime) for backbone in MICRO for regime in LEARNS]


def smooth_images(count: int) -> tuple[Tensor, Tensor]:
    """Return a batch that can be learnt, (B, 1, H, W) of few waves with four classes by their mean."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(count) % CLASSES
    coarse = torch.randn(count, 1, 3, 3, generator=generator) + labels[:, None, None, None]
    images = nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear")
    return (images - images.mean()) / images.std(), labels


def losses(backbone: str, regime: str, weights: Path | None = None) -> list[float]:
    """Return the losses of 30 steps of a cell. Its run has 1,000 steps, so that the learning rate hardly changes."""
    labelled, count = REGIMES[regime].labels or regime == "weights", BATCH.get(regime, 16)
    run = Run(
        dataset="fashion_mnist_12k",
        backbone=backbone,
        task="pretrain",
        regime=regime,
        learning_rate=2e-3,
        warmup=0.0,
        samples_seen=32 * 1000,
        mask_ratio=0.6,
    )
    torch.manual_seed(0)
    model = create(backbone, image_size=SIDE, channels=1, classes=CLASSES if labelled else None)
    if weights is not None:
        outcome = load(model, weights)
        assert set(outcome.skipped) == set(outcome.missing)  # the classifier's alone
        assert len(outcome.skipped) == 2
        assert not outcome.resampled
    where, _, name = (REGIMES[regime].module or CLASSIFIER).partition(":")
    module = getattr(importlib.import_module(where), name).from_run(run, model)
    optimizer = module.configure_optimizers()["optimizer"]
    images, labels = smooth_images(count)
    seen = []
    for step in range(STEPS):
        loss = module.training_step((images, labels) if labelled else images, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(loss.item())
    assert module.diagnostics().get("collapsed", False) is False
    return seen


LONG = {(name, "dino") for name in ("efficientnet_micro", "mobilenetv3_micro", "efficientvit_micro")}  # 5 seconds each


@pytest.mark.parametrize(
    ("backbone", "regime"),
    [pytest.param(*cell, marks=pytest.mark.slow if cell in LONG else ()) for cell in CELLS if possible(*cell)],
)
def test_a_cell_that_claims_to_work_trains(backbone: str, regime: str) -> None:
    seen = losses(backbone, regime)
    assert sum(seen[-3:]) < FALLS_TO[regime] * sum(seen[:3])


@pytest.mark.slow
@pytest.mark.parametrize("backbone", MICRO)
def test_every_backbone_learns_from_weights_of_other_classes(backbone: str, tmp_path: Path) -> None:
    before = create(backbone, image_size=SIDE, channels=1, classes=CLASSES + 3)
    save_file(before.state_dict(), tmp_path / "w.safetensors")
    seen = losses(backbone, "weights", tmp_path / "w.safetensors")
    assert sum(seen[-3:]) < FALLS_TO["weights"] * sum(seen[:3])


@pytest.mark.parametrize(("backbone", "regime"), [cell for cell in CELLS if not possible(*cell)])
def test_every_other_cell_is_refused_with_its_reason(backbone: str, regime: str) -> None:
    with pytest.raises(
        UserError, match=f"{backbone} can't take the regime '{regime}': .*backbones that can: vit_micro"
    ):
        check_regime(backbone, regime)


@pytest.mark.parametrize("regime", ["mae", "simmim", "dino"])
def test_a_vit_with_a_stem_of_its_own_can_be_pretrained_too(regime: str) -> None:
    model = create("vit_micro", image_size=SIDE, channels=1, classes=None)
    model.patch_embed.proj = nn.Sequential(
        nn.Conv2d(1, 48, 3, stride=2, padding=1), nn.GELU(), nn.Conv2d(48, 96, 3, stride=2, padding=1)
    )
    where, _, name = REGIMES[regime].module.partition(":")
    module = getattr(importlib.import_module(where), name)(model)
    module.training_step(smooth_images(4)[0], 0).backward()
    assert model.patch_embed.proj[0].weight.grad.abs().sum() > 0

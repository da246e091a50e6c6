"""The segmenter under a stock Trainer: what it logs, what it learns, and what void does to it."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader

import bias_lab as bl
from bias_lab import catalogue
from bias_lab.backbones import create
from bias_lab.backbones.heads.interface import dense
from bias_lab.data.masks import drawn
from bias_lab.definition import Run
from bias_lab.errors import UserError
from bias_lab.training.protocols.segmenter import Segmenter
from bias_lab.training.tasks import mask_scores, segmentation
from bias_lab.training.tasks.mask_scores import VOID
from tests.data.masks.masks_on_disk import flat_folder

CLASSES = len(drawn.CLASSES)
SIDES = (32, 48)
PAIRS = [
    (name, head)
    for name, head in product(catalogue.BACKBONES, catalogue.HEADS)
    if name.endswith("_micro") and catalogue.heads.can_have(name, head)
]
SLOW = (("vit_micro", "linear"), ("resnet_micro", "unet"), ("swin_micro", "matched"))


def pairs(count: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Drawn images (n, 3, H, W), normalised, and their masks (n, H, W) with a void border."""
    found = drawn.images(np.arange(count), SIDES, seed=7)
    images = torch.from_numpy(found.images).movedim(-1, 1).float() / 127.5 - 1
    masks = torch.from_numpy(found.masks)
    masks[:, 0] = VOID
    return images, masks


def module(backbone: str = "vit_micro", head: str = "", **fields: object) -> Segmenter:
    patch = 4 if "patch" not in fields and catalogue.traits(backbone).sized else None
    torch.manual_seed(0)
    return Segmenter(backbone, head=head, classes=CLASSES, channels=3, image_size=SIDES, **{"patch": patch, **fields})


def trainer(steps: int) -> Trainer:
    return Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )


def loader(count: int = 8) -> DataLoader:
    return DataLoader(list(zip(*pairs(count), strict=True)), batch_size=4)


def test_it_logs_the_scores_of_the_whole_split() -> None:
    model, run = module(learning_rate=1e-3), trainer(2)
    run.fit(model, loader(), loader(6))
    assert {"train/loss", "val/loss", "val/miou"} <= set(run.callback_metrics)
    (found,) = run.test(model, loader(6), verbose=False)
    assert set(found) == {"test/loss", "test/miou", "test/pixel_accuracy", "test/boundary_f1"}
    images, masks = pairs(6)
    logits = model.eval()(images)
    expected = segmentation.evaluate(model, [(images, masks)], CLASSES).metrics()
    for name in ("miou", "pixel_accuracy", "boundary_f1"):
        assert found[f"test/{name}"] == pytest.approx(expected[name], abs=1e-6), name
    assert found["test/loss"] == pytest.approx(mask_scores.cross_entropy(logits, masks.long()).item(), abs=1e-5)
    assert torch.equal(run.predict(model, DataLoader(images, batch_size=6))[0], model(images))


def test_the_backbone_has_its_own_head_unless_another_is_named() -> None:
    assert type(module("vit_micro").backbone.head).__name__ == "Linear"
    assert type(module("resnet_micro").backbone.head).__name__ == "UNet"
    assert type(module("resnet_micro", "matched").backbone.head).__name__ == "Matched"
    with pytest.raises(UserError, match="can't have the head 'unet'"):
        module("vit_micro", "unet")
    assert bl.Segmenter is Segmenter


@pytest.mark.parametrize("classes", [-1, 0, 1, VOID + 1])
def test_classes_that_masks_can_t_tell_apart_are_refused(classes: int) -> None:
    with pytest.raises(UserError, match=f"{classes} classes can't be told apart in masks.*give 2 to 255"):
        Segmenter("vit_micro", head="linear", classes=classes, channels=3, image_size=24)


def test_the_lab_s_batches_with_masks_train_it() -> None:
    data = bl.DataModule("shape_masks", size=8, batch_size=4, image_size=24, image_width=32)
    assert data.image_size == (24, 32)
    model = Segmenter(
        "resnet_micro",
        classes=len(data.classes),
        channels=data.channels,
        image_size=data.image_size,
        learning_rate=1e-3,
    )
    run = trainer(2)
    run.limit_val_batches = 1
    run.fit(model, datamodule=data)
    assert 0 <= run.callback_metrics["val/miou"] <= 1


@pytest.mark.parametrize("layout", ["folders", "table"])
def test_a_user_s_own_images_and_masks_train_it(tmp_path: Path, layout: str) -> None:
    path = flat_folder(tmp_path / "own")
    if layout == "table":
        path = tmp_path / "own" / "pairs.csv"
        rows = [f"images/one{k}.jpg,masks/one{k}.png,{'train' if k > 4 else 'test'}" for k in range(20)]
        path.write_text("\n".join(["image,mask,split", *rows]))
    data = bl.DataModule(path, folder=tmp_path / "out", batch_size=4, image_size=24, image_width=32, flip=True)
    assert (data.classes, data.channels, data.image_size) == (("0", "1", "2"), 3, (24, 32))
    images, masks = next(iter(data.train_dataloader()))
    assert (images.shape, masks.shape, masks.dtype) == ((4, 3, 24, 32), (4, 24, 32), torch.int64)
    assert set(masks.unique().tolist()) == {0, 1, 2, VOID}  # void where crops reach over the edge
    model = Segmenter("vit_micro", classes=3, image_size=data.image_size, patch=8, learning_rate=1e-3)
    run = trainer(3)
    run.fit(model, datamodule=data)
    assert 0 <= run.callback_metrics["val/miou"] <= 1
    assert 0 <= run.test(model, data, verbose=False)[0]["test/miou"] <= 1


def test_void_pixels_have_no_gradient_and_dice_is_added() -> None:
    model = module()
    images, masks = pairs(2)
    logits = torch.zeros(2, CLASSES, *SIDES, requires_grad=True)
    mask_scores.cross_entropy(logits, masks.long()).backward()
    assert logits.grad[:, :, 0].abs().max() == 0
    assert logits.grad[:, :, 1].abs().min() > 0
    plain, both = model.training_step((images, masks), 0), module(dice=0.5).training_step((images, masks), 0)
    expected = plain + 0.5 * mask_scores.dice_loss(model.backbone(images), masks)
    assert both.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_run_and_plain_keywords_give_the_same_module() -> None:
    run = Run(
        dataset="shape_masks", backbone="vit_micro", task="segment", size=8, learning_rate=0.002, ema=0.9, patch=4
    )
    torch.manual_seed(0)
    encoder = create("vit_micro", image_size=SIDES, channels=3, classes=None, patch=4)
    whole = dense(encoder, "vit_micro", head="", classes=CLASSES, channels=3, image_size=SIDES)
    one, other = Segmenter.from_run(run, whole, classes=CLASSES), module(learning_rate=0.002, ema=0.9)
    assert [p.shape for p in one.parameters()] == [p.shape for p in other.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
    assert one.settings.learning_rate == other.settings.learning_rate == 0.002
    assert one.trained is one.average.module
    with pytest.raises(UserError, match="the run has no learning rate yet"):
        Segmenter.from_run(replace(run, learning_rate=None), whole, classes=CLASSES)


def test_any_model_with_logits_for_each_pixel_is_taken_as_it_is() -> None:
    model = Segmenter(nn.Conv2d(3, CLASSES, 3, padding=1), classes=CLASSES, learning_rate=0.01)
    trainer(1).fit(model, loader(), loader(4))
    assert model(torch.zeros(1, 3, *SIDES)).shape == (1, CLASSES, *SIDES)


@pytest.mark.parametrize("layer_decay", [1.0, 0.5])
def test_layers_learn_slower_the_farther_they_lie_from_the_head(layer_decay: float) -> None:
    model = module("vit_micro", layer_decay=layer_decay, learning_rate=0.001)
    optimizer = model.configure_optimizers()["optimizer"]
    scale = {id(p): group.get("lr_scale", 1.0) for group in optimizer.param_groups for p in group["params"]}
    head = scale[id(model.backbone.head.classify.weight)]
    first = scale[id(model.backbone.encoder.blocks[0].attn.qkv.weight)]
    assert head == 1.0
    assert (first < head) == (layer_decay < 1)


def large_shapes(count: int = 8, side: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (n, 3, S, S) of one large figure each, a disc, a square or a triangle, and their masks (n, S, S)."""
    at = (torch.arange(side) + 0.5) / side - 0.5
    g = torch.Generator().manual_seed(0)
    images, masks = [], []
    for i in range(count):
        dy, dx = 0.2 * torch.rand(2, generator=g) - 0.1
        y, x = at[:, None] - dy, at[None, :] - dx
        inside = (y**2 + x**2 < 0.15, torch.maximum(y.abs(), x.abs()) < 0.33, (y < 0.33) & (y > 2 * x.abs() - 0.37))
        mask = (inside[i % 3] * (i % 3 + 1)).expand(side, side)
        ground, figure = torch.randn(2, 3, 1, 1, generator=g)
        images.append(torch.where(mask > 0, figure, ground) + 0.1 * torch.randn(3, side, side, generator=g))
        masks.append(mask)
    return torch.stack(images), torch.stack(masks)


def overfit(backbone: str, head: str, *, steps: int = 200, rate: float = 3e-3) -> float:
    """Return the mIoU on the eight images of large shapes that a module was trained on."""
    images, masks = large_shapes()
    torch.manual_seed(0)
    shape = dict(classes=4, channels=3, image_size=40)
    model = Segmenter(backbone, head=head, learning_rate=rate, weight_decay=0.0, **shape)
    run = trainer(steps)
    run.limit_val_batches = 0
    loader = DataLoader(list(zip(images, masks, strict=True)), batch_size=8)
    run.fit(model, loader, loader)  # Lightning warns where there is no loader, even if its batches are limited to 0
    return segmentation.evaluate(model, [(images, masks)], 4).miou


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "head"), SLOW)
def test_it_learns_eight_images_by_heart(backbone: str, head: str) -> None:
    assert (backbone, head) in PAIRS
    assert overfit(backbone, head) > 0.95


def test_a_model_of_ones_own_gets_the_head_that_is_asked_for() -> None:
    """A dense model is taken as it is, and one that gives no maps is refused before it trains."""
    encoder = timm.create_model("resnet10t", num_classes=0)
    module = Segmenter(encoder, head="unet", classes=4, image_size=(32, 48))
    assert module(torch.zeros(2, 3, 32, 48)).shape == (2, 4, 32, 48)
    again = Segmenter(module.backbone, head="unet", classes=4, image_size=(32, 48))
    assert again.backbone is module.backbone
    with pytest.raises(UserError, match="forward_intermediates"):
        Segmenter(nn.Conv2d(3, 4, 1), head="linear", classes=4, image_size=16)


def test_an_encoder_without_a_head_is_refused_at_the_first_step() -> None:
    encoder = create("resnet_micro", image_size=16, channels=3, classes=None)
    module = Segmenter(encoder, classes=4, image_size=16)
    with pytest.raises(
        UserError, match=r"the model gives \(2, \d+\) for masks of the shape \(2, 16, 16\); .*name a head"
    ):
        module.training_step((torch.zeros(2, 3, 16, 16), torch.zeros(2, 16, 16, dtype=torch.long)), 0)


@pytest.mark.parametrize("step", ["training_step", "validation_step"])
@pytest.mark.parametrize(
    ("fill", "kind", "message"),
    [
        (0.5, torch.float32, "masks of a batch are torch.float32; whole numbers are needed.*without ToTensor"),
        (
            CLASSES,
            torch.long,
            f"a mask holds {CLASSES}, and the model has {CLASSES} classes; .*255 is void; give classes",
        ),
        (-100, torch.long, f"a mask holds -100, .*classes are 0 to {CLASSES - 1}"),
    ],
)
def test_values_that_are_no_classes_are_named(step: str, fill: float, kind: torch.dtype, message: str) -> None:
    with pytest.raises(UserError, match=message):
        getattr(module(), step)((torch.zeros(2, 3, *SIDES), torch.full((2, *SIDES), fill, dtype=kind)), 0)


class Dictionary(nn.Module):
    """Gives its logits as torchvision's models of segmentation do."""

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"out": images}


@pytest.mark.parametrize("step", ["training_step", "validation_step"])
def test_models_and_images_that_do_not_fit_are_named(step: str) -> None:
    masks = torch.zeros(2, *SIDES, dtype=torch.long)
    with pytest.raises(UserError, match="gives an object of the type dict; .*forward returns the logits alone"):
        getattr(Segmenter(Dictionary(), classes=3), step)((torch.zeros(2, 3, *SIDES), masks), 0)
    with pytest.raises(UserError, match=r"gives \(2, 4, 32, 48\) .* and classes is 3; give classes=4"):
        getattr(Segmenter(nn.Conv2d(3, 4, 1), classes=3), step)((torch.zeros(2, 3, *SIDES), masks), 0)
    with pytest.raises(UserError, match="images of 1 channels don't fit a model for 3; give channels=1"):
        getattr(module(), step)((torch.zeros(2, 1, *SIDES), masks), 0)


def test_it_is_monitored_stopped_and_loaded_again(tmp_path: Path) -> None:
    data = bl.DataModule("shape_masks", size=8, batch_size=4, image_size=24, image_width=32)
    model = Segmenter("vit_micro", classes=5, channels=3, image_size=(24, 32), patch=8, learning_rate=1e-3)
    kept = ModelCheckpoint(tmp_path, monitor="val/miou", mode="max")
    stops = EarlyStopping("val/miou", mode="max", patience=1, min_delta=1.0)  # no gain is as large
    run = Trainer(max_epochs=5, callbacks=[kept, stops], accelerator="cpu", logger=False, num_sanity_val_steps=1,
                  limit_val_batches=1, enable_progress_bar=False, enable_model_summary=False)  # fmt: skip
    run.fit(model, datamodule=data)
    assert run.current_epoch == 2
    again = Segmenter.load_from_checkpoint(kept.best_model_path)
    images = torch.rand(2, 3, 24, 32)
    weights = torch.load(kept.best_model_path, weights_only=True)["state_dict"]
    assert all(torch.equal(weights[name], value) for name, value in again.state_dict().items())
    assert again.eval()(images).shape == (2, 5, 24, 32)


@pytest.mark.parametrize("step", ["training_step", "validation_step"])
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 1, *SIDES), r"masks of a batch have the shape \(2, 1, 32, 48\); \(B, H, W\) .*masks.squeeze\(1\) has it"),
        ((2, 5, *SIDES), r"the shape \(2, 5, 32, 48\); \(B, H, W\) is needed, a class number each$"),
        ((2, 32, 8), r"for masks of the shape \(2, 32, 8\); height and width must be the same; give images and masks"),
    ],
)
def test_masks_of_a_wrong_shape_are_refused_with_the_remedy(step: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        getattr(module(), step)((torch.zeros(2, 3, *SIDES), torch.zeros(shape, dtype=torch.long)), 0)


def test_boundaries_are_compared_only_where_they_are_asked_for() -> None:
    batch = torch.zeros(2, 3, 8, 8), torch.tensor([[0, 1]]).repeat_interleave(4, 1).expand(2, 8, 8)
    model = nn.Conv2d(3, 2, 1)
    assert segmentation.evaluate(model, [batch], 2).metrics()["boundary_f1"] is not None
    assert segmentation.evaluate(model, [batch], 2, boundaries=False).metrics()["boundary_f1"] is None
    assert (
        segmentation.evaluate(model, [batch], 2, boundaries=False).miou == segmentation.evaluate(model, [batch], 2).miou
    )

import timm
import torch
from torch import nn

import pytest
import bias_lab.backbones  # noqa: F401  registers ours with timm

VARIANTS = [
    *(f"vit_{size}_patch16_{side}" for size in ("tiny", "small", "base") for side in (224, 384)),
    *(f"vit_{size}_patch32_{side}" for size in ("small", "base") for side in (224, 384)),
    "vit_small_patch8_224",
    *(f"deit_{size}_patch16_224" for size in ("tiny", "small", "base")),
]


@pytest.mark.parametrize("name", VARIANTS)
def test_published_names_and_shapes(name, same_names):
    with torch.device("meta"):
        same_names(timm.create_model(f"bias_lab_{name}"), timm.create_model(name))


@pytest.mark.parametrize("name", VARIANTS)
def test_computes_what_timm_computes(name, same_computation):
    patch = int(name.split("patch")[1].split("_")[0])
    small = dict(num_classes=5, img_size=(2 * patch, 3 * patch), depth=2)
    images = torch.randn(2, 3, 2 * patch, 3 * patch)
    same_computation(timm.create_model(f"bias_lab_{name}", **small), timm.create_model(name, **small), images)


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_computes_what_timm_computes_at_full_size(name, same_computation):
    ours, theirs = timm.create_model(f"bias_lab_{name}"), timm.create_model(name)
    same_computation(ours, theirs, torch.randn(1, *theirs.pretrained_cfg["input_size"]))


@pytest.mark.parametrize(
    "keywords",
    [
        dict(num_classes=0),
        dict(global_pool="avg"),
        dict(global_pool="avg", num_classes=0),
        dict(global_pool="avg", class_token=False),
        dict(class_token=False, global_pool="avg", num_classes=0),
        dict(in_chans=1, patch_size=8, embed_dim=48, num_heads=4, mlp_ratio=2.0),
        dict(global_pool=""),
    ],
    ids=str,
)
def test_every_layout_of_published_weights(keywords, same_computation):
    """AugReg has a class token and a head, DINO num_classes=0, MAE the mean and a norm called fc_norm."""
    shape = dict(img_size=32, patch_size=16, embed_dim=24, depth=2, num_heads=3) | keywords
    name = "vit_tiny_patch16_224"
    images = torch.randn(2, shape.get("in_chans", 3), 32, 32)
    same_computation(timm.create_model(f"bias_lab_{name}", **shape), timm.create_model(name, **shape), images)

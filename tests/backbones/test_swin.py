import timm
import torch
from torch import nn

import pytest
import bias_lab.backbones  # noqa: F401  registers ours with timm

VARIANTS = [
    *(f"swin_{size}_patch4_window7_224" for size in ("tiny", "small", "base")),
    "swin_base_patch4_window12_384",
]
SMALL = dict(embed_dim=16, depths=(2, 3), num_heads=(2, 4), num_classes=5, drop_path_rate=0.0)


@pytest.mark.parametrize("name", VARIANTS)
def test_published_names_and_shapes(name, same_names):
    with torch.device("meta"):
        same_names(timm.create_model(f"bias_lab_{name}"), timm.create_model(name))


@pytest.mark.parametrize("name", VARIANTS)
def test_computes_what_timm_computes(name, same_computation):
    small = dict(img_size=64, window_size=4, depths=(2, 2, 2, 2), num_classes=5, drop_path_rate=0.0)
    images = torch.randn(2, 3, 64, 64)
    same_computation(timm.create_model(f"bias_lab_{name}", **small), timm.create_model(name, **small), images)


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_computes_what_timm_computes_at_full_size(name, same_computation):
    ours, theirs = (timm.create_model(n, drop_path_rate=0.0) for n in (f"bias_lab_{name}", name))
    same_computation(ours, theirs, torch.randn(1, *theirs.pretrained_cfg["input_size"]))


@pytest.mark.parametrize(
    "keywords",
    [
        dict(img_size=32, patch_size=2, window_size=4),
        dict(img_size=28, patch_size=2, window_size=7),  # second stage: one window, no shift
        dict(img_size=(32, 48), patch_size=2, window_size=4),
        dict(img_size=(32, 48), patch_size=2, window_size=(4, 6)),
        dict(img_size=36, patch_size=2, window_size=4),  # 18: windows don't fill the map
        dict(img_size=(26, 38), patch_size=2, window_size=5),  # odd maps too: 13 x 19, then 7 x 10
        dict(img_size=(16, 40), patch_size=4, window_size=7),  # shrunk in one direction, shifted in the other
        dict(img_size=30, patch_size=4, window_size=3),  # the patches don't fill the image
        dict(img_size=16, patch_size=1, window_size=5, in_chans=1),
        dict(img_size=32, patch_size=4, window_size=4, num_classes=0),
        dict(img_size=32, patch_size=4, window_size=4, num_classes=0, global_pool=""),
        dict(img_size=32, patch_size=4, window_size=4, mlp_ratio=2.0),
    ],
    ids=str,
)
def test_any_map_and_window(keywords, same_computation):
    name, shape = "swin_tiny_patch4_window7_224", SMALL | keywords
    side = shape["img_size"] if isinstance(shape["img_size"], tuple) else (shape["img_size"],) * 2
    images = torch.randn(2, shape.get("in_chans", 3), *side)
    same_computation(timm.create_model(f"bias_lab_{name}", **shape), timm.create_model(name, **shape), images)

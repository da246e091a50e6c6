import timm
import torch
from torch import nn

import pytest
import bias_lab.backbones  # noqa: F401  registers ours with timm

VARIANTS = ["mobilevit_xxs", "mobilevit_xs", "mobilevit_s"]


@pytest.mark.parametrize("name", VARIANTS)
def test_published_names_and_shapes(name, same_names):
    with torch.device("meta"):
        same_names(timm.create_model(f"bias_lab_{name}"), timm.create_model(name))


@pytest.mark.parametrize("side", [64, 80], ids=["filled", "resized"])  # 80: the maps are 10, 5, 3
@pytest.mark.parametrize("name", VARIANTS)
def test_computes_what_timm_computes(name, side, same_computation):
    ours, theirs = (timm.create_model(n, num_classes=5, in_chans=2) for n in (f"bias_lab_{name}", name))
    same_computation(ours, theirs, torch.randn(2, 2, side, side))


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_computes_what_timm_computes_at_full_size(name, same_computation):
    ours, theirs = (timm.create_model(n) for n in (f"bias_lab_{name}", name))
    same_computation(ours, theirs, torch.randn(2, 3, 256, 256))

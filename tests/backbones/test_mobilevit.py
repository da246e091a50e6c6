import re

import timm
import torch
from torch import nn

import pytest
import bias_lab.backbones  # noqa: F401  registers ours with timm

VARIANTS = ["mobilevit_xxs", "mobilevit_xs", "mobilevit_s"]
VANISHING = r"stages\.[01]\.\d\.conv3_1x1\.bn\.bias"  # what it adds to a channel, the next batch norm takes away


@pytest.mark.parametrize("name", VARIANTS)
def test_published_names_and_shapes(name, same_names):
    with torch.device("meta"):
        same_names(timm.create_model(f"bias_lab_{name}"), timm.create_model(name))


@pytest.mark.parametrize("side", [64, 80], ids=["filled", "resized"])  # 80: the maps are 10, 5, 3
@pytest.mark.parametrize("name", VARIANTS)
def test_computes_what_timm_computes(name, side, same_computation):
    ours, theirs = (timm.create_model(n, num_classes=5, in_chans=2) for n in (f"bias_lab_{name}", name))
    same_computation(ours, theirs, torch.randn(2, 2, side, side), VANISHING)


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_computes_what_timm_computes_at_full_size(name, same_computation):
    ours, theirs = (timm.create_model(n) for n in (f"bias_lab_{name}", name))
    same_computation(ours, theirs, torch.randn(2, 3, 256, 256), VANISHING)


def test_gradients_in_double_precision(randomise, gradient_errors, gradient_sizes):
    """Where float32 is too coarse to tell: every gradient is timm's, and those said to vanish do."""
    ours, theirs = (timm.create_model(n, num_classes=5).double() for n in ("bias_lab_mobilevit_xxs", "mobilevit_xxs"))
    randomise(theirs)
    ours.load_state_dict(theirs.state_dict())
    errors = gradient_errors(ours, theirs, torch.randn(3, 3, 32, 32).double(), torch.randn(3, 5).double())
    assert max(errors.values()) < 1e-9
    vanishing = {name: size for name, size in gradient_sizes(theirs).items() if re.fullmatch(VANISHING, name)}
    assert len(vanishing) == 4
    assert max(vanishing.values()) < 1e-12

"""Test Swin's faster order of operations. `test_swin.py` compares it with the text of the model."""

import pytest
import torch
from torch import nn

from bias_lab.backbones import swin
from bias_lab.backbones.fast_swin import attend, moving, usable, window_order
from bias_lab.backbones.swin import Stage
from bias_lab.backbones.windows import window_partition


@pytest.mark.parametrize(
    ("size", "window", "shift"), [((8, 8), (4, 4), (2, 2)), ((7, 10), (4, 4), (2, 2)), ((6, 9), (3, 3), (0, 0))]
)
def test_window_order_is_shift_pad_partition(size, window, shift):
    H, W = size
    x = torch.randn(1, H, W, 3)
    order, slots = window_order(size, window, shift)
    shifted = x.roll((-shift[0], -shift[1]), (1, 2))
    padded = torch.nn.functional.pad(shifted, (0, 0, 0, -W % window[1], 0, -H % window[0]))
    expected = window_partition(padded, window).reshape(-1, 3)
    ours = x.reshape(-1, 3)[order.clamp(min=0)] * (order >= 0).unsqueeze(1)
    assert torch.equal(ours, expected)
    assert torch.equal(ours[slots], x.reshape(-1, 3))


def test_an_order_that_moves_nothing_needs_no_gather():
    assert moving(torch.arange(5)) is None
    assert moving(torch.tensor([1, 0])) is not None


def test_only_a_stage_as_built_and_without_a_hook_runs_in_the_faster_order():
    stage = Stage(16, 2, (8, 8), False, (4, 4), [0.0] * 2, 2.0)
    assert usable(stage.blocks, swin.KINDS)
    handle = stage.blocks[1].mlp.fc1.register_forward_pre_hook(lambda *_: None)
    assert not usable(stage.blocks, swin.KINDS)
    handle.remove()
    stage.blocks[1].mlp.fc1 = nn.Conv2d(16, 32, 1)
    assert not usable(stage.blocks, swin.KINDS)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_written_out_is_sdpa(masked):
    q, k, v = torch.randn(3, 6, 2, 4, 8).unbind(0)  # each (B*G, h, A, d), B = 3
    bias = torch.randn(2, 2, 4, 4) if masked else torch.randn(1, 2, 4, 4)
    whole = bias.repeat(3 if masked else 6, 1, 1, 1)
    torch.testing.assert_close(attend(q, k, v, bias), nn.functional.scaled_dot_product_attention(q, k, v, whole))

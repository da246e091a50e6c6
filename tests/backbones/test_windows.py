import warnings

import pytest
import torch

from bias_lab.backbones.windows import (
    relative_position_index,
    resample_table,
    shift_mask,
    window_and_shift,
    window_partition,
    window_reverse,
)


def test_partition():
    x = torch.arange(56 * 56).reshape(1, 56, 56, 1)
    windows = window_partition(x, 7)
    assert windows.shape == (64, 7, 7, 1)
    assert torch.equal(windows[0, ..., 0], x[0, :7, :7, 0])
    assert torch.equal(windows[1, ..., 0], x[0, :7, 7:14, 0])  # windows go along rows
    assert torch.equal(windows[8, ..., 0], x[0, 7:14, :7, 0])


def test_reverse():
    assert window_reverse(torch.zeros(192, 7, 7, 96), 7, 56, 56).shape == (3, 56, 56, 96)


@pytest.mark.parametrize(("side", "window"), [((8, 8), 4), ((6, 12), (3, 4)), ((5, 7), (5, 7))])
def test_round_trip(side, window):
    x = torch.randn(3, *side, 2)
    assert torch.equal(window_reverse(window_partition(x, window), window, *side), x)


def test_a_transposed_window_does_not_come_back():
    x = torch.randn(1, 8, 8, 2)
    windows = window_partition(x, 4).transpose(1, 2)
    assert not torch.equal(window_reverse(windows, 4, 8, 8), x)


def test_nine_regions():
    """In an 8x8 map with windows of 4, shifted by 2, the last window has four regions and the first has one."""
    mask = shift_mask((8, 8), (4, 4), (2, 2))
    assert mask.shape == (4, 16, 16)
    assert not mask[0].any()  # the slice (0, -w) in both directions is one region
    region = torch.empty(8, 8, dtype=torch.long)
    slices = [(0, 4), (4, 6), (6, 8)]
    for i, (top, bottom) in enumerate(slices):
        for j, (left, right) in enumerate(slices):
            region[top:bottom, left:right] = 3 * i + j
    assert len(region.unique()) == 9
    for window, (top, left) in zip(mask, [(0, 0), (0, 4), (4, 0), (4, 4)], strict=True):
        flat = region[top : top + 4, left : left + 4].flatten()
        assert torch.equal(window == 0, flat[:, None] == flat[None, :])
        assert set(window.unique().tolist()) <= {0.0, -100.0}


def test_no_shift_needs_no_mask():
    assert shift_mask((8, 8), (4, 4), (0, 0)) is None


def test_mask_keeps_apart_what_the_roll_brought_together():
    """Two tokens of a shifted window may attend to each other only if they were near before the shift."""
    H, W, w, s = 12, 8, 4, 2
    rows, columns = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    at = torch.stack([rows, columns], -1)[None].roll((-s, -s), (1, 2))  # where each token came from
    at = window_partition(at, w).flatten(1, 2)  # (G, A, 2)
    near = (at[:, :, None] - at[:, None, :]).abs().amax(-1) < w
    assert torch.equal(shift_mask((H, W), (w, w), (s, s)) == 0, near)


def test_windows_shrink_to_the_map_and_then_do_not_shift():
    assert window_and_shift((14, 14), (7, 7), True) == ((7, 7), (3, 3))
    assert window_and_shift((14, 14), (7, 7), False) == ((7, 7), (0, 0))
    assert window_and_shift((7, 7), (7, 7), True) == ((7, 7), (0, 0))
    assert window_and_shift((4, 16), (7, 7), True) == ((4, 7), (0, 3))


def test_relative_position_index_by_hand():
    """A window of 2x2 has 9 offsets, row by row. The diagonal is the offset 0, in the middle."""
    assert relative_position_index((2, 2)).tolist() == [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]


def test_tables_are_resampled_as_timm_does():
    pos_embed_rel = pytest.importorskip("timm.layers.pos_embed_rel")
    table = torch.randn(13 * 13, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about its speed
        theirs = pos_embed_rel.resize_rel_pos_bias_table(table, (4, 4), (49, 3))
    assert torch.equal(resample_table(table, (7, 7), (4, 4)), theirs)
    assert torch.equal(resample_table(table, (7, 7), (7, 7)), table)

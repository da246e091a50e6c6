"""The simple feature pyramid: its levels, its parameters in closed form, and no level finer than a pixel."""

import pytest
import torch

from bias_lab.backbones.heads.interface import Map
from bias_lab.backbones.heads.pyramid import WIDTH, Pyramid

D, K = 24, 5


def level(width: int) -> int:
    """Parameters of the two convolutions of a level and their norms."""
    return width * WIDTH + 9 * WIDTH * WIDTH + 4 * WIDTH


@pytest.mark.parametrize(
    ("stride", "rows", "finest", "widths"),
    [(8, 4, 16, (D // 4, D // 2, D, D)), (2, 4, 8, (D // 2, D, D)), (1, 4, 4, (D, D)), (4, 1, 4, (D // 4, D // 2, D))],
)
def test_levels_and_parameters(stride: int, rows: int, finest: int, widths: tuple[int, ...]) -> None:
    head = Pyramid([Map(D, rows, rows)], K, (stride * rows, stride * rows))
    up2, up4 = D * (D // 2) * 4 + D // 2, (D // 2) * (D // 4) * 4 + D // 4 + 2 * (D // 2)
    expected = sum(map(level, widths)) + WIDTH * K + K
    expected += (D // 4 in widths) * (up2 + up4) + (D // 2 in widths) * up2
    assert sum(p.numel() for p in head.parameters()) == expected
    assert len(head.levels) == len(widths)
    assert head([torch.randn(2, D, rows, rows)]).shape == (2, K, finest, finest)


def test_every_level_reaches_the_output() -> None:
    head = Pyramid([Map(D, 4, 6)], K, (32, 48))
    head([torch.randn(2, D, 4, 6)]).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for level in head.levels for p in level.parameters() if p.ndim > 1)

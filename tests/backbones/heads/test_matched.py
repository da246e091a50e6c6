"""The matched decoder has one number of parameters for every backbone, within 10 %."""

import pytest
import torch

from bias_lab import catalogue
from bias_lab.backbones import create
from bias_lab.backbones.heads import interface
from bias_lab.backbones.heads.interface import Map
from bias_lab.backbones.heads.matched import BUDGET, Matched, parameters_of, resized, width_for

WITH_MAPS = [name for name, row in catalogue.BACKBONES.items() if not catalogue.ARCHITECTURES[row.architecture].control]


@pytest.mark.parametrize("classes", [2, 11, 150])
def test_all_backbones_get_decoders_within_a_tenth_of_one_another(classes: int) -> None:
    sizes = {}
    for name in WITH_MAPS:
        side = 64 if catalogue.BACKBONES[name].image_size < 64 else 224
        with torch.device("meta"):
            encoder = create(name, image_size=side, channels=3, classes=None)
        maps = [Map(info["num_chs"], 8, 8) for info in encoder.feature_info]
        sizes[name] = interface.parameters(Matched(maps, classes, (side, side)))
    assert max(sizes.values()) <= 1.1 * min(sizes.values()), sizes
    assert all(abs(size - BUDGET) <= 0.05 * BUDGET for size in sizes.values())


def test_parameters_are_those_of_the_formula() -> None:
    head = Matched([Map(c, 8, 8) for c in (3, 5, 16, 24, 80)], 11, (32, 32))
    channels = [5, 16, 24, 80]
    assert head.taken == (1, 2, 3, 4)
    assert sum(p.numel() for p in head.parameters()) == parameters_of(width_for(channels, 11), channels, 11)


def test_all_maps_meet_at_a_quarter_of_the_image_and_each_counts() -> None:
    head = Matched([Map(3, 18, 22), Map(5, 9, 11), Map(7, 5, 6)], 4, (36, 44)).eval()
    maps = [torch.randn(2, c, h, w, requires_grad=True) for c, h, w in ((3, 18, 22), (5, 9, 11), (7, 5, 6))]
    out = head(maps)
    assert out.shape == (2, 4, 9, 11)
    out.square().sum().backward()
    assert all(x.grad.abs().sum() > 0 for x in maps)


def test_a_finer_map_is_averaged_and_a_coarser_one_interpolated() -> None:
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert torch.equal(resized(x, (2, 2)), x.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2)))
    assert torch.allclose(resized(torch.ones(1, 1, 2, 2), (5, 3)), torch.ones(1, 1, 5, 3))

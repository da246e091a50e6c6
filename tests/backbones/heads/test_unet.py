"""U-Net's decoder: its parameters in closed form, the maps that it joins, and where its output comes from."""

from itertools import pairwise

import pytest
import torch
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder

from bias_lab.backbones.heads.interface import Map
from bias_lab.backbones.heads.unet import Join, UNet, levels
from bias_lab.errors import UserError

MAPS = [Map(8, 16, 20), Map(16, 8, 10), Map(24, 8, 10), Map(40, 4, 5)]


def test_parameters_are_those_of_the_formula() -> None:
    head = UNet(MAPS, 5, (16, 20))
    assert head.taken == levels(MAPS) == (0, 2, 3)
    channels, expected = [8, 24, 40], 8 * 5 + 5
    for fine, coarse in pairwise(channels):
        expected += 9 * (fine + coarse) * fine + 9 * fine * fine + 4 * fine  # two convolutions and two norms
    assert sum(p.numel() for p in head.parameters()) == expected


def test_it_is_the_decoder_of_segmentation_models_pytorch() -> None:
    """With the same weights both give the same maps, so shapes and parameters are equal too."""
    head = UNet(MAPS, 5, (16, 20)).eval()
    channels = [MAPS[index].channels for index in head.taken]
    theirs = UnetDecoder([3, *channels], channels[-2::-1], n_blocks=len(channels) - 1).eval()
    ours, names = head.joins.state_dict(), theirs.state_dict()
    for value in ours.values():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.5)  # norms too, whose variances are above 0
    theirs.load_state_dict(dict(zip(names, ours.values(), strict=True)))
    maps = [torch.randn(2, MAPS[index].channels, MAPS[index].rows, MAPS[index].columns) for index in head.taken]
    expected = theirs([torch.zeros(2, 3, 32, 40), *maps])
    assert expected.shape == (2, channels[0], *maps[0].shape[2:])
    torch.testing.assert_close(head(maps), head.classify(expected))


def test_every_level_reaches_the_output_and_a_skip_keeps_its_place() -> None:
    head = UNet(MAPS, 5, (16, 20)).eval()
    maps = [torch.randn(1, MAPS[i].channels, MAPS[i].rows, MAPS[i].columns, requires_grad=True) for i in head.taken]
    out = head(maps)
    assert out.shape == (1, 5, 16, 20)
    out[0, :, 3, 3].sum().backward()
    assert all(x.grad.abs().sum() > 0 for x in maps)
    far = maps[0].grad[0, :, 9:, :]  # two 3x3 convolutions at the finest level see two pixels far
    assert far.abs().max() == 0


def test_a_coarse_map_is_repeated_to_an_odd_size() -> None:
    join = Join(4, 3)
    assert join(torch.randn(2, 4, 3, 4), torch.randn(2, 3, 5, 7)).shape == (2, 3, 5, 7)


def test_maps_of_one_resolution_are_refused() -> None:
    with pytest.raises(UserError, match="U-Net joins maps of several resolutions, and this backbone has one"):
        UNet([Map(8, 4, 4)] * 3, 5, (16, 16))

"""A simple feature pyramid: several resolutions are made from the last map of a plain ViT, then summed and classified.

Li et al. 2022, "Exploring Plain Vision Transformer Backbones for Object Detection", arXiv:2203.16527, section 3: maps
of four, two, one and half times the resolution, each through a 1x1 and a 3x3 convolution with layer norm. They are
enlarged to the finest and summed, as in the semantic branch of Panoptic FPN (arXiv:1901.02446, section 3.1). A
resolution finer than the image's pixels is left out.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn

from bias_lab.backbones.heads.interface import Map, one_resolution

WIDTH = 64  # of every level after its convolutions


class Pyramid(nn.Module):
    """The last map (B, D, H', W') -> logits (B, K, H', W') at the pyramid's finest level. A `Head`."""

    def __init__(self, maps: Sequence[Map], classes: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        one_resolution(maps, "pyramid")
        self.taken = (len(maps) - 1,)
        last = maps[-1]
        stride = image_size[0] // last.rows
        D = last.channels
        levels = [nn.Sequential(enlarged4(D), refined(D // 4))] if stride >= 4 else []
        levels += [nn.Sequential(enlarged2(D), refined(D // 2))] if stride >= 2 else []
        levels += [refined(D)]
        levels += [nn.Sequential(nn.MaxPool2d(2), refined(D))] if min(last.rows, last.columns) >= 2 else []
        self.levels = nn.ModuleList(levels)
        self.classify = nn.Conv2d(WIDTH, classes, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        x: Tensor = self.levels[0](maps[-1])  # (B, 64, H', W')
        for level in self.levels[1:]:
            x = x + F.interpolate(level(maps[-1]), size=x.shape[2:], mode="bilinear", align_corners=False)
        x = self.classify(F.relu(x))  # (B, K, H', W')
        return x


def enlarged4(D: int) -> nn.Module:
    """Return two deconvolutions: (B, D, H', W') -> (B, D/4, 4H', 4W')."""
    finer = nn.ConvTranspose2d(D // 2, D // 4, 2, stride=2)
    return nn.Sequential(*enlarged2(D).children(), LayerNorm2d(D // 2), nn.GELU(), finer)


def enlarged2(D: int) -> nn.Module:
    """Return a deconvolution: (B, D, H', W') -> (B, D/2, 2H', 2W')."""
    return nn.Sequential(nn.ConvTranspose2d(D, D // 2, 2, stride=2))


def refined(width: int) -> nn.Sequential:
    """Return a 1x1 and a 3x3 convolution, each with layer norm: (B, C, H', W') -> (B, 64, H', W')."""
    return nn.Sequential(
        nn.Conv2d(width, WIDTH, 1, bias=False),
        LayerNorm2d(WIDTH),
        nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False),
        LayerNorm2d(WIDTH),
    )

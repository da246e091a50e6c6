"""One decoder for all backbones, of one number of parameters, so that encoders and not decoders are compared.

Up to four maps, evenly spread, are projected to one width, brought to a quarter of the image's resolution and summed,
much as in SegFormer's decoder (Xie et al. 2021, arXiv:2105.15203, section 3.2). Two 3x3 convolutions and a classifier
follow. A backbone with wide maps needs more weights in the projections, so the decoder's width is chosen such that it
has about `BUDGET` parameters. All convolutions see one map size, so the multiply-adds differ by the projections and the
width. A run records them.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from bias_lab.backbones.heads.interface import Map, spread
from bias_lab.backbones.heads.unet import conv_norm_act

BUDGET = 100_000  # parameters
MAPS = 4
STRIDE = 4  # image pixels for each row and column of the decoder's map
LEAST = 8  # width


class Matched(nn.Module):
    """Up to four maps, each (B, C, H', W') -> logits (B, K, H/4, W/4). A `Head`."""

    def __init__(self, maps: Sequence[Map], classes: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.taken = spread(len(maps), MAPS)
        self.size = (-(-image_size[0] // STRIDE), -(-image_size[1] // STRIDE))
        channels = [maps[index].channels for index in self.taken]
        width = width_for(channels, classes)
        self.projections = nn.ModuleList(nn.Conv2d(C, width, 1) for C in channels)
        self.convs = nn.Sequential(conv_norm_act(width, width), conv_norm_act(width, width))
        self.classify = nn.Conv2d(width, classes, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        x: Tensor = resized(self.projections[0](maps[0]), self.size)  # (B, D, H', W')
        for project, other in zip(self.projections[1:], maps[1:], strict=True):
            x = x + resized(project(other), self.size)  # (B, D, H', W')
        x = self.convs(x)  # (B, D, H', W')
        x = self.classify(x)  # (B, K, H', W')
        return x


def resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a map in another size: means of a finer one, bilinear values of a coarser, (B, D, H, W) -> (B, D, H', W').

    A map is finer if both its sides are at least as long.
    """
    if x.shape[2] >= size[0] and x.shape[3] >= size[1]:
        return F.adaptive_avg_pool2d(x, size)
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def parameters_of(width: int, channels: Sequence[int], classes: int) -> int:
    """Return the number of parameters of a decoder of this width.

    >>> parameters_of(8, [16], 2)  # 16*8 + 8, twice 9*8*8 + 2*8, and 8*2 + 2
    1338
    """
    projections = sum(C * width + width for C in channels)
    return projections + 2 * (9 * width * width + 2 * width) + width * classes + classes


def width_for(channels: Sequence[int], classes: int) -> int:
    """Return the width whose decoder has the number of parameters that is nearest to BUDGET."""
    return min(range(LEAST, 256), key=lambda width: abs(parameters_of(width, channels, classes) - BUDGET))

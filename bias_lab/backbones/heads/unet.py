"""U-Net's decoder: from the coarsest map to the finest, each time joined with the encoder's map of that resolution.

Ronneberger et al. 2015, "U-Net", arXiv:1505.04597. As in later implementations, convolutions keep the size of a map and
have a batch norm, and maps are enlarged by repeating their values. A level is as wide as the encoder's map there.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bias_lab.backbones.heads.interface import Map
from bias_lab.errors import UserError


class UNet(nn.Module):
    """Maps of falling resolution, each (B, C, H', W') -> logits (B, K, H', W') at the finest of them. A `Head`."""

    def __init__(self, maps: Sequence[Map], classes: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.taken = levels(maps)
        if len(self.taken) < 2:
            raise UserError(
                "U-Net joins maps of several resolutions, and this backbone has one",
                remedy="use the head linear or matched",
            )
        channels = [maps[index].channels for index in self.taken]
        self.joins = nn.ModuleList(
            Join(coarse, fine) for fine, coarse in zip(channels[-2::-1], channels[:0:-1], strict=True)
        )
        self.classify = nn.Conv2d(channels[0], classes, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        x: Tensor = maps[-1]  # (B, C', H', W')
        for join, skip in zip(self.joins, maps[-2::-1], strict=True):
            x = join(x, skip)  # (B, C', H', W')
        x = self.classify(x)  # (B, K, H', W')
        return x


class Join(nn.Module):
    """Enlarge a coarse map and join it with a finer one: (B, C', H', W') and (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.conv1 = conv_norm_act(coarse + fine, fine)
        self.conv2 = conv_norm_act(fine, fine)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        H, W = skip.shape[2:]
        x = F.interpolate(x, size=(H, W), mode="nearest")  # (B, C', H, W)
        x = torch.cat([x, skip], dim=1)  # (B, C', H, W)
        x = self.conv1(x)  # (B, C, H, W)
        x = self.conv2(x)  # (B, C, H, W)
        return x


def conv_norm_act(width: int, out: int) -> nn.Sequential:
    """Return a 3x3 convolution with batch norm and ReLU: (B, C, H, W) -> (B, C', H, W)."""
    conv = nn.Conv2d(width, out, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU())


def levels(maps: Sequence[Map]) -> tuple[int, ...]:
    """Return the last map of each resolution, in order.

    >>> levels([Map(8, 16, 16), Map(16, 8, 8), Map(24, 8, 8)])
    (0, 2)
    """
    last = {(at.rows, at.columns): index for index, at in enumerate(maps)}
    return tuple(sorted(last.values()))

"""Backbones of a user, small enough for tests, as callables with timm's keyword arguments."""

import torch
from torch import Tensor, nn


class Tiny(nn.Module):
    """A strided convolution, dropout and a linear head, (B, C, H, W) -> (B, K)."""

    def __init__(self, num_classes: int, in_chans: int, drop: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_chans, 8, 7, stride=4)
        self.drop = nn.Dropout(drop)
        self.head = nn.Linear(8, num_classes) if num_classes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.conv(x).relu().mean((2, 3))))

    def get_classifier(self) -> nn.Module:
        return self.head


def tiny(*, num_classes: int = 1000, in_chans: int = 3, drop_path_rate: float = 0.0, **kwargs: object) -> nn.Module:
    return Tiny(num_classes, in_chans, drop_path_rate)


class Exploding(Tiny):
    """A backbone whose fifth forward in training returns NaN."""

    def __init__(self, num_classes: int, in_chans: int, drop: float) -> None:
        super().__init__(num_classes, in_chans, drop)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += self.training
        y = super().forward(x)
        return y * torch.nan if self.training and self.calls == 5 else y


def exploding(*, num_classes: int = 1000, in_chans: int = 3, **kwargs: object) -> nn.Module:
    return Exploding(num_classes, in_chans, 0.0)


def shallow(*, num_classes: int = 1000, in_chans: int = 3) -> nn.Module:
    """Return a backbone without stochastic depth or a keyword for it."""
    return Tiny(num_classes, in_chans, 0.0)


def narrow(**keywords: int) -> nn.Module:
    """Return a backbone whose classifier has the wrong input width."""
    model = Tiny(keywords["num_classes"], keywords["in_chans"], 0.0)
    model.head = nn.Linear(9, keywords["num_classes"])
    return model


def maps(**keywords: int) -> nn.Module:
    """Return a backbone with an output at every pixel."""
    return nn.Conv2d(keywords["in_chans"], keywords["num_classes"], 1)

"""Priors about norms: what the features of an image are compared with before the next layer reads them."""

from typing import Any

from torch import nn

CHANNELS = 8  # of a group, at least


class NoBatchNorm:
    """Replaces each batch norm of a ResNet by a group norm (Wu and He 2018, arXiv:1803.08494).

    Then an image's output does not depend on the other images of its batch, in training either, and evaluation uses no
    running statistics. The control asks whether the batch's statistics make a CNN's lead. Leaving the norms out, as
    Fixup (arXiv:1901.09321) and SkipInit (arXiv:2002.10444) do, would take away more than that: a ViT has norms too,
    which see one sample at a time, and both methods also change how residual branches start. A group norm leaves the
    initial weights, the last norm of a branch that starts at 0, and the number of parameters as they are.

    Groups are of 8 channels, because the paper's 32 groups do not divide the widths of small ResNets.
    """

    def __init__(self, number: int | None) -> None:
        pass

    def keywords(self) -> dict[str, Any]:
        return {}

    def change(self, model: nn.Module) -> None:
        for parent in list(model.modules()):
            for name, norm in list(parent.named_children()):
                if isinstance(norm, nn.BatchNorm2d):
                    setattr(parent, name, like_batch_norm(norm))


def like_batch_norm(norm: nn.BatchNorm2d) -> nn.GroupNorm:
    """Return a group norm with the parameters and the epsilon of a batch norm."""
    channels = norm.num_features
    wide = next((width for width in range(CHANNELS, channels) if channels % width == 0), channels)
    group_norm = nn.GroupNorm(channels // wide, channels, eps=norm.eps)
    group_norm.weight, group_norm.bias = norm.weight, norm.bias
    return group_norm

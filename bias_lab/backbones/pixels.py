"""A control that learns nothing about images: its features are the pixels themselves.

Read out linearly it is logistic regression on pixels, and by `knn` it is nearest neighbours on pixels. What a trained
backbone adds to the labels lies above these two. It has no weights below its classifier, so no regime and no protocol
that trains can use it (`catalogue.Architecture.learns`).

The pixels are normalised by the mean and the standard deviation of each channel, as for every backbone. The protocol
`knn` compares them by their cosine, which is the Euclidean distance of images that are scaled to one norm: an image's
overall contrast with the mean pixel does not matter. On Fashion-MNIST it is as good as Euclidean nearest neighbours
(`test_the_cosine_of_pixels_is_no_weak_neighbour`), so it is a fair control.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from bias_lab.backbones import shared
from bias_lab.backbones.shared import Size, init_linear, pair


class Pixels(nn.Module):
    """(B, C, H, W) -> logits (B, K), linear in the pixels. The map of features is the image itself.

    one_unit: all features have the same unit, so the linear probe scales them by one number and not each by its own
    deviation. A border that is nearly always black would else count as much as the object.
    """

    one_unit = True

    def __init__(self, *, img_size: Size = 28, in_chans: int = 3, num_classes: int = 1000) -> None:
        super().__init__()
        shared.check_ends(in_chans, num_classes)
        self.img_size = pair(img_size)
        self.num_classes = num_classes
        self.in_chans = self.num_features = in_chans
        self.head_hidden_size = in_chans * self.img_size[0] * self.img_size[1]
        self.feature_info: list[dict[str, Any]] = [dict(module="", num_chs=in_chans, reduction=1)]
        self.reset_classifier(num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))  # (B, K)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the images as they are, (B, C, H, W)."""
        shared.check_size(x, self.img_size)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits, (B, C, H, W) -> (B, K), or with pre_logits the pixels as one vector, (B, C*H*W)."""
        x = x.flatten(1)  # (B, C*H*W)
        return x if pre_logits else self.head(x)  # (B, K)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return the one map that there is, the image (B, C, H, W). There is no norm."""
        shared.check_maps(output_fmt)
        shared.take(1, indices)
        x = self.forward_features(x)
        return [x] if intermediates_only else (x, [x])

    # --- timm's contract ---------------------------------------------------------------------------------------------

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put in a new head. Pixels are not pooled, so global_pool changes nothing."""
        like = next(self.parameters(), None)
        self.num_classes = num_classes
        self.head: nn.Module = nn.Linear(self.head_hidden_size, num_classes) if num_classes > 0 else nn.Identity()
        init_linear(self.head)
        if like is not None:
            self.head.to(like)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return dict(stem=r"^$", blocks=r"^$")

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Do nothing, since no inner value is kept."""


SIZES: dict[str, dict[str, Any]] = {"pixels": dict(img_size=28)}

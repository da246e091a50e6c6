"""Priors about pooling: how the features of many places become those of one image."""

from typing import Any

from torch import nn


class MeanPooling:
    """Gives the classifier of a plain ViT the mean of its patches instead of a class token.

    This is timm's `global_pool="avg"` with `class_token=False`: the mean over the patches comes first, then the last
    norm. A CNN reads its class from such a mean too, in which every place counts alike. Beyer et al. 2022,
    arXiv:2205.01580, drop the class token of plain ViTs in the same way.
    """

    def __init__(self, number: int | None) -> None:
        pass

    def keywords(self) -> dict[str, Any]:
        return dict(class_token=False, global_pool="avg")

    def change(self, model: nn.Module) -> None:
        pass

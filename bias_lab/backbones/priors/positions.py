"""Priors about positions: a plain ViT learns where its patches are, and here it is told."""

from typing import Any

import torch
from torch import Tensor, nn


def sine_cosine(rows: int, columns: int, width: int) -> Tensor:
    """Return fixed position embeddings (rows*columns, width), half the channels for the row and half for the column.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5, in two dimensions as in MAE, arXiv:2111.06377.
    Raise ValueError if the width is not a multiple of 4.
    """
    if width % 4:
        raise ValueError(f"a width of {width} can't hold sines and cosines of two directions: take a multiple of 4")
    frequencies = 10_000 ** -(torch.arange(width // 4) / (width // 4))  # (W/4,)
    at = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).float()  # (N, 2)
    angles = at[:, :, None] * frequencies  # (N, 2, W/4)
    return torch.cat([angles.sin(), angles.cos()], dim=2).flatten(1)  # (N, W)


class SincosPositions:
    """Gives a plain ViT the fixed positions of `sine_cosine` instead of learnt ones.

    They stay fixed, as in MoCo v3 (arXiv:2104.02057) and in MAE's pretraining (arXiv:2111.06377), so that nothing about
    the places of patches has to be learnt from the labelled images. A class token's position is 0, as in both. The
    regime `mae` starts from the same values and trains them. With this prior they stay fixed there too.
    """

    def __init__(self, number: int | None) -> None:
        pass

    def keywords(self) -> dict[str, Any]:
        return {}

    def change(self, model: nn.Module) -> None:
        vit: Any = model
        positions: nn.Parameter = vit.pos_embed  # (1, N + prefix, D)
        with torch.no_grad():
            positions.zero_()
            rows, columns = vit.patch_embed.grid_size
            positions[:, vit.num_prefix_tokens :] = sine_cosine(rows, columns, positions.shape[-1])  # (N, D)
        positions.requires_grad_(False)

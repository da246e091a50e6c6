"""A linear classifier on each place of the last map.

It is the natural head of a plain ViT, which keeps one resolution up to its last block (Strudel et al. 2021,
"Segmenter", arXiv:2105.05633, section 3.2, linear decoder).
"""

from collections.abc import Sequence

from torch import Tensor, nn

from bias_lab.backbones.heads.interface import Map


class Linear(nn.Module):
    """The last map (B, C, H', W') -> logits (B, K, H', W'). A `Head`."""

    def __init__(self, maps: Sequence[Map], classes: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.taken = (len(maps) - 1,)
        self.classify = nn.Conv2d(maps[-1].channels, classes, 1)
        nn.init.trunc_normal_(self.classify.weight, std=0.02)
        nn.init.zeros_(self.classify.bias)  # type: ignore[arg-type]

    def forward(self, maps: list[Tensor]) -> Tensor:
        x: Tensor = self.classify(maps[-1])  # (B, K, H', W')
        return x

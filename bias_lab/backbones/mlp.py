"""A control without any assumption about images: an MLP on the pixels as one long vector.

Every weight of its first layer sees one pixel, so that neighbours, patches and places mean nothing to it: if all images
are permuted in the same way, it learns the same. The blocks are those of the inverted-bottleneck MLP of Bachmann et al.
2023, "Scaling MLPs: A Tale of Inductive Bias", arXiv:2306.13575: norm, wider layer, activation, back, and a residual
connection. timm has no such model (its Mixer is an MLP on patches).
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from bias_lab.backbones import shared
from bias_lab.backbones.linear import Linear
from bias_lab.backbones.shared import DropPath, Mlp, Size, init_linear, pair


class MlpBlock(nn.Module):
    """A residual block on a vector, (B, D) -> (B, D)."""

    def __init__(self, width: int, *, mlp_ratio: float = 4.0, drop_path: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, int(width * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.mlp(self.norm(x)))  # (B, D)
        return x


class ImageMlp(nn.Module):
    """(B, C, H, W) -> logits (B, K). A hidden vector counts as a map of one place, (B, D, 1, 1)."""

    def __init__(
        self,
        *,
        img_size: Size = 28,
        in_chans: int = 3,
        num_classes: int = 1000,
        embed_dim: int = 112,
        depth: int = 2,
        mlp_ratio: float = 4.0,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        shared.check_ends(in_chans, num_classes)
        self.img_size, self.in_chans = pair(img_size), in_chans
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = self.embed_dim = embed_dim
        self.grad_checkpointing = False

        H, W = self.img_size
        self.embed = Linear(in_chans * H * W, embed_dim)
        rates = shared.drop_path_rates(drop_path_rate, depth)
        self.blocks = nn.Sequential(*(MlpBlock(embed_dim, mlp_ratio=mlp_ratio, drop_path=rate) for rate in rates))
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self.head_drop = nn.Dropout(drop_rate)
        self.head: nn.Module = nn.Linear(embed_dim, num_classes) if num_classes > 0 else nn.Identity()

        self.feature_info: list[dict[str, Any]] = [
            dict(module=f"blocks.{i}", num_chs=embed_dim, reduction=max(H, W)) for i in range(depth)
        ]
        self.apply(init_linear)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))  # (B, K)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the features after the last norm as a map of one place: (B, C, H, W) -> (B, D, 1, 1)."""
        shared.check_size(x, self.img_size)
        x = self.embed(x.flatten(1))  # (B, D)
        for block in self.blocks:
            x = shared.run(block, x, checkpointing=self.grad_checkpointing)  # (B, D)
        x = self.norm(x)
        return x[:, :, None, None]  # (B, D, 1, 1)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits, (B, D, 1, 1) -> (B, K), or with pre_logits what the classifier reads, (B, D)."""
        x = self.head_drop(x.flatten(1))  # (B, D)
        return x if pre_logits else self.head(x)  # (B, K)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return the blocks' outputs, each a map of one place, (B, D, 1, 1)."""
        shared.check_maps(output_fmt)
        shared.check_size(x, self.img_size)
        taken, maps = shared.take(len(self.blocks), indices), []
        x = self.embed(x.flatten(1))  # (B, D)
        for i, block in enumerate(self.blocks):
            x = shared.run(block, x, checkpointing=self.grad_checkpointing)  # (B, D)
            if i in taken:
                maps.append((self.norm(x) if norm else x)[:, :, None, None])  # (B, D, 1, 1)
        return maps if intermediates_only else (self.norm(x)[:, :, None, None], maps)

    # --- timm's contract ---------------------------------------------------------------------------------------------

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put in a new head. There is one place, so global_pool changes nothing."""
        self.num_classes = num_classes
        head: nn.Module = nn.Linear(self.embed_dim, num_classes) if num_classes > 0 else nn.Identity()
        init_linear(head)
        self.head = head.to(self.embed.weight)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return dict(stem=r"^embed", blocks=[(r"^blocks\.(\d+)", None), (r"^norm", (99999,))])

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.grad_checkpointing = enable


# The widths are such that all micro sizes lie within 2x of one another in parameters, and all mini sizes too, on grey
# images of 28 pixels and on colour images of 32. The first layer has D weights for each value of an image, so an MLP on
# larger images is larger than the other backbones of its size.
SIZES: dict[str, dict[str, Any]] = {
    "mlp_micro": dict(img_size=28, embed_dim=112, depth=2),
    "mlp_mini": dict(img_size=32, embed_dim=320, depth=3),
}

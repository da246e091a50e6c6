"""The Swin transformer attends within windows, which shift from block to block, in a pyramid of maps.

Liu et al. 2021, "Swin Transformer", arXiv:2103.14030. In timm it is `swin_transformer`.
The official code and timm add four points to the paper. A window larger than the map shrinks to the map and is not
shifted. The mask is -100, not minus infinity. A map that windows don't fill is padded with zeros *after* the shift, and
the padding takes part in attention. timm merges patches at the start of a stage, the official code at the end.
LayerNorm's epsilon is 1e-5. Maps are (B, H, W, D) throughout. `fast_swin.py` computes the same sooner.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from timm.models.swin_transformer import checkpoint_filter_fn as checkpoint_filter_fn  # fits published weights
from torch import Tensor, nn

from bias_lab.backbones import fast_swin, shared, windows
from bias_lab.backbones.linear import Linear
from bias_lab.backbones.shared import DropPath, Head, Mlp, PatchEmbed, Size, pair
from bias_lab.backbones.windows import Pair


class SwinTransformer(nn.Module):
    """(B, C, H, W) -> logits (B, K). The keywords are timm's, and `SIZES` below holds the published models."""

    output_fmt = "NHWC"  # the layout of forward_features, as in timm

    def __init__(
        self,
        *,
        img_size: Size = 224,
        patch_size: Size = 4,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: Size = 7,
        mlp_ratio: float = 4.0,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
    ) -> None:
        super().__init__()
        shared.check_ends(in_chans, num_classes)
        shared.check_pool(global_pool)
        self.num_classes, self.in_chans, self.global_pool = num_classes, in_chans, global_pool
        self.embed_dim = embed_dim
        self.num_features = self.head_hidden_size = embed_dim * 2 ** (len(depths) - 1)
        self.patch_embed = PatchEmbed(img_size, patch_size, in_chans, embed_dim, norm=nn.LayerNorm(embed_dim))
        self._reference = self.patch_embed.grid_size, pair(window_size)  # a resized map keeps this share of a window
        rates = iter(shared.drop_path_rates(drop_path_rate, sum(depths)))
        stages: list[Stage] = []
        for i, (depth, heads) in enumerate(zip(depths, num_heads, strict=True)):
            map_size = stages[-1].map_size if stages else self.patch_embed.grid_size
            drop_path = [next(rates) for _ in range(depth)]
            stages.append(Stage(embed_dim * 2**i, heads, map_size, i > 0, pair(window_size), drop_path, mlp_ratio))
        self.layers = nn.Sequential(*stages)
        self.norm: nn.Module = nn.LayerNorm(self.num_features)
        self.head = Head(self.num_features, num_classes, drop_rate)
        self.feature_info: list[dict[str, Any]] = [
            dict(module=f"layers.{i}", num_chs=embed_dim * 2**i) for i in range(len(depths))
        ]
        self._note_reductions()
        self.apply(shared.init_linear)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))  # (B, K)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last stage's map after the norm: (B, C, H, W) -> (B, H', W', D')."""
        x = self.patch_embed(x)  # (B, H/P, W/P, D)
        x = self.layers(x)  # (B, H', W', D')
        x = self.norm(x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits, (B, H, W, D) -> (B, K), or with pre_logits what the classifier reads, (B, D)."""
        if self.global_pool == "avg":
            x = x.mean((1, 2))  # (B, D)
        x = self.head.drop(x)
        return x if pre_logits else self.head.fc(x)  # (B, K)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return the stages' maps, each (B, D, H, W). `norm` applies to the last alone, whose width it has."""
        shared.check_maps(output_fmt)
        taken, maps = shared.take(len(self.layers), indices), []
        x = self.patch_embed(x)  # (B, H/P, W/P, D)
        for i, stage in enumerate(self.layers):
            x = stage(x)  # (B, H', W', D')
            if i in taken:
                y = self.norm(x) if norm and i == len(self.layers) - 1 else x
                maps.append(y.permute(0, 3, 1, 2).contiguous())  # (B, D', H', W')
        return maps if intermediates_only else (self.norm(x), maps)

    # --- timm's contract ---------------------------------------------------------------------------------------------

    def get_classifier(self) -> nn.Module:
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        if global_pool is not None:
            shared.check_pool(global_pool)
            self.global_pool = global_pool
        self.num_classes = num_classes
        self.head.reset(num_classes, like=self.patch_embed.proj.weight)

    def no_weight_decay(self) -> set[str]:
        return {name for name, _ in self.named_parameters() if "relative_position_bias_table" in name}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        if coarse:
            return dict(stem=r"^patch_embed", blocks=r"^layers\.(\d+)")
        merging, blocks = (r"^layers\.(\d+).downsample", (0,)), (r"^layers\.(\d+)\.\w+\.(\d+)", None)
        return dict(stem=r"^patch_embed", blocks=[merging, blocks, (r"^norm", (99999,))])

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        for stage in self.layers:
            cast(Stage, stage).grad_checkpointing = enable

    def set_input_size(
        self, img_size: Size | None = None, patch_size: Size | None = None, window_size: Size | None = None
    ) -> None:
        """Take images, patches, windows of another size. Without window_size, windows keep their share of the map."""
        self.patch_embed.set_input_size(img_size, patch_size)
        map_size = self.patch_embed.grid_size
        if window_size is not None:
            self._reference = map_size, pair(window_size)
        rows, columns = (max(1, w * new // old) for new, old, w in zip(map_size, *self._reference, strict=True))
        for stage in self.layers:
            stage = cast(Stage, stage)
            stage.set_input_size(map_size, (rows, columns))
            map_size = stage.map_size
        self._note_reductions()

    def _note_reductions(self) -> None:
        for i, info in enumerate(self.feature_info):
            info["reduction"] = max(self.patch_embed.patch_size) * 2**i

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop what `forward_intermediates(indices)` never reads, and return the indices counted from the start."""
        taken = shared.take(len(self.layers), indices)
        if prune_norm or max(taken) < len(self.layers) - 1:
            self.norm = nn.Identity()  # it has the width of the last stage
        self.layers = self.layers[: max(taken) + 1]
        if prune_head:
            self.reset_classifier(0, "")
        return taken


class Stage(nn.Module):
    """Blocks at one resolution, after the patch merging that halves it (the first stage has none).

    (B, H, W, D) in, (B, H', W', D') out, and map_size is (H', W').
    """

    def __init__(
        self,
        width: int,
        heads: int,
        map_size: Pair,
        merge: bool,
        window: Pair,
        drop_path: Sequence[float],
        mlp_ratio: float,
    ) -> None:
        super().__init__()
        self.grad_checkpointing = False
        self.downsample = PatchMerging(width // 2) if merge else nn.Identity()
        fitting, _ = windows.window_and_shift(self._inside(map_size), window, shifted=False)
        self.blocks = nn.Sequential(*(Block(width, heads, fitting, rate, mlp_ratio) for rate in drop_path))
        self.set_input_size(map_size, window)

    def forward(self, x: Tensor) -> Tensor:
        x = self.downsample(x)  # (B, H, W, D)
        if fast_swin.usable(self.blocks, KINDS):
            return fast_swin.run_blocks(self, x)  # the same as the next lines
        for block in self.blocks:
            x = shared.run(block, x, checkpointing=self.grad_checkpointing)  # (B, H, W, D)
        return x

    def set_input_size(self, map_size: Pair, window: Pair) -> None:
        """Fit the blocks to a map, whose size is that before the merging. Every second block is shifted."""
        self.map_size = self._inside(map_size)
        for i, block in enumerate(self.blocks):
            cast(Block, block).set_input_size(self.map_size, window, shifted=i % 2 == 1)
        fast_swin.keep_orders(self)

    def _inside(self, map_size: Pair) -> Pair:
        if isinstance(self.downsample, nn.Identity):
            return map_size
        return (map_size[0] + 1) // 2, (map_size[1] + 1) // 2


class PatchMerging(nn.Module):
    """Halve a map by making one token of 2x2, (B, H, W, D) -> (B, H/2, W/2, 2D). An odd side is padded."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        B, H, W, D = x.shape
        if H % 2 or W % 2:
            x = F.pad(x, (0, 0, 0, W % 2, 0, H % 2))  # (B, H', W', D), both sides even now
            B, H, W, D = x.shape
        x = x.reshape(B, H // 2, 2, W // 2, 2, D)  # (B, H/2, 2, W/2, 2, D)
        x = x.permute(0, 1, 3, 4, 2, 5).flatten(3)  # (B, H/2, W/2, 4D)  columns before rows, as in the official weights
        x = self.reduction(self.norm(x))  # (B, H/2, W/2, 2D)
        return x


class Block(nn.Module):
    """Attention within windows, then an MLP on each token: (B, H, W, D) -> (B, H, W, D)."""

    attn_mask: Tensor | None

    def __init__(self, width: int, heads: int, window: Pair, drop_path: float, mlp_ratio: float) -> None:
        super().__init__()
        self.shift: Pair = (0, 0)
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, window)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, int(width * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        _, H, W, _ = x.shape
        window, (down, right) = self.attn.window_size, self.shift
        y = self.norm1(x).roll((-down, -right), (1, 2))  # (B, H, W, D)
        y = F.pad(y, (0, 0, 0, -W % window[1], 0, -H % window[0]))  # (B, H', W', D)
        padded = y.shape[1], y.shape[2]
        y = windows.window_partition(y, window).flatten(1, 2)  # (B*G, A, D)
        y = self.attn(y, self.attn_mask)  # (B*G, A, D)
        y = windows.window_reverse(y.unflatten(1, window), window, *padded)[:, :H, :W]  # (B, H, W, D)
        x = x + self.drop_path(y.roll((down, right), (1, 2)))  # (B, H, W, D)
        x = x + self.drop_path(self.mlp(self.norm2(x)))  # (B, H, W, D)
        return x

    def set_input_size(self, map_size: Pair, window: Pair, shifted: bool) -> None:
        """Fit the window, its shift by a half, the mask and the bias table to a map."""
        window, self.shift = windows.window_and_shift(map_size, window, shifted)
        self.attn.set_window_size(window)
        windows.keep(self, "attn_mask", windows.shift_mask(map_size, window, self.shift))


class WindowAttention(nn.Module):
    """Attention within windows, with a learned bias for each relative position: (B*G, A, D) -> (B*G, A, D)."""

    relative_position_index: Tensor

    def __init__(self, width: int, heads: int, window: Pair) -> None:
        super().__init__()
        shared.check_heads(width, heads)
        self.num_heads, self.window_size = heads, window
        offsets = (2 * window[0] - 1) * (2 * window[1] - 1)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(offsets, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        windows.keep(self, "relative_position_index", windows.relative_position_index(window))
        self.qkv = Linear(width, 3 * width)
        self.proj = Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = shared.split_heads(self.qkv(x), 3, self.num_heads)  # each (B*G, h, A, d)
        bias = self.bias(mask)  # (1, h, A, A), or with the mask of a shift (G, h, A, A)
        if torch.is_grad_enabled():
            x = fast_swin.attend(q, k, v, bias)  # (B*G, h, A, d)  the same as the next two lines
        else:
            bias = bias.expand(q.shape[0] // bias.shape[0], *bias.shape).flatten(0, 1)  # (B*G, h, A, A)
            x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))  # (B*G, h, A, d)
        x = self.proj(x.transpose(1, 2).flatten(2))  # (B*G, A, D)
        return x

    def bias(self, mask: Tensor | None) -> Tensor:
        """Return what is added before the softmax: (1, h, A, A), or with the mask of a shift (G, h, A, A)."""
        A = self.window_size[0] * self.window_size[1]
        bias = self.relative_position_bias_table.index_select(0, self.relative_position_index.flatten())  # (A*A, h)
        bias = bias.t().reshape(1, self.num_heads, A, A)  # (1, h, A, A)
        return bias if mask is None else bias + mask.unsqueeze(1)  # (G, h, A, A)

    def set_window_size(self, window: Pair) -> None:
        """Take another window. timm's function resamples the table of relative positions."""
        if window == self.window_size:
            return
        table = self.relative_position_bias_table
        resampled = windows.resample_table(table, self.window_size, window)
        self.window_size = window
        self.relative_position_bias_table = nn.Parameter(resampled, requires_grad=table.requires_grad)
        windows.keep(self, "relative_position_index", windows.relative_position_index(window))


KINDS = (nn.Sequential, Block, nn.LayerNorm, WindowAttention, Linear, DropPath, Mlp, nn.GELU)  # in a stage as built

STEADY: dict[str, Any] = dict(drop_path_rate=0.0)  # published sizes train with 0.1
SIZES: dict[str, dict[str, Any]] = {
    "swin_micro": dict(img_size=28, patch_size=2, embed_dim=32, depths=(2, 2, 1), num_heads=(1, 2, 4), **STEADY),
    "swin_mini": dict(
        img_size=32, patch_size=2, window_size=4, embed_dim=64, depths=(2, 2, 4), num_heads=(2, 4, 8), **STEADY
    ),
    "swin_tiny_patch4_window7_224": dict(embed_dim=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24)),
    "swin_small_patch4_window7_224": dict(embed_dim=96, depths=(2, 2, 18, 2), num_heads=(3, 6, 12, 24)),
    "swin_base_patch4_window7_224": dict(embed_dim=128, depths=(2, 2, 18, 2), num_heads=(4, 8, 16, 32)),
    "swin_base_patch4_window12_384": dict(
        img_size=384, window_size=12, embed_dim=128, depths=(2, 2, 18, 2), num_heads=(4, 8, 16, 32)
    ),
}

"""The Swin transformer: attention within windows, windows that shift from block to block, and a pyramid of maps.

Liu et al. 2021, "Swin Transformer", arXiv:2103.14030. In timm: `swin_transformer`.
Where the official code goes beyond the paper, and timm with it: a window larger than the map shrinks to the map and is
not shifted; the mask is -100, not minus infinity; a map that windows don't fill is padded with zeros *after* the
shift, and the padding takes part in attention; timm merges patches at the start of a stage, the official code at the
end. LayerNorm's epsilon is 1e-5. Maps are (B, H, W, D) throughout.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bias_lab.backbones import shared, windows
from bias_lab.backbones.shared import DropPath, Head, Mlp, PatchEmbed, Size, pair
from bias_lab.backbones.windows import Pair
from bias_lab.errors import UserError


class SwinTransformer(nn.Module):
    """(B, C, H, W) -> logits (B, K). Keywords as timm's; sizes of the published models stand below, in `SIZES`."""

    output_fmt = "NHWC"  # of forward_features, as timm's

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
        """(B, C, H, W) -> the last stage's map after the norm, (B, H', W', D')."""
        x = self.patch_embed(x)  # (B, H/P, W/P, D)
        x = self.layers(x)  # (B, H', W', D')
        x = self.norm(x)
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(B, H, W, D) -> logits (B, K), or with pre_logits what the classifier reads, (B, D)."""
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
        """The stages' maps, (B, D, H, W) each; `norm` is for the last alone, whose width it has."""
        if output_fmt != "NCHW":
            raise UserError(f"output_fmt '{output_fmt}' is unknown", "'NCHW'")
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
        """Take images, patches, windows of another size; without window_size, windows keep their share of the map."""
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
        """Drop what `forward_intermediates(indices)` never reads; returns the indices as counted from the start."""
        taken = shared.take(len(self.layers), indices)
        if prune_norm or max(taken) < len(self.layers) - 1:
            self.norm = nn.Identity()  # it fits the last stage alone
        self.layers = self.layers[: max(taken) + 1]
        if prune_head:
            self.reset_classifier(0, "")
        return taken


class Stage(nn.Module):
    """Blocks at one resolution, before them (but in the first stage) the merging that halves it.

    (B, H, W, D) in, (B, H', W', D') out; map_size is (H', W'). In between, tokens lie in the order of the blocks'
    windows, so that a window is a slice: one gather between two blocks takes the place of the official code's shift,
    partition, reverse and shift back, and computes the same.
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
        B, H, W, D = x.shape
        x = x.flatten(1, 2)  # (B, H*W, D)
        for i, block in enumerate(self.blocks):
            x = gather(x, self._buffers[f"to_block{i}"])  # (B, G*A, D)
            if self.grad_checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False)  # (B, G*A, D)
            else:
                x = by_samples(block, x)  # (B, G*A, D)
        x = gather(x, self._buffers["to_map"])  # (B, H*W, D)
        return x.reshape(B, H, W, D)

    def set_input_size(self, map_size: Pair, window: Pair) -> None:
        """map_size: of what comes in, before the merging. Every second block is shifted by half a window."""
        self.map_size = self._inside(map_size)
        slots = torch.arange(self.map_size[0] * self.map_size[1], device="cpu")  # where each token of the map lies
        for i, block in enumerate(self.blocks):
            order, next_slots = cast(Block, block).set_input_size(self.map_size, window, shifted=i % 2 == 1)
            keep(self, f"to_block{i}", moving(slots[order]))
            slots = next_slots
        keep(self, "to_map", moving(slots))

    def _inside(self, map_size: Pair) -> Pair:
        if isinstance(self.downsample, nn.Identity):
            return map_size
        return (map_size[0] + 1) // 2, (map_size[1] + 1) // 2


def gather(x: Tensor, index: Tensor | None) -> Tensor:
    """Put tokens in another order: (B, L, D) -> (B, len(index), D); no index leaves them."""
    return x if index is None else x.index_select(1, index)


TOKENS = 2048  # a thread, at a time; measured, 1024 to 3136 do alike


def by_samples(block: nn.Module, x: Tensor) -> Tensor:
    """`block(x)`, in inference on a CPU a few samples at a time: (B, L, D) -> (B, L, D).

    No two samples meet in a block, so it computes the same. What it makes on the way, many times its input, stays small
    enough to be handed out again: in a process that never trained, and so never grew its heap, a large batch asks the
    system for fresh pages in every block. Not where someone watches a part, who is owed the whole batch at once.
    """
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    recorded = tracing or torch.compiler.is_compiling()  # for batches of any size
    if torch.is_grad_enabled() or recorded or x.device.type != "cpu":
        return cast(Tensor, block(x))
    samples = max(1, TOKENS * torch.get_num_threads() // x.shape[1])
    parts = list(block.modules())
    if samples >= len(x) or any(part.training for part in parts) or shared.hooked(*parts):
        return cast(Tensor, block(x))
    return torch.cat([block(few) for few in torch.split(x, samples)])  # (B, L, D)


def keep(module: nn.Module, name: str, value: Tensor | None) -> None:
    """Keep what follows from the map's size as a buffer, where and in the precision of the module's parameters."""
    like = next(module.parameters())
    if value is not None and not like.is_meta:
        value = value.to(like.device, like.dtype if value.is_floating_point() else value.dtype)
    module.register_buffer(name, value, persistent=False)


def moving(index: Tensor) -> Tensor | None:
    """The indices of a gather, or None where they would move nothing."""
    return None if torch.equal(index, torch.arange(len(index), device="cpu")) else index


class PatchMerging(nn.Module):
    """Halve a map: 2x2 tokens side by side become one, (B, H, W, D) -> (B, H/2, W/2, 2D); an odd side is padded."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        B, H, W, D = x.shape
        if H % 2 or W % 2:
            x = F.pad(x, (0, 0, 0, W % 2, 0, H % 2))  # (B, H', W', D), both sides even now
            B, H, W, D = x.shape
        x = x.reshape(B, H // 2, 2, W // 2, 2, D)  # (B, H/2, 2, W/2, 2, D)
        x = x.permute(0, 1, 3, 4, 2, 5).flatten(3)  # (B, H/2, W/2, 4D): columns before rows, as the official weights
        x = self.reduction(self.norm(x))  # (B, H/2, W/2, 2D)
        return x


class Block(nn.Module):
    """Attention within windows, then the MLP; (B, G*A, D) in and out, tokens in the order of this block's windows."""

    attn_mask: Tensor | None
    padding: Tensor | None

    def __init__(self, width: int, heads: int, window: Pair, drop_path: float, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, window)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, int(width * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        B, L, D = x.shape
        y = self.norm1(x)  # (B, G*A, D)
        if self.padding is not None:
            y = y.masked_fill(self.padding, 0.0)  # (B, G*A, D)  what fills a window up is 0 after the norm
        y = self.attn(y.reshape(-1, self.attn.area, D), self.attn_mask)  # (B*G, A, D)
        x = x + self.drop_path(y.reshape(B, L, D))  # (B, G*A, D)
        x = x + self.drop_path(self.mlp(self.norm2(x)))  # (B, G*A, D)
        return x

    def set_input_size(self, map_size: Pair, window: Pair, shifted: bool) -> tuple[Tensor, Tensor]:
        """Fit mask and bias table to a map; gives the order of the windows' tokens and their slots (`window_order`)."""
        window, shift = windows.window_and_shift(map_size, window, shifted)
        self.attn.set_window_size(window)
        keep(self, "attn_mask", windows.shift_mask(map_size, window, shift))
        order, slots = windows.window_order(map_size, window, shift)
        padding = order < 0
        keep(self, "padding", padding.unsqueeze(1) if padding.any() else None)
        return order.clamp(min=0), slots


class WindowAttention(nn.Module):
    """Attention within windows, with a learned bias for each relative position; (B*G, A, D) in and out."""

    relative_position_index: Tensor

    def __init__(self, width: int, heads: int, window: Pair) -> None:
        super().__init__()
        shared.check_heads(width, heads)
        self.heads, self.window_size = heads, window
        offsets = (2 * window[0] - 1) * (2 * window[1] - 1)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(offsets, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        keep(self, "relative_position_index", windows.relative_position_index(window))
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    @property
    def area(self) -> int:
        return self.window_size[0] * self.window_size[1]

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = shared.split_heads(self.qkv(x), 3, self.heads)  # each (B*G, h, A, d)
        bias = self.bias(mask)  # (1, h, A, A), or with the mask of a shift (G, h, A, A)
        if torch.is_grad_enabled():  # SDPA is slower than these lines when the bias wants a gradient
            scores = q @ k.transpose(-2, -1)  # (B*G, h, A, A)
            scores = scores.reshape(-1, *bias.shape)  # (B, G, h, A, A), or (B*G, 1, h, A, A)
            scores = torch.add(bias, scores, alpha=q.shape[-1] ** -0.5)  # one pass: scale, bias and mask
            x = scores.flatten(0, 1).softmax(-1) @ v  # (B*G, h, A, d)
        else:
            bias = bias.expand(q.shape[0] // bias.shape[0], *bias.shape).flatten(0, 1)  # (B*G, h, A, A)
            x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))  # (B*G, h, A, d)
        x = self.proj(x.transpose(1, 2).flatten(2))  # (B*G, A, D)
        return x

    def bias(self, mask: Tensor | None) -> Tensor:
        """What is added to the attention before its softmax: (1, h, A, A), or with the shift's mask (G, h, A, A)."""
        bias = self.relative_position_bias_table.index_select(0, self.relative_position_index.flatten())  # (A*A, h)
        bias = bias.t().reshape(1, self.heads, self.area, self.area)  # (1, h, A, A)
        return bias if mask is None else bias + mask.unsqueeze(1)  # (G, h, A, A)

    def set_window_size(self, window: Pair) -> None:
        """Another window: the table of relative positions is resampled as timm does."""
        if window == self.window_size:
            return
        table = self.relative_position_bias_table
        resampled = windows.resample_table(table, self.window_size, window)
        self.window_size = window
        self.relative_position_bias_table = nn.Parameter(resampled, requires_grad=table.requires_grad)
        keep(self, "relative_position_index", windows.relative_position_index(window))


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

"""The vision transformer treats an image as a sequence of patches and assumes nothing else about it.

Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", arXiv:2010.11929. In timm it is `vision_transformer`.
The official code adds a position embedding to the class token too, and has a norm after the last block. LayerNorm's
epsilon is 1e-6. DeiT (arXiv:2012.12877, without distillation) is the same model under other training.
"""

from collections.abc import Collection, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models.vision_transformer import checkpoint_filter_fn as checkpoint_filter_fn  # fits published weights
from torch import Tensor, nn

from bias_lab.backbones import shared
from bias_lab.backbones.linear import Linear, linear
from bias_lab.backbones.shared import Attention, Block, Mlp, PatchEmbed, Size, hooked, init_linear, pair
from bias_lab.errors import UserError


class VisionTransformer(nn.Module):
    """(B, C, H, W) -> logits (B, K). The keywords are timm's, and `SIZES` below holds the published models."""

    def __init__(
        self,
        *,
        img_size: Size = 224,
        patch_size: Size = 16,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "token",
        class_token: bool = True,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        shared.check_ends(in_chans, num_classes)
        check_grid(img_size, patch_size)
        self.num_classes, self.in_chans = num_classes, in_chans
        self.num_features = self.head_hidden_size = self.embed_dim = embed_dim
        self.num_prefix_tokens = int(class_token)
        self.grad_checkpointing = False

        self.patch_embed = PatchEmbed(img_size, patch_size, in_chans, embed_dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim)) if class_token else None
        self.pos_embed = nn.Parameter(torch.zeros(1, self.patch_embed.num_patches + int(class_token), embed_dim))
        rates = shared.drop_path_rates(drop_path_rate, depth)
        self.blocks = nn.Sequential(
            *(Block(embed_dim, num_heads, mlp_ratio=mlp_ratio, drop_path=rate) for rate in rates)
        )
        self._set_pool(global_pool)
        pool_first = global_pool == "avg"  # timm applies its norm to the mean then, and calls it fc_norm
        self.norm = nn.Identity() if pool_first else nn.LayerNorm(embed_dim, eps=1e-6)
        self.fc_norm = nn.LayerNorm(embed_dim, eps=1e-6) if pool_first else nn.Identity()
        self.head_drop = nn.Dropout(drop_rate)
        self.head = nn.Linear(embed_dim, num_classes) if num_classes > 0 else nn.Identity()

        reduction = max(self.patch_embed.patch_size)
        self.feature_info: list[dict[str, Any]] = [
            dict(module=f"blocks.{i}", num_chs=embed_dim, reduction=reduction) for i in range(depth)
        ]
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        if self.cls_token is not None:
            nn.init.normal_(self.cls_token, std=1e-6)
        self.apply(init_linear)

    def forward(self, x: Tensor) -> Tensor:
        if reads_one_token(self):
            return self.forward_head(forward_one_token(self, x))  # the same as the next line, see "Speed"
        return self.forward_head(self.forward_features(x))  # (B, K)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return all tokens after the last norm, the class token first: (B, C, H, W) -> (B, N, D)."""
        x = self.embed(x)  # (B, N, D)
        if self.grad_checkpointing:
            for block in self.blocks:
                x = shared.run(block, x, checkpointing=True)  # (B, N, D)
        else:
            x = self.blocks(x)  # (B, N, D)
        x = self.norm(x)
        return x

    def embed(self, x: Tensor) -> Tensor:
        """Return the patches as tokens, with class token and positions: (B, C, H, W) -> (B, N, D)."""
        x = self.patch_embed(x).flatten(1, 2)  # (B, N, D)
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)  # (B, N + 1, D)
        return x + self.pos_embed

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits, (B, N, D) -> (B, K), or with pre_logits what the classifier reads, (B, D)."""
        if self.global_pool == "token":
            x = x[:, 0]  # (B, D)
        elif self.global_pool == "avg":
            x = x[:, self.num_prefix_tokens :].mean(1)  # (B, D)
        x = self.head_drop(self.fc_norm(x))
        return x if pre_logits else self.head(x)  # (B, K)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return the blocks' outputs without the class token, each (B, D, H/P, W/P), or (B, N, D) as "NLC"."""
        x, taken = self._block_outputs(x, shared.take(len(self.blocks), indices))  # (B, N, D), and each (B, N, D)
        maps = [(self.norm(y) if norm else y)[:, self.num_prefix_tokens :] for y in taken]  # each (B, HW/P^2, D)
        if output_fmt not in ("NCHW", "NLC"):
            raise UserError(f"output_fmt '{output_fmt}' is unknown", "give 'NCHW' or 'NLC'")
        if output_fmt == "NCHW":
            H, W = self.patch_embed.grid_size
            maps = [y.transpose(1, 2).reshape(y.shape[0], -1, H, W).contiguous() for y in maps]  # each (B, D, H, W)
        return maps if intermediates_only else (self.norm(x), maps)

    def get_intermediate_layers(
        self,
        x: Tensor,
        n: int | Sequence[int] = 1,
        reshape: bool = False,
        return_prefix_tokens: bool = False,
        norm: bool = False,
    ) -> list[Tensor] | list[tuple[Tensor, Tensor]]:
        """Return blocks' outputs as DINO's code does: patches (B, HW/P², D), or (B, D, H/P, W/P) if `reshape`.

        n: how many of the last blocks, or their numbers. return_prefix_tokens: pairs with the class token (B, 1, D).
        """
        outputs = self._block_outputs(x, shared.take(len(self.blocks), n))[1]  # each (B, N, D)
        outputs = [self.norm(y) for y in outputs] if norm else outputs
        prefixes = [y[:, : self.num_prefix_tokens] for y in outputs]  # each (B, 1, D) or (B, 0, D)
        patches = [y[:, self.num_prefix_tokens :] for y in outputs]  # each (B, HW/P^2, D)
        if reshape:
            H, W = self.patch_embed.grid_size
            patches = [y.transpose(1, 2).reshape(y.shape[0], -1, H, W).contiguous() for y in patches]  # (B, D, H, W)
        return list(zip(patches, prefixes, strict=True)) if return_prefix_tokens else patches

    def _block_outputs(self, x: Tensor, taken: Collection[int]) -> tuple[Tensor, list[Tensor]]:
        """Return the last block's output (B, N, D) and those of the blocks in `taken`, in order."""
        outputs = []
        x = self.embed(x)  # (B, N, D)
        for i, block in enumerate(self.blocks):
            x = shared.run(block, x, checkpointing=self.grad_checkpointing)  # (B, N, D)
            if i in taken:
                outputs.append(x)
        return x, outputs

    def _set_pool(self, global_pool: str) -> None:
        if global_pool not in ("token", "avg", ""):
            raise UserError(f"global_pool '{global_pool}' is unknown", "give 'token', 'avg', or '' for all tokens")
        if global_pool == "token" and self.cls_token is None:
            raise UserError("global_pool 'token' needs a class token", remedy="choose 'avg', or class_token=True")
        self.global_pool = global_pool

    # --- timm's contract ---------------------------------------------------------------------------------------------

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put in a new head. The norm stays where it was built, before or after pooling, as in timm."""
        if global_pool is not None:
            self._set_pool(global_pool)
        self.num_classes = num_classes
        head = nn.Linear(self.embed_dim, num_classes) if num_classes > 0 else nn.Identity()
        init_linear(head)
        self.head = head.to(self.pos_embed)

    def no_weight_decay(self) -> set[str]:
        return {"pos_embed", "cls_token"}

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return dict(stem=r"^cls_token|pos_embed|patch_embed", blocks=[(r"^blocks\.(\d+)", None), (r"^norm", (99999,))])

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.grad_checkpointing = enable

    def set_input_size(self, img_size: Size | None = None, patch_size: Size | None = None) -> None:
        """Take images or patches of another size. timm's function resamples the position embedding (bicubic)."""
        check_grid(img_size or self.patch_embed.img_size, patch_size or self.patch_embed.patch_size)
        old = self.patch_embed.grid_size
        self.patch_embed.set_input_size(img_size, patch_size)
        new = self.patch_embed.grid_size
        for info in self.feature_info:
            info["reduction"] = max(self.patch_embed.patch_size)
        if new != old:
            with torch.no_grad():
                resampled = resample_abs_pos_embed(
                    self.pos_embed, list(new), list(old), num_prefix_tokens=self.num_prefix_tokens
                )
            self.pos_embed = nn.Parameter(resampled, requires_grad=self.pos_embed.requires_grad)

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop what `forward_intermediates(indices)` never reads, and return the indices counted from the start."""
        taken = shared.take(len(self.blocks), indices)
        self.blocks = self.blocks[: max(taken) + 1]
        if prune_norm:
            self.norm = nn.Identity()
        if prune_head:
            self.fc_norm = nn.Identity()
            self.reset_classifier(0, "")
        return taken


def check_grid(img_size: Size, patch_size: Size) -> None:
    """Raise UserError if the patches don't fill the image (timm cuts the rest off silently)."""
    (H, W), (rows, columns) = pair(img_size), pair(patch_size)
    if H % rows or W % columns:
        fitting = [p for p in range(1, min(H, W) + 1) if H % p == 0 and W % p == 0]
        near = min(fitting, key=lambda p: abs(p - rows))
        raise UserError(f"patches of {rows}x{columns} don't fill a {H}x{W} image", f"patches of {near}x{near} do")


def _sizes() -> dict[str, dict[str, Any]]:
    tiny = dict(embed_dim=192, depth=12, num_heads=3)
    small = dict(embed_dim=384, depth=12, num_heads=6)
    base = dict(embed_dim=768, depth=12, num_heads=12)
    sizes: dict[str, dict[str, Any]] = {
        "vit_micro": dict(img_size=28, patch_size=4, embed_dim=96, depth=4, num_heads=3),
        "vit_mini": dict(img_size=32, patch_size=4, embed_dim=192, depth=9, num_heads=12, mlp_ratio=2.0),
        "vit_small_patch8_224": dict(patch_size=8, **small),
        # controls, wider and shallower than their namesakes and about as large
        "vit_micro_wide": dict(img_size=28, patch_size=4, embed_dim=128, depth=2, num_heads=4),
        "vit_mini_wide": dict(img_size=32, patch_size=4, embed_dim=256, depth=5, num_heads=16, mlp_ratio=2.0),
    }
    for name, size in (("tiny", tiny), ("small", small), ("base", base)):
        sizes[f"vit_{name}_patch16_224"] = sizes[f"deit_{name}_patch16_224"] = dict(patch_size=16, **size)
        sizes[f"vit_{name}_patch16_384"] = dict(patch_size=16, img_size=384, **size)
        if name != "tiny":
            sizes[f"vit_{name}_patch32_224"] = dict(patch_size=32, **size)
            sizes[f"vit_{name}_patch32_384"] = dict(patch_size=32, img_size=384, **size)
    return sizes


SIZES = _sizes()


# --- Speed -----------------------------------------------------------------------------------------------------------
# A head that reads the class token alone needs only this token of the last block. It saves a fifth of vit_micro's time,
# in training and in inference. `test_the_class_token_alone_is_exact` and `test_forward_is_head_of_features` hold both
# equal.


def reads_one_token(model: VisionTransformer) -> bool:
    """Return whether the head reads the class token alone, and nothing but attention mixes tokens in the last block.

    A hook must see all tokens, and a part that was replaced could mix them.
    """
    block, norm = model.blocks[-1], model.norm
    if model.global_pool != "token" or model.grad_checkpointing or type(block) is not Block:
        return False
    norms = type(block.norm1) is type(block.norm2) is nn.LayerNorm and type(norm) in (nn.LayerNorm, nn.Identity)
    mixing = type(block.attn) is Attention and type(block.attn.qkv) is Linear and type(block.mlp) is Mlp
    return norms and mixing and not hooked(model.blocks, norm, *block.modules())


def forward_one_token(model: VisionTransformer, x: Tensor) -> Tensor:
    """Return `forward_features(x)[:, :1]`: (B, C, H, W) -> (B, 1, D)."""
    x = model.blocks[:-1](model.embed(x))  # (B, N, D)
    x = first_token(cast(Block, model.blocks[-1]), x)  # (B, 1, D)
    x = model.norm(x)
    return x


def first_token(block: Block, x: Tensor) -> Tensor:
    """Return `block(x)[:, :1]`: (B, N, D) -> (B, 1, D)."""
    x = x[:, :1] + block.drop_path(attend_from_first(block.attn, block.norm1(x)))  # (B, 1, D)
    x = x + block.drop_path(block.mlp(block.norm2(x)))  # (B, 1, D)
    return x


def attend_from_first(attention: Attention, x: Tensor) -> Tensor:
    """Return `attention(x)[:, :1]`: (B, N, D) -> (B, 1, D)."""
    D = x.shape[-1]
    weight, bias = attention.qkv.weight, attention.qkv.bias  # (3D, D), (3D,)
    (q,) = shared.split_heads(F.linear(x[:, :1], weight[:D], bias[:D]), 1, attention.num_heads)  # (B, h, 1, d)
    k, v = shared.split_heads(linear(x, weight[D:], bias[D:]), 2, attention.num_heads)  # each (B, h, N, d)
    x = F.scaled_dot_product_attention(q, k, v)  # (B, h, 1, d)
    x = attention.proj(x.transpose(1, 2).flatten(2))  # (B, 1, D)
    return x

"""What more than one backbone uses: patches, attention, MLP, stochastic depth, resampling.

The letters of every shape comment in this room:

    B  images of a batch            C  channels of a map, or of the input
    H  rows, W columns of a map     N  tokens (patches; with the class token, N + 1)
    D  width of a token             h  heads, d = D / h  width of a head
    P  side of a patch, in pixels   K  classes
    w  side of a window, A = w * w tokens in it, G windows in a map

(B, N, D) are tokens; (B, C, H, W) maps; (B, H, W, C) maps with the channels last, as Swin keeps them.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.patch_embed import resample_patch_embed
from torch import Tensor, nn

from bias_lab.errors import UserError

Size = int | Sequence[int]


def pair(size: Size) -> tuple[int, int]:
    """A side, or (rows, columns), as (rows, columns)."""
    if isinstance(size, int):
        return size, size
    rows, columns = size
    return int(rows), int(columns)


class PatchEmbed(nn.Module):
    """Cut an image into P x P patches and project each to D values: (B, C, H, W) -> (B, H/P, W/P, D).

    timm's name: PatchEmbed. norm: Swin has one, ViT has none. `proj` is a convolution whose stride is its kernel: a
    matrix product over the values of each patch, and faster as such. A `proj` of another kind is called as it is.
    """

    def __init__(
        self, img_size: Size, patch_size: Size, in_chans: int, width: int, norm: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.img_size, self.patch_size = pair(img_size), pair(patch_size)
        self.proj = nn.Conv2d(in_chans, width, kernel_size=self.patch_size, stride=self.patch_size)
        self.norm = nn.Identity() if norm is None else norm

    @property
    def grid_size(self) -> tuple[int, int]:
        """Rows and columns of patches; what a patch does not fill is cut off, as timm does for Swin."""
        return self.img_size[0] // self.patch_size[0], self.img_size[1] // self.patch_size[1]

    @property
    def num_patches(self) -> int:
        return self.grid_size[0] * self.grid_size[1]

    @torch.no_grad()
    def set_input_size(self, img_size: Size | None = None, patch_size: Size | None = None) -> None:
        """Take images of another size, and patches of another size (weights resampled as timm does)."""
        if patch_size is not None and pair(patch_size) != self.patch_size:
            old, self.patch_size = self.proj, pair(patch_size)
            new = nn.Conv2d(old.in_channels, old.out_channels, kernel_size=self.patch_size, stride=self.patch_size)
            self.proj = new.to(old.weight)
            self.proj.weight.copy_(resample_patch_embed(old.weight, list(self.patch_size)))
            if old.bias is not None and self.proj.bias is not None:
                self.proj.bias.copy_(old.bias)
        if img_size is not None:
            self.img_size = pair(img_size)

    def forward(self, x: Tensor) -> Tensor:
        if tuple(x.shape[-2:]) != self.img_size:
            raise UserError(
                f"images of {x.shape[-2]}x{x.shape[-1]} for a model built for {self.img_size[0]}x{self.img_size[1]}",
                remedy="resize them, or call set_input_size",
            )
        if self._proj_sees_patches_alone():
            x = cut(x, self.patch_size)  # (B, H/P, W/P, P*P*C)
            x = F.linear(x, self.proj.weight.flatten(1), self.proj.bias)  # (B, H/P, W/P, D)
        else:
            x = self.proj(x).permute(0, 2, 3, 1)  # (B, H/P, W/P, D)
        x = self.norm(x)
        return x

    def _proj_sees_patches_alone(self) -> bool:
        """Whether `proj` is the convolution as built, not a stem of someone's own, and no hook waits for it."""
        conv: Any = self.proj
        plain = type(conv) is nn.Conv2d and conv.padding == (0, 0) and conv.groups == 1 and not hooked(conv)
        return plain and conv.kernel_size == conv.stride == self.patch_size


def cut(x: Tensor, patch: tuple[int, int]) -> Tensor:
    """An image as patches: (B, C, H, W) -> (B, H/P, W/P, P*P*C), in each its channels, rows, columns."""
    B, C, H, W = x.shape
    rows, columns = patch
    x = x[:, :, : H - H % rows, : W - W % columns]  # (B, C, H', W')  what fills no patch is cut off
    x = x.reshape(B, C, H // rows, rows, W // columns, columns)  # (B, C, H/P, P, W/P, P)
    x = x.permute(0, 2, 4, 1, 3, 5)  # (B, H/P, W/P, C, P, P)
    return x.flatten(3)  # (B, H/P, W/P, P*P*C)


class Attention(nn.Module):
    """Multi-head self-attention over tokens, (B, N, D) -> (B, N, D) (Vaswani et al. 2017, arXiv:1706.03762)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        check_heads(width, heads)
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def query_key_value(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value of every token, each (B, h, N, d)."""
        q, k, v = split_heads(self.qkv(x), 3, self.heads)  # each (B, h, N, d)
        return q, k, v

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.query_key_value(x)  # each (B, h, N, d)
        x = F.scaled_dot_product_attention(q, k, v)  # (B, h, N, d)
        x = self.proj(x.transpose(1, 2).flatten(2))  # (B, N, D)
        return x

    def first_token(self, x: Tensor) -> Tensor:
        """`forward(x)[:, :1]`, exactly, without the other tokens' queries and projections: (B, N, D) -> (B, 1, D)."""
        D = x.shape[-1]
        weight, bias = self.qkv.weight, self.qkv.bias  # (3D, D), (3D,)
        (q,) = split_heads(F.linear(x[:, :1], weight[:D], bias[:D]), 1, self.heads)  # (B, h, 1, d)
        k, v = split_heads(F.linear(x, weight[D:], bias[D:]), 2, self.heads)  # each (B, h, N, d)
        x = F.scaled_dot_product_attention(q, k, v)  # (B, h, 1, d)
        x = self.proj(x.transpose(1, 2).flatten(2))  # (B, 1, D)
        return x


def split_heads(x: Tensor, parts: int, heads: int) -> list[Tensor]:
    """Cut one product into queries, keys, values, and each of them into heads: (B, N, parts*D) -> each (B, h, N, d)."""
    B, N, width = x.shape
    x = x.reshape(B, N, parts, heads, width // (parts * heads))  # (B, N, parts, h, d)
    return [part.transpose(1, 2) for part in x.unbind(2)]  # each (B, h, N, d)


def attention_map(attention: Attention, x: Tensor) -> Tensor:
    """Who attends to whom, (B, h, N, N), rows sum to 1: what scaled_dot_product_attention never forms."""
    q, k, _ = attention.query_key_value(x)  # each (B, h, N, d)
    scores: Tensor = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5  # (B, h, N, N)
    return scores.softmax(-1)


class Mlp(nn.Module):
    """Two layers on each token alone: `fc1`, activation, dropout, `fc2`, dropout; (..., D) -> (..., D)."""

    def __init__(self, width: int, hidden: int, act: type[nn.Module] = nn.GELU, drop: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = act()
        self.fc2 = nn.Linear(hidden, width)
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.fc1(x))  # (..., hidden)
        x = F.dropout(x, self.drop, self.training)
        x = self.fc2(x)  # (..., D)
        return F.dropout(x, self.drop, self.training)


class DropPath(nn.Module):
    """Stochastic depth: leave a residual branch out for whole samples (Huang et al. 2016, arXiv:1603.09382).

    What stays is divided by the chance to stay, so that the expectation is kept. In evaluation: identity.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if self.rate == 0 or not self.training:
            return x
        keep = 1 - self.rate
        kept = torch.empty(len(x), *[1] * (x.ndim - 1), dtype=x.dtype, device=x.device)  # (B, 1, ...)
        return x * (kept.bernoulli_(keep) / keep)


class Block(nn.Module):
    """A pre-norm transformer block: tokens exchange information, then each is thought over; (B, N, D) -> (B, N, D)."""

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        mlp_ratio: float = 4.0,
        act: type[nn.Module] = nn.GELU,
        eps: float = 1e-6,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, int(width * mlp_ratio), act)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))  # (B, N, D)
        x = x + self.drop_path(self.mlp(self.norm2(x)))  # (B, N, D)
        return x

    def first_token(self, x: Tensor) -> Tensor:
        """`forward(x)[:, :1]`, for a head that reads the class token alone: (B, N, D) -> (B, 1, D)."""
        x = x[:, :1] + self.drop_path(self.attn.first_token(self.norm1(x)))  # (B, 1, D)
        x = x + self.drop_path(self.mlp(self.norm2(x)))  # (B, 1, D)
        return x

    def each_token_alone(self) -> bool:
        """Whether every part is as built, so that only the attention mixes tokens: then `first_token` is exact."""
        norms = type(self.norm1) is type(self.norm2) is nn.LayerNorm
        return norms and type(self.mlp) is Mlp and type(self.attn) is Attention and type(self.attn.qkv) is nn.Linear


class Head(nn.Module):
    """Dropout and classifier (timm's names: `head.fc`)."""

    def __init__(self, width: int, classes: int, drop: float) -> None:
        super().__init__()
        self.width = width
        self.drop = nn.Dropout(drop)
        self.fc: nn.Module = nn.Linear(width, classes) if classes > 0 else nn.Identity()

    def reset(self, classes: int, *, like: Tensor) -> None:
        self.fc = nn.Linear(self.width, classes).to(like) if classes > 0 else nn.Identity()


def hooked(*modules: nn.Module) -> bool:
    """Whether someone waits for what goes in or comes out of these modules, so that none may be passed by."""
    return any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks for m in modules)


def drop_path_rates(rate: float, depth: int) -> list[float]:
    """Each block's rate: 0 at the first, `rate` at the last, linear between."""
    return [rate * i / max(depth - 1, 1) for i in range(depth)]


def init_linear(module: nn.Module) -> None:
    """timm's initialisation of a transformer: linear weights from a normal of std 0.02, cut at 2; biases 0."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def take(count: int, indices: int | Sequence[int] | None) -> list[int]:
    """Which of `count` stages are meant: the last n, those named (from the end if negative), or all."""
    if indices is None:
        return list(range(count))
    if isinstance(indices, int):
        taken = list(range(count - indices, count))
    else:
        taken = [count + i if i < 0 else i for i in indices]
    if not taken or min(taken) < 0 or max(taken) >= count:
        raise UserError(f"stages {indices} of a model that has {count}", f"a number up to {count}, or indices below it")
    return taken


def check_ends(in_chans: int, num_classes: int) -> None:
    """Raises UserError for a channel count below 1 or a class count below 0 (0: no classifier)."""
    if in_chans < 1:
        raise UserError(f"{in_chans} channels", "1 for grey images, 3 for colour")
    if num_classes < 0:
        raise UserError(f"{num_classes} classes", "1 or more; 0 for an encoder without a classifier")


def check_pool(global_pool: str) -> None:
    """Raises UserError for a pooling of maps that is neither the mean nor none."""
    if global_pool not in ("avg", ""):
        raise UserError(f"global_pool '{global_pool}' is unknown", "'avg', or '' for the whole map")


def check_heads(width: int, heads: int) -> None:
    """Raises UserError unless every head gets the same share of the width."""
    if heads < 1 or width % heads:
        near = [n for n in range(1, width + 1) if width % n == 0]
        raise UserError(
            f"{heads} heads don't divide a width of {width}", f"{min(near, key=lambda n: abs(n - heads))} do"
        )

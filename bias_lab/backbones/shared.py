"""Parts that more than one backbone uses: patches, attention, MLP, stochastic depth, checks.

The letters of every shape comment in this room:

    B  images of a batch            C  channels of a map, or of the input
    H  rows, W columns of a map     N  tokens (N + 1 with the class token)
    D  width of a token             h  heads, d = D / h  width of a head
    P  side of a patch, in pixels   K  classes
    w  side of a window, A = w * w tokens in it, G windows in a map

(B, N, D) are tokens, (B, C, H, W) are maps, and (B, H, W, C) are maps with the channels last, as Swin keeps them.

What makes a backbone faster but harder to read stands after its text, under "Speed". It runs only where every part is
as built and has no hook. Everywhere else the text itself runs. Savings are those of the micro sizes on one thread of an
AMD EPYC, with batches of 32 images of 28 and 64 pixels.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from timm.layers.patch_embed import resample_patch_embed
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bias_lab.backbones.linear import Linear, linear
from bias_lab.errors import UserError

Size = int | Sequence[int]


def pair(size: Size) -> tuple[int, int]:
    """Return (rows, columns) of a size that is given so, or as one side."""
    if isinstance(size, int):
        return size, size
    rows, columns = size
    return int(rows), int(columns)


class PatchEmbed(nn.Module):
    """Cut an image into P x P patches and project each to D values: (B, C, H, W) -> (B, H/P, W/P, D).

    The name is timm's. norm: Swin has one, ViT has none.
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
        """Return the rows and columns of patches. Pixels that fill no patch are cut off, as in timm's Swin."""
        return self.img_size[0] // self.patch_size[0], self.img_size[1] // self.patch_size[1]

    @property
    def num_patches(self) -> int:
        return self.grid_size[0] * self.grid_size[1]

    @torch.no_grad()
    def set_input_size(self, img_size: Size | None = None, patch_size: Size | None = None) -> None:
        """Take images and patches of another size. The weights are resampled by timm's function."""
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
        check_size(x, self.img_size, remedy="resize them, or call set_input_size")
        if cuts_patches(self.proj):
            x = project_patches(x, self.proj)  # (B, H/P, W/P, D)  the same as the next two lines, see "Speed"
        else:
            x = self.proj(x)  # (B, D, H/P, W/P)
            x = x.permute(0, 2, 3, 1)  # (B, H/P, W/P, D)
        x = self.norm(x)
        return x


class Attention(nn.Module):
    """Multi-head self-attention over tokens, (B, N, D) -> (B, N, D) (Vaswani et al. 2017, arXiv:1706.03762)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        check_heads(width, heads)
        self.num_heads = heads
        self.qkv = Linear(width, 3 * width)
        self.proj = Linear(width, width)

    def query_key_value(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the query, key and value of every token, each (B, h, N, d)."""
        q, k, v = split_heads(self.qkv(x), 3, self.num_heads)  # each (B, h, N, d)
        return q, k, v

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.query_key_value(x)  # each (B, h, N, d)
        x = F.scaled_dot_product_attention(q, k, v)  # (B, h, N, d)
        x = self.proj(x.transpose(1, 2).flatten(2))  # (B, N, D)
        return x


def split_heads(x: Tensor, parts: int, heads: int) -> list[Tensor]:
    """Cut one product into queries, keys, values, and each of them into heads: (B, N, parts*D) -> each (B, h, N, d)."""
    B, N, width = x.shape
    x = x.reshape(B, N, parts, heads, width // (parts * heads))  # (B, N, parts, h, d)
    return [part.transpose(1, 2) for part in x.unbind(2)]  # each (B, h, N, d)


def attention_map(attention: Any, x: Tensor) -> Tensor:
    """Return how much each token attends to each other one: (B, N, D) -> (B, h, N, N), each row sums to 1.

    attention: the attention module of a plain ViT, ours or timm's. x: what this module is given.
    `scaled_dot_product_attention` never forms this matrix.
    """
    q, k, _ = split_heads(attention.qkv(x), 3, attention.num_heads)  # each (B, h, N, d)
    q, k = getattr(attention, "q_norm", nn.Identity())(q), getattr(attention, "k_norm", nn.Identity())(k)  # timm's
    scores: Tensor = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5  # (B, h, N, N)
    return scores.softmax(-1)


class Mlp(nn.Module):
    """Two layers on each token alone, (..., D) -> (..., D): `fc1`, activation, dropout, `fc2`, dropout."""

    def __init__(self, width: int, hidden: int, act: type[nn.Module] = nn.GELU, drop: float = 0.0) -> None:
        super().__init__()
        self.fc1 = Linear(width, hidden)
        self.act = act()
        self.fc2 = Linear(hidden, width)
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.fc1(x))  # (..., hidden)
        x = F.dropout(x, self.drop, self.training)
        x = self.fc2(x)  # (..., D)
        return F.dropout(x, self.drop, self.training)


class DropPath(nn.Module):
    """Stochastic depth: leave a residual branch out for whole samples (Huang et al. 2016, arXiv:1603.09382).

    The branches that stay are divided by the probability to stay, so that the expectation is kept. In evaluation this
    is the identity.
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
    """A pre-norm transformer block, (B, N, D) -> (B, N, D): attention among the tokens, then an MLP on each token."""

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


class Head(nn.Module):
    """Dropout and classifier. The names are timm's (`head.fc`)."""

    def __init__(self, width: int, classes: int, drop: float) -> None:
        super().__init__()
        self.width = width
        self.drop = nn.Dropout(drop)
        self.fc: nn.Module = nn.Linear(width, classes) if classes > 0 else nn.Identity()

    def reset(self, classes: int, *, like: Tensor) -> None:
        """Put in a new classifier, on the device and in the precision of `like`."""
        self.fc = nn.Linear(self.width, classes).to(like) if classes > 0 else nn.Identity()


def run(module: nn.Module, x: Tensor, *, checkpointing: bool) -> Tensor:
    """Return module(x). With checkpointing, its inner values are computed again in the backward pass to save memory."""
    if checkpointing and torch.is_grad_enabled():
        return cast(Tensor, checkpoint(module, x, use_reentrant=False))
    return cast(Tensor, module(x))


def drop_path_rates(rate: float, depth: int) -> list[float]:
    """Return each block's drop rate: 0 at the first, `rate` at the last, linear in between."""
    return [rate * i / max(depth - 1, 1) for i in range(depth)]


def init_linear(module: nn.Module) -> None:
    """Initialise a linear layer as timm does in a transformer: a normal of std 0.02, cut at 2, and biases of 0."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def take(count: int, indices: int | Sequence[int] | None) -> list[int]:
    """Return which of `count` stages are asked for: the last n, those listed (from the end if negative), or all.

    Raises UserError for a stage that the model does not have.
    """
    if indices is None:
        return list(range(count))
    if isinstance(indices, int):
        taken = list(range(count - indices, count))
    else:
        taken = [count + i if i < 0 else i for i in indices]
    if not taken or min(taken) < 0 or max(taken) >= count:
        raise UserError(
            f"stages {indices} do not exist in a model of {count}", f"give a number up to {count}, or indices below it"
        )
    return taken


def check_ends(in_chans: int, num_classes: int) -> None:
    """Raise UserError for a channel count below 1 or a class count below 0 (0 means no classifier)."""
    if in_chans < 1:
        raise UserError(f"{in_chans} channels are too few", "give 1 for grey images, 3 for colour")
    if num_classes < 0:
        raise UserError(f"{num_classes} classes are too few", "give 1 or more, or 0 for no classifier")


def check_size(x: Tensor, img_size: tuple[int, int], *, remedy: str = "resize them") -> None:
    """Raise UserError unless images (B, C, H, W) have the rows and columns that a model was built for."""
    if tuple(x.shape[-2:]) != img_size:
        sizes = f"images of {x.shape[-2]}x{x.shape[-1]} don't fit a model for {img_size[0]}x{img_size[1]}"
        raise UserError(sizes, remedy=remedy)


def check_maps(output_fmt: str) -> None:
    """Raise UserError for a format of maps other than (B, C, H, W), for a model that has no other."""
    if output_fmt != "NCHW":
        raise UserError(f"output_fmt '{output_fmt}' is unknown", "give 'NCHW'")


def check_pool(global_pool: str) -> None:
    """Raise UserError for a pooling of maps that is neither the mean nor none."""
    if global_pool not in ("avg", ""):
        raise UserError(f"global_pool '{global_pool}' is unknown", "give 'avg', or '' for the whole map")


def check_heads(width: int, heads: int) -> None:
    """Raise UserError unless every head gets the same share of the width."""
    if heads < 1 or width % heads:
        near = min((n for n in range(1, width + 1) if width % n == 0), key=lambda n: abs(n - heads))
        raise UserError(f"{heads} heads don't divide a width of {width}", f"{near} do")


# --- Speed -----------------------------------------------------------------------------------------------------------
# A convolution whose stride is its kernel is a matrix product over the values of each patch. It saves up to a tenth of
# vit_micro's inference, and nothing in training. `test_a_product_over_patches_is_the_convolution` holds both equal.


def hooked(*modules: nn.Module) -> bool:
    """Return whether a module has a hook, which must see what goes in and comes out of it."""
    return any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks for m in modules)


def cuts_patches(conv: nn.Module) -> bool:
    """Return whether a module is a convolution as `PatchEmbed` builds it, and has no hook."""
    as_built = type(conv) is nn.Conv2d and conv.padding == (0, 0) and conv.groups == 1 and not hooked(conv)
    return as_built and conv.kernel_size == conv.stride


def project_patches(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """Return the convolution of each patch: (B, C, H, W) -> (B, H/P, W/P, D)."""
    B, C, H, W = x.shape
    rows, columns = conv.kernel_size
    x = x[:, :, : H - H % rows, : W - W % columns]  # (B, C, H', W')  pixels that fill no patch are cut off
    x = x.reshape(B, C, H // rows, rows, W // columns, columns)  # (B, C, H/P, P, W/P, P)
    x = x.permute(0, 2, 4, 1, 3, 5)  # (B, H/P, W/P, C, P, P)
    x = x.flatten(3)  # (B, H/P, W/P, P*P*C)
    return linear(x, conv.weight.flatten(1), conv.bias)  # (B, H/P, W/P, D)

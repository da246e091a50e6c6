"""MobileViT: convolutions for what is near, a transformer over far-apart pixels for what is not.

Mehta and Rastegari 2022, "MobileViT", arXiv:2110.02178. In timm: `mobilevit`, a configuration of `byobnet`.
Where Apple's code (and timm) differ from the paper: the 1x1 convolution into the transformer has neither norm nor
activation; a map that its patches don't fill is resized bilinearly and back; residuals stand only where shapes agree.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bias_lab.backbones.shared import (
    Block,
    DropPath,
    Head,
    check_ends,
    check_pool,
    drop_path_rates,
    hooked,
    take,
)
from bias_lab.errors import UserError


class MobileViT(nn.Module):
    """(B, C, H, W) -> logits (B, K). Keywords as timm's; sizes of the published models stand below, in `SIZES`.

    stages: each a sequence of `Inverted` and `Mixer` rows. stem_stride: 2 as published, 1 for small images.
    """

    def __init__(
        self,
        *,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "avg",
        stem_stride: int = 2,
        stem_width: int = 16,
        stages: Sequence[Sequence["Inverted | Mixer"]],
        num_features: int,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        check_ends(in_chans, num_classes)
        check_pool(global_pool)
        self.num_classes, self.in_chans, self.global_pool = num_classes, in_chans, global_pool
        self.num_features = self.head_hidden_size = num_features
        self.grad_checkpointing = False
        self.stem = ConvNormAct(in_chans, stem_width, 3, stride=stem_stride)
        rates = iter(drop_path_rates(drop_path_rate, sum(len(stage) for stage in stages)))
        width, reduction, built = stem_width, stem_stride, []
        self.feature_info: list[dict[str, Any]] = []
        for i, stage in enumerate(stages):
            blocks: list[nn.Module] = []
            for row in stage:
                blocks.append(row.build(width, next(rates)))
                width, reduction = row.width or width, reduction * row.stride
            built.append(nn.Sequential(*blocks))
            self.feature_info.append(dict(module=f"stages.{i}", num_chs=width, reduction=reduction, stage=i + 1))
        self.stages = nn.Sequential(*built)
        self.final_conv: nn.Module = ConvNormAct(width, num_features, 1)
        self.feature_info[-1].update(module="final_conv", num_chs=num_features)
        self.head = Head(num_features, num_classes, drop_rate)
        self.apply(_init)
        for module in self.modules():
            if isinstance(module, InvertedResidual) and module.residual:
                nn.init.zeros_(module.conv3_1x1.bn.weight)  # a residual branch begins at nothing, as in timm

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))  # (B, K)

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the last map, (B, C', H', W')."""
        x = self.stem(x.contiguous(memory_format=torch.channels_last))  # (B, C', H', W')
        for stage in self.stages:
            x = self._run(stage, x)  # (B, C', H', W')
        x = self.final_conv(x)  # (B, C', H', W')
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """(B, C, H, W) -> logits (B, K), or with pre_logits what the classifier reads, (B, C)."""
        if self.global_pool == "avg":
            x = x.mean((2, 3))  # (B, C)
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
        """The stages' maps, (B, C, H, W) each; the last is what `forward_features` gives. There is no norm to apply."""
        if output_fmt != "NCHW":
            raise UserError(f"output_fmt '{output_fmt}' is unknown", "'NCHW'")
        taken, maps = take(len(self.stages), indices), []
        x = self.stem(x.contiguous(memory_format=torch.channels_last))  # (B, C', H', W')
        for i, stage in enumerate(self.stages):
            x = self._run(stage, x)  # (B, C', H', W')
            if i == len(self.stages) - 1:
                x = self.final_conv(x)  # (B, C', H', W')
            if i in taken:
                maps.append(x)
        return maps if intermediates_only else (x, maps)

    def _run(self, stage: nn.Module, x: Tensor) -> Tensor:
        """A stage's output; when memory is short, its insides are computed again in the backward pass."""
        if self.grad_checkpointing and torch.is_grad_enabled():
            x = checkpoint(stage, x, use_reentrant=False)  # (B, C', H', W')
        else:
            x = stage(x)  # (B, C', H', W')
        return x

    # --- timm's contract ---------------------------------------------------------------------------------------------

    def get_classifier(self) -> nn.Module:
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        if global_pool is not None:
            check_pool(global_pool)
            self.global_pool = global_pool
        self.num_classes = num_classes
        self.head.reset(num_classes, like=self.stem.conv.weight)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        stages = r"^stages\.(\d+)" if coarse else r"^stages\.(\d+)\.(\d+)"
        return dict(stem=r"^stem", blocks=[(stages, None), (r"^final_conv", (99999,))])

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop what `forward_intermediates(indices)` never reads; returns the indices as counted from the start."""
        taken = take(len(self.stages), indices)
        if max(taken) < len(self.stages) - 1:
            self.final_conv = nn.Identity()
        self.stages = self.stages[: max(taken) + 1]
        if prune_head:
            self.reset_classifier(0, "")
        return taken

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.grad_checkpointing = enable


class ConvNormAct(nn.Module):
    """Convolution, batch norm, SiLU; (B, C, H, W) -> (B, C', H/stride, W/stride). A 1x1 is a matrix product.

    A batch norm in evaluation only scales and shifts: then it is done by the convolution's own weights and a bias.
    """

    def __init__(
        self, width: int, out: int, kernel: int, *, stride: int = 1, groups: int = 1, act: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, out, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        x = convolve(x, self.conv, self.bn)  # (B, C', H', W')
        if not self.act:
            return x
        # in place where nobody else can hold the map: fresh memory for a large one costs more than the activation
        unseen = type(self.conv) is nn.Conv2d and not hooked(self.conv, self.bn)
        return F.silu(x, inplace=unseen and not torch.is_grad_enabled())


def convolve(x: Tensor, conv: nn.Module, norm: nn.Module | None = None) -> Tensor:
    """`conv`, then `norm`: (B, C, H, W) -> (B, C', H', W'); a 1x1 as a matrix product over channels, last in memory.

    A convolution of someone's own, or one for which a hook waits, is called as it is.
    """
    if type(conv) is not nn.Conv2d or conv.bias is not None or hooked(conv):
        x = conv(x)  # (B, C', H', W')
        return x if norm is None else norm(x)
    weight, bias, scaling = conv.weight, None, scale_and_shift(norm)
    if scaling is not None:
        weight, bias, norm = weight * scaling[0].reshape(-1, 1, 1, 1), scaling[1], None  # (C', C/groups, k, k), (C',)
    if conv.kernel_size == (1, 1):
        x = F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)  # (B, C', H, W)
    else:
        x = F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)  # (B, C', H', W')
    return x if norm is None else norm(x)


def scale_and_shift(norm: nn.Module | None) -> tuple[Tensor, Tensor] | None:
    """A batch norm in evaluation, which reads nothing of its input, as x * scale + shift, each (C,); else None."""
    if type(norm) is not nn.BatchNorm2d or norm.training or not norm.affine or hooked(norm):
        return None
    if norm.running_mean is None or norm.running_var is None:
        return None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()  # (C,)
    return scale, norm.bias - norm.running_mean * scale


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow (MobileNetV2, arXiv:1801.04381); the input is added where shapes agree."""

    def __init__(self, width: int, out: int, *, stride: int, ratio: float, drop_path: float) -> None:
        super().__init__()
        hidden = divisible(width * ratio)
        self.residual = stride == 1 and width == out
        self.conv1_1x1 = ConvNormAct(width, hidden, 1)
        self.conv2_kxk = ConvNormAct(hidden, hidden, 3, stride=stride, groups=hidden)
        self.conv3_1x1 = ConvNormAct(hidden, out, 1, act=False)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv1_1x1(x)  # (B, hidden, H, W)
        y = self.conv2_kxk(y)  # (B, hidden, H/stride, W/stride)
        y = self.drop_path(self.conv3_1x1(y))  # (B, C', H/stride, W/stride)
        return x + y if self.residual else y


class MobileViTBlock(nn.Module):
    """Mix near pixels by convolution, far ones by a transformer, and fuse both with the input; (B, C, H, W) in and out.

    Pixels at the same place within their patches attend to one another; pixels of one patch do not (the convolutions
    mix those).
    """

    def __init__(self, width: int, dim: int, depth: int, *, patch: int, drop_path: float) -> None:
        super().__init__()
        self.patch = patch
        self.conv_kxk = ConvNormAct(width, width, 3)
        self.conv_1x1 = nn.Conv2d(width, dim, 1, bias=False)
        self.transformer = nn.Sequential(
            *(Block(dim, 4, mlp_ratio=2.0, act=nn.SiLU, eps=1e-5, drop_path=drop_path) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(dim)
        self.conv_proj = ConvNormAct(dim, width, 1)
        self.conv_fusion = ConvNormAct(2 * width, width, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv_kxk(x)  # (B, C, H, W)  local
        y = convolve(y, self.conv_1x1)  # (B, D, H, W)
        H, W = y.shape[2:]
        fitted = (math.ceil(H / self.patch) * self.patch, math.ceil(W / self.patch) * self.patch)
        if fitted != (H, W):
            y = F.interpolate(y, size=fitted, mode="bilinear", align_corners=False)  # (B, D, H', W')
        y = unfold(y, self.patch)  # (B*p*p, N, D)
        y = self.norm(self.transformer(y))  # (B*p*p, N, D)  global
        y = fold(y, self.patch, *fitted)  # (B, D, H', W')
        if fitted != (H, W):
            y = F.interpolate(y, size=(H, W), mode="bilinear", align_corners=False)  # (B, D, H, W)
        y = self.conv_proj(y)  # (B, C, H, W)
        x = self.conv_fusion(torch.cat([x, y], dim=1))  # (B, C, H, W)
        return x


def unfold(x: Tensor, p: int) -> Tensor:
    """One sequence a place within the p x p patches: (B, D, H, W) -> (B*p*p, N, D), N = HW / p^2."""
    B, D, H, W = x.shape
    x = x.permute(0, 2, 3, 1)  # (B, H, W, D)
    x = x.reshape(B, H // p, p, W // p, p, D)  # (B, H/p, p, W/p, p, D)
    x = x.permute(0, 2, 4, 1, 3, 5)  # (B, p, p, H/p, W/p, D)
    return x.reshape(B * p * p, (H // p) * (W // p), D)  # (B*p*p, N, D)


def fold(x: Tensor, p: int, H: int, W: int) -> Tensor:
    """The way back: (B*p*p, N, D) -> (B, D, H, W)."""
    x = x.reshape(-1, p, p, H // p, W // p, x.shape[-1])  # (B, p, p, H/p, W/p, D)
    x = x.permute(0, 3, 1, 4, 2, 5)  # (B, H/p, p, W/p, p, D)
    x = x.reshape(-1, H, W, x.shape[-1])  # (B, H, W, D)
    return x.permute(0, 3, 1, 2)  # (B, D, H, W)


def divisible(width: float) -> int:
    """The nearest multiple of 8, never more than a tenth below (MobileNet's rule)."""
    near = max(8, int(width + 4) // 8 * 8)
    return near + 8 if near < 0.9 * width else near


def _init(module: nn.Module) -> None:
    """timm's initialisation of this family: convolutions by their fan-out, linear weights from a normal of std 0.01."""
    if isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2.0 / fan_out))
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)


@dataclass(frozen=True)
class Inverted:
    """A row of a size table: an inverted residual. ratio: how much wider it is inside."""

    width: int
    stride: int = 1
    ratio: float = 4.0

    def build(self, width: int, drop_path: float) -> nn.Module:
        return InvertedResidual(width, self.width, stride=self.stride, ratio=self.ratio, drop_path=drop_path)


@dataclass(frozen=True)
class Mixer:
    """A row of a size table: a MobileViT block, as wide as what comes in. dim, depth: of its transformer."""

    dim: int
    depth: int
    patch: int = 2
    width: None = None
    stride: int = 1

    def build(self, width: int, drop_path: float) -> nn.Module:
        return MobileViTBlock(width, self.dim, self.depth, patch=self.patch, drop_path=drop_path)


def _published(widths: Sequence[int], dims: Sequence[int], ratio: float = 4.0) -> list[list[Inverted | Mixer]]:
    a, b, *rest = widths
    stages: list[list[Inverted | Mixer]] = [
        [Inverted(a, 1, ratio)],
        [Inverted(b, 2, ratio), Inverted(b, 1, ratio), Inverted(b, 1, ratio)],
    ]
    for width, dim, depth in zip(rest, dims, (2, 4, 3), strict=True):
        stages.append([Inverted(width, 2, ratio), Mixer(dim, depth)])
    return stages


SIZES: dict[str, dict[str, Any]] = {
    "mobilevit_micro": dict(
        stem_stride=1,
        stages=[[Inverted(24, 2, 2), Mixer(48, 1)], [Inverted(48, 2, 2), Mixer(96, 3)]],
        num_features=192,
    ),
    "mobilevit_mini": dict(
        stem_stride=1,
        stages=[
            [Inverted(32, 1, 2)],
            [Inverted(64, 2), Inverted(64)],
            [Inverted(96, 2), Mixer(144, 2)],
            [Inverted(128, 2), Mixer(192, 3)],
        ],
        num_features=512,
    ),
    "mobilevit_xxs": dict(stages=_published((16, 24, 48, 64, 80), (64, 80, 96), 2.0), num_features=320),
    "mobilevit_xs": dict(stages=_published((32, 48, 64, 80, 96), (96, 120, 144)), num_features=384),
    "mobilevit_s": dict(stages=_published((32, 64, 96, 128, 160), (144, 192, 240)), num_features=640),
}

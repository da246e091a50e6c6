"""MobileViT mixes near pixels by convolutions and distant ones by a transformer.

Mehta and Rastegari 2022, "MobileViT", arXiv:2110.02178. In timm it is `mobilevit`, a configuration of `byobnet`.
Apple's code and timm differ from the paper in three points. The 1x1 convolution into the transformer has neither norm
nor activation. A map that its patches don't fill is resized bilinearly and back. A block has a residual only where the
shapes agree.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bias_lab.backbones.linear import linear
from bias_lab.backbones.shared import (
    Block,
    DropPath,
    Head,
    check_ends,
    check_maps,
    check_pool,
    drop_path_rates,
    hooked,
    run,
    take,
)


class MobileViT(nn.Module):
    """(B, C, H, W) -> logits (B, K). The keywords are timm's, and `SIZES` below holds the published models.

    stages: each is a sequence of `Inverted` and `Mixer` rows. stem_stride: 2 as published, 1 for small images.
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
                nn.init.zeros_(module.conv3_1x1.bn.weight)  # a residual branch gives 0 at first, as in timm

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))  # (B, K)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last map: (B, C, H, W) -> (B, C', H', W')."""
        x = self.stem(x.contiguous(memory_format=torch.channels_last))  # (B, C', H', W')
        for stage in self.stages:
            x = run(stage, x, checkpointing=self.grad_checkpointing)  # (B, C', H', W')
        x = self.final_conv(x)  # (B, C', H', W')
        return x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits, (B, C, H, W) -> (B, K), or with pre_logits what the classifier reads, (B, C)."""
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
        """Return the stages' maps, each (B, C, H, W). The last is that of `forward_features`. There is no norm."""
        check_maps(output_fmt)
        taken, maps = take(len(self.stages), indices), []
        x = self.stem(x.contiguous(memory_format=torch.channels_last))  # (B, C', H', W')
        for i, stage in enumerate(self.stages):
            x = run(stage, x, checkpointing=self.grad_checkpointing)  # (B, C', H', W')
            if i == len(self.stages) - 1:
                x = self.final_conv(x)  # (B, C', H', W')
            if i in taken:
                maps.append(x)
        return maps if intermediates_only else (x, maps)

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
        """Drop what `forward_intermediates(indices)` never reads, and return the indices counted from the start."""
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
    """Convolution, batch norm, SiLU: (B, C, H, W) -> (B, C', H/stride, W/stride)."""

    def __init__(
        self, width: int, out: int, kernel: int, *, stride: int = 1, groups: int = 1, act: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, out, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        if as_built(self.conv, self.bn):
            return conv_norm_act(x, self.conv, self.bn, act=self.act)  # the same as the next lines, see "Speed"
        x = self.bn(self.conv(x))  # (B, C', H', W')
        return F.silu(x) if self.act else x


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow (MobileNetV2, arXiv:1801.04381). The input is added where the shapes agree."""

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
    """Mix near pixels by convolution, distant ones by a transformer, and fuse both with the input.

    Pixels at the same place within their patches attend to one another. Pixels of one patch do not, since the
    convolutions mix them. In and out: (B, C, H, W).
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
        y = convolve(y, self.conv_1x1) if as_built(self.conv_1x1) else self.conv_1x1(y)  # (B, D, H, W)
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
    """Return one sequence for each place within the p x p patches: (B, D, H, W) -> (B*p*p, N, D), N = HW / p^2."""
    B, D, H, W = x.shape
    x = x.permute(0, 2, 3, 1)  # (B, H, W, D)
    x = x.reshape(B, H // p, p, W // p, p, D)  # (B, H/p, p, W/p, p, D)
    x = x.permute(0, 2, 4, 1, 3, 5)  # (B, p, p, H/p, W/p, D)
    return x.reshape(B * p * p, (H // p) * (W // p), D)  # (B*p*p, N, D)


def fold(x: Tensor, p: int, H: int, W: int) -> Tensor:
    """Undo `unfold`: (B*p*p, N, D) -> (B, D, H, W)."""
    x = x.reshape(-1, p, p, H // p, W // p, x.shape[-1])  # (B, p, p, H/p, W/p, D)
    x = x.permute(0, 3, 1, 4, 2, 5)  # (B, H/p, p, W/p, p, D)
    x = x.reshape(-1, H, W, x.shape[-1])  # (B, H, W, D)
    return x.permute(0, 3, 1, 2)  # (B, D, H, W)


def divisible(width: float) -> int:
    """Return the nearest multiple of 8 that is at most a tenth below the width (MobileNet's rule)."""
    near = max(8, int(width + 4) // 8 * 8)
    return near + 8 if near < 0.9 * width else near


def _init(module: nn.Module) -> None:
    """Initialise as timm does here: convolutions by their fan-out, linear weights from a normal of std 0.01."""
    if isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2.0 / fan_out))
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.01)
        nn.init.zeros_(module.bias)


@dataclass(frozen=True)
class Inverted:
    """A row of a size table: an inverted residual that is `ratio` times wider inside."""

    width: int
    stride: int = 1
    ratio: float = 4.0

    def build(self, width: int, drop_path: float) -> nn.Module:
        return InvertedResidual(width, self.width, stride=self.stride, ratio=self.ratio, drop_path=drop_path)


@dataclass(frozen=True)
class Mixer:
    """A row of a size table: a MobileViT block that keeps the width. dim, depth: those of its transformer."""

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


# --- Speed -----------------------------------------------------------------------------------------------------------
# A 1x1 convolution is a matrix product over the channels, which lie last in memory. A batch norm in evaluation only
# scales and shifts, so it is folded into the convolution's weights and a bias. It saves an eighth of mobilevit_micro's
# inference, and nothing in training. `test_a_pointwise_convolution_is_a_matrix_product` and
# `test_a_norm_in_evaluation_is_the_convolutions_scale_and_bias` hold both equal.


def as_built(conv: nn.Module, norm: nn.Module | None = None) -> bool:
    """Return whether a convolution and its batch norm are of the built kind, and neither has a hook."""
    kinds = type(conv) is nn.Conv2d and conv.bias is None and (norm is None or type(norm) is nn.BatchNorm2d)
    return kinds and not hooked(conv) and (norm is None or not hooked(norm))


def conv_norm_act(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d, *, act: bool) -> Tensor:
    """Return the norm of the convolution, after SiLU if `act`: (B, C, H, W) -> (B, C', H', W')."""
    x = convolve(x, conv, norm)  # (B, C', H', W')
    # Nothing else holds this map. Without gradients it is overwritten, since new memory costs more than the activation.
    return F.silu(x, inplace=not torch.is_grad_enabled()) if act else x


def convolve(x: Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d | None = None) -> Tensor:
    """Return `norm(conv(x))`, a convolution as built (`as_built`): (B, C, H, W) -> (B, C', H', W')."""
    weight, bias, folded = conv.weight, None, scale_and_shift(norm)
    if folded is not None:
        weight, bias, norm = weight * folded[0].reshape(-1, 1, 1, 1), folded[1], None  # (C', C/groups, k, k), (C',)
    if conv.kernel_size == (1, 1):
        x = linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)  # (B, C', H, W)
    else:
        x = F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)  # (B, C', H', W')
    return x if norm is None else norm(x)


def scale_and_shift(norm: nn.BatchNorm2d | None) -> tuple[Tensor, Tensor] | None:
    """Return a norm in evaluation as (scale, shift), each (C,), or None if it reads its input or has no weights."""
    if norm is None or norm.training or not norm.affine or norm.running_mean is None or norm.running_var is None:
        return None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()  # (C,)
    return scale, norm.bias - norm.running_mean * scale

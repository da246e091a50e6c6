"""CNNs and EfficientViT for small images, built from timm's own classes with size tables of ours.

The stock models halve a 28-pixel image five times, which leaves 1x1. Here the stem keeps the resolution (stride 1) and
two or three halvings remain, so that the last map is at least 4x4 at 28 pixels. The blocks are the published ones:
ResNet (arXiv:1512.03385), EfficientNet (arXiv:1905.11946), MobileNetV3 (arXiv:1905.02244), EfficientViT of MIT
(arXiv:2205.14756).
"""

from collections.abc import Callable
from typing import Any

from timm.models import _efficientnet_builder as builder
from timm.models.efficientnet import EfficientNet
from timm.models.efficientvit_mit import EfficientVit, ResidualBlock
from timm.models.mobilenetv3 import MobileNetV3
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn

from bias_lab.backbones.shared import DropPath, drop_path_rates

BASIC_BLOCK: Any = BasicBlock  # timm annotates an instance where it takes the class
decode: Callable[[list[list[str]]], Any] = builder.decode_arch_def


def resnet(*, in_chans: int = 3, widths: tuple[int, ...], layers: tuple[int, ...], **kwargs: Any) -> nn.Module:
    """Return a ResNet of basic blocks behind a 3x3 convolution of stride 1, without max-pool (the CIFAR stem)."""
    kwargs |= dict(stem_type="deep", stem_width=widths[0] // 2)  # timm's way to a first width other than 64
    return opened(ResNet(BASIC_BLOCK, layers, in_chans=in_chans, channels=widths, **kwargs))


def efficientnet(*, blocks: list[list[str]], **kwargs: Any) -> nn.Module:
    """Return an EfficientNet whose stem keeps the resolution. blocks: timm's notation, a list for each stage."""
    return opened(EfficientNet(decode(blocks), act_layer=nn.SiLU, **kwargs))


def mobilenetv3(*, blocks: list[list[str]], **kwargs: Any) -> nn.Module:
    """Return a MobileNetV3 whose stem keeps the resolution. blocks: timm's notation, a list for each stage."""
    return opened(MobileNetV3(decode(blocks), act_layer=nn.Hardswish, **kwargs))


def efficientvit(*, strides: tuple[int, ...], drop_path_rate: float = 0.0, **kwargs: Any) -> nn.Module:
    """Return an EfficientViT. strides: those of the stem and of each stage (always 2 in the published models)."""
    model = EfficientVit(**kwargs)
    set_drop_path(model, drop_path_rate)
    stages: Any = model.stages
    halving: list[Any] = [model.stem.in_conv, *(stage.blocks[0].main.depth_conv for stage in stages)]
    reduction = 1
    for i, (layer, stride) in enumerate(zip(halving, strides, strict=True)):
        layer.conv.stride = (stride, stride)
        reduction *= stride
        if i > 0:
            model.feature_info[i - 1]["reduction"] = reduction
    return model


class Residual(nn.Module):
    """A residual block of timm's EfficientViT with stochastic depth added: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, block: Any, drop_path: float) -> None:
        super().__init__()
        self.pre_norm, self.main, self.shortcut = block.pre_norm, block.main, block.shortcut
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.drop_path(self.main(self.pre_norm(x))) + self.shortcut(x)  # (B, C, H, W)
        return y


def set_drop_path(model: nn.Module, rate: float) -> None:
    """Give an EfficientViT stochastic depth: 0 at its first residual branch, `rate` at its last, linear in between."""
    places = [
        (parent, name, block)
        for parent in model.modules()
        for name, block in parent.named_children()
        if isinstance(block, ResidualBlock) and block.shortcut is not None
    ]
    for (parent, name, block), drop_path in zip(places, drop_path_rates(rate, len(places)), strict=True):
        if rate > 0:
            setattr(parent, name, Residual(block, drop_path))


def set_stem(model: nn.Module, stem: str) -> None:
    """Make the stem keep the resolution ("open") or halve it ("stock").

    An open stem of a ResNet is a 3x3 convolution without max-pool. Our micro and mini models are built open.
    """
    conv = first_conv(model)
    is_open = conv.stride == (1, 1)
    if stem == "open" and not is_open:
        opened(model)
    if stem == "stock" and is_open:
        conv.stride = (2, 2)
        scale_reductions(model, lambda reduction, _: reduction * 2)


def opened(model: nn.Module) -> nn.Module:
    """Make the stem keep the resolution, and return the model."""
    if isinstance(model, ResNet):
        norm: Any = model.bn1
        conv = nn.Conv2d(first_conv(model).in_channels, norm.num_features, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        setattr(model, "conv1", conv)  # noqa: B010  timm annotates a Sequential
        setattr(model, "maxpool", nn.Identity())  # noqa: B010
        scale_reductions(model, lambda reduction, i: reduction // (2 if i == 0 else 4))
    else:
        first_conv(model).stride = (1, 1)
        scale_reductions(model, lambda reduction, _: reduction // 2)
    return model


def scale_reductions(model: Any, change: Callable[[int, int], int]) -> None:
    """Change the `reduction` of each map in timm's `feature_info`: how many input pixels one step of it is."""
    for i, info in enumerate(model.feature_info):
        info["reduction"] = change(info["reduction"], i)


def first_conv(model: nn.Module) -> nn.Conv2d:
    """Return the convolution that reads the image."""
    return next(m for m in model.modules() if isinstance(m, nn.Conv2d))


SIZES: dict[str, dict[str, Any]] = {
    "resnet_micro": dict(widths=(24, 48, 80, 112), layers=(1, 1, 1, 1)),
    "efficientnet_micro": dict(
        blocks=[
            ["ds_r1_k3_s1_e1_c16_se0.25"],
            ["ir_r1_k3_s2_e3_c24_se0.25"],
            ["ir_r2_k3_s2_e4_c48_se0.25"],
            ["ir_r1_k3_s1_e4_c80_se0.25"],
            ["ir_r2_k3_s2_e4_c112_se0.25"],
        ],
        stem_size=16,
        num_features=320,
    ),
    "mobilenetv3_micro": dict(
        blocks=[
            ["ds_r1_k3_s1_e1_c16_nre"],
            ["ir_r1_k3_s2_e4_c24_nre", "ir_r1_k3_s1_e3_c24_nre"],
            ["ir_r2_k5_s2_e4_c40_se0.25"],
            ["ir_r3_k5_s1_e4_c64_se0.25"],
            ["cn_r1_k1_s1_c256"],
        ],
        stem_size=16,
        num_features=256,
    ),
    "efficientvit_micro": dict(
        widths=(16, 24, 40, 64, 80),
        depths=(0, 1, 1, 1, 2),
        strides=(1, 2, 2, 1, 2),
        head_dim=16,
        head_widths=(160, 192),
    ),
    "resnet_mini": dict(widths=(48, 96, 192, 320), layers=(2, 2, 2, 1)),
    "efficientnet_mini": dict(
        blocks=[
            ["ds_r1_k3_s1_e1_c24_se0.25"],
            ["ir_r2_k3_s2_e4_c40_se0.25"],
            ["ir_r3_k5_s2_e6_c80_se0.25"],
            ["ir_r3_k3_s1_e6_c128_se0.25"],
            ["ir_r3_k5_s2_e6_c192_se0.25"],
        ],
        stem_size=32,
        num_features=768,
    ),
    "mobilenetv3_mini": dict(
        blocks=[
            ["ds_r1_k3_s1_e1_c24_nre"],
            ["ir_r1_k3_s2_e4_c40_nre", "ir_r1_k3_s1_e3_c40_nre"],
            ["ir_r3_k5_s2_e3_c64_se0.25_nre"],
            ["ir_r3_k3_s1_e4_c112_se0.25"],
            ["ir_r3_k5_s2_e6_c160_se0.25"],
            ["cn_r1_k1_s1_c768"],
        ],
        stem_size=24,
        num_features=768,
    ),
    "efficientvit_mini": dict(
        widths=(24, 48, 96, 160, 224),
        depths=(1, 2, 2, 2, 2),
        strides=(1, 2, 2, 1, 2),
        head_dim=16,
        head_widths=(512, 512),
    ),
}

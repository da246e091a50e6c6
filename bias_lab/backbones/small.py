"""Small CNNs and EfficientViT for small images, built from timm's own classes with size tables of ours.

The stock models halve a 28-pixel image five times and end on 1x1. Here the stem keeps the resolution (stride 1) and
three or four halvings remain, so that the last map is at least 4x4 at 28 pixels; the blocks are the published ones:
ResNet (arXiv:1512.03385), EfficientNet (arXiv:1905.11946), MobileNetV3 (arXiv:1905.02244), EfficientViT of MIT
(arXiv:2205.14756).
"""

from typing import Any

from timm.models._efficientnet_builder import decode_arch_def
from timm.models.efficientnet import EfficientNet
from timm.models.efficientvit_mit import EfficientVit
from timm.models.mobilenetv3 import MobileNetV3
from timm.models.resnet import BasicBlock, ResNet
from torch import nn


def resnet(*, in_chans: int = 3, widths: tuple[int, ...], layers: tuple[int, ...], **kwargs: Any) -> ResNet:
    """A ResNet of basic blocks behind a 3x3 convolution of stride 1, without the max-pool (the CIFAR stem)."""
    stem = dict(stem_type="deep", stem_width=widths[0] // 2)  # timm's way to a first width other than 64
    return open_stem(ResNet(BasicBlock, layers, in_chans=in_chans, channels=widths, **stem, **kwargs))


def efficientnet(*, blocks: list[list[str]], **kwargs: Any) -> EfficientNet:
    return open_stem(EfficientNet(decode_arch_def(blocks), act_layer=nn.SiLU, **kwargs))


def mobilenetv3(*, blocks: list[list[str]], **kwargs: Any) -> MobileNetV3:
    return open_stem(MobileNetV3(decode_arch_def(blocks), act_layer=nn.Hardswish, **kwargs))


def set_stem(model: Any, stem: str) -> None:
    """ "open": the stem keeps the resolution (a ResNet's becomes 3x3, without max-pool); "stock": it halves as published.

    ResNet, EfficientNet, MobileNetV3, EfficientViT, MobileViT. Our micro models are built open.
    """
    is_open = first_conv(model).stride == (1, 1)
    if stem == "open" and not is_open:
        open_stem(model)
    if stem == "stock" and is_open:
        first_conv(model).stride = (2, 2)
        for info in model.feature_info:
            info["reduction"] *= 2


def open_stem(model: Any) -> Any:
    """Let a model's stem keep the resolution; gives the model back."""
    if isinstance(model, ResNet):
        first = first_conv(model)
        model.conv1 = nn.Conv2d(first.in_channels, model.bn1.num_features, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
        model.maxpool = nn.Identity()
        factors = [2] + [4] * (len(model.feature_info) - 1)
    else:
        first_conv(model).stride = (1, 1)
        factors = [2] * len(model.feature_info)
    for info, factor in zip(model.feature_info, factors, strict=True):
        info["reduction"] //= factor
    return model


def first_conv(model: nn.Module) -> nn.Conv2d:
    """The convolution that meets the image."""
    return next(m for m in model.modules() if isinstance(m, nn.Conv2d))


def efficientvit(*, strides: tuple[int, ...], **kwargs: Any) -> EfficientVit:
    """strides: of the stem and of each stage (2 throughout in the published models)."""
    model = EfficientVit(**kwargs)
    halving = [model.stem.in_conv, *(stage.blocks[0].main.depth_conv for stage in model.stages)]
    reduction = 1
    for i, (layer, stride) in enumerate(zip(halving, strides, strict=True)):
        layer.conv.stride = (stride, stride)
        reduction *= stride
        if i > 0:
            model.feature_info[i - 1]["reduction"] = reduction
    return model


SIZES: dict[str, tuple[Any, dict[str, Any]]] = {
    "resnet_micro": (resnet, dict(widths=(24, 48, 80, 112), layers=(1, 1, 1, 1))),
    "efficientnet_micro": (
        efficientnet,
        dict(
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
    ),
    "mobilenetv3_micro": (
        mobilenetv3,
        dict(
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
    ),
    "efficientvit_micro": (
        efficientvit,
        dict(
            widths=(16, 24, 40, 64, 80),
            depths=(0, 1, 1, 1, 2),
            strides=(1, 2, 2, 1, 2),
            head_dim=16,
            head_widths=(160, 192),
        ),
    ),
}

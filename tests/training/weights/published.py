"""Write weights in the layouts in which authors publish them, from timm's model by renaming and reordering.

`LAYOUTS` lists them. docs/weights.md has a row for each.
"""

import re
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor, nn

Tensors = dict[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A published layout. write: a timm model's tensors → the content of a file. refused: a part of the message.

    backbone: the name for which the file is given. model: timm's name of the same model, if that is another.
    """

    words: str
    backbone: str
    write: Callable[[Tensors], Any]
    refused: str = ""
    model: str = ""


def random_model(name: str, seed: int = 0, **keywords: Any) -> nn.Module:
    """Return timm's model with random values in every tensor, its norms and running statistics too."""
    model = timm.create_model(name, **keywords)
    generator = torch.Generator().manual_seed(seed)
    for key, value in model.state_dict().items():
        if not value.is_floating_point():
            continue
        if key.endswith("running_var"):
            value.copy_(0.5 + torch.rand(value.shape, generator=generator))
        elif value.ndim < 2:
            centre = 1.0 if key.endswith("weight") else 0.0
            value.copy_(centre + 0.1 * torch.randn(value.shape, generator=generator))
        else:
            value.copy_(torch.randn(value.shape, generator=generator) * min(0.05, value[0].numel() ** -0.5))
    return model.eval()


def shuffled(tensors: Tensors) -> Tensors:
    """Return the tensors in another order, as nothing may depend on it."""
    names = sorted(tensors, key=hash_of)
    return {name: tensors[name] for name in names}


def hash_of(name: str) -> int:
    return int(np.frombuffer(name.encode().ljust(64)[:64], np.uint8).astype(int) @ np.arange(64) % 101)


def renamed(tensors: Tensors, *rules: tuple[str, str]) -> Tensors:
    """Return the tensors after each rule (pattern, replacement) has changed their names."""
    result = {}
    for name, tensor in tensors.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        result[name] = tensor
    return shuffled(result)


def prefixed(tensors: Tensors, prefix: str) -> Tensors:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def without_head(tensors: Tensors) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("head")}


def mae(tensors: Tensors) -> Any:
    decoder = {"mask_token": torch.zeros(1, 1, 512), "decoder_pos_embed": torch.zeros(1, 197, 512)}
    decoder |= {"decoder_blocks.0.norm1.weight": torch.ones(512), "decoder_embed.weight": torch.zeros(512, 192)}
    return {"model": shuffled(without_head(tensors) | decoder)}


def dino(tensors: Tensors) -> Any:
    encoder = without_head(tensors)
    head = {"head.mlp.0.weight": torch.zeros(8, 192), "head.last_layer.weight_v": torch.zeros(8, 8)}
    student = {name: tensor + 1 for name, tensor in encoder.items()}
    return {
        "student": prefixed(prefixed(student, "backbone.") | head, "module."),
        "teacher": prefixed(encoder, "backbone.") | head,
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]},
        "epoch": 100,
        "args": Namespace(arch="deit_tiny"),
    }


def swin(tensors: Tensors) -> Any:
    """Microsoft merges at the end of a stage, timm at the start of the next, and keeps buffers of indices."""

    def earlier(match: re.Match[str]) -> str:
        return f"layers.{int(match[1]) - 1}.downsample"

    names = {re.sub(r"layers\.(\d)\.downsample", earlier, name): tensor for name, tensor in tensors.items()}
    names = {name.replace("head.fc.", "head."): tensor for name, tensor in names.items()}
    names["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.int64)
    names["layers.0.blocks.1.attn_mask"] = torch.zeros(64, 49, 49)
    return {"model": shuffled(names)}


def torchvision_vit(tensors: Tensors) -> Any:
    return renamed(
        tensors,
        (r"^cls_token", "class_token"),
        (r"^patch_embed\.proj", "conv_proj"),
        (r"^pos_embed", "encoder.pos_embedding"),
        (r"^blocks\.(\d+)\.norm(\d)", r"encoder.layers.encoder_layer_\1.ln_\2"),
        (r"^blocks\.(\d+)\.attn\.qkv\.", r"encoder.layers.encoder_layer_\1.self_attention.in_proj_"),
        (r"^blocks\.(\d+)\.attn\.proj", r"encoder.layers.encoder_layer_\1.self_attention.out_proj"),
        (r"^blocks\.(\d+)\.mlp\.fc1", r"encoder.layers.encoder_layer_\1.mlp.0"),
        (r"^blocks\.(\d+)\.mlp\.fc2", r"encoder.layers.encoder_layer_\1.mlp.3"),
        (r"^norm", "encoder.ln"),
        (r"^head", "heads.head"),
    )


def transformers_vit(tensors: Tensors) -> Any:
    parts = {}
    for name, tensor in tensors.items():
        if ".attn.qkv." not in name:
            parts[name] = tensor
            continue
        for part, third in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
            parts[name.replace("attn.qkv", f"attention.attention.{part}")] = third.clone()
    return renamed(
        parts,
        (r"^cls_token", "vit.embeddings.cls_token"),
        (r"^pos_embed", "vit.embeddings.position_embeddings"),
        (r"^patch_embed\.proj", "vit.embeddings.patch_embeddings.projection"),
        (r"^blocks\.", "vit.encoder.layer."),
        (r"attn\.proj", "attention.output.dense"),
        (r"mlp\.fc1", "intermediate.dense"),
        (r"mlp\.fc2", "output.dense"),
        (r"\.norm1", ".layernorm_before"),
        (r"\.norm2", ".layernorm_after"),
        (r"^norm", "vit.layernorm"),
        (r"^head", "classifier"),
    )


def torchvision_cnn(tensors: Tensors) -> Any:
    return renamed(
        tensors,
        (r"^conv_stem", "features.0.0"),
        (r"^bn1", "features.0.1"),
        (r"^blocks\.(\d+)\.(\d+)\.", lambda match: f"features.{int(match[1]) + 1}.{match[2]}.block."),  # type: ignore[arg-type, return-value]
        (r"^conv_head", "features.8.0"),
        (r"^bn2", "features.8.1"),
        (r"^classifier", "classifier.1"),
    )


def efficientnet_pytorch(tensors: Tensors) -> Any:
    return renamed(
        tensors,
        (r"^conv_stem", "_conv_stem"),
        (r"^bn1", "_bn0"),
        (r"^blocks\.(\d+)\.(\d+)\.conv_pwl", r"_blocks.\1\2._project_conv"),
        (r"^blocks\.(\d+)\.(\d+)\.conv_pw", r"_blocks.\1\2._expand_conv"),
        (r"^blocks\.(\d+)\.(\d+)\.conv_dw", r"_blocks.\1\2._depthwise_conv"),
        (r"^blocks\.(\d+)\.(\d+)\.", r"_blocks.\1\2._"),
        (r"^conv_head", "_conv_head"),
        (r"^bn2", "_bn1"),
        (r"^classifier", "_fc"),
    )


def cvnets_mobilevit(tensors: Tensors) -> Any:
    return renamed(
        tensors,
        (r"^stem\.conv", "conv_1.block.conv"),
        (r"^stem\.bn", "conv_1.block.norm"),
        (r"^stages\.(\d)\.(\d)\.", lambda match: f"layer_{int(match[1]) + 1}.{match[2]}.block."),  # type: ignore[arg-type, return-value]
        (r"^final_conv\.conv", "conv_1x1_exp.block.conv"),
        (r"^final_conv\.bn", "conv_1x1_exp.block.norm"),
        (r"^head\.fc", "classifier.fc"),
    )


def other_shortcuts(tensors: Tensors) -> Any:
    return renamed(tensors, (r"\.downsample\.", ".shortcut."), (r"^fc\.", "linear."))


def deit3(tensors: Tensors) -> Any:
    return {"model": renamed(tensors, (r"\.ls(\d)\.gamma", r".gamma_\1"))}


def training_checkpoint(tensors: Tensors) -> Any:
    other = {name: tensor * 0 for name, tensor in tensors.items()}
    return {"epoch": 3, "arch": "resnet18", "state_dict": other, "state_dict_ema": shuffled(tensors)}


NOT_CONVERTED = "a layout that timm does not convert"
LAYOUTS = (
    Layout(words="DeiT, official (`model`)", backbone="deit_tiny_patch16_224", write=lambda t: {"model": shuffled(t)}),
    Layout(
        words="DeiT distilled, official (`model`)",
        backbone="deit_tiny_distilled_patch16_224",
        write=lambda t: {"model": shuffled(t)},
    ),
    Layout(
        words="DeiT distilled, official, for a DeiT without the second token",
        backbone="deit_tiny_patch16_224",
        model="deit_tiny_distilled_patch16_224",
        write=lambda t: {"model": shuffled(t)},
        refused="they look like deit_tiny_distilled_patch16_224's",
    ),
    Layout(words="DeiT III, official (`gamma_1`)", backbone="deit3_small_patch16_224", write=deit3),
    Layout(words="MAE, official, with its decoder", backbone="vit_tiny_patch16_224", write=mae),
    Layout(words="DINO, official (`student`, `teacher`)", backbone="deit_tiny_patch16_224", write=dino),
    Layout(words="ViT of torchvision", backbone="vit_tiny_patch16_224", write=torchvision_vit, refused=NOT_CONVERTED),
    Layout(words="ViT of Transformers", backbone="vit_tiny_patch16_224", write=transformers_vit, refused=NOT_CONVERTED),
    Layout(words="Swin, official (merging at a stage's end)", backbone="swin_tiny_patch4_window7_224", write=swin),
    Layout(words="MobileViT of ml-cvnets", backbone="mobilevit_xxs", write=cvnets_mobilevit, refused=NOT_CONVERTED),
    Layout(words="MobileViT of timm", backbone="mobilevit_xxs", write=shuffled),
    Layout(words="ResNet of torchvision", backbone="resnet18", write=shuffled),
    Layout(
        words="ResNet of PyTorch's ImageNet example (`state_dict`, `module.`)",
        backbone="resnet18",
        write=lambda t: {"arch": "resnet18", "state_dict": prefixed(shuffled(t), "module.")},
    ),
    Layout(words="ResNet of a timm training (`state_dict_ema`)", backbone="resnet18", write=training_checkpoint),
    Layout(
        words="ResNet whose shortcuts are called `shortcut`",
        backbone="resnet18",
        write=other_shortcuts,
        refused=NOT_CONVERTED,
    ),
    Layout(words="EfficientNet of timm", backbone="efficientnet_b0", write=shuffled),
    Layout(
        words="EfficientNet of torchvision", backbone="efficientnet_b0", write=torchvision_cnn, refused=NOT_CONVERTED
    ),
    Layout(
        words="EfficientNet of EfficientNet-PyTorch",
        backbone="efficientnet_b0",
        write=efficientnet_pytorch,
        refused=NOT_CONVERTED,
    ),
    Layout(words="MobileNetV3 of timm", backbone="mobilenetv3_large_100", write=shuffled),
    Layout(
        words="MobileNetV3 of torchvision",
        backbone="mobilenetv3_large_100",
        write=torchvision_cnn,
        refused=NOT_CONVERTED,
    ),
)


def saved(content: Any, path: Path) -> Path:
    """Write a file as torch.save does, and return its path."""
    torch.save(content, path)
    return path

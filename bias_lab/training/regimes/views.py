"""Draw the crops that DINO compares, and compute a backbone's features of crops of any size."""

from typing import Any

import torch
import torch.nn.functional as F
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn

from bias_lab.backbones.shared import attention_map
from bias_lab.catalogue import Sides, sides
from bias_lab.training.regimes.features import vit_tokens


def view(images: Tensor, size: Sides, area: tuple[float, float]) -> Tensor:
    """Draw one crop of each image, (B, C, H', W'), with random area, shape, place, flip and light.

    size: the side of square crops, or (H', W'). area: the smallest and largest share of the image's area. Draws come
    from the global generator on the CPU. Unlike other draws of the lab they are not keyed by sample but by (seed, step)
    and the place within the batch, since those of a whole batch are drawn at once.
    """
    B, C = images.shape[:2]
    u = torch.rand(8, B)
    share, ratio = area[0] + (area[1] - area[0]) * u[0], (4 / 3) ** (2 * u[1] - 1)
    width, height = (share * ratio).sqrt().clamp(max=1), (share / ratio).sqrt().clamp(max=1)
    theta = torch.zeros(B, 2, 3)  # from the crop's coordinates to the image's, both from -1 to 1
    theta[:, 0, 0] = torch.where(u[2] < 0.5, width, -width)
    theta[:, 1, 1] = height
    theta[:, 0, 2], theta[:, 1, 2] = (1 - width) * (2 * u[3] - 1), (1 - height) * (2 * u[4] - 1)
    places = F.affine_grid(theta.to(images), [B, C, *sides(size)], align_corners=False)  # (B, H', W', 2)
    x = F.grid_sample(images, places, padding_mode="border", align_corners=False)  # (B, C, H', W')
    jitter, contrast, light = (u[5] < 0.8).float(), 0.8 * u[6] - 0.4, 0.8 * u[7] - 0.4
    contrast, light = ((jitter * v).to(x)[:, None, None, None] for v in (contrast, light))
    mean = x.mean((1, 2, 3), keepdim=True)
    x = mean + (x - mean) * (1 + contrast) + light
    if C == 3:
        grey = (torch.rand(B) < 0.2).to(x)[:, None, None, None]
        x = torch.lerp(x, x.mean(1, keepdim=True).expand_as(x), grey)
    return x


def local_size(backbone: nn.Module, size: int) -> int:
    """Return the side of a local crop: about half the image if the backbone takes another size, else the image's own.

    A CNN takes any size, a plain ViT any grid of patches (its positions are resampled), Swin and an MLP only their own.
    """
    embed: Any = getattr(backbone, "patch_embed", None)
    if embed is None:
        return -(-size // 2) if getattr(backbone, "img_size", None) is None else size
    if getattr(backbone, "pos_embed", None) is None:
        return size
    patch = int(embed.patch_size[0])
    return max(2, size // (2 * patch)) * patch


def features(backbone: Any, images: Tensor) -> Tensor:
    """Return a classifier's input (B, D) for images of any size that `local_size` gives."""
    return backbone.forward_head(forward_features(backbone, images), pre_logits=True)  # type: ignore[no-any-return]


def forward_features(backbone: Any, images: Tensor) -> Tensor:
    """Return the backbone's `forward_features`, with a plain ViT's positions resampled to the images' size."""
    embed = getattr(backbone, "patch_embed", None)
    if embed is None or tuple(images.shape[-2:]) == tuple(embed.img_size):
        return backbone.forward_features(images)  # type: ignore[no-any-return]
    x = embed.proj(images)  # (B, D, h, w)
    grid, positions = list(x.shape[-2:]), backbone.pos_embed
    prefix = positions.shape[1] - embed.grid_size[0] * embed.grid_size[1]
    positions = resample_abs_pos_embed(positions, grid, list(embed.grid_size), num_prefix_tokens=prefix)
    x = x.flatten(2).transpose(1, 2) + positions[:, prefix:]  # (B, N, D)
    return vit_tokens(backbone, x, positions[:, :prefix])  # (B, prefix + N, D)


def attention(backbone: Any, images: Tensor) -> Tensor | None:
    """Return the attention (B, h, w) of the last block's class token, mean over heads, or None if it is no plain ViT.

    Without a class token it is the mean over all patches' attention.
    """
    if getattr(backbone, "pos_embed", None) is None or not hasattr(backbone.blocks[-1].attn, "qkv"):
        return None
    layer = backbone.blocks[-1].attn
    inputs: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda *call: inputs.append(call[1][0]))
    try:
        backbone.forward_features(images)
    finally:
        handle.remove()
    weight = attention_map(layer, inputs[0]).mean(1)  # (B, N, N)
    rows, columns = backbone.patch_embed.grid_size
    query = weight[:, 0] if backbone.cls_token is not None else weight.mean(1)  # (B, N)
    return query[:, -rows * columns :].reshape(-1, rows, columns)

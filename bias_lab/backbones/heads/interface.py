"""What a segmentation head must offer, and how a head and a backbone become one model.

The heads lie in a room of their own below the backbones, since each of them is a text of its own that fits many
backbones. The letters of shape comments are those of `shared.py`. A primed letter stands for any size.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bias_lab import catalogue
from bias_lab.backbones import build
from bias_lab.catalogue import Sides, sides
from bias_lab.errors import UserError


@dataclass(frozen=True, slots=True)
class Map:
    """One map that a backbone gives, at the image size of its model."""

    channels: int
    rows: int
    columns: int


class Head(Protocol):
    """A module that reads classes from the maps of a backbone.

    Its constructor gets all maps of the backbone as `Map`s, the finest or first block's first, the number of classes,
    and the image size (height, width). Raises UserError for maps that it can't use.
    """

    taken: tuple[int, ...]  # which of the maps it reads, in order

    def __call__(self, maps: list[Tensor]) -> Tensor:
        """Return logits (B, K, H', W') from the maps that it takes, each (B, C, H', W')."""


def one_resolution(maps: Sequence[Map], head: str) -> None:
    """Raise UserError unless all maps have one size and width, as those of a plain ViT have."""
    if len(set(maps)) > 1:
        shapes = ", ".join(dict.fromkeys(f"{one.channels} x {one.rows} x {one.columns}" for one in maps))
        what = f"the backbone gives maps of several shapes, {shapes}, and the head '{head}' reads tokens of one"
        raise UserError(what, remedy="take another head: linear, matched or the backbone's own")


class DenseModel(nn.Module):
    """An encoder and a head: images (B, C, H, W) -> logits (B, K, H, W), those of the head resized bilinearly.

    taken: which maps of the encoder the head reads. classes: K, without void.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module, *, taken: Sequence[int], classes: int) -> None:
        super().__init__()
        self.encoder, self.head, self.taken, self.classes = encoder, head, list(taken), classes

    def forward(self, images: Tensor) -> Tensor:
        encoder: Any = self.encoder
        maps = encoder.forward_intermediates(
            images, indices=self.taken, norm=True, intermediates_only=True
        )  # each (B, C', H', W')
        x = self.head(maps)  # (B, K, H', W')
        return F.interpolate(x, size=images.shape[-2:], mode="bilinear", align_corners=False)

    def get_classifier(self) -> nn.Module:
        """Return the head, whose parameters are not counted among the backbone's."""
        return self.head

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return timm's patterns of the encoder's layers. The head comes after all of them."""
        encoder: Any = self.encoder
        return {name: _below(pattern) for name, pattern in encoder.group_matcher(coarse=coarse).items()}


def _below(pattern: Any) -> Any:
    """Return one of timm's patterns for names that begin with `encoder.`."""
    if isinstance(pattern, list | tuple):
        return [(_below(part), suffix) for part, suffix in pattern]
    return None if pattern is None else rf"^encoder\.(?:{pattern.replace('^', '')})"


def dense(encoder: nn.Module, name: str, *, head: str, classes: int, channels: int, image_size: Sides) -> DenseModel:
    """Return a backbone with a head.

    name: of the backbone. head: of the head, or empty for the backbone's own. classes: without void.
    Raises UserError for a backbone that can't have the head, or whose patches don't fill the image.
    """
    catalogue.check_head(name, head)
    if classes < 1:
        raise UserError(f"{classes} classes are too few to segment", "give 1 or more")
    patch = getattr(getattr(encoder, "patch_embed", None), "patch_size", None)
    if patch is not None:
        catalogue.check_patch(image_size, int(patch[0]))
    place, _, kind = catalogue.HEADS[catalogue.head_of(name, head)].module.partition(":")
    make = getattr(importlib.import_module(place), kind)
    made: Any = make(maps_of(encoder, channels, image_size), classes, sides(image_size))
    return DenseModel(encoder, made, taken=made.taken, classes=classes)


@torch.no_grad()
def maps_of(encoder: nn.Module, channels: int, image_size: Sides) -> list[Map]:
    """Return the maps of `forward_intermediates`, measured on one grey image in evaluation.

    Raises UserError for a model without this method.
    """
    known: Any = encoder
    if not hasattr(encoder, "forward_intermediates"):
        raise UserError(
            f"{type(encoder).__name__} has no forward_intermediates, from which a head reads its maps",
            remedy="give it timm's method of that name, or use a backbone of the lab",
        )
    was_training = encoder.training
    encoder.eval()
    at = next(encoder.parameters())
    grey = torch.zeros(1, channels, *sides(image_size), device=at.device, dtype=at.dtype)  # (1, C, H, W)
    maps: list[Tensor] = known.forward_intermediates(grey, intermediates_only=True)  # each (B, C', H', W')
    encoder.train(was_training)
    return [Map(x.shape[1], x.shape[2], x.shape[3]) for x in maps]


def spread(count: int, most: int) -> tuple[int, ...]:
    """Return at most so many of `count` maps, evenly spread, the last among them, in order.

    >>> spread(12, 4), spread(5, 4), spread(2, 4)
    ((2, 5, 8, 11), (1, 2, 3, 4), (0, 1))
    """
    few = min(count, most)
    return tuple(sorted(count - 1 - i * count // few for i in range(few)))


def parameters(head: nn.Module) -> int:
    """Return the number of parameters of a head."""
    return sum(p.numel() for p in head.parameters())


def head_flops(model: DenseModel, image_size: Sides, channels: int) -> int:
    """Return the multiply-adds of the head alone on one image."""
    encoder = _Encoder(model)
    return build.flops(model, image_size, channels) - build.flops(encoder, image_size, channels)


class _Encoder(nn.Module):
    """The encoder of a dense model as it is called there: images (B, C, H, W) to its maps."""

    def __init__(self, model: DenseModel) -> None:
        super().__init__()
        self.encoder, self.taken = model.encoder, model.taken

    def forward(self, images: Tensor) -> Any:
        encoder: Any = self.encoder
        return encoder.forward_intermediates(images, indices=self.taken, norm=True, intermediates_only=True)

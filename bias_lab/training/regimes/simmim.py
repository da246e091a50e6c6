"""Masked image modelling with a linear decoder (Xie et al. 2022, SimMIM, arXiv:2111.09886).

Squares of the image are replaced by a learnt mask token. A 1x1 convolution on the backbone's last map reconstructs the
pixels, with an L1 loss on the hidden ones. In a transformer the token replaces patch embeddings, as in the paper. In a
backbone without patches (a CNN, MobileViT) a learnt pixel replaces the hidden pixels.
"""

from pathlib import Path
from typing import Any, Self, Unpack

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule
from torch import Tensor, nn

from bias_lab.definition import Run, steps
from bias_lab.errors import UserError
from bias_lab.training import optimizer
from bias_lab.training.job import Labels, Picture
from bias_lab.training.modules import fields as keywords
from bias_lab.training.modules.build import FOLDER, backbone_of, from_run
from bias_lab.training.modules.fields import Training
from bias_lab.training.modules.steps import IntervalMeans, clip, drawn_alike, features, horizon, images_of, log_loss
from bias_lab.training.regimes import chance
from bias_lab.training.regimes.features import check_parts, collapse_diagnostics, feature_map, feature_std, picture_grid
from bias_lab.training.regimes.masking import random_mask

LEARNING_RATE = 1e-3  # where a run has none, for small images and batches of 128
REGIME = "simmim"


def simmim_loss(predicted: Tensor, images: Tensor, mask: Tensor) -> Tensor:
    """Return the mean absolute error over the values of masked pixels, a scalar, which is 0 if nothing is masked.

    predicted, images: (B, C, H, W). mask: (B, 1, H, W), 1 is masked.
    """
    error = (predicted - images).abs() * mask  # (B, C, H, W)
    return error.sum() / (mask.sum() * images.shape[1]).clamp(min=1)


def mask_unit(image_size: int, patch: int) -> int:
    """Return the side of the hidden squares in pixels, in proportion to the paper's 32 at 224 px.

    It is the smallest multiple of the patch that divides the image and is at least a seventh of it.
    Raise UserError if there is none.
    """
    fitting = [u for u in range(patch, image_size + 1, patch) if image_size % u == 0 and u * 7 >= image_size]
    if not fitting:
        raise UserError(f"patches of {patch} px don't fill an image of {image_size} px", "give a patch that divides it")
    return fitting[0]


class SimMIM(LightningModule):
    """Trains any backbone on images (B, C, H, W) without labels, by reconstructing hidden squares.

    backbone: a name, made for `classes`, `channels` and `image_size`, or a model. steps: of the schedule, by default
    `samples_seen` in batches if that is given, else those of the Trainer. fields: training fields of `Run`. unit: side
    of a square in pixels, a multiple of the patch. None is `mask_unit`, so that backbones with different
    patches get the same task. A ratio of 0.6 and a unit of 32 at 224 px are the paper's.
    Raises UserError for a mask ratio outside [0, 1), or squares that don't fit.

    >>> model = SimMIM("resnet_micro", channels=1, image_size=28)
    >>> model.mask_ratio, model.predict_step(torch.zeros(2, 1, 28, 28)).shape
    (0.6, torch.Size([2, 112]))
    """

    OUTPUTS = ("reconstruct",)  # layers that Muon leaves to AdamW
    feature_std: Tensor

    def __init__(
        self,
        backbone: str | nn.Module,
        *,
        classes: int | None = None,
        channels: int = 3,
        image_size: int = 224,
        steps: int | None = None,
        unit: int | None = None,
        **fields: Unpack[Training],
    ) -> None:
        super().__init__()
        keywords.asked({"backbone": backbone})
        self.save_hyperparameters(ignore=() if isinstance(backbone, str) else ("backbone",))
        run = keywords.run_of(fields, backbone=backbone if isinstance(backbone, str) else "", regime=REGIME)
        keywords.complete(self, run, LEARNING_RATE, {"backbone": backbone})
        self.settings, self.steps = run, keywords.steps_of(steps, fields, run)
        encoder: Any = backbone_of(backbone, run, classes=classes, channels=channels, image_size=image_size)
        check_parts(encoder, REGIME, ("forward_features", "feature_info", "num_features"))
        self.encoder = encoder
        self.mask_ratio, self.unit = run.mask_ratio, unit
        self.patch, width = token_shape(encoder)
        self.mask_token = nn.Parameter(torch.zeros(width))
        if self.patch is not None:
            nn.init.trunc_normal_(self.mask_token, std=0.02)  # a pixel's stays 0, the mean of normalised images
        self.stride = int(encoder.feature_info[-1]["reduction"])
        self.reconstruct = nn.Conv2d(encoder.num_features, self.stride**2 * channels_of(encoder), kernel_size=1)
        self.register_buffer("feature_std", torch.tensor(float("nan")))  # a buffer survives a resume

    @classmethod
    def from_run(cls, run: Run, backbone: nn.Module | None = None, *, folder: str | Path = FOLDER) -> Self:
        """Return the module that a run's fields describe, with LEARNING_RATE if the run has none.

        backbone: None makes the one that a sweep begins with. folder: see `modules.build.from_run`.
        """
        if backbone is None:
            return from_run(cls, run, folder)
        return cls(backbone, steps=steps(run), **keywords.training_fields(run))

    def mask(self, batch: int, height: int, width: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw a mask (B, 1, H, W) of whole squares, where 1 is masked, with the same number in every image."""
        unit = self.unit or mask_unit(height, self.patch or 1)
        if height % unit or width % unit or unit % (self.patch or 1):
            raise UserError(
                f"squares of {unit} px don't fill images of {height}x{width} px in patches of {self.patch or 1} px",
                "give a unit that divides the image and is a multiple of the patch",
            )
        rows, columns = height // unit, width // unit
        squares = random_mask(batch, rows * columns, self.mask_ratio, generator=generator)  # (B, N)
        squares = squares.reshape(batch, 1, rows, columns)  # (B, 1, rows, columns)
        return squares.repeat_interleave(unit, 2).repeat_interleave(unit, 3)  # (B, 1, H, W)

    def encode(self, images: Tensor, mask: Tensor) -> Tensor:
        """Return the backbone's last map (B, D, h, w) of images without their masked squares."""
        if self.patch is None:
            hidden = mask * self.mask_token[:, None, None].to(images.dtype)  # (B, C, H, W)
            features = self.encoder.forward_features(images * (1 - mask) + hidden)
        else:
            covered = mask[:, 0, :: self.patch, :: self.patch]  # (B, h, w), a patch's one value
            handle = self.encoder.patch_embed.register_forward_hook(lambda *call: self.hide(call[-1], covered))
            try:
                # a user's stem may overlap neighbouring patches, so their pixels are hidden too
                features = self.encoder.forward_features(images * (1 - mask))
            finally:
                handle.remove()
        return feature_map(self.encoder, features)

    def hide(self, embedded: Tensor, covered: Tensor) -> Tensor:
        """Return embeddings, (B, h, w, D) or (B, N, D), with the mask token where `covered` (B, h, w) is 1."""
        weight = covered.reshape(*embedded.shape[:-1], 1).to(embedded.dtype)
        return embedded * (1 - weight) + self.mask_token.to(embedded.dtype) * weight

    def decode(self, features: Tensor, height: int, width: int) -> Tensor:
        """Return pixels (B, C, H, W) from the map (B, D, h, w), without the margin of a backbone that rounds up."""
        pixels = F.pixel_shuffle(self.reconstruct(features), self.stride)  # (B, C, h*stride, w*stride)
        if pixels.shape[2] < height or pixels.shape[3] < width:
            pixels = F.interpolate(pixels, size=(height, width), mode="bilinear")
        return pixels[:, :, :height, :width]

    def training_step(self, batch: Any, batch_idx: int = 0) -> Tensor:
        return self._step(images_of(batch))

    def _step(self, images: Tensor) -> Tensor:
        """Return the loss of images (B, C, H, W) under masks that are drawn."""
        B, _, H, W = images.shape
        mask = self.mask(B, H, W).to(images.device)
        maps = self.encode(images, mask)  # (B, D, h, w)
        if self.training:
            self.feature_std.copy_(feature_std(maps.mean((2, 3))))
        return simmim_loss(self.decode(maps, H, W), images, mask)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        images = images_of(batch)
        with drawn_alike(batch_idx):
            log_loss(self, "val", self._step(images), len(images))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        images = images_of(batch)
        with drawn_alike(batch_idx):
            log_loss(self, "test", self._step(images), len(images))

    def predict_step(self, batch: Any, batch_idx: int = 0) -> Tensor:
        """Return the encoder's features (B, D) of images, or of a pair of images and labels."""
        return features(self.encoder, images_of(batch))

    def configure_callbacks(self) -> list[Callback]:
        return [IntervalMeans()]

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        clip(self, optimizer, self.settings.clip, gradient_clip_val, gradient_clip_algorithm)

    def configure_optimizers(self) -> Any:
        return optimizer.for_run(
            self, self.settings, rate=self.hparams["learning_rate"], steps=horizon(self, self.steps)
        )

    def diagnostics(self) -> dict[str, float | bool]:
        """Return the last step's `feature_std` and whether the features have collapsed."""
        return collapse_diagnostics(self.feature_std)

    def is_untrained(self, loss: float, images: Tensor, labels: Labels | None = None) -> bool:
        """Return whether the loss is near that of the median pixel or of the image's mean."""
        return chance.is_near(loss, chance.level_of_pixels(images.float()))

    @torch.no_grad()
    def pictures(self, images: Tensor) -> dict[str, Picture]:
        """Return `reconstruction` of up to 8 images: the originals, the visible pixels, the reconstruction."""
        images = images[:8]
        B, _, H, W = images.shape
        mask = self.mask(B, H, W, torch.Generator().manual_seed(0)).to(images.device)
        predicted = self.decode(self.encode(images, mask), H, W)
        visible = images * (1 - mask) + images.mean((2, 3), keepdim=True) * mask
        complete = images * (1 - mask) + predicted * mask
        return {"reconstruction": picture_grid([images, visible, complete], like=images)}


def token_shape(backbone: Any) -> tuple[int | None, int]:
    """Return the patch and width (P, D) of a transformer's embeddings, or (None, C) of a backbone without patches."""
    embed: Any = getattr(backbone, "patch_embed", None)
    if getattr(embed, "patch_size", None) is None:
        return None, channels_of(backbone)
    width = getattr(embed.proj, "out_channels", None) or backbone.embed_dim  # a stem may have several layers
    return int(embed.patch_size[0]), int(width)


def channels_of(backbone: nn.Module) -> int:
    """Return the input channels of the first convolution, or of an MLP. Raise UserError if nothing tells them."""
    first: Any = next((m for m in backbone.modules() if isinstance(m, nn.Conv2d)), None)
    channels = getattr(backbone, "in_chans", None)
    if first is None and isinstance(channels, int):
        return channels
    if first is None:
        raise UserError(f"{type(backbone).__name__} has no convolution, so its input's channels are unknown")
    return int(first.in_channels)

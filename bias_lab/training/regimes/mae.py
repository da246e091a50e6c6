"""Masked autoencoding: reconstruct hidden patches from visible ones (He et al. 2022, arXiv:2111.06377).

The three steps are three methods. `mask` draws which patches are hidden. `encode` applies the backbone to the visible
ones alone, which is fast and needs a plain ViT. `decode` puts mask tokens in the gaps and reconstructs every patch with
a small transformer, which is dropped afterwards.
"""

from pathlib import Path
from typing import Any, Self, Unpack

import torch
from lightning.pytorch import Callback, LightningModule
from torch import Tensor, nn

from bias_lab.backbones.linear import Linear
from bias_lab.backbones.priors.positions import sine_cosine
from bias_lab.backbones.shared import Block
from bias_lab.definition import Run, steps
from bias_lab.errors import UserError
from bias_lab.training import optimizer
from bias_lab.training.job import Labels, Picture
from bias_lab.training.modules import fields as keywords
from bias_lab.training.modules.build import FOLDER, backbone_of, from_run
from bias_lab.training.modules.fields import Training
from bias_lab.training.modules.steps import IntervalMeans, clip, drawn_alike, features, horizon, images_of, log_loss
from bias_lab.training.regimes import chance
from bias_lab.training.regimes.features import check_parts, collapse_diagnostics, feature_std, picture_grid, vit_tokens
from bias_lab.training.regimes.masking import masked_count, random_mask

LEARNING_RATE = 1.5e-3  # where a run has none, for small images and batches of 128 (the paper has 1.5e-4 for 256)
BETAS = (0.9, 0.95)  # the paper's
REGIME = "mae"


def patches(images: Tensor, patch: int) -> Tensor:
    """Return patches (B, N, P²·C) of images (B, C, H, W), values in (row, column, channel) order as in MAE's code."""
    B, C, H, W = images.shape
    h, w = H // patch, W // patch
    x = images.reshape(B, C, h, patch, w, patch)  # (B, C, h, P, w, P)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(B, h * w, patch * patch * C)  # (B, N, P²·C)


def unpatches(values: Tensor, patch: int, rows: int, columns: int) -> Tensor:
    """Return images (B, C, H, W) from patches (B, N, P²·C), the inverse of `patches`."""
    B = values.shape[0]
    x = values.reshape(B, rows, columns, patch, patch, -1)  # (B, h, w, P, P, C)
    return x.permute(0, 5, 1, 3, 2, 4).reshape(B, -1, rows * patch, columns * patch)  # (B, C, H, W)


def mae_loss(predicted: Tensor, images: Tensor, mask: Tensor, *, patch: int) -> Tensor:
    """Return the mean squared error on the masked patches, a scalar, which is 0 if nothing is masked.

    predicted: (B, N, P²·C). images: (B, C, H, W). mask: (B, N), 1 is masked. Each target patch is normalised by its own
    mean and unbiased variance plus 1e-6, as in the official code.
    """
    error = (predicted - targets(images, patch)).square().mean(-1)  # (B, N)
    return (error * mask).sum() / mask.sum().clamp(min=1)


def targets(images: Tensor, patch: int) -> Tensor:
    """Return what MAE reconstructs (B, N, P²·C): each patch normalised by its own mean and variance."""
    target = patches(images, patch)  # (B, N, P²·C)
    mean, variance = target.mean(-1, keepdim=True), target.var(-1, keepdim=True)  # (B, N, 1)
    return (target - mean) / (variance + 1e-6).sqrt()


def visible_indices(mask: Tensor, visible: int) -> Tensor:
    """Return the indices (B, V) of visible patches, in reading order."""
    return mask.argsort(dim=1, stable=True)[:, :visible]


class MAE(LightningModule):
    """Trains a plain ViT on images (B, C, H, W) without labels, by reconstructing hidden patches.

    backbone: a name, made for `classes`, `channels` and `image_size`, or a model. It is a ViT with timm's parts
    (patch_embed, pos_embed, blocks, norm, and cls_token or reg_token where it has them). steps: of the schedule, by
    default `samples_seen` in batches if that is given, else those of the Trainer. fields: training fields of `Run`.
    decoder_width: None is half the encoder's, in steps of 32. Two decoder blocks suffice at 28-96 px and make
    the step cheap. The paper's decoder for 224 px has a width of 512 and a depth of 8.
    Raises UserError for a backbone without those parts, or a mask ratio outside [0, 1).

    >>> model = MAE("vit_micro", channels=1, image_size=28, mask_ratio=0.5)
    >>> model.predict_step(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 96])
    """

    OUTPUTS = ("reconstruct",)  # layers that Muon leaves to AdamW
    feature_std: Tensor
    positions: Tensor

    def __init__(
        self,
        backbone: str | nn.Module,
        *,
        classes: int | None = None,
        channels: int = 3,
        image_size: int = 224,
        steps: int | None = None,
        decoder_width: int | None = None,
        decoder_depth: int = 2,
        **fields: Unpack[Training],
    ) -> None:
        super().__init__()
        keywords.asked({"backbone": backbone})
        self.save_hyperparameters(ignore=() if isinstance(backbone, str) else ("backbone",))
        run = keywords.run_of(fields, backbone=backbone if isinstance(backbone, str) else "", regime=REGIME)
        keywords.complete(self, run, LEARNING_RATE, {"backbone": backbone})
        self.settings, self.steps = run, keywords.steps_of(steps, fields, run)
        made = backbone_of(backbone, run, classes=classes, channels=channels, image_size=image_size)
        check_backbone(made, run.mask_ratio)
        encoder: Any = made
        self.encoder = encoder
        self.mask_ratio = run.mask_ratio
        self.patch = int(encoder.patch_embed.patch_size[0])
        self.grid: tuple[int, int] = tuple(encoder.patch_embed.grid_size)
        width = int(encoder.embed_dim)
        narrow = decoder_width or 32 * -(-width // 64)
        self.embed = Linear(width, narrow)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, narrow))
        self.register_buffer("positions", sine_cosine(*self.grid, narrow)[None], persistent=False)  # (1, N, E)
        self.blocks = nn.Sequential(*(Block(narrow, narrow // 16) for _ in range(decoder_depth)))
        self.norm = nn.LayerNorm(narrow)
        self.reconstruct = Linear(narrow, self.patch**2 * int(encoder.in_chans))
        self.register_buffer("feature_std", torch.tensor(float("nan")))  # a buffer survives a resume
        self.reset()

    @classmethod
    def from_run(cls, run: Run, backbone: nn.Module | None = None, *, folder: str | Path = FOLDER) -> Self:
        """Return the module that a run's fields describe, with LEARNING_RATE if the run has none.

        backbone: None makes the one that a sweep begins with. folder: see `modules.build.from_run`.
        """
        if backbone is None:
            return from_run(cls, run, folder)
        return cls(backbone, steps=steps(run), **keywords.training_fields(run))

    def reset(self) -> None:
        """Initialise as the paper: Xavier for linear layers, 0.02 for the mask token, sines and cosines for positions.

        Unlike the paper's, the encoder's positions stay trainable. Starting from the fixed ones saves a short
        pretraining the time to learn which patches are neighbours.
        """
        nn.init.normal_(self.mask_token, std=0.02)
        for module in (self.embed, self.reconstruct, *self.blocks.modules()):
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        N = self.grid[0] * self.grid[1]
        with torch.no_grad():
            self.encoder.pos_embed[:, -N:] = sine_cosine(*self.grid, self.encoder.pos_embed.shape[-1])

    def mask(self, batch: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw a mask (B, N) for each image, where 1 is masked."""
        return random_mask(batch, self.grid[0] * self.grid[1], self.mask_ratio, generator=generator)

    def encode(self, images: Tensor, mask: Tensor) -> Tensor:
        """Return the backbone's tokens (B, prefix + V, D) of visible patches, after class and register tokens."""
        vit = self.encoder
        hidden = unpatches(mask[:, :, None].expand(-1, -1, self.patch**2), self.patch, *self.grid)  # (B, 1, H, W)
        images = images * (1 - hidden)  # a user's stem may overlap neighbouring patches
        x: Tensor = vit.patch_embed(images)  # (B, h, w, D) from ours, (B, N, D) from timm's
        x = x.flatten(1, -2)  # (B, N, D)
        N, D = x.shape[1:]
        x = x + vit.pos_embed[:, -N:]
        visible = visible_indices(mask, N - masked_count(N, self.mask_ratio))  # (B, V)
        x = x.gather(1, visible[:, :, None].expand(-1, -1, D))  # (B, V, D)
        x = vit_tokens(vit, x, vit.pos_embed[:, :-N])  # (B, prefix + V, D)
        return vit.fc_norm(x) if hasattr(vit, "fc_norm") else x  # the last norm of a ViT that pools

    def decode(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return the reconstruction of every patch, (B, N, P²·C), from the tokens of visible ones."""
        B, N = mask.shape
        V = N - masked_count(N, self.mask_ratio)
        x: Tensor = self.embed(tokens)  # (B, prefix + V, E)
        prefix, visible = x[:, :-V], x[:, -V:]
        places = visible_indices(mask, V)[:, :, None].expand_as(visible)  # (B, V, E)
        x = self.mask_token.to(visible.dtype).expand(B, N, -1).scatter(1, places, visible) + self.positions  # (B, N, E)
        x = self.blocks(torch.cat([prefix, x], dim=1))  # (B, prefix + N, E)
        x = self.reconstruct(self.norm(x[:, -N:]))  # (B, N, P²·C)
        return x

    def training_step(self, batch: Any, batch_idx: int = 0) -> Tensor:
        return self._step(images_of(batch))

    def _step(self, images: Tensor) -> Tensor:
        """Return the loss of images (B, C, H, W) under masks that are drawn."""
        mask = self.mask(len(images)).to(images.device)
        tokens = self.encode(images, mask)
        if self.training:
            self.feature_std.copy_(feature_std(tokens.mean(1)))
        return mae_loss(self.decode(tokens, mask), images, mask, patch=self.patch)

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
            self, self.settings, rate=self.hparams["learning_rate"], steps=horizon(self, self.steps), betas=BETAS
        )

    def diagnostics(self) -> dict[str, float | bool]:
        """Return the last step's `feature_std` and whether the features have collapsed."""
        return collapse_diagnostics(self.feature_std)

    def is_untrained(self, loss: float, images: Tensor, labels: Labels | None = None) -> bool:
        """Return whether the loss is near that of the mean target, whatever the image."""
        return chance.is_near(loss, chance.level_of_patches(targets(images.float(), self.patch)))

    @torch.no_grad()
    def pictures(self, images: Tensor) -> dict[str, Picture]:
        """Return `reconstruction` of up to 8 images: the originals, the visible patches, the reconstruction."""
        images = images[:8]
        mask = self.mask(len(images), torch.Generator().manual_seed(0)).to(images.device)
        predicted = self.decode(self.encode(images, mask), mask)  # (B, N, P²·C)
        target = patches(images, self.patch)
        mean, variance = target.mean(-1, keepdim=True), target.var(-1, keepdim=True)
        predicted = predicted * (variance + 1e-6).sqrt() + mean  # with the original's mean and contrast
        hidden = mask[:, :, None]
        visible = target * (1 - hidden) + hidden * target.mean((1, 2), keepdim=True)
        complete = target * (1 - hidden) + hidden * predicted
        rows = [images, *(unpatches(x, self.patch, *self.grid) for x in (visible, complete))]
        return {"reconstruction": picture_grid(rows, like=images)}


def check_backbone(backbone: nn.Module, mask_ratio: float) -> None:
    """Raise UserError unless the backbone is a plain ViT with absolute positions and the ratio is in [0, 1)."""
    if not 0 <= mask_ratio < 1:
        raise UserError(f"mask_ratio {mask_ratio} is outside [0, 1)", "MAE's default is 0.75")
    why = "MAE encodes the visible patches alone, which needs a plain ViT with position embeddings"
    check_parts(backbone, "mae", ("patch_embed", "pos_embed", "blocks", "norm"), why)

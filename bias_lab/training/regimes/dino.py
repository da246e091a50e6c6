"""Self-distillation without labels: a student learns from its own moving average (Caron et al. 2021, arXiv:2104.14294).

Each image gives several crops. The teacher, a moving average of the student, gets the two large ones. The student gets
all, and learns the teacher's distribution over prototypes for every crop but the one that the teacher got. Centering
and a low temperature of the teacher prevent collapse, which is one output for all images.
"""

import copy
from pathlib import Path
from typing import Any, Self, Unpack

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule
from torch import Tensor, nn

from bias_lab.catalogue import DATASETS
from bias_lab.definition import Run, steps
from bias_lab.training import optimizer
from bias_lab.training.job import Labels, Picture
from bias_lab.training.modules import fields as keywords
from bias_lab.training.modules.build import FOLDER, backbone_of, from_run
from bias_lab.training.modules.fields import Training
from bias_lab.training.modules.steps import IntervalMeans, clip, drawn_alike, horizon, images_of, log_loss
from bias_lab.training.regimes import chance
from bias_lab.training.regimes.features import (
    COLLAPSED,
    check_parts,
    feature_map,
    feature_std,
    picture_grid,
)
from bias_lab.training.regimes.views import attention, features, forward_features, local_size, view

LEARNING_RATE = 2.5e-4  # where a run has none, for batches of 128 (the paper has 5e-4 for 256, and 1e-3 collapses)
REGIME = "dino"
LARGE = 96  # pixels from which on a run gets the paper's sizes
PAPER: dict[str, Any] = dict(prototypes=65_536, hidden=2048, bottleneck=256, local_views=8, momentum=0.996)
STUDENT_TEMPERATURE, TEACHER_TEMPERATURES = 0.1, (0.04, 0.07)  # the teacher's rises
TEACHER_WARMUP, FROZEN = 0.3, 0.01  # shares of the steps in which the temperature rises, and prototypes are fixed
CENTER_MOMENTUM = 0.9
REFERENCE_STEPS, LEAST_MOMENTUM = 1_500, 0.5  # of a momentum that follows the number of steps
LARGE_AREA, SMALL_AREA = (0.4, 1.0), (0.05, 0.4)  # a crop's share of the image's area
INFORMATION = 0.01  # nats of mutual information between image and output, below which the teacher has collapsed


def dino_loss(
    student: Tensor, teacher: Tensor, center: Tensor, *, student_temperature: float, teacher_temperature: float
) -> Tensor:
    """Return the cross-entropy of the student against the teacher in nats, mean over pairs of different views.

    student: (V, B, K), the first two of them the teacher's views in its order. teacher: (2, B, K). center: (K,).
    No gradient reaches the teacher.
    """
    target = ((teacher.detach() - center) / teacher_temperature).softmax(-1)  # (2, B, K)
    log_p = (student / student_temperature).log_softmax(-1)  # (V, B, K)
    pairs = -torch.einsum("tbk,vbk->tv", target, log_p) / student.shape[1]  # (2, V)
    other = 1 - torch.eye(*pairs.shape, device=pairs.device, dtype=pairs.dtype)  # a view is not compared with itself
    return (pairs * other).sum() / other.sum()


class Head(nn.Module):
    """Projects features (B, D) onto prototypes (B, K): three layers, a unit vector, and unit prototypes."""

    def __init__(self, width: int, *, hidden: int, bottleneck: int, prototypes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        self.prototypes = nn.Parameter(torch.empty(prototypes, bottleneck))
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        nn.init.normal_(self.prototypes)

    def forward(self, x: Tensor, *, frozen: bool = False) -> Tensor:
        """Return the projection, weight-normalised with gain 1 as by the official `norm_last_layer`.

        frozen: the prototypes get no gradient.
        """
        x = F.normalize(self.layers(x), dim=1)  # (B, bottleneck)
        prototypes = self.prototypes.detach() if frozen else self.prototypes
        return F.linear(x, F.normalize(prototypes, dim=1))  # (B, K)


class DINO(LightningModule):
    """Trains any backbone on images (B, C, H, W) without labels, by agreement with its moving average across crops.

    The defaults are for small images and short trainings, and `PAPER` holds the paper's sizes. momentum: the teacher's,
    which rises to 1 by a cosine. teacher_schedule: `steps` for that of `momentum_for`. The encoder is the teacher's, as
    in the paper. Views are made by crops, flips, brightness, contrast and loss of colour. The paper also uses blur and
    solarisation, which leave little of 28 pixels, jitter of saturation and hue, which grey images don't have, and a
    rising weight decay, where a run has one value.

    backbone: a name, made for `classes`, `channels` and `image_size`, or a model. steps: of the schedules, by default
    `samples_seen` in batches if that is given, else those of the Trainer. fields: training fields of `Run`.

    >>> model = DINO("resnet_micro", channels=1, image_size=28, prototypes=16)
    >>> model.training_step(torch.rand(4, 1, 28, 28)).shape
    torch.Size([])
    """

    OUTPUTS = ("student_head",)  # layers that Muon leaves to AdamW
    center: Tensor
    step: Tensor
    feature_std: Tensor
    entropy: Tensor
    information: Tensor
    last_loss: Tensor

    def __init__(
        self,
        backbone: str | nn.Module,
        *,
        classes: int | None = None,
        channels: int = 3,
        image_size: int = 224,
        steps: int | None = None,
        prototypes: int = 1024,
        hidden: int = 256,
        bottleneck: int = 64,
        local_views: int = 4,
        momentum: float = 0.99,
        **fields: Unpack[Training],
    ) -> None:
        super().__init__()
        keywords.asked({"backbone": backbone})
        self.save_hyperparameters(ignore=() if isinstance(backbone, str) else ("backbone",))
        run = keywords.run_of(fields, backbone=backbone if isinstance(backbone, str) else "", regime=REGIME)
        keywords.complete(self, run, LEARNING_RATE, {"backbone": backbone})
        self.settings, self.steps = run, keywords.steps_of(steps, fields, run)
        student = backbone_of(backbone, run, classes=classes, channels=channels, image_size=image_size)
        check_parts(student, REGIME, ("forward_features", "forward_head", "head_hidden_size"))
        known: Any = student
        width = int(known.head_hidden_size)
        self.student = student
        self.student_head = Head(width, hidden=hidden, bottleneck=bottleneck, prototypes=prototypes)
        self.teacher = copy.deepcopy(student).requires_grad_(False)
        self.teacher_head = copy.deepcopy(self.student_head).requires_grad_(False)
        self.local_views, self.first_momentum = local_views, momentum
        self.set_horizon(horizon(self, self.steps))
        self.register_buffer("center", torch.zeros(prototypes))  # buffers, so that they survive a resume
        self.register_buffer("step", torch.tensor(0))
        for name in ("feature_std", "entropy", "information", "last_loss"):
            self.register_buffer(name, torch.tensor(float("nan")))

    @classmethod
    def from_run(cls, run: Run, backbone: nn.Module | None = None, *, folder: str | Path = FOLDER) -> Self:
        """Return the module that a run's fields describe, with the paper's sizes from 96 px on.

        A run without a learning rate gets LEARNING_RATE.
        backbone: None makes the one that a sweep begins with. folder: see `modules.build.from_run`.
        """
        if backbone is None:
            return from_run(cls, run, folder)
        own = DATASETS[run.dataset].image_size if run.dataset in DATASETS else 0
        side = own if run.image_size is None else run.image_size
        papers = PAPER if side >= LARGE else {}
        return cls(backbone, steps=steps(run), **papers, **keywords.training_fields(run))

    def set_horizon(self, steps: int) -> None:
        """Set the number of steps over which the teacher's momentum and temperature change."""
        self.horizon = steps
        self.momentum = (
            momentum_for(self.first_momentum, steps) if self.settings.teacher_schedule else self.first_momentum
        )

    @property
    def encoder(self) -> nn.Module:
        return self.teacher

    def training_step(self, batch: Any, batch_idx: int = 0) -> Tensor:
        step = int(self.step)
        if step:
            self.update_ema(step, self.horizon)
        loss, teacher_features, teacher = self._step(images_of(batch))
        self.last_loss.copy_(loss.detach())
        self.record_diagnostics(teacher_features, teacher, teacher_temperature(step, self.horizon))
        self.center.lerp_(teacher.mean((0, 1)).to(self.center), 1 - CENTER_MOMENTUM)
        self.step += 1
        return loss

    def _step(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss of crops that are drawn, the teacher's features (2B, D), and its output (2, B, K)."""
        step, size = int(self.step), (images.shape[-2], images.shape[-1])
        large = torch.cat([view(images, size, LARGE_AREA) for _ in range(2)])  # (2B, C, H, W)
        views = [large]
        if self.local_views:
            small = (local_size(self.student, size[0]), local_size(self.student, size[1]))
            views.append(torch.cat([view(images, small, SMALL_AREA) for _ in range(self.local_views)]))
        frozen = step < FROZEN * self.horizon
        student = torch.cat([self.student_head(features(self.student, v), frozen=frozen) for v in views])  # (V*B, K)
        with torch.no_grad():
            teacher_features = features(self.teacher, large)  # (2B, D)
            teacher = self.teacher_head(teacher_features).unflatten(0, (2, -1))  # (2, B, K)
        if (
            not step and self.training
        ):  # the paper's begins at 0, from where a short training would spend its first steps
            self.center.copy_(teacher.mean((0, 1)).to(self.center))
        loss = dino_loss(
            student.reshape(-1, len(images), student.shape[-1]),
            teacher,
            self.center,
            student_temperature=STUDENT_TEMPERATURE,
            teacher_temperature=teacher_temperature(step, self.horizon),
        )
        return loss, teacher_features, teacher

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        images = images_of(batch)
        with drawn_alike(batch_idx):
            log_loss(self, "val", self._step(images)[0], len(images))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        images = images_of(batch)
        with drawn_alike(batch_idx):
            log_loss(self, "test", self._step(images)[0], len(images))

    def predict_step(self, batch: Any, batch_idx: int = 0) -> Tensor:
        """Return the encoder's features (B, D) of images, or of a pair of images and labels."""
        return features(self.encoder, images_of(batch))

    def configure_callbacks(self) -> list[Callback]:
        return [IntervalMeans()]

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        clip(self, optimizer, self.settings.clip, gradient_clip_val, gradient_clip_algorithm)

    @torch.no_grad()
    def update_ema(self, step: int, steps: int) -> None:
        """Move the teacher's parameters towards the student's. Its buffers (batch norm's) are its own."""
        momentum = chance.momentum_at(self.momentum, step, steps)
        pairs = ((self.teacher, self.student), (self.teacher_head, self.student_head))
        for teacher, student in pairs:
            for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
                slow.lerp_(fast, 1 - momentum)

    @torch.no_grad()
    def record_diagnostics(self, teacher_features: Tensor, teacher: Tensor, temperature: float) -> None:
        """Keep what tells collapse: the features' standard deviation, and entropies of the teacher's output in nats.

        information: the entropy of the mean output minus the mean entropy of the outputs. It is 0 if every output is
        uniform, and if every image has the same output. These are the two collapses that the paper names (section 5.3).
        """
        p = ((teacher - self.center) / temperature).softmax(-1).flatten(0, 1).float()  # (2B, K)
        self.feature_std.copy_(feature_std(teacher_features))
        self.entropy.copy_(torch.special.entr(p).sum(-1).mean())
        self.information.copy_(torch.special.entr(p.mean(0)).sum() - self.entropy)

    def configure_optimizers(self) -> Any:
        self.set_horizon(horizon(self, self.steps))
        return optimizer.for_run(self, self.settings, rate=self.hparams["learning_rate"], steps=self.horizon)

    def diagnostics(self) -> dict[str, float | bool]:
        """Return the last step's `feature_std`, the teacher's entropies in nats, and whether it collapsed."""
        if not bool(self.step):
            return {}
        std, information = float(self.feature_std), float(self.information)
        return {
            "feature_std": std,
            "teacher_entropy": float(self.entropy),
            "teacher_information": information,
            "collapsed": std < COLLAPSED or information < INFORMATION,
        }

    def is_untrained(self, loss: float, images: Tensor, labels: Labels | None = None) -> bool:
        """Return whether uniform or fixed output would do as well, or the teacher is mostly its random start."""
        kept = chance.start_kept(self.momentum, self.horizon)
        is_uniform = chance.is_near(loss, chance.level_of_prototypes(len(self.center)))
        is_fixed = bool(self.last_loss >= self.entropy + self.information)  # the entropy of the mean output
        return kept > chance.MOST_KEPT or is_uniform or is_fixed

    @torch.no_grad()
    def pictures(self, images: Tensor) -> dict[str, Picture]:
        """Return `attention` of the teacher's class token in its last block, or `features`, its last map's norm."""
        images = images[:8]
        weight = attention(self.teacher, images)  # (B, h, w)
        name = "features" if weight is None else "attention"
        if weight is None:
            weight = feature_map(self.teacher, forward_features(self.teacher, images)).norm(dim=1)
        low, high = weight.amin((1, 2), keepdim=True), weight.amax((1, 2), keepdim=True)
        weight = ((weight - low) / (high - low).clamp(min=1e-12))[:, None]  # (B, 1, h, w)
        weight = F.interpolate(weight, size=images.shape[-2:], mode="nearest")
        darkest, brightest = images.amin((0, 2, 3), keepdim=True), images.amax((0, 2, 3), keepdim=True)
        return {name: picture_grid([images, darkest + weight * (brightest - darkest)], like=images)}


def momentum_for(momentum: float, steps: int) -> float:
    """Return the momentum with which a short training forgets its start as one of REFERENCE_STEPS does with `momentum`.

    A momentum m that rises to 1 by a cosine keeps about exp(-(1 - m) steps / 2) of the teacher's first weights. At 0.99
    that is 0.06 % after 1,500 steps, and 61 % after 100. A longer training keeps its momentum.
    """
    return max(LEAST_MOMENTUM, 1 - (1 - momentum) * max(1.0, REFERENCE_STEPS / max(1, steps)))


def teacher_temperature(step: int, steps: int) -> float:
    """Return the teacher's temperature at a step, which rises linearly over the first part of the training."""
    low, high = TEACHER_TEMPERATURES
    return low + (high - low) * min(1.0, step / max(1.0, TEACHER_WARMUP * steps))

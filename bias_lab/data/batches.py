"""(seed, step) → a batch on the device: whole batches of uint8, cropped, flipped and normalised in a few operations.

Letters: B images of a batch, H rows, W columns, C channels; stores are (N, H, W, C). A batch is a pure function of
(seed, step), so a run that is resumed at step k sees exactly the batches that it would have seen.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset

from bias_lab.data import augment, draws
from bias_lab.data.interventions import EVALUATION, intervene
from bias_lab.definition import Run

IN_MEMORY = 64 * 2**20  # bytes of a padded copy of all images; were it larger, each batch is padded on its own


class Order:
    """Which images stand in which batch: an order of the N images per epoch, epochs one after the other.

    Every step is a full batch: one that reaches over an epoch's end goes on with the next, and N below the batch wraps.
    repeats: how many consecutive places show one image (repeated augmentation, Hoffer et al. 2020, arXiv:1901.09335).
    """

    def __init__(self, count: int, batch_size: int, seed: int, *, repeats: int = 1) -> None:
        self.count, self.batch_size, self.seed, self.repeats = count, batch_size, seed, repeats
        self._epochs: dict[int, NDArray[np.int64]] = {}

    def __call__(self, step: int) -> NDArray[np.int64]:
        """The images of one step: (B,) indices below N."""
        place = (step * self.batch_size + np.arange(self.batch_size)) // self.repeats
        epoch, within = np.divmod(place, self.count)
        chosen = np.empty(self.batch_size, np.int64)
        for e in range(int(epoch[0]), int(epoch[-1]) + 1):
            here = epoch == e
            chosen[here] = self._order(e)[within[here]]
        return chosen

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._epochs:
            while len(self._epochs) > 1:  # a step touches few epochs; those behind it are made again if asked for
                self._epochs.pop(min(self._epochs))
            self._epochs[epoch] = draws.permutation(self.count, self.seed, "order", epoch)
        return self._epochs[epoch]


class Normalise:
    """uint8 (B, H, W, C) → float32 (B, C, H, W) in channels_last memory: (x / 255 - mean) / std."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], width: int, device: torch.device) -> None:
        scale = 1 / (255 * np.maximum(np.asarray(std, np.float64), 1e-6))  # a constant channel has std 0
        shift = -np.asarray(mean, np.float64) * 255 * scale
        # a row's width long: an inner dimension of three channels would not vectorise
        self.scale = torch.tensor(np.tile(scale, width), dtype=torch.float32, device=device)
        self.shift = torch.tensor(np.tile(shift, width), dtype=torch.float32, device=device)

    def __call__(self, x: Tensor) -> Tensor:
        B, H, W, C = x.shape
        rows = torch.addcmul(self.shift, x.reshape(B, H, W * C).float(), self.scale)  # (B, H, W*C)
        return rows.reshape(B, H, W, C).permute(0, 3, 1, 2)  # (B, C, H, W)


class Crops:
    """Flipped, padded crops out of a store, by two lookups a batch: rows by index_select, then columns by gather."""

    def __init__(self, images: NDArray[np.uint8], pad: int, device: torch.device) -> None:
        N, H, W, C = images.shape
        self.images, self.pad, self.shape, self.device = images, pad, (H, W, C), device
        padded = N * (H + 2 * pad) * (W + 2 * pad) * C
        self.rows = self._padded(images) if padded <= IN_MEMORY else None
        self.columns = torch.arange(W, device=device)
        self.lines = torch.arange(H, device=device)
        self.channels = torch.arange(C, device=device)

    def _padded(self, images: NDArray[np.uint8]) -> Tensor:
        """(N, H, W, C) → (N * (H + 2 pad), (W + 2 pad) * C), black around."""
        H, W, C = self.shape
        p = self.pad
        wide = np.zeros((len(images), H + 2 * p, W + 2 * p, C), np.uint8)
        wide[:, p : p + H, p : p + W] = images
        return torch.from_numpy(wide).reshape(-1, (W + 2 * p) * C).to(self.device)

    def __call__(
        self, chosen: NDArray[np.int64], top: NDArray[np.int64], left: NDArray[np.int64], flip: NDArray[np.bool_]
    ) -> Tensor:
        """The images `chosen`, cut at `top`, `left` of the padded frame and mirrored where `flip`: (B, H, W, C)."""
        H, W, C = self.shape
        B = len(chosen)
        if self.rows is None:
            rows, chosen = self._padded(self.images[chosen]), np.arange(B)
        else:
            rows = self.rows
        first = torch.from_numpy(chosen * (H + 2 * self.pad) + top).to(self.device)  # (B,)
        lines = rows.index_select(0, (first[:, None] + self.lines).reshape(-1))  # (B*H, (W+2p)*C)
        turned, start = torch.from_numpy(flip).to(self.device), torch.from_numpy(left).to(self.device)
        columns = torch.where(turned[:, None], W - 1 - self.columns, self.columns) + start[:, None]  # (B, W)
        columns = (columns[:, :, None] * C + self.channels).reshape(B, 1, W * C)
        return lines.reshape(B, H, -1).gather(2, columns.expand(B, H, W * C)).reshape(B, H, W, C)


def padding(run: Run, side: int) -> int:
    """The padding of the random crop in pixels: `run.crop` up to 32 px, in proportion above; none if it is resized."""
    if run.resized_crop:
        return 0
    return run.crop if side <= 32 else round(run.crop * side / 32)


class Batches(IterableDataset[Tensor | tuple[Tensor, Tensor]]):
    """An endless epoch cut to `steps` batches: x float32 (B, C, H, W), augmented and normalised, with its target (B,).

    images: (N, H, W, C) uint8, those that the run trains on; labels: (N,), or None for x alone, so that a pretraining
    without labels cannot see any. mean, std: per channel, in [0, 1]. first_step: where a resumed run goes on.
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64] | None,
        run: Run,
        *,
        classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        steps: int,
        first_step: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        self.run, self.classes, self.steps, self.first_step = run, classes, steps, first_step
        self.device = torch.device(device)
        self.order = Order(len(images), run.batch_size, run.seed, repeats=run.repeated_augmentation)
        self.pad = padding(run, images.shape[1])
        self.crops = Crops(images, self.pad, self.device)
        self.normalise = Normalise(mean, std, images.shape[2], self.device)
        self.labels = None if labels is None else torch.from_numpy(np.asarray(labels, np.int64)).to(self.device)

    def __len__(self) -> int:
        return self.steps - self.first_step

    def __iter__(self) -> Iterator[Tensor | tuple[Tensor, Tensor]]:
        for step in range(self.first_step, self.steps):
            yield self.batch(step)

    def batch(self, step: int) -> Tensor | tuple[Tensor, Tensor]:
        """The batch of one step, whatever was asked for before."""
        run, chosen = self.run, self.order(step)
        at = augment.At(run.seed, step, np.arange(len(chosen)))
        x = self.normalise(self.views(chosen, at))  # (B, C, H, W)
        if run.erasing:
            x = augment.erase(x, at, run.erasing)
        if self.labels is None:
            return intervene(x, run.intervention, at)
        target = self.labels[torch.from_numpy(chosen).to(self.device)]
        if run.mixup or run.cutmix:
            x, target = augment.mix(x, target, at, classes=self.classes, mixup=run.mixup, cutmix=run.cutmix)
        return intervene(x, run.intervention, at), target

    def views(self, chosen: NDArray[np.int64], at: augment.At) -> Tensor:
        """One augmented view of each image: uint8 (B, H, W, C)."""
        run = self.run
        flip = at.uniform("flip") < (0.5 if run.flip else 0.0)
        top, left = at.integers(2 * self.pad + 1, "crop top"), at.integers(2 * self.pad + 1, "crop left")
        x = self.crops(chosen, top, left, flip)
        if run.resized_crop:
            H, W = x.shape[1:3]
            x = augment.resized_crops(x, augment.boxes(at, H, W, run.resized_crop), (H, W))
        if run.trivial_augment:
            x = augment.trivial_augment(x, at)
        if run.randaugment:
            x = augment.rand_augment(x, at, run.randaugment)
        if run.colour_jitter:
            x = augment.colour_jitter(x, at, run.colour_jitter)
        return x


def plain(
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    run: Run,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    batch_size: int = 256,
    device: str | torch.device = "cpu",
) -> Iterator[tuple[Tensor, Tensor]]:
    """Un-augmented (x, labels) in index order, for test, hold-out and training accuracy; the last batch may be short.

    A run's intervention stays: it belongs to the data.
    """
    device = torch.device(device)
    normalise = Normalise(mean, std, images.shape[2], device)
    for start in range(0, len(images), batch_size):
        part = torch.from_numpy(np.array(images[start : start + batch_size])).to(device)
        at = augment.At(0, EVALUATION, np.arange(start, start + len(part)))
        x = intervene(normalise(part), run.intervention, at)
        yield x, torch.from_numpy(labels[start : start + batch_size].copy()).to(device)

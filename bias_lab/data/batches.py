"""Make batches on the device: uint8 images are cropped, flipped and normalised a whole batch at a time.

Letters: B images of a batch, H rows, W columns, C channels. Stores are (N, H, W, C). A batch is a pure function of
(seed, step), so a run that is resumed at step k sees the batches that it would have seen without the interruption.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset

from bias_lab.data import augment, draws
from bias_lab.data.interventions import EVALUATION, intervene
from bias_lab.data.masks import joint
from bias_lab.data.operations import to_device
from bias_lab.definition import Run

IN_MEMORY = 128 * 2**20  # most bytes of padded copies of all images, above which each batch is padded on its own


class Order:
    """Order the images into batches: a permutation of the N images for each epoch, one epoch after the other.

    Every step is a full batch. One that reaches the end of an epoch continues with the next, and an N below the batch
    size wraps. repeats: how many consecutive places show one image (repeated augmentation, Hoffer et al. 2020,
    arXiv:1901.09335).
    """

    def __init__(self, count: int, batch_size: int, seed: int, *, repeats: int = 1) -> None:
        self.count, self.batch_size, self.seed, self.repeats = count, batch_size, seed, repeats
        self._epochs: dict[int, NDArray[np.int64]] = {}

    def __call__(self, step: int) -> NDArray[np.int64]:
        """Return the images of one step: (B,) indices below N."""
        place = (step * self.batch_size + np.arange(self.batch_size)) // self.repeats
        epoch, within = np.divmod(place, self.count)
        chosen = np.empty(self.batch_size, np.int64)
        for e in range(int(epoch[0]), int(epoch[-1]) + 1):
            here = epoch == e
            chosen[here] = self._order(e)[within[here]]
        return chosen

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._epochs:
            while len(self._epochs) > 1:  # a step needs few epochs, and earlier ones can be computed again
                self._epochs.pop(min(self._epochs))
            self._epochs[epoch] = draws.permutation(self.count, self.seed, "order", epoch)
        return self._epochs[epoch]


class Normalise:
    """Turn uint8 (B, H, W, C) into float32 (B, C, H, W) in channels_last memory: (x / 255 - mean) / std.

    Grey images become three equal channels if mean and std have three values, as weights of colour images need them.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], width: int, device: torch.device) -> None:
        scale = 1 / (255 * np.maximum(np.asarray(std, np.float64), 1e-6))  # the std of a constant channel is 0
        shift = -np.asarray(mean, np.float64) * 255 * scale
        # as long as a row, because an inner dimension of three channels would not vectorise
        self.scale = torch.tensor(np.tile(scale, width), dtype=torch.float32, device=device)
        self.shift = torch.tensor(np.tile(shift, width), dtype=torch.float32, device=device)
        self.channels = len(scale)

    def __call__(self, x: Tensor) -> Tensor:
        B, H, W, C = *x.shape[:3], self.channels
        rows = (x if x.shape[3] == C else x.expand(B, H, W, C)).reshape(B, H, W * C).float()
        torch.addcmul(
            self.shift, rows, self.scale, out=rows
        )  # in place, because new memory pages cost more than the arithmetic
        return rows.reshape(B, H, W, C).permute(0, 3, 1, 2)  # (B, C, H, W)


def memory_limit(device: torch.device) -> int:
    """Return how many bytes a store may take on the device: IN_MEMORY, or a quarter of a GPU's free memory."""
    return torch.cuda.mem_get_info(device)[0] // 4 if device.type == "cuda" else IN_MEMORY


def make_crops(images: NDArray[np.uint8], pad: int, device: torch.device) -> "Crops | DeviceCrops":
    """Return what cuts the batches: a GPU if the whole store fits on it, else the CPU."""
    if device.type != "cpu" and len(images) * int(np.prod(images.shape[1:])) <= memory_limit(device):
        return DeviceCrops(images, pad, device)
    return Crops(images, pad, device)


class Crops:
    """Cut flipped, padded crops out of a store on the CPU, a whole batch at a time.

    The images are padded with black, and each is also kept mirrored, so that a row of a crop is contiguous. A batch is
    then B*H copies of W*C bytes, by one lookup in an array whose items overlap. If there are too many images, each
    batch is padded on its own. For a GPU, a batch is copied from pinned memory on a stream of its own while the
    previous step is computed.
    """

    def __init__(self, images: NDArray[np.uint8], pad: int, device: torch.device) -> None:
        N, H, W, C = images.shape
        self.images, self.pad, self.shape, self.device = images, pad, (H, W, C), device
        self.frames: NDArray[np.uint8] | None = None
        if 2 * N * (H + 2 * pad) * (W + 2 * pad) * C <= IN_MEMORY:
            whole = images[:]
            self.frames = self._padded(np.concatenate([whole, whole[:, :, ::-1]]))
        self.lines = np.arange(H)
        self.copying = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def _padded(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Pad images (n, H, W, C) with black: (n, H + 2 pad, W + 2 pad, C)."""
        H, W, C = self.shape
        p = self.pad
        wide = np.zeros((len(images), H + 2 * p, W + 2 * p, C), np.uint8)
        wide[:, p : p + H, p : p + W] = images
        return wide

    def __call__(
        self, chosen: NDArray[np.int64], top: NDArray[np.int64], left: NDArray[np.int64], flip: NDArray[np.bool_]
    ) -> Tensor:
        """Return crops (B, H, W, C) at `top` and `left` of the padded images `chosen`, mirrored if `flip`, all (B,)."""
        H, W, C = self.shape
        p = self.pad
        if self.frames is None:
            part = self.images[chosen]
            part[flip] = part[flip][:, :, ::-1]
            frames, row = self._padded(part), np.arange(len(chosen))
        else:
            frames, row = self.frames, chosen + len(self.images) * flip
        left = np.where(flip, 2 * p - left, left)  # a mirrored crop is a crop of the mirrored image
        start = ((row * (H + 2 * p) + top)[:, None] + self.lines) * (W + 2 * p) + left[:, None]  # (B, H) pixels
        length = W * C
        runs = np.ndarray((frames.size - length) // C + 1, np.dtype((np.void, length)), frames, strides=(C,))
        return self._to_device(torch.from_numpy(runs[start].view(np.uint8).reshape(-1, H, W, C)))

    def _to_device(self, x: Tensor) -> Tensor:
        if self.copying is None:
            return x.to(self.device)
        with torch.cuda.stream(self.copying):
            there = x.pin_memory().to(self.device, non_blocking=True)
        now = torch.cuda.current_stream(self.device)
        now.wait_stream(self.copying)
        there.record_stream(now)  # its memory is not reused before this stream has read it
        return there


class DeviceCrops:
    """Cut the same crops out of a store on the device, by one lookup of pixels a batch."""

    def __init__(self, images: NDArray[np.uint8], pad: int, device: torch.device) -> None:
        self.pad, self.device = pad, device
        self.store = torch.empty(images.shape, dtype=torch.uint8, device=device)
        for at in range(0, len(images), 1024):  # so that the host never holds all of it
            self.store[at : at + 1024] = torch.from_numpy(np.array(images[at : at + 1024])).to(device)
        H, W = images.shape[1:3]
        self.lines, self.columns = torch.arange(H, device=device), torch.arange(W, device=device)

    def __call__(
        self, chosen: NDArray[np.int64], top: NDArray[np.int64], left: NDArray[np.int64], flip: NDArray[np.bool_]
    ) -> Tensor:
        """Return the same as `Crops`: (B, H, W, C)."""
        N, H, W, C = self.store.shape
        draws = to_device(np.stack([chosen, top - self.pad, left - self.pad, flip.astype(np.int64)]), self.device)
        image, top_, left_, flip_ = draws[:, :, None]  # (B, 1) each
        row = self.lines + top_  # (B, H) rows of the image, black outside it
        column = torch.where(flip_ == 1, W - 1 - self.columns, self.columns) + left_  # (B, W)
        inside = ((row >= 0) & (row < H))[:, :, None] & ((column >= 0) & (column < W))[:, None]  # (B, H, W)
        pixel = (image * H + row.clamp(0, H - 1))[:, :, None] * W + column.clamp(0, W - 1)[:, None]
        taken = self.store.view(N * H * W, C).index_select(0, pixel.reshape(-1)).reshape(-1, H, W, C)
        return taken.mul_(inside[..., None])


def padding(run: Run, side: int) -> int:
    """Return the padding of the random crop in pixels: `run.crop` up to 32 px, in proportion above, 0 if resized."""
    if run.resized_crop:
        return 0
    return run.crop if side <= 32 else round(run.crop * side / 32)


class Batches(IterableDataset[Tensor | tuple[Tensor, Tensor]]):
    """Iterate over `steps` training batches: x float32 (B, C, H, W), augmented and normalised, and its target.

    images: (N, H, W, C) uint8, the images to train on. labels: (N,) class numbers, or (N, K) numbers of another kind in
    float32, or masks (N, H, W) in uint8, which are augmented with their images and yielded as (B, H, W) in int64. None
    yields x alone, so that a pretraining cannot see any label. mean, std: per channel, in [0, 1].
    """

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[Any] | None,
        run: Run,
        *,
        classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        steps: int,
        device: str | torch.device = "cpu",
    ) -> None:
        self.run, self.classes, self.steps = run, classes, steps
        self.device = torch.device(device)
        self.order = Order(len(images), run.batch_size, run.seed, repeats=run.repeated_augmentation)
        self.pad = padding(run, min(images.shape[1:3]))
        self.has_masks = labels is not None and np.ndim(labels) == 3
        pixels = joint.join(images, labels) if labels is not None and self.has_masks else images
        self.crops = make_crops(pixels, self.pad, self.device)
        self.normalise = Normalise(mean, std, images.shape[2], self.device)
        self.labels = None if labels is None or self.has_masks else np.asarray(labels)

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Tensor | tuple[Tensor, Tensor]]:
        for step in range(self.steps):
            yield self.batch(step)

    def batch(self, step: int) -> Tensor | tuple[Tensor, Tensor]:
        """Return the batch of one step, whichever steps came before."""
        run, chosen = self.run, self.order(step)
        at = augment.At(run.seed, step, np.arange(len(chosen)))
        if self.has_masks:
            return self._with_masks(chosen, at)
        x = augment.apply(augment.NORMALISED, self.normalise(self.views(chosen, at)), at, run)  # (B, C, H, W)
        if self.labels is None:
            return intervene(x, run.intervention, at)
        labels = to_device(self.labels[chosen], self.device)
        x, target = augment.mix_targets(x, labels, at, run, classes=self.classes)
        return intervene(x, run.intervention, at), target

    def _with_masks(self, chosen: NDArray[np.int64], at: augment.At) -> tuple[Tensor, Tensor]:
        """Return images (B, C, H, W) and masks (B, H, W), both augmented alike."""
        top, left, flip = augment.places(at, 2 * self.pad + 1, flip=self.run.flip)
        levels, masks = joint.augmented(self.crops(chosen, top, left, flip), at, self.run)
        return augment.apply(augment.NORMALISED, self.normalise(levels), at, self.run), masks

    def views(self, chosen: NDArray[np.int64], at: augment.At) -> Tensor:
        """Return one augmented view of each image: uint8 (B, H, W, C)."""
        top, left, flip = augment.places(at, 2 * self.pad + 1, flip=self.run.flip)
        return augment.apply(augment.LEVELS, self.crops(chosen, top, left, flip), at, self.run)


def eval_loader(
    images: NDArray[np.uint8],
    labels: NDArray[Any],
    run: Run,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    batch_size: int = 256,
    device: str | torch.device = "cpu",
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (x, labels) without augmentation, in index order. The last batch may be short. Masks come in int64.

    It serves test, hold-out and training accuracy. A run's intervention is applied, because it is part of the data.
    """
    device = torch.device(device)
    normalise = Normalise(mean, std, images.shape[2], device)
    for start in range(0, len(images), batch_size):
        part = torch.from_numpy(np.array(images[start : start + batch_size])).to(device)
        at = augment.At(0, EVALUATION, np.arange(start, start + len(part)))
        x = intervene(normalise(part), run.intervention, at)
        target = torch.from_numpy(np.array(labels[start : start + batch_size])).to(device)
        yield x, target.long() if target.ndim == 3 else target

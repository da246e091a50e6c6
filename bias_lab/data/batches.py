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
from bias_lab.data.operations import to_device
from bias_lab.definition import Run

IN_MEMORY = 128 * 2**20  # bytes of framed copies of all images; were they more, each batch is framed on its own


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
        rows = x.reshape(B, H, W * C).float()
        torch.addcmul(self.shift, rows, self.scale, out=rows)  # in place: fresh pages cost more than the arithmetic
        return rows.reshape(B, H, W, C).permute(0, 3, 1, 2)  # (B, C, H, W)


def room(device: torch.device) -> int:
    """Bytes that a store may take where batches are cut: IN_MEMORY, on a GPU a quarter of what is free there."""
    return torch.cuda.mem_get_info(device)[0] // 4 if device.type == "cuda" else IN_MEMORY


def crops_of(images: NDArray[np.uint8], pad: int, device: torch.device) -> "Crops | DeviceCrops":
    """Cut on the CPU, or on a GPU that the whole store fits on; else batches are cut on the CPU and to_device."""
    if device.type != "cpu" and len(images) * int(np.prod(images.shape[1:])) <= room(device):
        return DeviceCrops(images, pad, device)
    return Crops(images, pad, device)


class Crops:
    """Flipped, padded crops out of a store, a whole batch at a time, cut on the CPU.

    Images are kept in black frames, each also mirrored, so that a row of a crop is one run of bytes: a batch is B*H
    copies of W*C bytes, by one lookup in an array whose items overlap. Images that are too many to be framed all are
    framed a batch at a time. For a GPU a batch is copied from pinned memory on a stream of its own, while the step
    before is computed.
    """

    def __init__(self, images: NDArray[np.uint8], pad: int, device: torch.device) -> None:
        N, H, W, C = images.shape
        self.images, self.pad, self.shape, self.device = images, pad, (H, W, C), device
        self.frames: NDArray[np.uint8] | None = None
        if 2 * N * (H + 2 * pad) * (W + 2 * pad) * C <= IN_MEMORY:
            whole = images[:]
            self.frames = self._framed(np.concatenate([whole, whole[:, :, ::-1]]))
        self.lines = np.arange(H)
        self.copying = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def _framed(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(n, H, W, C) → (n, H + 2 pad, W + 2 pad, C), black around."""
        H, W, C = self.shape
        p = self.pad
        wide = np.zeros((len(images), H + 2 * p, W + 2 * p, C), np.uint8)
        wide[:, p : p + H, p : p + W] = images
        return wide

    def __call__(
        self, chosen: NDArray[np.int64], top: NDArray[np.int64], left: NDArray[np.int64], flip: NDArray[np.bool_]
    ) -> Tensor:
        """The images `chosen`, cut at `top`, `left` of the frame and mirrored where `flip` (all (B,)): (B, H, W, C)."""
        H, W, C = self.shape
        p = self.pad
        if self.frames is None:
            part = self.images[chosen]
            part[flip] = part[flip][:, :, ::-1]
            frames, row = self._framed(part), np.arange(len(chosen))
        else:
            frames, row = self.frames, chosen + len(self.images) * flip
        left = np.where(flip, 2 * p - left, left)  # a mirrored crop is a crop of the mirrored frame
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
        there.record_stream(now)  # its memory is not given to another batch before this stream is done with it
        return there


class DeviceCrops:
    """The same crops out of a store that lies on the device, uint8 and once: one lookup of pixels a batch."""

    def __init__(self, images: NDArray[np.uint8], pad: int, device: torch.device) -> None:
        self.pad, self.device = pad, device
        self.store = torch.empty(images.shape, dtype=torch.uint8, device=device)
        for at in range(0, len(images), 1024):  # so that the host never holds it all
            self.store[at : at + 1024] = torch.from_numpy(np.array(images[at : at + 1024])).to(device)
        H, W = images.shape[1:3]
        self.lines, self.columns = torch.arange(H, device=device), torch.arange(W, device=device)

    def __call__(
        self, chosen: NDArray[np.int64], top: NDArray[np.int64], left: NDArray[np.int64], flip: NDArray[np.bool_]
    ) -> Tensor:
        """As `Crops`: (B, H, W, C)."""
        N, H, W, C = self.store.shape
        draws = to_device(np.stack([chosen, top - self.pad, left - self.pad, flip.astype(np.int64)]), self.device)
        image, top_, left_, flip_ = draws[:, :, None]  # (B, 1) each
        row = self.lines + top_  # (B, H) rows of the image; those outside it are black
        column = torch.where(flip_ == 1, W - 1 - self.columns, self.columns) + left_  # (B, W)
        inside = ((row >= 0) & (row < H))[:, :, None] & ((column >= 0) & (column < W))[:, None]  # (B, H, W)
        pixel = (image * H + row.clamp(0, H - 1))[:, :, None] * W + column.clamp(0, W - 1)[:, None]
        taken = self.store.view(N * H * W, C).index_select(0, pixel.reshape(-1)).reshape(-1, H, W, C)
        return taken.mul_(inside[..., None])


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
        self.crops = crops_of(images, self.pad, self.device)
        self.normalise = Normalise(mean, std, images.shape[2], self.device)
        self.labels = None if labels is None else np.asarray(labels, np.int64)

    def __len__(self) -> int:
        return self.steps - self.first_step

    def __iter__(self) -> Iterator[Tensor | tuple[Tensor, Tensor]]:
        for step in range(self.first_step, self.steps):
            yield self.batch(step)

    def batch(self, step: int) -> Tensor | tuple[Tensor, Tensor]:
        """The batch of one step, whatever was asked for before."""
        run, chosen = self.run, self.order(step)
        at = augment.At(run.seed, step, np.arange(len(chosen)))
        x = augment.apply(augment.NORMALISED, self.normalise(self.views(chosen, at)), at, run)  # (B, C, H, W)
        if self.labels is None:
            return intervene(x, run.intervention, at)
        labels = to_device(self.labels[chosen], self.device)
        x, target = augment.mix_targets(x, labels, at, run, classes=self.classes)
        return intervene(x, run.intervention, at), target

    def views(self, chosen: NDArray[np.int64], at: augment.At) -> Tensor:
        """Return one augmented view of each image: uint8 (B, H, W, C)."""
        top, left, flip = augment.places(at, 2 * self.pad + 1, flip=self.run.flip)
        return augment.apply(augment.LEVELS, self.crops(chosen, top, left, flip), at, self.run)


def eval_loader(
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

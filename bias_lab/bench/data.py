"""Our batches against DataLoader, PIL and torchvision: the same augmentation, in the same process, interleaved.

`bias-lab bench data --out FILE`. A row says how many times the reference's time ours takes less: the median of
`ratio` = reference / ours over n rounds, with quartiles. A round makes some batches both ways, one after the other, so
that a machine that slows down slows both; CPU time of one thread, so that a neighbour's work doesn't count. Two
further kinds of row: `share` is the model's share of a training step, `decoding` our store's rate over cores times
Pillow's own.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import v2

from bias_lab import ledger
from bias_lab.backbones import create
from bias_lab.bench.backbones import interleaved, row
from bias_lab.data import decoding, pictures, sources, store
from bias_lab.data.batches import Batches
from bias_lab.definition import Run, recipe

MEAN, STD = (0.5, 0.45, 0.4), (0.25, 0.25, 0.25)
BATCH = 32
OURS = 8  # batches of ours to one of the reference, so that the clock has something to count


class PerImage(Dataset[tuple[Any, int]]):
    """The textbook's dataset: an image at a time, through a list of transforms."""

    def __init__(self, images: Any, transform: Callable[[Any], Any]) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(self.images[index]), index % 10


def photographs(count: int, side: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Smooth images with noise, made from a fixed seed: (count, side, side, 3)."""
    generator = torch.Generator().manual_seed(0)
    rough = torch.rand(count, 3, 6, 6, generator=generator) * 255
    smooth = F.interpolate(rough, size=(side, side), mode="bicubic")
    noise = torch.randn(smooth.shape, generator=generator) * 8
    return (smooth + noise).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def references(case: str, side: int) -> dict[str, list[Any]]:
    """Each reference's transforms: PIL first, then torchvision v2 on tensors."""
    crops: dict[str, tuple[list[Any], list[Any]]] = {
        "flip, padded crop": (
            [transforms.RandomHorizontalFlip(), transforms.RandomCrop(side, padding=2)],
            [v2.RandomHorizontalFlip(), v2.RandomCrop(side, padding=2)],
        ),
        "flip, resized crop": (
            [transforms.RandomResizedCrop(side, scale=(0.08, 1.0)), transforms.RandomHorizontalFlip()],
            [v2.RandomResizedCrop(side, scale=(0.08, 1.0), antialias=True), v2.RandomHorizontalFlip()],
        ),
        "flip, padded crop, TrivialAugment, erasing": (
            [
                transforms.RandomHorizontalFlip(),
                transforms.RandomCrop(side, padding=2),
                transforms.TrivialAugmentWide(),
            ],
            [v2.RandomHorizontalFlip(), v2.RandomCrop(side, padding=2), v2.TrivialAugmentWide()],
        ),
    }
    pil, tensors = crops[case]
    after = [transforms.RandomErasing(0.25)] if "erasing" in case else []
    return {
        "DataLoader, PIL, torchvision": [*pil, transforms.ToTensor(), transforms.Normalize(MEAN, STD), *after],
        "DataLoader, torchvision v2 on tensors": [
            *tensors,
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
            *after,
        ],
    }


CASES: dict[str, tuple[int, dict[str, Any]]] = {  # case → side in pixels, the run's fields
    "flip, padded crop": (32, {}),
    "flip, resized crop": (128, dict(resized_crop=0.08)),
    "flip, padded crop, TrivialAugment, erasing": (32, dict(trivial_augment=True, erasing=0.25)),
}


def main(out: Path | None = None, quick: bool = False) -> list[dict[str, Any]]:
    """Measure, and write the rows as JSON to `out`. quick: a few rounds, to see that it works; no figure to quote."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    try:
        for case in CASES:
            rows += pipelines(case, rounds=3 if quick else 31)
        rows += shares(rounds=3 if quick else 15)
        rows.append(decoding_rate(500 if quick else 20_000, rounds=2 if quick else 3))
    finally:
        torch.set_num_threads(threads)
    if out is not None:
        ledger.write_json(out, rows)
    return rows


def pipelines(case: str, *, rounds: int) -> Iterator[dict[str, Any]]:
    """Rows of one case: our batches against each reference."""
    side, fields = CASES[case]
    images = photographs(512, side)
    run = Run(dataset="bench", backbone="bench", size=len(images), batch_size=BATCH, **fields)
    ours = iter(Batches(images, np.arange(len(images)) % 10, run, classes=10, mean=MEAN, std=STD, steps=10**9))
    for name, steps in references(case, side).items():
        whole = [Image.fromarray(image) for image in images] if "PIL" in name else list(_planes(images))
        loader = DataLoader(PerImage(whole, transforms.Compose(steps)), batch_size=BATCH, shuffle=True, drop_last=True)
        theirs = _endless(loader)
        ratios = interleaved(_taking(theirs, 1), _taking(ours, OURS), rounds)
        yield row(f"{side} px, {case}, normalise, batch {BATCH}", "batch", name, [ratio * OURS for ratio in ratios])


def _taking(batches: Iterator[Any], count: int) -> Callable[[], None]:
    def take() -> None:
        for _ in range(count):
            next(batches)

    return take


def _planes(images: np.ndarray[Any, np.dtype[np.uint8]]) -> Iterator[torch.Tensor]:
    return iter(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous())


def _endless(loader: "DataLoader[tuple[Any, int]]") -> Iterator[Any]:
    while True:
        yield from loader


def shares(*, rounds: int) -> Iterator[dict[str, Any]]:
    """The model's share of a training step, for the laptop's fastest backbone and its slowest recipe too."""
    images = store.open_images("fashion_mnist_12k")
    run = Run(dataset="fashion_mnist_12k", backbone="", size=1000, batch_size=BATCH)
    for backbone in ("vit_micro", "resnet_micro", "efficientnet_micro", "mobilenetv3_micro"):
        torch.manual_seed(0)
        model = create(backbone, image_size=28, channels=1, classes=10).to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(model.parameters(), fused=True)
        for name in ("plain", "strong"):
            made = replace(run, backbone=backbone, **recipe(name))
            loader = Batches(
                images.train[:1000],
                images.train_labels[:1000],
                made,
                classes=10,
                mean=images.mean,
                std=images.std,
                steps=10**9,
            )
            ratios = [_share(model, optimizer, loader, step) for step in range(rounds)]
            yield row(f"28 px, {backbone}, recipe {name}, batch {BATCH}", "share", "a training step", ratios)


def _share(model: torch.nn.Module, optimizer: torch.optim.Optimizer, loader: Batches, step: int) -> float:
    began = time.thread_time()
    x, target = loader.batch(step)
    made = time.thread_time()
    F.cross_entropy(model(x), target).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad()
    ended = time.thread_time()
    return (ended - made) / (ended - began)


def decoding_rate(count: int, *, rounds: int) -> dict[str, Any]:
    """How fast a store of 64 px JPEGs is built, over cores times the rate at which Pillow alone decodes them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jpegs(folder / "images", count, classes=200 if count >= 10_000 else 20)
        found = sources.index(folder / "images", folder=folder / "out", image_size=64)
        files = sorted((folder / "images").rglob("*.jpg"))[: 4000 if count >= 10_000 else count]
        ratios = []
        for _ in range(rounds):
            began = time.perf_counter()
            for file in files:
                pictures.read(file.read_bytes())
            alone = len(files) / (time.perf_counter() - began)  # images a second, one core
            shutil.rmtree(folder / "root", ignore_errors=True)
            began = time.perf_counter()
            store.open_images(found.identity, image_size=64, data_root=str(folder / "root"), place=found.place)
            built = count / (time.perf_counter() - began)
            ratios.append(built / (alone * decoding.cores()))
    case = f"64 px JPEGs, {count:,}, {decoding.cores()} cores, {built:,.0f} a second"
    return row(case, "decoding", "cores x Pillow alone", ratios)


def jpegs(root: Path, count: int, *, classes: int) -> None:
    """A folder of class folders with that many different JPEGs of 64 px."""
    images = photographs(256, 64)
    for k in range(classes):
        (root / f"class{k:03d}").mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image = images[number % 256].copy()
        image[:8, :8] = np.frombuffer(number.to_bytes(4, "big") * 48, np.uint8).reshape(8, 8, 3)  # no two are equal
        image = np.roll(image, number // 256 % 64, axis=1)
        Image.fromarray(image).save(root / f"class{number % classes:03d}" / f"{number:06d}.jpg", quality=90)

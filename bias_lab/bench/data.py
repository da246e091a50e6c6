"""Measure our batches against DataLoader, PIL and torchvision, with the same augmentation, in the same process.

`bias-lab bench data --out FILE` writes rows (`timing`), in CPU time of one thread. A ratio of mode `batch` is the
reference's time over ours. The other modes are:
- share: the model's share of a training step, for every cell of `small_data`'s laptop profile.
- decoding: the rate at which a store is built over cores x the rate of Pillow's own `Image.open(file).load()`. Both are
  CPU time. The parent's own time counts once for each core, since the other cores wait for it.
- part: a stage's share of an image's way into a store.
- memory: 300 MB over what a training process holds beyond its libraries, its model and the store's pages.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.transforms import v2

from bias_lab.backbones import create
from bias_lab.bench.timing import Row, collect, interleaved, one_thread, processor_and_versions, row
from bias_lab.catalogue import FAMILIES
from bias_lab.data import identity, moments, own_images, store
from bias_lab.data.batches import Batches
from bias_lab.data.readers import decoding, image_file
from bias_lab.definition import Run, recipe
from bias_lab.machine import cores
from bias_lab.training.hardware import cpuinfo
from bias_lab.training.regimes.mae import MAE

MEAN, STD = (0.5, 0.45, 0.4), (0.25, 0.25, 0.25)
BATCH = 32
OURS = 8  # batches of ours for one of the reference, so that the clock has enough to measure


class PerImage(Dataset[tuple[Any, int]]):
    """The usual dataset: one image at a time, through a list of transforms."""

    def __init__(self, images: Any, transform: Callable[[Any], Any]) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(self.images[index]), index % 10


def photographs(count: int, side: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return smooth images with noise, drawn from a fixed seed: (count, side, side, 3)."""
    generator = torch.Generator().manual_seed(0)
    rough = torch.rand(count, 3, 6, 6, generator=generator) * 255
    smooth = F.interpolate(rough, size=(side, side), mode="bicubic")
    noise = torch.randn(smooth.shape, generator=generator) * 8
    return (smooth + noise).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


CASES: dict[str, tuple[int, dict[str, Any]]] = {  # case → side in pixels, the run's fields
    "flip, padded crop": (32, {}),
    "flip, resized crop": (128, dict(resized_crop=0.08)),
    "flip, padded crop, TrivialAugment, erasing": (32, dict(trivial_augment=True, erasing=0.25)),
}


def references(case: str) -> dict[str, list[Any]]:
    """Return each reference's transforms by its name: PIL's, and those of torchvision v2 on tensors."""
    side, fields = CASES[case]

    def augmentations(library: Any) -> list[Any]:
        if "resized_crop" in fields:
            crop = library.RandomResizedCrop(side, scale=(fields["resized_crop"], 1.0), antialias=True)
            return [crop, library.RandomHorizontalFlip()]
        padded = [library.RandomHorizontalFlip(), library.RandomCrop(side, padding=2)]
        return [*padded, library.TrivialAugmentWide()] if "trivial_augment" in fields else padded

    last = [transforms.Normalize(MEAN, STD)] + [transforms.RandomErasing(p) for p in [fields.get("erasing")] if p]
    return {
        "DataLoader, PIL, torchvision": [*augmentations(transforms), transforms.ToTensor(), *last],
        "DataLoader, torchvision v2 on tensors": [*augmentations(v2), v2.ToDtype(torch.float32, scale=True), *last],
    }


def main(out: Path | None = None, quick: bool = False) -> list[Row]:
    """Measure everything. Return the rows, and write them as JSON to `out`.

    quick: a few rounds that show that it works, too few for a figure to quote.
    """
    place = processor_and_versions(cpuinfo())
    parts = [
        *(pipelines(case, rounds=3 if quick else 31) for case in CASES),
        shares(rounds=3 if quick else 15),
        building(400 if quick else 100_000, rounds=2 if quick else 3),
    ]
    with one_thread():
        return collect(([each | {"machine": place} for each in part] for part in parts), out)


def pipelines(case: str, *, rounds: int) -> Iterator[Row]:
    """Yield the rows of one case: our batches against each reference."""
    side, fields = CASES[case]
    images = photographs(512, side)
    run = Run(dataset="bench", backbone="bench", size=len(images), batch_size=BATCH, **fields)
    ours = iter(Batches(images, np.arange(len(images)) % 10, run, classes=10, mean=MEAN, std=STD, steps=10**9))
    planes = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    for name, steps in references(case).items():
        whole = [Image.fromarray(image) for image in images] if "PIL" in name else list(planes)
        loader = DataLoader(PerImage(whole, transforms.Compose(steps)), batch_size=BATCH, shuffle=True, drop_last=True)
        theirs = _endless(loader)
        ratios = interleaved(_taking(theirs, 1), _taking(ours, OURS), rounds)
        yield row(f"{side} px, {case}, normalise, batch {BATCH}", "batch", name, [ratio * OURS for ratio in ratios])


def _taking(batches: Iterator[Any], count: int) -> Callable[[], None]:
    def take() -> None:
        for _ in range(count):
            next(batches)

    return take


def _endless(loader: "DataLoader[tuple[Any, int]]") -> Iterator[Any]:
    while True:
        yield from loader


def cells() -> list[Run]:
    """Return one run for each training step that differs within `small_data`'s laptop profile."""
    one = Run(dataset="fashion_mnist_12k", backbone="", size=1000, batch_size=BATCH)
    return [
        *(replace(one, backbone=f"{name}_micro") for name in (*FAMILIES, "mlp")),
        *(replace(one, backbone=name, **recipe("strong")) for name in ("vit_micro", "resnet_micro", "mlp_micro")),
        replace(one, backbone="vit_micro", task="pretrain", regime="mae", source="pool", size=0, batch_size=128),
    ]


def shares(*, rounds: int) -> Iterator[Row]:
    """Yield the model's share of a training step, a row for each cell."""
    images = store.open_images("fashion_mnist_12k")
    for run in cells():
        torch.manual_seed(0)
        model = create(run.backbone, image_size=28, channels=1, classes=10).to(memory_format=torch.channels_last)
        labels = images.train_labels[:1000] if run.size else None  # a pretraining on the whole pool has size 0
        whole = model if run.size else MAE(model)
        optimizer = torch.optim.AdamW(whole.parameters(), fused=True)
        loader = Batches(images.train[:1000], labels, run, classes=10, mean=images.mean, std=images.std, steps=10**9)
        ratios = [_share(whole, optimizer, loader, step) for step in range(rounds)]
        what = f"recipe {run.recipe}" if run.size else "pretraining by MAE"
        yield row(f"28 px, {run.backbone}, {what}, batch {run.batch_size}", "share", "a training step", ratios)


def _share(model: torch.nn.Module, optimizer: torch.optim.Optimizer, loader: Batches, step: int) -> float:
    start = time.thread_time()
    batch = loader.batch(step)
    loaded = time.thread_time()
    unlabelled = isinstance(batch, torch.Tensor)
    loss = model.training_step(batch) if unlabelled else F.cross_entropy(model(batch[0]), batch[1])  # type: ignore[operator]
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    end = time.thread_time()
    return (end - loaded) / (end - start)


def building(count: int, *, rounds: int) -> Iterator[Row]:
    """Yield how fast a folder of JPEGs of 64 px becomes a store, where the time goes, and what training on it holds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jpegs(folder / "images", count, classes=200 if count >= 10_000 else 20)
        files = sorted((folder / "images").rglob("*.jpg"))
        stores, wholes = [], []
        for turn in range(rounds):
            shutil.rmtree(folder / "out", ignore_errors=True)
            before = _pillow(files[turn::20])
            indexing, index = _core_seconds(partial(own_images.index, folder / "images", folder=folder / "out"))
            root = str(folder / "out" / "root")
            opening, _ = _core_seconds(partial(store.open_images, index.identity, data_root=root, place=index.place))
            alone = count * (before + _pillow(files[turn + 10 :: 20])) / 2
            stores.append(alone / opening)
            wholes.append(alone / (indexing + opening))
        case = f"{count:,} JPEGs of 64 px, {cores()} cores"
        yield row(f"{case}: store from its index", "decoding", "cores x Pillow alone", stores)
        yield row(f"{case}: index and store", "decoding", "cores x Pillow alone", wholes)
        yield from parts(files[:2000], folder / "rows", rounds=min(len(files) // 64, 30))
        beyond = [_memory(index.place, root) for _ in range(rounds)]
        yield row(f"{case}: training on it", "memory", "300 MB beyond libraries, model and store", beyond)


def _pillow(files: list[Path]) -> float:
    """Return the CPU seconds of Pillow's own decoding for one image."""
    start = time.thread_time()
    for file in files:
        with Image.open(file) as image:
            image.load()
    return (time.thread_time() - start) / len(files)


def _core_seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the CPU seconds of `work`, and its result.

    They are the seconds of the processes that it starts, and those of this process once for each core, since the cores
    wait for it.
    """
    children, own = _cpu_seconds()
    result = work()
    children, own = (end - start for start, end in zip((children, own), _cpu_seconds(), strict=True))
    return children + own * (cores() if children > 0 else 1), result  # a small set is decoded in this process


def _cpu_seconds() -> tuple[float, float]:
    children, own = (resource.getrusage(who) for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF))
    return children.ru_utime + children.ru_stime, own.ru_utime + own.ru_stime


def parts(files: list[Path], target: Path, *, rounds: int) -> Iterator[Row]:
    """Yield the shares of an image's way into the store: read, decode, check the hash, write and add up."""
    shares_of: dict[str, list[float]] = {"read": [], "decode": [], "hash": [], "write": []}
    target.write_bytes(bytes(64 * 64 * 64 * 3))
    for turn in range(rounds):
        clock = [time.thread_time()]
        data = [decoding.fetch(decoding.Reference(str(file))) for file in files[turn * 64 : turn * 64 + 64]]
        clock.append(time.thread_time())
        decoded = [image_file.pixels(image_file.read(one)) for one in data]
        clock.append(time.thread_time())
        for one in decoded:
            identity.content_hash(one)
        clock.append(time.thread_time())
        rows = np.stack(decoded)
        with target.open("r+b") as file:
            file.write(rows.data)
        moments.sums(rows)
        clock.append(time.thread_time())
        for name, took in zip(shares_of, np.diff(clock), strict=True):
            shares_of[name].append(float(took) / (clock[-1] - clock[0]))
    for name, share in shares_of.items():
        yield row(f"64 px JPEG into a store: {name}", "part", "an image's way into a store", share)


def _memory(place: dict[str, Any], root: str) -> float:
    """Return 300 MB over what training in a process of its own holds beyond libraries, model and store."""
    code = "import json, sys; from bias_lab.bench.data import held; print(held(*json.loads(sys.argv[1])))"
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps([place, root])],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    return 300 / max(float(done.stdout.split()[-1]), 1.0)


def held(place: dict[str, Any], root: str, steps: int = 30) -> float:
    """Return the megabytes that training adds to this process, without the model and the store's pages."""
    before = resident()
    images = store.open_images(f"folder:{place['fingerprint']}", data_root=root, place=place)
    run = Run(dataset="bench", backbone="vit_micro", size=len(images.train), batch_size=BATCH)
    train = store.part(images.train, np.arange(len(images.train)))
    model = create("vit_micro", image_size=64, channels=images.train.shape[3], classes=len(images.classes))
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    loader = Batches(
        train, images.train_labels, run, classes=len(images.classes), mean=images.mean, std=images.std, steps=steps
    )
    for x, target in loader:
        F.cross_entropy(model(x), target).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    weights = 4 * sum(
        each.numel() * each.element_size() for each in model.parameters()
    )  # with the gradient and two moments
    return resident() - before - weights / 2**20


def resident() -> float:
    """Return the megabytes of this process in memory without the pages of stores (Linux)."""
    total, name = 0, ""
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            name = words[-1]
        elif words[0] == "Rss:" and not name.endswith(".u8"):
            total += int(words[1])
    return total / 1024


def jpegs(root: Path, count: int, *, classes: int) -> None:
    """Write a folder of class folders with `count` different JPEGs of 64 px."""
    images = photographs(256, 64)
    for k in range(classes):
        (root / f"class{k:03d}").mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image = images[number % 256].copy()
        image[:8, :8] = np.frombuffer(number.to_bytes(4, "big") * 48, np.uint8).reshape(
            8, 8, 3
        )  # no two images are equal
        image = np.roll(image, number // 256 % 64, axis=1)
        Image.fromarray(image).save(root / f"class{number % classes:03d}" / f"{number:06d}.jpg", quality=90)

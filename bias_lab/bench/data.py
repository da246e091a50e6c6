"""Our batches against DataLoader, PIL and torchvision: the same augmentation, in the same process, interleaved.

`bias-lab bench data --out FILE`. A row says how many times the reference's time ours takes less: the median of
`ratio` = reference / ours over n rounds, with quartiles. A round makes some batches both ways, one after the other, so
that a machine that slows down slows both; CPU time of one thread, so that a neighbour's work doesn't count.

Further kinds of row (`mode`):
- share: the model's share of a training step, for every cell of `small_data`'s laptop profile;
- decoding: the rate at which a store is built over cores x the rate of Pillow's own `Image.open(file).load()`, both by
  CPU time, where what the parent does alone counts once a core, since the others wait for it;
- part: a stage's share of an image's way into a store;
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

from bias_lab import ledger
from bias_lab.backbones import create
from bias_lab.bench.backbones import interleaved, machine, row
from bias_lab.data import identity, moments, own_images, store
from bias_lab.data.batches import Batches
from bias_lab.data.readers import decoding, image_file
from bias_lab.definition import Run, recipe
from bias_lab.machine import cores
from bias_lab.training.hardware import cpuinfo
from bias_lab.training.regimes.mae import MAE

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
    where = machine(cpuinfo())
    kinds = [
        *(pipelines(case, rounds=3 if quick else 31) for case in CASES),
        shares(rounds=3 if quick else 15),
        building(400 if quick else 100_000, rounds=2 if quick else 3),
    ]
    try:
        for kind in kinds:
            rows += [each | {"machine": where} for each in kind]
            if out is not None:
                ledger.write_json(out, rows)  # after each: a measurement that is stopped keeps what it has
    finally:
        torch.set_num_threads(threads)
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


BACKBONES = "vit resnet efficientnet mobilenetv3 swin mobilevit efficientvit".split()


def cells() -> list[Run]:
    """A run of each cell of `small_data`'s laptop profile that differs in its step."""
    one = Run(dataset="fashion_mnist_12k", backbone="", size=1000, batch_size=BATCH)
    return [
        *(replace(one, backbone=f"{name}_micro") for name in BACKBONES),
        *(replace(one, backbone=f"{name}_micro", **recipe("strong")) for name in BACKBONES[:2]),
        replace(one, backbone="vit_micro", task="pretrain", regime="mae", source="pool", size=0, batch_size=128),
    ]


def shares(*, rounds: int) -> Iterator[dict[str, Any]]:
    """The model's share of a training step, cell by cell."""
    images = store.open_images("fashion_mnist_12k")
    for run in cells():
        torch.manual_seed(0)
        model = create(run.backbone, image_size=28, channels=1, classes=10).to(memory_format=torch.channels_last)
        whole = MAE(model) if run.task == "pretrain" else model
        optimizer = torch.optim.AdamW(whole.parameters(), fused=True)
        loader = Batches(
            images.train[:1000],
            None if run.task == "pretrain" else images.train_labels[:1000],
            run,
            classes=10,
            mean=images.mean,
            std=images.std,
            steps=10**9,
        )
        ratios = [_share(whole, optimizer, loader, step) for step in range(rounds)]
        what = "pretraining by MAE" if run.task == "pretrain" else f"recipe {run.recipe}"
        yield row(f"28 px, {run.backbone}, {what}, batch {run.batch_size}", "share", "a training step", ratios)


def _share(model: torch.nn.Module, optimizer: torch.optim.Optimizer, loader: Batches, step: int) -> float:
    began = time.thread_time()
    batch = loader.batch(step)
    made = time.thread_time()
    alone = isinstance(batch, torch.Tensor)  # images without labels
    loss = model.training_step(batch) if alone else F.cross_entropy(model(batch[0]), batch[1])  # type: ignore[operator]
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    ended = time.thread_time()
    return (ended - made) / (ended - began)


def building(count: int, *, rounds: int) -> Iterator[dict[str, Any]]:
    """A folder of JPEGs of 64 px becomes a store: how fast, where the time goes, and what training on it holds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jpegs(folder / "images", count, classes=200 if count >= 10_000 else 20)
        files = sorted((folder / "images").rglob("*.jpg"))
        stores, wholes = [], []
        for turn in range(rounds):
            shutil.rmtree(folder / "out", ignore_errors=True)
            before = _pillow(files[turn::20])
            indexing, found = _core_seconds(partial(own_images.index, folder / "images", folder=folder / "out"))
            root = str(folder / "out" / "root")
            opening, _ = _core_seconds(partial(_open, found, root))
            alone = count * (before + _pillow(files[turn + 10 :: 20])) / 2
            stores.append(alone / opening)
            wholes.append(alone / (indexing + opening))
        case = f"{count:,} JPEGs of 64 px, {cores()} cores"
        yield row(f"{case}: store from its index", "decoding", "cores x Pillow alone", stores)
        yield row(f"{case}: index and store", "decoding", "cores x Pillow alone", wholes)
        yield from parts(files[:2000], folder / "rows", rounds=min(len(files) // 64, 30))
        beyond = [_memory(found.place, root) for _ in range(rounds)]
        yield row(f"{case}: training on it", "memory", "300 MB beyond libraries, model and store", beyond)


def _open(found: own_images.Index, root: str) -> store.Images:
    return store.open_images(found.identity, data_root=root, place=found.place)


def _pillow(files: list[Path]) -> float:
    """CPU seconds an image of Pillow's own decoding."""
    began = time.thread_time()
    for file in files:
        with Image.open(file) as image:
            image.load()
    return (time.thread_time() - began) / len(files)


def _core_seconds(do: Callable[[], Any]) -> tuple[float, Any]:
    """CPU time of the processes that `do` starts, and once a core that of this one, for which the cores wait."""
    began = [sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF)]
    made = do()
    ended = [sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF)]
    alone = cores() if ended[0] > began[0] else 1  # a small set is decoded here
    return ended[0] - began[0] + alone * (ended[1] - began[1]), made


def parts(files: list[Path], target: Path, *, rounds: int) -> Iterator[dict[str, Any]]:
    """Shares of an image's way into the store, its hash checked: read, decode, hash, write and add up."""
    found: dict[str, list[float]] = {"read": [], "decode": [], "hash": [], "write": []}
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
        for name, took in zip(found, np.diff(clock), strict=True):
            found[name].append(float(took) / (clock[-1] - clock[0]))
    for name, share in found.items():
        yield row(f"64 px JPEG into a store: {name}", "part", "an image's way into a store", share)


def _memory(place: dict[str, Any], root: str) -> float:
    """300 MB over what training in a process of its own holds beyond libraries, model and store."""
    code = "import json, sys; from bias_lab.bench.data import held; print(held(*json.loads(sys.argv[1])))"
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    made = subprocess.run(
        [sys.executable, "-c", code, json.dumps([place, root])],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    return 300 / max(float(made.stdout.split()[-1]), 1.0)


def held(place: dict[str, Any], root: str, steps: int = 30) -> float:
    """Megabytes that this process comes to hold by training on the whole pool, less its model and the store's pages."""
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
    weights = 4 * sum(each.numel() * each.element_size() for each in model.parameters())  # with gradient, two moments
    return resident() - before - weights / 2**20


def resident() -> float:
    """Megabytes of this process in memory (Linux), pages of stores left out."""
    total, name = 0, ""
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        words = line.split()
        if not words[0].endswith(":"):
            name = words[-1]
        elif words[0] == "Rss:" and not name.endswith(".u8"):
            total += int(words[1])
    return total / 1024


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

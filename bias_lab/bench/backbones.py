"""Measure our backbones against timm's, with the same weights in the same process, in CPU time of one thread.

`bias-lab bench backbones --out FILE` writes rows (`timing`). A ratio is the reference's time over ours. The rounds of a
case come from several processes, since ratios differ more between processes than within one (small Swin's inference:
1.07, 1.34). A process measures one case, and inference before training, as a process that serves a model does. Training
lets the heap grow, so that later inference takes no new pages from the system. The mode `inference after training`
measures this difference. A training step is forward, loss and backward.

bf16 is compared with our own fp32, and `note` has the units of this CPU that multiply bf16. Without such a unit, and
without a GPU, bf16 takes longer than fp32.

The micro sizes are compared with one another, in processes that keep their heap like the workers of a sweep. A ratio is
the time of a training step over that of vit_micro's. These rows also have `parameters`.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.layers.config import set_fused_attn
from torch import Tensor, nn

from bias_lab.backbones import create  # this import registers ours with timm
from bias_lab.bench.timing import Row, collect, interleaved, one_thread, processor_and_versions, row
from bias_lab.catalogue import BACKBONES, traits
from bias_lab.machine import KEEP_HEAP
from bias_lab.training.hardware import bf16_units, cpuinfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One model at one image size and batch. best: timm's fastest setting, `channels_last` or `fused_inference`."""

    name: str
    model: str
    image_size: int
    batch: int
    keywords: dict[str, Any]
    best: str = ""


_SMALL_SWIN = dict(img_size=64, window_size=4, embed_dim=48, depths=(2, 2, 6), num_heads=(2, 4, 8), num_classes=10)
_VIT_MICRO = dict(img_size=28, patch_size=4, in_chans=1, embed_dim=128, depth=6, num_heads=4, num_classes=10)

MICRO = tuple(name for name in BACKBONES if name.endswith("_micro") and not traits(name).control)

ROUNDS, PROCESSES = 4, 3  # about twenty minutes of one core in all

CASES = (
    *(
        Case(name=f"mobilevit_{size} {side}px", model=f"mobilevit_{size}", image_size=side, batch=batch, keywords={},
             best="channels_last")
        for side, batch in ((64, 32), (256, 4))
        for size in ("xxs", "xs")
    ),
    Case(name="swin_tiny 224px", model="swin_tiny_patch4_window7_224", image_size=224, batch=2,
         keywords=dict(drop_path_rate=0.0), best="fused_inference"),
    Case(name="swin small 64px", model="swin_tiny_patch4_window7_224", image_size=64, batch=32,
         keywords=dict(_SMALL_SWIN, drop_path_rate=0.0), best="fused_inference"),
    Case(name="vit micro 28px", model="vit_tiny_patch16_224", image_size=28, batch=32, keywords=_VIT_MICRO),
    Case(name="vit_tiny 224px", model="vit_tiny_patch16_224", image_size=224, batch=8, keywords={}),
)  # fmt: skip


def main(out: Path | None = None, quick: bool = False, only: str = "") -> list[Row]:
    """Measure the cases whose name contains `only`. Return the rows, and write them as JSON to `out`.

    quick: a few rounds that show that it works, too few for a figure to quote.
    """
    rounds, processes = (3, 1) if quick else (ROUNDS, PROCESSES)
    without_units = not bf16_units(cpuinfo())  # then a step takes ten times as long
    plan: tuple[tuple[Callable[..., Iterator[Row]], Sequence[Case | str], int, Mapping[str, str]], ...] = (
        (measure, CASES, processes, {}),
        (halves, [case for case in CASES if "mobilevit" not in case.name], 1 if without_units else processes, {}),
        (size, MICRO, processes, KEEP_HEAP),
    )
    parts = (
        [pool(rows) for rows in zip(*(alone(work, case, rounds, environment) for _ in range(count)), strict=True)]
        for work, cases, count, environment in plan
        for case in cases
        if only in str(getattr(case, "name", case))
    )
    return collect(parts, out)


def pool(rows: Sequence[Row]) -> Row:
    """Return one row for the same row of several processes, from all their rounds."""
    ratios = [ratio for each in rows for ratio in each["ratios"]]
    first = {name: value for name, value in rows[0].items() if name != "ratios"}
    return first | row(first["case"], first["mode"], first["reference"], ratios)


def alone(work: Callable[..., Iterator[Row]], case: object, rounds: int, environment: Mapping[str, str]) -> list[Row]:
    """Return the rows of one case, from a process of its own that starts with `environment` added to ours."""
    before = dict(os.environ)
    os.environ.update(environment)  # the new process inherits it, and its allocator reads it once, at the start
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
            return executor.submit(on_one_thread, work, case, rounds).result()
    finally:
        os.environ.clear()
        os.environ.update(before)


def on_one_thread(work: Callable[..., Iterator[Row]], case: object, rounds: int) -> list[Row]:
    """Return the rows of one case, measured in this process."""
    with one_thread():
        return list(work(case, rounds=rounds))


def measure(case: Case, *, rounds: int) -> Iterator[Row]:
    """Yield the rows of one case: inference, then training, against timm's default and its fastest setting."""
    ours, default = pair_of_models(case)
    images, labels = batch(case)
    references = {"timm": (default, images)}
    if case.best == "channels_last":
        best = pair_of_models(case)[1].to(memory_format=torch.channels_last)
        references["timm channels_last"] = (best, images.contiguous(memory_format=torch.channels_last))
    if case.best == "fused_inference":
        references["timm fused"] = (pair_of_models(case, fused=True)[1], images)
    order = [("inference", reference) for reference in references]
    order += [("train", reference) for reference in references if reference != "timm fused"]  # timm trains unfused
    order += [("inference after training", "timm")]
    for mode, reference in order:
        model, given = references[reference]
        run = train if mode == "train" else infer
        ratios = interleaved(partial(run, model, given, labels), partial(run, ours, images, labels), rounds)
        yield process_row(f"{case.name}, batch {case.batch}", mode, reference, ratios)


def halves(case: Case, *, rounds: int) -> Iterator[Row]:
    """Yield the rows of bf16 autocast: the time of our own fp32 over its own."""
    units = bf16_units(cpuinfo())
    note = f"bf16 multiplied by {units}" if units else "no unit of this CPU multiplies bf16: it takes longer here"
    model, (images, labels) = pair_of_models(case)[0], batch(case)
    for mode, run in (("train bf16", train), ("inference bf16", infer)):
        full = partial(run, model, images, labels)
        ratios = interleaved(full, _autocast(full), rounds)
        yield process_row(f"{case.name}, batch {case.batch}", mode, "ours fp32", ratios) | dict(note=note)


def size(name: str, *, rounds: int) -> Iterator[Row]:
    """Yield two rows of a micro size, at the smallest and the largest image it is made for."""
    for side, channels in ((28, 1), (64, 3)):
        images = torch.randn(32, channels, side, side).contiguous(memory_format=torch.channels_last)
        labels = torch.randint(0, 10, (len(images),))
        models = [
            create(each, image_size=side, channels=channels, classes=10).to(memory_format=torch.channels_last)
            for each in (name, "vit_micro")
        ]
        this, vit = (partial(train, model, images, labels) for model in models)
        ratios = interleaved(this, vit, rounds)
        parameters = sum(weight.numel() for weight in models[0].parameters())
        name_and_size = f"{name} {side}px, batch {len(images)}"
        yield process_row(name_and_size, "micro", "vit_micro", ratios) | dict(parameters=parameters)


def batch(case: Case) -> tuple[Tensor, Tensor]:
    """Return random images (B, C, H, W) and labels (B,) of a case."""
    channels = case.keywords.get("in_chans", 3)
    images = torch.randn(case.batch, channels, case.image_size, case.image_size)
    return images, torch.randint(0, case.keywords.get("num_classes", 1000), (case.batch,))


def pair_of_models(case: Case, *, fused: bool = False) -> tuple[nn.Module, nn.Module]:
    """Return our model and timm's with the same weights. fused: timm's has its experimental fused attention."""
    torch.manual_seed(0)
    ours = timm.create_model(f"bias_lab_{case.model}", **case.keywords)
    if fused:
        set_fused_attn(True, experimental=True)
    try:
        reference = timm.create_model(case.model, **case.keywords)
    finally:
        set_fused_attn(True, experimental=False)
    reference.load_state_dict(ours.state_dict(), strict=True)
    return ours, reference


def train(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Do the forward and backward pass of a training step."""
    model.train()
    loss = F.cross_entropy(model(images), labels)
    torch.autograd.backward(loss)
    model.zero_grad()


def infer(model: nn.Module, images: Tensor, _labels: Tensor) -> None:
    """Do a forward pass in inference."""
    model.eval()
    with torch.inference_mode():
        model(images)


def process_row(case: str, mode: str, reference: str, ratios: list[float]) -> Row:
    """Return what one process measured, a ratio for each round, and where."""
    place = processor_and_versions(cpuinfo())
    return dict(case=case, mode=mode, reference=reference, ratios=ratios, machine=place)


def _autocast(run: Callable[[], None]) -> Callable[[], None]:
    def cast() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            run()

    return cast

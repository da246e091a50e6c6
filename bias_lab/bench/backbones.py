"""Our backbones against timm's: the same weights in the same process, interleaved, CPU time of one thread.

`bias-lab bench backbones --out FILE`. A row says how many times the reference's time ours takes less: the median of
`ratio` = reference / ours over n rounds, with quartiles. A round times both, one after the other, so that a machine
that slows down slows both; CPU time, so that a neighbour's work doesn't count; the rounds come from several processes,
since a ratio moves from one to the next by more than its rounds scatter (small Swin's inference: 1.07, 1.34). A process
has one case, and infers before it trains, as one that serves a model does: training grows the heap, and whoever infers
after it asks the system for no fresh pages. `inference after training` says what that is worth. A training step is
forward, loss, backward. bf16 is held against our own fp32: it pays where the hardware multiplies it (AMX, a GPU) and
costs elsewhere, so those rows carry a `note` on what this CPU has. `machine` says where and with which versions a row
was measured. The micro sizes are held against one another, in processes that keep their heap as a sweep's workers do:
how many times vit_micro's training step each takes, and its parameters.
"""

import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.layers.config import set_fused_attn
from torch import Tensor, nn

from bias_lab import ledger
from bias_lab.backbones import create  # and registers ours with timm
from bias_lab.catalogue import BACKBONES
from bias_lab.machine import KEEP_HEAP
from bias_lab.training.hardware import bf16_units, cpuinfo

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One model at one image size and batch. best: what timm can be set to: `channels_last`, `fused_inference`."""

    name: str
    model: str
    image_size: int
    batch: int
    keywords: dict[str, Any]
    best: str = ""


_SMALL_SWIN = dict(img_size=64, window_size=4, embed_dim=48, depths=(2, 2, 6), num_heads=(2, 4, 8), num_classes=10)
_VIT_MICRO = dict(img_size=28, patch_size=4, in_chans=1, embed_dim=128, depth=6, num_heads=4, num_classes=10)

MICRO = tuple(name for name in BACKBONES if name.endswith("_micro"))

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
    """Measure, and write the rows as JSON to `out`. quick: a few rounds, to see that it works; no figure to quote."""
    rounds, processes = (3, 1) if quick else (ROUNDS, PROCESSES)
    without_units = not bf16_units(cpuinfo())  # then a step takes ten times as long
    rows: list[Row] = []
    for work, cases, count, environment in (
        (measure, CASES, processes, {}),
        (halves, [case for case in CASES if "mobilevit" not in case.name], 1 if without_units else processes, {}),
        (size, MICRO, processes, KEEP_HEAP),
    ):
        for case in cases:
            if only in str(getattr(case, "name", case)):
                parts = [alone(work, case, rounds, environment) for _ in range(count)]
                rows += [pooled(alike) for alike in zip(*parts, strict=True)]
                if out is not None:
                    ledger.write_json(out, rows)  # after each case: a measurement that is stopped keeps what it has
    return rows


def pooled(alike: Sequence[Row]) -> Row:
    """One row of several processes': the median of all their rounds' ratios, with quartiles."""
    told = dict(alike[0])
    ratios = [ratio for part in alike for ratio in part["ratios"]]
    del told["ratios"]
    return told | row(told["case"], told["mode"], told["reference"], ratios)


def row(case: str, mode: str, reference: str, ratios: Sequence[float]) -> Row:
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return dict(
        case=case, mode=mode, reference=reference, ratio=round(middle, 3), low=round(low, 3), high=round(high, 3),
        n=len(ratios),
    )  # fmt: skip


def alone(work: Callable[..., Iterator[Row]], case: object, rounds: int, environment: Mapping[str, str]) -> list[Row]:
    """The rows of one case, from a process of its own that starts with `environment` besides ours."""
    ours = dict(os.environ)
    os.environ.update(environment)  # a pool hands down what stands there; the allocator reads it once, at the start
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return pool.submit(on_one_thread, work, case, rounds).result()
    finally:
        os.environ.clear()
        os.environ.update(ours)


def on_one_thread(work: Callable[..., Iterator[Row]], case: object, rounds: int) -> list[Row]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return list(work(case, rounds=rounds))
    finally:
        torch.set_num_threads(threads)


def measure(case: Case, *, rounds: int) -> Iterator[Row]:
    """Ratios of one case: inference, then training, against timm by default and at its best."""
    ours, default = pair_of_models(case)
    images, labels = batch(case)
    references = {"timm": (default, images)}
    if case.best == "channels_last":
        best = pair_of_models(case)[1].to(memory_format=torch.channels_last)
        references["timm channels_last"] = (best, images.contiguous(memory_format=torch.channels_last))
    if case.best == "fused_inference":
        references["timm fused"] = (pair_of_models(case, fused=True)[1], images)
    order = [("inference", reference) for reference in references]
    order += [("train", reference) for reference in references if reference != "timm fused"]  # it trains unfused
    order += [("inference after training", "timm")]
    for mode, reference in order:
        model, given = references[reference]
        run = step if mode == "train" else infer
        ratios = interleaved(_bound(run, model, given, labels), _bound(run, ours, images, labels), rounds)
        yield process_row(f"{case.name}, batch {case.batch}", mode, reference, ratios)


def halves(case: Case, *, rounds: int) -> Iterator[Row]:
    """Ratios of bf16 autocast: our own fp32's time over its."""
    units = bf16_units(cpuinfo())
    note = f"bf16 multiplied by {units}" if units else "no unit of this CPU multiplies bf16: a cost here"
    model, (images, labels) = pair_of_models(case)[0], batch(case)
    for mode, run in (("train bf16", step), ("inference bf16", infer)):
        full = _bound(run, model, images, labels)
        ratios = interleaved(full, _autocast(full), rounds)
        yield process_row(f"{case.name}, batch {case.batch}", mode, "ours fp32", ratios) | dict(note=note)


def size(name: str, *, rounds: int) -> Iterator[Row]:
    """Ratios of a micro size at the two ends of what it is made for: its training step's time over vit_micro's."""
    for side, channels in ((28, 1), (64, 3)):
        images = torch.randn(32, channels, side, side).contiguous(memory_format=torch.channels_last)
        labels = torch.randint(0, 10, (len(images),))
        models = [
            create(each, image_size=side, channels=channels, classes=10).to(memory_format=torch.channels_last)
            for each in (name, "vit_micro")
        ]
        this, vit = (_bound(step, model, images, labels) for model in models)
        ratios = interleaved(this, vit, rounds)
        parameters = sum(weight.numel() for weight in models[0].parameters())
        name_and_size = f"{name} {side}px, batch {len(images)}"
        yield process_row(name_and_size, "micro", "vit_micro", ratios) | dict(parameters=parameters)


def batch(case: Case) -> tuple[Tensor, Tensor]:
    """Images (B, C, H, W) and labels (B,) as the case wants them."""
    channels = case.keywords.get("in_chans", 3)
    images = torch.randn(case.batch, channels, case.image_size, case.image_size)
    return images, torch.randint(0, case.keywords.get("num_classes", 1000), (case.batch,))


def pair_of_models(case: Case, *, fused: bool = False) -> tuple[nn.Module, nn.Module]:
    """Ours and timm's, with the same weights. fused: timm with its experimental fused attention."""
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


def step(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    model.train()
    loss = F.cross_entropy(model(images), labels)
    torch.autograd.backward(loss)
    model.zero_grad()


def infer(model: nn.Module, images: Tensor, _labels: Tensor) -> None:
    model.eval()
    with torch.inference_mode():
        model(images)


def interleaved(reference: Callable[[], object], ours: Callable[[], object], rounds: int) -> list[float]:
    """reference's CPU time / ours, a ratio a round; which goes first alternates. Two rounds before don't count."""
    ratios = []
    for i in range(rounds + 2):
        seconds = {}
        for run in (reference, ours) if i % 2 else (ours, reference):
            start = time.thread_time()
            run()
            seconds[run] = time.thread_time() - start
        ratios.append(seconds[reference] / seconds[ours])
    return ratios[2:]


def process_row(case: str, mode: str, reference: str, ratios: list[float]) -> Row:
    """What one process measured, a ratio a round, and where."""
    return dict(case=case, mode=mode, reference=reference, ratios=ratios, machine=machine(cpuinfo()))


def machine(info: str) -> str:
    """The processor, what torch uses of it, and the versions."""
    name = re.search(r"model name\s*: (.*)", info)
    processor = name[1].strip() if name else platform.processor() or platform.machine()
    used = torch.backends.cpu.get_cpu_capability()
    return f"{processor}, {used}; torch {torch.__version__.split('+')[0]}, timm {timm.__version__}"


def _bound(run: Callable[..., None], model: nn.Module, images: Tensor, labels: Tensor) -> Callable[[], None]:
    return lambda: run(model, images, labels)


def _autocast(run: Callable[[], None]) -> Callable[[], None]:
    def cast() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            run()

    return cast

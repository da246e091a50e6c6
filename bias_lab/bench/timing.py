"""Time two functions side by side, and describe a measurement as a row of plain values.

A row has at least `case`, `mode`, `reference`, `ratio` (median), `low` and `high` (quartiles), `n` (rounds), `machine`.
"""

import contextlib
import platform
import re
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import timm
import torch

from bias_lab import ledger

Row = dict[str, Any]


def interleaved(reference: Callable[[], object], ours: Callable[[], object], rounds: int) -> list[float]:
    """Return the CPU time of `reference` over that of `ours`, a ratio for each round.

    A round times both, in alternating order, so that a machine that slows down slows both. CPU time of this thread
    leaves out what other processes do. Two rounds before the first are not counted.
    """
    ratios = []
    for i in range(rounds + 2):
        seconds = {}
        for run in (reference, ours) if i % 2 else (ours, reference):
            start = time.thread_time()
            run()
            seconds[run] = time.thread_time() - start
        ratios.append(seconds[reference] / seconds[ours])
    return ratios[2:]


def row(case: str, mode: str, reference: str, ratios: Sequence[float]) -> Row:
    """Return a row without its machine: the median of the ratios, their quartiles and their count."""
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return dict(
        case=case, mode=mode, reference=reference, ratio=round(middle, 3), low=round(low, 3), high=round(high, 3),
        n=len(ratios),
    )  # fmt: skip


def processor_and_versions(info: str) -> str:
    """Return where a row was measured: the processor, what torch uses of it, and the versions. info: /proc/cpuinfo."""
    name = re.search(r"model name\s*: (.*)", info)
    processor = name[1].strip() if name else platform.processor() or platform.machine()
    used = torch.backends.cpu.get_cpu_capability()
    return f"{processor}, {used}; torch {torch.__version__.split('+')[0]}, timm {timm.__version__}"


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread meanwhile."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def collect(parts: Iterable[Iterable[Row]], out: Path | None) -> list[Row]:
    """Return the rows of all parts. Write them to `out` after each part, so that a stopped measurement keeps them."""
    rows: list[Row] = []
    for part in parts:
        rows += part
        if out is not None:
            ledger.write_json(out, rows)
    return rows

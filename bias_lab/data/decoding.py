"""Many files → hashes or pixels, on all cores: plain subprocesses, each with its share of the list.

Processes, since for small images Pillow holds Python's lock most of the time; `subprocess`, since a worker of a sweep
may not have children of multiprocessing's kind, and since a user's script is not to be imported again. No torch.
"""

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bias_lab.data import pictures
from bias_lab.data.identity import content_hash

ALONE = 1500  # images that one process decodes sooner than others start
REPORT = 64  # images between two signs of life


@dataclass(frozen=True, slots=True)
class Reference:
    """Where one image lies: a file, or a row of a parquet file's column of bytes."""

    path: str
    column: str = ""
    group: int = 0  # row group
    row: int = 0  # within the group


@dataclass(frozen=True, slots=True)
class Seen:
    """What looking at one image found. problem: why it can't be used; empty: it can."""

    hash: str = ""
    grey: bool = False
    width: int = 0
    height: int = 0
    problem: str = ""


@dataclass(slots=True)
class Target:
    """Where decoded pixels go: rows (n,) of a file of uint8 (M, *side, channels)."""

    path: str
    side: tuple[int, int]
    channels: int
    resize: int | None
    rows: list[int] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)  # what the images must be


@cache
def _group(path: str, column: str, group: int) -> list[bytes]:
    import pyarrow.parquet as pq

    table = pq.ParquetFile(path).read_row_group(group, columns=[column])
    values = table.column(column).to_pylist()
    return [value["bytes"] if isinstance(value, dict) else value for value in values]


def fetch(reference: Reference) -> bytes:
    """The bytes of one image. Raises Bad if they can't be had."""
    if reference.column:
        if _group.cache_info().currsize > 4:
            _group.cache_clear()
        data = _group(reference.path, reference.column, reference.group)[reference.row]
        if data is None:
            raise pictures.Bad("no bytes in the table")
        return data
    try:
        return Path(reference.path).read_bytes()
    except IsADirectoryError:
        raise pictures.Bad("a folder, not a file") from None
    except PermissionError:
        raise pictures.Bad("no permission to read it") from None
    except FileNotFoundError:
        raise pictures.Bad("not there") from None
    except OSError as error:
        raise pictures.Bad(error.strerror or str(error)) from None


def look(reference: Reference) -> Seen:
    """Decode one image and say what it is."""
    try:
        image = pictures.read(fetch(reference))
    except pictures.Bad as bad:
        return Seen(problem=str(bad))
    return Seen(content_hash(pictures.pixels(image)), image.mode == "L", image.width, image.height)


def _looks(references: Sequence[Reference]) -> Iterator[list[Any]]:
    for start in range(0, len(references), REPORT):
        yield [look(reference) for reference in references[start : start + REPORT]]


def _fills(references: Sequence[Reference], target: Target) -> Iterator[list[Any]]:
    """Decode images into their rows; yields, for each, why it could not be done, or an empty text."""
    H, W = target.side
    store = np.memmap(target.path, np.uint8, mode="r+").reshape(-1, H, W, target.channels)
    found: list[Any] = []
    for reference, row, wanted in zip(references, target.rows, target.hashes, strict=True):
        found.append(_fill(reference, store, row, wanted, target))
        if len(found) == REPORT:
            yield found
            found = []
    yield found


def _fill(reference: Reference, store: Any, row: int, wanted: str, target: Target) -> str:
    try:
        image = pictures.read(fetch(reference))
    except pictures.Bad as bad:
        return str(bad)
    if content_hash(pictures.pixels(image)) != wanted:
        return "changed since it was indexed"
    made = pictures.fit(image, target.resize, target.channels)
    if made.shape != store.shape[1:]:
        return f"{made.shape[1]}x{made.shape[0]} px, the others {store.shape[2]}x{store.shape[1]}"
    store[row] = made
    return ""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def look_at(references: Sequence[Reference], *, workers: int | None = None) -> list[Seen]:
    """`look` at all of them, on all cores, in order; with a progress bar where there is a terminal and much to do."""
    return _spread(references, None, workers)


def fill(references: Sequence[Reference], target: Target, *, workers: int | None = None) -> list[str]:
    """Decode all into the target's rows; returns a text an image, empty where all went well."""
    return _spread(references, target, workers)


def _spread(references: Sequence[Reference], target: Target | None, workers: int | None) -> list[Any]:
    count = len(references)
    shares = min(workers or cores(), -(-count // ALONE))
    with progress(count, "reading images" if target is None else "decoding images") as advance:
        if shares <= 1:
            made: list[Any] = []
            for part in _work(references, target):
                made += part
                advance(len(part))
            return made
        results: list[Any] = [None] * count
        with ThreadPoolExecutor(shares) as pool:
            jobs = [(k, references[k::shares], _share(target, k, shares)) for k in range(shares)]
            for k, part in pool.map(lambda job: (job[0], _other_process(job[1], job[2], advance)), jobs):
                results[k::shares] = part
        return results


def _share(target: Target | None, k: int, shares: int) -> Target | None:
    if target is None:
        return None
    rows, hashes = target.rows[k::shares], target.hashes[k::shares]
    return Target(target.path, target.side, target.channels, target.resize, rows, hashes)


def _work(references: Sequence[Reference], target: Target | None) -> Iterator[list[Any]]:
    return _looks(references) if target is None else _fills(references, target)


def _other_process(references: Sequence[Reference], target: Target | None, advance: Callable[[int], None]) -> list[Any]:
    """Do one share in a process of its own; if it dies, so does the whole, with what it said."""
    package = str(Path(__file__).parents[2])
    path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-P", "-m", "bias_lab.data.decoding"]
    quiet = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=quiet) as process:
        assert process.stdin is not None and process.stdout is not None  # noqa: PT018
        pickle.dump((list(references), target), process.stdin)
        process.stdin.close()
        made: list[Any] = []
        while len(made) < len(references):
            try:
                part = pickle.load(process.stdout)
            except EOFError:
                raise RuntimeError(f"a decoding process ended early, with exit code {process.wait()}") from None
            made += part
            advance(len(part))
    return made


class progress:  # noqa: N801 - reads as a function where it is used
    """A progress bar on a terminal for long work, else nothing. `advance(n)` may be called by any thread."""

    def __init__(self, total: int, what: str) -> None:
        self.bar: Any = None
        self.lock = threading.Lock()
        self.total, self.what = total, what

    def __enter__(self) -> Callable[[int], None]:
        if self.total >= ALONE and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            self.bar = Progress(console=Console(stderr=True), transient=True)
            self.bar.start()
            self.task = self.bar.add_task(self.what, total=self.total)
        return self.advance

    def advance(self, count: int) -> None:
        if self.bar is not None:
            with self.lock:
                self.bar.advance(self.task, count)

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()


def main() -> None:
    """A share of the work: (references, target) from standard input, lists of results to standard output."""
    references, target = pickle.load(sys.stdin.buffer)
    for part in _work(references, target):
        pickle.dump(part, sys.stdout.buffer)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    from bias_lab.data.decoding import main as work  # under its own name, so that what it pickles can be found again

    work()

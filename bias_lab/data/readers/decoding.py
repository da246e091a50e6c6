"""Turn many files into hashes or pixels, on all cores. No torch.

The work is done by processes, because Pillow holds Python's lock most of the time for small images.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import types
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bias_lab import machine
from bias_lab.data.identity import content_hash, file_hash
from bias_lab.data.moments import sums
from bias_lab.data.readers import image_file
from bias_lab.errors import UserError, plural

ALONE = 1500  # images that one process decodes before others could start
TOGETHER = 128  # images that are decoded, written and reported at once
TICK = 0.2  # seconds after which a waiting thread sees a Ctrl-C that the system gave to another thread
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # the environment of a decoding process


class Reference(NamedTuple):
    """Locate one image: a file, or a row of a parquet file's column of bytes."""

    path: str
    column: str = ""
    group: int = 0  # row group
    row: int = 0  # within the group


class Inspection(NamedTuple):
    """Describe one image. problem: why it cannot be used, or an empty string."""

    hash: str = ""  # of its pixels
    file: str = ""  # of its bytes
    grey: bool = False
    width: int = 0
    height: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Describe where decoded pixels go: the rows from `first` on of a file of uint8 (M, *side, channels)."""

    path: str
    side: tuple[int, int]
    channels: int
    resize: int | None
    first: int = 0
    summed: int = 0  # images, from the first on, whose levels are added up
    hashes: Sequence[str] = ()  # the content hash that each image must have (empty: any)
    files: Sequence[str] = ()  # the hash of each file's bytes, which is faster to compare (empty: unknown)


@dataclass(slots=True)
class Decoded:
    """Hold what decoding gave, an item an image, and the sums of the levels."""

    problems: list[str]  # why an image could not be decoded, or an empty string
    contents: list[str]  # content hash of the image
    rows: list[str]  # content hash of its row, which is the same unless it was resized
    sums: NDArray[np.float64]  # (2, channels)


Part = tuple[Sequence[Reference], Target | None]  # a few images and their target, or None to inspect them


# --- one image -------------------------------------------------------------------------------------------------------


@cache
def _group(path: str, column: str, group: int) -> list[bytes] | str:
    """Return the images of a row group, or why they cannot be read."""
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read_row_group(group, columns=[column])
    except (OSError, ValueError) as error:  # Arrow's own errors derive from these
        return f"a damaged part of the table: {' '.join(str(error).split())[:80]}"
    values = table.column(column).to_pylist()
    return [value["bytes"] if isinstance(value, dict) else value for value in values]


def fetch(reference: Reference) -> bytes:
    """Return the bytes of one image. Raises Unreadable if there are none."""
    if reference.column:
        if _group.cache_info().currsize > 4:
            _group.cache_clear()
        images = _group(reference.path, reference.column, reference.group)
        if isinstance(images, str):
            raise image_file.Unreadable(images)
        if images[reference.row] is None:
            raise image_file.Unreadable("no bytes in the table")
        return images[reference.row]
    try:
        return _file_bytes(reference.path)
    except IsADirectoryError:
        raise image_file.Unreadable("a folder, not a file") from None
    except PermissionError:
        raise image_file.Unreadable("no permission to read it") from None
    except FileNotFoundError:
        raise image_file.Unreadable("not there") from None
    except OSError as error:
        raise image_file.Unreadable(error.strerror or str(error)) from None


def _file_bytes(path: str) -> bytes:
    """Return a file's bytes. For a small file this takes a third of the time of `Path.read_bytes`."""
    file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        size = os.fstat(file).st_size
        data = os.read(file, size)
        while len(data) < size and (more := os.read(file, size)):  # a network may deliver it in parts
            data += more
        return data
    finally:
        os.close(file)


def inspect(reference: Reference) -> Inspection:
    """Decode one image and describe it."""
    try:
        data = fetch(reference)
        image = image_file.read(data)
    except image_file.Unreadable as error:
        return Inspection(problem=str(error))
    mark = content_hash(image_file.pixels(image))
    return Inspection(mark, file_hash(data), image.mode == "L", image.width, image.height)


def _decode(reference: Reference, known: tuple[str, str], row: NDArray[np.uint8], target: Target) -> tuple[str, ...]:
    """Decode one image into its row and return (problem, content hash, hash of the row).

    known: the hashes of its pixels and of its bytes, or empty strings.
    """
    try:
        data = fetch(reference)
        image = image_file.read(data)
    except image_file.Unreadable as error:
        return str(error), "", ""
    pixels = image_file.pixels(image)
    wanted, file = known
    content = wanted if file and file == file_hash(data) else content_hash(pixels)
    if wanted not in ("", content):
        return "changed since it was indexed", content, ""
    if pixels.shape == row.shape and target.resize in (None, row.shape[0]):
        row[:] = pixels
        return "", content, content
    resized = image_file.resize(image, target.resize, target.channels)
    if resized.shape != row.shape:
        problem = f"{resized.shape[1]}x{resized.shape[0]} px, the others {row.shape[1]}x{row.shape[0]}"
        return problem, content, ""
    row[:] = resized
    return "", content, content_hash(resized)


# --- many images -----------------------------------------------------------------------------------------------------


def inspect_all(references: Sequence[Reference], *, workers: int | None = None) -> list[Inspection]:
    """Return the inspection of each image, in order. Long work on a terminal shows a progress bar."""
    return [one for part in _parts(references, None, workers) for one in part]


def decode_all(references: Sequence[Reference], target: Target, *, workers: int | None = None) -> Decoded:
    """Decode all images into the target's rows."""
    whole = Decoded([], [], [], np.zeros((2, target.channels)))
    for part in _parts(references, target, workers):
        whole.problems += part.problems
        whole.contents += part.contents
        whole.rows += part.rows
        whole.sums += part.sums
    return whole


def check_decoded(where: str, names: Sequence[str], problems: Sequence[str]) -> None:
    """Raise UserError if an image could not be decoded. The message names the first few."""
    bad = [f"{name} ({problem})" for name, problem in zip(names, problems, strict=True) if problem]
    if bad:
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise UserError(
            f"{plural(len(bad), 'image')} of {where} can't be used: {', '.join(bad[:5])}{more}",
            remedy="start the sweep again",
        )


def _parts(references: Sequence[Reference], target: Target | None, workers: int | None) -> list[Any]:
    """Return the results of every TOGETHER images, in order. A small set is decoded in this process."""
    count = len(references)
    parts = ((references[at : at + TOGETHER], _part_of(target, at)) for at in range(0, count, TOGETHER))
    workers = min(workers or machine.cores(), -(-count // ALONE))
    with progress(count, "reading images" if target is None else "decoding images") as advance:
        if workers > 1:
            return _in_processes(parts, workers, advance)
        results = []
        for part in parts:
            results.append(_do(part))
            advance(len(part[0]))
        return results


def _part_of(target: Target | None, at: int) -> Target | None:
    """Return the target of the images from `at` on."""
    if target is None:
        return None
    return replace(
        target,
        first=target.first + at,
        summed=target.summed - at,
        hashes=target.hashes[at : at + TOGETHER],
        files=target.files[at : at + TOGETHER],
    )


def _do(part: Part) -> Any:
    """Inspect a few images, or decode them and write their rows in one go, which is faster than a memory map."""
    references, target = part
    if target is None:
        return [inspect(reference) for reference in references]
    pixels = np.zeros((len(references), *target.side, target.channels), np.uint8)
    unknown = [""] * len(references)
    known = zip(target.hashes or unknown, target.files or unknown, strict=True)
    decoded = [_decode(*each, target) for each in zip(references, known, pixels, strict=True)]
    with open(target.path, "r+b") as file:  # noqa: PTH123 - a Path costs more than the write
        file.seek(target.first * pixels[0].size)
        file.write(pixels.data)
    problems, contents, rows = map(list, zip(*decoded, strict=True))
    return Decoded(problems, contents, rows, sums(pixels[: max(0, target.summed)]))


# --- processes -------------------------------------------------------------------------------------------------------


def _in_processes(parts: Iterator[Part], workers: int, advance: Callable[[int], None]) -> list[Any]:
    """Return the result of each part, in order. A few parts a process are under way at any time.

    Raises RuntimeError if a process ends early, and whatever a part raises (an OSError if the disk is full). Then, and
    after a Ctrl-C, all processes are killed at once.
    """
    results: list[Any] = []
    others = {*multiprocessing.active_children()}
    processes: dict[multiprocessing.process.BaseProcess, None] = {}
    waiting: deque[tuple[Future[Any], int]] = deque()
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _end_with_parent) as pool:
        try:
            while True:
                for part in islice(parts, 4 * workers - len(waiting)):
                    with _quiet_start():
                        waiting.append((pool.submit(_do, part), len(part[0])))
                    processes.update(dict.fromkeys({*multiprocessing.active_children()} - others))
                if not waiting:
                    return results
                future, count = waiting.popleft()
                while not future.done():
                    wait((future,), TICK)
                results.append(future.result())
                advance(count)
        except BaseException as error:
            if not isinstance(error, BrokenProcessPool):  # in that case the pool terminates them
                for process in processes:
                    process.kill()
            pool.shutdown(cancel_futures=True)
            if isinstance(error, BrokenProcessPool):
                dead = min(processes, key=lambda each: each.exitcode in (None, 0, -signal.SIGTERM), default=None)
                which = f"process {dead.pid}, with exit code {dead.exitcode}" if dead else "it did not start"
                raise RuntimeError(f"a decoding process ended early: {which}") from None
            if isinstance(error, BrokenPipeError):
                raise RuntimeError("a decoding process ended early: it did not start") from None
            raise


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    """Let a process start with one thread, without a Ctrl-C from the terminal, and without the user's script.

    A started process inherits the environment and the blocked signals. It would also import the main module again, and
    a script without `if __name__ == "__main__"` would then run twice.
    """
    main, environment = sys.modules["__main__"], {name: os.environ.get(name) for name in ONE_THREAD}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        sys.modules["__main__"] = types.ModuleType("__main__")
        os.environ.update(ONE_THREAD)
        yield
    finally:
        for name, value in environment.items():
            del os.environ[name]
            os.environ.update({} if value is None else {name: value})
        sys.modules["__main__"] = main
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _end_with_parent() -> None:
    """End this process as soon as its parent is gone, even if that was killed."""

    def watch() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def progress(total: int, what: str) -> Iterator[Callable[[int], None]]:
    """Show a progress bar for long work on a terminal. Yields the function that advances it by a number of images."""
    if total < ALONE or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)

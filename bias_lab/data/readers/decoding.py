"""Many files → hashes or pixels, on all cores: plain subprocesses, each with its share of the list.

Processes, since for small images Pillow holds Python's lock most of the time; `subprocess`, since a worker of a sweep
may not have children of multiprocessing's kind, and since a user's script is not to be imported again. No torch.
"""

import contextlib
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bias_lab import machine
from bias_lab.data.identity import content_hash, file_hash
from bias_lab.data.moments import sums
from bias_lab.data.readers import image_file
from bias_lab.errors import UserError, plural

ALONE = 1500  # images that one process decodes sooner than others start
TOGETHER = 64  # images that are decoded, written and reported at once
TICK = 0.2  # seconds between looks at whether a process has failed, or somebody wants to stop


class Reference(NamedTuple):
    """Where one image lies: a file, or a row of a parquet file's column of bytes."""

    path: str
    column: str = ""
    group: int = 0  # row group
    row: int = 0  # within the group


class Seen(NamedTuple):
    """What looking at one image found. problem: why it can't be used; empty: it can."""

    hash: str = ""  # of its pixels
    file: str = ""  # of its bytes
    grey: bool = False
    width: int = 0
    height: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where decoded pixels go: rows, from `first` on, of a file of uint8 (M, *side, channels)."""

    path: str
    side: tuple[int, int]
    channels: int
    resize: int | None
    first: int = 0
    counted: int = 0  # images, from the first on, whose levels are added up
    hashes: Sequence[str] = ()  # what the images must be; empty: whatever they are
    files: Sequence[str] = ()  # of their bytes, which are quicker to know again than pixels; empty: not known


@dataclass(slots=True)
class Filled:
    """What filling rows found, an item an image, and the sums of their levels."""

    problems: list[str]  # why it could not be done; empty: it was
    contents: list[str]  # content hash of the image
    rows: list[str]  # content hash of its row: the same where nothing was resized
    sums: NDArray[np.float64]  # (2, channels)


@cache
def _group(path: str, column: str, group: int) -> list[bytes] | str:
    """The images of a row group, or why they can't be read."""
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read_row_group(group, columns=[column])
    except (OSError, ValueError) as error:  # Arrow's own derive from these
        return f"a damaged part of the table: {' '.join(str(error).split())[:80]}"
    values = table.column(column).to_pylist()
    return [value["bytes"] if isinstance(value, dict) else value for value in values]


def fetch(reference: Reference) -> bytes:
    """The bytes of one image. Raises Bad if they can't be had."""
    if reference.column:
        if _group.cache_info().currsize > 4:
            _group.cache_clear()
        found = _group(reference.path, reference.column, reference.group)
        if isinstance(found, str):
            raise image_file.Bad(found)
        if found[reference.row] is None:
            raise image_file.Bad("no bytes in the table")
        return found[reference.row]
    try:
        return _whole(reference.path)
    except IsADirectoryError:
        raise image_file.Bad("a folder, not a file") from None
    except PermissionError:
        raise image_file.Bad("no permission to read it") from None
    except FileNotFoundError:
        raise image_file.Bad("not there") from None
    except OSError as error:
        raise image_file.Bad(error.strerror or str(error)) from None


def _whole(path: str) -> bytes:
    """A file's bytes, in a third of the time that Path.read_bytes takes for a small one."""
    file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        size = os.fstat(file).st_size
        data = os.read(file, size)
        while len(data) < size and (more := os.read(file, size)):  # over a network it may come in parts
            data += more
        return data
    finally:
        os.close(file)


def look(reference: Reference) -> Seen:
    """Decode one image and say what it is."""
    try:
        data = fetch(reference)
        image = image_file.read(data)
    except image_file.Bad as bad:
        return Seen(problem=str(bad))
    return Seen(content_hash(image_file.pixels(image)), file_hash(data), image.mode == "L", image.width, image.height)


def _fill(references: Sequence[Reference], target: Target) -> Filled:
    """Decode images into their rows. They are written at once: a page that is touched costs more than one written."""
    made = np.zeros((len(references), *target.side, target.channels), np.uint8)
    unknown = [""] * len(references)
    known = zip(target.hashes or unknown, target.files or unknown, strict=True)
    found = [_fit(*each, target) for each in zip(references, known, made, strict=True)]
    with open(target.path, "r+b") as file:  # noqa: PTH123 - as above
        file.seek(target.first * made[0].size)
        file.write(made.data)
    problems, contents, rows = map(list, zip(*found, strict=True))
    return Filled(problems, contents, rows, sums(made[: max(0, target.counted)]))


def _fit(reference: Reference, known: tuple[str, str], row: NDArray[np.uint8], target: Target) -> tuple[str, str, str]:
    """Decode one image into its row: (problem, content hash, hash of the row).

    known: the hashes of its pixels and of its bytes, where an index has them.
    """
    try:
        data = fetch(reference)
        image = image_file.read(data)
    except image_file.Bad as bad:
        return str(bad), "", ""
    pixels = image_file.pixels(image)
    wanted, file = known
    content = wanted if file and file == file_hash(data) else content_hash(pixels)
    if wanted not in ("", content):
        return "changed since it was indexed", content, ""
    if pixels.shape == row.shape and target.resize in (None, row.shape[0]):
        row[:] = pixels
        return "", content, content
    made = image_file.fit(image, target.resize, target.channels)
    if made.shape != row.shape:
        return f"{made.shape[1]}x{made.shape[0]} px, the others {row.shape[1]}x{row.shape[0]}", content, ""
    row[:] = made
    return "", content, content_hash(made)


def look_at(references: Sequence[Reference], *, workers: int | None = None) -> list[Seen]:
    """`look` at all of them, on all cores, in order; with a progress bar where there is a terminal and much to do."""
    return [seen for part in _spread(references, None, workers) for seen in part]


def fill(references: Sequence[Reference], target: Target, *, workers: int | None = None) -> Filled:
    """Decode all into the target's rows, on all cores."""
    whole = Filled([], [], [], np.zeros((2, target.channels)))
    for part in _spread(references, target, workers):
        whole.problems += part.problems
        whole.contents += part.contents
        whole.rows += part.rows
        whole.sums += part.sums
    return whole


Work = tuple[Sequence[Reference], Target | None]  # a few images, and where they go; None: they are looked at


def _spread(references: Sequence[Reference], target: Target | None, workers: int | None) -> list[Any]:
    """What came of every TOGETHER images, in order. Processes take turns, so that each has easy and hard ones."""
    count = len(references)
    work = [(references[at : at + TOGETHER], _part(target, at)) for at in range(0, count, TOGETHER)]
    shares = min(workers or machine.cores(), -(-count // ALONE))
    results: list[Any] = [None] * len(work)
    with progress(count, "reading images" if target is None else "decoding images") as advance:
        if shares <= 1:
            for k, one in enumerate(work):
                results[k] = _do(one)
                advance(len(one[0]))
            return results
        processes: list[subprocess.Popen[bytes]] = []
        with contextlib.ExitStack() as ended, ThreadPoolExecutor(shares) as pool:
            try:
                for _ in range(shares):
                    processes.append(ended.enter_context(_start()))
                asked = [pool.submit(_ask, process, work[k::shares], advance) for k, process in enumerate(processes)]
                rest: Any = asked
                while rest:  # in ticks: a Ctrl-C that the system hands to another thread does not wake this one
                    done, rest = wait(asked, TICK, FIRST_EXCEPTION)
                    for answer in done:
                        answer.result()  # raises what it raised
                for k, answer in enumerate(asked):
                    results[k::shares] = answer.result()
            finally:  # after a Ctrl-C, or when one failed, nobody waits for what the others would still do
                for process in processes:
                    process.kill()
        return results


def _part(target: Target | None, at: int) -> Target | None:
    """The target of the images from `at` on."""
    if target is None:
        return None
    return replace(
        target,
        first=target.first + at,
        counted=target.counted - at,
        hashes=target.hashes[at : at + TOGETHER],
        files=target.files[at : at + TOGETHER],
    )


def _do(work: Work) -> Any:
    references, target = work
    return [look(reference) for reference in references] if target is None else _fill(references, target)


def _start() -> "subprocess.Popen[bytes]":
    """A process that does a share. A Ctrl-C of the terminal's is not for it: in a group of its own, it prints nothing.

    It ends by itself when its pipes break, so that none outlives a parent that was killed.
    """
    package = str(Path(__file__).parents[3])
    path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-P", "-m", "bias_lab.data.readers.decoding"]
    quiet = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=quiet, process_group=0)


def _ask(process: "subprocess.Popen[bytes]", work: list[Work], advance: Callable[[int], None]) -> list[Any]:
    """Have a process do one share; if it dies, so does the whole; its OSError (a full disk) is raised here."""
    assert process.stdin is not None and process.stdout is not None  # noqa: PT018
    made: list[Any] = []
    with contextlib.suppress(BrokenPipeError), process.stdin as given:  # it died early: below, nothing is answered
        pickle.dump(work, given, protocol=pickle.HIGHEST_PROTOCOL)
    for references, _ in work:
        try:
            part = pickle.load(process.stdout)
        except (EOFError, pickle.UnpicklingError):  # nothing more, or half of something
            raise RuntimeError(f"a decoding process ended early, with exit code {process.wait()}") from None
        if isinstance(part, OSError):
            raise part
        made.append(part)
        advance(len(references))
    return made


def refuse(where: str, names: Sequence[str], problems: Sequence[str]) -> None:
    """Raises UserError if a file could not be decoded, naming the first few."""
    bad = [f"{name} ({problem})" for name, problem in zip(names, problems, strict=True) if problem]
    if bad:
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise UserError(
            f"{plural(len(bad), 'image')} of {where}: {', '.join(bad[:5])}{more}", remedy="start the sweep again"
        )


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
    """A share of the work from standard input, what came of each part to standard output; an OSError is the last.

    A parent that is gone needs no answer: broken pipes end it without a word.
    """
    try:
        share = pickle.load(sys.stdin.buffer)
    except (EOFError, pickle.UnpicklingError):
        return
    for work in share:
        try:
            made = _do(work)
        except OSError as error:
            made = error
        try:
            pickle.dump(made, sys.stdout.buffer, protocol=pickle.HIGHEST_PROTOCOL)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            os._exit(1)  # at once: on its way out, Python would try to write the rest, and complain
        if isinstance(made, OSError):
            return


if __name__ == "__main__":
    from bias_lab.data.readers.decoding import main as work

    work()

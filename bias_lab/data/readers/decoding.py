"""Turn many files into hashes or pixels, on all cores. No torch.

The work is done by processes, because Pillow holds Python's lock most of the time for small images.
"""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bias_lab import machine
from bias_lab.data.identity import content_hash, file_hash
from bias_lab.data.moments import sums
from bias_lab.data.readers import image_file
from bias_lab.data.readers.processes import in_processes, progress
from bias_lab.errors import UserError, irregular, plural

ALONE = 1500  # images that one process decodes before others could start
READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)  # a pipe is not waited for
TOGETHER = 128  # images that are decoded, written and reported at once


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
    remark: str = ""  # the part of its bit depth that it uses, if that is small


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Describe where decoded pixels go: the rows from `first` on of a file of uint8 (M, *side, channels)."""

    path: str
    side: tuple[int, int]
    channels: int
    resize: int | tuple[int, int] | None
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
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read_row_group(group, columns=[column])
    except (OSError, ValueError, pa.ArrowException) as error:
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
    except (OSError, ValueError) as error:  # a name with a null character is a ValueError
        kind = irregular(reference.path)  # a socket
        raise image_file.Unreadable(f"{kind}, not a file" if kind else _words(error)) from None


def _words(error: OSError | ValueError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _file_bytes(path: str) -> bytes:
    """Return a file's bytes. For a small file this takes a third of the time of `Path.read_bytes`."""
    file = os.open(path, READ)
    try:
        about = os.fstat(file)
        if not stat.S_ISREG(about.st_mode) and (kind := irregular(path)):
            raise image_file.Unreadable(f"{kind}, not a file")
        size = about.st_size
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
        image, remark = image_file.read_with_remark(data)
    except image_file.Unreadable as error:
        return Inspection(problem=str(error))
    mark = content_hash(image_file.pixels(image))
    return Inspection(mark, file_hash(data), image.mode == "L", image.width, image.height, remark=remark)


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
    if pixels.shape == row.shape and target.resize in (None, row.shape[0], row.shape[:2]):
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
            return in_processes(_do, parts, workers, advance)
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

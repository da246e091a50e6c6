"""Read a plain list of `filename label` lines, and find its images in a pool.

An exact match counts before a partial one, and the longest class name before a shorter one. What fits two images is
refused.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bias_lab.data.own import labels
from bias_lab.data.own.items import few
from bias_lab.data.own.text_tables import lines_of
from bias_lab.errors import UserError

DIGITS = re.compile(r"[0-9]{1,18}")
SEPARATORS = re.compile(r"\s*[\t,]\s*|\s+")


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """Hold what a list is compared with. labels: (M,) class numbers. names: relative paths, empty for arrays."""

    dataset: str
    classes: Sequence[str]
    labels: NDArray[np.int64]
    names: Sequence[str]


def read(path: Path) -> pd.DataFrame:
    """Return a list's lines as a table of `line` (its number) and `text`, without empty lines and # comments.

    Raises UserError if there are none, or for a line with one word.
    """
    rows = []
    for number, line in enumerate(lines_of(path), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if not list(_cuts(text)):
            raise UserError(f"{path} line {number}: '{text[:60]}' is not 'filename label'")
        rows.append({"line": number, "text": text})
    if not rows:
        raise UserError(f"{path} is empty")
    return pd.DataFrame(rows)


def order(path: Path, rows: pd.DataFrame, known: Known) -> list[int]:
    """Return the index of each line's image. A file name may lack its leading folders, or have another ending.

    Raises UserError for an image that is not in the pool, fits two of its images, or has another label.
    """
    places = _Places(known.names, len(known.labels))
    numbers = {name: number for number, name in enumerate(known.classes)}
    found = []
    for line, text in zip(rows["line"], rows["text"], strict=True):
        where = f"{path} line {line}"
        name, label, index = _match(str(text), where, places, numbers, known)
        if _class_of(label, numbers) != known.labels[index]:
            right = known.classes[known.labels[index]]
            raise UserError(f"{where}: '{name}' has label {label}, not '{right}' as in {known.dataset}")
        found.append(index)
    return found


def _match(text: str, where: str, places: "_Places", numbers: dict[str, int], known: Known) -> tuple[str, str, int]:
    """Return the file name, the label and the index of a line: the longest label that is a class, with its image."""
    cuts = list(_cuts(text))
    fitting = [(name, label) for name, label in cuts if _class_of(label, numbers) >= 0]
    absent = ""
    for name, label in fitting or cuts[-1:]:
        indices = places.find(name)
        if len(indices) == 1:
            return name, label, indices[0]
        if indices:
            several = few([known.names[index] for index in indices])
            raise UserError(f"{where}: '{name}' fits several images: {several}", remedy="give more of its path")
        absent = absent or name
    raise UserError(f"{where}: '{absent}' is not in the pool of {known.dataset}")


def _cuts(text: str) -> Iterator[tuple[str, str]]:
    """Yield (file name, label) for each way to read a line, the longest label first."""
    if '"' in text:
        for delimiter in ",\t ":
            try:
                fields = next(csv.reader([text], delimiter=delimiter, skipinitialspace=True), [])
            except csv.Error:
                fields = []
            if len(fields) == 2 and all(fields):
                yield fields[0].strip(), fields[1].strip()
    for cut in SEPARATORS.finditer(text):
        name, label = text[: cut.start()], text[cut.end() :]
        if name and label:
            yield name, label


def _class_of(label: str, numbers: dict[str, int]) -> int:
    """Return the number of the class that a label names, or -1.

    A label that is no class's name may be a class number, unless the names themselves are numbers.
    """
    key = labels.key(label)
    if str(key) in numbers and key is not None:
        return numbers[str(key)]
    if DIGITS.fullmatch(label) and not any(DIGITS.fullmatch(name) for name in numbers):
        return int(label) if int(label) < len(numbers) else -1
    return -1


class _Places:
    """Finds the images that a file name may mean: by its path, by the end of a path, then without the ending."""

    def __init__(self, names: Sequence[str], count: int) -> None:
        self.count = count
        self.whole = {name: index for index, name in enumerate(names)}
        self.tails: dict[str, list[int]] = defaultdict(list)
        self.stems: dict[str, list[int]] = defaultdict(list)
        for index, name in enumerate(names):
            parts = name.split("/")
            stem = Path(parts[-1]).stem
            for start in range(len(parts)):
                self.tails["/".join(parts[start:])].append(index)
                self.stems["/".join([*parts[start:-1], stem])].append(index)

    def find(self, name: str) -> Sequence[int]:
        """Return the indices of all images that a name fits best. A pool without file names has numbers as names."""
        if not self.whole:
            return [int(name)] if DIGITS.fullmatch(name) and int(name) < self.count else []
        parts = [part for part in name.split("/") if part not in ("", ".", "..")]
        if not parts:
            return []
        path = "/".join(parts)
        if path in self.whole:
            return [self.whole[path]]
        if path in self.tails:
            return self.tails[path]
        without = "/".join([*parts[:-1], Path(parts[-1]).stem])
        return self.stems.get(path) or self.stems.get(without) or []

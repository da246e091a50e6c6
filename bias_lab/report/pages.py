"""Hold a report before it is HTML, Markdown or plain text: sections of paragraphs, charts and tables."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bias_lab.report.figures.chart import Chart

FEW = 8  # classes whose names fit above the columns of a matrix
BOTH = 12  # classes up to which a cell of a matrix shows its share beside its count


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table: the text that is shown, and the value that it is sorted by (None: by the text)."""

    text: str
    value: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of the report. columns: (heading, its meaning or ""), one a cell of a row. note: below it."""

    title: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""

    def numeric(self, column: int) -> bool:
        """Return whether a column is flush right: it holds a number or nothing in every row."""
        cells = [row[column] for row in self.rows]
        return any(cell.value is not None for cell in cells) and all(
            c.value is not None or c.text in ("", "–") for c in cells
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """A confusion matrix. classes: K names. counts: K rows, one a true class, of K counts, one a predicted class."""

    title: str
    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    note: str = ""

    @property
    def heads(self) -> tuple[str, ...]:
        """Return the columns' headings: the names of a few classes, the numbers of many."""
        many = len(self.classes) > FEW
        return tuple(str(k) for k in range(1, len(self.classes) + 1)) if many else self.classes

    @property
    def shows_shares(self) -> bool:
        """Return whether each cell has room for its share beside its count."""
        return len(self.classes) <= BOTH

    def share(self, row: int, column: int) -> float:
        """Return the share of a true class that was predicted as a class, 0 for a class without images."""
        return self.counts[row][column] / max(1, sum(self.counts[row]))


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small image in HTML: a JPEG, what is said of it, and the path of the image."""

    data: bytes
    words: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the report under its own heading. It is left out if it holds no text, chart, table or picture.

    name: its anchor. pictures: (caption, PNG), in HTML alone, as thumbnails are. folded: whether it opens on a click.
    """

    name: str
    title: str
    text: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()
    pictures: tuple[tuple[str, bytes], ...] = ()
    matrices: tuple[Matrix, ...] = ()
    thumbnails: tuple[Thumbnail, ...] = ()
    folded: bool = False

    def __bool__(self) -> bool:
        drawn = self.charts or self.pictures or self.matrices or self.thumbnails
        return bool(self.text or drawn or any(table.rows for table in self.tables))


@dataclass(frozen=True, slots=True)
class Tile:
    """One number of the first screen: what it is, its value, and where it holds."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The first thing that a report says of one dataset.

    about: the dataset if there are several, else "". headline: one sentence, empty where none is allowed. support: the
    sentences after it. banner: sentences on why there is no headline and what is missing, or on what the profile shows.
    """

    about: str = ""
    headline: str = ""
    support: tuple[str, ...] = ()
    banner: tuple[str, ...] = ()
    tiles: tuple[Tile, ...] = ()

    def __bool__(self) -> bool:
        """Return whether there is anything to say, which there is not of runs that were made for another question."""
        return bool(self.sentences() or self.tiles)

    def sentences(self) -> list[str]:
        """Return all sentences in the order in which they are read: the headline, or else the banner, comes first."""
        return [*self.banner, *filter(None, [self.headline]), *self.support]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All that a report says, in order.

    heads: the headline, or why there is none, of each dataset. answers: (dataset or "", the sentences, how they were
    reached). status: what is missing or failed. facts: a line of figures under the answers. metric: what is compared.
    """

    title: str
    question: str
    note: str
    answers: tuple[tuple[str, str, str], ...]
    status: str
    complete: bool
    caveats: tuple[str, ...]
    sections: tuple[Section, ...]
    facts: tuple[str, ...] = field(default=())
    metric: str = "accuracy"
    heads: tuple[Head, ...] = ()


def word(text: Any) -> Cell:
    """Return a cell of text, a dash where there is none."""
    return Cell("–" if text is None or (isinstance(text, float) and math.isnan(text)) else str(text))


def number(value: Any, shape: str = "{:.1f}", *, scale: float = 1.0) -> Cell:
    """Return a number in its shape, sorted by its value, or a dash where there is none."""
    if value is None or str(value) == "<NA>" or value != value:
        return Cell("–")
    scaled = float(value) * scale
    return Cell(shape.format(int(scaled) if shape.endswith(",}") else scaled).replace("-", "−"), float(value))


def whole(value: Any) -> Cell:
    """Return a whole number with commas between thousands."""
    return number(value, "{:,}")


def points(value: Any) -> Cell:
    """Return a fraction in percent or points with one decimal."""
    return number(value, "{:.1f}", scale=100)


def markdown(table: Table) -> str:
    """Return the table as GitHub's Markdown."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    heads = [name for name, _ in table.columns]
    rule = ["---:" if table.numeric(k) else "---" for k in range(len(heads))]
    body = [line([cell.text for cell in row]) for row in table.rows]
    note = f"\n\n{table.note}" if table.note else ""
    return f"**{table.title}**\n\n" + "\n".join([line(heads), line(rule), *body]) + note


def plain_matrix(matrix: Matrix) -> Table:
    """Return a confusion matrix as a table of counts, its columns by number where there are many."""
    names = [f"{k} {name}" for k, name in enumerate(matrix.classes, 1)]
    rows = [(Cell(name), *map(whole, counts)) for name, counts in zip(names, matrix.counts, strict=True)]
    return Table(
        title=matrix.title, columns=(("true class", ""), *((head, "") for head in matrix.heads)), rows=tuple(rows)
    )


def plain(table: Table) -> str:
    """Return the table in columns of spaces, for a terminal."""
    heads = [name for name, _ in table.columns]
    lines = [heads, *([cell.text for cell in row] for row in table.rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(heads))]
    right = [table.numeric(k) for k in range(len(heads))]

    def fit(line: Sequence[str]) -> str:
        cells = [text.rjust(w) if r else text.ljust(w) for text, w, r in zip(line, widths, right, strict=True)]
        return "  ".join(cells).rstrip()

    return "\n".join([fit(heads), "  ".join("─" * w for w in widths), *(fit(line) for line in lines[1:])])

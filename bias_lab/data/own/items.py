"""Describe what a user's folder or table holds, before anything is decoded."""

from dataclasses import dataclass, field

from bias_lab.data.readers.decoding import Reference


@dataclass(frozen=True, slots=True)
class Item:
    """Describe one image of the user: its place, its class, and its split (empty: none was given)."""

    reference: Reference
    split: str
    label: str
    name: str  # the path relative to the dataset, or table and row, for messages


@dataclass(slots=True)
class Listing:
    """Describe a dataset before decoding. bad: name → reason, for files that are refused without decoding."""

    kind: str  # folder or table
    items: list[Item] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)  # in order, those without a readable image too
    bad: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    hint: str = ""  # what a user may have meant whose dataset has one class


def few(names: list[str], most: int = 3) -> str:
    """Return the first names of a list, with an ellipsis if there are more.

    >>> few(["a", "b", "c", "d"]), few(["a"])
    ('a, b, c, …', 'a')
    """
    return ", ".join([*names[:most], *(["…"] if len(names) > most else [])])

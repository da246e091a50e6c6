"""Give a label one identity, whatever file, type or spelling it comes in.

| written | class |
|---|---|
| 1 (whole number), 1.0 (floating point or decimal), "1" or "1.0" (text) | 1 |
| " cat", "cat " | cat |
| one name in two Unicode forms (NFC, NFD) | its composed form (NFC) |
| missing, NaN, an empty text, the text "nan" | none, the file is refused |
| a list, a date, bytes that are not UTF-8 | none, the file is refused |
"""

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from bias_lab.errors import UserError

MISSING = frozenset({"", "nan", "<na>", "nat"})  # what the text of a missing value looks like
DOUBTFUL = frozenset({"none", "null", "na", "n/a"})  # may be a class, or the text of a missing value
INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff"  # characters of no width, which `str.strip` leaves
WHOLE = re.compile(r"[+-]?[0-9]{1,300}")
WHOLE_AS_FLOAT = re.compile(r"([+-]?[0-9]{1,300})\.0*")
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
SHOWN = 5  # pairs of near-equal names that are shown

Key = int | str  # a label as a table orders it: numbers by size, then names alphabetically


def clean(text: str) -> str:
    """Return a class name in its one spelling: composed (NFC), without the spaces around it.

    >>> clean(" cafe\\u0301 ") == "caf\\u00e9"
    True
    """
    return unicodedata.normalize("NFC", text).strip().strip(INVISIBLE).strip()


def key(value: Any) -> Key | None:
    """Return a label's identity, a whole number or a text, or None for a missing one.

    Raises TypeError for a value that is no label. The message says what it is.

    >>> key(1), key(1.0), key("1.0"), key(" cat"), key(float("nan")), key(True)
    (1, 1, '1', 'cat', None, 'True')
    """
    if value is None:
        return None
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            raise TypeError(f"the bytes {value[:20]!r}, which are not UTF-8") from None
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return value
    if isinstance(value, float | Decimal):
        if math.isnan(value):
            return None
        if math.isinf(value):
            raise TypeError(f"the value {value}")
        return int(value) if value == int(value) else str(value)
    if not isinstance(value, str):
        raise TypeError(f"a value of the type {type(value).__name__}")
    text = clean(value)
    if text.casefold() in MISSING:
        return None
    whole = WHOLE_AS_FLOAT.fullmatch(text)
    return str(int(whole[1])) if whole else text


def all_whole(values: Iterable[Any]) -> bool:
    """Return whether every value is the text of a whole number in plain digits, as `1` or `1.0`.

    >>> all_whole(["1", " 2.0"]), all_whole(["1", "\\u00b2"]), all_whole(["--1"])
    (True, False, False)
    """
    texts = [clean(value) for value in values if isinstance(value, str)]
    return bool(texts) and all(WHOLE.fullmatch(text) or WHOLE_AS_FLOAT.fullmatch(text) for text in texts)


def in_order(keys: Iterable[Key]) -> list[str]:
    """Return the class names of some identities: numbers by size, then names alphabetically.

    A number and the text of the same number are one class, which stands among the numbers.

    >>> in_order(["b", 10, 9, "9", "a"])
    ['9', '10', 'a', 'b']
    """
    distinct = set(keys)
    numbers = sorted(each for each in distinct if isinstance(each, int))
    texts = sorted(each for each in distinct if isinstance(each, str))
    return list(dict.fromkeys([*map(str, numbers), *texts]))


def check_names(file: str, names: Sequence[str]) -> list[str]:
    """Return a file's list of class names in their one spelling. Raises UserError for an empty or a repeated name."""
    cleaned = [clean(name) for name in names]
    first: dict[str, int] = {}
    for number, name in enumerate(cleaned):
        if name.casefold() in MISSING:
            raise UserError(f"{file}: class {number} of its class list has no name", remedy="give the class a name")
        if name in first:
            raise UserError(
                f"{file}: the classes {first[name]} and {number} of its class list are both called '{name}'",
                remedy="rename one of them in the list, since a class is known by its name",
            )
        first[name] = number
    return cleaned


def likeness(name: str) -> str:
    """Return a text that near-equal names share: they differ in case, accents, punctuation, zeros or a plural s.

    >>> {likeness(name) for name in ("Golden-Retriever", "golden retrievers", "golden_retriever.")}
    {'goldenretriever'}
    >>> likeness("-1"), likeness("007"), likeness("1.5"), likeness("15")
    ('-1', '7', '1.5', '15')
    """
    text = unicodedata.normalize("NFKD", name).casefold()
    text = "".join(letter for letter in text if not unicodedata.combining(letter)).strip()
    text = re.sub(r"(?<![0-9.])0+(?=[0-9])", "", text)
    if NUMBER.fullmatch(text):
        return text
    text = re.sub(r"(?<=\d)[\W_]+(?=\d)", "\0", text)
    text = re.sub(r"[\W_]+", "", text.replace("\0", "0x2e")).replace("0x2e", ".")
    return text[:-1] if len(text) > 3 and text.endswith("s") and not text.endswith("ss") else text


def near_equal(classes: Sequence[str]) -> list[str]:
    """Return a line for the class names that are nearly equal, and one for names that look like a missing value."""
    alike: dict[str, list[str]] = {}
    for name in classes:
        alike.setdefault(likeness(name), []).append(name)
    groups = [names for text, names in alike.items() if text and len(names) > 1]
    lines = []
    if groups:
        shown = "; ".join(" and ".join(f"'{name}'" for name in names) for names in groups[:SHOWN])
        more = f", and {len(groups) - SHOWN} more such groups" if len(groups) > SHOWN else ""
        lines.append(
            f"nearly equal class names, which are kept apart: {shown}{more}; rename them if they are one class"
        )
    if doubtful := [name for name in classes if name.casefold() in DOUBTFUL]:
        lines.append(f"the class '{doubtful[0]}' may be the text of a missing label; rename it, or remove its images")
    return lines


def spellings(written: Iterable[tuple[str, str]]) -> list[str]:
    """Return a line for each class that was written in several ways.

    written: (class, the name as it was written) pairs.
    """
    ways: dict[str, set[str]] = {}
    for name, text in written:
        whole = WHOLE_AS_FLOAT.fullmatch(text)
        ways.setdefault(name, set()).add(whole[1] if whole else text)
    return [
        f"the class '{name}' is written in {len(texts)} ways, which are read as one name: "
        + ", ".join(ascii(text) for text in sorted(texts))
        for name, texts in ways.items()
        if len(texts) > 1
    ]


def nearest(name: str, others: Iterable[str]) -> str:
    """Return a hint on a class that is missing elsewhere: the name there that is nearly equal, or an empty text."""
    near = [other for other in others if likeness(other) == likeness(name)]
    return f"it has '{near[0]}', which is nearly the same name" if near else ""

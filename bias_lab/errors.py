"""Report a user's mistake in one line (exit code 2). Exceptions of other classes keep their traceback."""

import difflib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

NOTE = "note: "  # begins a line of the preflight that informs and does not warn


class UserError(Exception):
    """A user's mistake: what was given and why it is wrong, what is allowed, and what to type or change instead."""

    def __init__(self, what: str, allowed: str = "", remedy: str = "") -> None:
        self.what, self.allowed, self.remedy = what, allowed, remedy
        super().__init__(what, allowed, remedy)  # all three, so that the error can be pickled between processes

    def __str__(self) -> str:
        parts = [part for part in (self.what, self.allowed, self.remedy) if part]
        return printable(" ".join("; ".join(parts).split()))  # one line, even if a file name has a line break


class Diverged(Exception):
    """The loss of a run became NaN or infinite. The run ends as failed and is never tried again."""


def plural(number: int, what: str) -> str:
    """Return a count with its noun, for nouns whose plural ends in s.

    >>> plural(1, "image"), plural(1200, "image")
    ('1 image', '1,200 images')
    """
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def unknown(kind: str, given: str, names: Iterable[str], remedy: str = "", *, list_all: bool = False) -> UserError:
    """Return the error for an unknown name, with the nearest of `names`, or with all of them if none is near.

    list_all: give the names in both cases.
    """
    choices = sorted(names)
    near = difflib.get_close_matches(given, choices, n=1, cutoff=0.6)
    choose = f"choose from: {', '.join(choices[:12])}{', …' if len(choices) > 12 else ''}"
    allowed = [f"did you mean '{near[0]}'?"] if near else []
    allowed += [choose] if list_all or not near else []
    return UserError(f"unknown {kind} '{given}'", " ".join(allowed), remedy)


def printable(text: str) -> str:
    """Return a text whose control characters, and bytes of a file name that are not UTF-8, are escaped.

    >>> printable("\\udce7at/0.png"), printable("a\\x1b[2J"), printable("café")
    ('\\\\xe7at/0.png', 'a\\\\x1b[2J', 'café')
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":  # stands for a byte in a file name
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode()


IRREGULAR = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def irregular(path: str | Path) -> str:
    """Return what a path is if it is neither a file nor a folder (`a named pipe`), or an empty string."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - a Path is slower, and images are checked too
    except (OSError, ValueError):  # absent, or a name that no file can have
        return ""
    return next((words for is_one, words in IRREGULAR if is_one(mode)), "")


def check_regular(path: str | Path) -> None:
    """Raise UserError for a pipe, a socket or a device, which might be waited for without end."""
    if kind := irregular(path):
        raise UserError(f"{path} is {kind}", "only regular files are read", "copy what it holds into a file")

"""Report a user's mistake in one line (exit code 2). Exceptions of other classes keep their traceback."""

import difflib
from collections.abc import Iterable

NOTE = "note: "  # begins a line of the preflight that informs and does not warn


class UserError(Exception):
    """A user's mistake: what was given and why it is wrong, what is allowed, and what to type or change instead."""

    def __init__(self, what: str, allowed: str = "", remedy: str = "") -> None:
        self.what, self.allowed, self.remedy = what, allowed, remedy
        super().__init__(what, allowed, remedy)  # all three, so that the error can be pickled between processes

    def __str__(self) -> str:
        parts = [part for part in (self.what, self.allowed, self.remedy) if part]
        return " ".join("; ".join(parts).split())  # one line, even if a file name has a line break


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

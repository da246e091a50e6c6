"""A user's mistake is one line and exit code 2; our own faults keep their traceback. `UserError` is the difference."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can mend: what was given, what is allowed, and the way out, in one line.

    what: the value that was given and why it does not do. allowed: what would. remedy: what to type or change.
    """

    def __init__(self, what: str, allowed: str = "", remedy: str = "") -> None:
        self.what, self.allowed, self.remedy = what, allowed, remedy
        super().__init__(what, allowed, remedy)  # three arguments, so that it survives a pickle between processes

    def __str__(self) -> str:
        parts = [part for part in (self.what, self.allowed, self.remedy) if part]
        return " ".join("; ".join(parts).split())  # one line, whatever a file name carried


class Diverged(Exception):
    """The loss stopped being a number. It ends a run as failed, and the run is never tried again."""


def plural(number: int, what: str) -> str:
    """`1 image`, `2 images`: for nouns whose plural is an s."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def unknown(kind: str, given: str, names: Iterable[str], remedy: str = "") -> UserError:
    """The error for a name that nobody knows: with the nearest match if there is one, else with the choices."""
    choices = sorted(names)
    near = difflib.get_close_matches(given, choices, n=1, cutoff=0.6)
    if near:
        return UserError(f"unknown {kind} '{given}'", f"did you mean '{near[0]}'?", remedy)
    shown = ", ".join(choices[:12]) + (", …" if len(choices) > 12 else "")
    return UserError(f"unknown {kind} '{given}'", f"choose from: {shown}", remedy)

"""Read the values of flags: numbers, lists of numbers, devices, names. Planning checks what they mean."""

import argparse
import re
from collections.abc import Sequence

from bias_lab.definition import levels
from bias_lab.errors import UserError, unknown

WHOLE = r"[+-]?[0-9][0-9_]{0,14}"  # the table holds 15 digits without loss


def whole(text: str) -> int:
    """Return a whole number that is written with the digits 0 to 9."""
    if not re.fullmatch(WHOLE, text, re.ASCII):
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at most 15 digits 0 to 9")
    return int(text)


def numbers(text: str) -> tuple[int, ...]:
    """Return the whole numbers of `100,300,1000`, each once."""
    try:
        values = tuple(dict.fromkeys(whole(part.strip()) for part in text.split(",")))
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a list of whole numbers with commas, such as 100,300"
        ) from error
    if min(values) < 0:
        raise argparse.ArgumentTypeError(f"{min(values)} is negative")
    return values


def sizes(text: str) -> tuple[int, ...]:
    """Return numbers of labelled images, each once."""
    values = numbers(text)
    if min(values) < 1:
        raise argparse.ArgumentTypeError("0 labelled images are too few: a size is 1 or more")
    return values


def device(text: str) -> str:
    """Return `auto`, `cpu`, `cuda` or `cuda:1`. A worker checks later whether the device exists."""
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,4})?", text):
        raise argparse.ArgumentTypeError(f"'{text}' is none of auto, cpu, cuda and cuda:NUMBER")
    return text


def positive(text: str) -> int:
    """Return a whole number above 0."""
    value = whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is below 1")
    return value


def channels(text: str) -> str:
    """Return a value for each channel, such as 0.485,0.456,0.406, as a run holds them."""
    try:
        return ",".join(f"{value:g}" for value in levels(text))
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def one_of(kind: str, given: str, names: Sequence[str]) -> str:
    """Return a name that is one of several. Raise UserError with the nearest one otherwise."""
    if given not in names:
        raise unknown(kind, given, names)
    return given

"""Read `FIELD=VALUE` of a command line as a field of `Run` and a value of its type."""

import math
from dataclasses import fields
from typing import Any

from bias_lab.definition import FIELDS, Run
from bias_lab.errors import UserError, unknown

LARGEST = 2**53  # the table and its readers hold whole numbers up to here without loss
TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def parse_field(text: str) -> tuple[str, Any]:
    """Return the field's name and its value. Raises UserError for an unknown field or a value of another type.

    >>> parse_field("mixup=0.2"), parse_field("patch=none"), parse_field("flip=no")
    (('mixup', 0.2), ('patch', None), ('flip', False))
    """
    name, separator, value = text.partition("=")
    if not separator:
        raise UserError(f"'{text}' is not FIELD=VALUE", remedy="for example --set mixup=0.2")
    if name not in FIELDS:
        raise unknown("field", name, FIELDS)
    kind = next(str(field.type) for field in fields(Run) if field.name == name)
    try:
        if "None" in kind and value.lower() in ("", "none"):
            return name, None
        if "bool" in kind:
            return name, TRUTH[value.lower()]
        if ("int" in kind or "float" in kind) and not value.isascii():
            raise ValueError(value)  # Python reads digits of other scripts too
        if "int" in kind:
            number = int(value)
            if abs(number) > LARGEST:
                raise UserError(f"{name}={value} is too large", f"{LARGEST} is the largest whole number")
            return name, number
        if "float" in kind:
            real = float(value)
            if not math.isfinite(real):
                raise ValueError(value)
            return name, real
    except (KeyError, ValueError) as error:
        wanted = "true or false" if "bool" in kind else "a whole number" if "int" in kind else "a number"
        raise UserError(f"{name}={value!r} is not {wanted}") from error
    return name, value

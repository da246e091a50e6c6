"""Read `FIELD=VALUE` of a command line as a field of `Run` and a value of its type, and set fields of a run."""

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from bias_lab.definition import FIELDS, RECIPES, TUNED, Run
from bias_lab.errors import UserError, unknown

LARGEST = 2**53  # the table and its readers hold whole numbers up to here without loss
COLUMNED = ("intervention", "priors", "budget", "protocol", "blocks", "optimizer")  # they do not name the recipe
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


def with_values(run: Run, values: Mapping[str, Any]) -> Run:
    """Return one run with fields set, which name the recipe anew. An open recipe stays open if it can.

    Raises UserError for a change of the recipe where the hold-out chooses it: each recipe was tuned as it is.
    """
    silent = (*COLUMNED, "learning_rate", "samples_seen") if run.recipe == TUNED else COLUMNED
    opened = [name for name in ("learning_rate", "samples_seen") if values.get(name, 0) is None]  # planning fills it in
    named = sorted(n for n in values if n not in (*silent, *opened) and getattr(run, n) != values[n])
    if named and run.recipe == TUNED:
        what = f"--set {named[0]}=… changes a recipe, and the hold-out chooses among several here"
        raise UserError(what, remedy=f"name the one to change: --recipe {' or --recipe '.join(RECIPES)}")
    suffix = "".join(f"+{name}={values[name]}" for name in named)
    return replace(run, **{**values, "recipe": run.recipe + suffix})

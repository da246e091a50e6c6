"""Every intervention by name, and the value that it takes."""

from bias_lab.errors import UserError, unknown

INTERVENTIONS = {  # name → the value that it takes after a colon if none is given; done by data/interventions.py
    "permute_pixels": 0.0,  # which permutation: one for all images, so that no neighbourhood is left
    "permute_patches": 4.0,  # side of the patches in pixels; one permutation for all images
    "shuffle_patches": 4.0,  # side of the patches in pixels; every image its own
    "low_pass": 0.25,  # highest frequency kept, as a share of the Nyquist frequency
    "high_pass": 0.25,  # lowest frequency kept
    "occlude": 0.25,  # share of the area hidden behind one square
    "shift": 4.0,  # pixels that an image moves by at most, in each direction
}


def intervention(text: str) -> tuple[str, float]:
    """`name` or `name:value` of a run's intervention. Raises UserError for an unknown name or a value that can't be."""
    name, _, given = text.partition(":")
    if name not in INTERVENTIONS:
        raise unknown("intervention", name, INTERVENTIONS)
    try:
        value = float(given) if given else INTERVENTIONS[name]
    except ValueError as error:
        raise UserError(f"intervention '{text}': '{given}' is no number", remedy=f"for example {name}:4") from error
    share = name in ("low_pass", "high_pass", "occlude")
    low = {"permute_patches": 1.0, "shuffle_patches": 1.0}.get(name, 0.0)
    if not low <= value <= (1.0 if share else float(2**31)) or (not share and value != int(value)):
        allowed = "a share from 0 to 1" if share else f"a whole number from {low:g}"
        raise UserError(f"intervention '{text}': {given} is out of range", allowed)
    return name, value


def check_intervention(text: str, side: int) -> None:
    """Raises UserError for an intervention that can't be done on images of `side` pixels; an empty one can."""
    if not text:
        return
    name, value = intervention(text)
    if name in ("permute_patches", "shuffle_patches") and side % value:
        fitting = [str(patch) for patch in range(2, side) if side % patch == 0]
        raise UserError(
            f"{text}: patches of {value:g} px do not divide a {side}x{side} image",
            f"sides that do: {', '.join(fitting) or 'none'}",
        )

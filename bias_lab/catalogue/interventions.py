"""List every intervention: its value, its bounds, its name for people and the function that applies it."""

from dataclasses import dataclass

from bias_lab.errors import UserError, unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervention:
    """Describe one intervention. A run names it as `name` or `name:value`."""

    name: str
    module: str  # the function that applies it, as "module:function"
    value: float  # the value if a run gives none
    words: str  # the intervention in words, with `{value:g}` in place of the value
    lowest: float = 0.0  # the smallest value
    is_share: bool = False  # the value is a share from 0 to 1 instead of a whole number
    is_patch: bool = False  # the value is the side of a patch in pixels, which must divide the image's side
    arrangement: str = ""  # where all images are rearranged alike: the function that says how, as "module:function"
    breaks_neighbours: bool = False  # no pixel keeps the pixels around it


_MODULE, _DRAWS = "bias_lab.data.interventions", "bias_lab.data.draws"

# fmt: off
INTERVENTIONS = {
    row.name: row
    for row in (
        # one permutation for all images, which the value chooses
        Intervention(
            name="permute_pixels", module=f"{_MODULE}:permute_pixels", value=0.0, words="pixels permuted",
            arrangement=f"{_DRAWS}:permuted_pixels", breaks_neighbours=True,
        ),
        # one permutation for all images
        Intervention(
            name="permute_patches", module=f"{_MODULE}:permute_patches", value=4.0, lowest=1.0, is_patch=True,
            words="patches of {value:g} × {value:g} pixels permuted", arrangement=f"{_DRAWS}:permuted_patches",
        ),
        # a new permutation for every image and step
        Intervention(
            name="shuffle_patches", module=f"{_MODULE}:shuffle_patches", value=4.0, lowest=1.0, is_patch=True,
            words="patches of {value:g} × {value:g} pixels shuffled",
        ),
        # the highest frequency that is kept, as a share of the Nyquist frequency
        Intervention(
            name="low_pass", module=f"{_MODULE}:low_pass", value=0.25, is_share=True,
            words="frequencies up to {value:g} of Nyquist",
        ),
        # the frequencies above the value are kept
        Intervention(
            name="high_pass", module=f"{_MODULE}:high_pass", value=0.25, is_share=True,
            words="frequencies above {value:g} of Nyquist",
        ),
        # the share of the area that one square hides
        Intervention(
            name="occlude", module=f"{_MODULE}:occlude", value=0.25, is_share=True,
            words="a square of {value:g} of the area hidden",
        ),
        # the largest distance in pixels, in each direction
        Intervention(
            name="shift", module=f"{_MODULE}:shift", value=4.0, words="shifted by up to {value:g} pixels"
        ),
    )
}
# fmt: on


def intervention(text: str) -> tuple[str, float]:
    """Return the name and the value of an intervention that is written as `name` or `name:value`.

    Raises UserError for an unknown name, or for a value that is not a number or out of range.
    """
    name, _, given = text.partition(":")
    if name not in INTERVENTIONS:
        raise unknown("intervention", name, INTERVENTIONS)
    row = INTERVENTIONS[name]
    try:
        value = float(given) if given else row.value
    except ValueError as error:
        raise UserError(f"intervention '{text}': '{given}' is not a number", remedy=f"for example {name}:4") from error
    largest = 1.0 if row.is_share else float(2**31)
    if not row.lowest <= value <= largest or not (row.is_share or value.is_integer()):
        allowed = "give a share from 0 to 1" if row.is_share else f"give a whole number of at least {row.lowest:g}"
        raise UserError(f"intervention '{text}': {given} is out of range", allowed)
    return name, value


def intervention_words(text: str) -> str:
    """Return an intervention in words. A name that is not in the table is returned with blanks for underscores.

    >>> intervention_words(""), intervention_words("permute_patches")
    ('as they are', 'patches of 4 × 4 pixels permuted')
    >>> intervention_words("permute_pixels:3")
    'pixels permuted (3)'
    """
    if not text:
        return "as they are"
    if text.partition(":")[0] not in INTERVENTIONS:
        return text.replace("_", " ")
    name, value = intervention(text)
    row = INTERVENTIONS[name]
    words = row.words.format(value=value)
    return words if value == row.value or "{value" in row.words else f"{words} ({value:g})"


def check_intervention(text: str, side: int) -> None:
    """Raise UserError if an intervention cannot be applied to images of `side` pixels. An empty one always can."""
    if not text:
        return
    name, value = intervention(text)
    if INTERVENTIONS[name].is_patch and side % value:
        fitting = [str(patch) for patch in range(2, side) if side % patch == 0]
        raise UserError(
            f"{text}: patches of {value:g} px do not divide a {side}x{side} image",
            f"sides that do: {', '.join(fitting) or 'none'}",
        )

"""List every intervention: its value, its bounds, its name for people and the function that applies it."""

from dataclasses import dataclass

from bias_lab.errors import UserError, unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervention:
    """Describe one intervention. A run names it as `name` or `name:value`."""

    name: str
    module: str  # the function that applies it, as "module:function"
    value: float  # the value if a run gives none
    words: str  # the intervention in words; `{value:g}` stands for the value
    lowest: float = 0.0  # the smallest value
    is_share: bool = False  # the value is a share from 0 to 1; otherwise it is a whole number
    is_patch: bool = False  # the value is the side of a patch in pixels, which must divide the image's side


INTERVENTIONS = {
    row.name: row
    for row in (
        Intervention(
            name="permute_pixels",  # the value chooses the permutation, which is the same for all images
            module="bias_lab.data.interventions:permute_pixels",
            value=0.0,
            words="pixels permuted",
        ),
        Intervention(
            name="permute_patches",  # one permutation for all images
            module="bias_lab.data.interventions:permute_patches",
            value=4.0,
            words="patches of {value:g} pixels permuted",
            lowest=1.0,
            is_patch=True,
        ),
        Intervention(
            name="shuffle_patches",  # a new permutation for every image and step
            module="bias_lab.data.interventions:shuffle_patches",
            value=4.0,
            words="patches of {value:g} pixels shuffled",
            lowest=1.0,
            is_patch=True,
        ),
        Intervention(
            name="low_pass",  # the highest frequency that is kept, as a share of the Nyquist frequency
            module="bias_lab.data.interventions:low_pass",
            value=0.25,
            words="frequencies up to {value:g} of Nyquist",
            is_share=True,
        ),
        Intervention(
            name="high_pass",  # the frequencies above the value are kept
            module="bias_lab.data.interventions:high_pass",
            value=0.25,
            words="frequencies above {value:g} of Nyquist",
            is_share=True,
        ),
        Intervention(
            name="occlude",  # the share of the area that one square hides
            module="bias_lab.data.interventions:occlude",
            value=0.25,
            words="a square of {value:.3g} of the area hidden",
            is_share=True,
        ),
        Intervention(
            name="shift",  # the largest distance in pixels, in each direction
            module="bias_lab.data.interventions:shift",
            value=4.0,
            words="shifted by up to {value:g} pixels",
        ),
    )
}


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
        raise UserError(f"intervention '{text}': '{given}' is no number", remedy=f"for example {name}:4") from error
    largest = 1.0 if row.is_share else float(2**31)
    if not row.lowest <= value <= largest or not (row.is_share or value.is_integer()):
        allowed = "a share from 0 to 1" if row.is_share else f"a whole number from {row.lowest:g}"
        raise UserError(f"intervention '{text}': {given} is out of range", allowed)
    return name, value


def intervention_words(text: str) -> str:
    """Return an intervention in words. A name that is not in the table is returned with blanks for underscores.

    >>> intervention_words(""), intervention_words("permute_patches")
    ('as they are', 'patches of 4 pixels permuted')
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

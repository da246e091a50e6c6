"""Every prior by name, as plain data: an assumption about images that a backbone does not make by itself.

A run names its priors in one text, sorted and joined by `+`. A prior that takes a number is written as `name:number`.
A new prior is a row here and a class in `bias_lab/backbones/priors/`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from bias_lab.catalogue.backbones import BACKBONES, architecture, is_own
from bias_lab.errors import UserError, unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """One prior. module: `module:class` that builds it, a `bias_lab.backbones.priors.interface.Prior`.

    words: what people call it. architectures: those that can take it. why: the reason why others can't.
    number: what the number behind its name counts, or empty if it takes none. lowest: the smallest such number.
    """

    name: str
    module: str
    words: str
    architectures: tuple[str, ...]
    why: str
    number: str = ""
    lowest: int = 1


_ROOM = "bias_lab.backbones.priors"

PRIORS = {
    row.name: row
    for row in (
        Prior(
            name="sincos_positions",
            module=f"{_ROOM}.positions:SincosPositions",
            words="fixed sine-cosine positions",
            architectures=("vit",),
            why="only a plain ViT adds an embedding of the position to each patch",
        ),
        Prior(
            name="mean_pooling",
            module=f"{_ROOM}.pooling:MeanPooling",
            words="mean pooling",
            architectures=("vit",),
            why="only a plain ViT reads its class from a class token",
        ),
        Prior(
            name="no_batch_norm",
            module=f"{_ROOM}.norms:NoBatchNorm",
            words="group norm instead of batch norm",
            architectures=("resnet",),
            why="it replaces the batch norms of a ResNet",
        ),
    )
}


def parse_priors(text: str) -> tuple[tuple[str, int | None], ...]:
    """Return the priors that a run's text names, each with its number or None.

    One combination has one spelling, so that it has one run_id. Raises UserError for an unknown name, a prior that is
    named twice, an order that is not sorted, and a number that is missing, surplus, too low or not written plainly.

    >>> parse_priors("mean_pooling+sincos_positions")
    (('mean_pooling', None), ('sincos_positions', None))
    """
    if not text:
        return ()
    parts = text.split("+")
    parsed = tuple(_parsed(part) for part in parts)
    names = [name for name, _ in parsed]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"the prior '{name}' is named twice in '{text}'", remedy="name each prior once")
    if parts != sorted(parts):
        raise UserError(f"the priors '{text}' are not sorted", remedy=f"write {join_priors(parts)}")
    return parsed


def join_priors(names: Iterable[str]) -> str:
    """Return priors in any order as the text of a run: sorted and joined by `+`.

    >>> join_priors(["sincos_positions", "mean_pooling"])
    'mean_pooling+sincos_positions'
    """
    return "+".join(sorted(names))


def check_priors(backbone: str, text: str) -> None:
    """Raise UserError if a backbone can't take the priors, with the reason and the backbones that can."""
    for name, _ in parse_priors(text):
        row, kind = PRIORS[name], architecture(backbone)
        able = [other for other, its in BACKBONES.items() if its.architecture in row.architectures]
        if backbone in able:
            continue
        if is_own(backbone) or (backbone not in BACKBONES and kind in row.architectures):
            why = "the lab changes its own backbones alone, and this one is built elsewhere"
        else:
            why = row.why
        raise UserError(f"{backbone} can't take the prior '{name}': {why}", f"backbones that can: {_listed(able)}")


def prior_words(text: str) -> str:
    """Return priors in words. A name that is not in the table is returned with blanks for underscores.

    >>> prior_words("mean_pooling+sincos_positions"), prior_words("")
    ('mean pooling and fixed sine-cosine positions', 'no prior')
    """
    words = []
    for part in filter(None, text.split("+")):
        name, _, number = part.partition(":")
        row = PRIORS.get(name)
        said = row.words if row else name.replace("_", " ")
        words.append(f"{said} ({f'{row.number} ' if row else ''}{number})" if number else said)
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:]))) or "no prior"


def _parsed(part: str) -> tuple[str, int | None]:
    """Return the name and the number of one prior. Raises UserError as `parse_priors` does."""
    name, colon, given = part.partition(":")
    if name not in PRIORS:
        raise unknown("prior", name, PRIORS)
    row = PRIORS[name]
    if not row.number:
        if colon:
            raise UserError(f"prior '{part}': {name} takes no number", remedy=f"write {name}")
        return name, None
    example = f"for example {name}:{max(row.lowest, 3)}"
    if not given.isascii() or not given.isdecimal() or str(int(given)) != given:
        raise UserError(f"prior '{part}': {name} needs a whole number, the {row.number}", remedy=example)
    if int(given) < row.lowest:
        raise UserError(f"prior '{part}': {given} is below {row.lowest}", remedy=example)
    return name, int(given)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "")

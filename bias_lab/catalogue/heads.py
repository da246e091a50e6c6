"""Every segmentation head by name, as plain data, and the check of which backbone can have which head.

A head turns the maps of a backbone into a class for each pixel. A new head is a row here and a class in
`bias_lab/backbones/heads/`.
"""

from dataclasses import dataclass

from bias_lab.catalogue.backbones import BACKBONES, architecture, is_own, traits
from bias_lab.errors import UserError, unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """One head. module: `module:class` that builds it, a `bias_lab.backbones.heads.interface.Head`.

    words: what people call it. architectures: those that can have it, empty for all. excluded: those that can't.
    why: the reason why others can't.
    """

    name: str
    module: str
    words: str
    architectures: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    why: str = ""


_ROOM = "bias_lab.backbones.heads"

HEADS = {
    row.name: row
    for row in (
        Head(name="linear", module=f"{_ROOM}.linear:Linear", words="linear head"),
        Head(
            name="unet",
            module=f"{_ROOM}.unet:UNet",
            words="U-Net decoder",
            excluded=("vit",),
            why="a plain ViT keeps one resolution, and U-Net joins maps of several",
        ),
        Head(
            name="pyramid",
            module=f"{_ROOM}.pyramid:Pyramid",
            words="simple feature pyramid",
            architectures=("vit",),
            why="it makes several resolutions from one, which only a plain ViT lacks",
        ),
        Head(
            name="segvit",
            module=f"{_ROOM}.segvit:SegViT",
            words="attention-to-mask head",
            architectures=("vit",),
            why="it reads the tokens of several blocks, which have one resolution in a plain ViT alone",
        ),
        Head(name="matched", module=f"{_ROOM}.matched:Matched", words="matched decoder"),
    )
}


def head_of(backbone: str, head: str) -> str:
    """Return the name of a head, or of the backbone's own head if none is named.

    >>> head_of("vit_micro", ""), head_of("resnet_micro", ""), head_of("vit_micro", "matched")
    ('linear', 'unet', 'matched')
    """
    return head or traits(backbone).head


def can_have(backbone: str, head: str) -> bool:
    """Return whether a backbone of any name can have a head. One's own is tried by a worker."""
    row, kind = HEADS[head], architecture(backbone)
    if is_own(backbone):
        return True
    return bool(traits(backbone).head) and kind not in row.excluded and kind in (row.architectures or (kind,))


def check_head(backbone: str, head: str) -> None:
    """Raise UserError for an unknown head, and for a backbone that can't have it, with those that can."""
    if head and head not in HEADS:
        raise unknown("head", head, HEADS)
    if not is_own(backbone) and not traits(backbone).head:
        raise UserError(
            f"{backbone} gives no map of an image, so it can't segment", "any backbone can that is no control"
        )
    name = head_of(backbone, head)
    if can_have(backbone, name):
        return
    able = [other for other in BACKBONES if can_have(other, name)]
    heads = [other for other in HEADS if can_have(backbone, other)]
    raise UserError(
        f"{backbone} can't have the head '{name}': {HEADS[name].why}",
        f"backbones that can: {', '.join(able[:4])}{', …' if len(able) > 4 else ''}",
        f"{backbone} takes {', '.join(heads)}",
    )


def head_words(head: str) -> str:
    """Return a head in words. A name that is not in the table is returned with blanks for underscores.

    >>> head_words("unet"), head_words("")
    ('U-Net decoder', 'own head')
    """
    if not head:
        return "own head"
    return HEADS[head].words if head in HEADS else head.replace("_", " ")

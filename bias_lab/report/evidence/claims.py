"""Say who is ahead at the sizes that allow a claim, and why nothing is claimed at the others."""

from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd

from bias_lab import statistics
from bias_lab.report.evidence import headline, parts
from bias_lab.report.sentences import answer, compared, name_of, sizes_in_words
from bias_lab.statistics import Answer

NAMES = (name_of("vit"), name_of("cnn"))


class Claims(NamedTuple):
    """What is claimed of plain ViT and the CNN family, from runs at equal images where the view has any.

    answer: of the sizes that allow a claim. flagged: the others (`statistics.unsound`). sentences: on both.
    """

    answer: Answer
    flagged: Mapping[int, Mapping[str, tuple[str, ...]]]
    sentences: list[str]


def of_view(view: pd.DataFrame) -> Claims:
    """Return the claims about one view of `findings.split`."""
    flagged = statistics.unsound(view)
    given = statistics.answer(view, without=flagged)
    said = [compared(answer(given, NAMES), parts.held(view))] if len(given.gaps) or not flagged else []
    return Claims(given, flagged, [*said, *unclaimed(flagged, view)])


def sound(view: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a view at the sizes that allow a claim."""
    return view[~view["size"].isin(list(statistics.unsound(view)))]


def unclaimed(flagged: Mapping[int, Mapping[str, tuple[str, ...]]], view: pd.DataFrame) -> list[str]:
    """Return the sentence on the sizes at which nothing is claimed, with why, or none. flagged: size → its flags."""
    if not flagged:
        return []
    every = sorted({int(size) for size in view["size"]})
    about = f"Nothing is claimed about {NAMES[0]} and {NAMES[1]} at {sizes_in_words(list(flagged))}"
    return [compared(f"{about}: {reasons(flagged, every)}.", parts.held(view))]


def reasons(flagged: Mapping[int, Mapping[str, tuple[str, ...]]], every: list[int]) -> str:
    """Return why nothing is claimed at some sizes, in words. every: all sizes of the study."""
    cells: dict[str, dict[str, list[int]]] = {}
    for size, flags in flagged.items():
        for kind, backbones in flags.items():
            for backbone in backbones:
                cells.setdefault(kind, {}).setdefault(name_of(backbone), []).append(size)
    return ", and ".join(headline.reason(kind, where, every) for kind, where in cells.items())

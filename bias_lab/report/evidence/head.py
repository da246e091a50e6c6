"""Fill the first screen of one dataset: the headline or the banner in its place, the sentences after it, three tiles."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bias_lab import statistics
from bias_lab.report.evidence import each
from bias_lab.report.evidence import headline as words
from bias_lab.report.figures.chart import percent, span
from bias_lab.report.pages import Head, Tile
from bias_lab.report.sentences import start_words, trained

Row = Mapping[str, Any]


def of_view(view: pd.DataFrame, about: str, profile: str) -> Head:
    """Return the head of one view of `findings.split`. profile: of the plan."""
    found = statistics.headline(view)
    rows = found.rows.to_dict("records")
    problems = words.banner(found.problems) if found.problems else ()
    banner = words.smoke(" ".join(problems)) if profile in PATHS else problems
    if banner:
        return Head(about=about, banner=banner, tiles=tiles(view, []))
    first, *others = rows
    support = [words.at_equal_images(first), words.on_pixels(first)]
    support += [words.further(others[-1])] if others else []
    support += [each.at_size(each.alone(view, what), what, first["size"]) for what in each.CHOICES]
    warning = words.locality(first)
    return Head(
        about=about,
        headline=words.headline(first),
        support=(*filter(None, support), words.CI),
        banner=(warning,) if warning else (),
        tiles=tiles(view, rows),
    )

"""Answer whether the CNNs' lead is made of locality, and show a rearranged image, where a study permutes pixels."""

import io
import pkgutil
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from bias_lab import statistics
from bias_lab.catalogue import INTERVENTIONS
from bias_lab.catalogue.interventions import intervention, intervention_words
from bias_lab.data.readers import procedural
from bias_lab.report.evidence import claims
from bias_lab.report.figures.chart import percent, span
from bias_lab.report.pages import Section
from bias_lab.report.sentences import ends, interval, is_identical
from bias_lab.statistics import ALPHA

AXIS = "intervention"
HALF = 0.5  # share of the lead. A rest above it is too large for a plain yes, and a loss below it is a no
SCALE = 4  # pixels of the picture for each pixel of the image


def section(view: pd.DataFrame) -> Section:
    """Return the answer for each size, and pictures. It is empty for a view without images whose pixels are permuted.

    view: finished runs of one dataset and image size (`findings.split`).
    """
    named = [value for value in statistics.values(view, AXIS) if value] if AXIS in statistics.axes(view) else []
    broken = [value for value in named if INTERVENTIONS[intervention(value)[0]].breaks_neighbours]
    if not broken:
        return Section(name="locality", title="")
    arms = statistics.arms(view, axis=AXIS)
    asked = arms[arms["value"] == broken[0]]
    base = arms[arms["value"] == ""].set_index("size")
    flagged = statistics.unsound(view, where={AXIS: broken[0]}) | statistics.unsound(view)
    answered = [row for row in ends(asked) if row["size"] in base.index and row["size"] not in flagged]
    text = [*(answer(base.loc[row["size"]], row) for row in answered), *claims.unclaimed(flagged, view)]
    side = int(view["image_size"].iloc[0])
    shown = pictures(named, side) if text else ()
    return Section(name="locality", title="Is the CNNs' lead made of locality?", text=tuple(text), pictures=shown)


def answer(base: Any, permuted: Any) -> str:
    """Return the answer at one size: yes, at least in part, in part, no, or that the data leave it open.

    base, permuted: rows of `statistics.arms`, of the images as they are and of those with permuted pixels.
    Yes: the lead shrinks, and less than half of it can be left. In part: it shrinks, and a rest is shown. No: less than
    half of it can have gone.
    """
    at, lead = f"At {int(permuted['size']):,} labels", float(base["shortfall"])
    if not (base["p_holm"] <= ALPHA and lead > 0):
        return f"{at} there is no answer: on the images as they are, no lead of the CNNs is shown{interval(base)}."
    rest, gone = float(permuted["shortfall"]), float(permuted["gone"])
    low, high = float(permuted["gone_low"]), float(permuted["gone_high"])
    numbers = f"the CNNs lead by {percent(lead)} points on the images as they are{interval(base)}, " + (
        f"and by {percent(rest)} with pixels permuted{interval(permuted)}"
        if rest >= 0
        else f"and plain ViT by {percent(-rest)} with pixels permuted{interval(permuted, mirrored=True)}"
    )
    if low != low:
        return f"{at} one replicate gives no answer: {numbers}."
    is_shown = permuted["p_holm"] <= ALPHA and rest > 0
    if low > 0:
        high_rest = permuted["high"] if permuted["high_any"] != permuted["high_any"] else permuted["high_any"]
        small = float(high_rest) < HALF * lead
        verdict = "in part" if is_shown else "yes" if small else "at least in part"
    else:
        verdict = "no" if high < HALF * lead else "the data leave it open"
    inside = "identical replicates, no interval" if is_identical(low, high) else f"95 % CI {span(low, high)}"
    return f"{at}: {verdict}. There {numbers}. The change is {percent(gone)} points ({inside})."


def pictures(values: list[str], side: int) -> tuple[tuple[str, bytes], ...]:
    """Return (caption, PNG) of a drawn image as it is and after each intervention that rearranges all images alike."""
    drawn = procedural.shapes(np.arange(1), side, position="free").images[0, :, :, 0]
    shown = [("A drawn image as it is", _png(drawn))]
    for value in values:
        name, number = intervention(value)
        arrangement = INTERVENTIONS[name].arrangement
        if arrangement and not (INTERVENTIONS[name].is_patch and side % int(number)):
            source = pkgutil.resolve_name(arrangement)(side, side, int(number))
            shown.append(
                (f"The same with {intervention_words(value)}", _png(drawn.ravel()[source].reshape(side, side)))
            )
    return tuple(shown)


def _png(pixels: "np.ndarray[Any, np.dtype[np.uint8]]") -> bytes:
    target = io.BytesIO()
    Image.fromarray(pixels.repeat(SCALE, 0).repeat(SCALE, 1)).save(target, "PNG", optimize=True)
    return target.getvalue()

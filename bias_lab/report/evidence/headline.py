"""Say the first sentence of a report, where the runs allow one, or else why there is none and what is missing.

A headline needs cells that are settled, that did not collapse and that are above chance, and several replicates.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bias_lab.catalogue import architecture
from bias_lab.report.figures.chart import percent, span
from bias_lab.report.sentences import capital, listed, name_of, sizes_in_words

HOW = "each trained as its hold-out prefers until it stops improving"
SMOKE = "This shows the path, not an answer"  # begins the banner of the profile that only tries everything once
CEILING = 0.97  # accuracy of both sides above which they can hardly differ
AS_GOOD = 0.02  # a linear classifier on pixels this close to the CNNs, or above them, is as good
CI = "CI is the 95 % confidence interval: in 19 of 20 repetitions of the whole study it holds the true difference."

Row = Mapping[str, Any]


# --- the headline ----------------------------------------------------------------------------------------------------


def headline(row: Row) -> str:
    """Return the first sentence on one size of settled cells, with at most four numbers.

    row: `size`, `of` and `against` (groups), `shortfall` with its interval `low, high` (fractions), `claimed` (whether
    a difference is shown), `top1_of, top1_against` (mean test accuracies).
    """
    of, against = name_of(row["of"]), name_of(row["against"])
    if min(row["top1_of"], row["top1_against"]) > CEILING:
        limit = percent(CEILING, 0)
        return f"At {row['size']:,} labels {of} and {against} are both above {limit} %, so they can hardly differ here."
    start = f"At {row['size']:,} labels, {HOW},"
    if not row["claimed"]:
        amount = f"{percent(row['shortfall'])} points (CI {span(row['low'], row['high'])})"
        return f"{start} no difference between {of} and {against} is shown: {against} minus {of} is {amount}."
    return f"{start} {of} is {amount_of(row)}."


def amount_of(row: Row) -> str:
    """Return by how much one side is behind or ahead: '6.1 points behind ResNet (CI 4.8 to 7.4)'."""
    is_behind = row["shortfall"] > 0
    ends = (row["low"], row["high"]) if is_behind else (-row["high"], -row["low"])
    side = "behind" if is_behind else "ahead of"
    return f"{percent(abs(row['shortfall']))} points {side} {name_of(row['against'])} (CI {span(*ends)})"


def further(row: Row) -> str:
    """Return the sentence on another size than that of the headline."""
    of = name_of(row["of"])
    if not row["claimed"]:
        return f"At {row['size']:,} labels no difference is shown (CI {span(row['low'], row['high'])} points)."
    return f"At {row['size']:,} labels {of} is {amount_of(row)}."


def at_equal_images(row: Row) -> str:
    """Return the shortfall at equal images and how much of it is training accuracy, '' where no runs compare so.

    row: `equal` (the shortfall at equal images) and `equal_training` (its training part), NaN where there is none.
    """
    gap, part = row["equal"], row["equal_training"]
    if math.isnan(gap):
        return ""
    of = name_of(row["of"])
    where = f"At equal images seen it is {percent(gap)} points"
    if gap <= 0:
        where = f"At equal images seen {of} is {percent(-gap)} points ahead"
    if math.isnan(part):
        return f"{where}."
    if gap > 0 and 0 <= part <= gap:
        return f"{where}, of which {percent(part)} points are training accuracy."
    if gap > 0 and part > gap:
        return f"{where}, and the difference in training accuracy alone is {percent(part)} points."
    side = "ahead" if part < 0 else "behind"
    return f"{where}, and in training accuracy it is {percent(abs(part))} points {side}."


def on_pixels(row: Row) -> str:
    """Return what a linear classifier on pixels reaches, '' where none was run. row: `pixels`, its test accuracy."""
    if math.isnan(row["pixels"]):
        return ""
    return f"A linear classifier on pixels reaches {percent(row['pixels'])} %."


def locality(row: Row) -> str:
    """Return the warning that pixels alone do as well as the CNNs, or ''."""
    pixels, cnn = row["pixels"], row["top1_against"]
    if not pixels >= cnn - AS_GOOD:  # NaN where there is no such control
        return ""
    side = "above" if pixels >= cnn else "less than two points below"
    return (
        f"This dataset cannot speak of locality at {row['size']:,} labels: a linear classifier on pixels reaches "
        f"{percent(pixels)} %, which is {side} {name_of(row['against'])} ({percent(cnn)} %)."
    )


# --- under one choice alone ------------------------------------------------------------------------------------------


def under_each(what: str, rows: Sequence[Row]) -> str:
    """Return the shortfall under each recipe or optimizer alone, and whether the claim holds under one alone.

    what: 'recipe' or 'optimizer'. rows: `value`, `shortfall`, `low`, `high`, `claimed`, all at one size.
    """
    if not rows:
        return ""
    texts = [f"{percent(row['shortfall'])} points under {row['value']} (CI {span(row['low'], row['high'])})"
             for row in rows]  # fmt: skip
    if len(rows) == 1:
        return f"Every cell has one {what}: {rows[0]['value']}."
    sentence = f"With one {what} for all, it is {listed(texts)}."
    sides = {(row["shortfall"] > 0) if row["claimed"] else None for row in rows}
    if len(sides) == 1:
        return sentence
    holding = [str(row["value"]) for row in rows if row["claimed"]]
    if not holding:
        return sentence
    if len({row["shortfall"] > 0 for row in rows if row["claimed"]}) > 1:
        return f"{sentence} The sign depends on the {what}."
    return f"{sentence} A difference is shown under {listed(holding)} alone."


# --- no headline -----------------------------------------------------------------------------------------------------


def banner(problems: Iterable[tuple[str, Sequence[Row]]]) -> tuple[str, ...]:
    """Return why there is no headline, and what to run: a sentence that names the cells, then the remedies.

    problems: (kind of `KINDS`, cells with `backbone` and `size`). Kinds without cells are left out.
    """
    found = [(kind, cells) for kind, cells in problems if cells]
    reasons = [
        KINDS[kind][0].format(cells=named(cells), verb="is" if len(cells) == 1 else "are") for kind, cells in found
    ]
    remedies = dict.fromkeys(KINDS[kind][1] for kind, _ in found)
    return (f"There is no headline: {'. '.join(capital(r) if k else r for k, r in enumerate(reasons))}.", *remedies)


_TUNE = (
    "To settle a cell, tune its budget on the hold-out (`make tune`, or `--tune` on your own data) and run the sweep "
    "again."
)
KINDS = {  # what stands against a headline → the reason, and what to do
    "missing": ("no finished run of {cells} is there", "Run the sweep to its end."),
    "none settled": ("no cell of {cells} is settled", _TUNE),
    "not settled": ("{cells} {verb} not settled", _TUNE),
    "collapsed": (
        "runs of {cells} collapsed, which means that they predict one class or have dead features",
        "Lower the learning rate of collapsed cells, or train them longer.",
    ),
    "chance": (
        "{cells} {verb} at the chance level",
        "Train cells at the chance level longer, or tune their learning rate.",
    ),
    "single": (
        "{cells} {verb} there in one replicate alone, which gives no interval",
        "Run more draws (`--draws 0,1,2,3,4`).",
    ),
}


def named(cells: Sequence[Row]) -> str:
    """Return cells in words, by backbone: 'vit_micro at N = 100 and 300 and resnet_micro at N = 100'."""
    sizes: dict[str, list[int]] = {}
    for cell in cells:
        sizes.setdefault(str(cell["backbone"]), []).append(int(cell["size"]))
    return listed([f"{name} at {sizes_in_words(sorted(at))}" for name, at in sorted(sizes.items())])


def smoke(sentence: str) -> tuple[str, ...]:
    """Return the banner of a smoke profile. sentence: on what its runs are too short for."""
    return (f"{SMOKE}: its runs are too short and too few to mean anything.", *filter(None, [sentence]))


def words_of(group: str, members: Sequence[str]) -> str:
    """Return a group that consists of one backbone by the name of its architecture."""
    return name_of(architecture(members[0])) if len(members) == 1 else name_of(group)

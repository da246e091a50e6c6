"""Say the first sentence of a report where the runs allow one, or else why there is none and what is missing.

A headline needs cells that are settled, that did not collapse and that are above chance, and several replicates
(`statistics.headline`).
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence

from bias_lab.catalogue import OPTIMIZERS
from bias_lab.report.figures.chart import percent, span
from bias_lab.report.sentences import capital, is_identical, listed, name_of, sizes_in_words
from bias_lab.statistics import ALPHA, AtSize, Gap

UNTIL = " until it stops improving"
PREFERRED = "each trained as its hold-out prefers"
HOW = PREFERRED + UNTIL
ALONE = "With one {what} for all"
SMOKE = (
    "This shows the path, not an answer: the runs of this profile are too short and too few to mean anything.",
    "Run the profile `laptop` or `desk` for an answer.",
)
CI = "CI is the 95 % confidence interval: in 19 of 20 repetitions of the {study} it holds the true difference."
MOST_NUMBERS = 4  # in one sentence
STUDY, ON_IMAGES, ON_TESTS = "whole study", "study on these training images", "study on these test images"

Cells = Mapping[str, Sequence[int]]  # backbone or group, in words → sizes


# --- the headline ----------------------------------------------------------------------------------------------------


def headline(of: str, at: AtSize, how: str = HOW) -> str:
    """Return the first sentence on one size of settled cells, with at most four numbers.

    of: the group in question. how: how its cells were trained (`chosen.how`).
    """
    who, against = name_of(of), name_of(at.against)
    start = f"At {at.size:,} labels, {how},"
    if is_claimed(at.settled):
        return f"{start} {who} is {amount(at.settled, against)}."
    found = f"{percent(at.settled.value)} points{_ci(at.settled)}"
    return f"{start} no difference between {who} and {against} is shown: {against} minus {who} is {found}."


def further(of: str, at: AtSize, *, how: str = "", one_draw: bool = False) -> str:
    """Return the sentence on a size other than that of the headline.

    how: how its cells were trained, if not like those of the headline. one_draw: whether all replicates of this size
    have one draw of training images, unlike those of the headline.
    """
    unlike = [how.removesuffix(UNTIL), "with the same training images in all replicates" if one_draw else ""]
    told = " and ".join(filter(None, unlike))
    start = f"At {at.size:,} labels{f', {told},' if told else ''}"
    if is_claimed(at.settled):
        return f"{start} {name_of(of)} is {amount(at.settled, name_of(at.against))}."
    return f"{start} no difference is shown{_ci(at.settled)}."


def is_claimed(gap: Gap) -> bool:
    """Return whether a difference is shown, corrected for the number of sizes."""
    return gap.p_holm <= ALPHA  # NaN where it can't be tested


def amount(gap: Gap, against: str) -> str:
    """Return by how much one side is behind or ahead: '6.1 points behind ResNet (CI 4.8 to 7.4)'."""
    side = "behind" if gap.value > 0 else "ahead of"
    return f"{percent(abs(gap.value))} points {side} {against}{_ci(gap, mirrored=gap.value < 0)}"


def _ci(gap: Gap, *, mirrored: bool = False, n: int = 0) -> str:
    """Return ' (CI 4.8 to 7.4)', marked where it excludes 0 although the corrected test claims nothing.

    n: a number of replicates to add.
    """
    low, high = (-gap.best_high, -gap.best_low) if mirrored else (gap.best_low, gap.best_high)
    if math.isnan(low) or is_identical(low, high):
        return ""
    is_off = side_of(gap) != 0 and gap.p_holm > ALPHA
    return f" ({'uncorrected ' if is_off else ''}CI {span(low, high)}{f', n = {n}' if n else ''})"


def explained(at: AtSize, draws: int) -> str:
    """Return what CI means. draws: how many draws of training images the compared cells have."""
    if draws < 2:
        return CI.format(study=ON_IMAGES)
    return CI.format(study=ON_TESTS if math.isnan(at.settled.low_any) else STUDY)


def at_equal_images(of: str, at: AtSize, under: str = "") -> str:
    """Return the shortfall at equal images and how much of it is training accuracy, '' where no runs compare so.

    under: the recipe there, between commas, if it is not that of the headline (`chosen.of_equal`).
    """
    gap, part, seen = at.equal.value, at.training, f"At equal images seen{under}"
    if math.isnan(gap):
        return ""
    who = name_of(of)
    if at.equal_flags:
        return f"{seen} nothing is claimed: {flagged(at)}."
    is_known = not math.isnan(at.equal.low) and not is_identical(at.equal.best_low, at.equal.best_high)
    if is_known and not side_of(at.equal):
        return f"{seen} no difference is shown{_ci(at.equal)}."
    if percent(gap) == percent(0.0):
        return f"{seen} the two are level."
    goes_on = gap > 0 and is_claimed(at.settled) and at.settled.value > 0  # "it" is behind, as in the headline
    side = f"{who} is {percent(abs(gap))} points {'behind' if gap > 0 else 'ahead'}"
    start = f"{seen} {f'it is {percent(gap)} points' if goes_on else side}"
    start += _ci(at.equal, mirrored=gap < 0) or (" (one replicate, no interval)" if at.equal.n == 1 else "")
    if math.isnan(at.training_low):
        return f"{start}."
    if at.training_low <= 0 <= at.training_high or percent(part) == percent(0.0):
        return f"{start}. No part of it is shown to be training accuracy."
    sure = _ci(Gap(part, at.training_low, at.training_high), mirrored=part < 0)
    if 0 <= part <= gap:
        return f"{start}, of which {percent(part)} points are training accuracy{sure}."
    if part > gap > 0:
        return f"{start}. There {who} is {percent(part)} points behind in training accuracy{sure}."
    side = "ahead" if part < 0 else "behind"
    return f"{start}, while {who} is {percent(abs(part))} points {side} in training accuracy{sure}."


def flagged(at: AtSize) -> str:
    """Return why nothing is claimed at equal images at one size."""
    return " and ".join(reason(kind, {name_of(n): [at.size] for n in who}, ()) for kind, who in at.equal_flags.items())


def on_pixels(at: AtSize) -> str:
    """Return what a linear classifier on pixels reaches, '' where none was run."""
    return "" if math.isnan(at.control) else f"A linear classifier on pixels reaches {percent(at.control)} %."


def locality(at: AtSize) -> str:
    """Return the warning that pixels alone do about as well as the CNNs, or ''."""
    if "control_as_good" not in at.flags:
        return ""
    side = "within two points of" if at.lead.value > 0 else "no less than"
    of_cnn = at.control + at.lead.value
    return (
        f"At {at.size:,} labels these images do not show what locality is worth: a linear classifier on pixels "
        f"reaches {percent(at.control)} %, {side} {name_of(at.against)}'s {percent(of_cnn)} %."
    )


# --- under one choice alone ------------------------------------------------------------------------------------------


def under_each(what: str, gaps: Mapping[str, Gap], recipes: Sequence[str] = ()) -> str:
    """Return the shortfall under each recipe or optimizer alone, and whether a claim holds under one alone.

    what: 'recipe' or 'optimizer'. gaps: value → the settled shortfall under it, empty where settled cells have one.
    recipes: those that optimizers are compared under, if they are not all.
    """
    if not gaps:
        return ""
    known = {value: gap for value, gap in gaps.items() if gap.n}
    counts = len({gap.n for gap in known.values()}) > 1
    texts = [
        f"{percent(gap.value)} points under {called(value)}{_ci(gap, n=gap.n if counts else 0)}"
        for value, gap in known.items()
    ]
    lacking = [called(value) for value, gap in gaps.items() if not gap.n]
    within = f" with the {in_quotes(recipes)} recipe{'s' if len(recipes) > 1 else ''}" if recipes else ""
    start = f"{ALONE.format(what=what)}, the settled shortfall{within}"
    sentences = [f"{start} is {listed(texts)}."] if texts else []
    if not texts:
        return f"No {what} has sound cells on both sides, so the {what} may make the difference."
    if lacking:
        sentences.append(f"Nothing is claimed under {listed(lacking)}, where cells are missing or not sound.")
    # one test a value, so the uncorrected interval decides
    sides = {called(value): side_of(gap) for value, gap in gaps.items() if gap.n}
    shown = {value: side for value, side in sides.items() if side}
    if len(set(shown.values())) > 1:
        sentences.append(f"Who is ahead depends on the {what}.")
    elif shown and len(shown) < len(sides):
        rest = listed([value for value in sides if value not in shown])
        shown_under = f"A difference is shown under {listed(list(shown))} and not under {rest}"
        sentences.append(f"{shown_under}, which does not mean that these differ.")
    return " ".join(sentences)


def called(choice: str) -> str:
    """Return what people call a recipe or an optimizer.

    >>> called("muon"), called("strong")
    ('Muon', 'strong')
    """
    return OPTIMIZERS[choice].words if choice in OPTIMIZERS else choice


def in_quotes(recipes: Sequence[str]) -> str:
    """Return names of recipes: '"plain" and "strong"'."""
    return listed([f'"{name}"' for name in recipes])


def side_of(gap: Gap) -> int:
    """Return 1 if the interval lies above 0, −1 if below, 0 if it holds 0 or is not there."""
    return int(gap.best_low > 0) - int(gap.best_high < 0)


# --- no headline -----------------------------------------------------------------------------------------------------

_TUNE = (
    "Run a profile with settled cells, such as `desk`, with `--tune`, which searches each budget on the hold-out first."
)
REASONS = {  # what forbids a headline → the reason, and what to do
    "no run": ("no run of {cells} is finished", "A headline needs finished runs of plain ViT and of a CNN."),
    "none settled": ("no cell of {names} is settled", _TUNE),
    "unsettled": ("{cells} {verb} not settled", _TUNE),
    "collapsed": (
        "runs of {cells} collapsed (they predict one class or have dead features)",
        "Lower the learning rate of collapsed cells, or train them longer.",
    ),
    "at_chance": (
        "{cells} {verb} not shown to be above chance",
        "Tune the learning rate of cells at chance, or train longer.",
    ),
    "at_majority": (
        "{cells} {verb} not shown to be better than naming the largest class each time",
        "Train longer, or balance the test images.",
    ),
    "no_interval": (
        "{cells} {verb} there in fewer than two common replicates, which give no interval",
        "Run more draws, for example `--set blocks=5 --draws 0,1,2,3,4`.",
    ),
    "ceiling": ("{cells} {verb} above 97 %, so they can hardly differ", "Fewer labels would tell them apart."),
}  # fmt: skip


def banner(problems: Mapping[str, Cells], sizes: Iterable[int]) -> tuple[str, ...]:
    """Return why there is no headline, and what to run: a sentence that names the cells, then the remedies.

    problems: a key of `REASONS` → cells. sizes: all sizes of the study.
    """
    reasons = [reason(kind, cells, sizes) for kind, cells in problems.items()]
    remedies = dict.fromkeys(REASONS[kind][1] for kind in problems)
    others = [f"{capital(text)}." for text in reasons[1:]]
    return (f"There is no headline: {reasons[0]}.", *others, *remedies)


def reason(kind: str, cells: Cells, sizes: Iterable[int]) -> str:
    """Return one reason in words: 'vit_micro and resnet_micro at N = 100 are not settled'."""
    where = {
        "cells": named(cells, sizes, "any" if kind == "no run" else "every"),
        "names": listed(list(cells)),
        "verb": "is" if len(cells) == 1 else "are",
    }
    return REASONS[kind][0].format(**where)


def elsewhere(kind: str, cells: Cells, sizes: Iterable[int]) -> str:
    """Return the sentence on sizes that have no headline, beside one that has."""
    if kind == "none settled":
        at = sizes_in_words(sorted({size for among in cells.values() for size in among}))
        return f"There is no headline at {at}: {reason(kind, cells, sizes)} there."
    return f"There is no headline elsewhere: {reason(kind, cells, sizes)}."


def named(cells: Cells, sizes: Iterable[int], all_sizes: str = "every") -> str:
    """Return cells in words: 'vit_micro and resnet_micro at N = 100', those with the same sizes together.

    all_sizes: the word for all of several sizes, 'any' after a negation.
    """
    every = sorted(set(sizes))
    alike: dict[tuple[int, ...], list[str]] = {}
    for name, at in cells.items():
        alike.setdefault(tuple(sorted(at)), []).append(name)
    texts = [f"{listed(names)} {_at_sizes(list(at), every, all_sizes)}" for at, names in alike.items()]
    if sum(len(re.findall(r"(?<![\w.])\d[\d,]*", text)) for text in texts) > MOST_NUMBERS:
        return f"{listed(list(cells))} at some N"
    return listed(texts)


def _at_sizes(at: Sequence[int], every: Sequence[int], all_sizes: str) -> str:
    if len(every) > 1 and list(at) == list(every):
        return f"at {all_sizes} N"
    return f"at {sizes_in_words(at)}" if len(at) <= 2 else f"at {len(at)} sizes from N = {at[0]:,} to {at[-1]:,}"

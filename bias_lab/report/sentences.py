"""Say statistics in sentences: the finding first, then the number, then how sure it is.

A claim is made where the Holm-corrected p is at most `ALPHA`. Of many sizes the smallest and the largest are named,
since the tables hold all of them. Intervals include the sampling of test images wherever it is known.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from bias_lab import schema
from bias_lab.catalogue import REGIMES, head_words, intervention_words
from bias_lab.report.figures.chart import MORE_DIGITS, percent, span
from bias_lab.statistics import ALPHA, Answer

NAMES = {
    "vit": "plain ViT", "cnn": "the CNN family", "resnet": "ResNet", "hybrid": "the hybrids", "swin": "Swin",
    "transformer": "the transformers", "efficientnet": "EfficientNet", "mobilenetv3": "MobileNetV3",
    "mobilevit": "MobileViT", "efficientvit": "EfficientViT",
}  # fmt: skip
NOTHING = "No run is finished yet, so nothing can be concluded."
WIDEST = 2.0  # interval of a share: a wider one tells nothing
SMALLEST = 10.0 ** -(3 + MORE_DIGITS)  # interval of a fraction: ends that no digit of `span` tells apart
GIVEN = "given one pretraining"  # of an interval over replicates that share theirs
IDENTICAL, TOO_WIDE = "not determined (identical)", "not determined"


# --- words -----------------------------------------------------------------------------------------------------------


def listed(words: Sequence[Any]) -> str:
    """Return 'a', 'a and b', 'a, b and c'."""
    texts = [str(word) for word in words]
    return texts[0] if len(texts) == 1 else ", ".join(texts[:-1]) + " and " + texts[-1]


def sizes_in_words(sizes: Iterable[Any]) -> str:
    """Return 'N = 100, 300 and 1,000', or the ends of more than five sizes."""
    names = [f"{int(size):,}" for size in sizes]
    return f"N = {listed(names)}" if len(names) <= 5 else f"N = {names[0]} to {names[-1]} ({len(names)} sizes)"


def capital(text: str) -> str:
    """Return the text with its first letter as a capital, unless it is a backbone's name."""
    return text if "_" in text.split()[0] or ":" in text.split()[0] else text[0].upper() + text[1:]


def start_words(regime: Any, protocol: Any = "", source: Any = "") -> str:
    """Return a start in words: 'MAE (on pool)', 'MAE, linear probe (on subset)', 'weights (resnet18)'."""
    row = REGIMES.get(str(regime))
    words = row.words if row else str(regime)
    if row and not row.starts_from:
        words = "scratch"
    words = words.removeprefix("starting from ")
    if protocol and protocol != schema.DEFAULTS["protocol"]:
        words += f", {str(protocol).replace('_', ' ')}"
    if not source or (row and row.sources == (source,)):
        return words
    own = row is not None and row.starts_from != "pretraining"
    return f"{words} ({source})" if own else f"{words} (on {source})"


def value_words(axis: str, value: Any) -> str:
    """Return the value of an axis in words: 'label noise 0.2', 'pixels permuted', 'images as they are', 'own head'."""
    return _VALUES[axis](str(value or "")) if axis in _VALUES else schema.phrase(axis, value)


_VALUES: dict[str, Callable[[str], str]] = {  # axes whose values have words of their own
    "intervention": lambda value: intervention_words(value) if value else "images as they are",
    "head": head_words,
}


def ends(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the first and the last row as dictionaries, or the only one."""
    every = [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]
    return every if len(every) < 3 else [every[0], every[-1]]


def interval(row: dict[str, Any], *, mirrored: bool = False) -> str:
    """Return ' (95 % CI 4.8 to 22.1)' in points, the wider interval where there is one.

    mirrored: whether the difference is given in the other direction. An interval that excludes 0 although the corrected
    test claims nothing is marked as uncorrected.
    """
    low, high = (row["low"], row["high"]) if math.isnan(row["low_any"]) else (row["low_any"], row["high_any"])
    if math.isnan(low):
        return " (one replicate, no interval)"
    if is_identical(low, high):
        return " (identical replicates, no interval)"
    is_off = (low > 0 or high < 0) and row["p_holm"] > ALPHA
    low, high = (-high, -low) if mirrored else (low, high)
    given = f", {GIVEN}" if row.get("shared") else ""
    return f" ({'uncorrected ' if is_off else ''}95 % CI {span(low, high)}{given})"


def is_identical(low: float, high: float) -> bool:
    """Return whether an interval over replicates has no width, because all of them are the same."""
    return high - low < SMALLEST


def is_determined(low: float, high: float) -> bool:
    """Return whether the interval of a share tells something: it has two ends, at most 200 % apart."""
    return high - low <= WIDEST


def share(value: float, low: float, high: float, *, shared: bool = False) -> str:
    """Return a share with its interval: '88 % of the shortfall (95 % CI 67 to 148 %)'.

    shared: whether replicates share one pretraining, which is then said.
    """
    given = f", {GIVEN}" if shared else ""
    return f"{percent(value, 0)} % of the shortfall (95 % CI {share_span(low, high)}{given})"


def share_span(low: float, high: float) -> str:
    """Return an interval of shares in whole percent, or a word for one that has no ends or tells nothing."""
    text = span(low, high, digits=0)
    if text in ("–", "unbounded"):
        return text
    return f"{text} %" if is_determined(low, high) else TOO_WIDE


# --- one pair of groups ----------------------------------------------------------------------------------------------


def name_of(group: str) -> str:
    """Return a group in words: 'plain ViT' for `vit`, a backbone as it is."""
    return NAMES.get(group, group)


def claims(gaps: pd.DataFrame, names: tuple[str, str]) -> list[str]:
    """Return sentences on the rows of `statistics.gaps`: what is claimed, and what is not shown.

    gaps: a row for each size with `shortfall` (of names[0] behind names[1]), both intervals, p and p_holm.
    """
    if not len(gaps):
        return []
    claimed, tested = gaps["p_holm"] <= ALPHA, gaps["p"].notna()
    sentences = [
        *_claim(gaps[claimed & (gaps["shortfall"] > 0)], names, "falls short of", "behind"),
        *_claim(gaps[claimed & (gaps["shortfall"] < 0)], names, "is ahead of", "ahead"),
    ]
    level, single = gaps[~claimed & tested], gaps[~tested]
    if len(level):
        what = "" if claimed.any() else f"between {names[0]} and {names[1]} "
        low, high = level["low_any"].fillna(level["low"]), level["high_any"].fillna(level["high"])
        is_off = bool(((low > 0) | (high < 0)).any())
        corrected, the = (
            (" once several comparisons are corrected for", "Without this correction the") if is_off else ("", "The")
        )
        sentences.append(f"No difference {what}is shown at {sizes_in_words(level['size'])}{corrected}.")
        intervals = "intervals there reach" if len(level) > 1 else "interval there reaches"
        reach = f"from {percent(low.min())} to {percent(high.max())} points"
        if not is_identical(low.min(), high.max()):
            sentences.append(f"{the} 95 % {intervals} {reach}.")
    if len(single) and len(single) < len(gaps):
        sentences.append(f"At {sizes_in_words(single['size'])} one replicate gives no interval, so nothing is claimed.")
    elif len(single):
        sentences.append(f"One replicate gives no interval, so nothing is claimed about {names[0]} and {names[1]}.")
        sentences += [
            f"At {row['size']:,} labels {names[1]} minus {names[0]} is {percent(row['shortfall'])} points."
            for row in ends(single)
        ]
    return sentences


def _claim(rows: pd.DataFrame, names: tuple[str, str], verb: str, side: str) -> list[str]:
    shown = ends(rows)
    who, is_ahead = capital(names[0]), side == "ahead"
    amounts = [f"{percent(abs(row['shortfall']))} points{interval(row, mirrored=is_ahead)}" for row in shown]
    if len(shown) == 1:
        return [f"{who} {verb} {names[1]} at N = {shown[0]['size']:,} by {amounts[0]}."]
    first = [f"{who} {verb} {names[1]} at {sizes_in_words(rows['size'])}."] if shown else []
    return first + [f"At {row['size']:,} labels it is {amount.replace(' points', f' points {side}', 1)}."
                    for row, amount in zip(shown, amounts, strict=True)]  # fmt: skip


def answer(given: Answer, names: tuple[str, str]) -> str:
    """Return the sentences at the top of the report. names: of the two groups of the answer, in words."""
    if not len(given.gaps):
        return f"There is no pair of finished runs of {names[0]} and {names[1]} yet, so nothing can be concluded."
    sentences = claims(given.gaps, names) + ([meeting(given.meeting)] if given.meeting and len(given.gaps) > 1 else [])
    return " ".join(sentences)


def compared(sentence: str, held: str) -> str:
    """Return a sentence that begins with how its numbers are compared: 'At equal images, plain ViT …'.

    held: how, in words, or '' to leave the sentence as it is.
    """
    return f"{capital(held)}, {sentence[0].lower()}{sentence[1:]}" if held and sentence else sentence


def meeting(crossover: Mapping[str, Any]) -> str:
    """Return where the mean curves of plain ViT and the CNN family meet, '' where there is no pair of runs.

    crossover: a row of `statistics.crossover`, with size, low, high (in labelled images) and bound.
    """
    curves, bound = "The mean curves of plain ViT and the CNN family", crossover["bound"]
    if bound == "?":
        return ""
    if bound:
        where, size = "above" if bound == ">" else "below", f"{crossover['size']:,.0f}"
        return f"{curves} do not meet within the sizes that were run: they could meet {where} N = {size}."
    about = f"{curves} meet at about N = {rounded(crossover['size'])}"
    low, high = crossover["low"], crossover["high"]
    if math.isnan(low):
        return f"{about}. One replicate at some size gives no interval."
    if low == 0 and math.isinf(high):
        return f"{about}, but the interval holds every size that was run."
    return f"{about} (95 % CI {rounded(low)} to {'beyond the sizes run' if math.isinf(high) else rounded(high)})."


def rounded(size: float) -> str:
    """Return a number of images with two significant digits, since a crossing is not known to the image."""
    return f"{int(round(size, -max(0, len(str(int(size))) - 2))):,}"


def method(gaps: pd.DataFrame, what: str = "sizes") -> str:
    """Return how rows of `statistics.gaps` were tested, '' if none could be. what: what the correction runs over."""
    tested = gaps[gaps["p"].notna()]
    if not len(tested):
        return ""
    n = sorted({int(n) for n in tested["n"]})
    count = f"{n[0]}" if len(n) == 1 else f"{n[0]} to {n[-1]}"
    text = f"Intervals are Student's t over {count} replicates."
    if tested["test_se"].notna().all():
        text += ' Those in sentences, of shares, and "with test images" include the sampling of test images.'
    else:
        text += " They hold for this test set."
    if len(tested) > 1:
        text += f" Claims are Holm-corrected over {len(tested)} {what}."
    return f"{text} For comparison, {sign_flips(tested)}."


def sign_flips(gaps: pd.DataFrame) -> str:
    """Return how small the p of sign flips can be where the fewest draws or seeds are. gaps: `statistics.gaps`."""
    fewest = gaps.sort_values("units", kind="stable").iloc[0]
    return f"sign flips of {fewest['units']} {fewest['unit']}s cannot reach a p below {fewest['p_smallest']:.3g}"


# --- starts ----------------------------------------------------------------------------------------------------------


def recovered(recovery: pd.DataFrame) -> list[str]:
    """Return how much of the shortfall each start recovers, best first where there are many.

    recovery: rows of `statistics.recovery`. A share means nothing where the shortfall cannot be told from 0 or is too
    uncertain, so none is given there. A pretraining that did not train says nothing about its method.
    """
    recovery = trained(recovery)
    bounded = recovery[recovery["recovery"].notna() & (recovery["high"] - recovery["low"] <= WIDEST)]
    sentences = []
    for size in sorted({bounded["size"].min(), bounded["size"].max()}) if len(bounded) else []:
        rows = bounded[bounded["size"] == size].sort_values("recovery", ascending=False).to_dict("records")
        shown = [row for row in rows if row["low"] > 0 or len(rows) <= 2]
        rest = [start_words(row["regime"], row["protocol"], row["source"]) for row in rows if row not in shown]
        texts = [
            f"{start_words(row['regime'], row['protocol'], row['source'])} recovers "
            f"{share(row['recovery'], row['low'], row['high'], shared=row.get('shared', False))}."
            for row in shown
        ]
        texts += [f"no recovery is shown for {listed(rest)}."] if rest else []
        sentences += [f"At {size:,} labels, {texts[0]}", *map(capital, texts[1:])]
    return sentences


def trained(starts: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of starts whose pretraining taught the encoder something, or which have none."""
    return starts[~starts["untrained"].astype(bool)] if "untrained" in starts else starts


def left_where_alike(alike: pd.DataFrame) -> list[str]:
    """Return what is left of the shortfall where both sides start alike. alike: rows of `statistics.likewise`."""
    sentences = []
    for key, part in trained(alike).groupby(list(schema.START), sort=False):
        how = start_words(*key)
        for row in ends(part):
            if row["p_holm"] > ALPHA:  # NaN of a single replicate is not
                side = f"the CNNs minus plain ViT is {percent(row['shortfall'])} points{interval(row)}"
                at = f"at {row['size']:,} labels"
                sentences.append(f"Where both start from {how}, no difference is shown {at}: {side}.")
                continue
            passed = row["shortfall"] < 0  # a lead is never negative
            whose = "plain ViT's lead over the CNNs" if passed else "the CNNs' lead over plain ViT"
            lead = f"{percent(abs(row['shortfall']))} points{interval(row, mirrored=passed)} at {row['size']:,} labels"
            sentences.append(f"Where both start from {how}, {whose} is {lead}.")
            if not passed and is_determined(row["left_low"], row["left_high"]):
                ends_of_it = (row["left_low"], row["left_high"])
                left = share(row["left"], *ends_of_it, shared=row.get("shared", False)).replace(
                    "shortfall", "lead from scratch"
                )
                sentences.append(f"That is {left}.")
    return sentences


def removed(own: pd.DataFrame) -> list[str]:
    """Return the share of the shortfall that each of the user's own backbones removes at the smallest size.

    own: rows of `statistics.removed`.
    """
    told = []
    for name, part in own.dropna(subset=["share"]).groupby("backbone"):
        row = ends(part)[0]
        at = f"at N = {int(row['size']):,}"
        if not math.isnan(row["low"]) and not is_determined(row["low"], row["high"]):
            told.append(f"The share that {name} removes is not determined {at}: its interval is too wide.")
        elif row["high"] < 0 or (math.isnan(row["low"]) and row["share"] < 0):
            told.append(f"{name} removes nothing of the shortfall {at}: it is less accurate than plain ViT.")
        else:
            told.append(f"{name} removes {share(row['share'], row['low'], row['high'])} {at}.")
    return told

"""List the committed studies, and say what each one found, from its table alone.

The sentences hold for any outcome, so that a new table needs no new words. docs/study_pages.py puts them on pages.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from bias_lab import statistics
from bias_lab.report import findings, pages
from bias_lab.report.evidence import claims
from bias_lab.report.evidence import locality as evidence
from bias_lab.report.metric_words import said as worded
from bias_lab.report.sentences import listed, start_words, value_words

FOLDER = Path(__file__).parent / "results"
VIT = "a plain ViT"
NAMES = {"efficientvit": "EfficientViT", "mobilevit": "MobileViT", "mobilenetv3": "MobileNetV3"}


class Study(NamedTuple):
    """One committed study. folder: under docs/results. name: in a heading. data: its images, in a few words.

    chart, table: (section of the report, which one of that section) of the figure and of the table that are shown.
    folded: further sections whose tables open on a click. say: results table → three sentences.
    parts: further folders, of commands that ran another part of the study. pair: (of, against), what a study settles
    whose answer is not the report's headline.
    """

    folder: str
    name: str
    data: str
    chart: tuple[str, int]
    table: tuple[str, int]
    folded: tuple[str, ...]
    say: Callable[[pd.DataFrame], list[str]]
    parts: tuple[str, ...] = ()
    pair: tuple[str, str] | tuple[()] = ()

    @property
    def places(self) -> tuple[Path, ...]:
        return tuple(FOLDER / name for name in (self.folder, *self.parts))


# --- sentences -------------------------------------------------------------------------------------------------------


def points(value: float) -> str:
    return pages.points(value).text


def interval(row: Any) -> str:
    return f"95 % CI {points(row['low_any'])} to {points(row['high_any'])}"


def lead(row: Any, ahead: str, behind: str) -> str:
    """Return by how many points one side is less or more accurate than the other, or that no difference is shown.

    row: one of `statistics.shortfall`, whose sides are `ahead` minus `behind`.
    """
    gap = float(row["shortfall"])
    if row["low_any"] <= 0 <= row["high_any"]:
        larger, smaller = (name.removeprefix("the ").removeprefix("a ") for name in (ahead, behind))
        return f"no difference between {behind} and {ahead} is shown ({larger} minus {smaller}: {interval(row)} points)"
    if gap < 0:
        row = dict(low_any=-row["high_any"], high_any=-row["low_any"])
    word = "less" if gap > 0 else "more"
    return f"{behind} is {points(abs(gap))} points {word} accurate than {ahead} ({interval(row)})"


def uncorrected(row: Any) -> str:
    """Return that a difference of `statistics.gaps` is not shown once its table's sizes are corrected for, or ''."""
    is_alone = row["p_holm"] > 0.05 and not row["low_any"] <= 0 <= row["high_any"]
    return ", which is not shown after Holm's correction over the sizes" if is_alone else ""


def whole(share: float) -> str:
    return f"{100 * share:.0f}".replace("-", "−")


def percent(share: float) -> str:
    return f"{whole(share)} %"


def cnns(rows: pd.DataFrame) -> str:
    """Return the CNNs of a results table in words: how many they are decides between one and several."""
    names = set(rows.loc[rows["family"] == "cnn", "backbone"])
    return "CNNs of similar size" if len(names) > 1 else "a CNN of similar size"


def shortfalls(rows: pd.DataFrame, flagged: Collection[int], against: str) -> list[str]:
    """Return a sentence on the shortfall at the smallest and at the largest size that allows a claim.

    flagged: the sizes that allow none. against: the CNNs in words.
    """
    rows = rows[~rows["size"].isin(flagged)]
    ends = dict.fromkeys((0, len(rows) - 1)) if len(rows) else {}
    return [f"With {int(rows.iloc[k]['size']):,} labelled images, {lead(rows.iloc[k], against, VIT)}." for k in ends]


def source(name: str) -> str:
    """Return the images of a pretraining in words, empty for the training images themselves."""
    own = {"shapes:position=free": "drawn shapes", "tiny_imagenet20": "20 classes of Tiny-ImageNet"}
    return "" if name in ("", "pool", "fractals") else f" on {own.get(name, name)}"


def recovered(rows: pd.DataFrame) -> list[str]:
    """Return what recovers part of the shortfall, at the size where most is shown, and what is not shown to.

    A regime of which a pretraining learned nothing is named alone: its number says nothing about the regime.
    """
    names = [start_words(row["regime"]) + source(row["source"]) for row in rows.to_dict("records")]
    rows = rows.assign(name=names)
    dead = rows["untrained"].astype(bool)
    untrained = sorted(set(rows.loc[dead, "name"]))
    rows = rows[~dead]
    wide = rows["high"] - rows["low"] > 2  # an interval of more than 200 % says nothing
    shown = rows[(rows["low"] > 0) & ~wide].sort_values("low")
    nothing = sorted(set(rows["name"]) - set(shown["name"]))
    said = []
    if len(shown):
        size = shown.iloc[-1]["size"]
        best = shown[shown["size"] == size].iloc[::-1].to_dict("records")
        each = [
            f"{r['name']} recovers {percent(r['recovery'])} (95 % CI {whole(r['low'])} to {percent(r['high'])}"
            f"{', given one pretraining' if r['shared'] else ''})"
            for r in best
        ]
        gap = points(best[0]["shortfall"])
        said.append(f"Of the shortfall of {gap} points at {size:,} labels, {listed(each)}.")
    if nothing or not said:
        said.append(f"No recovery is shown for {listed(nothing or ['any pretraining'])}.")
    if untrained:
        said.append(f"Nothing is said of {listed(untrained)}, since not every pretraining learned.")
    return said


def small_data(rows: pd.DataFrame) -> list[str]:
    flagged = statistics.unsound(rows)
    said = [*shortfalls(statistics.shortfall(rows), flagged, cnns(rows)), *recovered(statistics.recovery(rows))]
    return said[-3:]  # what recovers nothing is said too, rather than the shortfall at the smallest size


def pretrained(rows: pd.DataFrame) -> list[str]:
    """Return the shortfall at the largest size, what each pretraining recovers, and how zero steps compare."""
    (*_, gap) = shortfalls(statistics.shortfall(rows), statistics.unsound(rows), cnns(rows))
    moved = statistics.moved(rows, axis="pretraining_samples_seen")
    beside = []
    for row in moved[moved["value"].astype(float).eq(0)].to_dict("records"):
        name = start_words(row["regime"])
        trained = dict(shortfall=-row["change"], low_any=-row["high_any"], high_any=-row["low_any"])
        told = lead(trained, f"a ViT after {name}", f"a ViT after zero steps of {name}")
        so = ", so no gain is shown to come from its training" if trained["low_any"] <= 0 else ""
        beside.append(f"At {row['size']:,} labels, {told}{so}.")
    return [gap, " ".join(recovered(statistics.recovery(rows))), " ".join(beside)]


def locality(rows: pd.DataFrame) -> list[str]:
    """Return the report's answer at the largest size, and the lead where whole patches are permuted."""
    ((_, view, *_),) = findings.split(rows)
    (*_, answer) = worded(evidence.section(view), "classify", "ResNet").text
    arms = statistics.arms(rows, axis="intervention")
    size = arms["size"].max()
    sentences = [answer]
    for row in arms[(arms["size"] == size) & arms["value"].str.startswith("permute_patches")].to_dict("records"):
        where = value_words("intervention", row["value"])
        sentences.append(f"With {where}, {lead(row, 'the ResNet', 'the plain ViT')}.")
    linear = rows[rows["backbone"].eq("pixels") & rows["size"].eq(size) & rows["intervention"].eq("")]
    sentences.append(f"A linear classifier on pixels reaches {points(linear['top1'].mean())} %.")
    return sentences


def photographs(rows: pd.DataFrame) -> list[str]:
    scratch, likewise = statistics.shortfall(rows), statistics.likewise(rows)
    vit, cnn = "the DeiT", "the EfficientNet"
    size = scratch["size"].max()
    flagged = {at: flags for at, flags in statistics.unsound(rows).items() if at == size}
    gains = statistics.gains(rows)
    gains = gains[gains["size"] == size].set_index("family")
    return [
        f"From scratch with {size:,} labels the two are not compared, since {not_sound(flagged, rows, vit, cnn)}."
        if flagged
        else f"From scratch with {size:,} labels, {lead(scratch.iloc[-1], cnn, vit)}.",
        added(gains.loc["transformer"], gains.loc["cnn"], vit, cnn),
        f"Where both start from these weights, {lead(likewise[likewise['size'] == size].iloc[0], cnn, vit)}.",
    ]


def added(vit: Any, cnn: Any, vit_words: str, cnn_words: str) -> str:
    """Return what ImageNet's weights add to each backbone, or that it is not shown. vit, cnn: of `statistics.gains`."""
    sides = {vit_words: vit, cnn_words: cnn}
    shown = [f"{points(row['gain'])} points ({interval(row)}) to {name}" for name, row in sides.items() if is_gain(row)]
    open_ = [
        f"{name} ({interval(row)} points{', before a correction' if row['low_any'] > 0 else ''})"
        for name, row in sides.items()
        if not is_gain(row)
    ]
    first = f"With as many labels, ImageNet's weights add {', and '.join(shown)}" if shown else "With as many labels"
    rest = f"no gain of {' or '.join(open_)} from ImageNet's weights is shown" if not shown else ""
    rest = rest or f"and no gain of {open_[0]} is shown" if open_ else ""
    return ", ".join(part for part in (first, rest) if part) + "."


def is_gain(row: Any) -> bool:
    return bool(row["low_any"] > 0 and row["p_holm"] <= 0.05)  # corrected over the gains of its table


def not_sound(flagged: Mapping[int, Mapping[str, tuple[str, ...]]], rows: pd.DataFrame, vit: str, cnn: str) -> str:
    """Return why nothing is claimed at the largest size. flagged: that size alone → its flags. vit, cnn: in words."""
    (size,) = flagged
    text = claims.reasons(flagged, [size]).replace(f" at N = {size:,}", "")
    families = rows.drop_duplicates("backbone").set_index("backbone")["family"]
    for backbone, family in families.items():
        text = text.replace(str(backbone), vit if family == "transformer" else cnn)
    return text


def seed_claim(rows: pd.DataFrame) -> list[str]:
    said = []
    for of in ("efficientvit", "mobilevit"):
        row = statistics.shortfall(rows, of=of, against="mobilenetv3").iloc[0]
        said.append(f"From scratch with {int(row['size']):,} labels, {lead(row, NAMES['mobilenetv3'], NAMES[of])}.")
    after = []
    for of in ("efficientvit", "mobilevit"):
        row = statistics.likewise(rows, of=of, against="mobilenetv3").iloc[0]
        given = " (one for all replicates)" if row["shared"] else ""
        after.append(f"After the same pretraining{given}, {lead(row, NAMES['mobilenetv3'], NAMES[of])}.")
    return [*said, " ".join(after)]


def seed_claim_settled(rows: pd.DataFrame) -> list[str]:
    """Return how far the pair differs settled, and after the epochs of the observation."""
    said = []
    epochs = (rows["samples_seen"] / rows["size"])[rows["comparison"] == "equal"].mean()
    budgets = {"settled": "each trained until it stops improving", "equal": f"after {epochs:.0f} epochs each"}
    for comparison, how in budgets.items():
        row = statistics.gaps(rows, of="efficientvit", against="mobilenetv3", comparison=comparison).iloc[0]
        told = lead(row, NAMES["mobilenetv3"], NAMES["efficientvit"])
        said.append(f"From scratch with {int(row['size']):,} labels, {how}, {told}.")
    return said


def drawn_shapes(rows: pd.DataFrame) -> list[str]:
    """Return how accurate both are settled, even where that is too high for a headline, after how many images, and
    what a linear classifier on pixels tells."""
    known = rows[rows["comparison"].eq("settled") & rows["family"].isin(["transformer", "cnn"])]
    (recipe,) = known["recipe"].unique()
    said = [f'Each was trained under the "{recipe}" recipe alone until it stopped improving.']
    for size in sorted(known["size"].unique()):
        vit, cnn = (known[known["size"].eq(size) & known["family"].eq(name)] for name in ("transformer", "cnn"))
        gap = statistics.gaps(rows, comparison="settled").set_index("size").loc[size]
        said.append(
            f"At {size:,} labels {VIT} reaches {points(vit['top1'].mean())} % after {int(vit['samples_seen'].max()):,} "
            f"images seen, and a ResNet {points(cnn['top1'].mean())} % after {int(cnn['samples_seen'].max()):,}. There "
            f"{lead(gap, 'the ResNet', 'the plain ViT')}{uncorrected(gap)}."
        )
    pixels = rows[rows["backbone"].eq("pixels") & rows["protocol"].eq("linear_probe")].groupby("size")["top1"].mean()
    levels = [f"{points(pixels[size])} % at {size:,} labels" for size in sorted(known["size"].unique())]
    chance = percent(statistics.chance(rows))
    return [" ".join(said), f"A linear classifier on pixels is at {listed(levels)}, and chance is {chance}."]


CLOTHES = "Fashion-MNIST, 10,000 + 2,000 grey images of 28 px"
SHAPES = "drawn shapes at a free position, 10,000 + 2,000 grey images of 32 px"
CIFAR = "CIFAR-10, a sample of 10,000 + 2,000 images of 32 px, compressed as JPEG"
STUDIES = {
    "small data cifar10": Study(
        "small_data_cifar10", "On CIFAR-10, settled", CIFAR, ("settled", 0), ("settled-shortfall", 0),
        ("each", "parts", "settled-cells", "shortfall", "cells", "priors", "controls", "ladders"), small_data,
        parts=tuple(f"small_data_cifar10_{part}" for part in ("strong", "desk", "efficientnet", "3000", "9000")),
    ),
    "small data fashion": Study(
        "small_data_fashion", "On Fashion-MNIST, settled", CLOTHES, ("settled", 0), ("settled-shortfall", 0),
        ("parts", "settled-cells", "shortfall", "cells", "recovery", "pretraining_samples_seen", "controls", "ladders"),
        small_data,
    ),
    "small data shapes": Study(
        "small_data_shapes", "On drawn shapes, settled", SHAPES, ("ladders", 0), ("ladders", 0),
        ("shortfall", "controls"), drawn_shapes, parts=("small_data_shapes_300",), pair=("vit", "resnet"),
    ),
    "locality shapes": Study(
        "locality_shapes", "On drawn shapes", SHAPES, ("intervention", 0), ("intervention", 0),
        ("intervention", "ladders"), locality, pair=("vit", "resnet"),
    ),
    "locality cifar10": Study(
        "locality_cifar10", "On CIFAR-10", CIFAR, ("intervention", 0), ("intervention", 0),
        ("intervention", "ladders"), locality, pair=("vit", "resnet"),
    ),
    "pretraining regimes": Study(
        "pretraining_cifar10", "Every regime", CIFAR.replace(",", " with pretrainings of 40,000 images,", 1),
        ("figure", 0), ("recovery", 1), ("recovery", "pretraining_samples_seen", "priors", "samples_seen"), pretrained,
    ),
    "pretraining cifar10": Study(
        "small_data_cifar10_pretraining", "Twice as long",
        CIFAR.replace(",", " with pretrainings of 80,000 images,", 1), ("pretraining_samples_seen", 0), ("recovery", 1),
        ("recovery", "pretraining_samples_seen", "priors", "samples_seen", "controls"), pretrained,
    ),
    "weights flowers8 tuned": Study(
        "weights_flowers8_tuned", "Flowers, each start tuned",
        "eight kinds of flowers with tuned rates, 360 + 120 photographs at 96 px",
        ("figure", 0), ("recovery", 2), ("recovery",), photographs,
    ),
    "weights flowers8": Study(
        "weights_flowers8", "Flowers, more labels",
        "eight kinds of flowers with rates chosen on CIFAR-10, 360 + 120 photographs at 96 px", ("figure", 0),
        ("recovery", 2), ("recovery",), photographs,
    ),
    "weights cifar10": Study(
        "weights_cifar10", "CIFAR-10, each start tuned",
        f"{CIFAR.replace(',', ' with tuned rates,', 1)}, enlarged to 96 px", ("figure", 0), ("recovery", 2),
        ("recovery",), photographs,
    ),
    "weights pets3": Study(
        "weights_pets3", "Pets, each start tuned",
        "three breeds of Oxford-IIIT Pet with tuned rates, 180 + 60 photographs at 96 px", ("figure", 0),
        ("recovery", 2), ("recovery",), photographs,
    ),
    "seed claim settled": Study(
        "seed_claim_desk", "MobileNetV3 against EfficientViT, settled", CLOTHES, ("epochs", 0), ("shortfall", 1),
        ("shortfall", "settled-cells", "epochs", "ladders"), seed_claim_settled, pair=("efficientvit", "mobilenetv3"),
    ),
    "seed claim flowers": Study(
        "seed_claim_flowers", "On photographs", "eight kinds of flowers, 360 + 120 photographs at 64 px", ("epochs", 0),
        ("shortfall", 1), ("shortfall", "settled-cells", "epochs", "ladders"), seed_claim_settled,
        pair=("efficientvit", "mobilenetv3"),
    ),
    "seed claim": Study(
        "seed_claim", "MobileNetV3 against EfficientViT", CLOTHES, ("epochs", 0), ("epochs", 0), ("shortfall",),
        seed_claim,
    ),
}  # fmt: skip

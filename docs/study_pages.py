"""Write what the pages of the site say about a study: its state, a figure, sentences and tables, from its table alone.

docs/write_docs.py puts them into the pages. The sentences hold for any outcome, so that a new table needs no new words.
"""

import re
from collections.abc import Callable, Collection, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from bias_lab import results, statistics
from bias_lab.report import pages, report
from bias_lab.report.evidence import claims
from bias_lab.report.figures import draw
from bias_lab.report.figures.chart import Chart
from bias_lab.report.figures.palette import DARK, LIGHT
from bias_lab.report.sentences import start_words, value_words

FOLDER = Path(__file__).parent / "results"
PAIR = {"vit": "a plain ViT", "cnn": "CNNs of its size"}
NAMES = {"efficientvit": "EfficientViT", "mobilevit": "MobileViT", "mobilenetv3": "MobileNetV3"}


class Study(NamedTuple):
    """One committed study. folder: under docs/results. name: in a heading. data: its images, in a few words.

    chart, table: (section of the report, which one of that section) of the figure and of the table that are shown.
    folded: further sections whose tables open on a click. say: results table → three sentences.
    """

    folder: str
    name: str
    data: str
    chart: tuple[str, int]
    table: tuple[str, int]
    folded: tuple[str, ...]
    say: Callable[[pd.DataFrame], list[str]]

    @property
    def place(self) -> Path:
        return FOLDER / self.folder


@cache
def page(folder: Path) -> pages.Report:
    """Return the report of a folder, made once."""
    return report.read(folder)


@cache
def table(folder: Path) -> pd.DataFrame:
    return results.read(folder).table


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
        return f"no difference between {behind} and {ahead} is shown ({interval(row)} points)"
    if gap < 0:
        row = dict(low_any=-row["high_any"], high_any=-row["low_any"])
    word = "less" if gap > 0 else "more"
    return f"{behind} is {points(abs(gap))} points {word} accurate than {ahead} ({interval(row)})"


def whole(share: float) -> str:
    return f"{100 * share:.0f}".replace("-", "−")


def percent(share: float) -> str:
    return f"{whole(share)} %"


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def listed(parts: list[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def shortfalls(rows: pd.DataFrame, flagged: Collection[int]) -> list[str]:
    """Return a sentence on the shortfall at the smallest and at the largest size that allows a claim.

    flagged: the sizes that allow none.
    """
    rows = rows[~rows["size"].isin(flagged)]
    ends = dict.fromkeys((0, len(rows) - 1)) if len(rows) else {}
    return [
        f"With {int(rows.iloc[k]['size']):,} labelled images, {lead(rows.iloc[k], PAIR['cnn'], PAIR['vit'])}."
        for k in ends
    ]


def source(name: str) -> str:
    """Return the images of a pretraining in words, empty for the training images themselves."""
    return {"": "", "pool": "", "fractals": "", "shapes:position=free": " on drawn shapes"}.get(name, f" on {name}")


def recovered(rows: pd.DataFrame) -> list[str]:
    """Return what recovers part of the shortfall, at the size where most is shown, and what is not shown to."""
    rows = rows[~rows["untrained"].astype(bool)].copy()
    rows["name"] = [start_words(row["regime"]) + source(row["source"]) for row in rows.to_dict("records")]
    wide = rows["high"] - rows["low"] > 2  # an interval of more than 200 % says nothing
    shown = rows[(rows["low"] > 0) & ~wide].sort_values("low")
    nothing = sorted(set(rows["name"]) - set(shown["name"]))
    said = []
    if len(shown):
        size = shown.iloc[-1]["size"]
        best = shown[shown["size"] == size].iloc[::-1].to_dict("records")
        each = [
            f"{r['name']} recovers {percent(r['recovery'])} (95 % CI {whole(r['low'])} to {percent(r['high'])})"
            for r in best
        ]
        said.append(f"Of this shortfall at {size:,} labels, {listed(each)}.")
    if nothing or not said:
        said.append(f"No recovery is shown for {listed(nothing or ['any pretraining'])}.")
    return said


def small_data(rows: pd.DataFrame) -> list[str]:
    flagged = statistics.unsound(rows)
    return [*shortfalls(statistics.shortfall(rows), flagged), *recovered(statistics.recovery(rows))]


def locality(rows: pd.DataFrame) -> list[str]:
    arms = statistics.arms(rows, axis="intervention")
    size = arms["size"].max()
    sentences = []
    for row in arms[arms["size"] == size].to_dict("records"):
        where = value_words("intervention", row["value"])
        sentences.append(f"With {where} and {size:,} labels, {lead(row, 'the ResNet', 'the plain ViT')}.")
    return sentences


def photographs(rows: pd.DataFrame) -> list[str]:
    scratch, likewise = statistics.shortfall(rows), statistics.likewise(rows)
    gains = statistics.recovery(rows)
    words = ("the EfficientNet", "the DeiT")
    size = scratch["size"].max()
    flagged = {at: flags for at, flags in statistics.unsound(rows).items() if at == size}
    return [
        claims.unclaimed(flagged, rows)[0].replace("claimed", "claimed from scratch", 1)
        if flagged
        else f"From scratch with {size:,} labels, {lead(scratch.iloc[-1], *words)}.",
        f"ImageNet's weights add {points(gains['gain'].min())} to {points(gains['gain'].max())} points to the DeiT."
        if gains["gain"].min() != gains["gain"].max()
        else f"ImageNet's weights add {points(gains['gain'].max())} points to the DeiT.",
        f"Where both start from these weights, {lead(likewise[likewise['size'] == size].iloc[0], *words)}.",
    ]


def seed_claim(rows: pd.DataFrame) -> list[str]:
    said = []
    for of in ("efficientvit", "mobilevit"):
        row = statistics.shortfall(rows, of=of, against="mobilenetv3").iloc[0]
        said.append(f"From scratch with {int(row['size']):,} labels, {lead(row, NAMES['mobilenetv3'], NAMES[of])}.")
    row = statistics.likewise(rows, of="efficientvit", against="mobilenetv3").iloc[0]
    said.append(f"After the same pretraining, {lead(row, NAMES['mobilenetv3'], NAMES['efficientvit'])}.")
    return said


CLOTHES = "Fashion-MNIST, 10,000 + 2,000 grey images of 28 px"
CIFAR = "CIFAR-10, a sample of 10,000 + 2,000 images of 32 px, compressed as JPEG"
STUDIES = {
    "small data": Study(
        "", "The small-data shortfall", CLOTHES, ("figure", 0), ("shortfall", 0), ("recovery", "budget", "parts"),
        small_data,
    ),
    "locality": Study(
        "locality", "Is it locality?", CLOTHES, ("intervention", 0), ("intervention", 0), (), locality
    ),
    "pretraining cifar10": Study(
        "pretraining_cifar10", "On CIFAR-10", CIFAR, ("shortfall", 0), ("recovery", 0), ("recovery",), small_data
    ),
    "pretraining": Study(
        "pretraining", "On Fashion-MNIST", CLOTHES, ("figure", 0), ("recovery", 0), ("recovery",), small_data
    ),
    "weights flowers8": Study(
        "weights_flowers8", "Flowers", "eight kinds of flowers, 360 + 120 photographs at 96 px", ("figure", 0),
        ("recovery", 2), ("recovery",), photographs,
    ),
    "weights cifar10": Study(
        "weights_cifar10", "CIFAR-10", f"{CIFAR}, enlarged to 96 px", ("figure", 0), ("recovery", 2), ("recovery",),
        photographs,
    ),
    "weights pets3": Study(
        "weights_pets3", "Pets", "three breeds of Oxford-IIIT Pet, 180 + 60 photographs at 96 px", ("figure", 0),
        ("recovery", 2), ("recovery",), photographs,
    ),
    "seed claim": Study(
        "seed_claim", "MobileNetV3 against EfficientViT", CLOTHES, ("epochs", 0), ("epochs", 0), ("shortfall",),
        seed_claim,
    ),
}  # fmt: skip


def is_settled(study: Study) -> bool:
    """Return whether the report of a study has a headline, which only settled cells are allowed."""
    return any(head.headline for head in page(study.place).heads)


def sentences(study: Study) -> list[str]:
    """Return the headline of a settled study with what supports it, or else three sentences at equal images."""
    heads = [head for head in page(study.place).heads if head.headline]
    if heads:
        return [heads[0].headline, *heads[0].support][:3]
    return study.say(table(study.place))[:3]


# --- blocks of a page ------------------------------------------------------------------------------------------------

UNSETTLED = (
    "Each of these runs stopped after a fixed number of images, before it was shown that more training no longer "
    "helps. The numbers compare the backbones at that budget and are no headline."
)


def parts(study: Study) -> Iterator[str]:
    """Yield a study's part of a page: its state, the figure, the sentences, the table, and what opens on a click."""
    read = page(study.place)
    yield f"*Data: {study.data}. {' '.join(read.facts)}*"
    if not is_settled(study):
        yield f"> **Not settled.** {UNSETTLED}"
    yield image(study, "../")
    yield " ".join(sentences(study))
    yield pages.markdown(section(study, study.table[0]).tables[study.table[1]])
    yield folded("How sure this is", [read.answers[0][2], *(f"- {text}" for text in read.caveats)])
    more = [one for name in study.folded for one in section(study, name).tables if one.rows]
    shown = section(study, study.table[0]).tables[study.table[1]]
    yield folded("More tables", [pages.markdown(one) for one in more if one is not shown])


def block(study: Study) -> str:
    return "\n\n".join(filter(None, parts(study)))


def folded(title: str, texts: list[str]) -> str:
    """Return Markdown that opens on a click, empty without text."""
    inner = "\n\n".join(filter(None, texts))
    return f"<details><summary>{title}</summary>\n\n{inner}\n\n</details>" if inner else ""


def section(study: Study, name: str) -> pages.Section:
    return next(one for one in page(study.place).sections if one.name == name)


def chart_of(study: Study) -> Chart:
    return section(study, study.chart[0]).charts[study.chart[1]]


def figure(study: Study) -> str:
    """Return the path of a study's figure below the project's root, without `-wide.svg` or `-narrow.svg`."""
    return "/".join(filter(None, ("docs/results", study.folder, "figures", chart_of(study).name)))


def words(study: Study) -> str:
    """Return what a study's figure shows, with what its y axis shows."""
    chart = chart_of(study)
    return f"{chart.title} ({chart.ylabel})"


def image(study: Study, up: str) -> str:
    """Return the Markdown of a study's figure. up: the way from the page's folder to docs/."""
    return f"![{words(study)}]({up}{figure(study).removeprefix('docs/')}-wide.svg)"


def drawings(study: Study) -> Iterator[tuple[str, str]]:
    """Yield (path below the root, SVG) of a study's figure, wide and narrow. Each follows light and dark by itself."""
    for name, frame in (("wide", draw.WIDE), ("narrow", draw.NARROW)):
        yield f"{figure(study)}-{name}.svg", standalone(draw.svg(chart_of(study), frame))


def standalone(text: str) -> str:
    """Return an inline `<svg>` of the report as a file: with colours for light and dark, and tips as titles."""
    light, dark = ("".join(f"--{name}:{colour};" for name, colour in part.items()) for part in (LIGHT, DARK))
    style = f"<style>svg{{{light}background:var(--paper);font-family:system-ui,sans-serif}}.hit{{fill:transparent}}"
    style += f"@media(prefers-color-scheme:dark){{svg{{{dark}}}}}</style>"
    head, _, rest = text.partition(">")
    rest = _tips(rest)
    return f'{head} xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">{style}{rest}\n'


def _tips(text: str) -> str:
    return re.sub(
        r'<g class="point" data-tip="([^"]*)" tabindex="0" role="img" aria-label="[^"]*">',
        r'<g class="point"><title>\1</title>',
        text,
    )


def pixels() -> str:
    """Return how far the pixels of JPEGs move a cell's accuracy: the same runs on them and on the original ones."""
    jpeg, original = (table(FOLDER / "cifar10_pixels" / name) for name in ("jpeg", "original"))
    paired = jpeg.merge(original, on=["backbone", "size", "draw", "seed"], suffixes=("", "_original"))
    paired["change"] = paired["top1_original"] - paired["top1"]
    rows = [
        (
            pages.Cell(backbone),
            pages.Cell(f"{size:,}", size),
            *(pages.points(part[name].mean()) for name in ("top1", "top1_original", "change")),
            pages.Cell(f"{points(part['change'].min())} to {points(part['change'].max())}", part["change"].min()),
            pages.Cell(str(len(part)), len(part)),
        )
        for (backbone, size), part in paired.groupby(["backbone", "size"])
    ]
    names = ("backbone", "N", "JPEG, %", "original, %", "original minus JPEG, points", "lowest to highest", "n")
    columns = tuple((name, "") for name in names)
    shown = pages.Table(title="The same cells on both copies", columns=columns, rows=tuple(rows))
    marks = [one["dataset_fingerprint"].iloc[0] for one in (jpeg, original)]
    return f"{pages.markdown(shown)}\n\nFingerprints: {marks[0]} (JPEG) and {marks[1]} (original pixels)."


PAGES = {  # page below studies/ → its question's short name, and its studies
    "small_data": ["small data"],
    "locality": ["locality"],
    "pretraining": ["pretraining cifar10", "pretraining"],
    "imagenet_weights": ["weights flowers8", "weights cifar10", "weights pets3"],
    "seed_claim": ["seed claim"],
}


def overview() -> str:
    """Return the list of studies: the question with a link, and for each dataset its state and three sentences."""
    lines = []
    for page_name, names in PAGES.items():
        lines.append(f"### [{page(STUDIES[names[0]].place).question}](studies/{page_name}.md)")
        for study in map(STUDIES.__getitem__, names):
            state = "settled" if is_settled(study) else "not settled"
            lines.append(f"**{capital(study.data.split(',')[0])}** ({state}). {' '.join(sentences(study))}")
    return "\n\n".join(lines)

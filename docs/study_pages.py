"""Write what the pages of the site say about a study: its state, a figure, sentences and tables, from its table alone.

docs/write_docs.py puts them into the pages. docs/study_list.py lists the studies.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import other_recipes
import pandas as pd
from study_list import FOLDER, STUDIES, Study, points

from bias_lab import results, statistics
from bias_lab.report import findings, pages, report
from bias_lab.report.evidence import head
from bias_lab.report.evidence.headline import ALONE
from bias_lab.report.evidence.parts import COMPARISONS
from bias_lab.report.figures import draw
from bias_lab.report.figures.chart import Chart
from bias_lab.report.figures.palette import DARK, LIGHT
from bias_lab.report.replicates import draws
from bias_lab.report.sentences import capital, method


@cache
def page(*folders: Path) -> pages.Report:
    """Return the report of a study's folders, made once."""
    return report.read(*folders)


@cache
def table(*folders: Path) -> pd.DataFrame:
    return findings.with_names(results.open_results(*folders)).table


def is_settled(study: Study) -> bool:
    """Return whether the report of a study has a headline, which only settled cells are allowed.

    A study that names its pair is settled if the pair is, at some size, though both may be too accurate for a headline.
    """
    if not study.pair:
        return bool(headed(study))
    of, against = study.pair
    rows = table(*study.places)
    flagged = statistics.unsound(rows, of=of, against=against, comparison="settled")
    gaps = statistics.gaps(rows, of=of, against=against, comparison="settled")
    return any(not set(flagged.get(size, ())) - {"ceiling"} for size in gaps["size"])


def sentences(study: Study) -> list[str]:
    """Return the headline of a settled study with what supports it, or else the study's own sentences, at most three.

    The shortfall under each recipe, if there are several, two sentences of support and one for each further size follow
    a headline.
    """
    if heads := headed(study):
        alone = by_recipe(heads[0])
        others = [text for text in heads[0].support if text not in alone]
        return list(dict.fromkeys([heads[0].headline, *alone, *others[:2], *further(heads[0])]))
    return study.say(table(*study.places))[:3]


def headed(study: Study) -> list[pages.Head]:
    """Return the heads of a study's report that have a headline, none for a study that names its pair."""
    return [] if study.pair else [one for one in page(*study.places).heads if one.headline]


def by_recipe(of: pages.Head) -> list[str]:
    """Return the sentence of a headline on its shortfall under each recipe alone, [] where its cells have one."""
    return [text for text in of.support if text.startswith(ALONE.format(what="recipe"))]


def further(of: pages.Head) -> list[str]:
    """Return the sentences of a headline on its further sizes."""
    return [text for text in of.support if re.match(r"At [\d,]+ labels", text)]


def in_full(study: Study) -> list[str]:
    """Return the sentences of the study's own page: with all that supports a headline, and what warns of it."""
    heads = headed(study)
    return [heads[0].headline, *heads[0].support, *heads[0].banner] if heads else sentences(study)


# --- blocks of a page ------------------------------------------------------------------------------------------------

UNSETTLED = (
    "Each of these runs stopped after a fixed number of images, before it was shown that more training no longer "
    "helps. The numbers compare the backbones at that budget and are no headline."
)


def parts(study: Study) -> Iterator[str]:
    """Yield a study's part of a page: its state, the figure, the sentences, the table, and what opens on a click."""
    read = page(*study.places)
    yield f"*Data: {study.data}. {' '.join(read.facts)}*"
    if not is_settled(study):
        yield f"> **Not settled.** {UNSETTLED}"
    yield image(study, "../")
    yield " ".join(in_full(study))
    yield other_recipes.said(table(*study.places), other_recipes.rows())
    yield pages.markdown(section(study, study.table[0]).tables[study.table[1]])
    yield folded(
        "How sure this is",
        [sure(study), *(f"- {text}" for text in read.caveats if "see Provenance" not in text)],
    )
    more = [(name, one) for name in study.folded for one in section(study, name).tables if one.rows]
    shown = section(study, study.table[0]).tables[study.table[1]]
    yield folded("More tables", [pages.markdown(titled(study, name, one)) for name, one in more if one is not shown])


def sure(study: Study) -> str:
    """Return how the shortfall was tested that the page shows: that of settled cells where there is a headline."""
    if not is_settled(study):
        told = page(*study.places).answers[0][2]
        alike = statistics.likewise(findings.split(table(*study.places))[0][1])
        return told if "Intervals" in told or not len(alike) else f"{told} {method(alike)}"  # none is from scratch
    view = findings.split(table(*study.places))[0][1]
    of, against = study.pair or (head.OF, head.group(head.numbers(view)))
    gaps = statistics.gaps(view, of=of, against=against, comparison="settled")
    return f"{draws(view)} {method(gaps)}"


def block(study: Study) -> str:
    return "\n\n".join(filter(None, parts(study)))


def folded(title: str, texts: list[str]) -> str:
    """Return Markdown that opens on a click, empty without text."""
    inner = "\n\n".join(filter(None, texts))
    return f"<details><summary>{title}</summary>\n\n{inner}\n\n</details>" if inner else ""


def section(study: Study, name: str) -> pages.Section:
    return next(one for one in page(*study.places).sections if one.name == name)


def titled(study: Study, name: str, table: pages.Table) -> pages.Table:
    """Return a table of a section with the comparison that the section's title names, as pages don't show that one."""
    held = section(study, name).title.rpartition(", ")[2]
    is_said = held not in COMPARISONS.values() or table.title.endswith(held)
    return table if is_said else replace(table, title=f"{table.title}, {held}")


def chart_of(study: Study) -> Chart:
    return section(study, study.chart[0]).charts[study.chart[1]]


def figure(study: Study) -> str:
    """Return the path of a study's figure below the project's root, without `-wide.svg` or `-narrow.svg`."""
    return "/".join(filter(None, ("docs/results", study.folder, "figures", chart_of(study).name)))


def words(study: Study) -> str:
    """Return what a study's figure shows, with what its y axis shows."""
    chart = chart_of(study)
    return f"{chart.title} ({chart.ylabel})"


def caption(study: Study) -> str:
    """Return what a study's figure shows, and the sentences on recipes that have to be known beside it."""
    return " ".join(filter(None, [f"{words(study)}.", chart_of(study).recipes]))


def image(study: Study, up: str) -> str:
    """Return the Markdown of a study's figure. up: the way from the page's folder to docs/."""
    return f"![{caption(study)}]({up}{figure(study).removeprefix('docs/')}-wide.svg)"


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
    "small_data": ["small data cifar10", "small data fashion", "small data shapes"],
    "locality": ["locality shapes", "locality cifar10"],
    "pretraining": ["pretraining regimes", "pretraining cifar10"],
    "imagenet_weights": ["weights flowers8 tuned", "weights cifar10", "weights pets3", "weights flowers8"],
    "seed_claim": ["seed claim settled", "seed claim flowers", "seed claim"],
}


def overview() -> str:
    """Return the list of studies: the question with a link, and for each dataset its state and three sentences."""
    lines = []
    for page_name, names in PAGES.items():
        lines.append(f"### [{page(*STUDIES[names[0]].places).question}](studies/{page_name}.md)")
        for study in map(STUDIES.__getitem__, names):
            state = "settled" if is_settled(study) else "not settled"
            lines.append(f"**{capital(study.data.split(', ')[0])}** ({state}). {' '.join(sentences(study))}")
    return "\n\n".join(lines)

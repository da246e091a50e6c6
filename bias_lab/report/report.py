"""Write a folder's report: one self-contained HTML file, Markdown, figures as files, or a few lines for a terminal."""

import base64
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bias_lab import ledger, results
from bias_lab.catalogue import TASKS
from bias_lab.errors import unknown
from bias_lab.report import pages
from bias_lab.report.figures import draw
from bias_lab.report.figures.chart import Chart, percent
from bias_lab.report.figures.palette import DARK, HUES, LIGHT
from bias_lab.report.findings import findings
from bias_lab.report.own import masks, page
from bias_lab.report.sentences import start_words
from bias_lab.rows import image_ious, unpack_scores, worst_median_best
from bias_lab.statistics.conditions import PRETRAINS, finished

MOST_PICTURES = 12
WHICH = ("worst", "median", "best")
FORMATS = ("html", "md", "svg", "png")


def read(*folders: Path) -> pages.Report:
    """Return the report of a folder or a table file, or of several that are parts of one study.

    What lies in the folders themselves comes from the first of them that has it, pictures of pretrainings from all.
    Raises UserError if one can't be read.
    """
    places = [Path(folder) for folder in folders]
    parts = [results.read(place) for place in places]
    report = findings(results.open_results(*parts))
    pairs = list(zip(places, parts, strict=True))
    # two parts may share a pretraining, whose pictures are shown once
    different = dict.fromkeys(one for place, part in pairs for one in pictures(place, part.table))
    shown = tuple(different)[:MOST_PICTURES]
    drawn = pages.Section(name="pictures", title="Pictures of the pretrainings", pictures=shown, folded=True)
    seen = next(filter(None, (test_images(place, part) for place, part in pairs)), None)
    own = next(filter(None, (page.of_folder(place, part.table) for place, part in pairs)), ())
    own += next(filter(None, (masks.of_folder(place, part.table) for place, part in pairs)), ())
    sections = report.sections
    at = next((k for k, one in enumerate(sections) if one.folded), len(sections))
    return replace(report, sections=tuple(filter(None, (*sections[:at], seen, *own, *sections[at:], drawn))))


def pictures(folder: Path, table: pd.DataFrame) -> tuple[tuple[str, bytes], ...]:
    """Return (caption, PNG) of what pretrainings drew (reconstructions, attention), where run folders are at hand."""
    shown = []
    for row in table[table["task"].isin(PRETRAINS) & (table["status"] == "finished")].to_dict("records"):
        start = start_words(row["regime"], source=row["source"])
        for path in sorted(ledger.run_folder(folder, str(row["run_id"])).glob("*.png")):
            shown.append((f"{path.stem.replace('_', ' ').capitalize()}: {row['backbone']}, {start}", path.read_bytes()))
    return tuple(shown)


def test_images(folder: Path, results_read: results.Results) -> pages.Section:
    """Return the section with the worst, the median and the best test image of one run with masks, which it names.

    The run is the first in the plan of those with most labelled images. Its pictures lie in its folder. Where they are
    gone, one line says so. The section is empty where no run has masks.
    """
    section = pages.Section(name="test-images", title="Test images: the worst, the median and the best")
    table = finished(results_read.table)
    table = table[[TASKS[str(task)].dense for task in table["task"]]]
    if not len(table):
        return section
    row = table.sort_values("size", ascending=False, kind="stable").iloc[0]
    name = str(row["run_id"])
    run = results_read.plan.labels.get(name) or f"{row['backbone']} at N = {row['size']}, draw {row['draw']}"
    paths = [ledger.run_folder(folder, name) / f"test_{which}.png" for which in WHICH]
    if not all(path.is_file() for path in paths):
        gone = f"There are no pictures of test images here: the folder of run {name} has none or is gone."
        return replace(section, text=(gone,))
    text = (
        f"These are test images of the run {name} ({run}), ranked by the mean IoU of each image alone. From left to "
        "right: the image, its mask (void is left blank), the prediction."
    )
    packed, scores = row["scores"], np.array([])
    if isinstance(packed, bytes):
        scores = image_ious(unpack_scores(packed, int(row["classes"])))
    ranked = worst_median_best(scores)
    named = masks.names(folder, str(row["dataset"]))
    names = named if len(named) == len(scores) else [f"test image {k}" for k in range(len(scores))]
    words = {which: f", mean IoU {percent(float(scores[k]))} %, {names[k]}" for which, k in ranked.items()}
    shown = [(f"{which.capitalize()}{words.get(which, '')}", path.read_bytes())
             for which, path in zip(WHICH, paths, strict=True)]  # fmt: skip
    return replace(section, text=(text,), pictures=tuple(shown))


def write(folder: Path, *parts: Path, format: str = "html", out: Path | None = None) -> Path:  # noqa: A002  the word that users type
    """Write the report and return its path: `report.html`, `report.md`, or `figures/` (SVG and PNG).

    parts: further folders of the same study, whose runs are joined.
    out: the file, or for figures the folder, in place of the one beside the runs of the first folder.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    folder = Path(folder)
    report = read(folder, *parts)
    if format in ("svg", "png"):
        return write_figures(report, out or folder / "figures")
    path = out or folder / (ledger.REPORT if format == "html" else "report.md")
    ledger.write_bytes(path, (html(report) if format == "html" else markdown(report)).encode())
    return path


def html(report: pages.Report) -> str:
    """Return the page as text. No link leads out of it, and it loads no script."""
    parts = dict(wide=_wide, narrow=_narrow, code=_code, base64=lambda data: base64.b64encode(data).decode())
    page = str(_template().render(report=report, light=LIGHT, dark=DARK, hues=HUES, **parts))
    page = re.sub(r"\b([Nn]) = (?=\d)", "\\1\u00a0=\u00a0", page)  # no line breaks within 'N = 100' and '95 %'
    return re.sub(r"(?<=\d) %", "\u00a0%", page)


@cache
def _template() -> Any:
    import jinja2

    source = Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    return jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source)


def _wide(chart: Chart) -> Any:
    return _markup(draw.svg(chart, draw.WIDE))


def _narrow(chart: Chart) -> Any:
    return _markup(draw.svg(chart, draw.NARROW))


def _code(text: str) -> Any:
    """Return a sentence for the page, with what stands in backticks as code."""
    import markupsafe

    return markupsafe.Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(markupsafe.escape(text))))


def _markup(text: str) -> Any:
    import markupsafe

    return markupsafe.Markup(text)  # the drawing escapes every word of the user's


def markdown(report: pages.Report) -> str:
    """Return the report in GitHub's Markdown. Figures are named by their files, which `--format svg` writes."""
    parts = [f"# {report.question}", f"*{report.title}* · {report.status}"]
    for head in report.heads:
        parts += [f"**{head.about}**"] if head.about else []
        parts += [f"> [!IMPORTANT]\n> {' '.join(head.banner)}"] if head.banner else []
        parts += [f"> **{head.headline}** {' '.join(head.support)}".rstrip()] if head.headline else []
        parts += [f"> {' '.join(head.support)}"] if head.support and not head.headline else []
    for about, sentence, _ in report.answers:
        parts.append(f"> **{about}:** {sentence}" if about else f"> {sentence}")
    if report.caveats:
        parts.append("**Read with this in mind**\n\n" + "\n".join(f"- {text}" for text in report.caveats))
    for section in report.sections:
        parts.append(f"## {section.title}")
        parts += section.text
        parts += [f"![{c.title}](figures/{c.name}.svg)\n\n*{c.caption}*" for c in section.charts]
        parts += [pages.markdown(pages.plain_matrix(matrix)) for matrix in section.matrices]
        parts += [pages.markdown(table) for table in section.tables if table.rows]
    return "\n\n".join(parts) + "\n"


def write_figures(report: pages.Report, folder: Path) -> Path:
    """Write every figure of the report as SVG and PNG (300 dpi), and return the folder."""
    for section in report.sections:
        for chart in section.charts:
            draw.save(chart, folder)
    return folder


def summary(folder: Path) -> str:
    """Return plain text for the end of a sweep: headline or banner, answer, the shortfall's tables, what is missing."""
    report = read(folder)
    parts = [" ".join([f"{head.about}:"] * bool(head.about) + head.sentences()) for head in report.heads if head]
    parts += [f"{about}: {sentence}" if about else sentence for about, sentence, _ in report.answers]
    for section in report.sections:
        if section.name.endswith("shortfall"):
            parts += [f"{table.title}\n{pages.plain(table)}" for table in section.tables if table.rows]
    parts.append(report.status)
    return "\n\n".join(parts)

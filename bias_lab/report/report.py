"""A folder → its report: one self-contained HTML file, Markdown, figures as files, or a few lines for a terminal."""

import base64
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from bias_lab import ledger, results
from bias_lab.errors import unknown
from bias_lab.report import draw, pages, tables
from bias_lab.report.figures import HUES, HUES_DARK, Chart
from bias_lab.report.findings import findings

MOST_PICTURES = 12
FORMATS = ("html", "md", "svg", "png")


def read(folder: Path) -> pages.Report:
    """All that the report of a folder says. Raises UserError if the folder or its table can't be read."""
    table = results.collect(Path(folder))
    report, shown = findings(table), pictures(Path(folder), table)
    part = pages.Section(name="pictures", title="Pictures of the pretrainings", pictures=shown, folded=True)
    return replace(report, sections=(*report.sections, part)) if part else report


def pictures(folder: Path, table: pd.DataFrame) -> tuple[tuple[str, bytes], ...]:
    """What pretrainings drew of themselves (reconstructions, attention), where run folders are at hand."""
    found = []
    for row in table[(table["task"] == "pretrain") & (table["status"] == "finished")].to_dict("records"):
        of = tables.regime_told(str(row["regime"]), "finetune", str(row["source"]))
        for path in sorted(ledger.run_folder(folder, str(row["run_id"])).glob("*.png")):
            found.append((f"{path.stem.replace('_', ' ').capitalize()}: {row['backbone']}, {of}", path.read_bytes()))
    return tuple(found[:MOST_PICTURES])


def write(folder: Path, *, format: str = "html") -> Path:  # noqa: A002  the word that users type
    """Write the report beside the runs: `report.html`, `report.md`, or `figures/` (SVG and PNG). Returns its path."""
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    folder = Path(folder)
    report = read(folder)
    if format in ("svg", "png"):
        return write_figures(report, folder / "figures")
    path = folder / (ledger.REPORT if format == "html" else "report.md")
    ledger.write_bytes(path, (html(report) if format == "html" else markdown(report)).encode())
    return path


def html(report: pages.Report) -> str:
    """The page as text: no link leads out of it, no script is loaded."""
    drawn = dict(wide=_wide, narrow=_narrow, base64=lambda data: base64.b64encode(data).decode())
    page = str(_template().render(report=report, light=HUES, dark=HUES_DARK, **drawn))
    page = re.sub(r"\b([Nn]) = (?=\d)", "\\1\u00a0=\u00a0", page)  # no line breaks within 'N = 100'
    return page.replace("95 %", "95\u00a0%")


@cache
def _template() -> Any:
    import jinja2

    source = Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    return jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source)


def _wide(chart: Chart) -> Any:
    return _markup(draw.svg(chart, draw.WIDE))


def _narrow(chart: Chart) -> Any:
    return _markup(draw.svg(chart, draw.NARROW))


def _markup(text: str) -> Any:
    import markupsafe

    return markupsafe.Markup(text)  # drawn by us; every word of the user's in it is escaped there


def markdown(report: pages.Report) -> str:
    """The report in GitHub's Markdown; figures are named by their files (`--format svg` writes them)."""
    parts = [f"# {report.question}", f"*{report.title}* · {report.status}"]
    for about, sentence, _ in report.answers:
        parts.append(f"> **{about}:** {sentence}" if about else f"> {sentence}")
    if report.caveats:
        parts.append("**Read with this in mind**\n\n" + "\n".join(f"- {text}" for text in report.caveats))
    for section in report.sections:
        parts.append(f"## {section.title}")
        parts += section.text
        parts += [f"![{c.title}](figures/{c.name}.svg)\n\n*{c.caption}*" for c in section.charts]
        parts += [pages.markdown(table) for table in section.tables if table.rows]
    return "\n\n".join(parts) + "\n"


def write_figures(report: pages.Report, folder: Path) -> Path:
    """Every figure of the report as SVG and PNG (300 dpi) in `folder`."""
    for section in report.sections:
        for chart in section.charts:
            draw.save(chart, folder)
    return folder


def summary(folder: Path) -> str:
    """For the end of a sweep: the answer, the shortfall's table, what is missing; plain text."""
    report = read(folder)
    parts = [f"{about}: {sentence}" if about else sentence for about, sentence, _ in report.answers]
    for section in report.sections:
        if section.name.endswith("shortfall"):
            parts += [f"{table.title}\n{pages.plain(table)}" for table in section.tables if table.rows]
    parts.append(report.status)
    return "\n\n".join(parts)

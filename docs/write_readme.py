"""Writes the numbers of README.md from the committed table, so that none is typed.

Run: python docs/write_readme.py            (after docs/results/results.parquet was made anew; a test compares)
"""

import sys
from pathlib import Path

from bias_lab.analysis import pages, report

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
FOLDER = ROOT / "docs" / "results"
BEGIN, END = "<!-- numbers: begin (docs/write_readme.py) -->", "<!-- numbers: end -->"
SHOWN = ("shortfall", "recovery", "longer")  # sections of the report whose tables the README repeats


def block() -> str:
    """The README's numbers: the answer, what was run, the caveats, and the tables that matter most."""
    found = report.read(FOLDER)
    parts = [f"> {sentence}\n>\n> {method}".rstrip("> \n") for _, sentence, method in found.answers]
    parts += [*found.facts, "What the data call for:\n\n" + "\n".join(f"- {text}" for text in found.caveats)]
    for section in found.sections:
        if section.name in SHOWN:
            parts += [pages.markdown(table) for table in section.tables if table.rows]
    return "\n\n".join([BEGIN, *parts, END])


def written(text: str) -> str:
    """The README with its numbers made anew."""
    before, rest = text.split(BEGIN)
    return before + block() + rest.split(END)[1]


if __name__ == "__main__":
    README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"{README.name} written from {FOLDER.relative_to(ROOT)}\n")

"""Colours: they stay apart, can be read, and stand in one file."""

import itertools
import re
from pathlib import Path

import pytest

from bias_lab.report.figures import draw, palette
from bias_lab.report.report import html, read
from tests.planted import curve, rows, table


def _linear(code: str) -> list[float]:
    parts = [int(code[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    return [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]


def _contrast(one: str, other: str) -> float:
    light = sorted(0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b in (_linear(one), _linear(other)))
    return (light[1] + 0.05) / (light[0] + 0.05)


def test_hues_can_be_read_as_text_on_their_page() -> None:
    """WCAG: large text and graphics 3 to 1; all of ours reach 3.5 on white and on the dark page."""
    assert min(_contrast(hue, palette.LIGHT["paper"]) for hue in palette.HUES.values()) >= 3.5
    assert min(_contrast(hue, palette.DARK["paper"]) for hue in palette.HUES_DARK.values()) >= 3.5


# Viénot, Brettel and Mollon 1999: linear RGB as a dichromat sees it
PROTAN = [[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]]
DEUTAN = [[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]]


@pytest.mark.parametrize("eye", [PROTAN, DEUTAN])
@pytest.mark.parametrize("hues", [palette.HUES, palette.HUES_DARK])
def test_hues_stay_apart_for_the_colour_blind(eye: list[list[float]], hues: dict[str, str]) -> None:
    seen = [[sum(a * b for a, b in zip(row, _linear(hue), strict=True)) for row in eye] for hue in hues.values()]
    for one, other in itertools.combinations(seen, 2):
        assert max(abs(a - b) for a, b in zip(one, other, strict=True)) > 0.05


def test_every_colour_stands_in_the_palette_alone(tmp_path: Path) -> None:
    folder = Path(draw.__file__).parents[1]
    texts = {path: path.read_text() for path in (*folder.rglob("*.py"), *folder.glob("*.html"))}
    assert {path.name for path, text in texts.items() if re.search(r"#[0-9a-fA-F]{6}\b", text)} == {"palette.py"}
    table(rows(lambda run: curve(run.size))).to_parquet(tmp_path / "results.parquet")
    page = html(read(tmp_path / "results.parquet"))
    for colours in (palette.LIGHT, palette.DARK):
        assert all(f"--{name}: {colour};" in page for name, colour in colours.items())
    assert palette.HUES["cnn"].lower() not in page.replace(palette.HUES["cnn"], "")  # the charts name variables

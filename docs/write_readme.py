"""Writes the numbers of README.md from the committed table and the committed measurements, so that none is typed.

Run: python docs/write_readme.py            (after a file in docs/results/ was made anew; a test compares)
"""

import json
import sys
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

from bias_lab import catalogue
from bias_lab.report import pages, report
from bias_lab.report.pages import Cell, Table

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
FOLDER = ROOT / "docs" / "results"
SHOWN = ("shortfall", "recovery", "budget")  # sections of the report whose tables the README repeats

Row = dict[str, Any]


def study(folder: Path = FOLDER, shown: tuple[str, ...] = SHOWN, *, caveats: bool = True) -> str:
    """A committed table's numbers: the answer, what was run, the caveats, and the tables that matter most."""
    found = report.read(folder)
    parts = [f"> {sentence}\n>\n> {method}".rstrip("> \n") for _, sentence, method in found.answers]
    parts += found.facts
    if caveats:
        parts += ["What the data call for:\n\n" + "\n".join(f"- {text}" for text in found.caveats)]
    for section in found.sections:
        if section.name in shown:
            parts += [pages.markdown(table) for table in section.tables if table.rows]
    return "\n\n".join(parts)


def matrix() -> str:
    """Which architecture can take which regime, as planning decides it: a row a regime."""
    names = list(catalogue.FAMILIES)
    rows = []
    for regime in catalogue.REGIMES.values():
        able = [not regime.architectures or name in regime.architectures for name in names]
        why = "" if all(able) else regime.why
        rows.append((Cell(f"`{regime.name}`"), *(Cell("yes" if can else "–") for can in able), Cell(why)))
    columns = (("regime", ""), *((name, "") for name in names), ("why not", ""))
    return pages.markdown(Table(title="Backbone × regime", columns=columns, rows=tuple(rows)))


# --- what `bias-lab bench` measured ----------------------------------------------------------------------------------


def measured(name: str) -> list[Row]:
    rows: list[Row] = json.loads((FOLDER / f"bench_{name}.json").read_text(encoding="utf-8"))
    return rows


def ratio(row: Row | None) -> Cell:
    """`1.34 (1.32 to 1.36)`: the median over rounds, and its quartiles."""
    if row is None:
        return Cell("–")
    return Cell(f"{row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})", row["ratio"])


def bench_backbones() -> str:
    """Ours against timm's: a line a case; below it what bf16 does, and where all was measured."""
    rows = measured("backbones")
    plain = [row for row in rows if row["mode"] in ("train", "inference", "inference after training")]
    at = {(row["case"], row["mode"], row["reference"] == "timm"): row for row in plain}
    columns = {
        "training, timm as it comes": ("train", True),
        "training, timm at its best": ("train", False),
        "inference, timm as it comes": ("inference", True),
        "inference, timm at its best": ("inference", False),
        "inference after training, timm as it comes": ("inference after training", True),
    }
    table = Table(
        title="How many times less CPU time than timm, with the same weights",
        columns=(("case", ""), *((name, "") for name in columns)),
        rows=tuple(
            (Cell(case), *(ratio(at.get((case, *which))) for which in columns.values()))
            for case in named(plain, "case")
        ),
        note=sentences(
            f"Medians with quartiles of {counts(plain)} interleaved rounds of one thread",
            "Each case has processes of its own, which infer before they train",
            *places(plain),
            half(rows),
        ),
    )
    return pages.markdown(table) + "\n\n" + micro([row for row in rows if row["mode"] == "micro"])


def micro(rows: list[Row]) -> str:
    """What the laptop's backbones hold and take: a line each, its step against vit_micro's at both ends."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["case"].split()[0], []).append(row)
    table = Table(
        title="The micro sizes: parameters, and how many times `vit_micro`'s training step they take",
        columns=(("backbone", ""), ("parameters, 28 px", ""), ("28 px", ""), ("64 px", "")),
        rows=tuple(
            (Cell(f"`{name}`"), Cell(f"{small['parameters']:,}", small["parameters"]), ratio(small), ratio(large))
            for name, (small, large) in found.items()
        ),
    )
    return pages.markdown(table)


def half(rows: list[Row]) -> str:
    """A sentence on bf16, with what the processor has for it."""
    found = [row for row in rows if row["reference"] == "ours fp32"]
    why = " or ".join(named([row for row in found if "note" in row], "note"))
    return f"bf16 autocast against our own fp32: {span(found)}" + (f" ({why})" if why else "") if found else ""


def bench_data() -> str:
    """Our batches against the usual ways to make them; below, what they cost beside a model, and decoding."""
    rows = measured("data")
    batches, shares, rates = ([row for row in rows if row["mode"] == mode] for mode in ("batch", "share", "decoding"))
    at = {(row["case"], row["reference"]): row for row in batches}
    references = named(batches, "reference")
    table = Table(
        title="How many times less CPU time the making of a batch takes",
        columns=(("case", ""), *((f"than {reference}", "") for reference in references)),
        rows=tuple((Cell(case), *(ratio(at.get((case, r))) for r in references)) for case in named(batches, "case")),
        note=sentences(
            f"Medians with quartiles of {counts(batches)} rounds",
            *places(batches),
            f"The model's share of a training step, in {len(shares)} cases: {span(shares)}" if shares else "",
            *(f"{row['case']}: {ratio(row).text} of {row['reference']}" for row in rates),
        ),
    )
    return pages.markdown(table)


def named(rows: list[Row], key: str) -> list[str]:
    """The values of a column, each once, in order."""
    return list(dict.fromkeys(row[key] for row in rows))


def span(rows: list[Row]) -> str:
    return f"{min(row['ratio'] for row in rows):.2f} to {max(row['ratio'] for row in rows):.2f}"


def counts(rows: list[Row]) -> str:
    """`12`, or `3 to 31`."""
    found = sorted({row["n"] for row in rows})
    return f"{found[0]}" if len(found) == 1 else f"{found[0]} to {found[-1]}"


def places(rows: list[Row]) -> list[str]:
    """The machines and versions that rows name."""
    return named([row for row in rows if "machine" in row], "machine")


def sentences(*parts: str) -> str:
    return " ".join(f"{part}." for part in parts if part)


# --- the file --------------------------------------------------------------------------------------------------------

BLOCKS: dict[str, Callable[[], str]] = {  # name in the README's marker comments → its text
    "numbers": study,
    "matrix": matrix,
    "locality": partial(study, FOLDER / "locality", ("intervention",), caveats=False),
    "pretraining": partial(study, FOLDER / "pretraining_cifar10", ("recovery",), caveats=False),
    "pretraining laptop": partial(study, FOLDER / "pretraining", ("recovery",), caveats=False),
    "seed claim": partial(study, FOLDER / "seed_claim", ("epochs", "shortfall"), caveats=False),
    "weights flowers8": partial(study, FOLDER / "weights_flowers8", ("recovery",), caveats=False),
    "weights cifar10": partial(study, FOLDER / "weights_cifar10", ("recovery",), caveats=False),
    "weights pets3": partial(study, FOLDER / "weights_pets3", ("recovery",), caveats=False),
    "bench backbones": bench_backbones,
    "bench data": bench_data,
}


def written(text: str, names: Collection[str] = tuple(BLOCKS)) -> str:
    """The README with the numbers of these blocks made anew."""
    for name in names:
        block = BLOCKS[name]
        begin, end = f"<!-- {name}: begin (docs/write_readme.py) -->", f"<!-- {name}: end -->"
        before, rest = text.split(begin)
        text = "\n\n".join([before + begin, block(), end + rest.split(end)[1]])
    return text


if __name__ == "__main__":
    README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"{README.name} written from {FOLDER.relative_to(ROOT)}\n")

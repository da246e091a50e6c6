"""Write the tables of `bias-lab bench` from its committed rows. docs/write_docs.py puts them into the pages."""

import json
from pathlib import Path
from typing import Any

from bias_lab.report import pages
from bias_lab.report.pages import Cell, Table
from bias_lab.report.sentences import listed

FOLDER = Path(__file__).parent / "results"

Row = dict[str, Any]


def measured(name: str) -> list[Row]:
    """Return the committed rows of one bench: `case, mode, reference, ratio, low, high, n`, and others."""
    rows: list[Row] = json.loads((FOLDER / f"bench_{name}.json").read_text(encoding="utf-8"))
    return rows


def ratio(row: Row | None) -> Cell:
    """Return the median over rounds with its quartiles: `1.34 (1.32 to 1.36)`."""
    if row is None:
        return Cell("–")
    return Cell(f"{row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})", row["ratio"])


def bench_backbones() -> str:
    """Return the table of our backbones against timm's, a line for each case, with bf16 and the machine below it."""
    rows = measured("backbones")
    steps = [row for row in rows if row["mode"] in ("train", "inference", "inference after training")]
    at = {(row["case"], row["mode"], row["reference"] == "timm"): row for row in steps}
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
            for case in named(steps, "case")
        ),
        note=sentences(
            f"Medians with quartiles of {counts(steps)} interleaved rounds of one thread",
            "Each case has processes of its own, which infer before they train",
            *places(steps),
            half(rows),
        ),
    )
    return pages.markdown(table) + "\n\n" + micro([row for row in rows if row["mode"] == "micro"])


def micro(rows: list[Row]) -> str:
    """Return the table of the micro sizes: parameters, and a training step relative to vit_micro's at two sides."""
    by_name: dict[str, list[Row]] = {}
    for row in rows:
        by_name.setdefault(row["case"].split()[0], []).append(row)
    table = Table(
        title="The micro sizes: parameters, and how many times `vit_micro`'s training step they take",
        columns=(("backbone", ""), ("parameters, 28 px", ""), ("28 px", ""), ("64 px", "")),
        rows=tuple(
            (Cell(f"`{name}`"), Cell(f"{small['parameters']:,}", small["parameters"]), ratio(small), ratio(large))
            for name, (small, large) in by_name.items()
        ),
    )
    return pages.markdown(table)


def half(rows: list[Row]) -> str:
    """Return a sentence on bf16, with the processor's support for it, empty without such rows."""
    ours = [row for row in rows if row["reference"] == "ours fp32"]
    why = " or ".join(named([row for row in ours if "note" in row], "note"))
    said = f"With bf16 autocast our models are {span(ours)} times as fast as with fp32" if ours else ""
    return f"{said} ({why})" if why else said


def bench_data() -> str:
    """Return the table of our batches against the usual ways, with their share of a step and decoding below it."""
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
            f"In {len(shares)} cases the model takes {span(shares)} of the time of a training step" if shares else "",
            *(f"{row['case']}: {ratio(row).text} of the rate of {row['reference']}" for row in rates),
        ),
    )
    return pages.markdown(table)


def bench_study() -> str:
    """Return how long the main study takes from its command to its report, and until its pair is there at each size."""
    (row,) = measured("study")
    pair = [f"{minutes:.0f} minutes at {int(size):,} labels" for size, minutes in row["settled_minutes"].items()]
    often = "once" if row["n"] == 1 else f"{row['n']} times"
    return sentences(
        f"`{row['case']}` took {row['minutes']:.0f} minutes with {row['workers']} workers, {row['runs']} runs in all",
        f"All replicates of the settled pair were finished after {listed(pair)}",
        f"Measured {often}, on {row['date']}: {row['machine']}",
    )


def named(rows: list[Row], key: str) -> list[str]:
    """Return the distinct values of a column, in order."""
    return list(dict.fromkeys(row[key] for row in rows))


def span(rows: list[Row]) -> str:
    """Return the smallest and the largest ratio."""
    return f"{min(row['ratio'] for row in rows):.2f} to {max(row['ratio'] for row in rows):.2f}"


def counts(rows: list[Row]) -> str:
    """Return the number of rounds, or the smallest and the largest: `12`, `3 to 31`."""
    rounds = sorted({row["n"] for row in rows})
    return f"{rounds[0]}" if len(rounds) == 1 else f"{rounds[0]} to {rounds[-1]}"


def places(rows: list[Row]) -> list[str]:
    """Return the machines and versions that rows name."""
    return named([row for row in rows if "machine" in row], "machine")


def sentences(*parts: str) -> str:
    return " ".join(f"{part}." for part in parts if part)

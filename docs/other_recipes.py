"""Say where tuning reached more under another recipe than that of a study's settled cells, from tuned.json alone."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from bias_lab import ledger, tuning
from bias_lab.report.figures.chart import percent

TUNED = Path(__file__).parent.parent / "experiments" / "tuned.json"
Row = Mapping[str, Any]


def rows() -> list[Row]:
    """Return the rows of the committed tuning table."""
    return list(ledger.read_json(TUNED)["rows"])


def said(table: pd.DataFrame, tuned: Iterable[Row]) -> str:
    """Return a sentence on the cells whose hold-out prefers a recipe that the study lacks, '' without any.

    table: of a study. tuned: rows of the tuning table, in which a cell of the study and its rivals are looked up.
    """
    known = [row for row in tuned if "holdout_top1" in row]
    cells = table[table["settled"].fillna(False).astype(bool)] if "settled" in table else table.iloc[:0]
    found = []
    has = set(cells[["backbone", "size", "recipe"]].itertuples(index=False, name=None))
    for cell in cells.drop_duplicates(["backbone", "size", "recipe"]).to_dict("records"):
        alike = [row for row in known if _is_alike(row, cell)]
        own = [row["holdout_top1"] for row in alike if row["recipe"] == cell["recipe"]]
        others = [row for row in alike if row["recipe"] != cell["recipe"]]
        best = max(others, key=lambda row: float(row["holdout_top1"]), default=None)
        if best is None or (cell["backbone"], cell["size"], best["recipe"]) in has:
            continue
        if own and best["holdout_top1"] > own[0]:
            found.append((cell, own[0], best))
    if not found:
        return ""
    each = [
        f"{cell['backbone']} reaches {percent(best['holdout_top1'])} % under `{best['recipe']}` after "
        f"{best['samples_seen']:,} images and {percent(own)} % under `{cell['recipe']}`"
        for cell, own, best in found
    ]
    is_open = [best for *_, best in found if not best.get("settled")]
    names = " and ".join(dict.fromkeys(f"`{best['recipe']}`" for best in is_open))
    rest = f" Under {names} nothing is settled yet: the ladders have not ended." if is_open else ""
    return f"On the hold-out, {'; '.join(each)}. These are other images than the test images above.{rest}"


def _is_alike(row: Row, cell: Mapping[Any, Any]) -> bool:
    """Return whether a row of the tuning table is of a cell of a study, whatever its recipe."""
    names = ("dataset", "backbone", "size", "optimizer", "regime", "protocol", "priors", "intervention")
    return all(tuning.value(row, name) == cell[name] for name in names)

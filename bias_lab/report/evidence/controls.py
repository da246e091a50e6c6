"""Report the controls: rows that say what the other numbers are worth, each with what it says in one sentence.

A control is a backbone that the catalogue lists as one (pixels, an MLP), an untrained backbone that is read out
linearly, or a backbone with a prior that it lacks by default.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd

from bias_lab import catalogue, schema, statistics
from bias_lab.catalogue import PROTOCOLS
from bias_lab.catalogue.priors import prior_words
from bias_lab.report.evidence.parts import COMPARISONS
from bias_lab.report.figures.chart import percent
from bias_lab.report.figures.charts import mean_of
from bias_lab.report.pages import Section, Table
from bias_lab.report.sentences import capital, ends, listed
from bias_lab.report.tables import PAIRS, SIZE, in_ci, in_points, in_words, table_of

HOW = {"knn": "nearest neighbours"}  # protocol → words, where its name is none
NO_BUDGET = "any"  # comparison of what has no training budget
PIXELS = "What a classifier reaches that takes pixels as they are: no neighbourhood, no learned feature."
NETWORK = "What a trained network reaches that assumes nothing about images."
UNTRAINED = "What the random features of this architecture are worth before anything is trained."
VARIANT = "Another width and depth, so a difference is due to these and not to the kind of model."
PRIOR = "The same backbone but for what is named: beside the unchanged one it shows what that is worth."


class Control(NamedTuple):
    """Rows of one control. words: what it is. says: what it shows, in a sentence. comparison: in words."""

    words: str
    says: str
    comparison: str
    rows: pd.DataFrame


def found(view: pd.DataFrame, comparisons: tuple[str, ...]) -> list[Control]:
    """Return the controls of a view, in the order in which they are told. comparisons: those that the view has."""
    several = [one for name in comparisons for one in _of(view, name)]
    seen: set[tuple[str, frozenset[Any]]] = set()
    once = []
    for one in several:  # what has no budget of its own serves both comparisons
        key = one.words, frozenset(one.rows["run_id"])
        if key not in seen:
            seen.add(key)
            once.append(one)
    order = {says: place for place, says in enumerate((PIXELS, NETWORK, UNTRAINED, PRIOR, VARIANT))}
    return sorted(once, key=lambda one: order[one.says])


def _of(view: pd.DataFrame, comparison: str) -> Iterator[Control]:
    rows = statistics.comparable(view, scratch=False, comparison=comparison)
    rows = rows[rows["regime"] == schema.DEFAULTS["regime"]]
    for (backbone, protocol), part in rows.groupby(["backbone", "protocol"], sort=False):
        traits, is_trained = catalogue.traits(str(backbone)), PROTOCOLS[str(protocol)].trains
        how = HOW.get(str(protocol), str(protocol).replace("_", " "))
        words = COMPARISONS[comparison] if is_trained else NO_BUDGET
        if traits.control:
            name = str(backbone) if is_trained else f"{backbone}, {how}"
            yield Control(name, NETWORK if is_trained else PIXELS, words, part)
        elif backbone in catalogue.BACKBONES and catalogue.BACKBONES[str(backbone)].variant and is_trained:
            yield Control(str(backbone), VARIANT, words, part)
        elif not is_trained:
            yield Control(f"{backbone} untrained, {how}", UNTRAINED, words, part)
    if "priors" not in view:
        return
    for priors in sorted(set(view["priors"].fillna("")) - {""}):
        rows = statistics.comparable(view, where={"priors": priors}, comparison=comparison)
        for backbone, part in rows[rows["priors"] == priors].groupby("backbone"):
            yield Control(f"{backbone} with {prior_words(priors)}", PRIOR, COMPARISONS[comparison], part)


def table(view: pd.DataFrame, controls: list[Control]) -> Table:
    """Return a row for each control and size: its accuracy, and how far it lies above plain ViT, paired."""
    records = []
    names = {words: name for name, words in COMPARISONS.items()}
    for one in controls:
        where = names.get(one.comparison, "settled" if "settled" in _present(view) else "equal")
        vit = statistics.select(statistics.comparable(view, comparison=where), "vit")
        gaps = statistics.between(vit, one.rows).set_index("size")
        for size, part in one.rows.groupby("size"):
            of = mean_of(part)
            beside = float(gaps["shortfall"][size]) if size in gaps.index else None
            record = dict(
                control=one.words, comparison=one.comparison, size=size, top1=of.value, low=of.low, high=of.high
            )
            records.append(
                record | dict(beside=beside, n=len(part), says=one.says if size == one.rows["size"].min() else "")
            )
    frame = pd.DataFrame(records)
    return table_of(
        "What the numbers are worth", frame, in_words("control"), in_words("comparison"), SIZE,
        in_points("top1", "test, %", "mean test accuracy"), in_ci("Student's t over replicates"),
        in_points("beside", "above ViT", "points above plain ViT from scratch, paired over replicates"),
        in_words("says", "what it says"), PAIRS,
    )  # fmt: skip


def _present(view: pd.DataFrame) -> set[str]:
    return {word for text in view["comparison"].unique() for word in str(text).split("+")}


def section(view: pd.DataFrame, controls: list[Control]) -> Section:
    """Return the section on the controls: a sentence on pixels first, then the table."""
    text = [sentence(one) for one in controls]
    shown = (table(view, controls),) if controls else ()
    return Section(name="controls", title="What the numbers are worth: controls", text=tuple(text), tables=shown)


def sentence(one: Control) -> str:
    """Return the accuracy of a control at the smallest and the largest size, and what it says."""
    means = one.rows.groupby("size")["top1"].mean().reset_index()
    amounts = [f"{percent(row['top1'])} % at {int(row['size']):,} labels" for row in ends(means)]
    return f"{capital(one.words)}: {listed(amounts)}. {one.says}"

"""Report a segmentation: what heads and encoders contribute to the shortfall, and parts of the test images."""

import math
from typing import Any

import pandas as pd

from bias_lab import catalogue, statistics
from bias_lab.report.evidence.parts import COMPARISONS, present
from bias_lab.report.figures.chart import percent, span
from bias_lab.report.figures.charts import mean_of
from bias_lab.report.pages import Section, Table, number
from bias_lab.report.sentences import capital, ends, is_identical
from bias_lab.report.tables import ANY, CI, PAIRS, SIZE, in_ci, in_points, in_whole, in_words, table_of
from bias_lab.statistics import ALPHA
from bias_lab.statistics.conditions import given
from bias_lab.statistics.masks import heads, parts

ALL = "all"  # the test images that are no part of others
_HELD = in_words("held", "comparison", "how cells are compared")
_ON = in_words("on", "test images", "all of them, or a part of them by name")


def sections(view: pd.DataFrame) -> list[Section]:
    """Return the sections on heads and encoders, and on parts of the test images, empty where there are none.

    view: one of `findings.split`, whose column of accuracy holds the metric of its task.
    """
    every = {ALL: view} | {name: parts.in_part(view, name) for name in parts.names(view)}
    compared = {name: words for name, words in COMPARISONS.items() if name in present(view)}
    effects = _joined({(on, held): statistics.heads(rows, comparison=name)
                       for on, rows in every.items() for name, held in compared.items() if len(rows)})  # fmt: skip
    gaps = _joined({(on, held): statistics.gaps(rows, comparison=name).assign(images=_images(rows))
                    for on, rows in every.items() for name, held in compared.items() if len(rows)})  # fmt: skip
    tables = (effects_table(effects), *(by_head(view, name) for name in compared))
    text = (
        "A plain ViT reads out its last map, and a CNN has a U-Net. Runs in which both have the same decoder tell "
        "whether a difference is one of encoders or of heads. The encoder effect is the shortfall with the same "
        "decoder for both. The head effect is the rest: how much more the CNNs gain from their own head than plain ViT "
        "gains from its own.",
        *(sentence(row) for row in (ends(effects[effects["on"] == ALL]) if len(effects) else [])),
    )
    on_parts = len(every) > 1 and len(gaps)
    return [
        Section(name="heads", title="Heads and encoders", text=text, tables=tables)
        if len(effects)
        else Section(name="heads", title=""),
        Section(name="test-parts", title="Parts of the test images", tables=(of_parts(gaps),))
        if on_parts
        else Section(name="test-parts", title=""),
    ]


def _joined(frames: dict[tuple[str, str], pd.DataFrame]) -> pd.DataFrame:
    """Return frames below one another, with the test images and the comparison as columns `on` and `held`."""
    filled = [frame.assign(on=on, held=held) for (on, held), frame in frames.items() if len(frame)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()


def _images(rows: pd.DataFrame) -> int | None:
    counts = [int(count) for count in rows["test_images"].dropna()] if "test_images" in rows else []
    return max(counts, default=None)


def sentence(row: dict[str, Any]) -> str:
    """Return the split of one size: the shortfall, the encoder effect, the head effect, and what is shown of them."""
    amounts = {name: f"{percent(row[name])} points{_ci(row, name)}" for name in heads.PARTS}
    common = catalogue.head_words(str(row["common"]))
    said = [
        f"{capital(row['held'])}, at {row['size']:,} labels the shortfall with own heads is {amounts['shortfall']}.",
        f"With the {common} on both sides it is {amounts['encoder']}, which is the encoder effect.",
        f"The head effect is {amounts['head']}.",
    ]
    open_ = [f"{name} effect" for name in heads.PARTS[1:] if not row[f"{name}_p"] <= ALPHA]
    if open_ and not math.isnan(row["head_low"]):
        said.append(f"Not shown to differ from 0: {' and '.join(open_)}.")
    return " ".join(said)


def _ci(row: dict[str, Any], name: str) -> str:
    wide = not math.isnan(row[f"{name}_low_any"])
    low, high = (row[f"{name}_{end}{'_any' if wide else ''}"] for end in ("low", "high"))
    return "" if math.isnan(low) or is_identical(low, high) else f" (95 % CI {span(low, high)})"


def effects_table(frame: pd.DataFrame) -> Table:
    """Return the rows of `statistics.heads`, in points."""
    note = (
        "Shortfall = encoder effect + head effect. Plain ViT can't have a U-Net, so heads can't be exchanged: what an "
        "encoder and a head do only together counts as head effect."
    )
    return table_of(
        "Encoder effect and head effect", frame, _HELD, _ON, SIZE,
        in_points("shortfall", "shortfall", "points, the CNNs minus plain ViT, each with its own head"),
        in_ci("with test images", "shortfall_low_any", "shortfall_high_any"),
        in_points("encoder", "encoder effect", "points, the CNNs minus plain ViT, both with the same decoder"),
        in_ci("with test images", "encoder_low_any", "encoder_high_any", "95 % CI of it"),
        in_points("head", "head effect", "points, the shortfall minus the encoder effect"),
        in_ci("with test images", "head_low_any", "head_high_any", "95 % CI of it"),
        in_whole("n", "n", "replicates (draw, seed) with all four cells"), note=note if len(frame) else "",
    )  # fmt: skip


def by_head(view: pd.DataFrame, comparison: str) -> Table:
    """Return every backbone with each head that is not its own: its score, and how far it lies above plain ViT."""
    records = []
    for head in statistics.values(view, heads.HEAD, comparison)[1:]:
        rows = statistics.comparable(view, where={heads.HEAD: head}, comparison=comparison)
        rows = rows[given(rows, heads.HEAD) == head]
        vit = statistics.select(rows, "vit")
        for (backbone, size), part in rows.groupby(["backbone", "size"]):
            is_vit = backbone in set(vit["backbone"])
            beside = statistics.between(vit.iloc[:0] if is_vit else vit, part)
            record = beside.iloc[0] if len(beside) else dict.fromkeys(("shortfall", "low_any", "high_any"), math.nan)
            named = dict(head=catalogue.head_words(str(head)), backbone=backbone, size=size, n=len(part))
            named |= {name: part[name].max() if name in part else None for name in ("head_parameters", "head_flops")}
            ends_of_it = {name: record[name] for name in ("shortfall", "low_any", "high_any")}
            records.append({**named, "top1": mean_of(part).value, **ends_of_it})
    return table_of(
        f"Every backbone with one decoder, {COMPARISONS[comparison]}", pd.DataFrame(records), in_words("head"),
        in_words("backbone"), SIZE, in_points("top1", "test, %", "mean test accuracy"),
        in_points("shortfall", "above ViT", "points above plain ViT with the same decoder, paired over replicates"),
        ANY, PAIRS,
        ("head, k", "thousand parameters of the head", lambda row: number(row["head_parameters"], scale=1e-3)),
        ("M mult-adds", "of the head, for one image", lambda row: number(row["head_flops"], scale=1e-6)),
    )  # fmt: skip


def of_parts(gaps: pd.DataFrame) -> Table:
    """Return the shortfall on all test images and on each part of them. gaps: rows of `statistics.gaps`."""
    note = (
        "A part has its own confusion table, so the value on all test images is no mean of parts. Intervals with test "
        "images are over groups of images that depend on one another."
    )
    return table_of(
        "The shortfall on all test images and on parts of them", gaps, _HELD, _ON,
        in_whole("images", "images", "test images"), SIZE, in_points("shortfall", "points", "the CNNs minus plain ViT"),
        CI, ANY, PAIRS, note=note if len(gaps) else "",
    )  # fmt: skip

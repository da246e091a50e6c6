"""Put together what a report says of one dataset beyond its answer: the headline, and the sections on the evidence."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import pandas as pd

from bias_lab import schema, statistics
from bias_lab.report import tables
from bias_lab.report.evidence import controls, each, head, heads, ladders, locality, parts
from bias_lab.report.figures import budget, charts
from bias_lab.report.figures.chart import Level
from bias_lab.report.metric_words import said
from bias_lab.report.pages import Head, Section
from bias_lab.report.replicates import captioned
from bias_lab.report.sentences import capital, name_of


class Evidence(NamedTuple):
    """head: the first sentence, or why there is none. front: sections before those of `sections.of_view`.

    after: sections that follow the shortfall. end: folded sections.
    """

    head: Head
    front: list[Section]
    after: list[Section]
    end: list[Section]


def of_view(view: pd.DataFrame, about: str, slug: str, profile: str, tuned: Mapping[str, Any]) -> Evidence:
    """Return the evidence of one view of `findings.split`.

    about: the view's name if there are several, else ''. slug: the prefix of figure names. profile: of the plan.
    tuned: the tuning table, with `rows`.
    """
    present = parts.present(view)
    both = len(present) > 1
    found = head.numbers(view)
    group = head.group(found) if "settled" in present else head.FAMILY
    of_controls = controls.found(view, present)
    on_budgets = seen(view, of_controls, slug)
    leads = both and view.loc[view["size"] > 0, "size"].nunique() == 1  # one size gives no curve over labels
    after = [
        locality.section(view),
        made_of(view, group),
        *heads.sections(view),
        _of(each.section(view, group), group) if "settled" in present else Section(name="each", title=""),
        Section(name="budget-axis", title="") if leads else on_budgets,
        controls.section(view, of_controls),
    ]
    front = [*([on_budgets] if leads and on_budgets.charts else []), *(settled(view, slug, group) if both else [])]
    datasets = view["dataset"].unique()
    end = settled_cells(view) if both else []
    end += [ladders.section(tuned.get("rows", []), str(datasets[0]), slug)] if len(datasets) else []
    return Evidence(head.of_view(view, about, profile, tuned.get("rows", []), found), front, after, end)


def made_of(view: pd.DataFrame, against: str = head.FAMILY) -> Section:
    """Return the section on the parts of the shortfall, for each comparison that the view has, and at matched fit.

    against: the group that is compared, that of the headline.
    """
    names = parts.present(view) or ("",)
    found = []
    for name in names:
        whole = statistics.decomposition(view, against=against, comparison=name)
        rows = statistics.comparable(view, comparison=name)
        found.append(_named(parts.with_recipes(_sound(whole, view, name, against), rows, against), name))
    split = parts.if_several(pd.concat(found))
    whole = view[~view["collapsed"].fillna(False).astype(bool)] if "collapsed" in view else view
    fits = statistics.matched_fit(whole, against=against)
    flagged = statistics.unsound(view, against=against, comparison=parts.default(view))
    low = [size for size, flags in flagged.items() if {"at_chance", "at_majority"} & set(flags)]
    return _of(parts.section(split, fits[~fits["size"].isin(low)]), against)


def _of(section: Section, against: str) -> Section:
    """Return a section on the CNNs, which names the one that is compared if the group is not the family."""
    return said(section, str(schema.DEFAULTS["task"]), "" if against == head.FAMILY else name_of(against))


def _sound(frame: pd.DataFrame, view: pd.DataFrame, comparison: str, against: str) -> pd.DataFrame:
    """Return the rows of a statistic by size without the sizes that allow no claim."""
    return frame[~frame["size"].isin(list(statistics.unsound(view, against=against, comparison=comparison)))]


def _named(frame: pd.DataFrame, comparison: str) -> pd.DataFrame:
    return frame.assign(comparison=parts.COMPARISONS.get(comparison, ""))


def settled(view: pd.DataFrame, slug: str, against: str = "") -> list[Section]:
    """Return the main figure and the shortfall of settled cells, for a view that has runs at equal images too.

    against: the group that is compared, by default that of the headline.
    """
    against = against or head.group(head.numbers(view))
    rows = statistics.comparable(view, scratch=False, comparison="settled")
    scratch = statistics.comparable(view, comparison="settled")
    gaps = statistics.gaps(view, against=against, comparison="settled")
    chart = captioned(charts.accuracy(rows, prefix=slug, against=against, comparison="settled"), rows)
    gaps = parts.with_recipes(gaps, scratch, against)
    line = (str(schema.DEFAULTS["regime"]), parts.with_settled(gaps, rows, against), "ViT")
    title = f"{capital(name_of(against))} minus plain ViT, from scratch, settled"
    return [
        Section(name="settled", title="Accuracy, settled", charts=(chart,)),
        Section(
            name="settled-shortfall",
            title="The shortfall, settled",
            charts=(charts.shortfall([line], prefix=slug, comparison="settled", who=name_of(against)),)
            if len(gaps)
            else (),
            tables=(tables.shortfall(parts.if_several(gaps), title),),
        ),
    ]


def settled_cells(view: pd.DataFrame) -> list[Section]:
    """Return the folded section with the accuracy of every settled cell, beside that of `sections.of_view`."""
    rows = statistics.comparable(view, scratch=False, comparison="settled")
    title = f"Every cell, {parts.SETTLED}"
    return [Section(name="settled-cells", title=title, tables=(tables.accuracies(rows),), folded=True)]


def seen(view: pd.DataFrame, of_controls: list[controls.Control], slug: str) -> Section:
    """Return the figure of accuracy against images seen, with the linear classifier on pixels as a thin line.

    A backbone with one budget that is not settled is left out, since its point says nothing of budgets.
    """
    axis = statistics.by_budget(view)
    cells = axis.groupby(["backbone", "size"])
    has_several = cells["images_seen"].transform("nunique") > 1
    if not has_several.any():
        return Section(name="budget-axis", title="")
    axis = axis[has_several | cells["settled"].transform("any")]
    levels = tuple(
        Level(y=float(part["top1"].mean()), words=one.words, panel=budget.title(size))
        for one in of_controls
        if one.says == controls.PIXELS
        for size, part in one.rows.groupby("size")
        if size in set(axis["size"])
    )
    near = charts.chance(statistics.comparable(view, comparison="settled" if "settled" in parts.present(view) else ""))
    by_panel = tuple(replace(one, panel=budget.title(size)) for one in near for size in sorted(set(axis["size"])))
    chart = budget.accuracy(axis, levels=levels + by_panel, prefix=slug)
    text = ("Where a curve still rises at its end, more training would change the comparison.",)
    return Section(name="budget-axis", title="Accuracy against images seen", text=text, charts=(chart,))


def joined(of_view: list[Section], evidence: Evidence) -> list[Section]:
    """Return all sections of a view in order: settled cells first, and what the shortfall is made of after it."""
    place = 1 + next(k for k, part in enumerate(of_view) if part.name.endswith("shortfall"))
    return [*evidence.front, *of_view[:place], *evidence.after, *of_view[place:], *evidence.end]

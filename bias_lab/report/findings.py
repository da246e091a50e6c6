"""A table → everything that the report says, in order: answers, cautions, sections. Words and numbers, no markup."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from bias_lab import results, statistics
from bias_lab.report import figures, provenance, studies, tables
from bias_lab.report.cautions import cautions
from bias_lab.report.pages import Report, Section, Table
from bias_lab.statistics import replicates as rep
from bias_lab.statistics.gaps import between, listed
from bias_lab.statistics.gaps import points as told_points

MAIN_RECIPE = "plain"
QUESTION = "How far does a plain ViT fall short of CNNs when labels are few?"


def findings(table: pd.DataFrame) -> Report:
    """The report of a table in any state: without a row it says what is missing."""
    rep.check(table)
    about_it, missing = dict(table.attrs), results.missing(table)
    experiment, tuned = dict(about_it.get("experiment", {})), dict(about_it.get("tuned", {}))
    reasons: dict[str, str] = dict(about_it.get("reasons", {}))
    table, before = provenance.of_the_plan(rep.light(table), experiment)
    failed = table[table["status"] == "failed"]
    answers, sections, told = [], [], list(before)
    views = split(table)
    for name, view in views:
        about = name if len(views) > 1 else ""
        made, sentence, method = _sections(table, view, about, dict(about_it.get("curves", {})))
        answers.append((about, sentence, method))
        sections += made
        told += [f"{about}: {text}" if about else text for text in cautions(view, tuned)]
    told = studies.overlapped(table, dict(about_it.get("overlap", {}))) + told
    undone = provenance.undone(missing, experiment.get("labels", {}), failed, reasons)
    sections.append(Section(name="undone", title="Missing and failed runs", tables=(undone,), folded=True))
    sections += _bookkeeping(table, experiment, tuned)
    return Report(
        title=" · ".join(str(experiment[key]) for key in ("experiment", "profile") if experiment.get(key))
        or "bias_lab",
        question=experiment.get("question") or QUESTION,
        note=str(experiment.get("note", "")).rstrip("."),
        answers=tuple(answers) or (("", "No finished run yet: nothing can be said.", ""),),
        status=status(table, experiment, missing, reasons),
        complete=not missing and not len(failed),
        caveats=tuple(dict.fromkeys(told)),
        sections=tuple(section for section in sections if section),
        facts=facts(table),
    )


def status(table: pd.DataFrame, experiment: Mapping[str, Any], missing: list[str], reasons: Mapping[str, str]) -> str:
    """'missing: 12 of 150 · failed: 2 of 150, 1 diverged', or that all is there."""
    planned = len({*experiment.get("planned", []), *table["run_id"]})
    failed = table[table["status"] == "failed"]
    diverged = sum(str(reasons.get(name, "")).startswith("diverged") for name in failed["run_id"])
    parts = [f"missing: {len(missing):,} of {planned:,} runs"] if missing else []
    if len(failed):
        parts.append(f"failed: {len(failed):,} of {planned:,}, {diverged:,} diverged")
    if parts:
        return " · ".join(parts)
    return f"complete: {planned:,} of {planned:,} runs" if planned else "no run planned or found"


def facts(table: pd.DataFrame) -> tuple[str, ...]:
    """A line of figures: how much was run, on what, for how long."""
    done = table[table["status"] == "finished"]
    if not len(done):
        return ()
    parts = [f"{len(done):,} runs", f"{done['backbone'].nunique()} backbones"]
    size = done["parameters"].dropna().astype(float) / 1e6
    if len(size):
        parts[-1] += f" of {size.min():.2f} to {size.max():.2f} M parameters" if size.nunique() > 1 else ""
    images = sorted({int(n) for n in done["test_images"].dropna()})
    parts += [f"{listed([f'{n:,}' for n in images])} test images"] if images else []
    minutes = done["seconds"].sum() / 60
    if minutes >= 1:
        parts.append(f"{minutes:,.0f} minutes of one worker's time")
    return (", ".join(parts) + ".",)


def split(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """One view a dataset and image size, main recipe only: what statistics may compare."""
    rows = table[(table["status"] == "finished") & (table["task"] == "classify")]
    rows = rows[rows["recipe"] == main_recipe(rows)]
    views = []
    for (dataset, side), part in rows.groupby(["dataset", "image_size"]):
        several = rows.loc[rows["dataset"] == dataset, "image_size"].nunique() > 1
        views.append((f"{dataset}, {side} px" if several else str(dataset), part))
    return views


def main_recipe(rows: pd.DataFrame) -> str:
    counts = rows["recipe"].value_counts()
    return MAIN_RECIPE if MAIN_RECIPE in counts or not len(counts) else str(counts.index[0])


# --- one dataset ------------------------------------------------------------------------------------------------------


def _sections(
    table: pd.DataFrame, view: pd.DataFrame, about: str, curves: Mapping[str, Any]
) -> tuple[list[Section], str, str]:
    """What is said of one dataset at one image size: sections, the sentences at the top, how they were reached."""
    slug = "".join(c if c.isalnum() else "-" for c in about) + "-" if about else ""
    tail = f": {about}" if about else ""
    found = statistics.answer(view)
    pairs: tuple[Table, ...] = ()
    told = [found.finding, found.method]
    if found.verdict == "unknown" and not len(rep.select(view, "vit")):
        (finding, method), pairs = studies.pairwise(view)
        told = [finding, method] if finding else told
    taken, arms_told, corrected = studies.taken_away(view, slug)
    starts, left_told = studies.starts(table, view)
    short = left_told if len(left_told) == 1 else []  # of several the section tells, of many its table
    sentence = " ".join([told[0], *studies.won_back(statistics.recovery(view)), *short, *arms_told])
    made = [
        *_gap(view, slug, pairs, (starts, tuple(left_told if len(left_told) < 3 else ()))),
        *_robust(table, view),
        *_details(table, view),
    ]
    made[1:1] = [*taken, *studies.over_epochs(view, curves, slug)]
    return (
        [replace(s, name=f"{slug}{s.name}", title=f"{s.title}{tail}") for s in made],
        sentence,
        " ".join(filter(None, [told[1], corrected])),
    )


def _gap(
    view: pd.DataFrame, slug: str, pairs: tuple[Table, ...], starts: tuple[tuple[Table, ...], tuple[str, ...]]
) -> list[Section]:
    """The figure, the shortfall (or pair by pair, where no plain ViT is), and what wins it back."""
    rows = rep.comparable(view, scratch=False)
    found, won, own = statistics.gaps(view), statistics.recovery(view), statistics.removed(view)
    gap = figures.shortfall(regimes(rows, found), prefix=slug)
    by_regime = tables.shares(won, "Share of the shortfall that a regime recovers", "regime")
    by_own = tables.shares(own, "Share of the shortfall that it removes", "backbone")
    return [
        Section(name="figure", title="Accuracy", charts=(figures.accuracy(rows, prefix=slug),)),
        Section(
            name="shortfall",
            title="The shortfall" if len(found) or not pairs else "Pair by pair",
            charts=(gap,) if len(found) else (),
            tables=(tables.shortfall(found, "The CNN family minus plain ViT, from scratch"), *pairs),
        ),
        Section(name="recovery", title="What wins it back", text=starts[1], tables=(by_regime, *starts[0])),
        Section(name="own", title="Your own backbone", text=own_told(own), tables=(by_own,)),
    ]


def _robust(table: pd.DataFrame, view: pd.DataFrame) -> list[Section]:
    """Whether another budget or another recipe would change the answer."""
    longer, longer_told = prolonged(view)
    by_recipe, recipe_told = recipes(table, view)
    return [
        Section(name="longer", title="Would more training change the answer?", text=longer_told, tables=longer),
        Section(name="recipe", title="Does it hold under another recipe?", text=recipe_told, tables=by_recipe),
    ]


def _details(table: pd.DataFrame, view: pd.DataFrame) -> list[Section]:
    """Labels, factors, replicates, every backbone and every cell."""
    rows = rep.comparable(view, scratch=False)
    plain = rows[(rows["regime"] == "scratch") & (rows["protocol"] == "finetune")]
    labels = (
        tables.efficiency(statistics.sample_efficiency(view)),
        tables.curves(statistics.learning_curve(view)),
    )
    made_of = (
        tables.factors(statistics.effects(everything(table, view))),
        tables.variance(statistics.variance_shares(view)),
        tables.power(statistics.power(view)),
    )
    cells = (tables.ranking(statistics.ranking(view)), versus(plain), tables.accuracies(rows))
    return [
        Section(name="labels", title="What it costs in labels", text=_meeting(view), tables=labels),
        Section(name="made-of", title="What accuracy is made of", tables=made_of),
        Section(name="cells", title="Every backbone, every cell", tables=cells),
    ]


def regimes(rows: pd.DataFrame, found: pd.DataFrame) -> list[tuple[str, pd.DataFrame, str]]:
    """(regime, gaps, label) from scratch, then of plain ViT after each regime, against the CNNs from scratch."""
    scratch = (rows["regime"] == "scratch") & (rows["protocol"] == "finetune")
    reference, vit = rep.select(rows[scratch], "cnn"), rep.select(rows, "vit")
    lines = [("scratch", found, "ViT")]
    for (regime, protocol, source), part in vit[~vit.index.isin(rows[scratch].index)].groupby(
        ["regime", "protocol", "source"]
    ):
        label = f"ViT + {regime}" + ("" if protocol == "finetune" else f" ({str(protocol).replace('_', ' ')})")
        several = vit.loc[vit["regime"] == regime, "source"].nunique() > 1
        lines.append((str(regime), between(part, reference), f"{label}, {source}" if several else label))
    return lines


def own_told(won: pd.DataFrame) -> tuple[str, ...]:
    """'NAME removes 39 % of the shortfall at N = 100 (95 % interval 35 to 44 %, n = 5).'"""
    told = []
    for name, part in won.dropna(subset=["share"]).groupby("backbone"):
        first = part.iloc[0]
        inside = tables.percents(first["low"], first["high"]).text
        told.append(
            f"{name} removes {100 * first['share']:.0f} % of the shortfall at N = {int(first['size']):,} "
            f"(95 % interval {inside}, n = {int(first['n'])})."
        )
    return tuple(told)


def prolonged(view: pd.DataFrame) -> tuple[tuple[Table, ...], tuple[str, ...]]:
    """Cells that saw more images on purpose beside the same cells at budget 1, and whether the verdict stands."""
    done = view[(view["status"] == "finished") & (view["task"] == "classify") & (view["regime"] == "scratch")]
    done = done[(done["protocol"] == "finetune") & (done["intervention"].fillna("") == "")]
    made, told = [], []
    for budget, long in done[done["budget"] != 1].groupby("budget"):
        keys = ["backbone", "size", "draw", "seed"]
        same = done[done["budget"] == 1].merge(long[keys], on=keys)  # the very replicates that were run longer
        gains = [
            (f"{name} at {float(str(budget)):g}×", "at 1×", between(same[same["backbone"] == name], part))
            for name, part in long.groupby("backbone")
        ]
        gap = [(f"{w}× the images" if w != "1" else "1×", between(rep.select(p, "vit"), rep.select(p, "cnn")))
               for w, p in (("1", same), (f"{float(str(budget)):g}", long))]  # fmt: skip
        gains += [(f"CNN at {when}", "plain ViT", part) for when, part in gap]
        made.append(tables.pairs(gains, f"{float(str(budget)):g} times the images seen, the same cells"))
        told += _verdict(gap[0][1], gap[1][1], f"{float(str(budget)):g}")
    return tuple(made), tuple(told)


def _verdict(once: pd.DataFrame, long: pd.DataFrame, times: str) -> list[str]:
    """Whether more steps would change the answer, size by size."""
    told = []
    for row in long.merge(once, on="size", suffixes=("", "_once")).to_dict("records"):
        spanned = f"95 % interval {told_points(row['low'])} to {told_points(row['high'])}, n = {row['n']}"
        what = (
            f"At N = {row['size']:,} the shortfall of the same pair is {told_points(row['shortfall_once'])} points at "
            f"the study's budget and {told_points(row['shortfall'])} at {times} times the images ({spanned})"
        )
        if row["n"] < 2:
            verdict = "one replicate can't say whether more steps would change the answer"
        elif row["low"] > 0 < row["low_once"]:
            verdict = "more steps do not change the verdict"
        elif row["low_once"] > 0:
            verdict = "with more steps the shortfall is no longer shown: the verdict at this size rests on the budget"
        else:
            verdict = "it is shown at neither budget" if row["low"] <= 0 else "more steps make a shortfall appear"
        told.append(f"{what}: {verdict}.")
    return told


def recipes(table: pd.DataFrame, view: pd.DataFrame) -> tuple[tuple[Table, ...], tuple[str, ...]]:
    """The same pair under every recipe: cells that both recipes have, and whether the claim holds under both."""
    rows = everything(table, view)
    main = main_recipe(rows)
    made, told = [], []
    for name, part in rows[rows["recipe"] != main].groupby("recipe"):
        other = rep.comparable(part)
        same = rep.comparable(rows[rows["recipe"] == main])
        same = same[same["size"].isin(other["size"]) & same["backbone"].isin(other["backbone"])]
        both = [(main, same), (str(name), other)]
        gap = {kind: between(rep.select(p, "vit"), rep.select(p, "cnn")) for kind, p in both}
        members = (
            listed(sorted(rep.select(other, "cnn")["backbone"].unique())) if len(rep.select(other, "cnn")) else "CNN"
        )
        made.append(
            tables.pairs(
                [(f"{members}, {kind}", "plain ViT", g) for kind, g in gap.items()], f"Recipes {main} and {name}"
            )
        )
        for row in gap[str(name)].merge(gap[main], on="size", suffixes=("", "_main")).to_dict("records"):
            shown = [kind for kind, low in ((main, row["low_main"]), (str(name), row["low"])) if low > 0]
            verdict = {2: "it holds under both", 0: "it is shown under neither"}.get(
                len(shown), f"it is shown under {listed(shown)} alone" if shown else ""
            )
            told.append(
                f"At N = {row['size']:,} the shortfall against {members} is "
                f"{told_points(row['shortfall_main'])} points under the recipe {main} "
                f"and {told_points(row['shortfall'])} under {name} (n = {row['n']}): {verdict}."
            )
    return tuple(made), tuple(told)


def everything(table: pd.DataFrame, view: pd.DataFrame) -> pd.DataFrame:
    """All finished rows of the view's dataset and image size, whatever their recipe."""
    rows = table[(table["status"] == "finished") & (table["task"] == "classify")]
    first = view.iloc[0]
    same: pd.DataFrame = rows.loc[(rows["dataset"] == first["dataset"]) & (rows["image_size"] == first["image_size"])]
    return same


def versus(plain: pd.DataFrame) -> Table:
    """Every backbone against plain ViT, and the CNNs' mean against each that is not of the family."""
    vit, cnn = rep.select(plain, "vit"), rep.select(plain, "cnn")
    found = []
    for name, part in plain.groupby("backbone"):
        if name not in set(vit["backbone"]) and len(vit):
            found.append((str(name), "plain ViT", between(vit, part)))
    for name, part in plain[~plain["backbone"].isin({*vit["backbone"], *cnn["backbone"]})].groupby("backbone"):
        if len(cnn):
            found.append(("CNN family", str(name), between(part, cnn)))
    note = "Every pair as it falls, not corrected for their number: one in twenty true zeros lies outside its interval."
    return tables.pairs(found, "Pair by pair, from scratch", note)


def _meeting(view: pd.DataFrame) -> tuple[str, ...]:
    where = statistics.crossover(view).iloc[0]
    return (
        ()
        if where["bound"] == "?"
        else (f"Where the mean curves of plain ViT and the CNN family meet: {where['text']}.",)
    )


# --- the books --------------------------------------------------------------------------------------------------------


def _bookkeeping(table: pd.DataFrame, experiment: Mapping[str, Any], tuned: Mapping[str, Any]) -> list[Section]:
    done, told = table[table["status"] == "finished"], experiment.get("recipes", {})
    return [
        Section(name="tuning", title="Tuning", tables=(provenance.tuning(tuned),) if tuned else (), folded=True),
        Section(name="budgets", title="Budgets really spent", tables=(provenance.budgets(table),), folded=True),
        Section(
            name="recipes", title="Recipes", tables=(provenance.recipes(told, table),) if told else (), folded=True
        ),
        Section(name="provenance", title="Provenance", tables=(provenance.provenance(done, experiment),), folded=True),
    ]

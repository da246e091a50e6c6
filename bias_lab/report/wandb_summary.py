"""Compute what W&B shows of a whole experiment: statistics over the sizes, answers and figures, as a `Study`."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from bias_lab import results, schema, statistics
from bias_lab.catalogue import TASKS
from bias_lab.report.evidence import claims, parts
from bias_lab.report.evidence import head as evidence_head
from bias_lab.report.evidence import view as evidence
from bias_lab.report.figures import charts, draw
from bias_lab.report.figures.chart import Chart
from bias_lab.report.findings import QUESTION, split
from bias_lab.report.metric_words import only_cnn, said, task_of
from bias_lab.report.replicates import captioned, flags
from bias_lab.report.sections import lines_of_starts
from bias_lab.report.sentences import GIVEN, trained
from bias_lab.statistics import replicates as rep
from bias_lab.statistics.conditions import is_from_scratch
from bias_lab.tracking.mapping import Study

START = list(schema.START)
_ENDS = {"shortfall": "", "low": " low", "high": " high"}
_CNNS = ("efficientnet_micro", "mobilenetv3_micro", "resnet_micro")
DEFAULT = Study(  # the study of the lab's first experiment, for a dashboard before any run
    name="small_data",
    question=QUESTION,
    rows=(
        dict.fromkeys(("size", *(f"shortfall/scratch{end}" for end in _ENDS.values())), 0),
        dict.fromkeys(("shortfall/mae", "recovery/mae", *(f"accuracy/{name} scratch" for name in _CNNS)), 0),
        dict.fromkeys(("shortfall/equal", "parts/training equal", "parts/generalisation equal"), 0),
        dict.fromkeys(("shortfall/settled", "parts/training settled", "parts/generalisation settled"), 0),
        dict.fromkeys(("accuracy/vit_micro scratch", "accuracy/vit_micro mae"), 0),
    ),
    pictures=("reconstruction",),
)


def study_of_folder(folder: Path | None) -> Study:
    """Return the study of a folder without its figures, or the default one without a folder."""
    if folder is None:
        return DEFAULT
    study_results = results.read(folder)
    pictures = sorted({path.stem for path in folder.glob("runs/*/*.png")})
    return study_of(study_results, name=folder.resolve().name, pictures=tuple(pictures), figures=False)


def study_of(
    study_results: results.Results, *, name: str = "", pictures: tuple[str, ...] = (), figures: bool = True
) -> Study:
    """Return an experiment's statistics, answers and figures.

    name: used where the plan has none. pictures: names of pictures in run folders. figures: whether to draw them.
    With several datasets, a dataset's name comes first in every key.
    """
    views = split(rep.light(study_results.table))
    rows: list[dict[str, Any]] = []
    summary: dict[str, str] = {}
    drawn: dict[str, tuple[bytes, str]] = {}
    answers: list[str] = []
    for about, view in views:
        prefix = f"{about}/" if len(views) > 1 else ""
        given, profile = claims.of_view(view), study_results.plan.profile
        words = task_of(view), only_cnn(view)
        rows_of_tuning = study_results.tuned.get("rows", [])
        head = said(evidence_head.of_view(view, about, profile, rows_of_tuning), *words)
        is_path = profile == evidence_head.PATH
        sentence = evidence_head.PATH_ALONE if is_path else said(" ".join(given.sentences), *words)
        answers += [" ".join(head.sentences()), sentence]
        summary |= {f"{prefix}verdict": given.answer.verdict, f"{prefix}answer": sentence}
        summary |= {f"{prefix}headline": head.headline, f"{prefix}banner": " ".join(head.banner)}
        summary |= _notes(view, prefix)
        rows += [_with_values(row) for row in statistics_of(view, prefix)]
        if figures:
            for chart in said(_charts(view, statistics.gaps(view)), *words):
                drawn[f"{prefix}figures/{chart.name}"] = (draw.png(chart, dpi=300), chart.caption)
    plan = study_results.plan
    return Study(
        name=plan.experiment or name, question=plan.question or QUESTION, profile=plan.profile, note=plan.note,
        command=plan.command, rows=tuple(rows), summary=summary, answers=tuple(answers), figures=drawn,
        pictures=pictures, is_monitored=bool(study_results.curves), task=task_of(study_results.table),
    )  # fmt: skip


def _charts(view: pd.DataFrame, gaps: pd.DataFrame) -> list[Chart]:
    """Return accuracy and shortfall, those of settled cells too where both comparisons are there, and the budgets."""
    rows = statistics.comparable(view, scratch=False)
    comparison = parts.default(view)
    accuracy = charts.accuracy(rows, comparison=comparison)
    gap = charts.shortfall(lines_of_starts(rows, gaps), comparison=comparison)
    front = evidence.settled(view, "") if len(parts.present(view)) > 1 else []
    sections = [*front, evidence.seen(view, [], "")]
    return [captioned(accuracy, rows), captioned(gap, rows), *(chart for part in sections for chart in part.charts)]


def _notes(view: pd.DataFrame, prefix: str) -> dict[str, str]:
    """Return the starts whose replicates share a pretraining, and those whose pretraining did not train, by heading."""
    rows = statistics.comparable(view, scratch=False)
    named: dict[str, list[str]] = {"shared": [], "untrained": []}
    for (backbone, *start), part in rows[~is_from_scratch(rows)].groupby(["backbone", *START]):
        for flag, is_set in flags(part).items():
            named[flag] += [f"{backbone} {_start(start, rows)}"] if is_set else []
    headings = {"shared": GIVEN, "untrained": "pretraining did not train"}
    return {f"{prefix}{headings[flag]}": ", ".join(names) for flag, names in named.items() if names}


def statistics_of(view: pd.DataFrame, prefix: str = "") -> Iterator[dict[str, Any]]:
    """Yield rows over `size`: the shortfall of each start with its interval, recovery, accuracy of each backbone.

    Keys are `shortfall/scratch`, `shortfall/scratch low`, `recovery/mae`, `accuracy/vit_micro scratch` and the like.
    Another task has the key of its own metric in the place of `accuracy`.
    """
    rows, key = statistics.comparable(view, scratch=False), TASKS[task_of(view)].key
    for row in statistics.gaps(view).to_dict("records"):
        named = {**_ENDS, "low_any": " low any", "high_any": " high any", "n": " n"}
        yield {"size": row["size"], **{f"{prefix}shortfall/scratch{end}": row[key] for key, end in named.items()}}
    yield from _of_comparisons(view, prefix)
    yield from _of_heads(view, prefix)
    for name, gaps in _other_gaps(rows):
        for row in gaps.to_dict("records"):
            yield {"size": row["size"], **{f"{prefix}shortfall/{name}{end}": row[k] for k, end in _ENDS.items()}}
    for row in trained(statistics.recovery(view)).to_dict("records"):
        name = f"{prefix}recovery/{_start([row[part] for part in START], rows)}"
        yield {"size": row["size"], name: row["recovery"], f"{name} low": row["low"], f"{name} high": row["high"]}
    for (backbone, *start), part in rows.groupby(["backbone", *START]):
        name = f"{prefix}{key}/{backbone} {_start(start, rows)}"
        for point in charts.curve(part, name):
            yield {"size": int(point.x), name: point.y, f"{name} low": point.low, f"{name} high": point.high}


def _of_comparisons(view: pd.DataFrame, prefix: str) -> Iterator[dict[str, Any]]:
    """Yield rows over `size` for each comparison: `shortfall/equal`, `parts/training equal` and the like.

    Both are against the group of the headline, at the sizes that allow a claim.
    """
    present = parts.present(view)
    against = evidence_head.group(evidence_head.numbers(view)) if "settled" in present else evidence_head.FAMILY
    for comparison in present:
        found = statistics.decomposition(view, against=against, comparison=comparison)
        flagged = statistics.unsound(view, against=against, comparison=comparison)
        for row in found[~found["size"].isin(list(flagged))].to_dict("records"):
            named = {f"{prefix}shortfall/{comparison}{end}": row[key] for key, end in _ENDS.items()}
            for part in ("training", "generalisation"):
                ends = {"": part, " low": f"{part}_low", " high": f"{part}_high"}
                named |= {f"{prefix}parts/{part} {comparison}{end}": row[key] for end, key in ends.items()}
            yield {"size": row["size"], **named}


def _of_heads(view: pd.DataFrame, prefix: str) -> Iterator[dict[str, Any]]:
    """Yield rows over `size` for each head that both sides have: `effect/encoder matched`, `effect/head matched`."""
    for row in statistics.heads(view).to_dict("records"):
        named = {
            f"{prefix}effect/{part} {row['common']}{end.replace('_', ' ')}": row[f"{part}{end}"]
            for part in ("encoder", "head")
            for end in ("", "_low", "_high")
        }
        yield {"size": row["size"], **named}


def _other_gaps(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield (key, gaps) of plain ViT after each start and of each other backbone, against the CNNs from scratch."""
    is_scratch = is_from_scratch(rows)
    scratch = rows[is_scratch]
    cnn, vit = statistics.select(scratch, "cnn"), statistics.select(rows, "vit")
    for start, part in vit[~is_scratch[vit.index]].groupby(START):
        yield _start(list(start), rows), statistics.between(part, cnn)
    for name, part in scratch[~scratch.index.isin([*cnn.index, *vit.index])].groupby("backbone"):
        yield f"{name} scratch", statistics.between(part, cnn)


def _start(start: list[Any], rows: pd.DataFrame) -> str:
    """Return a start in a key: 'mae', 'mae linear_probe', and the source where a regime has several."""
    regime, protocol, source = start
    several = rows.loc[rows["regime"] == regime, "source"].nunique() > 1
    how = "" if protocol == schema.DEFAULTS["protocol"] else f" {protocol}"
    return f"{regime}{how}" + (f" {source}" if several else "")


def _with_values(row: Mapping[str, Any]) -> dict[str, Any]:
    plain = {name: schema.as_json(value) for name, value in row.items()}
    return {name: value for name, value in plain.items() if value is not None}

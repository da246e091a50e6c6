"""A W&B workspace and a Report, defined here as plain data and saved to the user's entity with wandb-workspaces.

`specify` says what is in them (a golden test holds it; `--dry-run` prints it), `save` builds and uploads it. Every key
that a panel names is one that `bias_lab.tracking.export` logs: a test compares them with what an export wrote.
"""

import importlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bias_lab import results, statistics
from bias_lab.errors import UserError
from bias_lab.report.findings import QUESTION, split
from bias_lab.statistics import replicates as rep
from bias_lab.tracking.export import PROJECT, statistics_of

Panel = dict[str, Any]
Spec = dict[str, Any]
REMEDY = "pip install 'bias_lab[dashboards]'"


def specify(folder: Path | None = None, *, project: str = PROJECT) -> Spec:
    """The dashboard of a folder's experiment, or without a folder that of the default study, as plain data.

    `workspace`: name, sections of panels. `report`: title, paragraphs, the same panels. A panel: `type` (`line`,
    `scatter`, `bar`, `media`), `title`, and the keys it shows.
    """
    table = results.collect(folder) if folder else results.empty()
    experiment = dict(table.attrs.get("experiment", {}))
    name = experiment.get("experiment") or (folder.resolve().name if folder else "small_data")
    keys = logged_keys(rep.light(table)) if len(table) else DEFAULT_KEYS
    pictures = sorted({path.stem for path in folder.glob("runs/*/*.png")}) if folder else ["reconstruction"]
    made = _sections(keys, pictures, watched=bool(table.attrs.get("curves")))
    sections = [{"name": title, "panels": panels} for title, panels in made if panels]
    answers = [found.text for found in (statistics.answer(view) for _, view in split(table))]
    return {
        "project": project,
        "workspace": {"name": f"{name}: CNN against ViT", "sections": sections},
        "report": {
            "title": f"{name}: {experiment.get('question') or QUESTION}",
            "paragraphs": [
                *answers,
                "Each run is one training; runs share a group with their experiment. The run of type `report` holds "
                "the statistics: intervals of 95 %, Student's t over replicates.",
            ],
            "sections": sections,
        },
    }


def logged_keys(table: pd.DataFrame) -> tuple[str, ...]:
    """The statistics' keys that an export of this table logs, in order, `size` left out."""
    return tuple(dict.fromkeys(key for row in statistics_of(table) for key in row if key != "size"))


_CNNS = ("efficientnet_micro", "mobilenetv3_micro", "resnet_micro")
DEFAULT_KEYS = (
    *(f"shortfall/scratch{end}" for end in ("", " low", " high")),
    "shortfall/mae",
    "recovery/mae",
    *(f"accuracy/{name} scratch" for name in (*_CNNS, "vit_micro")),
    "accuracy/vit_micro mae",
)


def _sections(keys: Sequence[str], pictures: Sequence[str], *, watched: bool) -> list[tuple[str, list[Panel]]]:
    media: Panel = {
        "type": "media", "title": "reconstructions and attention", "media": [f"pictures/{name}" for name in pictures],
    }  # fmt: skip
    return [
        ("Shortfall", _shortfall(keys)),
        ("Accuracy by family and regime", _accuracy(keys)),
        ("Recovery", _over_size("share of the shortfall won back", _without_ends(keys, "recovery/"))),
        ("Curves", _curves(watched=watched)),
        ("Budgets", _budgets()),
        ("Failures", _failures()),
        ("Pictures", [media] if pictures else []),
    ]


def _shortfall(keys: Sequence[str]) -> list[Panel]:
    """Two panels a dataset: Δ(N) from scratch with its interval, and beside it every start and every family."""
    bases = [key for key in keys if key.rpartition("shortfall/")[2] == "scratch"]
    panels = []
    for base in bases:
        about = base.removesuffix("shortfall/scratch").rstrip("/")
        ends = [key for key in keys if key in (f"{base} low", f"{base} high")]
        tail = f", {about}" if about else ""
        panels += _over_size(f"CNN family minus plain ViT{tail}", [base, *ends])
        others = _without_ends([key for key in keys if key.startswith(base.removesuffix("scratch"))], "shortfall/")
        panels += _over_size(f"by family and regime{tail}", others) if len(others) > 1 else []
    return panels


def _accuracy(keys: Sequence[str]) -> list[Panel]:
    named = _without_ends(keys, "accuracy/")
    by_family: Panel = {
        "type": "scatter", "title": "test accuracy of every run", "x": "config:size", "y": "summary:top1",
        "log_x": True, "legend": "${config:backbone} ${config:regime}",
    }  # fmt: skip
    return [*_over_size("test accuracy", named), by_family]


def _without_ends(keys: Iterable[str], kind: str) -> list[str]:
    ends = (" low", " high", " any", " n")
    return [key for key in keys if kind in key and not key.endswith(ends)]


def _over_size(title: str, keys: Sequence[str]) -> list[Panel]:
    if not keys:
        return []
    return [{"type": "line", "title": title, "x": "size", "y": list(keys), "log_x": True}]


def _curves(*, watched: bool) -> list[Panel]:
    holdout: Panel = {
        "type": "line", "title": "accuracy on the hold-out", "x": "Step", "y": ["holdout/top1"],
        "group": "config:backbone",
    }  # fmt: skip
    return [
        *([holdout] if watched else []),
        {"type": "line", "title": "training loss", "x": "Step", "y": ["train/loss"], "group": "config:backbone"},
        {"type": "line", "title": "learning rate", "x": "Step", "y": ["lr"], "group": "config:backbone"},
    ]


def _budgets() -> list[Panel]:
    return [
        {"type": "bar", "title": "images seen", "metrics": ["summary:samples_seen"], "group": "config:backbone"},
        {"type": "bar", "title": "seconds a run", "metrics": ["summary:seconds"], "group": "config:backbone"},
        {"type": "scatter", "title": "parameters and accuracy", "x": "config:parameters", "y": "summary:top1"},
    ]


def _failures() -> list[Panel]:
    return [
        {
            "type": "bar",
            "title": "collapsed, share of runs",
            "metrics": ["summary:collapsed"],
            "group": "config:backbone",
        },
        {"type": "bar", "title": "attempts", "metrics": ["summary:attempts"], "group": "config:backbone"},
        {"type": "scatter", "title": "loss still falling?", "x": "summary:train_top1", "y": "summary:loss_slope"},
    ]


def references(spec: Spec) -> set[str]:
    """Every key that the panels name: `config:…`, `summary:…`, and history keys as they are."""
    found: set[str] = set()
    for section in spec["workspace"]["sections"]:
        for panel in section["panels"]:
            for name in ("x", "y", "metrics", "media", "group"):
                value = panel.get(name, [])
                found |= set(value if isinstance(value, list) else [value])
    return found - {"Step"}


# --- with wandb-workspaces --------------------------------------------------------------------------------------------


def build(spec: Spec, entity: str) -> tuple[Any, Any]:
    """(Workspace, Report) as wandb-workspaces has them, not yet saved. Raises UserError where it is not installed."""
    try:
        wr: Any = importlib.import_module("wandb_workspaces.reports.v2")
        ws: Any = importlib.import_module("wandb_workspaces.workspaces")
    except ImportError as error:
        raise UserError("wandb-workspaces is not installed", "it defines dashboards in code", REMEDY) from error
    project, work, told = spec["project"], spec["workspace"], spec["report"]
    sections = [
        ws.Section(name=part["name"], panels=[_panel(wr, p) for p in part["panels"]], is_open=True)
        for part in work["sections"]
    ]
    workspace = ws.Workspace(entity=entity, project=project, name=work["name"], sections=sections)
    blocks: list[Any] = [wr.P(text) for text in told["paragraphs"]]
    for part in told["sections"]:
        runs = wr.Runset(entity=entity, project=project, name="runs")
        blocks += [wr.H2(part["name"]), wr.PanelGrid(runsets=[runs], panels=[_panel(wr, p) for p in part["panels"]])]
    return workspace, wr.Report(project=project, entity=entity, title=told["title"], blocks=blocks)


def save(spec: Spec, entity: str) -> list[str]:
    """Save both to the entity and return their addresses."""
    workspace, report = build(spec, entity)
    workspace.save()
    report.save()
    return [str(workspace.url), str(report.url)]


def _panel(wr: Any, panel: Mapping[str, Any]) -> Any:
    """One panel of the specification as wandb-workspaces has it."""

    def key(name: str) -> Any:
        kind, colon, rest = name.partition(":")
        if not colon:
            return name if name == "Step" else wr.Metric(name)
        return wr.Config(rest) if kind == "config" else wr.SummaryMetric(rest)

    kind, title = panel["type"], panel["title"]
    group = key(panel["group"]) if "group" in panel else None
    if kind == "line":
        lines = [key(name) for name in panel["y"]]
        return wr.LinePlot(title=title, x=key(panel["x"]), y=lines, log_x=panel.get("log_x"), groupby=group)
    if kind == "scatter":
        return wr.ScatterPlot(
            title=title,
            x=key(panel["x"]),
            y=key(panel["y"]),
            log_x=panel.get("log_x"),
            legend_template=panel.get("legend"),
        )
    if kind == "bar":
        return wr.BarPlot(title=title, metrics=[key(name) for name in panel["metrics"]], groupby=group)
    return wr.MediaBrowser(title=title, media_keys=list(panel["media"]))

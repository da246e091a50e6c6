"""Define a W&B workspace and a W&B Report as plain data, and save them with wandb-workspaces.

`specify` returns what is in them, which a golden test holds and `--dry-run` prints. `save` builds and uploads it. Every
key that a panel names is one that `bias_lab.tracking.export` logs, which a test compares.
"""

import importlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bias_lab.catalogue import TASKS, in_words_of
from bias_lab.definition import DEFAULTS
from bias_lab.errors import UserError
from bias_lab.tracking.mapping import PROJECT, Study

Panel = dict[str, Any]
Spec = dict[str, Any]
WORDS = {"settled": "settled", "equal": "at equal images"}  # comparison → its words
COMPARISONS = tuple(WORDS)
REMEDY = "pip install 'bias_lab[dashboards]'"


def specify(study: Study, *, project: str = PROJECT) -> Spec:
    """Return the dashboard of a study as plain data.

    `workspace`: name, sections of panels. `report`: title, paragraphs, the same panels. A panel: `type` (`line`,
    `scatter`, `bar`, `media`), `title`, and the keys that it shows.
    """
    panels_of = _sections(study.logged_keys(), study.pictures, is_monitored=study.is_monitored)
    sections = [{"name": title, "panels": panels} for title, panels in panels_of if panels]
    sections = _in_metric_of(study.task, sections)
    return {
        "project": project,
        "workspace": {"name": f"{study.name}: CNN against ViT", "sections": sections},
        "report": {
            "title": f"{study.name}: {study.question}",
            "paragraphs": [
                *study.answers,
                "Each W&B run is one training, and the runs of an experiment share a group. The run of type `report` "
                "holds the statistics with 95 % intervals (Student's t over replicates).",
            ],
            "sections": sections,
        },
    }


def _in_metric_of(task: str, part: Any) -> Any:
    """Return sections or a part of them for a task: keys of top-1 accuracy are those of the task's own metric."""
    row, usual = TASKS[task], TASKS[DEFAULTS["task"]]
    if row.metric == usual.metric:
        return part
    if isinstance(part, dict):
        return {name: _in_metric_of(task, value) for name, value in part.items()}
    if isinstance(part, list):
        return [_in_metric_of(task, value) for value in part]
    return in_words_of(task, part).replace(usual.metric, row.metric) if isinstance(part, str) else part


def _sections(keys: Sequence[str], pictures: Sequence[str], *, is_monitored: bool) -> list[tuple[str, list[Panel]]]:
    media: Panel = {
        "type": "media", "title": "pictures of the runs", "media": [f"pictures/{name}" for name in pictures],
    }  # fmt: skip
    return [
        ("Shortfall", _shortfall(keys)),
        ("Settled and at equal images", _comparisons(keys)),
        ("Heads and encoders", _over_size("encoder effect and head effect", _without_ends(keys, "effect/"))),
        ("Images seen", _images_seen()),
        ("Accuracy by family and regime", _accuracy(keys)),
        ("Recovery", _over_size("share of the shortfall recovered", _without_ends(keys, "recovery/"))),
        ("Curves", _curves(is_monitored=is_monitored)),
        ("Budgets", _budgets()),
        ("Failures", _failures()),
        ("Pictures", [media] if pictures else []),
    ]


def _shortfall(keys: Sequence[str]) -> list[Panel]:
    """Return two panels a dataset: the shortfall from scratch with its interval, and all starts and backbones."""
    bases = [key for key in keys if key.rpartition("shortfall/")[2] == DEFAULTS["regime"]]
    panels = []
    for base in bases:
        about = base.removesuffix("shortfall/scratch").rstrip("/")
        ends = [key for key in keys if key in (f"{base} low", f"{base} high")]
        tail = f", {about}" if about else ""
        panels += _over_size(f"CNN family minus plain ViT{tail}", [base, *ends])
        others = [key for key in keys if key.startswith(base.removesuffix("scratch")) and not key.endswith(COMPARISONS)]
        others = _without_ends(others, "shortfall/")
        panels += _over_size(f"by family and regime{tail}", others) if len(others) > 1 else []
    return panels


def _comparisons(keys: Sequence[str]) -> list[Panel]:
    """Return the shortfall settled and at equal images, and for each its training and generalisation parts."""
    whole = [key for key in keys if "shortfall/" in key and key.endswith(COMPARISONS)]
    panels = _over_size("shortfall, settled and at equal images", whole)
    for comparison in COMPARISONS:
        made_of = [key for key in _without_ends(keys, "parts/") if key.endswith(comparison)]
        made_of += [key for key in whole if key.endswith(comparison)] if made_of else []
        panels += _over_size(f"training part, generalisation part and shortfall, {WORDS[comparison]}", made_of)
    return panels


def _images_seen() -> list[Panel]:
    """Return accuracy against images seen, and against accuracy on the training images, a point for each run."""
    legend = "${config:backbone} N=${config:size} ${config:comparison}"
    return [
        {"type": "scatter", "title": "test accuracy against images seen", "x": "summary:samples_seen",
         "y": "summary:top1", "log_x": True, "legend": legend},
        {"type": "scatter", "title": "test accuracy against training accuracy", "x": "summary:train_top1",
         "y": "summary:top1", "legend": legend},
        {"type": "bar", "title": "test accuracy by comparison", "metrics": ["summary:top1"],
         "group": "config:comparison"},
    ]  # fmt: skip


def _accuracy(keys: Sequence[str]) -> list[Panel]:
    named = [key for kind in {task.key: None for task in TASKS.values()} for key in _without_ends(keys, f"{kind}/")]
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


def _curves(*, is_monitored: bool) -> list[Panel]:
    holdout: Panel = {
        "type": "line", "title": "accuracy on the hold-out", "x": "Step", "y": ["holdout/top1"],
        "group": "config:backbone",
    }  # fmt: skip
    return [
        *([holdout] if is_monitored else []),
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
    """Return every key that the panels name: `config:…`, `summary:…`, and history keys as they are."""
    keys: set[str] = set()
    for section in spec["workspace"]["sections"]:
        for panel in section["panels"]:
            for name in ("x", "y", "metrics", "media", "group"):
                value = panel.get(name, [])
                keys |= set(value if isinstance(value, list) else [value])
    return keys - {"Step"}


# --- with wandb-workspaces --------------------------------------------------------------------------------------------


def build(spec: Spec, entity: str) -> tuple[Any, Any]:
    """Return (Workspace, Report) of wandb-workspaces, not yet saved. Raise UserError where it is not installed."""
    try:
        wr: Any = importlib.import_module("wandb_workspaces.reports.v2")
        ws: Any = importlib.import_module("wandb_workspaces.workspaces")
    except ImportError as error:
        raise UserError("wandb-workspaces is not installed", "dashboards need it", REMEDY) from error
    project, work, text = spec["project"], spec["workspace"], spec["report"]
    sections = [
        ws.Section(name=part["name"], panels=[_panel(wr, p) for p in part["panels"]], is_open=True)
        for part in work["sections"]
    ]
    workspace = ws.Workspace(entity=entity, project=project, name=work["name"], sections=sections)
    blocks: list[Any] = [wr.P(paragraph) for paragraph in text["paragraphs"]]
    for part in text["sections"]:
        runs = wr.Runset(entity=entity, project=project, name="runs")
        blocks += [wr.H2(part["name"]), wr.PanelGrid(runsets=[runs], panels=[_panel(wr, p) for p in part["panels"]])]
    return workspace, wr.Report(project=project, entity=entity, title=text["title"], blocks=blocks)


def save(spec: Spec, entity: str) -> list[str]:
    """Save the workspace and the report of the specification, and return their addresses."""
    workspace, report = build(spec, entity)
    workspace.save()
    report.save()
    return [str(workspace.url), str(report.url)]


def _panel(wr: Any, panel: Mapping[str, Any]) -> Any:
    """Return one panel of the specification as wandb-workspaces has it."""

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

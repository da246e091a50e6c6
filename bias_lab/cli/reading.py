"""The commands that read a sweep's folder: `status`, `show`, `report`, `tuned`, `wandb-sync`, `wandb-dashboard`."""

import argparse
import importlib
import json

from bias_lab.errors import UserError, plural

HOLDOUT = "holdout"  # the images on which the task of a tuning run is evaluated


def status(arguments: argparse.Namespace) -> int:
    """Print which runs of a sweep are finished, running, failed and missing."""
    from bias_lab.cli import terminal
    from bias_lab.execution import status as state
    from bias_lab.planning.ladder import is_trial

    current = state.read(arguments.folder)
    terminal.folder(terminal.console(), current)
    return 1 if any(not is_trial(current.runs[name]) for name in current.failures) else 0


def runs(arguments: argparse.Namespace) -> int:
    """List the runs of a folder: id, state, result, label, and where the weights lie."""
    from bias_lab.cli import terminal
    from bias_lab.execution import status as state

    current = state.read(arguments.folder)
    terminal.runs(terminal.console(), current, state.matching(current, " ".join(arguments.words)))
    return 0


def show(arguments: argparse.Namespace) -> int:
    """Print one run: its definition, its result, and how to repeat it."""
    from bias_lab.cli import terminal
    from bias_lab.execution import status as state
    from bias_lab.planning.find_run import find

    terminal.run(terminal.console(), state.describe(*find(" ".join(arguments.name), arguments.out)))
    return 0


def report(arguments: argparse.Namespace) -> int:
    """Write the table and the report of a folder again, or one report of several parts of a study."""
    from bias_lab import ledger, results
    from bias_lab.execution.status import check_folder
    from bias_lab.report import report as page

    folders = [arguments.folder, *arguments.parts]
    for folder in folders:
        check_folder(folder)
    if arguments.parts and arguments.out is None:
        raise UserError("several folders have no report of their own", remedy="say where it goes: --out FILE")
    for folder in folders:
        runs, table, plan = (folder / name for name in ("runs", ledger.TABLE, ledger.EXPERIMENT))
        if not (runs.is_dir() or table.is_file() or plan.is_file()):
            raise UserError(f"{folder} holds neither runs nor a table", remedy="give the --out of a sweep")
        if runs.is_dir() or not table.is_file():
            results.write(folder)
    print(page.write(*folders, format=arguments.format, out=arguments.out))
    return 0


def tuned(arguments: argparse.Namespace) -> int:
    """Choose learning rates and budgets from the finished tuning runs of a folder and write tuned.json."""
    from bias_lab import catalogue, ledger, tuning
    from bias_lab.execution import status as state
    from bias_lab.execution import tune
    from bias_lab.planning import learning_rates

    current = state.read(arguments.folder)
    found = {name: run for name, run in current.runs.items() if catalogue.TASKS[run.task].evaluated_on == HOLDOUT}
    trials = list(found.values())
    if not trials:
        raise UserError(f"{arguments.folder} holds no tuning runs", remedy="make them with: bias-lab sweep tuning")
    for run in tune.waiting({run: current.states[name] for name, run in found.items()}).values():
        print(f"left out, as learning rates are still to be tried: {tuning.words(run)} at N = {run.size}")
    rows = tune.chosen(trials, arguments.folder)
    if not rows:
        raise UserError(
            f"no search in {arguments.folder} has tried all its learning rates",
            remedy="go on with its sweep, by the same command",
        )
    path = arguments.out or arguments.folder / ledger.TUNED
    learning_rates.write(path, rows, current.head.get("command", ""))
    searched = sum("samples_seen" in row for row in rows)
    budgets = f", {searched} of them with a budget, of which {sum(bool(row.get('settled')) for row in rows)} settled"
    print(f"{plural(len(rows), 'learning rate')} in {path}{budgets if searched else ''}")
    return 0


def wandb_sync(arguments: argparse.Namespace) -> int:
    """Export the runs of a folder to W&B: written to FOLDER/wandb, or uploaded if that is asked for."""
    from bias_lab.execution.status import check_folder
    from bias_lab.report import wandb_summary
    from bias_lab.tracking import export, mapping

    folder, project, entity = arguments.folder, arguments.project, arguments.entity
    check_folder(folder)
    mode = mapping.mode(arguments.wandb)
    if mode == "disabled":
        raise UserError("W&B is disabled by WANDB_DISABLED or WANDB_MODE", remedy="unset that variable")
    online = mode == "online"
    which = dict(project=project, entity=entity, online=online, artifacts=arguments.artifacts)
    written = export.sync(folder, wandb_summary.study_of, **which)
    offline = (
        f"written to {folder}/wandb; to upload them, add --wandb online, or: wandb sync {folder}/wandb/offline-run-*"
    )
    where = f"uploaded to {project}" if online else offline
    print(f"{plural(len(written), 'run')} {where}" if written else "nothing new: all runs were exported before")
    return 0


def wandb_dashboard(arguments: argparse.Namespace) -> int:
    """Save a W&B workspace and a report for the experiment of a folder. With --dry-run, print them."""
    from bias_lab.report import wandb_summary
    from bias_lab.tracking import dashboard, mapping

    spec = dashboard.specify(wandb_summary.study_of_folder(arguments.folder), project=arguments.project)
    if arguments.dry_run:
        print(json.dumps(spec, indent=1, ensure_ascii=False))
        return 0
    mode = mapping.mode(arguments.wandb)
    if mode == "disabled":
        raise UserError("W&B is disabled by WANDB_DISABLED or WANDB_MODE", remedy="unset it, or add --dry-run")
    if mode == "offline":
        raise UserError(
            "a dashboard is saved on W&B's server, and W&B is offline", remedy="add --wandb online, or --dry-run"
        )
    if not mapping.is_logged_in():
        raise UserError("you are not logged in to W&B", remedy="run wandb login, or add --dry-run")
    entity = arguments.entity or str(importlib.import_module("wandb").Api().default_entity)
    for address in dashboard.save(spec, entity):
        print(address)
    return 0

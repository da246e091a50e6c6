"""Record a run in W&B while it trains: its logger, its config, and its summary at the end."""

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger

from bias_lab import ledger, results, rows, schema
from bias_lab.definition import Run, Settings, run_id
from bias_lab.tracking import mapping


@contextlib.contextmanager
def tracked(run: Run, folder: Path, settings: Settings) -> Iterator[WandbLogger | None]:
    """Yield the run's W&B logger, None where W&B is off. It ends with the run, as failed after an error.

    The logger is closed in any case, since Lightning would write a warm worker's next run into an open one. Where W&B
    can't begin or end, that is logged and the run continues. An error of the run itself is raised unchanged.
    """
    logger = opened = None
    with copied("is off for this run"):
        logger = wandb_logger(run, folder, settings)
        opened = None if logger is None else logger.experiment  # also for a run that takes no steps and logs nothing
    try:
        yield logger if opened is not None else None
    except BaseException as error:
        if opened is not None:
            with copied("has no reason for the failure"):
                opened.summary.update({"status": "failed", "reason": f"{type(error).__name__}: {error}"})
            with copied("could not end the run"):
                opened.finish(exit_code=1)
        raise
    if opened is not None:
        with copied("could not end the run"):
            opened.finish()


@contextlib.contextmanager
def copied(what: str) -> Iterator[None]:
    """Log an error of W&B in place of failing the run, since `bias-lab wandb-sync` can make the copy again."""
    try:
        yield
    except Exception:
        logging.getLogger(__name__).exception("W&B %s. bias-lab wandb-sync can export it later", what)


def conclude(logger: WandbLogger | None, result: Mapping[str, Any], here: Path) -> None:
    """Write a finished run's summary, and the facts that its config lacked, into its W&B run.

    result: as it stands in `result.json`. Keys are those of an export from the ledger. An error is logged.
    """
    if logger is None:
        return
    with copied("has no summary of the run"):
        run = logger.experiment
        row = rows.finished_row({"run_id": run.id, **result}, experiment=str(run.config.get("experiment", "")))
        row |= {name: run.config.get(name) for name in results.EVIDENCE}
        row |= rows.of_predictions(here / ledger.PREDICTIONS)
        run.config.update(mapping.config_of(row), allow_val_change=True)
        shown = mapping.media(here, result)
        if shown:
            run.log(shown)
        run.summary.update(mapping.summary(row))


class RunLogger(WandbLogger):
    """A W&B logger whose config is the run's, as an export from the ledger has it."""

    def log_hyperparams(self, params: Any) -> None:
        """Do nothing, since the config names every field of the run."""


def wandb_logger(run: Run, folder: Path, settings: Settings) -> WandbLogger | None:
    """Return the run's W&B logger, which never asks and never waits long. Return None where W&B is off.

    The group is the experiment, the id the run_id, the config that of `mapping.config_of`.
    """
    mode = mapping.mode(settings.wandb_mode) if settings.wandb else "disabled"
    if mode == "disabled":
        return None
    import wandb  # takes seconds, which a run without W&B saves

    return RunLogger(
        id=run_id(run),
        name=schema.label(run),
        project=os.environ.get("WANDB_PROJECT", mapping.PROJECT),
        group=settings.experiment or None,
        job_type=mapping.job_type(run.task, run.protocol),
        save_dir=folder,
        offline=mode != "online",
        mode=mode,  # else WANDB_MODE would come before what was asked for
        config=mapping.config_of(
            rows.row_of(run_id(run), run, experiment=settings.experiment) | results.evidence(folder, run_id(run), run)
        ),
        settings=wandb.Settings(**mapping.QUIET, init_timeout=20, login_timeout=10, save_code=False),
    )

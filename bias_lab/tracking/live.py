"""Record a run in W&B while it trains: its logger, its config, and its summary at the end."""

import base64
import contextlib
import logging
import netrc
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger

from bias_lab import catalogue, ledger
from bias_lab.definition import Run, Settings, run_id


def wandb_mode() -> str:
    """online only when the user is logged in (a key in the environment or in netrc) and has not said otherwise."""
    said = os.environ.get("WANDB_MODE", "")
    if said:
        return said
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    try:
        hosts = netrc.netrc().hosts
    except (FileNotFoundError, netrc.NetrcParseError):
        return "offline"
    return "online" if any("wandb" in host for host in hosts) else "offline"


@contextlib.contextmanager
def tracked(run: Run, folder: Path, settings: Settings) -> Iterator[WandbLogger | None]:
    """The run's W&B logger, None where W&B is off; ended with the run, as failed where something was raised.

    A warm worker's next run must find none open: Lightning would go on writing into it. W&B is a copy: where it can't
    be begun or ended, that is logged, the run goes on, and what the run itself raises keeps its name.
    """
    logger = opened = None
    with copied("is off for this run"):
        logger = wandb_logger(run, folder, settings)
        opened = None if logger is None else logger.experiment  # also for a run that takes no steps and logs nothing
    try:
        yield logger if opened is not None else None
    except BaseException as error:
        if opened is not None:
            with copied("was not told how the run failed"):
                opened.summary.update({"status": "failed", "reason": f"{type(error).__name__}: {error}"})
            with copied("could not end the run"):
                opened.finish(exit_code=1)
        raise
    if opened is not None:
        with copied("could not end the run"):
            opened.finish()


@contextlib.contextmanager
def copied(what: str) -> Iterator[None]:
    """W&B is a copy that `bias-lab wandb-sync` can make again: what goes wrong within is logged, and no run fails."""
    try:
        yield
    except Exception:
        logging.getLogger(__name__).exception("W&B %s; bias-lab wandb-sync can tell it later", what)


def conclude(logger: WandbLogger | None, result: Mapping[str, Any], here: Path) -> None:
    """Write what a finished run came to into its W&B summary: metrics, with what their intervals are made of; pictures.

    result: as it stands in `result.json`. The keys are those of `bias_lab.tracking.export`, which exports the same run
    from the ledger. W&B is a copy: what goes wrong here is logged, and the run stands.
    """
    if logger is None:
        return
    with copied("was not told how the run ended"):
        _conclude(logger.experiment, result, here)


def _conclude(run: Any, result: Mapping[str, Any], here: Path) -> None:
    import wandb

    metrics, facts = result["metrics"], result["facts"]
    known = {name: facts[name] for name in _FACTS if facts.get(name) is not None}
    run.config.update({**known, "device": result["device"], "commit": result["commit"]}, allow_val_change=True)
    shown: dict[str, Any] = {f"pictures/{path.stem}": wandb.Image(str(path)) for path in sorted(here.glob("*.png"))}
    if metrics.get("per_class"):
        pairs: list[Any] = [list(pair) for pair in zip(facts["class_names"], metrics["per_class"], strict=True)]
        shown["per_class"] = wandb.Table(columns=["class", "accuracy"], data=pairs)
    if shown:
        run.log(shown)
    told: dict[str, Any] = {name: value for name, value in metrics.items() if isinstance(value, (int, float))}
    told |= {name: result[name] for name in ("steps", "samples_seen", "seconds", "attempts")}
    if (here / ledger.PREDICTIONS).is_file():
        told["correct"] = _correct(here / ledger.PREDICTIONS)
    run.summary.update({**told, "status": "finished"})


_FACTS = ("parameters", "flops", "image_size", "classes", "test_images", "dataset_fingerprint")


def _correct(path: Path) -> str:
    """Which test images were right, one bit each in index order, as base64: what two runs are compared by."""
    import numpy as np
    import pyarrow.parquet as pq

    read = pq.read_table(path, columns=["index", "label", "predicted"], use_threads=False)
    index, label, predicted = (read.column(name).to_numpy() for name in ("index", "label", "predicted"))
    return base64.b64encode(np.packbits((label == predicted)[np.argsort(index)]).tobytes()).decode()


def wandb_logger(run: Run, folder: Path, settings: Settings) -> WandbLogger | None:
    """The run's W&B logger: group = experiment, id = run_id, config = the run; never a prompt and never a long wait."""
    mode = wandb_mode()
    if not settings.wandb or mode == "disabled":
        return None
    import wandb  # an import of seconds, spared where W&B is off

    named = {"architecture": catalogue.architecture(run.backbone), "family": catalogue.family(run.backbone)}
    return WandbLogger(
        id=run_id(run),
        name=f"{run.backbone} {run.regime} N={run.size} draw {run.draw}",
        project=os.environ.get("WANDB_PROJECT", "bias_lab"),
        group=settings.experiment or None,
        job_type=job_type(run),
        save_dir=folder,
        offline=mode != "online",
        config={**asdict(run), **named, "experiment": settings.experiment},
        settings=wandb.Settings(
            silent=True,
            console="off",
            init_timeout=20,
            login_timeout=10,
            x_disable_stats=True,
            disable_git=True,
            disable_code=True,
            save_code=False,
        ),
    )


def job_type(run: Run) -> str:
    """`pretrain`, `tune`, `finetune`, or `probe` for what leaves the backbone as it is."""
    if run.task != "classify":
        return run.task
    return "finetune" if run.protocol == "finetune" else "probe"

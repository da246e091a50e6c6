"""One run, from its definition to its result: all that a worker calls.

Read top to bottom: `execute` tells the story; its parts stand below in the order in which they are needed.
"""

import importlib
import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers.logger import Logger
from numpy.typing import NDArray
from torch import Tensor, nn

from bias_lab import ledger
from bias_lab.backbones import build, create
from bias_lab.catalogue import REGIMES, is_own
from bias_lab.data import batches, manifests, store, subsets
from bias_lab.definition import Run, Settings, run_id, steps, to_json
from bias_lab.errors import UserError
from bias_lab.training import pretraining, protocols, recording, results
from bias_lab.training import weights as starting
from bias_lab.training.classification import Classifier, judge, logits_of
from bias_lab.training.randomness import StepSeeds, reseed

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)  # banners of every Trainer, a hundred times a sweep


def execute(run: Run, folder: Path, settings: Settings) -> None:
    """Train a run and leave `result.json` in its folder, as the last thing that happens.

    folder: the sweep's. A run that was interrupted goes on from its checkpoint and ends in the same bytes. Raises
    Diverged for a loss that is no number, UserError for a user's mistake; what it raises, the caller records.
    """
    here = ledger.run_folder(folder, run_id(run))
    here.mkdir(parents=True, exist_ok=True)
    ledger.write_json(here / ledger.RUN, to_json(run))
    attempts = ledger.begin_attempt(folder, run_id(run))
    with recording.log_to(here / ledger.LOG):
        began = time.perf_counter()
        torch.set_num_threads(1)  # one thread a worker: the number of threads changes the order of sums
        job = prepare(run, folder, settings)
        rows = fit(job, here, settings)
        metrics = measure(job, here, rows)
        results.save_weights(pretraining.bare(job.module.encoder, run), here / ledger.WEIGHTS)
        ledger.write_json(
            here / ledger.RESULT,
            {
                "run": to_json(run),
                "run_id": run_id(run),
                "metrics": metrics,
                "weights": job.started_from,
                "facts": job.facts,
                "steps": steps(run) if trains(run) else 0,
                "samples_seen": steps(run) * run.batch_size if trains(run) else run.size,
                "seconds": round(time.perf_counter() - began, 3),
                "attempts": attempts,
                "device": results.device_name(job.device),
                "versions": results.versions(),
                "commit": ledger.commit(),
                "command": settings.command,
            },
        )
        tidy(here)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A run made concrete: images chosen, backbone built, module ready. Labelled images are its subset, in order."""

    run: Run
    device: torch.device
    images: store.Images
    selection: subsets.Selection
    source: pretraining.Source | None  # what a pretraining sees; None for all others
    module: Any  # a LightningModule with `encoder` and `diagnostics()`; a classifier has `trained` too
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: int
    started_from: dict[str, Any]
    facts: dict[str, Any]

    def labelled(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        return store.part(self.images.train, self.selection.indices), self.selection.labels

    def judged(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The images that judge the run: test, or for tuning the hold-out, so that tuning never sees test."""
        if self.run.task == "tune":
            return self.holdout()
        return self.images.test, self.images.test_labels

    def holdout(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        if self.images.holdout is not None and self.images.holdout_labels is not None:
            return self.images.holdout, self.images.holdout_labels
        if self.selection.holdout is None:
            raise UserError(
                f"size {self.run.size} reaches into the hold-out of {self.run.dataset}",
                remedy="tune and monitor at a size that leaves the last min(1,000, 20 %) of the pool alone",
            )
        return self.images.train[self.selection.holdout], self.images.train_labels[self.selection.holdout]


def prepare(run: Run, folder: Path, settings: Settings) -> Job:
    """Images, backbone, starting weights and module of a run, on its device."""
    device = choose_device(settings.device)
    images = open_images(run.dataset, run, folder, settings)
    selection = subsets.select(run, images.train_labels, images.fingerprint, ranking=ranking_of(run, folder))
    size, channels = images.train.shape[1], images.train.shape[3]
    source = source_of(run, images, selection, folder, settings)
    classes = len(images.classes if source is None else source.classes)
    reseed(run.seed, "initialisation")
    backbone = create(
        run.backbone,
        image_size=size,
        channels=channels,
        classes=classes,
        patch=run.patch,
        window=run.window,
        stem=run.stem,
        drop_path=run.drop_path,
    )
    started_from, mean, std = start(run, backbone, folder, images)
    backbone = backbone.to(memory_format=torch.channels_last)
    facts = {
        **build.settings(run.backbone, image_size=size, patch=run.patch, window=run.window, stem=run.stem),
        "parameters": build.parameters(backbone),
        "flops": build.flops(backbone, size, channels),
        "image_size": size,
        "classes": len(images.classes),
        "class_names": list(images.classes),
        "test_images": len(images.test_labels),
        "dataset_fingerprint": images.fingerprint,
        "mean": list(mean),
        "std": list(std),
        "subset_hash": results.subset_hash(selection),
        "code": ledger.code_hash(),
        **({} if source is None else source.facts()),
    }
    reseed(run.seed, "module")
    module = module_of(run, backbone, classes)
    return Job(
        run=run,
        device=device,
        images=images,
        selection=selection,
        source=source,
        module=module,
        mean=mean,
        std=std,
        classes=classes,
        started_from=started_from,
        facts=facts,
    )


def open_images(dataset: str, run: Run, folder: Path, settings: Settings) -> store.Images:
    """A dataset's images at the run's size; a user's own lies where FOLDER/places.json says."""
    places = folder / ledger.PLACES
    place = ledger.read_json(places).get(dataset) if places.is_file() else None
    images = store.open_images(dataset, image_size=run.image_size, data_root=settings.data_root, place=place)
    if run.drop_duplicates and place is None:  # a user's own lost theirs when they were indexed
        return store.without_duplicates(images)
    return images


def source_of(
    run: Run, images: store.Images, selection: subsets.Selection, folder: Path, settings: Settings
) -> pretraining.Source | None:
    """What a pretraining looks at, refused if it shows the target's test images; None for a run of another task."""
    if run.task != "pretrain":
        return None
    like = replace(run, image_size=images.train.shape[1])
    source = pretraining.look(run, images, selection.indices, lambda name: open_images(name, like, folder, settings))
    pretraining.refuse(run, source, images, allow_overlap=settings.allow_overlap)
    return source


def ranking_of(run: Run, folder: Path) -> NDArray[np.int64] | None:
    """The order of the run's manifest, which takes the place of a draw's; None without one."""
    if not run.manifest:
        return None
    return manifests.ranking(ledger.read_json(folder / ledger.PLACES)[f"manifest:{run.manifest}"])


def start(
    run: Run, backbone: nn.Module, folder: Path, images: store.Images
) -> tuple[dict[str, Any], tuple[float, ...], tuple[float, ...]]:
    """Load the weights that a run starts from; returns what was loaded, and the mean and std that images take.

    A run that starts from an in-lab pretraining keeps the normalisation that the encoder was pretrained with.
    """
    nothing: dict[str, Any] = {"loaded": [], "skipped": [], "resampled": [], "name": ""}
    if run.task == "pretrain" or run.regime == "scratch":
        return nothing, images.mean, images.std
    if run.pretraining:
        there = ledger.run_folder(folder, run.pretraining)
        if not (there / ledger.RESULT).is_file():
            raise UserError(f"the pretraining {run.pretraining} is not finished", remedy="run the sweep again")
        found = starting.load(backbone, str(there / ledger.WEIGHTS))
        facts = ledger.read_json(there / ledger.RESULT)["facts"]
        mean, std = tuple(facts["mean"]), tuple(facts["std"])
        name = run.pretraining
    elif run.weights:
        places = folder / ledger.PLACES
        place = ledger.read_json(places).get(run.weights) if places.is_file() else None
        found = starting.load(backbone, place["path"] if place else run.weights)
        mean, std = starting.channels(found, images.train.shape[3]) or (images.mean, images.std)
        name = run.weights
    else:
        raise UserError(
            f"a run of regime '{run.regime}' names neither weights nor a pretraining", remedy="--weights NAME"
        )
    listed = {"loaded": list(found.loaded), "skipped": list(found.skipped), "resampled": list(found.resampled)}
    return {**listed, "name": name}, mean, std


def trains(run: Run) -> bool:
    """Whether the run takes optimizer steps: a linear probe and neighbours leave the backbone as it is."""
    return run.task == "pretrain" or run.protocol == "finetune"


def module_of(run: Run, backbone: nn.Module, classes: int) -> LightningModule:
    """The Lightning module that trains the backbone: the classifier, or the regime's pretraining."""
    if not trains(run):
        return protocols.Frozen(backbone, run.protocol, classes=classes)
    if run.task != "pretrain":
        return Classifier.from_run(run, backbone, steps=steps(run))
    where, _, name = REGIMES[run.regime].module.partition(":")
    kind = getattr(importlib.import_module(where), name)
    module: LightningModule = kind.from_run(run, backbone, steps=steps(run))
    return module


class FromStep:
    """Batches that begin where a checkpoint ended.

    Lightning replays a resumed iterable from its start; these are keyed by the global step and were told their first
    one, so there is no state to carry. The two empty methods are how Lightning asks.
    """

    def __init__(self, made: Iterable[Any]) -> None:
        self.made = made

    def __iter__(self) -> Iterator[Any]:
        return iter(self.made)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        return None


def loader_of(job: Job, first_step: int) -> Iterable[Any]:
    """Batches from a step on: labelled ones of the subset, or, for a pretraining, images alone."""
    run = job.run
    chosen, labels = job.labelled() if job.source is None else (job.source.images, job.source.labels)
    return batches.Batches(
        chosen,
        labels,
        run,
        classes=job.classes,
        mean=job.mean,
        std=job.std,
        steps=steps(run),
        first_step=first_step,
        device=job.device,
    )


def fit(job: Job, here: Path, settings: Settings) -> list[dict[str, float]]:
    """Train to the last step, from a checkpoint if an attempt left one; returns the rows of metrics."""
    run, path = job.run, here / ledger.CHECKPOINT
    if not trains(run):
        job.module.learn(plain(job, *job.labelled()))
        return []
    checkpoint = recording.read_checkpoint(path)
    first = 0 if checkpoint is None else int(checkpoint["global_step"])
    if checkpoint is None:
        (here / ledger.METRICS).unlink(missing_ok=True)  # rows of an attempt that is begun anew
    rows = recording.JsonLines(here / ledger.METRICS)
    wandb = recording.wandb_logger(run, here.parent.parent, settings)
    loggers: list[Logger] = [rows] if wandb is None else [rows, wandb]
    trainer = Trainer(
        accelerator="gpu" if job.device.type == "cuda" else "cpu",
        devices=1,
        max_steps=steps(run),
        max_epochs=1,  # one endless epoch: batches are keyed by the global step
        precision="bf16-mixed" if run.precision == "bf16" else "32-true",
        gradient_clip_val=run.clip or None,
        logger=loggers,
        callbacks=[StepSeeds(run.seed), recording.Intervals(steps(run)), *monitors(job), recording.Checkpoints(path)],
        plugins=[recording.CheckedCheckpointIO()],
        log_every_n_steps=1,  # nothing goes through `self.log`; a larger value only makes Lightning warn of short runs
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    resume = None if checkpoint is None else path
    trainer.fit(job.module, train_dataloaders=FromStep(loader_of(job, first)), ckpt_path=resume, weights_only=False)
    job.module.to(job.device)
    if trainer.global_step != steps(run):
        raise RuntimeError(f"stopped at step {trainer.global_step} of {steps(run)}")
    if wandb is not None:
        recording.finish_wandb(wandb)
    return rows.rows()


def monitors(job: Job) -> list[Callback]:
    """The hold-out's accuracy over the run, where the run asks for it and its subset leaves a hold-out.

    A pretraining has its neighbours' vote there at its end, and as often before as it asks for.
    """
    run = job.run
    if run.task == "pretrain":
        every = max(1, steps(run) // max(1, run.monitor))
        return [pretraining.Neighbours(run, job.images, every=every, device=job.device)]
    if not run.monitor or (job.images.holdout is None and job.selection.holdout is None):
        return []
    images, labels = job.holdout()
    return [
        recording.Monitor(lambda module: top1(job, module, images, labels), every=max(1, steps(run) // run.monitor))
    ]


def top1(job: Job, module: Any, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> float:
    logits, labels_ = logits_of(module.trained, plain(job, images, labels))
    return (logits.argmax(1) == labels_).double().mean().item()


def plain(job: Job, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> Iterable[tuple[Tensor, Tensor]]:
    return batches.plain(images, labels, job.run, mean=job.mean, std=job.std, device=job.device)


def measure(job: Job, here: Path, rows: list[dict[str, float]]) -> dict[str, Any]:
    """The metrics of a trained module. Test images are read here, after the last step, and once."""
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    if job.run.task == "pretrain":
        neighbours = [row["holdout/knn"] for row in rows if "holdout/knn" in row]
        return {
            "loss": losses[-1],
            "loss_slope": results.slope(losses),
            "holdout_knn": neighbours[-1] if neighbours else None,
            **pretraining_metrics(job, here),
        }
    module = job.module
    train_logits, train_labels = logits_of(module.trained, plain(job, *job.labelled()))
    train = judge(train_logits, train_labels)
    logits, labels = logits_of(module.trained, plain(job, *job.judged()))
    if job.run.task == "classify":
        results.save_predictions(logits, labels, here / ledger.PREDICTIONS)
    holdout = [row["holdout/top1"] for row in rows if "holdout/top1" in row]
    return {
        **judge(logits, labels),
        "train_top1": train["top1"],
        "train_loss": train["loss"],
        "loss_slope": results.slope(losses),
        "holdout_top1": holdout[-1] if holdout else None,
    }


def pretraining_metrics(job: Job, here: Path) -> dict[str, Any]:
    """What the method says of its encoder, and its pictures, saved beside the result."""
    module = job.module
    module.eval()  # looking must not move batch norm's statistics
    pictures = getattr(module, "pictures", None)
    if pictures is not None:
        from PIL import Image

        few = job.images.train[:8]
        images = next(iter(plain(job, few, np.zeros(len(few), dtype=np.int64))))[0]
        for name, picture in pictures(images).items():
            Image.fromarray(np.asarray(picture)).save(here / f"{name}.png")
    said: dict[str, Any] = module.diagnostics()
    return said


def tidy(here: Path) -> None:
    """Remove what only an unfinished run needs, and the mark of an earlier failure."""
    path = here / ledger.CHECKPOINT
    for file in (path, recording.previous(path), here / ledger.FAILURE):
        file.unlink(missing_ok=True)


def choose_device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device '{name}' is not there", "cpu", "leave --device away to use what there is")
    return torch.device(name)


def preflight(runs: Iterable[Run], folder: Path, settings: Settings) -> list[str]:
    """What only torch or pixels can refuse, before the first run: a backbone that can't be built, images not there.

    So are weights that don't load and a source that shows test images. Builds each (backbone, image size) once, and
    starts each pretraining and each set of weights once. Returns warnings, a line each.
    """
    warnings: list[str] = []
    seen: set[tuple[Any, ...]] = set()
    opened: dict[tuple[str, int | None], store.Images] = {}
    for run in runs:
        where = (run.dataset, run.image_size)
        if where not in opened:
            opened[where] = open_images(run.dataset, run, folder, settings)
        images = opened[where]
        key = (run.backbone, *where, run.patch, run.window, run.stem)
        if key not in seen:
            seen.add(key)
            try_building(run, images)
        few = run.size if run.source == "subset" else 0
        what = (run.task, run.regime, run.source, run.weights, run.mask_ratio, run.batch_size, few)
        start_key = (run.backbone, *where, *what)
        if start_key not in seen and (run.task == "pretrain" or run.weights):
            seen.add(start_key)
            warnings += try_starting(run, images, folder, settings)
    return list(dict.fromkeys(warnings))


def try_starting(run: Run, images: store.Images, folder: Path, settings: Settings) -> list[str]:
    """Open a pretraining's source and take its method's first step on two grey images, or load a run's weights."""
    size, channels = images.train.shape[1], images.train.shape[3]
    shape = dict(image_size=size, channels=channels, patch=run.patch, window=run.window, stem=run.stem)
    if run.task != "pretrain":
        start(run, create(run.backbone, classes=len(images.classes), **shape), folder, images)
        return []
    selection = subsets.select(run, images.train_labels, images.fingerprint, ranking=ranking_of(run, folder))
    source = source_of(run, images, selection, folder, settings)
    classes = 0 if source is None else len(source.classes)
    module: Any = module_of(run, create(run.backbone, classes=classes, **shape), classes)
    grey = torch.zeros(2, channels, size, size)
    with torch.no_grad():
        module.training_step((grey, torch.arange(2)) if classes else grey, 0)
    if source is None or not source.shared_classes:
        return []
    return [f"source {run.source} has class names of {run.dataset} too: {', '.join(source.shared_classes)}"]


def try_building(run: Run, images: store.Images) -> None:
    """Build a run's backbone once, for what only building can refuse. Raises UserError in one line."""
    size, channels = images.train.shape[1], images.train.shape[3]
    mistakes: tuple[type[Exception], ...] = (Exception,) if is_own(run.backbone) else (ValueError,)
    try:
        create(
            run.backbone,
            image_size=size,
            channels=channels,
            classes=len(images.classes),
            patch=run.patch,
            window=run.window,
            stem=run.stem,
            drop_path=run.drop_path,
        )
    except UserError:
        raise
    except mistakes as error:  # of the user's own code anything may come
        raise UserError(
            f"{run.backbone} can't be built for {size}x{size} images: {type(error).__name__}: {error}"
        ) from error

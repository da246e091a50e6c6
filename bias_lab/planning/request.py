"""Turn what was typed into a request, settings, a user's own data and a manifest, for planning. No torch."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bias_lab.catalogue import TASKS
from bias_lab.definition import Run, Settings
from bias_lab.errors import UserError
from bias_lab.planning import experiment_files, own
from bias_lab.planning.checks import DatasetSummary
from bias_lab.planning.plan import Data, Request
from bias_lab.planning.typed_values import parse_field
from bias_lab.tracking import mapping

SIDE = 64  # pixels of the user's own images, unless --image-size is typed


def settings(typed: Namespace, experiment: str) -> Settings:
    """Return the settings of a command line. experiment: the group of its runs in W&B and in the table.

    Raises UserError for a value of W&B's environment variables that is not understood.
    """
    return Settings(
        device=typed.device,
        workers=typed.workers,
        wandb=mapping.mode(typed.wandb) != "disabled",
        wandb_mode=typed.wandb or "",
        data_root=typed.data_root,
        experiment=experiment,
        command=typed.typed,
        skip_bad_images=typed.skip_bad_images,
        allow_overlap=typed.allow_overlap,
    )


def request(typed: Namespace, folder: Path) -> Request:
    """Return what `bias-lab sweep` asks of an experiment. folder: the sweep's, which keeps the index of own data.

    Raises UserError for own data or a manifest that can't be used.
    """
    weights, place = own.weights(typed.weights) if typed.weights else ("", {})
    asked = Request(
        weights=weights,
        places={weights: place} if place else {},
        sizes=typed.sizes,
        draws=typed.draws,
        seeds=typed.seeds,
        backbones=tuple(dict.fromkeys(typed.backbone)),
        family=typed.family,
        methods=tuple(dict.fromkeys(typed.method)),
        image_size=typed.image_size,
        recipe=typed.recipe,
        fields=dict(parse_field(text) for text in typed.set),
        tune=typed.tune,
        allow_overlap=typed.allow_overlap,
        skip_bad=typed.skip_bad_images,
        data=_data(typed, folder, None),
        start=_start(typed),
    )
    if typed.manifest is None:
        return asked
    return _with_manifest(asked, typed, folder, asked.data.dataset if asked.data else _only_dataset(typed))


def single(typed: Namespace, folder: Path, runs: Sequence[Run], places: Mapping[str, Any]) -> Request:
    """Return what `bias-lab train` asks beside its runs, which have the typed fields already. Raises as `request`."""
    asked = Request(
        data=_data(typed, folder, runs),
        places=places,
        tune=True if typed.settle else typed.tune,
        allow_overlap=typed.allow_overlap,
        skip_bad=typed.skip_bad_images,
        single=True,
        typed=tuple(parse_field(text)[0] for text in typed.set),
        start=_start(typed),
    )
    if typed.manifest is None:
        return asked
    return _with_manifest(asked, typed, folder, asked.data.dataset if asked.data else runs[-1].dataset)


def own_data(
    path: Path,
    folder: Path,
    *,
    image_size: int | None,
    skip_bad: bool,
    columns: tuple[str, str] = ("", ""),
    dense: bool = False,
) -> Data:
    """Index the user's images, once for each sweep's folder, and return their summary.

    columns: the names of a table's columns of paths and of labels, empty for the usual ones. dense: whether images have
    masks in place of classes. Raises UserError for unreadable images, unusable classes, and content that changed under
    finished runs.
    """
    from bias_lab.data import own_images
    from bias_lab.data.masks import listing, own
    from bias_lab.data.own.rows import Columns

    side = image_size or SIDE
    if dense and any(columns):
        what = "--path-column and --label-column name columns of a table of classes"
        raise UserError(what, remedy="call the columns of a table of masks image and mask")
    if not dense and path.is_file() and listing.holds_pairs(path):
        remedy = "for a class of each pixel: bias-lab sweep segmentation, or bias-lab train --task segment"
        raise UserError(f"{path} lists images and masks, and no classes", remedy=remedy)
    if dense:
        index = own.index(path, folder=folder, image_size=side, skip_bad=skip_bad)
    else:
        index = own_images.index(path, folder=folder, image_size=side, skip_bad=skip_bad, columns=Columns(*columns))
    return Data(
        dataset=index.identity,
        summary=DatasetSummary(
            name=str(path),
            counts=index.class_counts,
            side=side,
            own_holdout=index.own_holdout,
            names=() if dense else index.classes,
            has_masks=dense,
        ),
        place=index.place,
        image_size=side,
        notes=tuple(index.warnings),
    )


def _start(typed: Namespace) -> dict[str, Any]:
    """Return the typed fields about weights."""
    named = {"allow_partial_weights": typed.allow_partial_weights, "pixel_mean": typed.mean, "pixel_std": typed.std}
    return {name: value for name, value in named.items() if value}


def _data(typed: Namespace, folder: Path, runs: Sequence[Run] | None) -> Data | None:
    """Return the typed data. runs: those that will read them, None for those of the typed experiment."""
    if typed.data is None:
        if typed.path_column or typed.label_column:
            raise UserError("--path-column and --label-column are given without a table", remedy="add --data FILE.csv")
        return None
    columns = (typed.path_column, typed.label_column)
    runs = experiment_files.read(typed.experiment, typed.profile).runs if runs is None else runs
    dense = any(TASKS[run.task].dense for run in runs)
    how: dict[str, Any] = dict(image_size=typed.image_size, skip_bad=typed.skip_bad_images)
    return own_data(typed.data, folder, columns=columns, dense=dense, **how)


def _with_manifest(asked: Request, typed: Namespace, folder: Path, dataset: str) -> Request:
    """Return the request with the typed manifest. Raises UserError if its images or labels are not the pool's."""
    from bias_lab.data.readers import manifests

    place = dict(asked.data.place) if asked.data else None
    pool = manifests.pool(dataset, place=place, data_root=typed.data_root)
    manifest = manifests.use(typed.manifest, pool, folder=folder)
    places = {**asked.places, f"manifest:{manifest.digest}": manifest.place}
    return replace(asked, manifest=manifest.digest, manifest_length=manifest.length, places=places)


def _only_dataset(typed: Namespace) -> str:
    """Return the one dataset of the experiment's profile. Raises UserError if it has several."""
    runs = experiment_files.read(typed.experiment, typed.profile).runs
    names = sorted({run.dataset for run in runs})
    if len(names) > 1:
        raise UserError(f"a manifest belongs to one dataset, but {typed.experiment} runs on {', '.join(names)}")
    return names[0]

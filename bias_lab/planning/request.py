"""What was typed, as planning takes it: the request, the settings, a user's own images, a manifest. No torch."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bias_lab.definition import Run, Settings, parse_field, read_experiment
from bias_lab.errors import UserError
from bias_lab.planning.checks import Facts
from bias_lab.planning.plan import Data, Request

SIDE = 64  # pixels, of the user's own images unless they say otherwise


def settings(typed: Namespace, experiment: str) -> Settings:
    return Settings(
        device=typed.device,
        workers=typed.workers,
        wandb=not typed.no_wandb,
        data_root=typed.data_root,
        experiment=experiment,
        command=typed.typed,
        skip_bad_images=typed.skip_bad_images,
        allow_overlap=typed.allow_overlap,
    )


def request(typed: Namespace, folder: Path) -> Request:
    """What `bias-lab sweep` asks of an experiment. folder: the sweep's, which keeps what is found on the way."""
    made = Request(
        sizes=typed.sizes,
        draws=typed.draws,
        seeds=typed.seeds,
        backbones=tuple(dict.fromkeys(typed.backbone)),
        family=typed.family,
        image_size=typed.image_size,
        recipe=typed.recipe,
        fields=dict(parse_field(text) for text in typed.set),
        tune=typed.tune,
        allow_overlap=typed.allow_overlap,
        data=_data(typed, folder),
    )
    if typed.manifest is None:
        return made
    return _with_manifest(made, typed, folder, made.data.dataset if made.data else _only_dataset(typed))


def single(typed: Namespace, folder: Path, runs: Sequence[Run], places: Mapping[str, Any]) -> Request:
    """What `bias-lab train` asks: its flags are in the run's definition already."""
    data = _data(typed, folder)
    by_hand = tuple(parse_field(text)[0] for text in typed.set)
    made = Request(data=data, places=places, tune=typed.tune, allow_overlap=typed.allow_overlap, typed=by_hand)
    if typed.manifest is None:
        return made
    return _with_manifest(made, typed, folder, data.dataset if data else runs[-1].dataset)


def own_data(path: Path, folder: Path, *, image_size: int | None, skip_bad: bool) -> Data:
    """Look at the user's images once; what was found is kept in the sweep's folder.

    Raises UserError for images that can't be read, for classes that can't be used, and for a folder whose content
    changed under finished runs.
    """
    from bias_lab.data import own_images

    side = image_size or SIDE
    found = own_images.index(path, folder=folder, image_size=side, skip_bad=skip_bad)
    return Data(
        dataset=found.identity,
        facts=Facts(name=str(path), counts=found.class_counts, side=side, own_holdout=found.own_holdout),
        place=found.place,
        image_size=side,
        notes=tuple(found.warnings),
    )


def _data(typed: Namespace, folder: Path) -> Data | None:
    if typed.data is None:
        return None
    return own_data(typed.data, folder, image_size=typed.image_size, skip_bad=typed.skip_bad_images)


def _with_manifest(made: Request, typed: Namespace, folder: Path, dataset: str) -> Request:
    """The request with a manifest that was held against the images.

    Raises UserError if it names images that are not in the pool, or with other labels.
    """
    from bias_lab.data.readers import manifests

    place = dict(made.data.place) if made.data else None
    pool = manifests.pool(dataset, place=place, data_root=typed.data_root)
    used = manifests.use(typed.manifest, pool, folder=folder)
    places = {**made.places, f"manifest:{used.digest}": used.place}
    return replace(made, manifest=used.digest, manifest_length=used.length, places=places)


def _only_dataset(typed: Namespace) -> str:
    """The one dataset of an experiment's profile, which a manifest must be of. Raises UserError if there are more."""
    names = sorted({run.dataset for run in read_experiment(typed.experiment, typed.profile).runs})
    if len(names) > 1:
        raise UserError(f"a manifest is of one dataset, and {typed.experiment} runs on {', '.join(names)}")
    return names[0]

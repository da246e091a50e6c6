"""Start a run from weights: load them into its backbone, and choose the normalisation that its images get.

There is one rule for the normalisation, whatever the format of the file and the channels of the images: what the user
gives with --mean and --std, else the published statistics of the timm model that the file's header or, without one, the
backbone's name states. Elsewhere the statistics of the dataset are assumed, and a warning says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from bias_lab import ledger
from bias_lab.catalogue import REGIMES, TASKS
from bias_lab.data.store import Images
from bias_lab.definition import Run, levels
from bias_lab.errors import NOTE, UserError
from bias_lab.training.weights import files
from bias_lab.training.weights.load import Loaded, load

Channels = tuple[float, ...]  # a value for each channel, in [0, 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalisation:
    """The mean and std per channel in [0, 1] that images get, their origin in words, and a warning if it is a guess."""

    mean: Channels
    std: Channels
    origin: str = ""
    warning: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a run starts from. record: for its result. facts: words for its table. lines: for the user."""

    record: dict[str, Any]
    normalisation: Normalisation
    facts: dict[str, Any] = field(default_factory=dict)
    lines: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        """The number of channels that the backbone gets."""
        return len(self.normalisation.mean)


def load_start(run: Run, backbone: nn.Module, folder: Path, images: Images, *, channels: int) -> Start:
    """Load the weights that a run starts from, and return what was loaded and how images are normalised.

    A run that starts from a pretraining of the lab keeps the normalisation of that pretraining. channels: those that
    the backbone takes. If the result has others, build the backbone with so many and call this again.
    """
    if TASKS[run.task].pretrains or not REGIMES[run.regime].starts_from:
        nothing = {"loaded": [], "skipped": [], "resampled": [], "name": ""}
        return Start(record=nothing, normalisation=Normalisation(mean=images.mean, std=images.std))
    if run.pretraining:
        there = ledger.run_folder(folder, run.pretraining)
        if not (there / ledger.RESULT).is_file():
            raise UserError(f"the pretraining {run.pretraining} is not finished", remedy="run the sweep again")
        loaded = load(backbone, str(there / ledger.WEIGHTS))
        facts = ledger.read_json(there / ledger.RESULT)["facts"]
        kept = Normalisation(mean=tuple(facts["mean"]), std=tuple(facts["std"]))
        return Start(record=record_of(run.pretraining, loaded), normalisation=kept)
    if not run.weights:
        raise UserError(
            f"a run of regime '{run.regime}' names neither weights nor a pretraining", remedy="--weights NAME"
        )
    places = folder / ledger.PLACES
    place = ledger.read_json(places).get(run.weights) if places.is_file() else None
    loaded = load(backbone, place["path"] if place else run.weights, partial=run.allow_partial_weights)
    normalisation = normalisation_of(run, loaded, images, channels=channels)
    words = f"{loaded.name}: {loaded.words}; images normalised as {normalisation.origin}"
    facts = {"weights_loaded": words, "normalisation": normalisation.origin}
    lines = [f"{NOTE}weights {loaded.name} in {run.backbone}: {loaded.words}"]
    lines.append(f"{NOTE}images are normalised as {normalisation.origin}: {_numbers(normalisation)}")
    if loaded.problem:
        lines[0] = f"{loaded.problem}; this is allowed here ({loaded.words})"
    if normalisation.warning:
        lines[1] = normalisation.warning
    return Start(record=record_of(run.weights, loaded), normalisation=normalisation, facts=facts, lines=tuple(lines))


def record_of(name: str, loaded: Loaded) -> dict[str, Any]:
    """Return what a result says of its start. missing: tensors of the model that kept their initial values."""
    names = {part: list(getattr(loaded, part)) for part in ("loaded", "skipped", "resampled", "missing")}
    return {**names, "name": name, "set": loaded.set}


# --- normalisation ---------------------------------------------------------------------------------------------------


def normalisation_of(run: Run, loaded: Loaded, images: Images, *, channels: int) -> Normalisation:
    """Return the normalisation that belongs to a run's weights, by the rule of this module.

    channels: those that the backbone takes.
    """
    if run.pixel_mean:
        mean, std = fit_channels(levels(run.pixel_mean), levels(run.pixel_std), channels, folded=loaded.folded)
        return Normalisation(mean=mean, std=std, origin="given by --mean and --std")
    stated = loaded.timm_name if loaded.mean else run.backbone.removeprefix("timm:")
    mean, std = (loaded.mean, loaded.std) if loaded.mean else files.published(stated)
    if mean:
        mean, std = fit_channels(mean, std, channels, folded=loaded.folded)
        whose = "stated by the weights" if loaded.mean else "the backbone"
        return Normalisation(mean=mean, std=std, origin=f"timm's {stated} ({whose})")
    assumed = Normalisation(mean=images.mean, std=images.std, origin=f"the training images of {run.dataset} (assumed)")
    warning = (
        f"weights {loaded.name}: the normalisation that they were trained with is not known, so that of the training "
        f"images is assumed ({_numbers(assumed)}); if it was another, give it with --mean R,G,B --std R,G,B"
    )
    return Normalisation(mean=assumed.mean, std=assumed.std, origin=assumed.origin, warning=warning)


def fit_channels(
    mean: Sequence[float], std: Sequence[float], channels: int, *, folded: bool = False
) -> tuple[Channels, Channels]:
    """Return a mean and std for images of so many channels.

    Grey images get three equal channels, each with its own mean and std, if the weights take colour images (`folded`:
    they would be summed over their input channels). A sum would be exact only if the channels' values are equal, as
    padding with zeros stands for another grey in each channel otherwise.

    >>> fit_channels((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), 1, folded=True)
    ((0.5,), (0.25,))
    """
    if len(mean) == channels:
        return tuple(mean), tuple(std)
    if channels == 1 and folded and (len(set(mean)) > 1 or len(set(std)) > 1):
        return tuple(mean), tuple(std)
    return (sum(mean) / len(mean),) * channels, (sum(std) / len(std),) * channels


def _numbers(of: Normalisation) -> str:
    mean, std = (",".join(f"{value:.3g}" for value in values) for values in (of.mean, of.std))
    return f"mean {mean}, standard deviation {std}"
